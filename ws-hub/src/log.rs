//! [`Log`]: the messages of each user, in order, and how far they are delivered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_core::future::BoxFuture;
use ws_core::Message;

use crate::position::{MessageId, Position};

/// Keeps the messages of each user, in order, and a cursor: how far they are delivered.
///
/// The hub writes first, then delivers: a message for a user is appended to their log, and then goes to their connections.
/// What is behind the cursor waits for the next login. So a connection that ends, slow as it may have been, loses nothing.
///
/// [`MemoryLog`](crate::MemoryLog), in the memory of the process, is the default.
///
/// # What an implementation does
///
/// - The messages of a user have the numbers 1, 2, 3 … without holes, and each knows the id of the one before.
///   [`append`](Self::append) answers when the message is as durable as [`durability`](Self::durability) says.
/// - A log is bounded. What is removed while it is behind the cursor is `evicted`.
/// - [`acknowledge`](Self::acknowledge) moves the cursor forward. What is before it may be removed, but for the last ones: at
///   least 64, for at least 60 seconds, so that a client can [resume](crate::Hub::attach_after), and a message that is sent
///   again is found.
/// - Calls for one user may come at the same time, and take effect in some order. A call whose future is dropped is done,
///   or not, as a whole.
///
/// The conformance suite checks all this: `ws_hub::testing::log`, with the feature `testing`.
///
/// # Errors
///
/// A [`LogError`] says whether it is known that nothing has happened.
///
/// ```
/// use ws_core::Message;
/// use ws_hub::{After, Append, Appended, Log, MemoryLog, MessageId, Page};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ws_hub::LogError> {
/// let log = MemoryLog::<u64>::new();
/// let message = Message::text("hello");
/// let appended = log.append(&[Append::new(&7, MessageId::random(), &message)]).await.remove(0)?;
/// let Appended::Logged { position, .. } = appended else { panic!("it is small") };
/// assert_eq!(position.number, 1);
///
/// let read = log.read(&7, After::Cursor, Page::default()).await?;
/// assert_eq!(read.entries[0].message, message);
/// # Ok(())
/// # }
/// ```
pub trait Log<U>: Send + Sync + 'static {
    /// What the messages survive. The default [`Guarantee`](crate::Guarantee) follows from it.
    fn durability(&self) -> Durability;

    /// Appends messages, each to the log of a user. The answers are in the order of the batch; one of them may fail, and
    /// the others not.
    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>>;

    /// Reads messages of a user, in order, from a place on.
    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>>;

    /// Moves cursors forward: messages up to a number are delivered. A number that is behind the cursor changes nothing; one
    /// after the last message counts as that.
    fn acknowledge<'a>(&'a self, batch: &'a [Acknowledge<'a, U>])
    -> BoxFuture<'a, Vec<Result<(), LogError>>>;

    /// Moves the cursor of a user back to `number`: what was acknowledged after it, and is still kept, was not delivered.
    fn give_back<'a>(&'a self, user: &'a U, number: u64) -> BoxFuture<'a, Result<(), LogError>>;

    /// Whether it can [append](Self::append_now) and [acknowledge](Self::acknowledge_now) at once. `false` by default.
    fn is_immediate(&self) -> bool {
        false
    }

    /// Appends a message at once, for logs in memory: `None`, the default, if that takes waiting.
    fn append_now(&self, append: &Append<'_, U>) -> Option<Appended> {
        let _ = append;
        None
    }

    /// Moves a cursor forward at once, for logs in memory: `false`, the default, if that takes waiting.
    fn acknowledge_now(&self, acknowledge: &Acknowledge<'_, U>) -> bool {
        let _ = acknowledge;
        false
    }
}

impl<U, L: Log<U> + ?Sized> Log<U> for Arc<L> {
    fn durability(&self) -> Durability {
        (**self).durability()
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        (**self).append(batch)
    }

    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        (**self).read(user, after, page)
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, U>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        (**self).acknowledge(batch)
    }

    fn give_back<'a>(&'a self, user: &'a U, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        (**self).give_back(user, number)
    }

    fn is_immediate(&self) -> bool {
        (**self).is_immediate()
    }

    fn append_now(&self, append: &Append<'_, U>) -> Option<Appended> {
        (**self).append_now(append)
    }

    fn acknowledge_now(&self, acknowledge: &Acknowledge<'_, U>) -> bool {
        (**self).acknowledge_now(acknowledge)
    }
}

/// What the messages of a [`Log`] survive.
///
/// ```
/// use ws_hub::{Durability, Log, MemoryLog};
///
/// assert_eq!(MemoryLog::<u64>::new().durability(), Durability::Process);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The end of connections, and not that of the process.
    Process,
    /// The end of the process, even by `kill -9`: they are on a disk, or in another process.
    Disk,
}

/// A message to append to the log of a user.
///
/// ```
/// use ws_core::Message;
/// use ws_hub::{Append, MessageId};
///
/// let message = Message::text("hello");
/// let append = Append::new(&7, MessageId::random(), &message);
/// assert!(!append.again);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Append<'a, U> {
    /// Whose log.
    pub user: &'a U,
    /// The id of the message.
    pub id: MessageId,
    /// The message.
    pub message: &'a Message,
    /// Whether the message may be in the log already: then its id is looked for among the last 64 messages, and if it is
    /// there, nothing is appended, and the answer tells where it is. `false` by default.
    pub again: bool,
    /// The last position that connections of the user know: a log that has forgotten the user goes on from there, so that
    /// numbers never come twice on a connection. One with a number from `u64::MAX / 2` on is of no log, and is as `None`, which
    /// is the default.
    pub known: Option<Position>,
    /// The login that the message goes to at once, if it is the next one of that. A log or a backplane of this crate then
    /// acknowledges it with the append.
    pub(crate) handover: Option<&'a Handover>,
}

/// A login that has got everything up to a message, and has room for the next one.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) login: u64,
    /// Where it starts, as far as its node knows.
    pub(crate) start: u64,
    /// The number and the id of the last message that it has got.
    pub(crate) last: (u64, Option<MessageId>),
    /// Whether what was appended is acknowledged.
    pub(crate) is_acknowledged: AtomicBool,
}

impl Handover {
    /// Whether the message at this position, behind the `previous` one, is the next of the login.
    pub(crate) fn is_next(&self, position: Position, previous: Option<MessageId>) -> bool {
        (self.last.0.checked_add(1), self.last.1) == (Some(position.number), previous)
    }
}

impl<'a, U> Append<'a, U> {
    /// A message that was not sent before.
    #[must_use]
    pub fn new(user: &'a U, id: MessageId, message: &'a Message) -> Self {
        Self { user, id, message, again: false, known: None, handover: None }
    }

    /// The same, with [`again`](Self::again).
    #[must_use]
    pub fn again(self, again: bool) -> Self {
        Self { again, ..self }
    }

    /// The same, with [`known`](Self::known).
    #[must_use]
    pub fn known(self, known: Option<Position>) -> Self {
        Self { known, ..self }
    }
}

/// What became of a message that was to be appended.
///
/// ```
/// use ws_hub::Appended;
///
/// assert_ne!(Appended::TooLarge, Appended::Logged {
///     position: "1.9f3c5a0e2b7d4411".parse().unwrap(),
///     previous: None,
///     evicted: 0,
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Appended {
    /// It is in the log.
    Logged {
        /// Where.
        position: Position,
        /// The id of the message before it, if there ever was one.
        previous: Option<MessageId>,
        /// How many messages that were not delivered, of this user or others, were removed for it.
        evicted: usize,
    },
    /// It is larger than the log takes for one user.
    TooLarge,
}

/// Where to read from.
///
/// ```
/// let after = ws_hub::After::Number(17);
/// assert_ne!(after, ws_hub::After::Cursor);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// What is not delivered.
    Cursor,
    /// What comes after the message at this position. If the log does not have it any more: what is not delivered.
    Position(Position),
    /// What comes after the message with this number.
    Number(u64),
}

/// How much to read at a time: not more than either of the two, unless the first message alone has more bytes.
///
/// ```
/// let page = ws_hub::Page::default();
/// assert_eq!((page.messages, page.bytes), (32, 256 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// Messages.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { messages: 32, bytes: 256 * 1024 }
    }
}

/// A message in a log.
///
/// ```
/// use ws_hub::{Entry, MessageId, Position};
///
/// let entry = Entry::new(Position::new(1, MessageId::random()), None, "hello");
/// assert_eq!(entry.message.as_text(), Some("hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Where it is.
    pub position: Position,
    /// The id of the message before it, if there ever was one.
    pub previous: Option<MessageId>,
    /// What the user is to get.
    pub message: Message,
}

impl Entry {
    /// The message at `position`, after that with the id `previous`.
    #[must_use]
    pub fn new(position: Position, previous: Option<MessageId>, message: impl Into<Message>) -> Self {
        Self { position, previous, message: message.into() }
    }
}

/// What was read.
///
/// ```
/// use ws_hub::{After, Continuity, Log, MemoryLog, Page};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ws_hub::LogError> {
/// let read = MemoryLog::<u64>::new().read(&7, After::Cursor, Page::default()).await?;
/// assert_eq!((read.entries.len(), read.top, read.continuity), (0, None, Continuity::Complete));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read {
    /// The number after which the entries come.
    pub after: u64,
    /// The messages, in order.
    pub entries: Vec<Entry>,
    /// Up to where all is delivered.
    pub cursor: u64,
    /// The last message that there ever was, if the log still knows it.
    pub top: Option<Position>,
    /// Whether something is missing before the entries.
    pub continuity: Continuity,
}

impl Read {
    /// What a log answers that has nothing for the user.
    #[must_use]
    pub fn nothing(after: After) -> Self {
        let (after, continuity) = match after {
            After::Cursor => (0, Continuity::Complete),
            After::Number(number) => (number, Continuity::Complete),
            After::Position(_) => (0, Continuity::Incomplete),
        };
        Self { after, entries: Vec::new(), cursor: 0, top: None, continuity }
    }
}

/// Whether what was read goes on from where it was to.
///
/// ```
/// assert_ne!(ws_hub::Continuity::Complete, ws_hub::Continuity::Incomplete);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Continuity {
    /// Nothing is missing.
    Complete,
    /// Messages that came after that place are no longer in the log, or the place is not one of this log.
    Incomplete,
}

/// Messages that were delivered.
///
/// ```
/// let acknowledge = ws_hub::Acknowledge { user: &7, upto: 17 };
/// # let _ = acknowledge;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledge<'a, U> {
    /// Whose.
    pub user: &'a U,
    /// The number of the last one.
    pub upto: u64,
}

/// A log, or a backplane, failed.
///
/// ```
/// use ws_hub::LogError;
///
/// let error = LogError::refused("the disk is full");
/// assert!(!error.is_unknown());
/// assert_eq!(error.to_string(), "refused: the disk is full");
/// ```
#[derive(Debug)]
pub struct LogError {
    is_unknown: bool,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl LogError {
    /// It is certain that nothing has happened.
    #[must_use]
    pub fn refused(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { is_unknown: false, source: source.into() }
    }

    /// It may have happened or not.
    #[must_use]
    pub fn unknown(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { is_unknown: true, source: source.into() }
    }

    /// Whether what was asked for may have happened all the same.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_unknown { "not known whether it happened" } else { "refused" };
        write!(f, "{what}: {}", self.source)
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
