//! What [`MemoryLog`] keeps, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;
use ws_core::Message;
use ws_hub::{Acknowledge, After, Append, Appended, Continuity, Log, MemoryLog, MessageId, Page};

/// What a message counts besides its length, and a user of `u64`: as the documentation says.
const MESSAGE: usize = 128;
const USER: usize = 256 + 2 * size_of::<u64>();

const SECOND: Duration = Duration::from_secs(1);

fn append(log: &MemoryLog<u64>, user: u64, message: &Message) -> (u64, usize) {
    match log.append_now(&Append::new(&user, MessageId::random(), message)) {
        Some(Appended::Logged { position, evicted, .. }) => (position.number, evicted),
        other => panic!("{other:?}"),
    }
}

fn append_text(log: &MemoryLog<u64>, user: u64, text: &str) -> (u64, usize) {
    append(log, user, &Message::text(text))
}

fn acknowledge(log: &MemoryLog<u64>, user: u64, upto: u64) {
    assert!(log.acknowledge_now(&Acknowledge { user: &user, upto }));
}

async fn read(log: &MemoryLog<u64>, user: u64, after: After) -> (Vec<String>, Continuity) {
    let read = log.read(&user, after, Page { messages: usize::MAX, bytes: usize::MAX }).await.unwrap();
    let texts = read.entries.iter().map(|entry| entry.message.as_text().unwrap().to_owned());
    (texts.collect(), read.continuity)
}

async fn waiting(log: &MemoryLog<u64>, user: u64) -> Vec<String> {
    read(log, user, After::Cursor).await.0
}

/// A bound with room for as many users, each with one message of one byte.
fn room_for(users: usize) -> usize {
    users * (USER + MESSAGE + 1)
}

#[tokio::test]
async fn the_oldest_message_of_all_goes_when_all_have_too_much() {
    let log = MemoryLog::<u64>::new().in_all(room_for(3));
    for user in [1, 2, 3] {
        assert_eq!(append_text(&log, user, "x"), (1, 0));
    }
    assert_eq!(append_text(&log, 4, "x"), (1, 1));
    assert!(waiting(&log, 1).await.is_empty());
    for user in [2, 3, 4] {
        assert_eq!(waiting(&log, user).await, ["x"], "user {user}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_goes_though_it_is_kept_for_ever() {
    let log = MemoryLog::<u64>::new().in_all(room_for(3)).time_to_live(None);
    for user in [3, 1, 2] {
        append_text(&log, user, "x");
        advance(SECOND).await;
    }
    assert_eq!(append_text(&log, 4, "x"), (1, 1));
    assert_eq!(append_text(&log, 5, "x"), (1, 1));
    for (user, expected) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 1)] {
        assert_eq!(waiting(&log, user).await.len(), expected, "user {user}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_goes_before_what_is_older_and_not_delivered() {
    let log = MemoryLog::<u64>::new().in_all(room_for(3));
    for user in [1, 2, 3] {
        append_text(&log, user, "x");
        advance(SECOND).await;
    }
    acknowledge(&log, 3, 1);
    assert_eq!(append_text(&log, 4, "x"), (1, 0), "what is delivered is not counted");
    assert_eq!(append_text(&log, 5, "x"), (1, 1));
    for (user, expected) in [(1, 0), (2, 1), (4, 1), (5, 1)] {
        assert_eq!(waiting(&log, user).await.len(), expected, "user {user}");
    }
}

#[tokio::test]
async fn the_bound_of_all_holds_for_one_user_too() {
    let log = MemoryLog::<u64>::new().in_all(USER + 10 * (MESSAGE + 1));
    let evicted: usize = (0..100).map(|_| append_text(&log, 1, "x").1).sum();
    assert_eq!((evicted, log.len()), (90, 10));
}

/// How many users with a message of one byte there are at most.
fn users_within<U: Clone + Eq + std::hash::Hash + Send + Sync + 'static>(
    log: MemoryLog<U>,
    bytes: usize,
    id: impl Fn(usize) -> U,
) -> usize {
    let log = log.in_all(bytes);
    for number in 0..2 * bytes / USER {
        let message = Message::text("x");
        assert!(log.append_now(&Append::new(&id(number), MessageId::random(), &message)).is_some());
    }
    log.len()
}

#[test]
fn an_id_counts_with_what_it_takes_of_the_heap() {
    const EACH: usize = 256 + 128 + 1;
    let name = |number: usize| format!("{number:0500}");
    let words = |count: usize| 2 * count * size_of::<usize>();

    let counted = 2 * (500 + 16);
    let bytes = 10 * (EACH + words(3) + counted);
    assert_eq!(users_within(MemoryLog::new(), bytes, name), 10);
    assert_eq!(users_within(MemoryLog::new(), bytes, |number| name(number).into_bytes()), 10);
    let bytes = 10 * (EACH + words(2) + counted);
    assert_eq!(users_within(MemoryLog::new(), bytes, |number| name(number).into_boxed_str()), 10);
    assert_eq!(users_within(MemoryLog::new(), bytes, |number| Arc::<str>::from(name(number))), 10);

    let log = MemoryLog::new().heap_of_ids(|(id, _): &(String, u64)| id.len());
    let bytes = 10 * (EACH + words(4) + 2 * 500);
    assert_eq!(users_within(log, bytes, |number| (name(number), 7)), 10);
}

#[tokio::test(start_paused = true)]
async fn a_history_may_be_as_long_as_a_number_can_be() {
    let log = MemoryLog::<u64>::new().history(usize::MAX, 60 * SECOND);
    for upto in 1..=100 {
        append_text(&log, 1, "x");
        acknowledge(&log, 1, upto);
    }
    assert_eq!(log.len(), 100);
}

#[tokio::test]
async fn a_message_that_is_larger_than_the_bound_of_all_is_too_large() {
    let log = MemoryLog::<u64>::new().in_all(1_000);
    let message = Message::binary(vec![0; 1_000]);
    let append = Append::new(&1, MessageId::random(), &message);
    assert_eq!(log.append_now(&append), Some(Appended::TooLarge));
    assert!(log.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_delivered_is_kept_for_its_time() {
    let log = MemoryLog::<u64>::new().time_to_live(10 * SECOND);
    append_text(&log, 1, "first");
    advance(5 * SECOND).await;
    append_text(&log, 1, "second");
    advance(Duration::from_millis(4_999)).await;
    assert_eq!(waiting(&log, 1).await, ["first", "second"]);
    advance(Duration::from_millis(1)).await;
    assert_eq!(waiting(&log, 1).await, ["second"]);
    assert_eq!(read(&log, 1, After::Number(0)).await.1, Continuity::Incomplete);
    assert_eq!(append_text(&log, 1, "third").0, 3, "the numbers go on");
    assert_eq!(log.len(), 2);
    advance(10 * SECOND).await;
    assert!(log.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_is_kept_for_ever_if_that_is_asked_for() {
    let log = MemoryLog::<u64>::new().time_to_live(None);
    append_text(&log, 1, "first");
    advance(Duration::from_secs(100 * 365 * 24 * 3600)).await;
    assert_eq!(waiting(&log, 1).await, ["first"]);
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_is_kept_for_the_time_of_the_history() {
    let log = MemoryLog::<u64>::new().history(64, 30 * SECOND);
    append_text(&log, 1, "first");
    append_text(&log, 1, "second");
    acknowledge(&log, 1, 1);
    advance(20 * SECOND).await;
    acknowledge(&log, 1, 2);
    advance(Duration::from_millis(29_999)).await;
    assert_eq!(log.len(), 2);
    assert_eq!(
        read(&log, 1, After::Number(0)).await,
        (vec!["first".into(), "second".into()], Continuity::Complete)
    );
    advance(Duration::from_millis(1)).await;
    assert!(log.is_empty());
    assert_eq!(append_text(&log, 1, "new").0, 1, "the user is forgotten");
}

#[tokio::test(start_paused = true)]
async fn as_many_delivered_messages_are_kept_as_the_history_says() {
    for (asked, kept) in [(0, 64), (64, 64), (100, 100)] {
        let log = MemoryLog::<u64>::new().history(asked, 60 * SECOND);
        for _ in 0..200 {
            append_text(&log, 1, "x");
        }
        acknowledge(&log, 1, 150);
        assert_eq!(log.len(), kept + 50);
        acknowledge(&log, 1, 200);
        assert_eq!(log.len(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_kept_as_what_was_never_delivered() {
    let log = MemoryLog::<u64>::new();
    append_text(&log, 1, "first");
    acknowledge(&log, 1, 1);
    advance(59 * SECOND).await;
    log.give_back(&1, 0).await.unwrap();
    advance(3600 * SECOND).await;
    assert_eq!(log.len(), 1);
    assert_eq!(waiting(&log, 1).await, ["first"]);
}

#[tokio::test(start_paused = true)]
async fn users_whose_time_is_over_make_room_though_nobody_asks_for_them() {
    let log = MemoryLog::<u64>::new().time_to_live(10 * SECOND);
    for user in 0..100 {
        append_text(&log, user, "x");
    }
    advance(10 * SECOND).await;
    for user in 100..110 {
        assert_eq!(append_text(&log, user, "x"), (1, 0));
    }
    for user in 0..100 {
        assert_eq!(read(&log, user, After::Number(0)).await, (Vec::new(), Continuity::Complete));
    }
    assert_eq!(log.len(), 10);
}

#[test]
#[should_panic(expected = "a log that keeps nothing: use `without_log`")]
fn a_log_without_room_for_a_user_is_refused() {
    drop(MemoryLog::<u64>::new().per_user(0, 1));
}

#[test]
#[should_panic(expected = "a log that keeps nothing: use `without_log`")]
fn a_log_without_room_for_all_is_refused() {
    drop(MemoryLog::<u64>::new().in_all(0));
}

#[test]
#[should_panic(expected = "a log that keeps nothing: use `without_log`")]
fn a_log_without_time_is_refused() {
    drop(MemoryLog::<u64>::new().time_to_live(Duration::ZERO));
}
