//! What the driver and the user's halves share: the connection, and who waits for it, under one lock.
//!
//! The handler runs inside of the driver's task, so the lock is nearly always free. It is never held over I/O, over a call
//! of the handler, or while code of others runs: wakers are called, payloads are dropped, the observer and the log are told
//! when it is free again. So all of them may use the connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_task::ArcWake;
#[cfg(not(all(test, shuttle)))]
pub(super) use parking_lot::{Mutex, MutexGuard};
#[cfg(all(test, shuttle))]
pub(super) use shuttle_parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::proto::{Connection, Effects, Notice, Outgoing};
use super::waiters::{Event, Place, Waiters, Wakes};
#[cfg(feature = "deflate")]
use crate::config::Deflate;
use crate::config::{ConnectionConfig, Negotiated};
use crate::error::{Error, TrySendError};
use crate::message::Message;
use crate::observer::ConnectionInfo;
use crate::protocol::Role;
use crate::tracker::Registration;

/// How much room a message is taken to need whose size is not known yet, in bytes.
const UNKNOWN_SIZE: usize = 1024;

/// A connection, as seen from all sides. It is the waker of its handler, too: see [`ArcWake`].
pub(crate) struct Shared {
    /// On the heap, where it fits into the gaps that the aligned allocations of tokio leave.
    pub(crate) info: Box<ConnectionInfo>,
    pub(crate) config: Arc<ConnectionConfig>,
    /// How messages are compressed, if they are.
    #[cfg(feature = "deflate")]
    deflate: Option<Box<Deflate>>,
    state: Mutex<State>,
}

/// What is under the lock.
pub(super) struct State {
    pub(super) connection: Connection,
    pub(super) waiters: Waiters,
    /// That of the driver. It is here because tokio rounds the size of a task up to a multiple of 128 bytes.
    pub(super) registration: Option<Registration>,
}

/// Wakes the handler: has the driver poll it, in its next round if it is at work, else in a turn of its own.
impl ArcWake for Shared {
    fn wake_by_ref(this: &Arc<Self>) {
        this.change(|state| state.waiters.handler_turn = true);
    }
}

impl Shared {
    /// A connection from which `read` was already read.
    pub(crate) fn new(
        role: Role,
        info: ConnectionInfo,
        config: Arc<ConnectionConfig>,
        negotiated: Negotiated,
        read: &[u8],
    ) -> Arc<Self> {
        let now = Instant::now().into_std();
        let connection = Connection::new(role, Arc::clone(&config), negotiated, read, now);
        Arc::new(Self {
            info: Box::new(info),
            config,
            #[cfg(feature = "deflate")]
            deflate: negotiated.deflate.map(Box::new),
            state: Mutex::new(State { connection, waiters: Waiters::default(), registration: None }),
        })
    }

    /// Locks. What is locked is to be given to [`unlock`](Self::unlock), for those who wait.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Unlocks, then wakes those who have what they wait for, and does what else concerns others.
    #[expect(clippy::inline_always, reason = "most often there is nothing to do")]
    #[inline(always)]
    fn unlock(&self, state: MutexGuard<'_, State>) {
        if state.concerns_others() {
            self.unlock_for_others(state);
        }
    }

    /// As [`unlock`](Self::unlock), after a message was queued, which is nearly always for the driver only.
    #[inline]
    fn unlock_sent(&self, mut state: MutexGuard<'_, State>) {
        let State { connection, waiters, .. } = &mut *state;
        if connection.has_effects() || waiters.may_sending_concern_others() {
            return self.unlock(state);
        }
        let driver = waiters.call_driver(connection);
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    #[inline(never)]
    fn unlock_for_others(&self, mut state: MutexGuard<'_, State>) {
        let others = state.for_others();
        drop(state);
        self.notify(others);
    }

    /// Wakes those who have what they wait for, and does what else concerns others. The lock must be free.
    pub(super) fn notify(&self, (wakes, effects): (Wakes, Option<Effects>)) {
        wakes.run();
        let Some(effects) = effects else { return };
        for notice in effects.notices {
            self.observe(notice);
        }
        for error in effects.failures {
            tracing::debug!(%error, "connection failed");
        }
        drop_each(effects.dropped);
    }

    /// Does something with the connection.
    #[inline]
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> T {
        self.change(|state| work(&mut state.connection))
    }

    #[inline]
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = work(&mut state);
        self.unlock(state);
        result
    }

    #[inline]
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut state = self.lock();
        // those that waited were observed when they came
        let is_new = !state.connection.has_message();
        let received = state.connection.recv();
        if received.is_pending() {
            let is_handler = std::ptr::eq(cx.waker().data(), std::ptr::from_ref(self).cast());
            state.waiters.wait_for_message((!is_handler).then(|| cx.waker()));
        }
        self.unlock(state);
        if is_new && let Poll::Ready(Some(Ok(message))) = &received {
            self.observe(Notice::Received(message.len()));
        }
        received
    }

    /// Nobody takes messages any more.
    pub(super) fn receiver_dropped(&self) {
        self.change(|state| {
            state.connection.receiver_dropped();
            state.waiters.forget_receiver();
        });
    }

    /// Queues the message when it has its turn; `message` is taken in that moment, and not before.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        message: &mut Option<Outgoing<'_>>,
    ) -> Poll<Result<(), Error>> {
        let Some(outgoing) = message else { return Poll::Ready(Ok(())) };
        let mut state = self.lock();
        if state.connection.is_sendable() && !state.poll_room(place, outgoing.len(), cx.waker()) {
            self.unlock(state);
            return Poll::Pending;
        }
        let is_sent = self.send(state, outgoing);
        *message = None;
        Poll::Ready(if is_sent { Ok(()) } else { Err(Error::Closed) })
    }

    /// Waits until there is room in the outbound buffer.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
    ) -> Poll<Result<(), Error>> {
        self.change(|state| {
            if !state.connection.is_sendable() {
                state.waiters.leave(place);
                Poll::Ready(Err(Error::Closed))
            } else if state.poll_room(place, UNKNOWN_SIZE, cx.waker()) {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
    }

    /// Queues a message whether there is room or not.
    pub(super) fn queue(&self, message: Message) -> Result<(), Error> {
        let is_sent = self.send(self.lock(), &mut Outgoing::Own(message));
        if is_sent { Ok(()) } else { Err(Error::Closed) }
    }

    pub(super) fn try_send(&self, mut message: Outgoing<'_>) -> Result<(), TrySendError> {
        let state = self.lock();
        if state.connection.is_sendable() && !state.waiters.has_room(&state.connection) {
            Err(TrySendError::Full(message.into_message()))
        } else if self.send(state, &mut message) {
            Ok(())
        } else {
            Err(TrySendError::Closed(message.into_message()))
        }
    }

    /// Queues a message, and unlocks. Says whether it did, which it does not once the connection is closed.
    #[inline]
    fn send(&self, mut state: MutexGuard<'_, State>, message: &mut Outgoing<'_>) -> bool {
        let bytes = message.len();
        #[cfg(feature = "deflate")]
        let compressed = match &self.deflate {
            // that takes its time: others may want to send, or to close
            Some(deflate) if bytes >= deflate.compression.threshold => {
                MutexGuard::unlocked(&mut state, || message.compressed(**deflate))
            }
            _ => None,
        };
        #[cfg(not(feature = "deflate"))]
        let compressed = None;
        let is_sent = state.connection.is_sendable();
        match compressed {
            _ if !is_sent => {}
            Some(frame) => state.connection.send_frame(frame),
            None => state.connection.send(message),
        }
        self.unlock_sent(state);
        if is_sent {
            self.observe(Notice::Sent(bytes));
        }
        is_sent
    }

    /// Asks whether something has happened, and if not, waits for the event that tells.
    pub(super) fn poll_event<T>(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        event: Event,
        poll: impl FnOnce(&mut Connection) -> Poll<T>,
    ) -> Poll<T> {
        self.change(|State { connection, waiters, .. }| {
            let answer = poll(connection);
            if answer.is_pending() {
                waiters.wait_for(event, place, cx.waker());
            } else {
                waiters.leave(place);
            }
            answer
        })
    }

    /// One who waited does not any more.
    #[inline]
    pub(super) fn forget(&self, place: &mut Option<Place>) {
        if place.is_some() {
            self.change(|state| state.waiters.leave(place));
        }
    }

    #[inline]
    fn observe(&self, notice: Notice) {
        self.config.observe(|observer| match notice {
            Notice::Received(bytes) => observer.on_message_received(self.info.id, bytes),
            Notice::Sent(bytes) => observer.on_message_sent(self.info.id, bytes),
            Notice::Pong(round_trip) => observer.on_pong(self.info.id, round_trip),
        });
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.info.id)
            .field("protocol", &self.info.protocol)
            .field("is_closed", &!self.with(|connection| connection.is_sendable()))
            .finish_non_exhaustive()
    }
}

/// Drops values that others made, and which may run their code. A panic in it is theirs: it is logged, and goes no further.
pub(super) fn drop_each<T>(values: Vec<T>) {
    for value in values {
        if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
            tracing::error!("the owner of a payload panicked when it was dropped");
        }
    }
}

impl State {
    /// Whether one who wants to send that many bytes has its turn. If not, it waits for that.
    #[expect(clippy::inline_always, reason = "most often there is room, and nothing else to do")]
    #[inline(always)]
    fn poll_room(&mut self, place: &mut Option<Place>, size: usize, waker: &Waker) -> bool {
        place.is_none() && self.waiters.has_room(&self.connection)
            || self.waiters.poll_room(place, size as u64, waker)
    }

    /// Whether there is something to do outside of the lock.
    #[inline]
    pub(super) fn concerns_others(&self) -> bool {
        self.waiters.is_anyone_ready(&self.connection) || self.connection.has_effects()
    }

    /// Takes what there is to do outside of the lock.
    pub(super) fn for_others(&mut self) -> (Wakes, Option<Effects>) {
        let Self { connection, waiters, .. } = self;
        (waiters.collect(connection), connection.has_effects().then(|| connection.take_effects()))
    }
}
