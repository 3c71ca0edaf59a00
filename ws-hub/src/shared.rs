//! [`Inner`]: what all handles of a hub share, and [`Lease`], which keeps a user in it.

use std::future::poll_fn;
use std::hash::Hash;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use ws_core::{CloseFrame, PreparedMessage};

use crate::backplane::{Backplane, BackplaneError, Packet, Target};
use crate::config::{Config, Rules};
use crate::delivery::{Delivery, DropReason};
use crate::queue::NotQueued;
use crate::registry::Registry;
use crate::stats::Counters;
use crate::store::{OfflineStore, Pushed, ask};
use crate::user::{Offered, State, User, Wakes};

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

impl<U> Drop for Inner<U> {
    fn drop(&mut self) {
        if let Some(subscriber) = &self.subscriber {
            subscriber.abort();
        }
    }
}

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(config: Config<U>) -> Arc<Self> {
        let backplane = config.backplane.clone();
        Arc::new_cyclic(|inner| Self {
            config,
            registry: RwLock::new(Registry::new()),
            counters: Counters::default(),
            attached: AtomicUsize::new(0),
            left: Notify::new(),
            subscriber: backplane.map(|backplane| subscribe(&*backplane, Weak::clone(inner))),
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Registry<U>> {
        // what runs while it is held does not panic, but for allocation
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Registry<U>> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state of a user, updates the registry to match, and wakes the tasks that the change concerns.
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
    pub(crate) fn offer(&self, id: &U, message: &PreparedMessage) -> Offered {
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
    pub(crate) async fn offer_or_store(
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

    pub(crate) fn disconnect(&self, id: &U, frame: &CloseFrame) -> usize {
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

    /// Sends the message to the other nodes where the user is connected, and returns whether there are any. If newer logins
    /// replace older ones, a user is on one node at most, so other nodes are not asked while the user is on this one.
    pub(crate) async fn publish_to(&self, user: &U, message: &PreparedMessage) -> Result<bool, ()> {
        let Some(backplane) = &self.config.backplane else { return Ok(false) };
        if !self.config.login.allows_many() && self.read().connections_of(user) > 0 {
            return Ok(false);
        }
        let here = backplane.node();
        let published = async {
            let nodes = backplane.locate(user).await?;
            let others: Vec<_> = nodes.into_iter().filter(|node| *node != here).collect();
            let published = !others.is_empty();
            // if several nodes get it, one that the user has left must not store what another one delivers
            let store = others.len() == 1 && self.read().connections_of(user) == 0;
            for node in others {
                let message = message.message().clone();
                let packet = Packet::ToUser { user: user.clone(), message, store };
                backplane.publish(Target::Node(node), packet).await?;
            }
            Ok(published)
        };
        published.await.map_err(|error: BackplaneError| self.backplane_failed(&*error))
    }
}

/// Takes what other nodes publish, until the hub is dropped.
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

/// A user's entry in the registry, for as long as it is needed.
pub(crate) struct Lease<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) inner: Arc<Inner<U>>,
    pub(crate) user: Arc<User<U>>,
}

impl<U> Lease<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(inner: &Arc<Inner<U>>, id: &U) -> Self {
        Self { user: inner.write().lease(id), inner: Arc::clone(inner) }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State, &Rules, &mut Wakes) -> T) -> T {
        let rules = &self.inner.config.rules;
        self.inner.change(&self.user, |state, wakes| change(state, rules, wakes))
    }

    /// Waits until nobody else moves messages of this user into the store or out of it, and all that are to be stored are.
    pub(crate) async fn pass_gate(&self) -> OwnedMutexGuard<()> {
        let gate = Arc::clone(&self.user.gate).lock_owned().await;
        let Some(store) = self.inner.config.store.clone().filter(|_| self.user.lock().is_unsettled()) else {
            return gate;
        };
        let lease = self.clone();
        // a task of its own ends what it has begun, even if nobody waits for it any more
        let settling = tokio::spawn(async move {
            lease.settle(&*store).await;
            gate
        });
        match settling.await {
            Ok(gate) => gate,
            // the runtime is shutting down
            Err(_) => Arc::clone(&self.user.gate).lock_owned().await,
        }
    }

    /// Puts into the store what is on its way there.
    pub(crate) async fn settle(&self, store: &dyn OfflineStore<U>) {
        let (id, counters) = (&self.user.id, &self.inner.counters);
        loop {
            let restore = std::mem::take(&mut self.user.lock().to_restore);
            if !restore.is_empty() {
                let count = restore.len();
                if let Err(error) = ask(async || store.restore(id, restore).await).await {
                    self.inner.store_failed(&*error);
                    counters.dropped.add(count);
                }
                continue;
            }
            let Some(message) = self.user.lock().to_store.pop_front() else { break };
            match ask(async || store.push(id, message.message().clone()).await).await {
                Ok(Pushed::Stored { evicted }) => {
                    counters.stored.add(1);
                    counters.evicted.add(evicted);
                }
                Ok(Pushed::TooLarge) => counters.dropped.add(1),
                Err(error) => {
                    self.inner.store_failed(&*error);
                    counters.dropped.add(1);
                }
            }
        }
    }
}

impl<U> Clone for Lease<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self::new(&self.inner, &self.user.id)
    }
}

impl<U> Drop for Lease<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.inner.write().release(&self.user.id);
    }
}
