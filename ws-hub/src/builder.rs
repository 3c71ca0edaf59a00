//! [`HubBuilder`]: the settings of a hub.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use tokio::runtime::Handle;
use ws_core::{Message, Utf8Bytes};

use crate::backplane::Backplane;
use crate::config::{
    Config, Confirm, Framing, Greeting, Guarantee, HistoryRule, Limits, Login, Overflow, Rules,
};
use crate::hub::Hub;
use crate::in_process::InProcess;
use crate::log::{Durability, Log};
use crate::position::{Position, Resumed};
use crate::room::RoomHistory;
use crate::shared::Inner;

/// The settings of a [`Hub`].
///
/// | setting | default |
/// |---|---|
/// | [`login`](Self::login) | the newest connection replaces the others |
/// | [`max_connections`](Self::max_connections) | no limit |
/// | [`queue`](Self::queue) | 100 messages, 1 MiB, for each connection |
/// | [`overflow`](Self::overflow) | the connection is closed, and its client asked to come back |
/// | [`log`](Self::log) | [`MemoryLog`](crate::MemoryLog) with its defaults |
/// | [`guarantee`](Self::guarantee) | at most once with a log in memory, at least once with others |
/// | [`confirm`](Self::confirm) | by ping |
/// | [`framed`](Self::framed) | off: messages have no positions |
/// | [`greeting`](Self::greeting) | none |
/// | [`heartbeat`](Self::heartbeat) | off |
/// | [`max_rooms`](Self::max_rooms) | 100, for each user |
/// | [`room_history`](Self::room_history) | rooms keep nothing |
/// | [`backplane`](Self::backplane) | none: this hub is the only one |
///
/// ```
/// use ws_hub::{Hub, Login, MemoryLog, Overflow};
///
/// let hub = Hub::<String>::builder()
///     .login(Login::AllowMany(3))
///     .max_connections(10_000)
///     .queue(100, 256 * 1024)
///     .overflow(Overflow::Disconnect)
///     .log(MemoryLog::new().per_user(50, 64 * 1024))
///     .heartbeat("ping", "pong")
///     .build();
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct HubBuilder<U> {
    login: Login,
    max_connections: Option<usize>,
    max_rooms: usize,
    limits: Limits,
    guarantee: Option<Guarantee>,
    confirm: Confirm,
    engine: Engine<U>,
    heartbeat: Option<(Utf8Bytes, Utf8Bytes)>,
    framing: Option<Framing>,
    greeting: Option<Greeting>,
    room_history: Option<HistoryRule>,
}

/// What keeps the messages.
enum Engine<U> {
    None,
    /// Of this hub alone.
    Alone(Arc<dyn Backplane<U>>),
    Shared(Arc<dyn Backplane<U>>),
}

impl<U> HubBuilder<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn new() -> Self {
        Self {
            login: Login::default(),
            max_connections: None,
            max_rooms: 100,
            limits: Limits { messages: 100, bytes: 1024 * 1024, overflow: Overflow::default() },
            guarantee: None,
            confirm: Confirm::default(),
            engine: Engine::Alone(Arc::new(InProcess::new())),
            heartbeat: None,
            framing: None,
            greeting: None,
            room_history: None,
        }
    }

    /// What happens when a user connects who is already connected. By default the newest connection stays.
    ///
    /// # Panics
    ///
    /// If many are allowed, and that many is 0.
    #[track_caller]
    pub fn login(mut self, login: Login) -> Self {
        assert_ne!(login, Login::AllowMany(0), "nobody could connect: allow at least 1 connection");
        self.login = login;
        self
    }

    /// How many connections there may be in this hub; `None`, the default, for no limit. One more is closed with
    /// [`CloseCode::TRY_AGAIN_LATER`](ws_core::CloseCode::TRY_AGAIN_LATER); one that replaces another is none more.
    ///
    /// It differs from [`WebSocketLayer::max_connections`](ws_core::WebSocketLayer::max_connections), which knows no users,
    /// so that at its limit users cannot replace their own connections: set that one a little higher.
    pub fn max_connections(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.max_connections = limit.into();
        self
    }

    /// How many messages, and bytes of them, may wait for a connection whose client reads too slowly. Default 100 and
    /// 1 MiB, for messages of rooms and broadcasts, and the same once more for messages of the user, of which more wait in the
    /// log. What the connection has taken into its own buffer
    /// ([`outbound_buffer`](ws_core::WebSocketLayer::outbound_buffer)) waits no longer.
    ///
    /// # Panics
    ///
    /// If one of them is 0.
    #[track_caller]
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "nothing could be sent: let at least 1 message of 1 byte wait");
        self.limits = Limits { messages, bytes, ..self.limits };
        self
    }

    /// What happens when more messages of rooms and broadcasts would wait. By default the connection is closed, and its client
    /// asked to come back.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.limits.overflow = overflow;
        self
    }

    /// Where the messages of users are kept until they are delivered. By default in memory.
    pub fn log(mut self, log: impl Log<U>) -> Self {
        self.engine = Engine::Alone(Arc::new(InProcess::over(log)));
        self
    }

    /// No messages are kept: what is sent to a user who is not connected is dropped, and so is what a connection has not got
    /// when it ends.
    pub fn without_log(mut self) -> Self {
        self.engine = Engine::None;
        self
    }

    /// What joins this hub with those on other nodes: their log, and the directory of who is connected where.
    pub fn backplane(mut self, backplane: impl Backplane<U>) -> Self {
        self.engine = Engine::Shared(Arc::new(backplane));
        self
    }

    /// When a message to a user counts as delivered. By default that follows from the log: at most once if it is in the memory
    /// of the process, at least once if it outlives it.
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = Some(guarantee);
        self
    }

    /// How the hub learns that a client has got its messages, with [`Guarantee::AtLeastOnce`]. By default by ping.
    pub fn confirm(mut self, confirm: Confirm) -> Self {
        self.confirm = confirm;
        self
    }

    /// Writes the position of each message of a user's log into it, so that a client can [resume](Hub::attach_after):
    /// `framing` makes what is sent of the position and the message. It is called once for a message that is sent, and once for
    /// each time it is read from the log. [`framing`](crate::framing) has ready-made ones. Off by default.
    ///
    /// Messages to everyone, and to rooms without a [history](Self::room_history), have no positions, and stay as they are.
    pub fn framed(
        mut self,
        framing: impl Fn(&Position, &Message) -> Message + Send + Sync + 'static,
    ) -> Self {
        self.framing = Some(Arc::new(framing));
        self
    }

    /// What each connection is sent first: whether it goes on where its client had stopped, for instance. Nothing by default.
    pub fn greeting(
        mut self,
        greeting: impl Fn(&Resumed) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        self.greeting = Some(Arc::new(greeting));
        self
    }

    /// Which rooms keep their last messages, and how many, for clients that come back: [`Member::join_after`] sends what they have
    /// missed. By default none does.
    ///
    /// The messages of such a room are numbered, in one order for all members on all nodes, and have
    /// [positions](Self::framed). They are kept in memory, or where the backplane keeps them; one that keeps none refuses to
    /// join or to send. A history has no more than 1 MiB of messages, or
    /// what [`RoomHistory::within`] says, and goes as a whole when its time is over. `rule` is called with the name of a room whenever
    /// something is sent to it, or somebody joins.
    ///
    /// A connection gets the messages of such a room when it has joined itself, by its [`Member`](crate::Member), or when
    /// [`Hub::join`] is called for its user: one that comes later gets nothing until then, even if the user still is in the room.
    /// So nothing comes before what it has missed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ws_hub::{Hub, RoomHistory, framing};
    ///
    /// let hub = Hub::<String>::builder()
    ///     .framed(framing::json("position"))
    ///     .room_history(|room| {
    ///         room.starts_with("chat/").then(|| RoomHistory::new(100, Duration::from_secs(300)))
    ///     })
    ///     .build();
    /// ```
    ///
    /// [`Member::join_after`]: crate::Member::join_after
    pub fn room_history(
        mut self,
        rule: impl Fn(&str) -> Option<RoomHistory> + Send + Sync + 'static,
    ) -> Self {
        self.room_history = Some(Arc::new(rule));
        self
    }

    /// A text that clients send as a sign of life, and the answer to it: for browsers, which cannot send pings, and so
    /// cannot know whether the server is still there. It is answered in place of being received. Off by default.
    pub fn heartbeat(mut self, heartbeat: impl Into<Utf8Bytes>, answer: impl Into<Utf8Bytes>) -> Self {
        self.heartbeat = Some((heartbeat.into(), answer.into()));
        self
    }

    /// How many rooms a user may be in. Default 100.
    pub fn max_rooms(mut self, limit: usize) -> Self {
        self.max_rooms = limit;
        self
    }

    /// The hub. It has one task, which takes what other nodes and the log have to say: in the tokio runtime that it is built in,
    /// or else in that of the first login.
    #[must_use = "a hub is there for as long as its handles are"]
    pub fn build(self) -> Hub<U> {
        let (has_log, is_shared, engine) = match self.engine {
            // it knows who is connected, and is given no messages
            Engine::None => (false, false, Arc::new(InProcess::new()) as Arc<dyn Backplane<U>>),
            Engine::Alone(engine) => (true, false, engine),
            Engine::Shared(engine) => (true, true, engine),
        };
        let guarantee = self.guarantee.unwrap_or(match engine.durability() {
            Durability::Process => Guarantee::AtMostOnce,
            Durability::Disk => Guarantee::AtLeastOnce,
        });
        let rules = Rules { limits: self.limits, has_log, guarantee, confirm: self.confirm };
        let Self { login, max_connections, max_rooms, heartbeat, framing, greeting, room_history, .. } = self;
        let config = Config {
            login,
            max_connections,
            max_rooms,
            rules,
            engine,
            is_shared,
            heartbeat,
            framing,
            greeting,
            room_history,
        };
        let inner = Inner::new(config);
        // without a runtime, with the first login
        if Handle::try_current().is_ok() {
            inner.listen();
        }
        Hub { inner }
    }
}

impl<U> Hub<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// A hub with the [defaults](HubBuilder): one connection for each user, the newest; a log in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A hub with other settings.
    pub fn builder() -> HubBuilder<U> {
        HubBuilder::new()
    }
}

impl<U> Default for Hub<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<U> fmt::Debug for HubBuilder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("login", &self.login)
            .field("max_connections", &self.max_connections)
            .field("limits", &self.limits)
            .field("guarantee", &self.guarantee)
            .field("heartbeat", &self.heartbeat)
            .field("max_rooms", &self.max_rooms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::memory::MemoryLog;

    #[test]
    #[should_panic(expected = "nobody could connect: allow at least 1 connection")]
    fn a_login_policy_that_lets_nobody_in_is_refused_when_it_is_set() {
        let _ = HubBuilder::<u64>::new().login(Login::AllowMany(0));
    }

    #[test]
    #[should_panic(expected = "let at least 1 message of 1 byte wait")]
    fn a_queue_that_takes_nothing_is_refused_when_it_is_set() {
        let _ = HubBuilder::<u64>::new().queue(0, 1);
    }

    #[test]
    #[should_panic(expected = "use `without_log`")]
    fn a_log_that_keeps_nothing_is_refused_when_it_is_set() {
        let _ = MemoryLog::<u64>::new().time_to_live(Duration::ZERO);
    }
}
