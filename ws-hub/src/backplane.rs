//! [`Backplane`]: what joins the hubs of several nodes, so that they act as one.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use ws_core::{CloseFrame, Message};

use crate::log::{After, Append, Appended, Durability, Entry, LogError, Page, Read};
use crate::position::Position;
use crate::room::{RoomAppend, RoomEntry, RoomRead, RoomSent};

/// The name of a node, which its backplane gives it.
///
/// ```
/// assert_eq!(ws_hub::NodeId::new("node-3").to_string(), "node-3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A node of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an engine says that keeps no histories of rooms.
const NO_HISTORIES: &str = "this backplane keeps no histories of rooms";

/// Joins the hubs of several nodes, so that they act as one: a log that all of them share, the directory of who is logged in
/// where, and what carries signals between them.
///
/// A hub alone needs none. A message for a user is one step: it is appended to the user's log, and signalled to the nodes
/// where the user is logged in. **A signal is a hint**: nothing depends on it. A node that misses one sees it by the number of
/// the next message, or is told by a [`Signal::Gap`], and reads the log.
///
/// # What an implementation does
///
/// - A call that has begun is done as a whole, or not at all, even if its future is dropped.
/// - The cursor of a user moves with acknowledgements of logins that start at or before it. When logins end, and none of the
///   others does so, the newest one starts at the cursor from then on, and its node gets a [`Signal::Restock`].
/// - A node that is not heard of is gone after some time, and so are its logins. When it is back, it gets a [`Signal::Gap`],
///   and asserts the logins that it has with [`reassert`](Self::reassert). One that a newer login has replaced is not put back,
///   even if that is over. Nor is one whose log has begun anew meanwhile: other messages have the numbers that it knows.
///
/// The conformance suite checks this: `ws_hub::testing::backplane`, with the feature `testing`. [`InProcess`](crate::InProcess)
/// joins hubs of one process.
///
/// ```
/// use ws_hub::{Backplane, InProcess};
///
/// let first = InProcess::<u64>::new();
/// let second = first.another();
/// assert_ne!(first.node(), second.node());
/// ```
pub trait Backplane<U>: Send + Sync + 'static {
    /// The name of this node, different from those of all others.
    fn node(&self) -> NodeId;

    /// What the messages survive. The default [`Guarantee`](crate::Guarantee) follows from it.
    fn durability(&self) -> Durability;

    /// What other nodes have to say to this one, from the call on. Called once, by the hub.
    fn signals(&self) -> BoxStream<'static, Signal<U>>;

    /// Appends messages to the logs of users, and signals them to the nodes of these, this one too.
    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Sent, LogError>>>;

    /// As [`Log::read`](crate::Log::read).
    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>>;

    /// Messages of a login have arrived.
    fn acknowledge<'a>(&'a self, batch: &'a [Ack<'a, U>]) -> BoxFuture<'a, Vec<Result<Acked, LogError>>>;

    /// Registers a connection of a user on this node, and reads its first messages. If the same connection is registered
    /// already, the answer is the same.
    fn login<'a>(&'a self, login: &'a LoginRequest<'a, U>) -> BoxFuture<'a, Result<LoggedIn, LoginError>>;

    /// Connections of this node are over, also those whose login was never answered.
    fn logout<'a>(&'a self, batch: &'a [Logout<'a, U>]) -> BoxFuture<'a, Result<(), LogError>>;

    /// This node has these logins, and may have missed signals. The answers are in the order of `held`.
    fn reassert<'a>(&'a self, held: &'a [Held<'a, U>]) -> BoxFuture<'a, Result<Vec<Standing>, LogError>>;

    /// Ends all logins of a user, and signals that to the other nodes. Returns how many there were on those.
    fn close<'a>(&'a self, user: &'a U, frame: &'a CloseFrame) -> BoxFuture<'a, Result<usize, LogError>>;

    /// Sends what is for connections that are there now to the other nodes. Returns how many nodes it went to.
    fn publish(&self, packet: Packet<U>) -> BoxFuture<'_, Result<usize, LogError>>;

    /// This node has members of a room now. Ready when it gets what others [`publish`](Self::publish) to the room.
    fn watch<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<(), LogError>> {
        let _ = room;
        Box::pin(ready(Ok(())))
    }

    /// This node has no members of a room any more.
    fn unwatch(&self, room: &str) {
        let _ = room;
    }

    /// Appends a message to the history of a room, and signals it to the other nodes. What is more than
    /// [`RoomAppend::history`] says is removed, and all of it when its time is over.
    ///
    /// Refuses by default: an engine need not keep histories of rooms.
    fn append_to_room<'a>(
        &'a self,
        append: &'a RoomAppend<'a, U>,
    ) -> BoxFuture<'a, Result<RoomSent<U>, LogError>> {
        let _ = append;
        Box::pin(async { Err(LogError::refused(NO_HISTORIES)) })
    }

    /// Reads the history of a room: what comes after a message, or for `None` after the first one that there ever was. Nothing
    /// if something is missing between the two.
    ///
    /// Refuses by default.
    fn read_room<'a>(
        &'a self,
        room: &'a str,
        after: Option<Position>,
        page: Page,
    ) -> BoxFuture<'a, Result<RoomRead<U>, LogError>> {
        let _ = (room, after, page);
        Box::pin(async { Err(LogError::refused(NO_HISTORIES)) })
    }

    /// How many connections each of these users has, on all nodes.
    fn connections<'a>(&'a self, users: &'a [U]) -> BoxFuture<'a, Result<Vec<usize>, LogError>>;

    /// Who is logged in, on any node, each user once: a page of at most `limit`, after the one that ended at `after`.
    fn online<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Online<U>, LogError>>;

    /// How it is.
    fn health(&self) -> Health {
        Health::Up
    }

    /// How many partitions there are, in each of which many users are appended to with one call of the engine. By default, 1.
    fn partitions(&self) -> usize {
        1
    }

    /// In which partition a user is, for an engine that has several, and may miss signals in some of them only:
    /// [`Signal::GapIn`] names those. It is always the same. By default, all users are in the partition 0.
    fn partition(&self, user: &U) -> usize {
        let _ = user;
        0
    }

    /// The same, of a room.
    fn partition_of_room(&self, room: &str) -> usize {
        let _ = room;
        0
    }

    /// The hub shuts down: its logins are over.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// Whether it can [append](Self::append_now) and [acknowledge](Self::acknowledge_now) at once. `false` by default.
    fn is_immediate(&self) -> bool {
        false
    }

    /// Appends a message at once, for engines in this process: `None`, the default, if that takes waiting. What is appended
    /// like this is not signalled to this node.
    fn append_now(&self, append: &Append<'_, U>) -> Option<Sent> {
        let _ = append;
        None
    }

    /// Acknowledges at once, for engines in this process: `None`, the default, if that takes waiting.
    fn acknowledge_now(&self, ack: &Ack<'_, U>) -> Option<Acked> {
        let _ = ack;
        None
    }
}

impl<U, B: Backplane<U> + ?Sized> Backplane<U> for Arc<B> {
    fn node(&self) -> NodeId {
        (**self).node()
    }

    fn durability(&self) -> Durability {
        (**self).durability()
    }

    fn signals(&self) -> BoxStream<'static, Signal<U>> {
        (**self).signals()
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Sent, LogError>>> {
        (**self).append(batch)
    }

    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        (**self).read(user, after, page)
    }

    fn acknowledge<'a>(&'a self, batch: &'a [Ack<'a, U>]) -> BoxFuture<'a, Vec<Result<Acked, LogError>>> {
        (**self).acknowledge(batch)
    }

    fn login<'a>(&'a self, login: &'a LoginRequest<'a, U>) -> BoxFuture<'a, Result<LoggedIn, LoginError>> {
        (**self).login(login)
    }

    fn logout<'a>(&'a self, batch: &'a [Logout<'a, U>]) -> BoxFuture<'a, Result<(), LogError>> {
        (**self).logout(batch)
    }

    fn reassert<'a>(&'a self, held: &'a [Held<'a, U>]) -> BoxFuture<'a, Result<Vec<Standing>, LogError>> {
        (**self).reassert(held)
    }

    fn close<'a>(&'a self, user: &'a U, frame: &'a CloseFrame) -> BoxFuture<'a, Result<usize, LogError>> {
        (**self).close(user, frame)
    }

    fn publish(&self, packet: Packet<U>) -> BoxFuture<'_, Result<usize, LogError>> {
        (**self).publish(packet)
    }

    fn watch<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<(), LogError>> {
        (**self).watch(room)
    }

    fn unwatch(&self, room: &str) {
        (**self).unwatch(room);
    }

    fn append_to_room<'a>(
        &'a self,
        append: &'a RoomAppend<'a, U>,
    ) -> BoxFuture<'a, Result<RoomSent<U>, LogError>> {
        (**self).append_to_room(append)
    }

    fn read_room<'a>(
        &'a self,
        room: &'a str,
        after: Option<Position>,
        page: Page,
    ) -> BoxFuture<'a, Result<RoomRead<U>, LogError>> {
        (**self).read_room(room, after, page)
    }

    fn connections<'a>(&'a self, users: &'a [U]) -> BoxFuture<'a, Result<Vec<usize>, LogError>> {
        (**self).connections(users)
    }

    fn online<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Online<U>, LogError>> {
        (**self).online(after, limit)
    }

    fn health(&self) -> Health {
        (**self).health()
    }

    fn partitions(&self) -> usize {
        (**self).partitions()
    }

    fn partition(&self, user: &U) -> usize {
        (**self).partition(user)
    }

    fn partition_of_room(&self, room: &str) -> usize {
        (**self).partition_of_room(room)
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        (**self).leave()
    }

    fn is_immediate(&self) -> bool {
        (**self).is_immediate()
    }

    fn append_now(&self, append: &Append<'_, U>) -> Option<Sent> {
        (**self).append_now(append)
    }

    fn acknowledge_now(&self, ack: &Ack<'_, U>) -> Option<Acked> {
        (**self).acknowledge_now(ack)
    }
}

/// What became of a message that was appended.
///
/// ```
/// use ws_hub::{Appended, Sent};
///
/// let sent = Sent { appended: Appended::TooLarge, elsewhere: 0 };
/// assert_eq!(sent.elsewhere, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where it is.
    pub appended: Appended,
    /// How many connections the user has on other nodes.
    pub elsewhere: usize,
}

/// What one node tells another. All of it is a hint: see [`Backplane`].
///
/// ```
/// use ws_hub::Signal;
///
/// let signal = Signal::Replaced { user: 7, login: 17 };
/// assert_ne!(signal, Signal::Gap);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal<U> {
    /// A message was appended for a user who is logged in here.
    Entry {
        /// Whose.
        user: U,
        /// The message.
        entry: Entry,
    },
    /// The user has logged in on another node, and their earlier connections are replaced.
    Replaced {
        /// Who.
        user: U,
        /// The number of the new login: those with a smaller one go.
        login: u64,
    },
    /// The user's connections are to be closed.
    Closed {
        /// Whose.
        user: U,
        /// Logins up to this number.
        upto: u64,
        /// With what.
        frame: CloseFrame,
    },
    /// A login is to send what is in the log after the message `from`: the connection that was to is gone.
    Restock {
        /// Whose.
        user: U,
        /// Which login.
        login: u64,
        /// After which message it starts.
        from: u64,
    },
    /// A message was appended to the history of a room.
    RoomEntry {
        /// Which room.
        room: String,
        /// The message.
        entry: RoomEntry<U>,
    },
    /// Something for connections that are here.
    Packet(Packet<U>),
    /// Some signals may have been missed.
    Gap,
    /// Some signals about the users and rooms of these [partitions](Backplane::partition) may have been missed.
    GapIn(Vec<usize>),
    /// The others cannot be reached.
    Down,
    /// They can be reached again. If signals may have been missed, a [`Gap`](Self::Gap) comes, too.
    Up,
}

/// A message for several users, for those who are there.
///
/// ```
/// use ws_hub::Packet;
///
/// let packet = Packet { room: Some("lobby".to_owned()), except: vec![7], message: "hello".into() };
/// assert_eq!(packet.message.as_text(), Some("hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<U> {
    /// For the members of this room; `None` for everyone.
    pub room: Option<String>,
    /// Who does not get it.
    pub except: Vec<U>,
    /// What.
    pub message: Message,
}

/// A login.
///
/// ```
/// use ws_hub::{LoginRequest, Page};
///
/// let login = LoginRequest {
///     user: &7,
///     connection: 1,
///     limit: None,
///     replace: true,
///     after: None,
///     page: Page::default(),
/// };
/// assert!(login.replace);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LoginRequest<'a, U> {
    /// Whose.
    pub user: &'a U,
    /// The number of the connection on this node, never used twice.
    pub connection: u64,
    /// How many logins the user may have on all nodes, this one too.
    pub limit: Option<usize>,
    /// Whether the user's other logins go for this one.
    pub replace: bool,
    /// The last message that the client has got, if it says so: it goes on from there.
    pub after: Option<Position>,
    /// How much to read at once.
    pub page: Page,
}

/// A login was let in.
///
/// ```
/// use ws_hub::{After, LoggedIn, Read};
///
/// let logged_in = LoggedIn { login: 17, read: Read::nothing(After::Cursor) };
/// assert!(logged_in.read.entries.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// Its number, greater than that of each earlier login of the user on any node.
    pub login: u64,
    /// Its first messages, and where it starts.
    pub read: Read,
}

/// Why a login was not let in.
///
/// ```
/// assert_eq!(ws_hub::LoginError::TooMany.to_string(), "the user has as many connections as they may have");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The user has as many connections, on all nodes, as they may have.
    #[error("the user has as many connections as they may have")]
    TooMany,
    /// The login was over before it began: the user was disconnected, or has logged in once more.
    #[error("the login is over already")]
    Gone(Option<CloseFrame>),
    /// The backplane failed.
    #[error("the backplane failed: {0}")]
    Failed(#[from] LogError),
}

/// A connection is over.
///
/// ```
/// let logout = ws_hub::Logout { user: &7, connection: 1, unsent: None };
/// assert_eq!(logout.connection, 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Logout<'a, U> {
    /// Whose.
    pub user: &'a U,
    /// The number of the connection on this node.
    pub connection: u64,
    /// What it has acknowledged before it was sent, and then not sent. It is given back, but for what the user has got
    /// elsewhere, once, however often the logout is repeated.
    pub unsent: Option<Unsent>,
}

/// Messages that were acknowledged, or may have been, and not sent.
///
/// ```
/// // 6 and 7 are acknowledged and were not sent; 8 may be acknowledged
/// let unsent = ws_hub::Unsent { after: 5, acknowledged: 7, upto: 8 };
/// # let _ = unsent;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// The number of the message before the first one.
    pub after: u64,
    /// Those up to this one are acknowledged, as far as the node knows.
    pub acknowledged: u64,
    /// Those up to this one may be.
    pub upto: u64,
}

/// Messages of a login have arrived.
///
/// ```
/// let ack = ws_hub::Ack { user: &7, login: 17, start: 0, upto: 3 };
/// assert_eq!(ack.upto, 3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a, U> {
    /// Whose.
    pub user: &'a U,
    /// Which login.
    pub login: u64,
    /// Where it starts, as far as its node knows.
    pub start: u64,
    /// The number of the last message.
    pub upto: u64,
}

/// What came of an [`Ack`].
///
/// ```
/// assert_ne!(ws_hub::Acked::Done, ws_hub::Acked::StartsAt(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acked {
    /// They are acknowledged.
    Done,
    /// Nothing: the login starts after this message, and has to send what follows it first.
    StartsAt(u64),
    /// Nothing: the login is over. With the frame if the user was disconnected.
    Gone(Option<CloseFrame>),
}

/// A login that a node has.
///
/// ```
/// let held =
///     ws_hub::Held { user: &7, connection: 1, login: 17, confirmed: 3, limit: None, replace: true };
/// assert_eq!(held.login, 17);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Held<'a, U> {
    /// Whose.
    pub user: &'a U,
    /// The number of the connection on this node.
    pub connection: u64,
    /// Its number.
    pub login: u64,
    /// Up to where it has acknowledged.
    pub confirmed: u64,
    /// How many logins the user may have.
    pub limit: Option<usize>,
    /// Whether a newer login replaces it.
    pub replace: bool,
}

/// How it is with a login that a node has.
///
/// ```
/// assert_ne!(ws_hub::Standing::Gone(None), ws_hub::Standing::StartsAt(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is one, and starts after this message.
    StartsAt(u64),
    /// It is over. With the frame if the user was disconnected.
    Gone(Option<CloseFrame>),
}

/// Some of the users who are logged in.
///
/// ```
/// let online = ws_hub::Online { users: vec![7], next: None };
/// assert_eq!(online.users, [7]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online<U> {
    /// Who.
    pub users: Vec<U>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<String>,
}

/// How a backplane is.
///
/// ```
/// let hub = ws_hub::Hub::<u64>::new();
/// assert_eq!(hub.health(), ws_hub::Health::Up);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// Everything works.
    Up,
    /// It works again, and finds out what was missed.
    Syncing,
    /// The others cannot be reached.
    Down,
}
