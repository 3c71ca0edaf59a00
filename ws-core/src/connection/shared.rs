//! What the driver and the user's halves share: the connection, and who waits for it, under one lock.
//!
//! The handler runs inside of the driver's task, so the lock is nearly always free. It is never held over I/O, over a call
//! of the handler, or while code of others runs: when [`Locked`] lets go of it, wakers are called, payloads are dropped and
//! the observer is told.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[cfg(not(all(test, shuttle)))]
use parking_lot::{Mutex, MutexGuard};
#[cfg(all(test, shuttle))]
use shuttle_parking_lot::{Mutex, MutexGuard};
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
use crate::tracker::{Registration, Signal};

/// How much room a message is taken to need whose size is not known yet, in bytes.
const UNKNOWN_SIZE: usize = 1024;

/// A connection, as seen from all sides.
pub(crate) struct Shared {
    /// On the heap, where it fits into the gaps that the aligned allocations of tokio leave.
    pub(crate) info: Box<ConnectionInfo>,
    pub(crate) config: Arc<ConnectionConfig>,
    /// How messages are compressed, if they are.
    #[cfg(feature = "deflate")]
    deflate: Option<Box<Deflate>>,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    waiters: Waiters,
    /// That of the driver. It is here because tokio rounds the size of a task up to a multiple of 128 bytes.
    registration: Option<Registration>,
}

/// The connection, locked. It dereferences to [`Connection`].
pub(super) struct Locked<'a> {
    shared: &'a Shared,
    state: MutexGuard<'a, State>,
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

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { shared: self, state: self.state.lock() }
    }

    #[inline]
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut state = self.state.lock();
        let State { connection, waiters, .. } = &mut *state;
        // those that waited were observed when they came
        let is_new = !connection.has_message();
        let received = connection.recv();
        if received.is_pending() {
            waiters.wait_for_message(cx.waker());
        }
        self.unlock(state);
        if is_new && let Poll::Ready(Some(Ok(message))) = &received {
            self.observe(Notice::Received(message.len()));
        }
        received
    }

    /// Queues the message when it has its turn; `message` is taken in that moment, and not before.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        message: &mut Option<Outgoing<'_>>,
    ) -> Poll<Result<(), Error>> {
        let Some(outgoing) = message else { return Poll::Ready(Ok(())) };
        let mut state = self.state.lock();
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
        let mut connection = self.lock();
        if !connection.is_sendable() {
            Poll::Ready(Err(Error::Closed))
        } else if connection.state.poll_room(place, UNKNOWN_SIZE, cx.waker()) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Queues a message whether there is room or not.
    pub(super) fn queue(&self, message: Message) -> Result<(), Error> {
        let is_sent = self.send(self.state.lock(), &mut Outgoing::Own(message));
        if is_sent { Ok(()) } else { Err(Error::Closed) }
    }

    pub(super) fn try_send(&self, mut message: Outgoing<'_>) -> Result<(), TrySendError> {
        let state = self.state.lock();
        if state.connection.is_sendable() && !state.has_room() {
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
        self.unlock(state);
        if is_sent {
            self.observe(Notice::Sent(bytes));
        }
        is_sent
    }

    /// As when a [`Locked`] is dropped, and the lock is not taken again.
    #[expect(clippy::inline_always, reason = "most often there is nothing to do")]
    #[inline(always)]
    fn unlock(&self, state: MutexGuard<'_, State>) {
        if state.concerns_others() {
            self.unlock_for_others(state);
        }
    }

    #[inline(never)]
    fn unlock_for_others(&self, mut state: MutexGuard<'_, State>) {
        let (wakes, effects) = state.for_others();
        drop(state);
        self.notify(wakes, effects);
    }

    /// Wakes those who have what they wait for, and does what else concerns others. The connection must not be locked.
    fn notify(&self, wakes: Wakes, effects: Effects) {
        wakes.run();
        for notice in effects.notices {
            self.observe(notice);
        }
        drop_each(effects.dropped);
    }

    /// Asks whether something has happened, and if not, waits for the event that tells.
    pub(super) fn poll_event<T>(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        event: Event,
        poll: impl FnOnce(&mut Connection) -> Poll<T>,
    ) -> Poll<T> {
        let mut connection = self.lock();
        let answer = poll(&mut connection);
        if answer.is_pending() {
            connection.state.waiters.wait_for(event, place, cx.waker());
        }
        answer
    }

    /// One who waited does not any more.
    #[inline]
    pub(super) fn forget(&self, place: &mut Option<Place>) {
        if place.is_some() {
            self.lock().state.waiters.leave(place);
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
            .field("is_closed", &!self.lock().is_sendable())
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
    #[inline]
    fn has_room(&self) -> bool {
        self.waiters.has_room(&self.connection)
    }

    /// Whether one who wants to send that many bytes has its turn. If not, it waits for that.
    #[expect(clippy::inline_always, reason = "most often there is room, and nothing else to do")]
    #[inline(always)]
    fn poll_room(&mut self, place: &mut Option<Place>, size: usize, waker: &Waker) -> bool {
        place.is_none() && self.has_room() || self.waiters.poll_room(place, size as u64, waker)
    }

    /// Whether there is something to do outside of the lock.
    #[inline]
    fn concerns_others(&self) -> bool {
        self.waiters.is_anyone_ready(&self.connection) || self.connection.has_effects()
    }

    /// Takes what there is to do outside of the lock.
    fn for_others(&mut self) -> (Wakes, Effects) {
        let Self { connection, waiters, .. } = self;
        (waiters.collect(connection), connection.take_effects())
    }
}

impl<'a> Locked<'a> {
    #[inline]
    pub(super) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// Does something while the connection is not locked. Those who wait are woken later, when it is let go of for good.
    #[inline]
    pub(super) fn unlocked<T>(&mut self, work: impl FnOnce() -> T) -> T {
        MutexGuard::unlocked(&mut self.state, work)
    }

    /// Wakes those who have what they wait for, and does what else concerns others.
    #[inline]
    fn notify(&mut self) {
        if self.state.concerns_others() {
            self.notify_others();
        }
    }

    #[inline(never)]
    fn notify_others(&mut self) {
        let (wakes, effects) = self.state.for_others();
        let shared = self.shared;
        self.unlocked(|| shared.notify(wakes, effects));
    }

    /// Decodes what was read, unless the handler waits for a message and decodes it itself. Says whether it does.
    #[inline]
    pub(super) fn decode_ahead(&mut self) -> bool {
        let State { connection, waiters, .. } = &mut *self.state;
        let is_handlers_part = connection.is_between_messages() && waiters.is_handler_receiving();
        if !is_handlers_part {
            connection.decode_ahead();
        }
        is_handlers_part
    }

    /// The driver has its turn. Says whether its waker is a new one.
    pub(super) fn driver_polled(&mut self, waker: &Waker) -> bool {
        let State { connection, waiters, .. } = &mut *self.state;
        connection.begin_turn();
        let is_new = waiters.driver_polled(waker);
        if is_new {
            self.with_registration(|registration| registration.set_waker(waker));
        }
        is_new
    }

    pub(super) fn set_registration(&mut self, registration: Option<Registration>) {
        self.state.registration = registration;
    }

    /// Does something with the registration, if there is one, while the connection is not locked.
    pub(super) fn with_registration(&mut self, work: impl FnOnce(&mut Registration)) {
        if let Some(mut registration) = self.state.registration.take() {
            self.unlocked(|| work(&mut registration));
            self.state.registration = Some(registration);
        }
    }

    /// The signal of a drain that has come since the last call.
    pub(super) fn take_signal(&mut self) -> Option<Signal> {
        self.state.registration.as_mut()?.take_signal()
    }

    /// The driver has looked at everything, and sleeps.
    pub(super) fn driver_sleeps(&mut self) {
        let State { connection, waiters, .. } = &mut *self.state;
        connection.begin_turn();
        connection.shrink();
        waiters.driver_sleeps();
    }

    /// There is no driver any more. Returns its registration, to be dropped when the connection is not locked.
    pub(super) fn driver_gone(&mut self) -> Option<Registration> {
        self.state.waiters.driver_gone();
        self.state.registration.take()
    }

    /// Whether the handler is to be polled, since the last call.
    #[inline]
    pub(super) fn take_handler_turn(&mut self) -> bool {
        let State { connection, waiters, .. } = &mut *self.state;
        waiters.notice_handler(connection);
        self.notify();
        mem::take(&mut self.state.waiters.handler_turn)
    }

    /// Whether something has happened that the driver or its handler has not seen.
    #[inline]
    pub(super) fn driver_has_work(&mut self) -> bool {
        self.notify();
        self.needs_driver() || self.state.waiters.handler_turn
    }

    /// The driver was about to sleep, and does not.
    pub(super) fn driver_stays_awake(&mut self) {
        self.state.waiters.is_driver_awake = true;
    }

    pub(super) fn receiver_dropped(&mut self) {
        let State { connection, waiters, .. } = &mut *self.state;
        connection.receiver_dropped();
        waiters.forget_receiver();
    }
}

impl Deref for Locked<'_> {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        &self.state.connection
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.state.connection
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.notify();
    }
}
