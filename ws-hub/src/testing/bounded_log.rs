//! The cases of [`bounded_log_suite`](super::bounded_log_suite), for users that are `u64`.
//!
//! Each panics where the log does something else.

#![expect(clippy::missing_panics_doc, reason = "that is what all of them are for")]

use ws_core::Message;

use super::support::{
    ALL, Holder, acknowledge, append, append_numbers, append_text, assert_chain, logged, of_another_log,
    read, texts, try_append,
};
use crate::log::{After, Append, Appended, Continuity, Log};
use crate::position::{MessageId, Position};

const ANNA: u64 = 7;
const BERT: u64 = 8;
const KIB: usize = 1024;

/// Makes a test of each case about bounds for an implementation of [`Log`](crate::Log).
///
/// It takes a closure that makes a new, empty log for users that are `u64`, in something that
/// [holds](crate::testing::log::Holder) it, such as a `Box`. It is told how many messages, and how many bytes of them, the
/// log keeps for one user. The log has to have room for some users who have as much as they may.
#[doc(hidden)]
#[macro_export]
macro_rules! __bounded_log_suite {
    ($make:expr) => {
        $crate::__bounded_log_suite! { $make;
            the_oldest_go_when_a_user_has_too_many_messages
            the_oldest_go_when_a_user_has_too_many_bytes
            the_bound_of_a_user_is_not_that_of_others
            what_is_delivered_is_not_counted_when_it_goes
            what_is_missing_after_a_number_is_said
            what_is_missing_after_a_position_is_said
            a_position_just_before_the_first_message_is_complete
            a_position_just_before_the_first_message_with_another_id_is_incomplete
            what_is_given_back_and_gone_is_not_read
            a_message_that_comes_again_knows_the_one_before_though_that_is_gone
            a_message_that_is_too_large_is_an_answer_and_the_others_are_appended
            a_message_as_large_as_the_bound_is_taken
        }
    };
    ($make:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::testing::bounded_log::$case($make).await;
        }
    )*};
}

/// And the number of those that went is told, each time.
pub async fn the_oldest_go_when_a_user_has_too_many_messages<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(4, 64 * KIB);
    let evicted: Vec<_> = append_numbers(&*log, ANNA, 6).await.iter().map(|it| it.evicted).collect();
    assert_eq!(evicted, [0, 0, 0, 0, 1, 1]);
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!((read.after, read.cursor), (2, 2));
    assert_eq!(texts(&read), ["3", "4", "5", "6"]);
    assert_chain(&read);
}

/// As many as it takes.
pub async fn the_oldest_go_when_a_user_has_too_many_bytes<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(100, 100);
    let mut evicted = Vec::new();
    for bytes in [30, 30, 30, 10, 75, 100] {
        evicted.push(append_text(&*log, ANNA, &"x".repeat(bytes)).await.evicted);
    }
    assert_eq!(evicted, [0, 0, 0, 0, 3, 2]);
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!((read.after, read.entries.len()), (5, 1));
}

/// Each has their own.
pub async fn the_bound_of_a_user_is_not_that_of_others<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(2, 64 * KIB);
    append_numbers(&*log, BERT, 2).await;
    append_numbers(&*log, ANNA, 5).await;
    assert_eq!(texts(&read(&*log, BERT, After::Cursor, ALL).await), ["1", "2"]);
}

/// Nobody misses it.
pub async fn what_is_delivered_is_not_counted_when_it_goes<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(4, 64 * KIB);
    append_numbers(&*log, ANNA, 4).await;
    acknowledge(&*log, ANNA, 3).await;
    let evicted: Vec<_> = append_numbers(&*log, ANNA, 5).await.iter().map(|it| it.evicted).collect();
    assert_eq!(evicted, [0, 0, 0, 1, 1]);
}

/// What is left comes anyway.
pub async fn what_is_missing_after_a_number_is_said<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(4, 64 * KIB);
    append_numbers(&*log, ANNA, 6).await;
    for (number, after, continuity) in
        [(0, 2, Continuity::Incomplete), (1, 2, Continuity::Incomplete), (2, 2, Continuity::Complete)]
    {
        let read = read(&*log, ANNA, After::Number(number), ALL).await;
        assert_eq!((read.after, read.continuity), (after, continuity), "after {number}");
        assert_eq!(texts(&read), ["3", "4", "5", "6"]);
    }
}

/// Row "p < b − 1" of the table of recovery.
pub async fn what_is_missing_after_a_position_is_said<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(4, 64 * KIB);
    let logged = append_numbers(&*log, ANNA, 8).await;
    acknowledge(&*log, ANNA, 6).await;
    for gone in &logged[..3] {
        let read = read(&*log, ANNA, After::Position(gone.position), ALL).await;
        assert_eq!((read.after, read.continuity), (6, Continuity::Incomplete));
        assert_eq!(texts(&read), ["7", "8"]);
    }
}

/// Row "p = b − 1, entry b's previous id is that id".
pub async fn a_position_just_before_the_first_message_is_complete<H: Holder>(
    make: impl Fn(usize, usize) -> H,
) {
    let log = make(4, 64 * KIB);
    let logged = append_numbers(&*log, ANNA, 6).await;
    let read = read(&*log, ANNA, After::Position(logged[1].position), ALL).await;
    assert_eq!((read.after, read.continuity), (2, Continuity::Complete));
    assert_eq!(texts(&read), ["3", "4", "5", "6"]);
    assert_eq!(read.entries[0].previous, Some(logged[1].position.id));
}

/// It is one of another log.
pub async fn a_position_just_before_the_first_message_with_another_id_is_incomplete<H: Holder>(
    make: impl Fn(usize, usize) -> H,
) {
    let log = make(4, 64 * KIB);
    let logged = append_numbers(&*log, ANNA, 6).await;
    let read = read(&*log, ANNA, After::Position(of_another_log(logged[1].position)), ALL).await;
    assert_eq!((read.after, read.continuity), (2, Continuity::Incomplete));
    assert_eq!(texts(&read), ["3", "4", "5", "6"]);
}

/// The cursor is never before what is there.
pub async fn what_is_given_back_and_gone_is_not_read<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(4, 64 * KIB);
    append_numbers(&*log, ANNA, 6).await;
    acknowledge(&*log, ANNA, 6).await;
    log.give_back(&ANNA, 0).await.expect("the log works");
    let read = read(&*log, ANNA, After::Cursor, ALL).await;
    assert_eq!((read.after, read.cursor), (2, 2));
    assert_eq!(texts(&read), ["3", "4", "5", "6"]);
}

/// The answer is that of the first time.
pub async fn a_message_that_comes_again_knows_the_one_before_though_that_is_gone<H: Holder>(
    make: impl Fn(usize, usize) -> H,
) {
    let log = make(4, 64 * KIB);
    let logged = append_numbers(&*log, ANNA, 6).await;
    let message = Message::text("again");
    let again = Append::new(&ANNA, logged[2].position.id, &message).again(true);
    assert_eq!(append(&*log, again).await, logged[2]);
}

/// The log answers `TooLarge`, which is not an error, and removes no other message.
pub async fn a_message_that_is_too_large_is_an_answer_and_the_others_are_appended<H: Holder>(
    make: impl Fn(usize, usize) -> H,
) {
    let log = make(100, KIB);
    append_text(&*log, ANNA, "before").await;
    let (large, small) = (Message::binary(vec![0; KIB + 1]), Message::text("small"));
    let ids = [1, 2, 3].map(MessageId::new);
    let batch = [
        Append::new(&ANNA, ids[0], &small),
        Append::new(&ANNA, ids[1], &large),
        Append::new(&ANNA, ids[2], &small),
    ];
    let answers: Vec<_> = log.append(&batch).await.into_iter().map(|it| it.expect("the log works")).collect();
    assert_eq!(answers[1], Appended::TooLarge);
    assert_eq!(logged(answers[0]).position, Position::new(2, ids[0]));
    assert_eq!(logged(answers[2]).position, Position::new(3, ids[2]));
    assert_eq!(logged(answers[2]).previous, Some(ids[0]));
    assert_eq!(texts(&read(&*log, ANNA, After::Cursor, ALL).await), ["before", "small", "small"]);
}

/// The bound is what is allowed.
pub async fn a_message_as_large_as_the_bound_is_taken<H: Holder>(make: impl Fn(usize, usize) -> H) {
    let log = make(100, KIB);
    let message = Message::binary(vec![0; KIB]);
    let appended = try_append(&*log, Append::new(&ANNA, MessageId::random(), &message)).await;
    assert_eq!(logged(appended).evicted, 0);
}
