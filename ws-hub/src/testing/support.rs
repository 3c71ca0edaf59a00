//! What the cases do to a log.

use std::future::poll_fn;
use std::ops::Deref;
use std::task::Poll;

use futures_core::future::BoxFuture;
use ws_core::Message;

use crate::log::{Acknowledge, After, Append, Appended, Log, Page, Read};
use crate::position::{MessageId, Position};

/// What holds a log, and perhaps what is to stay as long as the log: `Box<MemoryLog<u64>>`, or a log and the directory that
/// its file is in.
///
/// ```
/// use std::ops::Deref;
/// use ws_hub::MemoryLog;
/// use ws_hub::testing::log::Holder;
///
/// struct Temporary(MemoryLog<u64>);
///
/// impl Deref for Temporary {
///     type Target = MemoryLog<u64>;
///
///     fn deref(&self) -> &MemoryLog<u64> {
///         &self.0
///     }
/// }
///
/// fn make() -> impl Holder {
///     Temporary(MemoryLog::new())
/// }
/// # drop(make());
/// ```
pub trait Holder: Deref<Target = Self::Log> + Send + Sync + 'static {
    /// The log.
    type Log: Log<u64>;
}

impl<H> Holder for H
where
    H: Deref + Send + Sync + 'static,
    H::Target: Log<u64> + Sized,
{
    type Log = H::Target;
}

/// Where a message is, and what went for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) position: Position,
    pub(super) previous: Option<MessageId>,
    pub(super) evicted: usize,
}

/// All that there is.
pub(super) const ALL: Page = Page { messages: usize::MAX, bytes: usize::MAX };

pub(super) fn logged(appended: Appended) -> Logged {
    match appended {
        Appended::Logged { position, previous, evicted } => Logged { position, previous, evicted },
        Appended::TooLarge => panic!("a message that the log has to take is too large for it"),
    }
}

/// Appends one message.
pub(super) async fn try_append(log: &impl Log<u64>, append: Append<'_, u64>) -> Appended {
    let mut answers = log.append(&[append]).await;
    assert_eq!(answers.len(), 1, "one answer for one message");
    answers.remove(0).expect("the log works")
}

/// Appends one message, which fits.
pub(super) async fn append(log: &impl Log<u64>, append: Append<'_, u64>) -> Logged {
    logged(try_append(log, append).await)
}

/// Appends the text `message` with a new id.
pub(super) async fn append_text(log: &impl Log<u64>, user: u64, message: &str) -> Logged {
    append(log, Append::new(&user, MessageId::random(), &Message::text(message))).await
}

/// Appends as many texts, the numbers from 1 on, in one batch.
pub(super) async fn append_numbers(log: &impl Log<u64>, user: u64, count: usize) -> Vec<Logged> {
    let messages: Vec<_> = (1..=count).map(|number| Message::text(number.to_string())).collect();
    let batch: Vec<_> =
        messages.iter().map(|message| Append::new(&user, MessageId::random(), message)).collect();
    let answers = log.append(&batch).await;
    assert_eq!(answers.len(), count, "as many answers as messages");
    answers.into_iter().map(|answer| logged(answer.expect("the log works"))).collect()
}

pub(super) async fn read(log: &impl Log<u64>, user: u64, after: After, page: Page) -> Read {
    log.read(&user, after, page).await.expect("the log works")
}

pub(super) async fn acknowledge(log: &impl Log<u64>, user: u64, upto: u64) {
    let mut answers = log.acknowledge(&[Acknowledge { user: &user, upto }]).await;
    assert_eq!(answers.len(), 1, "one answer for one user");
    answers.remove(0).expect("the log works");
}

pub(super) async fn give_back(log: &impl Log<u64>, user: u64, number: u64) {
    log.give_back(&user, number).await.expect("the log works");
}

/// The cursor of a user.
pub(super) async fn cursor(log: &impl Log<u64>, user: u64) -> u64 {
    read(log, user, After::Cursor, ALL).await.cursor
}

/// The texts of what was read.
pub(super) fn texts(read: &Read) -> Vec<&str> {
    read.entries.iter().map(|entry| entry.message.as_text().expect("only texts were appended")).collect()
}

/// Checks that the numbers are those after `after`, that the ids chain, and that the last one is not after the top.
pub(super) fn assert_chain(read: &Read) {
    let mut number = read.after;
    let mut id = None;
    for entry in &read.entries {
        assert_eq!(entry.position.number, number + 1, "a hole in what was read");
        if id.is_some() {
            assert_eq!(entry.previous, id, "the id of the message before {}", entry.position);
        }
        number += 1;
        id = Some(entry.position.id);
    }
    if !read.entries.is_empty() {
        assert!(read.top.is_some_and(|top| top.number >= number), "the top is before what was read");
    }
}

/// The position with the same number and another id.
pub(super) fn of_another_log(position: Position) -> Position {
    Position::new(position.number, MessageId::new(!position.id.get()))
}

/// Asks for something once, and does not wait for it.
pub(super) async fn poll_once<T>(mut call: BoxFuture<'_, T>) {
    poll_fn(|context| {
        let _ = call.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}
