//! [`Inner`]: what all handles of a hub share.

use std::cell::Cell;
use std::hash::Hash;
use std::iter::repeat_with;
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

use crate::backplane::{Ack, Packet, Sent};
use crate::calls::ask;
use crate::close_code;
use crate::config::Config;
use crate::delivery::{Delivery, DropReason, Reach};
use crate::feed::Feeds;
use crate::log::{Append, Appended, LogError, Read};
use crate::mailbox::{Hands, Mailbox, Offered};
use crate::position::{MessageId, Position};
use crate::registry::Registry;
use crate::stats::Counters;
use crate::task::AbortHandle;
use crate::user::{User, Wakes, find, open};

/// Messages that are appended in one call, for each partition.
const TOGETHER: usize = 128;

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
    pub(crate) message: &'a PreparedMessage,
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

    /// Sends a message to a user: writes it to the log, and offers it to the connections.
    pub(crate) async fn send(
        &self,
        id: &U,
        message_id: Option<MessageId>,
        message: PreparedMessage,
    ) -> Delivery {
        let delivery = if self.config.rules.has_log {
            self.send_logged(id, message_id, message).await
        } else {
            self.send_unlogged(id, &message).await
        };
        self.count_delivery(delivery)
    }

    fn count_delivery(&self, delivery: Delivery) -> Delivery {
        match delivery {
            Delivery::Stored { evicted } => {
                self.counters.stored.add(1);
                self.counters.evicted.add(evicted);
            }
            Delivery::Sent(_) => {}
            Delivery::Unknown | Delivery::Dropped(_) => self.counters.dropped.add(1),
        }
        delivery
    }

    async fn send_logged(&self, id: &U, message_id: Option<MessageId>, message: PreparedMessage) -> Delivery {
        let again = message_id.is_some();
        let content = message.message().clone();
        let append = Append::new(id, message_id.unwrap_or_else(MessageId::random), &content).again(again);
        let user = self.read().get(id);
        if let Some(OfferedNow { sent, here, is_crowded }) = self.send_now(user.as_deref(), &append, message)
        {
            if is_crowded && let Some(user) = &user {
                self.until_clear(user).await;
            }
            return self.delivery(here, sent);
        }
        let before = here(user.as_deref());
        let engine = &self.config.engine;
        let batch = [append];
        let answer = ask(async || {
            let mut answers = engine.append(&batch).await;
            answers.pop().unwrap_or_else(|| Err(LogError::unknown("no answer")))
        });
        self.answered(before, user.as_deref(), answer.await)
    }

    /// Sends a message to each of these users. If the log does not answer at once, it is asked for many of them together.
    pub(crate) async fn send_all(&self, ids: &[U], message: &PreparedMessage) -> Vec<Delivery> {
        let engine = &self.config.engine;
        let mut deliveries = Vec::with_capacity(ids.len());
        if !self.config.rules.has_log || engine.is_immediate() {
            for id in ids {
                deliveries.push(self.send(id, None, message.clone()).await);
            }
            return deliveries;
        }
        let content = message.message();
        for ids in ids.chunks(TOGETHER * engine.partitions().max(1)) {
            let users = ids.iter().map(|id| {
                let user = self.read().get(id);
                (here(user.as_deref()), user)
            });
            let users: Vec<_> = users.collect();
            let appends = ids.iter().map(|id| Append::new(id, MessageId::random(), content));
            let batch: Vec<_> = appends.collect();
            let answers = match ask(async || Ok(engine.append(&batch).await)).await {
                Ok(answers) => answers.into_iter().map(Some).collect(),
                Err(error) => {
                    self.failed(&error);
                    Vec::new()
                }
            };
            let answers = answers.into_iter().chain(repeat_with(|| None));
            deliveries.extend(users.iter().zip(answers).map(|((before, user), answer)| {
                let delivery = answer.map(|answer| self.answered(*before, user.as_deref(), answer));
                self.count_delivery(delivery.unwrap_or(Delivery::Unknown))
            }));
        }
        deliveries
    }

    /// The log has answered an append, before which the user had so many connections here: they may have got the message, and
    /// be gone.
    fn answered(&self, before: usize, user: Option<&User<U>>, answer: Result<Sent, LogError>) -> Delivery {
        match answer {
            Ok(sent) => self.delivery(before.max(here(user)), sent),
            Err(error) => {
                self.failed(&error);
                if error.is_unknown() { Delivery::Unknown } else { Delivery::Dropped(DropReason::Log) }
            }
        }
    }

    /// Appends and offers a message, if the log does that at once.
    fn send_now(
        &self,
        user: Option<&User<U>>,
        append: &Append<'_, U>,
        message: PreparedMessage,
    ) -> Option<OfferedNow> {
        let engine = &self.config.engine;
        let Some(user) = user else {
            let sent = engine.append_now(append)?;
            self.tell_those_who_came(append.user);
            return Some(OfferedNow { sent, here: 0, is_crowded: false });
        };
        // the next message of the user is not appended before this one is offered
        let mut is_left = false;
        let result = self.change(user, |mailboxes, wakes| {
            let sent = engine.append_now(append)?;
            let mut is_crowded = false;
            is_left = mailboxes.is_empty();
            if let Appended::Logged { position, previous, .. } = sent.appended {
                let message = &self.framed(&position, message);
                let logged = Logged { position, previous, message };
                is_crowded = self.offer_logged(&user.id, mailboxes, &logged, wakes);
            }
            // those that it was offered to: when it is read, they may be gone
            Some(OfferedNow { sent, here: open(mailboxes), is_crowded })
        });
        if is_left {
            self.tell_those_who_came(append.user);
        }
        result
    }

    /// A message was appended for a user who had no connection here. One may have come, and read the log before.
    fn tell_those_who_came(&self, user: &U) {
        // in a statement of its own, so that the registry is not locked when the user is
        let user = self.read().get(user);
        if let Some(user) = user {
            self.change(&user, |mailboxes, wakes| mailboxes.iter_mut().for_each(|it| it.resync(wakes)));
        }
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
        let &Logged { position, previous, message } = logged;
        self.with_hands(id, |hands| {
            for mailbox in mailboxes {
                match mailbox.offer_logged(position, previous, message, hands, wakes) {
                    Offered::Crowded => is_crowded = true,
                    Offered::Queued { .. } => self.counters.queued.add(1),
                    _ => {}
                }
            }
        });
        is_crowded
    }

    fn delivery(&self, here: usize, sent: Sent) -> Delivery {
        let Appended::Logged { evicted, .. } = sent.appended else {
            return Delivery::Dropped(DropReason::TooLarge);
        };
        match here + sent.elsewhere {
            0 => Delivery::Stored { evicted },
            connections => {
                self.counters.evicted.add(evicted);
                Delivery::Sent(connections)
            }
        }
    }

    /// Sends a message to a user, whose hub keeps none.
    async fn send_unlogged(&self, id: &U, message: &PreparedMessage) -> Delivery {
        let Some(user) = self.read().get(id) else { return Delivery::Dropped(DropReason::Offline) };
        let tally = self.offer_until_known(&user, message, None).await;
        match tally {
            Tally { taken: 0, too_large: true, .. } => Delivery::Dropped(DropReason::TooLarge),
            Tally { taken: 0, refused: 0, .. } => Delivery::Dropped(DropReason::Offline),
            Tally { taken: 0, .. } => Delivery::Dropped(DropReason::Overflow),
            Tally { taken, .. } => Delivery::Sent(taken),
        }
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
        let mut waiting = self.offer(user, message, only, &mut tally);
        self.count_sent(&mut tally);
        while !waiting.is_empty() {
            self.until_clear(user).await;
            waiting = self.offer(user, message, Some(&waiting), &mut tally);
            self.count_sent(&mut tally);
        }
        tally
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
    fn count_sent(&self, tally: &mut Tally) {
        self.counters.sent.add(std::mem::take(&mut tally.sent));
    }

    /// Waits until it is known of all mailboxes of a user that are full whether their clients read.
    async fn until_clear(&self, user: &User<U>) {
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
        for (user, mut waiting) in crowded {
            while !waiting.is_empty() {
                self.until_clear(user).await;
                waiting = self.offer(user, message, Some(&waiting), tally);
                self.count_sent(tally);
            }
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

/// How many connections of a user messages go to.
fn here<U>(user: Option<&User<U>>) -> usize {
    user.map_or(0, |user| open(&user.lock()))
}

/// A message that was appended and offered at once.
struct OfferedNow {
    sent: Sent,
    /// To how many connections of this hub it went.
    here: usize,
    /// Whether one of them is full whose client may read.
    is_crowded: bool,
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
