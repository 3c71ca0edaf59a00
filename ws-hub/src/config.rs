//! The settings of a hub, as its [builder](crate::HubBuilder) has put them together.

use std::sync::Arc;

use ws_core::{Message, Utf8Bytes};

use crate::backplane::Backplane;
use crate::error::Refused;
use crate::position::{Position, Resumed};
use crate::room::RoomHistory;

/// How a message that has a position is written: see [`HubBuilder::framed`](crate::HubBuilder::framed).
pub(crate) type Framing = Arc<dyn Fn(&Position, &Message) -> Message + Send + Sync>;

/// What a connection is told first: see [`HubBuilder::greeting`](crate::HubBuilder::greeting).
pub(crate) type Greeting = Arc<dyn Fn(&Resumed) -> Option<Message> + Send + Sync>;

/// How much which room keeps: see [`HubBuilder::room_history`](crate::HubBuilder::room_history).
pub(crate) type HistoryRule = Arc<dyn Fn(&str) -> Option<RoomHistory> + Send + Sync>;

pub(crate) struct Config<U> {
    pub(crate) login: Login,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_rooms: usize,
    pub(crate) rules: Rules,
    pub(crate) engine: Arc<dyn Backplane<U>>,
    /// Whether there may be other nodes.
    pub(crate) is_shared: bool,
    pub(crate) heartbeat: Option<(Utf8Bytes, Utf8Bytes)>,
    pub(crate) framing: Option<Framing>,
    pub(crate) greeting: Option<Greeting>,
    pub(crate) room_history: Option<HistoryRule>,
}

/// How a connection's messages are kept and confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    /// Whether messages for users are kept in a log.
    pub(crate) has_log: bool,
    pub(crate) guarantee: Guarantee,
    pub(crate) confirm: Confirm,
}

/// How much may wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
}

/// When a message for a user counts as delivered, so that no connection gets it any more.
///
/// ```
/// use ws_hub::{Guarantee, Hub};
///
/// let hub = Hub::<u64>::builder().guarantee(Guarantee::AtLeastOnce).build();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// When it is handed to the connection, which sends it as soon as the network takes it. Nothing comes twice; what was
    /// on its way when the peer vanished is lost. The default with a log in memory.
    ///
    /// A log that takes waiting, such as one on a disk or a server, is told of up to 32 messages together, before they are
    /// sent. When a connection ends that has not sent them all, it gives back the rest. If a newer connection has got newer
    /// messages by then, the promise has limits: that connection gets the rest out of order; if it ends before that, those
    /// newer messages come twice; and if it is over already, the rest is lost. Use
    /// [`AtLeastOnce`](Self::AtLeastOnce) where that matters.
    AtMostOnce,
    /// When the client has got it, which [`Confirm`] tells. What was on its way when the connection ended is sent again at the
    /// next login, and may come twice, but not to a client that [resumes](crate::Hub::attach_after). The default with a log
    /// that outlives the process.
    AtLeastOnce,
}

/// How the hub learns that a client has got its messages, with [`Guarantee::AtLeastOnce`].
///
/// ```
/// use ws_hub::{Confirm, Guarantee, Hub};
///
/// let hub = Hub::<u64>::builder().guarantee(Guarantee::AtLeastOnce).confirm(Confirm::ByHandler).build();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Confirm {
    /// The client has answered a ping that was sent behind them: a ping for each batch. The default.
    #[default]
    ByPing,
    /// The handler says so, with [`Member::acknowledge`](crate::Member::acknowledge).
    ByHandler,
}

/// What happens to a message for those who are there, of a room or a broadcast, for which there is no room in a connection's
/// queue. Messages for a user wait in their log instead, and are never lost to it, unless the hub is built
/// [`without_log`](crate::HubBuilder::without_log).
///
/// The queue is what waits for a client that reads more slowly than messages come.
/// [`queue`](crate::HubBuilder::queue) says how long it may be.
///
/// ```
/// use ws_hub::{Hub, Overflow};
///
/// // prices: only the newest ones count
/// let hub = Hub::<String>::builder().queue(10, 64 * 1024).overflow(Overflow::DropOldest).build();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is closed with [`close_code::OVERFLOW`](crate::close_code::OVERFLOW), which asks the client to come
    /// back, and from that decision on nothing more is sent on it: what a client got has no gaps. The default.
    #[default]
    Disconnect,
    /// The oldest messages that wait go, until there is room.
    DropOldest,
    /// The message is not queued.
    DropNewest,
}

/// What happens when a user connects who is already connected.
///
/// ```
/// use ws_hub::{Hub, Login};
///
/// // a browser with a few tabs, and a phone
/// let hub = Hub::<u64>::builder().login(Login::AllowMany(5)).build();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Login {
    /// The new connection stays, and the old one is closed with [`close_code::REPLACED`](crate::close_code::REPLACED),
    /// which tells its client not to come back. What waits for the old one is sent on the new one. The default.
    #[default]
    ReplaceOld,
    /// The old connection stays, and the new one is closed with
    /// [`close_code::ALREADY_CONNECTED`](crate::close_code::ALREADY_CONNECTED). A client whose network has changed has to
    /// wait until keepalive finds its old connection dead.
    RejectNew,
    /// A user may have this many connections. Each message goes to all of them; what waits in the log goes to one. One
    /// connection more is refused as with [`RejectNew`](Self::RejectNew).
    ///
    /// A message is delivered when one of them has got it: what others have not got when they end does not wait for the next
    /// login. That a client has got it, it may also say when it [resumes](crate::Hub::attach_after).
    AllowMany(usize),
}

impl Login {
    /// How many connections there may be before another one, if the policy limits them.
    pub(crate) fn limit(self) -> Option<usize> {
        match self {
            Self::ReplaceOld => None,
            Self::RejectNew => Some(1),
            Self::AllowMany(limit) => Some(limit),
        }
    }

    pub(crate) fn replaces(self) -> bool {
        self == Self::ReplaceOld
    }

    /// Whether a user with this many connections may have another one; returns how many go for it.
    pub(crate) fn admit(self, connections: usize) -> Result<usize, Refused> {
        match self.limit() {
            None => Ok(connections),
            Some(limit) if connections < limit => Ok(0),
            Some(_) => Err(Refused::AlreadyConnected),
        }
    }
}
