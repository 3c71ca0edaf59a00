//! [`HubBuilder`]: the settings of a hub.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use ws_core::Utf8Bytes;

use crate::backplane::Backplane;
use crate::config::{Config, Login, Rules};
use crate::hub::Hub;
use crate::queue::{Limits, Overflow};
use crate::shared::Inner;
use crate::store::{Guarantee, MemoryStore, OfflineStore};

/// The settings of a [`Hub`].
///
/// | setting | default |
/// |---|---|
/// | [`login`](Self::login) | the newest connection replaces the others |
/// | [`max_connections`](Self::max_connections) | no limit |
/// | [`queue`](Self::queue) | 100 messages, 1 MiB, for each connection |
/// | [`overflow`](Self::overflow) | the connection is closed, and its client asked to come back |
/// | [`offline_store`](Self::offline_store) | [`MemoryStore`] with its defaults |
/// | [`guarantee`](Self::guarantee) | at most once |
/// | [`heartbeat`](Self::heartbeat) | off |
/// | [`max_rooms`](Self::max_rooms) | 100, for each user |
/// | [`backplane`](Self::backplane) | none: this hub is the only one |
///
/// ```
/// use ws_hub::{Hub, Login, MemoryStore, Overflow};
///
/// let hub = Hub::<String>::builder()
///     .login(Login::AllowMany(3))
///     .max_connections(10_000)
///     .queue(100, 256 * 1024)
///     .overflow(Overflow::Disconnect)
///     .offline_store(MemoryStore::new().per_user(50, 64 * 1024))
///     .heartbeat("ping", "pong")
///     .build();
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct HubBuilder<U> {
    config: Config<U>,
}

impl<U> HubBuilder<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn new() -> Self {
        let limits = Limits { messages: 100, bytes: 1024 * 1024, overflow: Overflow::default() };
        Self {
            config: Config {
                login: Login::default(),
                max_connections: None,
                max_rooms: 100,
                rules: Rules { limits, has_store: true, guarantee: Guarantee::default() },
                store: Some(Arc::new(MemoryStore::new())),
                backplane: None,
                heartbeat: None,
            },
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
        self.config.login = login;
        self
    }

    /// How many connections there may be in this hub; `None`, the default, for no limit. One more is closed with
    /// [`CloseCode::TRY_AGAIN_LATER`](ws_core::CloseCode::TRY_AGAIN_LATER); one that replaces another is none more.
    ///
    /// It differs from [`WebSocketLayer::max_connections`](ws_core::WebSocketLayer::max_connections), which knows no users,
    /// so that at its limit users cannot replace their own connections: set that one a little higher.
    pub fn max_connections(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.config.max_connections = limit.into();
        self
    }

    /// How many messages, and bytes of them, may wait for a connection whose client reads too slowly. Default 100 and
    /// 1 MiB. What the connection has taken into its own buffer
    /// ([`outbound_buffer`](ws_core::WebSocketLayer::outbound_buffer)) waits no longer.
    ///
    /// # Panics
    ///
    /// If one of them is 0.
    #[track_caller]
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "nothing could be sent: let at least 1 message of 1 byte wait");
        self.config.rules.limits = Limits { messages, bytes, ..self.config.rules.limits };
        self
    }

    /// What happens when more would wait. By default the connection is closed, and its client asked to come back.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.rules.limits.overflow = overflow;
        self
    }

    /// Where messages are kept for users who are not connected. By default in memory.
    pub fn offline_store(mut self, store: impl OfflineStore<U>) -> Self {
        self.config.store = Some(Arc::new(store));
        self.config.rules.has_store = true;
        self
    }

    /// No messages are kept for users who are not connected.
    pub fn without_offline_store(mut self) -> Self {
        self.config.store = None;
        self.config.rules.has_store = false;
        self
    }

    /// When a message to a user counts as delivered. By default when it is handed to the connection: at most once.
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.config.rules.guarantee = guarantee;
        self
    }

    /// A text that clients send as a sign of life, and the answer to it: for browsers, which cannot send pings, and so
    /// cannot know whether the server is still there. It is answered in place of being received. Off by default.
    pub fn heartbeat(mut self, heartbeat: impl Into<Utf8Bytes>, answer: impl Into<Utf8Bytes>) -> Self {
        self.config.heartbeat = Some((heartbeat.into(), answer.into()));
        self
    }

    /// How many rooms a user may be in. Default 100.
    pub fn max_rooms(mut self, limit: usize) -> Self {
        self.config.max_rooms = limit;
        self
    }

    /// What joins this hub with those on other nodes.
    pub fn backplane(mut self, backplane: impl Backplane<U>) -> Self {
        self.config.backplane = Some(Arc::new(backplane));
        self
    }

    /// The hub.
    ///
    /// # Panics
    ///
    /// With a [`backplane`](Self::backplane), outside of a tokio runtime: a task is spawned that takes what others publish.
    #[must_use = "a hub is there for as long as its handles are"]
    pub fn build(self) -> Hub<U> {
        Hub { inner: Inner::new(self.config) }
    }
}

impl<U> Hub<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// A hub with the [defaults](HubBuilder): one connection for each user, the newest; an offline store in memory.
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
            .field("login", &self.config.login)
            .field("max_connections", &self.config.max_connections)
            .field("rules", &self.config.rules)
            .field("heartbeat", &self.config.heartbeat)
            .field("max_rooms", &self.config.max_rooms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
    #[should_panic(expected = "use `without_offline_store`")]
    fn a_store_that_keeps_nothing_is_refused_when_it_is_set() {
        let _ = MemoryStore::<u64>::new().time_to_live(Duration::ZERO);
    }
}
