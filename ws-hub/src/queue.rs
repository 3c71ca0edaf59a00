//! The outbound queue of one connection: bounded by count and by bytes, with a policy for when it is full.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ws_core::PreparedMessage;

/// What happens to a message for which there is no room in a connection's queue.
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
    /// back, and from that decision on nothing more is sent on it: what a client got has no gaps. Messages that wait for
    /// the user, this one too, go to the offline store. The default.
    #[default]
    Disconnect,
    /// The oldest messages that wait go, until there is room.
    DropOldest,
    /// The message is not queued.
    DropNewest,
}

/// How much may wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
}

impl Limits {
    /// Whether a connection ends when it cannot queue a message for this reason.
    pub(crate) fn disconnects(&self, reason: NotQueued) -> bool {
        self.overflow == Overflow::Disconnect && reason == NotQueued::Full
    }
}

/// A message in the queue of a connection.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: PreparedMessage,
    pub(crate) keep: Keep,
}

/// What becomes of a message that the connection ends before.
#[derive(Clone, Debug)]
pub(crate) enum Keep {
    /// It was for those who are there.
    Drop,
    /// It is for the user, so their next connection sends it.
    Store,
    /// The same, and other connections of the user have it queued, too. `true` when one of them has sent it.
    Shared(Arc<AtomicBool>),
}

impl Queued {
    /// Whether the user would not get it if it went with this connection.
    pub(crate) fn is_last_hope(&self) -> bool {
        match &self.keep {
            Keep::Drop => false,
            Keep::Store => true,
            // all copies are made and dropped under the lock of the user, so the count is right
            Keep::Shared(sent) => !sent.load(Ordering::Relaxed) && Arc::strong_count(sent) == 1,
        }
    }
}

/// Why a message is not in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// There is no room for it.
    Full,
    /// There never will be.
    TooLarge,
}

/// Messages that wait for a connection, and behind which of them it is known that they have arrived.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: VecDeque<Queued>,
    bytes: usize,
    /// How many at the front have been sent, and wait to be confirmed.
    sent: usize,
    /// How many have ever been taken away from the front.
    gone: u64,
}

impl Queue {
    /// Appends a message; returns how many older ones went for it.
    pub(crate) fn push(&mut self, item: Queued, limits: &Limits) -> Result<usize, NotQueued> {
        let len = item.message.len();
        if len > limits.bytes {
            return Err(NotQueued::TooLarge);
        }
        let mut dropped = 0;
        while self.items.len() >= limits.messages || self.bytes + len > limits.bytes {
            if limits.overflow != Overflow::DropOldest {
                return Err(NotQueued::Full);
            }
            self.pop();
            dropped += 1;
        }
        self.append(item);
        Ok(dropped)
    }

    /// Appends a message, room or no room.
    pub(crate) fn append(&mut self, item: Queued) {
        self.bytes += item.message.len();
        self.items.push_back(item);
    }

    /// The oldest message that has not been sent.
    pub(crate) fn unsent(&self) -> Option<&Queued> {
        self.items.get(self.sent)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.items.iter()
    }

    /// The oldest message that had not been sent now is.
    pub(crate) fn mark_sent(&mut self) {
        self.sent += 1;
    }

    /// What to [`confirm`](Self::confirm) when all that was sent until now has arrived; `None` if nothing was.
    pub(crate) fn unconfirmed(&self) -> Option<u64> {
        (self.sent > 0).then(|| self.gone + self.sent as u64)
    }

    /// What was sent before has arrived, and waits no longer.
    pub(crate) fn confirm(&mut self, until: u64) {
        while self.gone < until
            && let Some(item) = self.pop()
        {
            if let Keep::Shared(sent) = &item.keep {
                sent.store(true, Ordering::Relaxed);
            }
        }
    }

    fn pop(&mut self) -> Option<Queued> {
        let item = self.items.pop_front()?;
        self.bytes -= item.message.len();
        self.sent = self.sent.saturating_sub(1);
        self.gone += 1;
        if self.items.is_empty() {
            // an idle connection holds no memory for what it once had to send
            self.items = VecDeque::new();
        }
        Some(item)
    }

    /// Takes everything out, oldest first, sent or not.
    pub(crate) fn take(&mut self) -> VecDeque<Queued> {
        self.bytes = 0;
        self.sent = 0;
        self.gone += self.items.len() as u64;
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Queued {
        Queued { message: PreparedMessage::new(text), keep: Keep::Drop }
    }

    fn limits(messages: usize, bytes: usize, overflow: Overflow) -> Limits {
        Limits { messages, bytes, overflow }
    }

    fn texts(queue: &mut Queue) -> Vec<String> {
        let items = queue.take();
        items.iter().map(|item| item.message.message().as_text().unwrap().to_owned()).collect()
    }

    #[test]
    fn it_is_bounded_by_count() {
        let limits = limits(100, usize::MAX, Overflow::Disconnect);
        let mut queue = Queue::default();
        for _ in 0..100 {
            assert_eq!(queue.push(item("x"), &limits), Ok(0));
        }
        assert_eq!(queue.push(item("x"), &limits), Err(NotQueued::Full));
        assert_eq!(queue.push(item(""), &limits), Err(NotQueued::Full));
        queue.mark_sent();
        assert_eq!(queue.push(item("x"), &limits), Err(NotQueued::Full));
        queue.confirm(1);
        assert_eq!(queue.push(item("x"), &limits), Ok(0));
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let limits = limits(100, 10, Overflow::DropNewest);
        let mut queue = Queue::default();
        assert_eq!(queue.push(item("12345678901"), &limits), Err(NotQueued::TooLarge));
        assert_eq!(queue.push(item("1234567890"), &limits), Ok(0));
        assert_eq!(queue.push(item("1"), &limits), Err(NotQueued::Full));
        assert_eq!(queue.push(item(""), &limits), Ok(0));
    }

    #[test]
    fn the_oldest_go_for_the_newest_where_that_is_the_policy() {
        let limits = limits(3, 10, Overflow::DropOldest);
        let mut queue = Queue::default();
        for text in ["a", "b", "c"] {
            assert_eq!(queue.push(item(text), &limits), Ok(0));
        }
        assert_eq!(queue.push(item("d"), &limits), Ok(1));
        assert_eq!(queue.push(item("123456789"), &limits), Ok(2));
        assert_eq!(texts(&mut queue), ["d", "123456789"]);
    }

    #[test]
    fn of_several_copies_the_last_one_is_kept_unless_one_has_left() {
        let copies = |confirmed: bool| {
            let flag = Arc::new(AtomicBool::new(false));
            let [mut first, mut second] = [(); 2].map(|()| {
                let mut queue = Queue::default();
                queue.append(Queued { keep: Keep::Shared(Arc::clone(&flag)), ..item("x") });
                queue
            });
            drop(flag);
            if confirmed {
                first.mark_sent();
                first.confirm(first.unconfirmed().unwrap());
            }
            let is_kept = |queue: &mut Queue| queue.take().iter().any(Queued::is_last_hope);
            (is_kept(&mut first), is_kept(&mut second))
        };
        assert_eq!(copies(false), (false, true));
        assert_eq!(copies(true), (false, false));
    }

    #[test]
    fn what_is_sent_waits_until_it_is_confirmed() {
        let limits = limits(2, 10, Overflow::DropOldest);
        let mut queue = Queue::default();
        queue.push(item("a"), &limits).unwrap();
        queue.push(item("b"), &limits).unwrap();
        assert_eq!(queue.unconfirmed(), None);
        queue.mark_sent();
        queue.mark_sent();
        let until = queue.unconfirmed().unwrap();
        assert!(queue.unsent().is_none());
        // the oldest one goes, and what comes now is not confirmed with the others
        assert_eq!(queue.push(item("c"), &limits), Ok(1));
        queue.mark_sent();
        queue.confirm(until);
        assert_eq!(texts(&mut queue), ["c"]);
    }
}
