//! [`RoomLogs`]: the histories of rooms in the memory of the process.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::log::{Continuity, Page};
use crate::position::{MessageId, Position};
use crate::room::{RoomAppend, RoomEntry, RoomHistory, RoomRead};

/// The longest time that something is kept: what is longer is as long as that.
const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) struct RoomLogs<U> {
    rooms: HashMap<Arc<str>, RoomLog<U>>,
    /// When a room is to be looked at: each has one entry.
    deadlines: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
}

struct RoomLog<U> {
    entries: VecDeque<RoomEntry<U>>,
    /// The bytes of their messages.
    bytes: usize,
    /// The number of the first entry.
    first: u64,
    /// The id of the message before it.
    before: Option<MessageId>,
    /// When its time is over.
    over: Instant,
}

impl<U: Clone> RoomLogs<U> {
    pub(crate) fn new() -> Self {
        Self { rooms: HashMap::new(), deadlines: BinaryHeap::new() }
    }

    /// Forgets the rooms whose time is over.
    fn expire(&mut self, now: Instant) {
        while let Some(Reverse((deadline, _))) = self.deadlines.peek()
            && *deadline <= now
            && let Some(Reverse((_, name))) = self.deadlines.pop()
        {
            match self.rooms.get(&name).map(|room| room.over) {
                Some(over) if over > now => self.deadlines.push(Reverse((over, name))),
                _ => drop(self.rooms.remove(&name)),
            }
        }
    }

    pub(crate) fn append(&mut self, append: &RoomAppend<'_, U>) -> RoomEntry<U> {
        let now = Instant::now();
        self.expire(now);
        let over = now + append.history.time().min(EVER);
        let known = self.rooms.get_key_value(append.room).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| {
            let name: Arc<str> = append.room.into();
            self.deadlines.push(Reverse((over, Arc::clone(&name))));
            name
        });
        let new = || RoomLog { entries: VecDeque::new(), bytes: 0, first: 1, before: None, over };
        let room = self.rooms.entry(name).or_insert_with(new);
        room.over = over;
        let (last, previous) = room.top().map_or((0, None), |top| (top.number, Some(top.id)));
        let entry = RoomEntry::new(
            Position::new(last + 1, append.id),
            previous,
            append.except.to_vec(),
            append.message.clone(),
        );
        room.entries.push_back(entry.clone());
        room.bytes += entry.message.len();
        room.fit(append.history);
        entry
    }

    pub(crate) fn read(&self, room: &str, after: Option<Position>, page: Page) -> RoomRead<U> {
        if let Some(room) = self.rooms.get(room).filter(|room| room.over > Instant::now()) {
            return room.read(after, page);
        }
        let continuity = if after.is_none() { Continuity::Complete } else { Continuity::Incomplete };
        RoomRead { entries: Vec::new(), top: None, continuity }
    }
}

impl<U: Clone> RoomLog<U> {
    /// Removes what is too much, but for the last message.
    fn fit(&mut self, history: RoomHistory) {
        while self.entries.len() > 1
            && (self.entries.len() > history.messages() || self.bytes > history.bytes())
            && let Some(gone) = self.entries.pop_front()
        {
            self.bytes -= gone.message.len();
            self.first += 1;
            self.before = Some(gone.position.id);
        }
        if self.entries.capacity() > 2 * self.entries.len() + 8 {
            self.entries.shrink_to(self.entries.len());
        }
    }

    fn top(&self) -> Option<Position> {
        self.entries.back().map(|entry| entry.position)
    }

    /// The place in `entries` of what comes after this position; `None` if something is missing before it.
    fn start(&self, after: Option<Position>) -> Option<usize> {
        let Some(after) = after else { return self.before.is_none().then_some(0) };
        if after.number == self.first - 1 {
            return (self.before == Some(after.id)).then_some(0);
        }
        let at = usize::try_from(after.number.checked_sub(self.first)?).ok()?;
        (self.entries.get(at)?.position == after).then_some(at + 1)
    }

    fn read(&self, after: Option<Position>, page: Page) -> RoomRead<U> {
        let top = self.top();
        let Some(start) = self.start(after) else {
            return RoomRead { entries: Vec::new(), top, continuity: Continuity::Incomplete };
        };
        let mut bytes = 0;
        let fits = |entry: &&RoomEntry<U>| {
            let is_first = bytes == 0;
            bytes += entry.message.len();
            is_first || bytes <= page.bytes
        };
        let entries = self.entries.range(start..).take(page.messages).take_while(fits).cloned().collect();
        RoomRead { entries, top, continuity: Continuity::Complete }
    }
}

#[cfg(test)]
mod tests {
    use ws_core::Message;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_room_keeps_no_more_bytes_than_its_history_says_and_the_last_message() {
        let mut logs = RoomLogs::<u64>::new();
        let history = RoomHistory::new(1_000, Duration::from_secs(60)).within(100);
        let mut append = |length: usize| {
            let message = Message::text("x".repeat(length));
            logs.append(&RoomAppend::new("room", MessageId::random(), &[], &message, history));
            let room = &logs.rooms["room"];
            let bytes: usize = room.entries.iter().map(|entry| entry.message.len()).sum();
            assert_eq!(bytes, room.bytes);
            assert_eq!(room.top().unwrap().number, room.first + room.entries.len() as u64 - 1);
            (room.entries.len(), bytes)
        };
        for count in 1..=10 {
            assert_eq!(append(10), (count, 10 * count));
        }
        assert_eq!(append(10), (10, 100));
        assert_eq!(append(1), (10, 91));
        assert_eq!(append(95), (2, 96), "what is larger makes more room");
        assert_eq!(append(1_000), (1, 1_000), "the last one is kept");
        assert_eq!(append(0), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_are_forgotten_when_their_time_is_over() {
        let mut logs = RoomLogs::<u64>::new();
        let message = Message::text("message");
        let mut append = |room: &str, seconds| {
            let history = RoomHistory::new(3, Duration::from_secs(seconds));
            logs.append(&RoomAppend::new(room, MessageId::random(), &[], &message, history));
            (logs.rooms.len(), logs.deadlines.len())
        };
        for number in 0..100 {
            append(&number.to_string(), 60);
        }
        assert_eq!(append("for ever", u64::MAX), (101, 101));
        tokio::time::advance(Duration::from_secs(30)).await;
        for _ in 0..100 {
            append("0", 60);
        }
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(append("for ever", u64::MAX), (2, 2), "that of room 0 began anew");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(append("for ever", u64::MAX), (1, 1));
        assert_eq!(logs.rooms["for ever"].entries.len(), 3);
    }
}
