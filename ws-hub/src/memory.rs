//! [`MemoryLog`]: the log in the memory of the process.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
#[cfg(all(test, shuttle))]
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard};
use slab::Slab;
use tokio::time::Instant;
use ws_core::Message;

use crate::key::heap_of_id;
use crate::log::{
    Acknowledge, After, Append, Appended, Continuity, Durability, Entry, Log, LogError, Page, Read,
};
use crate::position::{MessageId, Position};

/// What a message takes besides its length, and a user besides their messages and their id: measured, and rounded up.
const MESSAGE: usize = 128;
const USER: usize = 256;

/// A number that no log reaches. A position that is known and says more is of no log.
const UNREACHED: u64 = u64::MAX / 2;

/// Among how many messages one is found that is sent again, at least.
const REMEMBERED: usize = 64;

/// A time that does not come, in milliseconds: logs that have it are still in the order of their ages.
const FOREVER: u64 = u64::MAX / 4;

/// Logs that may be over and are looked at when a message is appended, at most.
const LOOKS: usize = 64;

/// Keeps messages in the memory of this process, within bounds: a restart loses them.
///
/// | bound | default |
/// |---|---|
/// | [`per_user`](Self::per_user) | 1,000 messages, 1 MiB |
/// | [`in_all`](Self::in_all) | 64 MiB |
/// | [`time_to_live`](Self::time_to_live) | 7 days |
/// | [`history`](Self::history) | 64 messages, 60 seconds |
///
/// When a user has too much, their oldest messages are removed. When all users together have too much, messages are removed
/// in the order in which they expire: first the logs of users who have got everything, which are kept for clients that
/// resume, then the oldest messages of the others. For the bound of all, a message counts as its length and 128 bytes, and a user as 256 bytes and
/// twice the size of their id and of [what it takes of the heap](Self::heap_of_ids).
///
/// ```
/// use std::time::Duration;
/// use ws_hub::{Hub, MemoryLog};
///
/// let log = MemoryLog::new().per_user(100, 256 * 1024).time_to_live(Duration::from_secs(3600));
/// let hub = Hub::<String>::builder().log(log).build();
/// ```
pub struct MemoryLog<U> {
    bounds: Bounds,
    heap_of_ids: Option<HeapOfIds<U>>,
    epoch: Instant,
    contents: Mutex<Contents<U>>,
}

/// How many bytes of the heap an id takes.
type HeapOfIds<U> = Box<dyn Fn(&U) -> usize + Send + Sync>;

#[derive(Clone, Copy, Debug)]
struct Bounds {
    user_messages: usize,
    user_bytes: usize,
    all_bytes: usize,
    /// In milliseconds, as all times here.
    time_to_live: u64,
    history_messages: usize,
    history_time: u64,
}

struct Contents<U> {
    index: HashMap<U, usize>,
    slots: Slab<Slot<U>>,
    /// When which log is to be looked at. There may be more than one entry for a log; it knows which one counts.
    deadlines: BinaryHeap<Reverse<(u64, usize)>>,
    bytes: usize,
    messages: usize,
}

/// The log of one user.
struct Slot<U> {
    user: U,
    /// What the user counts, besides their messages.
    charge: usize,
    entries: VecDeque<Stored>,
    /// The number of the first entry, or of the next one if there is none.
    first: u64,
    /// The id of the message before the first entry.
    before: Option<MessageId>,
    cursor: u64,
    /// The bytes of the payloads.
    bytes: usize,
    /// When the last message was delivered.
    delivered: u64,
    /// The entry of `deadlines` that counts.
    scheduled: u64,
}

struct Stored {
    id: MessageId,
    time: u64,
    message: Message,
}

impl<U> Slot<U> {
    fn new(user: U, charge: usize, known: Option<Position>) -> Self {
        let known = known.filter(|position| position.number < UNREACHED);
        let number = known.map_or(0, |position| position.number);
        Self {
            user,
            charge,
            entries: VecDeque::new(),
            first: number + 1,
            before: known.map(|position| position.id),
            cursor: number,
            bytes: 0,
            delivered: 0,
            scheduled: u64::MAX,
        }
    }

    /// The number of the last message.
    fn top(&self) -> u64 {
        self.first - 1 + self.entries.len() as u64
    }

    fn top_id(&self) -> Option<MessageId> {
        self.entries.back().map_or(self.before, |stored| Some(stored.id))
    }

    fn is_delivered(&self) -> bool {
        self.cursor >= self.top()
    }

    /// When something of it is over.
    fn deadline(&self, bounds: &Bounds) -> u64 {
        match self.entries.front() {
            Some(stored) if !self.is_delivered() => stored.time + bounds.time_to_live,
            _ => self.delivered + bounds.history_time,
        }
    }

    fn push(&mut self, stored: Stored) {
        if self.entries.len() == self.entries.capacity() {
            // one message needs no room for four
            self.entries.reserve_exact(self.entries.len().max(1));
        }
        self.bytes += stored.message.len();
        self.entries.push_back(stored);
    }

    /// The place in `entries` of the message with this number, or of the first one after it.
    fn at(&self, number: u64) -> usize {
        usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.entries.len())
    }

    /// The number after which to read, and whether that is where it was to be.
    fn resolve(&self, after: After) -> (u64, Continuity) {
        let start = self.first - 1;
        match after {
            After::Cursor => (self.cursor.max(start), Continuity::Complete),
            After::Number(number) if number < start => (start, Continuity::Incomplete),
            After::Number(number) => (number, Continuity::Complete),
            After::Position(Position { number, id }) => {
                let known = match number.cmp(&start) {
                    Ordering::Less => None,
                    Ordering::Equal => self.before,
                    Ordering::Greater => self.entries.get(self.at(number)).map(|stored| stored.id),
                };
                if known == Some(id) {
                    (number, Continuity::Complete)
                } else {
                    (self.cursor.max(start), Continuity::Incomplete)
                }
            }
        }
    }

    fn read(&self, after: After, page: Page) -> Read {
        let (after, continuity) = self.resolve(after);
        let mut read = Read::nothing(After::Number(after));
        read.cursor = self.cursor;
        read.continuity = continuity;
        read.top = self.top_id().map(|id| Position::new(self.top(), id));
        let start = self.at(after.saturating_add(1));
        let mut previous =
            if start == 0 { self.before } else { self.entries.get(start - 1).map(|stored| stored.id) };
        let mut bytes = 0;
        for (stored, number) in self.entries.range(start..).zip(after.saturating_add(1)..).take(page.messages)
        {
            bytes += stored.message.len();
            if bytes > page.bytes && !read.entries.is_empty() {
                break;
            }
            read.entries.push(Entry::new(Position::new(number, stored.id), previous, stored.message.clone()));
            previous = Some(stored.id);
        }
        read
    }
}

impl<U: Clone + Eq + Hash> Contents<U> {
    fn slot(&mut self, user: &U, charge: usize, known: Option<Position>) -> usize {
        if let Some(&key) = self.index.get(user) {
            return key;
        }
        let key = self.slots.insert(Slot::new(user.clone(), charge, known));
        self.index.insert(user.clone(), key);
        self.bytes += charge;
        key
    }

    fn forget(&mut self, key: usize) {
        let slot = self.slots.remove(key);
        self.index.remove(&slot.user);
        self.messages -= slot.entries.len();
        self.bytes -= slot.charge + slot.bytes + MESSAGE * slot.entries.len();
        if self.slots.len() < self.slots.capacity() / 4 {
            self.shrink();
        }
    }

    /// Gives back the room of users who are forgotten.
    fn shrink(&mut self) {
        let index = &mut self.index;
        self.slots.compact(|slot, _, to| {
            index.insert(slot.user.clone(), to);
            true
        });
        self.slots.shrink_to_fit();
        self.index.shrink_to_fit();
        self.deadlines = self.slots.iter().map(|(key, slot)| Reverse((slot.scheduled, key))).collect();
    }

    /// Removes the first message of a log. Returns whether it was still to be delivered.
    fn drop_first(&mut self, key: usize) -> bool {
        let slot = &mut self.slots[key];
        let Some(stored) = slot.entries.pop_front() else { return false };
        let len = slot.entries.len();
        if slot.entries.capacity() > 2 * len + 8 {
            slot.entries.shrink_to(len + len / 2);
        }
        slot.bytes -= stored.message.len();
        self.bytes -= stored.message.len() + MESSAGE;
        self.messages -= 1;
        slot.before = Some(stored.id);
        let was_waiting = slot.first > slot.cursor;
        slot.cursor = slot.cursor.max(slot.first);
        slot.first += 1;
        was_waiting
    }

    /// Sees to it that the log is looked at in time.
    fn schedule(&mut self, key: usize, bounds: &Bounds) {
        let slot = &mut self.slots[key];
        let deadline = slot.deadline(bounds);
        if deadline < slot.scheduled {
            slot.scheduled = deadline;
            self.deadlines.push(Reverse((deadline, key)));
        }
        if self.deadlines.len() > 64 + 2 * self.slots.len() {
            let scheduled = self.slots.iter().map(|(key, slot)| Reverse((slot.scheduled, key)));
            self.deadlines = scheduled.collect();
        }
    }

    /// The log that is over first, if that is until `limit`.
    fn next_over(&mut self, limit: u64, bounds: &Bounds) -> Option<usize> {
        while let Some(&Reverse((deadline, key))) = self.deadlines.peek()
            && deadline <= limit
        {
            self.deadlines.pop();
            let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.scheduled == deadline) else {
                continue;
            };
            let actual = slot.deadline(bounds);
            slot.scheduled = actual;
            if actual <= deadline {
                slot.scheduled = u64::MAX;
                return Some(key);
            }
            self.deadlines.push(Reverse((actual, key)));
        }
        None
    }

    /// Removes what is over first, of this log. Returns how many messages were still to be delivered.
    fn remove_some(&mut self, key: usize, bounds: &Bounds) -> usize {
        let was_waiting = !self.slots[key].is_delivered() && self.drop_first(key);
        if self.slots[key].is_delivered() {
            self.forget(key);
        } else {
            self.schedule(key, bounds);
        }
        usize::from(was_waiting)
    }

    /// Messages up to this one are delivered.
    fn deliver(&mut self, key: usize, upto: u64, now: u64, bounds: &Bounds) {
        let slot = &mut self.slots[key];
        slot.cursor = slot.cursor.max(upto.min(slot.top()));
        slot.delivered = now;
        let kept = bounds.history_messages as u64;
        while self.slots[key].cursor + 1 > self.slots[key].first.saturating_add(kept) {
            self.drop_first(key);
        }
        self.schedule(key, bounds);
    }

    fn expire(&mut self, now: u64, looks: usize, bounds: &Bounds) {
        for _ in 0..looks {
            let Some(key) = self.next_over(now, bounds) else { break };
            self.remove_some(key, bounds);
        }
    }

    /// Removes those messages of a user that are too old.
    fn expire_of(&mut self, key: usize, now: u64, bounds: &Bounds) {
        while !self.slots[key].is_delivered()
            && self.slots[key].entries.front().is_some_and(|it| it.time + bounds.time_to_live <= now)
        {
            self.drop_first(key);
        }
    }

    /// Makes what is kept fit the bounds; returns how many messages that were to be delivered went for that.
    fn fit(&mut self, key: usize, bounds: &Bounds) -> usize {
        let mut evicted = 0;
        while self.slots[key].entries.len() > bounds.user_messages
            || self.slots[key].bytes > bounds.user_bytes
        {
            evicted += usize::from(self.drop_first(key));
        }
        self.schedule(key, bounds);
        while self.bytes > bounds.all_bytes
            && let Some(over) = self.next_over(u64::MAX, bounds)
        {
            evicted += self.remove_some(over, bounds);
        }
        evicted
    }
}

impl<U> Default for MemoryLog<U> {
    fn default() -> Self {
        let bounds = Bounds {
            user_messages: 1_000,
            user_bytes: 1024 * 1024,
            all_bytes: 64 * 1024 * 1024,
            time_to_live: millis(Duration::from_secs(7 * 24 * 3600)),
            history_messages: REMEMBERED,
            history_time: millis(Duration::from_secs(60)),
        };
        let contents = Contents {
            index: HashMap::new(),
            slots: Slab::new(),
            deadlines: BinaryHeap::new(),
            bytes: 0,
            messages: 0,
        };
        Self { bounds, heap_of_ids: None, epoch: Instant::now(), contents: Mutex::new(contents) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(FOREVER, |millis| millis.min(FOREVER))
}

impl<U: Clone + Eq + Hash> MemoryLog<U> {
    /// An empty log with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages, and bytes of them, are kept for one user. Default 1,000 and 1 MiB.
    ///
    /// # Panics
    ///
    /// If one of them is 0: a hub that keeps nothing is built `without_log`.
    #[must_use]
    #[track_caller]
    pub fn per_user(mut self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "a log that keeps nothing: use `without_log`");
        self.bounds.user_messages = messages;
        self.bounds.user_bytes = bytes;
        self
    }

    /// How many bytes are kept for all users. Default 64 MiB.
    ///
    /// # Panics
    ///
    /// If it is 0: a hub that keeps nothing is built `without_log`.
    #[must_use]
    #[track_caller]
    pub fn in_all(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a log that keeps nothing: use `without_log`");
        self.bounds.all_bytes = bytes;
        self
    }

    /// How long an undelivered message is kept. `None` keeps it until a bound is reached. Default 7 days.
    ///
    /// # Panics
    ///
    /// If it is zero: a hub that keeps nothing is built `without_log`.
    #[must_use]
    #[track_caller]
    pub fn time_to_live(mut self, time: impl Into<Option<Duration>>) -> Self {
        let time = time.into();
        assert!(time != Some(Duration::ZERO), "a log that keeps nothing: use `without_log`");
        self.bounds.time_to_live = time.map_or(FOREVER, millis);
        self
    }

    /// How many messages are kept after they are delivered, and for how long after the last of them: for clients that come
    /// back and [resume](crate::Hub::attach_after). Default 64 messages, which is also the least, and 60 seconds.
    #[must_use]
    pub fn history(mut self, messages: usize, time: Duration) -> Self {
        self.bounds.history_messages = messages.max(REMEMBERED);
        self.bounds.history_time = millis(time);
        self
    }

    /// How many bytes of the heap an id takes, for the bound [of all](Self::in_all): the log has it twice. By default that is
    /// the length of a `String`, a `Vec<u8>`, a `Box<str>` or an `Arc<str>` and 16 bytes, and nothing for other types.
    ///
    /// ```
    /// use ws_hub::MemoryLog;
    ///
    /// #[derive(Clone, PartialEq, Eq, Hash)]
    /// struct Account {
    ///     tenant: u32,
    ///     name: String,
    /// }
    ///
    /// let log = MemoryLog::new().heap_of_ids(|id: &Account| id.name.len() + 16);
    /// # drop(log);
    /// ```
    #[must_use]
    pub fn heap_of_ids(mut self, bytes: impl Fn(&U) -> usize + Send + Sync + 'static) -> Self {
        self.heap_of_ids = Some(Box::new(bytes));
        self
    }

    /// How many messages there are, for all users, delivered or not.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut contents = self.contents();
        contents.expire(self.now(), usize::MAX, &self.bounds);
        contents.messages
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }

    fn contents(&self) -> MutexGuard<'_, Contents<U>> {
        // each use leaves it whole
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn charge_of(&self, user: &U) -> usize
    where
        U: 'static,
    {
        let heap = self.heap_of_ids.as_ref().map_or_else(|| heap_of_id(user), |heap| heap(user));
        USER + 2 * (size_of::<U>() + heap)
    }

    fn append_one(&self, append: &Append<'_, U>) -> Appended
    where
        U: 'static,
    {
        let (bounds, len, charge) = (&self.bounds, append.message.len(), self.charge_of(append.user));
        if len > bounds.user_bytes || charge + len + MESSAGE > bounds.all_bytes {
            return Appended::TooLarge;
        }
        let now = self.now();
        let mut contents = self.contents();
        contents.expire(now, LOOKS, bounds);
        let key = contents.slot(append.user, charge, append.known);
        let slot = &mut contents.slots[key];
        if append.again
            && let Some(at) = slot.entries.iter().rposition(|stored| stored.id == append.id)
        {
            let previous =
                if at == 0 { slot.before } else { slot.entries.get(at - 1).map(|stored| stored.id) };
            let position = Position::new(slot.first + at as u64, append.id);
            return Appended::Logged { position, previous, evicted: 0 };
        }
        let previous = slot.top_id();
        slot.push(Stored { id: append.id, time: now, message: append.message.clone() });
        let position = Position::new(slot.top(), append.id);
        contents.bytes += len + MESSAGE;
        contents.messages += 1;
        let users = contents.slots.len();
        let evicted = contents.fit(key, bounds);
        // if it is not, the key may not be that of the user any more
        let is_whole = contents.slots.len() == users;
        if let Some(handover) = append.handover.filter(|it| is_whole && it.is_next(position, previous)) {
            contents.deliver(key, position.number, now, bounds);
            handover.is_acknowledged.store(true, Relaxed);
        }
        Appended::Logged { position, previous, evicted }
    }

    fn acknowledge_one(&self, user: &U, upto: u64) {
        let now = self.now();
        let mut contents = self.contents();
        if let Some(&key) = contents.index.get(user) {
            contents.deliver(key, upto, now, &self.bounds);
        }
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Log<U> for MemoryLog<U> {
    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        Box::pin(async move { batch.iter().map(|append| Ok(self.append_one(append))).collect() })
    }

    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        Box::pin(async move {
            let now = self.now();
            let mut contents = self.contents();
            let Some(&key) = contents.index.get(user) else { return Ok(Read::nothing(after)) };
            contents.expire_of(key, now, &self.bounds);
            Ok(contents.slots[key].read(after, page))
        })
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, U>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        Box::pin(async move {
            let acknowledge = |it: &Acknowledge<'_, U>| {
                self.acknowledge_one(it.user, it.upto);
                Ok(())
            };
            batch.iter().map(acknowledge).collect()
        })
    }

    fn give_back<'a>(&'a self, user: &'a U, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move {
            let mut contents = self.contents();
            if let Some(&key) = contents.index.get(user) {
                let slot = &mut contents.slots[key];
                slot.cursor = slot.cursor.min(number.max(slot.first - 1));
                contents.schedule(key, &self.bounds);
            }
            Ok(())
        })
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn append_now(&self, append: &Append<'_, U>) -> Option<Appended> {
        Some(self.append_one(append))
    }

    fn acknowledge_now(&self, acknowledge: &Acknowledge<'_, U>) -> bool {
        self.acknowledge_one(acknowledge.user, acknowledge.upto);
        true
    }
}

impl<U> fmt::Debug for MemoryLog<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
