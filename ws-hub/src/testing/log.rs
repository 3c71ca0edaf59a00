//! The cases of [`log_suite`](super::log_suite), for users that are `u64`, with messages of at most 256 KiB.
//!
//! Each panics where the log does something else.

#![expect(clippy::missing_panics_doc, reason = "that is what all of them are for")]

use ws_core::Message;

pub use super::concurrent_log::{
    a_call_that_is_dropped_is_done_as_a_whole_or_not, a_read_during_appends_sees_no_hole,
    appends_at_the_same_time_to_many_users_leave_no_hole, appends_at_the_same_time_to_one_user_leave_no_hole,
};
pub use super::support::Holder;
use super::support::{
    ALL, acknowledge, append, append_numbers, append_text, assert_chain, cursor, give_back, logged,
    of_another_log, read, texts,
};
use crate::log::{Acknowledge, After, Append, Continuity, Log, Page, Read};
use crate::position::{MessageId, Position};

const ANNA: u64 = 7;
const BERT: u64 = 8;

/// Makes a test of each case for an implementation of [`Log`](crate::Log).
///
/// It takes a closure that makes a new, empty log for users that are `u64`, in something that
/// [holds](crate::testing::log::Holder) it, such as a `Box`. The bounds of the log have to have room for 500 messages of
/// some bytes of one user, and for messages of 256 KiB.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_suite {
    ($make:expr) => {
        $crate::__log_suite! { $make;
            numbers_are_without_holes_and_each_message_knows_the_one_before
            a_batch_for_several_users_is_answered_in_its_order
            an_empty_batch_has_no_answers
            users_do_not_get_the_messages_of_others
            what_is_not_delivered_is_read_after_the_cursor
            what_comes_after_a_number_is_read
            a_page_has_as_many_messages_as_were_asked_for
            a_page_has_no_more_bytes_than_were_asked_for
            the_first_message_of_a_page_may_be_larger_than_the_page
            a_message_comes_back_as_it_was
            a_large_message_comes_back_as_it_was
            a_user_without_messages_has_nothing
            a_position_of_no_log_is_incomplete
            nothing_is_missing_after_the_top
            what_comes_after_a_position_is_complete
            a_position_with_another_id_is_incomplete_and_starts_at_the_cursor
            a_position_after_the_top_is_incomplete_and_starts_at_the_cursor
            what_is_acknowledged_is_not_read_after_the_cursor
            an_acknowledgement_never_moves_the_cursor_back
            an_acknowledgement_after_the_top_counts_as_the_top
            a_batch_of_acknowledgements_moves_the_cursors_of_all
            an_acknowledgement_of_a_user_without_messages_changes_nothing
            the_last_64_acknowledged_messages_are_kept
            what_is_given_back_is_not_delivered
            what_is_given_back_never_moves_the_cursor_forward
            giving_back_for_a_user_without_messages_changes_nothing
            a_message_that_comes_again_is_found_among_the_last_64
            a_message_that_comes_again_is_found_in_its_own_batch
            a_message_that_comes_again_and_is_not_there_is_appended
            a_message_that_comes_again_is_looked_for_in_the_log_of_its_user
            an_id_that_is_not_said_to_come_again_is_appended_again
            a_forgotten_log_goes_on_from_what_is_known
            what_is_known_does_not_change_a_log_that_is_there
            a_log_goes_on_however_great_the_number_is_that_is_known
            what_is_appended_at_once_is_in_the_log
            appends_at_the_same_time_to_one_user_leave_no_hole
            appends_at_the_same_time_to_many_users_leave_no_hole
            a_read_during_appends_sees_no_hole
            a_call_that_is_dropped_is_done_as_a_whole_or_not
        }
    };
    ($make:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let make = $make;
            $crate::testing::log::$case(make()).await;
        }
    )*};
}

/// Numbers are 1, 2, 3, one append after the other.
pub async fn numbers_are_without_holes_and_each_message_knows_the_one_before(log: impl Holder) {
    let mut before = None;
    for number in 1..=20 {
        let id = MessageId::random();
        let logged = append(&*log, Append::new(&ANNA, id, &Message::text("hello"))).await;
        assert_eq!(logged.position, Position::new(number, id));
        assert_eq!(logged.previous, before);
        assert_eq!(logged.evicted, 0);
        before = Some(id);
    }
    let read = read(&*log, ANNA, After::Number(0), ALL).await;
    assert_eq!(read.entries.len(), 20);
    assert_eq!(read.entries[0].previous, None);
    assert_chain(&read);
}

/// The answers are in the order of the batch, and a user may be in it more than once.
pub async fn a_batch_for_several_users_is_answered_in_its_order(log: impl Holder) {
    let users = [ANNA, BERT, ANNA, 9, BERT, ANNA];
    let ids = [1, 2, 3, 4, 5, 6].map(MessageId::new);
    let messages = ids.map(|id| Message::text(id.to_string()));
    let batch: Vec<_> =
        (0..6).map(|index| Append::new(&users[index], ids[index], &messages[index])).collect();
    let answers: Vec<_> =
        log.append(&batch).await.into_iter().map(|answer| logged(answer.expect("the log works"))).collect();

    let positions: Vec<_> = answers.iter().map(|logged| logged.position).collect();
    let numbers = [1, 1, 2, 1, 2, 3];
    let expected: Vec<_> = (0..6).map(|index| Position::new(numbers[index], ids[index])).collect();
    assert_eq!(positions, expected);
    let previous: Vec<_> = answers.iter().map(|logged| logged.previous).collect();
    assert_eq!(previous, [None, None, Some(ids[0]), None, Some(ids[1]), Some(ids[2])]);
    for (user, expected) in [(ANNA, vec![0, 2, 5]), (BERT, vec![1, 4]), (9, vec![3])] {
        let read = read(&*log, user, After::Cursor, ALL).await;
        let messages: Vec<_> = expected.into_iter().map(|index| messages[index].clone()).collect();
        assert_eq!(read.entries.iter().map(|entry| entry.message.clone()).collect::<Vec<_>>(), messages);
    }
}

/// Nothing to do is no failure.
pub async fn an_empty_batch_has_no_answers(log: impl Holder) {
    assert!(log.append(&[]).await.is_empty());
    assert!(log.acknowledge(&[]).await.is_empty());
}

/// Ids that are numbers next to each other, and at the ends of the range.
pub async fn users_do_not_get_the_messages_of_others(log: impl Holder) {
    let users = [0, 1, 2, 255, 256, u64::MAX - 1, u64::MAX];
    for user in users {
        append_text(&*log, user, &user.to_string()).await;
        append_text(&*log, user, "second").await;
    }
    acknowledge(&*log, 1, 2).await;
    for user in users.into_iter().filter(|&user| user != 1) {
        let read = read(&*log, user, After::Cursor, ALL).await;
        assert_eq!(texts(&read), [&*user.to_string(), "second"], "user {user}");
    }
    assert!(read(&*log, 1, After::Cursor, ALL).await.entries.is_empty());
}

/// After an acknowledgement, it is the rest.
pub async fn what_is_not_delivered_is_read_after_the_cursor(log: impl Holder) {
    let logged = append_numbers(&*log, ANNA, 5).await;
    acknowledge(&*log, ANNA, 2).await;
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!((read.after, read.cursor, read.top), (2, 2, Some(logged[4].position)));
    assert_eq!(texts(&read), ["3", "4", "5"]);
    assert_eq!(read.continuity, Continuity::Complete);
    assert_eq!(read.entries[0].previous, Some(logged[1].position.id));
    assert_chain(&read);
}

/// Whatever is delivered.
pub async fn what_comes_after_a_number_is_read(log: impl Holder) {
    append_numbers(&*log, ANNA, 5).await;
    acknowledge(&*log, ANNA, 4).await;
    for (number, expected) in [(0, 5), (3, 2), (5, 0), (6, 0), (u64::MAX, 0)] {
        let read = read(&*log, ANNA, After::Number(number), ALL).await;
        assert_eq!((read.after, read.entries.len(), read.cursor), (number, expected, 4));
        assert_eq!(read.continuity, Continuity::Complete);
        assert_chain(&read);
    }
}

/// One page after the other, all is read.
pub async fn a_page_has_as_many_messages_as_were_asked_for(log: impl Holder) {
    append_numbers(&*log, ANNA, 10).await;
    let mut after = After::Cursor;
    let mut sizes = Vec::new();
    let mut all = Vec::new();
    loop {
        let read = read(&*log, ANNA, after, Page { messages: 4, ..ALL }).await;
        assert_eq!(read.top.map(|top| top.number), Some(10), "the top is that of the log, not of the page");
        assert_chain(&read);
        sizes.push(read.entries.len());
        all.extend(texts(&read).into_iter().map(str::to_owned));
        let Some(last) = read.entries.last() else { break };
        after = After::Position(last.position);
    }
    assert_eq!(sizes, [4, 4, 2, 0]);
    assert_eq!(all, (1..=10).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// The bytes are those of the messages.
pub async fn a_page_has_no_more_bytes_than_were_asked_for(log: impl Holder) {
    for _ in 0..5 {
        append_text(&*log, ANNA, "0123456789").await;
    }
    for (bytes, expected) in [(10, 1), (19, 1), (20, 2), (49, 4), (50, 5)] {
        let read = read(&*log, ANNA, After::Cursor, Page { bytes, ..ALL }).await;
        assert_eq!(read.entries.len(), expected, "{bytes} bytes");
    }
}

/// Otherwise it could never be read.
pub async fn the_first_message_of_a_page_may_be_larger_than_the_page(log: impl Holder) {
    append_text(&*log, ANNA, "0123456789").await;
    append_text(&*log, ANNA, "").await;
    append_text(&*log, ANNA, "0123456789").await;
    for (after, expected) in [(0, 1), (1, 1), (2, 1)] {
        let read = read(&*log, ANNA, After::Number(after), Page { messages: 8, bytes: 5 }).await;
        assert_eq!(read.entries.len(), expected, "after {after}");
    }
}

/// Text or binary, and empty ones.
pub async fn a_message_comes_back_as_it_was(log: impl Holder) {
    let messages = [
        Message::text(""),
        Message::text("grüß dich 🦀\0"),
        Message::binary(Vec::new()),
        Message::binary(vec![0, 0xff, 0x80, b'\n']),
        Message::binary("text".as_bytes().to_vec()),
        Message::text("text"),
    ];
    for message in &messages {
        append(&*log, Append::new(&ANNA, MessageId::random(), message)).await;
    }
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!(read.entries.into_iter().map(|entry| entry.message).collect::<Vec<_>>(), messages);
}

/// Of 256 KiB, between small ones.
pub async fn a_large_message_comes_back_as_it_was(log: impl Holder) {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(256 * 1024).collect();
    let large = Message::binary(bytes);
    append_text(&*log, ANNA, "before").await;
    append(&*log, Append::new(&ANNA, MessageId::random(), &large)).await;
    append_text(&*log, ANNA, "after").await;
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!(
        read.entries.into_iter().map(|entry| entry.message).collect::<Vec<_>>(),
        [Message::text("before"), large, Message::text("after")]
    );
}

/// Which is no failure, and complete.
pub async fn a_user_without_messages_has_nothing(log: impl Holder) {
    append_text(&*log, BERT, "for another").await;
    for after in [After::Cursor, After::Number(0), After::Number(17)] {
        let read = read(&*log, ANNA, after, Page::default()).await;
        assert_eq!(read, Read::nothing(after));
    }
}

/// Row "no log" of the table of recovery.
pub async fn a_position_of_no_log_is_incomplete(log: impl Holder) {
    let after = After::Position(Position::new(17, MessageId::new(1)));
    let read = read(&*log, ANNA, after, Page::default()).await;
    assert_eq!((read.entries.len(), read.continuity), (0, Continuity::Incomplete));
}

/// Row "p = top, same id".
pub async fn nothing_is_missing_after_the_top(log: impl Holder) {
    let top = append_numbers(&*log, ANNA, 3).await[2].position;
    for is_delivered in [false, true] {
        if is_delivered {
            acknowledge(&*log, ANNA, 3).await;
        }
        let read = read(&*log, ANNA, After::Position(top), ALL).await;
        assert_eq!((read.after, read.entries.len()), (3, 0));
        assert_eq!((read.top, read.continuity), (Some(top), Continuity::Complete));
    }
}

/// Row "b ≤ p < t, entry p has that id": also before the cursor, and behind it.
pub async fn what_comes_after_a_position_is_complete(log: impl Holder) {
    let logged = append_numbers(&*log, ANNA, 6).await;
    acknowledge(&*log, ANNA, 3).await;
    for (number, logged) in (1..6).zip(&logged) {
        let read = read(&*log, ANNA, After::Position(logged.position), ALL).await;
        assert_eq!((read.after, read.continuity, read.cursor), (number, Continuity::Complete, 3));
        let expected: Vec<_> = (number + 1..=6).map(|number| number.to_string()).collect();
        assert_eq!(texts(&read), expected);
        assert_eq!(read.entries[0].previous, Some(logged.position.id));
    }
}

/// Row "other id at p": a log that was lost, and grew again.
pub async fn a_position_with_another_id_is_incomplete_and_starts_at_the_cursor(log: impl Holder) {
    let logged = append_numbers(&*log, ANNA, 4).await;
    acknowledge(&*log, ANNA, 2).await;
    for logged in logged {
        let read = read(&*log, ANNA, After::Position(of_another_log(logged.position)), ALL).await;
        assert_eq!((read.after, read.continuity), (2, Continuity::Incomplete));
        assert_eq!(texts(&read), ["3", "4"]);
    }
}

/// Row "p > t".
pub async fn a_position_after_the_top_is_incomplete_and_starts_at_the_cursor(log: impl Holder) {
    let top = append_numbers(&*log, ANNA, 4).await[3].position;
    acknowledge(&*log, ANNA, 2).await;
    for number in [5, 6, u64::MAX] {
        let read = read(&*log, ANNA, After::Position(Position::new(number, top.id)), ALL).await;
        assert_eq!((read.after, read.continuity), (2, Continuity::Incomplete));
        assert_eq!(texts(&read), ["3", "4"]);
    }
}

/// And the numbers go on.
pub async fn what_is_acknowledged_is_not_read_after_the_cursor(log: impl Holder) {
    let first = append_text(&*log, ANNA, "first").await;
    acknowledge(&*log, ANNA, 1).await;
    let nothing = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!((nothing.after, nothing.cursor, nothing.entries.len()), (1, 1, 0));
    assert_eq!((nothing.top, nothing.continuity), (Some(first.position), Continuity::Complete));

    let second = append_text(&*log, ANNA, "second").await;
    assert_eq!((second.position.number, second.previous), (2, Some(first.position.id)));
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["second"]);
}

/// They may come late, and in any order.
pub async fn an_acknowledgement_never_moves_the_cursor_back(log: impl Holder) {
    append_numbers(&*log, ANNA, 5).await;
    for (upto, expected) in [(3, 3), (1, 3), (0, 3), (4, 4), (4, 4), (5, 5), (2, 5)] {
        acknowledge(&*log, ANNA, upto).await;
        assert_eq!(cursor(&*log, ANNA).await, expected);
    }
}

/// What is appended later is not delivered by it.
pub async fn an_acknowledgement_after_the_top_counts_as_the_top(log: impl Holder) {
    append_numbers(&*log, ANNA, 2).await;
    acknowledge(&*log, ANNA, u64::MAX).await;
    assert_eq!(cursor(&*log, ANNA).await, 2);
    append_text(&*log, ANNA, "later").await;
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["later"]);
}

/// Also one user twice.
pub async fn a_batch_of_acknowledgements_moves_the_cursors_of_all(log: impl Holder) {
    for user in [ANNA, BERT, 9] {
        append_numbers(&*log, user, 5).await;
    }
    let batch = [(&ANNA, 4), (&BERT, 2), (&10, 1), (&ANNA, 3)].map(|(user, upto)| Acknowledge { user, upto });
    let answers = log.acknowledge(&batch).await;
    assert!(answers.len() == 4 && answers.iter().all(Result::is_ok));
    for (user, expected) in [(ANNA, 4), (BERT, 2), (9, 0)] {
        assert_eq!(cursor(&*log, user).await, expected, "user {user}");
    }
}

/// Which would be delivered before it comes.
pub async fn an_acknowledgement_of_a_user_without_messages_changes_nothing(log: impl Holder) {
    acknowledge(&*log, ANNA, 5).await;
    append_numbers(&*log, ANNA, 2).await;
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["1", "2"]);
}

/// For clients that resume.
pub async fn the_last_64_acknowledged_messages_are_kept(log: impl Holder) {
    let logged = append_numbers(&*log, ANNA, 200).await;
    for upto in [100, 199, 200] {
        acknowledge(&*log, ANNA, upto).await;
    }
    let known = logged[200 - 64 - 1].position;
    for after in [After::Number(known.number), After::Position(known)] {
        let read = read(&*log, ANNA, after, ALL).await;
        assert_eq!((read.entries.len(), read.continuity), (64, Continuity::Complete), "{after:?}");
        assert_chain(&read);
    }
}

/// As after a connection that ended before it confirmed.
pub async fn what_is_given_back_is_not_delivered(log: impl Holder) {
    append_numbers(&*log, ANNA, 5).await;
    acknowledge(&*log, ANNA, 4).await;
    give_back(&*log, ANNA, 2).await;
    let again = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!((again.after, again.cursor), (2, 2));
    assert_eq!(texts(&again), ["3", "4", "5"]);

    acknowledge(&*log, ANNA, 5).await;
    give_back(&*log, ANNA, 0).await;
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["1", "2", "3", "4", "5"]);
}

/// It is the opposite of an acknowledgement.
pub async fn what_is_given_back_never_moves_the_cursor_forward(log: impl Holder) {
    append_numbers(&*log, ANNA, 5).await;
    acknowledge(&*log, ANNA, 2).await;
    give_back(&*log, ANNA, 4).await;
    give_back(&*log, ANNA, u64::MAX).await;
    assert_eq!(cursor(&*log, ANNA).await, 2);
}

/// Which is no failure.
pub async fn giving_back_for_a_user_without_messages_changes_nothing(log: impl Holder) {
    give_back(&*log, ANNA, 0).await;
    assert_eq!(append_text(&*log, ANNA, "first").await.position.number, 1);
}

/// Delivered or not: the answer is that of the first time.
pub async fn a_message_that_comes_again_is_found_among_the_last_64(log: impl Holder) {
    let logged = append_numbers(&*log, ANNA, 100).await;
    acknowledge(&*log, ANNA, 90).await;
    let other = Message::text("sent again");
    for first in &logged[100 - 64..] {
        let again = append(&*log, Append::new(&ANNA, first.position.id, &other).again(true)).await;
        assert_eq!(again, *first);
    }
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!(texts(&read), (91..=100).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Two tries may come together.
pub async fn a_message_that_comes_again_is_found_in_its_own_batch(log: impl Holder) {
    let message = Message::text("once");
    let id = MessageId::random();
    let append = || Append::new(&ANNA, id, &message).again(true);
    let answers = log.append(&[append(), append()]).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| logged(answer.expect("the log works"))).collect();
    assert_eq!(answers[0].position, Position::new(1, id));
    assert_eq!(answers[1], answers[0]);
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["once"]);
}

/// The first try may have been lost.
pub async fn a_message_that_comes_again_and_is_not_there_is_appended(log: impl Holder) {
    for number in 1..=3 {
        let id = MessageId::random();
        let logged = append(&*log, Append::new(&ANNA, id, &Message::text("new")).again(true)).await;
        assert_eq!(logged.position, Position::new(number, id));
    }
}

/// The same id may be in another one.
pub async fn a_message_that_comes_again_is_looked_for_in_the_log_of_its_user(log: impl Holder) {
    let first = append_text(&*log, ANNA, "hello").await;
    let message = Message::text("hello");
    let other = append(&*log, Append::new(&BERT, first.position.id, &message).again(true)).await;
    assert_eq!((other.position, other.previous), (first.position, None));
    assert_eq!(texts(&read(&*log, BERT, After::Cursor, ALL).await), ["hello"]);
}

/// Looking for it is asked for.
pub async fn an_id_that_is_not_said_to_come_again_is_appended_again(log: impl Holder) {
    let message = Message::text("twice");
    let id = MessageId::new(5);
    append(&*log, Append::new(&ANNA, id, &message)).await;
    let second = append(&*log, Append::new(&ANNA, id, &message)).await;
    assert_eq!((second.position, second.previous), (Position::new(2, id), Some(id)));
}

/// A position that is known may be one that no log reaches.
pub async fn a_log_goes_on_however_great_the_number_is_that_is_known(log: impl Holder) {
    let numbers = [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1, u64::MAX / 2, u64::MAX / 2 - 1];
    for (user, number) in (100..).zip(numbers) {
        let known = Position::new(number, MessageId::random());
        let mut last = None;
        for text in ["first", "second"] {
            let message = Message::text(text);
            let append_one = Append::new(&user, MessageId::random(), &message).known(Some(known));
            let position = append(&*log, append_one).await.position;
            assert!(last.is_none_or(|last| last + 1 == position.number), "{last:?}, {position:?}");
            last = Some(position.number);
        }
        assert_eq!(texts(&read(&*log, user, After::Cursor, ALL).await), ["first", "second"]);
        assert_eq!(read(&*log, user, After::Position(known), ALL).await.entries.len(), 2);
        acknowledge(&*log, user, u64::MAX).await;
        assert!(read(&*log, user, After::Cursor, ALL).await.entries.is_empty());
        log.give_back(&user, u64::MAX).await.expect("the log works");
        assert!(read(&*log, user, After::Cursor, ALL).await.entries.is_empty());
        append_text(&*log, user, "third").await;
        assert_eq!(texts(&read(&*log, user, After::Cursor, ALL).await), ["third"]);
    }
}

/// Numbers never come twice on a connection, and what it knows is a position of the log.
pub async fn a_forgotten_log_goes_on_from_what_is_known(log: impl Holder) {
    let known = Position::new(41, MessageId::random());
    let message = Message::text("after it");
    let append_one = Append::new(&ANNA, MessageId::random(), &message).known(Some(known));
    let logged = append(&*log, append_one).await;
    assert_eq!((logged.position.number, logged.previous), (42, Some(known.id)));
    for after in [After::Cursor, After::Position(known)] {
        let read = read(&*log, ANNA, after, ALL).await;
        assert_eq!((read.after, read.cursor, read.continuity), (41, 41, Continuity::Complete));
        assert_eq!(texts(&read), ["after it"]);
    }
    let read = read(&*log, ANNA, After::Number(17), ALL).await;
    assert_eq!((read.after, read.continuity), (41, Continuity::Incomplete));
}

/// It is what connections had, and the log has it.
pub async fn what_is_known_does_not_change_a_log_that_is_there(log: impl Holder) {
    let logged = append_numbers(&*log, ANNA, 3).await;
    let message = Message::text("next");
    for (number, known) in [(4, logged[2].position), (5, logged[0].position)] {
        let append_one = Append::new(&ANNA, MessageId::random(), &message).known(Some(known));
        assert_eq!(append(&*log, append_one).await.position.number, number);
    }
    let read = read(&*log, ANNA, After::Number(0), ALL).await;
    assert_eq!(read.entries.len(), 5);
    assert_chain(&read);
}

/// If the log does so.
pub async fn what_is_appended_at_once_is_in_the_log(log: impl Holder) {
    append_text(&*log, ANNA, "waited for").await;
    let message = Message::text("at once");
    let append = Append::new(&ANNA, MessageId::random(), &message);
    let Some(appended) = log.append_now(&append) else {
        assert!(!log.acknowledge_now(&Acknowledge { user: &ANNA, upto: 1 }), "it waits for appends only");
        return;
    };
    assert_eq!(logged(appended).position, Position::new(2, append.id));
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["waited for", "at once"]);
    if log.acknowledge_now(&Acknowledge { user: &ANNA, upto: 1 }) {
        assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["at once"]);
    }
}
