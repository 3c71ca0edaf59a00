//! What the driver and the user's halves share: the connection, and who waits for it, under one lock.
//!
//! The handler runs inside of the driver's task, so the lock is nearly always free. It is never held over I/O, over a call
//! of the handler, or while code of others runs: when [`Locked`] lets go of it, wakers are called, payloads are dropped and
//! the observer is told.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::proto::{Connection, Effects, Notice, Outgoing};
use super::waiters::{Event, Place, Waiters};
use crate::close::{CloseFrame, Closed};
use crate::config::{ConnectionConfig, Negotiated};
use crate::error::{Error, TrySendError};
use crate::message::Message;
use crate::observer::ConnectionInfo;
use crate::prepared::PreparedMessage;
use crate::protocol::Role;
use crate::utf8::Utf8Bytes;

/// How much room a message is taken to need whose size is not known yet, in bytes.
const UNKNOWN_SIZE: usize = 1024;

/// A connection, as seen from all sides.
pub(crate) struct Shared {
    pub(crate) info: ConnectionInfo,
    pub(crate) config: Arc<ConnectionConfig>,
    #[cfg(feature = "deflate")]
    negotiated: Negotiated,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    waiters: Waiters,
}

/// The connection, locked. It dereferences to [`Connection`].
pub(super) struct Locked<'a> {
    shared: &'a Shared,
    /// `None` while it is let go of.
    state: Option<MutexGuard<'a, State>>,
    /// Dropped when the lock is free.
    dropped: Option<Waker>,
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
            info,
            config,
            #[cfg(feature = "deflate")]
            negotiated,
            state: Mutex::new(State { connection, waiters: Waiters::default() }),
        })
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { shared: self, state: Some(self.guard()), dropped: None }
    }

    #[inline]
    fn guard(&self) -> MutexGuard<'_, State> {
        // no code that may panic runs while the lock is held, except for allocation
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut connection = self.lock();
        // those that waited were observed when they came
        let is_new = !connection.has_message();
        let received = connection.recv();
        if received.is_pending() {
            connection.wait_for_message(cx.waker());
            return Poll::Pending;
        }
        drop(connection);
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
        let mut connection = self.lock();
        if !connection.is_sendable() {
            return Poll::Ready(Err(Error::Closed));
        }
        if place.is_some() || !connection.has_room() {
            let size = message.as_ref().map_or(0, Outgoing::len);
            if !connection.poll_room(place, size, cx.waker()) {
                return Poll::Pending;
            }
        }
        Poll::Ready(match message.take() {
            Some(message) => connection.send(message).map_err(|_| Error::Closed),
            None => Ok(()),
        })
    }

    /// Waits until there is room in the outbound buffer.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
    ) -> Poll<Result<(), Error>> {
        let mut connection = self.lock();
        if !connection.is_sendable() {
            return Poll::Ready(Err(Error::Closed));
        }
        let has_room = place.is_none() && connection.has_room();
        if has_room || connection.poll_room(place, UNKNOWN_SIZE, cx.waker()) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Queues a message whether there is room or not.
    pub(super) fn queue(&self, message: Message) -> Result<(), Error> {
        self.lock().send(Outgoing::Own(message)).map_err(|_| Error::Closed)
    }

    pub(super) fn try_send(&self, message: Outgoing<'_>) -> Result<(), TrySendError> {
        let connection = self.lock();
        let closed = |message: Outgoing<'_>| TrySendError::Closed(message.into_message());
        if !connection.is_sendable() {
            drop(connection);
            Err(closed(message))
        } else if !connection.has_room() {
            drop(connection);
            Err(TrySendError::Full(message.into_message()))
        } else {
            connection.send(message).map_err(closed)
        }
    }

    /// Where a flush that begins now is over.
    pub(super) fn flush_target(&self) -> u64 {
        self.lock().queued()
    }

    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        target: u64,
    ) -> Poll<Result<(), Error>> {
        let mut connection = self.lock();
        if connection.written() >= target {
            return Poll::Ready(Ok(()));
        }
        if connection.is_over() {
            return Poll::Ready(Err(Error::Closed));
        }
        connection.wait_for(Event::Written(target), place, cx.waker());
        Poll::Pending
    }

    /// From now on this text is answered in place of being received, those too that wait for the receiver.
    pub(super) fn answer_heartbeat(&self, text: Utf8Bytes, answer: PreparedMessage) {
        self.lock().set_heartbeat(text, answer);
    }

    /// Begins the closing handshake, if it has not begun.
    pub(super) fn start_close(&self, frame: CloseFrame) -> Result<(), Error> {
        frame.check()?;
        self.lock().close(Some(frame));
        Ok(())
    }

    /// Waits until the closing handshake is over.
    pub(super) fn poll_close(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
    ) -> Poll<Result<Option<CloseFrame>, Error>> {
        let mut connection = self.lock();
        let answer = connection.poll_close();
        if answer.is_pending() {
            connection.wait_for(Event::Close, place, cx.waker());
        }
        answer
    }

    /// Waits until the connection is over.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, place: &mut Option<Place>) -> Poll<Closed> {
        let mut connection = self.lock();
        let closed = connection.poll_closed();
        if closed.is_pending() {
            connection.wait_for(Event::End, place, cx.waker());
        }
        closed
    }

    pub(super) fn is_closed(&self) -> bool {
        !self.lock().is_sendable()
    }

    pub(super) fn close_frame(&self) -> Option<CloseFrame> {
        self.lock().close_frame()
    }

    /// Queues a ping, and returns its number.
    pub(super) fn start_ping(&self) -> Result<u64, Error> {
        self.lock().ping()
    }

    pub(super) fn poll_pong(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        id: u64,
    ) -> Poll<Result<Duration, Error>> {
        let mut connection = self.lock();
        let pong = connection.poll_pong(id);
        if pong.is_pending() {
            connection.wait_for(Event::Pong(id), place, cx.waker());
        }
        pong
    }

    /// Nobody waits for the answer to this ping any more.
    pub(super) fn forget_ping(&self, id: u64) {
        self.lock().forget_ping(id);
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.lock().latency()
    }

    /// One who waited does not any more.
    #[inline]
    pub(super) fn forget(&self, place: &mut Option<Place>) {
        if let Some(place) = place.take() {
            self.lock().forget(place);
        }
    }

    /// Nobody takes messages any more: they are dropped as they come.
    pub(super) fn receiver_dropped(&self) {
        self.lock().receiver_dropped();
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
            .field("is_closed", &self.is_closed())
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

impl<'a> Locked<'a> {
    #[inline]
    pub(super) fn shared(&self) -> &'a Shared {
        self.shared
    }

    #[inline]
    fn state(&mut self) -> &mut State {
        // it is `None` inside of `unlocked` and `drop` only
        self.state.as_mut().expect("the connection is locked")
    }

    /// Does something while the connection is not locked.
    #[inline]
    pub(super) fn unlocked<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.let_go();
        let result = work();
        self.state = Some(self.shared.guard());
        result
    }

    /// Unlocks, then does what concerns others.
    #[inline]
    fn let_go(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let State { connection, waiters } = &mut *state;
        if waiters.is_anyone_ready(connection) || connection.has_effects() || self.dropped.is_some() {
            self.let_go_with_effects(state);
        }
    }

    fn let_go_with_effects(&mut self, mut state: MutexGuard<'_, State>) {
        let State { connection, waiters } = &mut *state;
        let wakes = waiters.collect(connection);
        let effects = connection.take_effects();
        drop(state);
        wakes.run();
        drop(self.dropped.take());
        let Some(effects) = effects else { return };
        let Effects { notices, dropped } = *effects;
        for notice in notices {
            self.shared.observe(notice);
        }
        drop_each(dropped);
    }

    /// Wakes those who have what they wait for.
    #[inline]
    fn notify(&mut self) {
        let State { connection, waiters } = self.state();
        if waiters.is_anyone_ready(connection) {
            let wakes = waiters.collect(connection);
            self.unlocked(|| wakes.run());
        }
    }

    /// Queues a message, unless the connection is closed: then gives it back.
    #[expect(clippy::inline_always, reason = "the message is moved less: a tenth of what a small one takes")]
    #[inline(always)]
    fn send<'m>(mut self, message: Outgoing<'m>) -> Result<(), Outgoing<'m>> {
        let bytes = message.len();
        #[cfg(feature = "deflate")]
        let compressed = match self.shared.negotiated.deflate {
            // that takes its time: others may want to send, or to close
            Some(deflate) if bytes >= deflate.compression.threshold => {
                self.unlocked(|| message.compressed(deflate))
            }
            _ => None,
        };
        #[cfg(not(feature = "deflate"))]
        let compressed = None;
        if !self.is_sendable() {
            return Err(message);
        }
        let copied: Option<Bytes> = self.state().connection.send(message, compressed);
        let shared = self.shared;
        drop(self);
        drop(copied);
        shared.observe(Notice::Sent(bytes));
        Ok(())
    }

    /// Decodes what was read, unless the handler waits for a message and decodes it itself.
    #[inline]
    pub(super) fn decode_ahead(&mut self) {
        let State { connection, waiters } = self.state();
        if !(connection.is_between_messages() && waiters.is_handler_receiving()) {
            connection.decode_ahead();
        }
    }

    /// The driver has its turn. Says whether its waker is a new one.
    pub(super) fn driver_polled(&mut self, waker: &Waker) -> bool {
        let State { connection, waiters } = self.state();
        connection.begin_turn();
        let (is_new, old) = waiters.driver_polled(waker);
        self.dropped = old;
        is_new
    }

    /// The driver has looked at everything, and sleeps.
    pub(super) fn driver_sleeps(&mut self) {
        let State { connection, waiters } = self.state();
        connection.begin_turn();
        connection.shrink();
        waiters.driver_sleeps();
    }

    /// There is no driver any more.
    pub(super) fn driver_gone(&mut self) {
        self.dropped = self.state().waiters.driver_gone();
    }

    /// Whether the handler is to be polled, since the last call.
    #[inline]
    pub(super) fn take_handler_turn(&mut self) -> bool {
        self.notify();
        self.state().waiters.take_handler_turn()
    }

    /// Whether something has happened that the driver or its handler has not seen.
    #[inline]
    pub(super) fn driver_has_work(&mut self) -> bool {
        self.notify();
        self.needs_driver() || self.state().waiters.is_handlers_turn()
    }

    /// The driver was about to sleep, and does not.
    pub(super) fn driver_stays_awake(&mut self) {
        self.state().waiters.driver_stays_awake();
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.waiters.has_room(&state.connection))
    }

    fn poll_room(&mut self, place: &mut Option<Place>, size: usize, waker: &Waker) -> bool {
        let (has_room, old) = self.state().waiters.poll_room(place, size as u64, waker);
        self.dropped = old;
        has_room
    }

    #[inline]
    fn wait_for_message(&mut self, waker: &Waker) {
        self.dropped = self.state().waiters.wait_for_message(waker);
    }

    fn wait_for(&mut self, event: Event, place: &mut Option<Place>, waker: &Waker) {
        self.dropped = self.state().waiters.wait_for(event, place, waker);
    }

    fn forget(&mut self, place: Place) {
        self.dropped = self.state().waiters.forget(place);
    }

    fn receiver_dropped(&mut self) {
        let State { connection, waiters } = self.state();
        connection.receiver_dropped();
        self.dropped = waiters.forget_receiver();
    }
}

impl Deref for Locked<'_> {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        &self.state.as_ref().expect("the connection is locked").connection
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.state().connection
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.let_go();
    }
}
