//! [`Inner`]: what all handles of a hub share.

use std::cell::Cell;
use std::hash::Hash;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
#[cfg(not(all(test, shuttle)))]
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

#[cfg(not(all(test, shuttle)))]
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(all(test, shuttle))]
use shuttle::sync::atomic::AtomicUsize;
#[cfg(all(test, shuttle))]
use shuttle_parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Notify;
use ws_core::{CloseFrame, Message, PreparedMessage};

use crate::backplane::{Ack, Packet};
use crate::calls::ask;
use crate::close_code;
use crate::config::Config;
use crate::delivery::{Delivery, DropReason, Reach};
use crate::feed::Feeds;
use crate::log::{LogError, Read};
use crate::mailbox::{Content, Hands, Mailbox, Offered};
use crate::position::{MessageId, Position};
use crate::registry::Registry;
use crate::stats::Counters;
use crate::task::AbortHandle;
use crate::user::{User, Wakes, find, open};

pub(crate) struct Inner<U> {
    pub(crate) config: Config<U>,
    registry: RwLock<Registry<U>>,
    pub(crate) counters: Counters,
    /// Connections that are here, until their logins are over.
    pub(crate) attached: AtomicUsize,
    /// Raised when there is one less.
    pub(crate) left: Notify,
    pub(crate) last_connection: AtomicU64,
    pub(crate) feeds: Feeds,
    /// How often it is found out at the moment what was missed.
    pub(crate) syncing: AtomicUsize,
    /// The task that takes what other nodes signal.
    pub(crate) listener: OnceLock<AbortHandle>,
}

impl<U> Drop for Inner<U> {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

/// A message of the log, as it is offered.
pub(crate) struct Logged<'a> {
    pub(crate) position: Position,
    pub(crate) previous: Option<MessageId>,
    pub(crate) content: &'a Content,
}

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(config: Config<U>) -> Arc<Self> {
        Arc::new(Self {
            config,
            registry: RwLock::new(Registry::new()),
            counters: Counters::default(),
            attached: AtomicUsize::new(0),
            left: Notify::new(),
            last_connection: AtomicU64::new(0),
            feeds: Feeds::new(),
            syncing: AtomicUsize::new(0),
            listener: OnceLock::new(),
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Registry<U>> {
        self.registry.read()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Registry<U>> {
        self.registry.write()
    }

    /// Changes the mailboxes of a user, updates the registry to match, and wakes the tasks that the change concerns.
    pub(crate) fn change<T>(
        &self,
        user: &User<U>,
        change: impl FnOnce(&mut Vec<Mailbox>, &mut Wakes) -> T,
    ) -> T {
        let mut wakes = Wakes::new();
        let mut mailboxes = user.lock();
        let before = open(&mailboxes);
        let result = change(&mut mailboxes, &mut wakes);
        let after = open(&mailboxes);
        let mut emptied = Vec::new();
        if before != after {
            let mut registry = self.write();
            registry.set_connections(&user.id, after);
            emptied = registry.take_emptied();
        }
        drop(mailboxes);
        wakes.into_iter().for_each(Waker::wake);
        self.unwatch(&emptied);
        result
    }

    pub(crate) fn unwatch(&self, emptied: &[Arc<str>]) {
        if emptied.is_empty() {
            // as a rule: no lock is taken for it
            return;
        }
        for room in emptied {
            self.config.engine.unwatch(room);
        }
        self.forget_feeds(emptied.iter().map(|room| &**room));
    }

    pub(crate) fn forget_feeds<'a>(&self, rooms: impl IntoIterator<Item = &'a str>) {
        self.feeds.forget(rooms, |room| !self.read().has_room(room));
    }

    /// Calls `work` with what mailboxes of this user need.
    pub(crate) fn with_hands<T>(&self, user: &U, work: impl FnOnce(&Hands<'_>) -> T) -> T {
        let engine = &*self.config.engine;
        let acknowledge = |login, start, upto| engine.acknowledge_now(&Ack { user, login, start, upto });
        let sent = Cell::new(0);
        let result = work(&Hands {
            rules: &self.config.rules,
            is_immediate: &|| engine.is_immediate(),
            acknowledge: &acknowledge,
            sent: &sent,
        });
        self.counters.sent.add(sent.get());
        result
    }

    /// What goes to connections for a message of the log.
    pub(crate) fn framed(&self, position: &Position, message: PreparedMessage) -> PreparedMessage {
        match &self.config.framing {
            Some(framing) => PreparedMessage::new(framing(position, message.message())),
            None => message,
        }
    }

    /// What goes to connections for messages that were read.
    pub(crate) fn framed_all(&self, mut read: Read) -> Read {
        if let Some(framing) = &self.config.framing {
            for entry in &mut read.entries {
                entry.message = framing(&entry.position, &entry.message);
            }
        }
        read
    }

    /// Offers a message of the log to all mailboxes of a user. Returns whether one is full whose client may read.
    pub(crate) fn offer_logged(
        &self,
        id: &U,
        mailboxes: &mut [Mailbox],
        logged: &Logged<'_>,
        wakes: &mut Wakes,
    ) -> bool {
        let mut is_crowded = false;
        let &Logged { position, previous, content } = logged;
        self.with_hands(id, |hands| {
            for mailbox in mailboxes {
                match mailbox.offer_logged(position, previous, content, hands, wakes) {
                    Offered::Crowded => is_crowded = true,
                    Offered::Queued { .. } => self.counters.queued.add(1),
                    _ => {}
                }
            }
        });
        is_crowded
    }

    /// Offers a message to the connections of a user that are there. Where one is full, waits until it is known whether its
    /// client reads: for a turn of its task.
    async fn offer_until_known(
        &self,
        user: &User<U>,
        message: &PreparedMessage,
        only: Option<&[u64]>,
    ) -> Tally {
        let mut tally = Tally::default();
        let waiting = self.offer(user, message, only, &mut tally);
        self.count_sent(&mut tally);
        self.offer_when_clear(user, message, waiting, &mut tally).await;
        tally
    }

    /// Offers a message to connections of a user that were full, when it is known of each whether its client reads.
    pub(crate) async fn offer_when_clear(
        &self,
        user: &User<U>,
        message: &PreparedMessage,
        mut waiting: Vec<u64>,
        tally: &mut Tally,
    ) {
        while !waiting.is_empty() {
            self.until_clear(user).await;
            waiting = self.offer(user, message, Some(&waiting), tally);
            self.count_sent(tally);
        }
    }

    /// Offers a message to some connections of a user. Returns how many take it.
    pub(crate) async fn offer_to(&self, user: &User<U>, message: &PreparedMessage, only: &[u64]) -> usize {
        let tally = self.offer_until_known(user, message, Some(only)).await;
        self.counters.dropped.add(tally.refused);
        tally.taken
    }

    /// Offers a message to the connections of a user, or to some of them. Returns those that are full, and whose client may
    /// read.
    pub(crate) fn offer(
        &self,
        user: &User<U>,
        message: &PreparedMessage,
        only: Option<&[u64]>,
        tally: &mut Tally,
    ) -> Vec<u64> {
        let mut crowded = Vec::new();
        let (mut wakes, mut overflowed) = (Wakes::new(), 0);
        let limits = &self.config.rules.limits;
        let mut mailboxes = user.lock();
        let chosen = mailboxes.iter_mut();
        for mailbox in chosen.filter(|it| only.is_none_or(|only| only.contains(&it.connection))) {
            match mailbox.offer(message, limits, &mut wakes) {
                Offered::Sent => (tally.taken, tally.sent) = (tally.taken + 1, tally.sent + 1),
                Offered::Logged => tally.taken += 1,
                Offered::Queued { dropped } => {
                    tally.taken += 1;
                    self.counters.queued.add(1);
                    self.counters.evicted.add(dropped);
                }
                Offered::Crowded => crowded.push(mailbox.connection),
                Offered::Dropped => tally.refused += 1,
                Offered::TooLarge => (tally.refused, tally.too_large) = (tally.refused + 1, true),
                Offered::Overflowed => (tally.refused, overflowed) = (tally.refused + 1, overflowed + 1),
                Offered::Refused => {}
            }
        }
        let mut emptied = Vec::new();
        if overflowed > 0 {
            let mut registry = self.write();
            registry.set_connections(&user.id, open(&mailboxes));
            emptied = registry.take_emptied();
            self.counters.overflowed.add(overflowed);
        }
        drop(mailboxes);
        wakes.into_iter().for_each(Waker::wake);
        self.unwatch(&emptied);
        crowded
    }

    /// Counts what was sent since it was counted last.
    pub(crate) fn count_sent(&self, tally: &mut Tally) {
        self.counters.sent.add(std::mem::take(&mut tally.sent));
    }

    /// Waits until it is known of all mailboxes of a user that are full whether their clients read.
    pub(crate) async fn until_clear(&self, user: &User<U>) {
        loop {
            let mut moved = pin!(user.moved.notified());
            moved.as_mut().enable();
            if !user.lock().iter().any(Mailbox::is_crowded) {
                return;
            }
            moved.await;
        }
    }

    /// Sends a message to the connections that are here, of those in a room or of all, and to other nodes.
    pub(crate) async fn send_to_many(&self, room: Option<&str>, except: Vec<U>, message: Message) -> Reach {
        let message = PreparedMessage::new(message);
        let here = self.fan_out(room, &except, &message).await;
        let others = if self.config.is_shared {
            let room = room.map(str::to_owned);
            let packet = Packet { room, except, message: message.message().clone() };
            let engine = &self.config.engine;
            let published = ask(async || engine.publish(packet).await).await;
            published.inspect_err(|error| self.failed(error))
        } else {
            Ok(0)
        };
        Reach { here, others }
    }

    pub(crate) async fn fan_out(&self, room: Option<&str>, except: &[U], message: &PreparedMessage) -> usize {
        let audience = self.read().audience(room);
        let mut tally = Tally::default();
        let mut crowded = Vec::new();
        for user in audience.iter().filter(|user| !except.contains(&user.id)) {
            let waiting = self.offer(user, message, None, &mut tally);
            if !waiting.is_empty() {
                crowded.push((user, waiting));
            }
        }
        self.offer_again(message, crowded, &mut tally).await;
        tally.taken
    }

    /// Offers a message to connections that were full, when it is known of each whether its client reads. Nobody else is left.
    pub(crate) async fn offer_again(
        &self,
        message: &PreparedMessage,
        crowded: Vec<(&Arc<User<U>>, Vec<u64>)>,
        tally: &mut Tally,
    ) {
        self.count_sent(tally);
        for (user, waiting) in crowded {
            self.offer_when_clear(user, message, waiting, tally).await;
        }
        self.counters.dropped.add(tally.refused);
    }

    /// Closes the connections of a user that are here. Returns how many there were.
    pub(crate) fn disconnect(&self, id: &U, frame: &CloseFrame, upto: Option<u64>) -> usize {
        let Some(user) = self.read().get(id) else { return 0 };
        let closed = self.change(&user, |mailboxes, wakes| {
            let closed = mailboxes.iter_mut().map(|mailbox| match upto {
                None => mailbox.close(frame.clone(), wakes),
                Some(upto) => mailbox.close_upto(upto, frame, wakes),
            });
            closed.filter(|closed| *closed).count()
        });
        user.moved.notify_waiters();
        self.counters.disconnected.add(closed);
        closed
    }

    /// The connections of a user with earlier logins go for that of `login`. Returns how many there were.
    pub(crate) fn replace(&self, user: &User<U>, login: u64) -> usize {
        let frame = CloseFrame::new(close_code::REPLACED, "replaced by a newer connection");
        let replaced = self.change(user, |mailboxes, wakes| {
            let earlier = mailboxes.iter_mut();
            earlier
                .filter_map(|it| it.close_upto(login.saturating_sub(1), &frame, wakes).then_some(()))
                .count()
        });
        user.moved.notify_waiters();
        self.counters.replaced.add(replaced);
        replaced
    }

    /// A connection takes no more messages; what is queued is sent.
    pub(crate) fn finish(&self, user: &User<U>, connection: u64) {
        self.change(user, |mailboxes, wakes| find(mailboxes, connection).map(|it| it.finish(wakes)));
        user.moved.notify_waiters();
    }

    /// The application says that a client has got everything up to this message.
    pub(crate) fn confirm(&self, user: &User<U>, connection: u64, upto: u64) {
        self.change(user, |mailboxes, wakes| find(mailboxes, connection).map(|it| it.confirm(upto, wakes)));
    }

    /// The log or the backplane failed.
    pub(crate) fn failed(&self, error: &LogError) {
        self.counters.failed.add(1);
        tracing::error!(error = error as &dyn std::error::Error, "the log failed");
    }
}

/// What became of a message that was offered to connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) taken: usize,
    pub(crate) refused: usize,
    /// How many connections have it that are not counted yet: that is done for all at once, as it is one figure for the hub.
    sent: usize,
    too_large: bool,
}

impl Tally {
    /// What became of it, if it was for a user whose hub keeps none.
    pub(crate) fn delivery(&self) -> Delivery {
        match *self {
            Self { taken: 0, too_large: true, .. } => Delivery::Dropped(DropReason::TooLarge),
            Self { taken: 0, refused: 0, .. } => Delivery::Dropped(DropReason::Offline),
            Self { taken: 0, .. } => Delivery::Dropped(DropReason::Overflow),
            Self { taken, .. } => Delivery::Sent(taken),
        }
    }
}
