//! The tasks that wait for something on a connection.
//!
//! Before the lock is released, each task that waits is compared with the state of the connection, and is woken if it can go
//! on. So no operation can forget to wake a task. Senders go on in the order in which they came. A sender that is woken has
//! the room that its message needs reserved for it, and the next one is woken only if there is more room.

use std::task::Waker;

use slab::Slab;

use super::line::{Line, key};
use super::proto::{Connection, Milestones};

/// The wakers of those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    driver: Option<Waker>,
    /// The driver looks at everything before it sleeps: it need not be woken.
    pub(super) is_driver_awake: bool,
    /// The handler, which runs in the driver's task, was woken since it was last polled.
    pub(super) handler_turn: bool,
    is_receiver_waiting: bool,
    /// The receiver's waker; `None` if that is the handler's, as most often.
    receiver: Option<Box<Waker>>,
    /// `None` while there are none, as most of the time.
    others: Option<Box<Others>>,
    /// What is to be known of them after each step of the connection, without a look at their memory.
    summary: Summary,
    /// How far the connection was when those who wait for events were last looked at.
    seen: Milestones,
}

/// What there is in [`Others`], as bits.
#[derive(Clone, Copy, Debug, Default)]
struct Summary(u8);

impl Summary {
    /// Senders that wait, or were called and have not sent yet.
    const SENDERS: u8 = 1;
    /// Events that are waited for.
    const EVENTS: u8 = 2;
    /// What else is to be compared with the connection: senders that wait, a byte that is waited for, wakers to be dropped.
    const URGENT: u8 = 4;
    /// Something has changed since the driver slept: memory may be to be given back.
    const UNTIDY: u8 = 8;

    #[inline]
    fn has(self, any_of: u8) -> bool {
        self.0 & any_of != 0
    }
}

#[derive(Debug, Default)]
struct Others {
    /// Those who wait for room in the outbound buffer, and how much each needs. They are called when it is reserved for them.
    senders: Line,
    /// What others wait for, and by which waker; without one that was called.
    events: Slab<(Event, Option<Waker>)>,
    /// Room that is reserved for senders that were called.
    reserved: u64,
    /// The first byte for which somebody waits. Nearly every turn writes, and few wait for that.
    flush: Option<u64>,
    /// Wakers of those who do not wait any more, to be dropped when the lock is free: that may run code of their owners.
    retired: Vec<Waker>,
}

/// What one who waits is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The transport took this byte.
    Written(u64),
    /// The answer to the ping of this number.
    Pong(u64),
    /// The answer to our Close frame.
    Close,
    /// The end of the connection.
    End,
}

/// A place among those who wait, by its key. Futures hold one, so it takes no more than it needs, even where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Sender(u32),
    Event(u32),
}

/// Wakers to be called, or dropped, when the lock is free.
#[must_use = "those who wait are to be woken"]
#[derive(Default)]
pub(super) struct Wakes {
    /// Most often there is one: it takes no memory of its own.
    first: Option<Waker>,
    more: Vec<Waker>,
    /// Only dropped.
    retired: Vec<Waker>,
}

impl Wakes {
    pub(super) fn run(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }

    fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.more.push(waker);
        }
    }
}

impl Waiters {
    /// The driver has its turn. Returns whether its waker is a new one.
    pub(super) fn driver_polled(&mut self, waker: &Waker) -> bool {
        self.is_driver_awake = true;
        let is_new = !self.driver.as_ref().is_some_and(|known| known.will_wake(waker));
        if is_new {
            let before = self.driver.replace(waker.clone());
            self.retire(before);
        }
        is_new
    }

    /// The driver has looked at everything, and sleeps.
    pub(super) fn driver_sleeps(&mut self) {
        self.is_driver_awake = false;
        if self.summary.has(Summary::UNTIDY) {
            self.tidy_up();
        }
    }

    /// Gives back the memory of those who have left.
    #[inline(never)]
    fn tidy_up(&mut self) {
        self.summary.0 &= !Summary::UNTIDY;
        if let Some(others) = &mut self.others {
            others.senders.shrink();
            if others.events.is_empty() {
                others.events = Slab::new();
            }
        }
        self.others.take_if(|others| others.is_empty());
    }

    /// Changes those who wait.
    #[inline]
    fn change<T>(&mut self, change: impl FnOnce(&mut Others) -> T) -> T {
        let others = self.others.get_or_insert_default();
        let result = change(others);
        self.summary = others.summary();
        result
    }

    /// The driver is gone. Its waker is dropped, because it would keep the memory of the task while a `Sender` exists.
    pub(super) fn driver_gone(&mut self) {
        let driver = self.driver.take();
        self.retire(driver);
    }

    /// A waker is not needed any more.
    fn retire(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.change(|others| others.retired.push(waker));
        }
    }

    /// The handler is to be polled if it waits for a message, as most often, and one is there. It needs no waker for that.
    #[inline]
    pub(super) fn notice_handler(&mut self, connection: &Connection) {
        if self.is_receiver_ready(connection) && self.is_handler_receiving() {
            self.is_receiver_waiting = false;
            self.handler_turn = true;
        }
    }

    /// Whether the driver's own handler waits for a message.
    #[inline]
    pub(super) fn is_handler_receiving(&self) -> bool {
        self.is_receiver_waiting && self.receiver.is_none()
    }

    /// The receiver waits for a message, or the end. Its waker is `None` if it is the handler's.
    #[inline]
    pub(super) fn wait_for_message(&mut self, waker: Option<&Waker>) {
        self.is_receiver_waiting = true;
        let is_known = match (self.receiver.as_deref(), waker) {
            (Some(known), Some(waker)) => known.will_wake(waker),
            (known, waker) => known.is_none() && waker.is_none(),
        };
        if !is_known {
            self.set_receiver(waker);
        }
    }

    /// The receiver does not wait any more.
    pub(super) fn forget_receiver(&mut self) {
        self.is_receiver_waiting = false;
        self.set_receiver(None);
    }

    fn set_receiver(&mut self, waker: Option<&Waker>) {
        let before = std::mem::replace(&mut self.receiver, waker.cloned().map(Box::new));
        self.retire(before.map(|waker| *waker));
    }

    /// Whether one who wants to send a message of this size, and has a place or found no [room](Self::has_room), has its
    /// turn. If not, it waits for that.
    pub(super) fn poll_room(&mut self, place: &mut Option<Place>, size: u64, waker: &Waker) -> bool {
        self.change(|others| {
            let Some(Place::Sender(key)) = *place else {
                others.leave(place);
                *place = Some(Place::Sender(others.senders.join(waker.clone(), size)));
                return false;
            };
            let has_turn = others.senders.poll(key, waker, &mut others.retired);
            if has_turn {
                others.leave(place);
            }
            has_turn
        })
    }

    /// Whether there is room for one who has not waited: if others wait, it comes behind them.
    #[inline]
    pub(super) fn has_room(&self, connection: &Connection) -> bool {
        connection.outbound_room() > 0 && !self.summary.has(Summary::SENDERS)
    }

    /// Waits for an event, and no longer for another one.
    pub(super) fn wait_for(&mut self, event: Event, place: &mut Option<Place>, waker: &Waker) {
        if let (Some(Place::Event(key)), Some(others)) = (&place, &self.others)
            && let (known, Some(known_waker)) = &others.events[*key as usize]
            && *known == event
            && known_waker.will_wake(waker)
        {
            return;
        }
        self.change(|others| {
            others.leave(place);
            if others.events.capacity() == 0 {
                // most often one waits, and a slab that grows by itself has room for four
                others.events.reserve_exact(1);
            }
            *place = Some(Place::Event(key(others.events.insert((event, Some(waker.clone()))))));
            event.note_end(&mut others.flush);
        });
    }

    /// One who waited does not any more.
    pub(super) fn leave(&mut self, place: &mut Option<Place>) {
        if place.is_some() {
            self.change(|others| others.leave(place));
        }
    }

    /// Whether [`collect`](Self::collect) may find somebody.
    #[inline]
    pub(super) fn is_anyone_ready(&self, connection: &Connection) -> bool {
        self.summary.has(Summary::EVENTS | Summary::URGENT) && self.is_other_ready(connection)
            || self.is_receiver_ready(connection)
            || self.is_driver_ready(connection)
    }

    /// Whether one of the others has what it waits for. Their memory is looked at only if it may be more than a milestone.
    #[inline(never)]
    fn is_other_ready(&self, connection: &Connection) -> bool {
        self.summary.has(Summary::EVENTS) && self.seen != connection.milestones()
            || self.summary.has(Summary::URGENT)
                && self.others.as_ref().is_some_and(|others| others.is_anyone_ready(connection))
    }

    #[inline]
    fn is_receiver_ready(&self, connection: &Connection) -> bool {
        self.is_receiver_waiting && connection.is_receivable()
    }

    #[inline]
    fn is_driver_ready(&self, connection: &Connection) -> bool {
        !self.is_driver_awake && (connection.needs_driver() || self.handler_turn)
    }

    /// Collects the wakers of those who have what they wait for.
    pub(super) fn collect(&mut self, connection: &Connection) -> Wakes {
        let mut wakes = Wakes::default();
        if self.is_receiver_ready(connection) {
            self.is_receiver_waiting = false;
            match &self.receiver {
                Some(receiver) => wakes.push(Waker::clone(receiver)),
                None => self.handler_turn = true,
            }
        }
        if let Some(others) = &mut self.others {
            wakes.retired = std::mem::take(&mut others.retired);
            others.collect(connection, &mut self.seen, |waker| wakes.push(waker));
            self.summary = others.summary();
        }
        self.call_driver(connection).into_iter().for_each(|driver| wakes.push(driver));
        wakes
    }

    /// Whether somebody besides the driver may have what they wait for when a message was queued.
    #[inline]
    pub(super) fn may_sending_concern_others(&self) -> bool {
        self.summary.has(Summary::URGENT)
    }

    /// The waker of the driver, if that is to be woken.
    #[inline]
    pub(super) fn call_driver(&mut self, connection: &Connection) -> Option<Waker> {
        if !self.is_driver_ready(connection) {
            return None;
        }
        // once is enough until it is polled
        self.is_driver_awake = true;
        self.driver.clone()
    }
}

impl Others {
    fn is_empty(&self) -> bool {
        self.senders.is_empty() && self.events.is_empty() && self.retired.is_empty()
    }

    fn summary(&self) -> Summary {
        let bit = |bit, is_set| if is_set { bit } else { 0 };
        let is_urgent = !self.retired.is_empty() || self.senders.is_anyone_waiting() || self.flush.is_some();
        Summary(
            bit(Summary::SENDERS, !self.senders.is_empty())
                | bit(Summary::EVENTS, !self.events.is_empty())
                | bit(Summary::URGENT, is_urgent)
                | Summary::UNTIDY,
        )
    }

    /// Whether one has what it waits for, and that is not a milestone.
    fn is_anyone_ready(&self, connection: &Connection) -> bool {
        !self.retired.is_empty()
            || self.senders.is_anyone_waiting() && self.lets_more_in(connection)
            || self.is_flushed(connection)
    }

    /// Whether a byte is written that is waited for.
    fn is_flushed(&self, connection: &Connection) -> bool {
        self.flush.is_some_and(|end| connection.poll_flushed(end).is_ready())
    }

    /// Whether one more sender has its turn: there is room, or nothing can be sent any more.
    fn lets_more_in(&self, connection: &Connection) -> bool {
        self.reserved < connection.outbound_room() || !connection.is_sendable()
    }

    fn leave(&mut self, place: &mut Option<Place>) {
        let waker = match place.take() {
            Some(Place::Sender(key)) => {
                let (size, waker) = self.senders.leave(key);
                self.reserved -= if waker.is_none() { size } else { 0 };
                waker
            }
            Some(Place::Event(key)) => self.events.remove(key as usize).1,
            None => None,
        };
        self.retired.extend(waker);
    }

    fn collect(&mut self, connection: &Connection, seen: &mut Milestones, mut wake: impl FnMut(Waker)) {
        while self.lets_more_in(connection)
            && let Some((size, waker)) = self.senders.call_first()
        {
            self.reserved += size;
            wake(waker);
        }
        if *seen != connection.milestones() || self.is_flushed(connection) {
            *seen = connection.milestones();
            self.flush = None;
            for (_, (event, waker)) in &mut self.events {
                if event.has_happened(connection) {
                    waker.take().into_iter().for_each(&mut wake);
                } else {
                    event.note_end(&mut self.flush);
                }
            }
        }
    }
}

impl Event {
    /// Notes the byte that is waited for, if it is the first one.
    fn note_end(self, first: &mut Option<u64>) {
        if let Self::Written(end) = self {
            *first = Some(first.map_or(end, |first| first.min(end)));
        }
    }

    fn has_happened(self, connection: &Connection) -> bool {
        match self {
            Self::Written(end) => connection.poll_flushed(end).is_ready(),
            Self::Pong(id) => connection.poll_pong(id).is_ready(),
            Self::Close => connection.is_answered() || connection.is_over(),
            Self::End => connection.is_over(),
        }
    }
}
