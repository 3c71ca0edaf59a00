//! [`Hub`]: the registry of users, and what can be sent to them.

use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use ws_core::{CloseCode, CloseFrame, Drain, InvalidClose, Message, PreparedMessage, Utf8Bytes};

use crate::attach::Lease;
use crate::audience::Audience;
use crate::backplane::{Backplane, BackplaneError, Packet, Target};
use crate::builder::{HubBuilder, Login};
use crate::close_code;
use crate::delivery::{Delivery, DropReason};
use crate::event::Events;
use crate::queue::NotQueued;
use crate::registry::Registry;
use crate::stats::{Counters, Stats};
use crate::store::{OfflineStore, Pushed, ask};
use crate::user::{Offered, Rules, State, User, Wakes};

/// Who is connected, and messages to them: a handle, cheap to clone.
///
/// [The crate's page](crate) tells how the parts go together.
///
/// ```
/// use ws_core::WebSocketUpgrade;
/// use ws_hub::{Delivery, Hub};
///
/// # type Response = http::Response<ws_core::Body>;
/// /// `user` is who the application's authentication says it is.
/// fn connect(hub: Hub<String>, user: String, upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async move |socket| hub.attach(user, socket).await)
/// }
///
/// async fn news(hub: Hub<String>, user: String, text: String) -> &'static str {
///     match hub.send(&user, text).await {
///         Delivery::Sent(_) | Delivery::Published => "on its way",
///         Delivery::Stored { .. } => "waits for the next login",
///         _ => "lost",
///     }
/// }
/// ```
pub struct Hub<U> {
    pub(crate) inner: Arc<Inner<U>>,
}

pub(crate) struct Inner<U> {
    pub(crate) config: Config<U>,
    registry: RwLock<Registry<U>>,
    pub(crate) counters: Counters,
    /// Connections that are here, and those whose messages are on their way to the store.
    pub(crate) attached: AtomicUsize,
    /// Raised when there is one less.
    pub(crate) left: Notify,
    /// The task that takes what other nodes publish.
    subscriber: Option<AbortHandle>,
}

pub(crate) struct Config<U> {
    pub(crate) login: Login,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_rooms: usize,
    pub(crate) rules: Rules,
    pub(crate) store: Option<Arc<dyn OfflineStore<U>>>,
    pub(crate) backplane: Option<Arc<dyn Backplane<U>>>,
    pub(crate) heartbeat: Option<(Utf8Bytes, Utf8Bytes)>,
}

/// Why a connection was not let in.
///
/// ```
/// use ws_core::CloseCode;
/// use ws_hub::Refused;
///
/// assert_eq!(Refused::Full.close_code(), CloseCode::TRY_AGAIN_LATER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The user has as many connections as the [`Login`] policy allows.
    #[error("already connected")]
    AlreadyConnected,
    /// The hub has as many connections as it may have.
    #[error("too many connections")]
    Full,
    /// The hub drains.
    #[error("going away")]
    Draining,
    /// The backplane could not say whether the user may connect. The log has its error.
    #[error("try again later")]
    Backplane,
}

impl Refused {
    /// The code of the Close frame that the client gets: 4002, 1013, 1001, 1013.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::AlreadyConnected => close_code::ALREADY_CONNECTED,
            Self::Full | Self::Backplane => CloseCode::TRY_AGAIN_LATER,
            Self::Draining => CloseCode::GOING_AWAY,
        }
    }
}

/// Why a user is not in a room.
///
/// ```
/// let error = ws_hub::JoinError::TooManyRooms { limit: 100 };
/// assert_eq!(error.to_string(), "the user is in 100 rooms, which is the limit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The user is not connected to this hub.
    #[error("the user is not connected")]
    Offline,
    /// The user is in as many rooms as they may be.
    #[error("the user is in {limit} rooms, which is the limit")]
    TooManyRooms {
        /// The limit.
        limit: usize,
    },
}

/// What [`Hub::drain`] did.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let drained = ws_hub::Hub::<u64>::new().drain(ws_core::Drain::new()).await;
/// assert_eq!((drained.closed, drained.remaining), (0, 0));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that are over.
    pub closed: usize,
    /// Connections that were not over when the timeout was. [`Connections::drain`](ws_core::Connections::drain) drops such.
    pub remaining: usize,
}

impl<U> Clone for Hub<U> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<U> Drop for Inner<U> {
    fn drop(&mut self) {
        if let Some(subscriber) = &self.subscriber {
            subscriber.abort();
        }
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

    pub(crate) fn with(config: Config<U>) -> Self {
        let backplane = config.backplane.clone();
        let inner = Arc::new_cyclic(|inner| Inner {
            config,
            registry: RwLock::new(Registry::new()),
            counters: Counters::default(),
            attached: AtomicUsize::new(0),
            left: Notify::new(),
            subscriber: backplane.map(|backplane| subscribe(&*backplane, Weak::clone(inner))),
        });
        Self { inner }
    }

    /// Sends a message to a user, on all their connections. If they have none, it is stored for their next login.
    ///
    /// It waits only for the offline store and the backplane. A client that reads slowly does not delay it: that client's
    /// queue overflows.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message may have been sent or not.
    pub async fn send(&self, user: &U, message: impl Into<Message>) -> Delivery {
        let message = PreparedMessage::new(message);
        let delivery = match self.publish_to(user, &message).await {
            Ok(published) => match self.inner.offer_or_store(user, &message, published).await {
                Delivery::Sent(sent) => Delivery::Sent(sent),
                _ if published => Delivery::Published,
                other => other,
            },
            Err(()) => match self.inner.offer(user, &message).queued {
                0 => Delivery::Dropped(DropReason::Backplane),
                sent => Delivery::Sent(sent),
            },
        };
        if !delivery.is_accepted() {
            self.inner.counters.dropped.add(1);
        }
        delivery
    }

    /// Sends a message to all who are connected; returns how many connections of this hub it is queued on.
    ///
    /// It is encoded once, and its bytes are shared by all connections. It is not stored.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the users of other nodes may not get the message.
    pub async fn broadcast(&self, message: impl Into<Message>) -> usize {
        self.everyone().send(message).await
    }

    /// Everyone who is connected, to send to, perhaps with exceptions.
    pub fn everyone(&self) -> Audience<'_, U> {
        Audience::new(self, None)
    }

    /// The users in a room, to send to, perhaps with exceptions.
    pub fn room<'a>(&'a self, name: &'a str) -> Audience<'a, U> {
        Audience::new(self, Some(name))
    }

    /// Puts a user into a room, with all the connections that they have and will have while they are online. Returns whether
    /// they were not in it before. A room exists as long as somebody is in it. A user is in it until they leave or their last
    /// connection ends; a login that replaces another one does not change that.
    ///
    /// # Errors
    ///
    /// If the user is not connected to this hub, or is in too many rooms.
    pub fn join(&self, user: &U, room: &str) -> Result<bool, JoinError> {
        self.inner.write().join(user, room, self.inner.config.max_rooms)
    }

    /// Takes a user out of a room. Returns whether they were in it.
    pub fn leave(&self, user: &U, room: &str) -> bool {
        self.inner.write().leave(user, room)
    }

    /// Who is in a room, of this hub's users; in no order.
    #[must_use]
    pub fn members(&self, room: &str) -> Vec<U> {
        self.inner.read().members(room).cloned().collect()
    }

    /// The rooms with somebody in them; in no order.
    #[must_use]
    pub fn rooms(&self) -> Vec<String> {
        self.inner.read().rooms().map(str::to_owned).collect()
    }

    /// The rooms that a user is in; in no order.
    #[must_use]
    pub fn rooms_of(&self, user: &U) -> Vec<String> {
        self.inner.read().rooms_of(user).map(str::to_owned).collect()
    }

    /// Who is connected to this hub; in no order. [`online_everywhere`](Self::online_everywhere) asks the other nodes, too.
    #[must_use]
    pub fn online(&self) -> Vec<U> {
        self.inner.read().online().cloned().collect()
    }

    /// Whether the user is connected to this hub.
    #[must_use]
    pub fn is_online(&self, user: &U) -> bool {
        self.inner.read().connections_of(user) > 0
    }

    /// Who is connected to this hub or to another node; in no order.
    ///
    /// # Errors
    ///
    /// If the backplane fails.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn online_everywhere(&self) -> Result<Vec<U>, BackplaneError> {
        match &self.inner.config.backplane {
            Some(backplane) => backplane.online().await,
            None => Ok(self.online()),
        }
    }

    /// Who comes and who goes on this hub, from now on.
    #[must_use]
    pub fn events(&self) -> Events<U> {
        self.inner.read().events()
    }

    /// How the hub is, and what it has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (users, connections, rooms) = self.inner.read().counts();
        self.inner.counters.stats(users, connections, rooms)
    }

    /// Whether a connection of the user would be let in now: for an answer by HTTP in place of a connection that is
    /// closed at once. [`attach`](Self::attach) checks again. A backplane is not asked.
    ///
    /// # Errors
    ///
    /// Why it would not.
    pub fn check(&self, user: &U) -> Result<(), Refused> {
        let registry = self.inner.read();
        let replaced = self.inner.config.login.admit(registry.connections_of(user))?;
        registry.check(replaced, self.inner.config.max_connections)
    }

    /// Closes the connections of a user, on all nodes, with this code and reason; returns how many there were on this one.
    /// Nothing more is sent on them; what waits for the user goes to the offline store.
    ///
    /// # Errors
    ///
    /// If the code or the reason may not be sent; then nothing is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, connections on other nodes may go on.
    pub async fn disconnect(
        &self,
        user: &U,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<usize, InvalidClose> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        let closed = self.inner.disconnect(user, &frame);
        self.inner.publish(Target::Others, || Packet::Disconnect { user: user.clone(), frame }).await;
        Ok(closed)
    }

    /// Closes the connections of a user with [`close_code::KICKED`], which tells a client not to come back; returns how many
    /// there were on this hub.
    ///
    /// # Cancel safety
    ///
    /// As [`disconnect`](Self::disconnect).
    pub async fn kick(&self, user: &U) -> usize {
        // the code and the reason are ones that may be sent
        self.disconnect(user, close_code::KICKED, "sent away by the application").await.unwrap_or(0)
    }

    /// Lets nobody in any more, closes all connections in batches, and waits until they are over and what they did not
    /// send is in the offline store, at most for the timeout of `drain`. There is no way back.
    ///
    /// A deploy awaits this and [`Connections::drain`](ws_core::Connections::drain), which also refuses handshakes, and
    /// drops what is left when its timeout is over.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nobody is let in, what was told to close closes, and a further call goes on with the rest.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let inner = &self.inner;
        inner.write().drain();
        let (users, attached) = (inner.read().everyone(), inner.attached.load(Ordering::SeqCst));
        let all_over = async {
            for (n, batch) in users.chunks(drain.batch_size()).enumerate() {
                if n > 0 {
                    sleep(drain.batch_interval()).await;
                }
                for user in batch {
                    let frame = drain.close_frame();
                    inner.change(user, |state, wakes| {
                        state.end_all(&frame, &inner.config.rules, wakes, |_| true)
                    });
                }
            }
            loop {
                let left = inner.left.notified();
                if inner.attached.load(Ordering::SeqCst) == 0 {
                    break;
                }
                left.await;
            }
        };
        let _ = timeout(drain.get_timeout(), all_over).await;
        let remaining = inner.attached.load(Ordering::SeqCst);
        Drained { closed: attached.saturating_sub(remaining), remaining }
    }

    /// Sends the message to the other nodes where the user is connected, and returns whether there are any. If newer logins
    /// replace older ones, a user is on one node at most, so other nodes are not asked while the user is on this one.
    async fn publish_to(&self, user: &U, message: &PreparedMessage) -> Result<bool, ()> {
        let Some(backplane) = &self.inner.config.backplane else { return Ok(false) };
        if !self.inner.config.login.allows_many() && self.is_online(user) {
            return Ok(false);
        }
        let here = backplane.node();
        let published = async {
            let nodes = backplane.locate(user).await?;
            let others: Vec<_> = nodes.into_iter().filter(|node| *node != here).collect();
            let published = !others.is_empty();
            // if several nodes get it, one that the user has left must not store what another one delivers
            let store = others.len() == 1 && !self.is_online(user);
            for node in others {
                let message = message.message().clone();
                let packet = Packet::ToUser { user: user.clone(), message, store };
                backplane.publish(Target::Node(node), packet).await?;
            }
            Ok(published)
        };
        published.await.map_err(|error: BackplaneError| self.inner.backplane_failed(&*error))
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

impl<U> fmt::Debug for Hub<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("counters", &self.inner.counters).finish_non_exhaustive()
    }
}

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Registry<U>> {
        // what runs while it is held does not panic, but for allocation
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Registry<U>> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what there is of a user, keeps the registry true to it, and wakes whom that concerns.
    pub(crate) fn change<T>(&self, user: &User<U>, change: impl FnOnce(&mut State, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let mut state = user.lock();
        let before = state.live();
        let result = change(&mut state, &mut wakes);
        let after = state.live();
        if before != after {
            self.write().set_connections(&user.id, after);
        }
        drop(state);
        wakes.wake();
        result
    }

    /// Queues a message on the connections that the user has here.
    fn offer(&self, id: &U, message: &PreparedMessage) -> Offered {
        let user = self.read().get(id);
        user.map(|user| self.offer_to(&user, message, true)).unwrap_or_default()
    }

    fn offer_to(&self, user: &User<U>, message: &PreparedMessage, kept: bool) -> Offered {
        let rules = &self.config.rules;
        let offered = self.change(user, |state, wakes| state.offer(message, kept, rules, wakes));
        self.counters.queued.add(offered.queued);
        self.counters.evicted.add(offered.dropped);
        self.counters.overflowed.add(offered.overflowed);
        offered
    }

    /// Queues a message on the connections that the user has here. If there are none, stores it, unless others have it:
    /// unless it is `published`.
    async fn offer_or_store(
        self: &Arc<Self>,
        id: &U,
        message: &PreparedMessage,
        published: bool,
    ) -> Delivery {
        let offered = self.offer(id, message);
        if let Some(delivery) = self.delivery(offered) {
            return delivery;
        }
        let Some(store) = self.config.store.as_ref().filter(|_| !published) else {
            let reason = if offered.overflowed > 0 { DropReason::Overflow } else { DropReason::Offline };
            return Delivery::Dropped(reason);
        };
        let lease = Lease::new(self, id);
        let _gate = loop {
            let came = lease.user.came.notified();
            if let Some(delivery) = self.delivery(self.offer_to(&lease.user, message, true)) {
                return delivery;
            }
            tokio::select! {
                biased;
                gate = lease.pass_gate() => break gate,
                // a client that reads slowly may hold the gate for long
                () = came => {}
            }
        };
        // the user may have connected meanwhile
        if let Some(delivery) = self.delivery(self.offer_to(&lease.user, message, true)) {
            return delivery;
        }
        match ask(async || store.push(id, message.message().clone()).await).await {
            Ok(Pushed::Stored { evicted }) => {
                self.counters.stored.add(1);
                self.counters.evicted.add(evicted);
                Delivery::Stored { evicted }
            }
            Ok(Pushed::TooLarge) => Delivery::Dropped(DropReason::TooLarge),
            Err(error) => {
                self.store_failed(&*error);
                Delivery::Dropped(DropReason::Store)
            }
        }
    }

    /// What became of a message, if the store need not be asked.
    fn delivery(&self, offered: Offered) -> Option<Delivery> {
        match (offered.queued, offered.refused) {
            (1.., _) => Some(Delivery::Sent(offered.queued)),
            (0, Some(NotQueued::TooLarge)) => Some(Delivery::Dropped(DropReason::TooLarge)),
            (0, Some(reason)) if !self.config.rules.limits.disconnects(reason) => {
                Some(Delivery::Dropped(DropReason::Overflow))
            }
            _ => None,
        }
    }

    /// Queues a message on the connections that are here, of those in a room or of all; returns on how many.
    pub(crate) fn fan_out(&self, room: Option<&str>, except: &[U], message: &PreparedMessage) -> usize {
        let audience = self.read().audience(room, except);
        let mut queued = 0;
        for user in audience {
            let offered = self.offer_to(&user, message, false);
            queued += offered.queued;
            self.counters.dropped.add(usize::from(offered.refused.is_some()));
        }
        queued
    }

    fn disconnect(&self, id: &U, frame: &CloseFrame) -> usize {
        let Some(user) = self.read().get(id) else { return 0 };
        let rules = &self.config.rules;
        let closed = self.change(&user, |state, wakes| state.end_all(frame, rules, wakes, |_| true));
        self.counters.disconnected.add(closed);
        closed
    }

    pub(crate) fn store_failed(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.counters.failed.add(1);
        tracing::error!(error = error as &dyn std::error::Error, "the offline store failed");
    }

    pub(crate) fn backplane_failed(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.counters.failed.add(1);
        tracing::error!(error = error as &dyn std::error::Error, "the backplane failed");
    }

    /// Tells other nodes, if there are any.
    pub(crate) async fn publish(&self, target: Target, packet: impl FnOnce() -> Packet<U>) {
        if let Some(backplane) = &self.config.backplane
            && let Err(error) = backplane.publish(target, packet()).await
        {
            self.backplane_failed(&*error);
        }
    }

    /// Does what another node asks for.
    async fn handle(self: &Arc<Self>, packet: Packet<U>) {
        match packet {
            Packet::ToUser { user, message, store } => {
                let message = PreparedMessage::new(message);
                if !self.offer_or_store(&user, &message, !store).await.is_accepted() {
                    self.counters.dropped.add(1);
                }
            }
            Packet::Stored { user } => {
                let user = self.read().get(&user).filter(|_| self.config.rules.has_store);
                if let Some(user) = user {
                    self.change(&user, State::restock);
                }
            }
            Packet::ToRoom { room, except, message } => {
                self.fan_out(Some(&room), &except, &PreparedMessage::new(message));
            }
            Packet::ToEveryone { except, message } => {
                self.fan_out(None, &except, &PreparedMessage::new(message));
            }
            Packet::Disconnect { user, frame } => match frame.check() {
                Ok(()) => {
                    self.disconnect(&user, &frame);
                }
                // a connection could not be closed with it
                Err(error) => self.backplane_failed(&error),
            },
            Packet::Replaced { user, login } => {
                let user = self.read().get(&user);
                if let Some(user) = user {
                    let rules = &self.config.rules;
                    let replaced = self.change(&user, |state, wakes| state.end_before(login, rules, wakes));
                    self.counters.replaced.add(replaced);
                }
            }
        }
    }
}

/// Takes what other nodes publish, for as long as there is the hub.
fn subscribe<U>(backplane: &dyn Backplane<U>, hub: Weak<Inner<U>>) -> AbortHandle
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    let mut packets = backplane.subscribe();
    let task = tokio::spawn(async move {
        while let Some(packet) = poll_fn(|cx| packets.as_mut().poll_next(cx)).await
            && let Some(hub) = hub.upgrade()
        {
            hub.handle(packet).await;
        }
    });
    task.abort_handle()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ws_core::testing;

    use super::*;

    /// Lets all tasks run until they wait.
    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_users_who_are_gone() {
        let hub = Hub::<u64>::builder().max_connections(20).build();
        for round in 0..3 {
            let mut clients = Vec::new();
            for user in 0..30 {
                let attaching = hub.clone();
                clients.push(testing::connect(async move |socket| attaching.attach(user % 25, socket).await));
                settle().await;
                let _ = hub.join(&user, "room");
                let _ = hub.send(&user, "message").await;
                let _ = hub.send(&(1000 + user), "to nobody").await;
            }
            hub.kick(&0).await;
            clients.truncate(if round == 2 { 0 } else { 15 });
            settle().await;
            hub.broadcast("message").await;
            drop(clients);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(hub.inner.read().everyone().len(), 0);
            assert_eq!((hub.inner.read().counts(), hub.rooms()), ((0, 0, 0), vec![]));
            assert_eq!(hub.inner.attached.load(Ordering::SeqCst), 0);
            assert_eq!(Arc::strong_count(&hub.inner), 1);
        }
    }
}
