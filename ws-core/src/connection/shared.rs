//! What the driver and the user's halves share: the connection, and who waits for it, under one lock.
//!
//! The handler runs inside of the driver's task, so the lock is nearly always free. It is never held over I/O, over a call
//! of the handler, or while code of others runs: when [`Locked`] lets go of it, wakers are called, payloads are dropped and
//! the observer is told.

#[cfg(feature = "deflate")]
use std::borrow::Cow;
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
#[cfg(feature = "deflate")]
use crate::protocol::Frame;
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
        Locked { shared: self, state: Some(self.guard()) }
    }

    #[inline]
    fn guard(&self) -> MutexGuard<'_, State> {
        // no code that may panic runs while the lock is held, except for allocation
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks, then does what concerns others. [`Locked`] does it by itself.
    #[inline]
    fn let_go(&self, state: MutexGuard<'_, State>) {
        if state.concerns_others() {
            self.let_go_with_effects(state);
        }
    }

    #[inline(never)]
    fn let_go_with_effects(&self, mut state: MutexGuard<'_, State>) {
        let State { connection, waiters } = &mut *state;
        let wakes = waiters.collect(connection);
        let effects = connection.take_effects();
        drop(state);
        wakes.run();
        let Some(effects) = effects else { return };
        let Effects { notices, dropped } = *effects;
        for notice in notices {
            self.observe(notice);
        }
        drop_each(dropped);
    }

    #[inline]
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut state = self.guard();
        let State { connection, waiters } = &mut *state;
        // those that waited were observed when they came
        let is_new = !connection.has_message();
        let received = connection.recv();
        if received.is_pending() {
            waiters.wait_for_message(cx.waker());
        }
        self.let_go(state);
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
        let mut state = self.guard();
        let State { connection, waiters } = &mut *state;
        if place.is_some() || !waiters.has_room(connection) {
            let size = message.as_ref().map_or(0, Outgoing::len);
            if connection.is_sendable() && !waiters.poll_room(place, size as u64, cx.waker()) {
                self.let_go(state);
                return Poll::Pending;
            }
        }
        Poll::Ready(match message.take() {
            Some(message) => self.send(state, message).map_err(|_| Error::Closed),
            None => Ok(()),
        })
    }

    /// Queues a message, unless the connection is closed: then gives it back.
    #[expect(clippy::inline_always, reason = "the message is moved less: a tenth of what a small one takes")]
    #[inline(always)]
    fn send<'s, 'a>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        message: Outgoing<'a>,
    ) -> Result<(), Outgoing<'a>> {
        let bytes = message.len();
        #[cfg(feature = "deflate")]
        if let Some(deflate) = self.negotiated.deflate
            && bytes >= deflate.compression.threshold
        {
            // that takes its time: others may want to send, or to close
            drop(state);
            let compressed = message.compressed(deflate);
            state = self.guard();
            if let Some(frame) = compressed {
                return self.send_compressed(state, message, frame);
            }
        }
        if !state.connection.is_sendable() {
            self.let_go(state);
            return Err(message);
        }
        let copied: Option<Bytes> = state.connection.send(message);
        self.let_go(state);
        drop(copied);
        self.observe(Notice::Sent(bytes));
        Ok(())
    }

    /// Queues a compressed message, unless the connection is closed: then gives it back.
    #[cfg(feature = "deflate")]
    fn send_compressed<'a>(
        &self,
        mut state: MutexGuard<'_, State>,
        message: Outgoing<'a>,
        frame: Cow<'a, Frame>,
    ) -> Result<(), Outgoing<'a>> {
        let is_sendable = state.connection.is_sendable();
        if is_sendable {
            state.connection.send_frame(frame);
        }
        self.let_go(state);
        if !is_sendable {
            return Err(message);
        }
        self.observe(Notice::Sent(message.len()));
        Ok(())
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
        self.send(self.guard(), Outgoing::Own(message)).map_err(|_| Error::Closed)
    }

    pub(super) fn try_send(&self, message: Outgoing<'_>) -> Result<(), TrySendError> {
        let state = self.guard();
        if state.connection.is_sendable() && !state.waiters.has_room(&state.connection) {
            drop(state);
            return Err(TrySendError::Full(message.into_message()));
        }
        self.send(state, message).map_err(|message| TrySendError::Closed(message.into_message()))
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
        if place.is_some() {
            self.lock().leave(place);
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

impl State {
    /// Whether there is something to do outside of the lock.
    #[inline]
    fn concerns_others(&self) -> bool {
        self.waiters.is_anyone_ready(&self.connection) || self.connection.has_effects()
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

    /// Does something while the connection is not locked. Those who wait are woken later, when it is let go of for good.
    #[inline]
    pub(super) fn unlocked<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.state = None;
        let result = work();
        self.state = Some(self.shared.guard());
        result
    }

    /// Wakes those who have what they wait for, and does what else concerns others.
    #[inline]
    fn notify(&mut self) {
        if self.state().concerns_others() {
            if let Some(state) = self.state.take() {
                self.shared.let_go(state);
            }
            self.state = Some(self.shared.guard());
        }
    }

    /// Decodes what was read, unless the handler waits for a message and decodes it itself. Says whether it does.
    #[inline]
    pub(super) fn decode_ahead(&mut self) -> bool {
        let State { connection, waiters } = self.state();
        let is_handlers_part = connection.is_between_messages() && waiters.is_handler_receiving();
        if !is_handlers_part {
            connection.decode_ahead();
        }
        is_handlers_part
    }

    /// The driver has its turn. Says whether its waker is a new one.
    pub(super) fn driver_polled(&mut self, waker: &Waker) -> bool {
        let State { connection, waiters } = self.state();
        connection.begin_turn();
        waiters.driver_polled(waker)
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
        self.state().waiters.driver_gone();
    }

    /// Whether the handler is to be polled, since the last call.
    #[inline]
    pub(super) fn take_handler_turn(&mut self) -> bool {
        let State { connection, waiters } = self.state();
        waiters.notice_handler(connection);
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
        self.state().waiters.poll_room(place, size as u64, waker)
    }

    fn wait_for(&mut self, event: Event, place: &mut Option<Place>, waker: &Waker) {
        self.state().waiters.wait_for(event, place, waker);
    }

    fn leave(&mut self, place: &mut Option<Place>) {
        self.state().waiters.leave(place);
    }

    fn receiver_dropped(&mut self) {
        let State { connection, waiters } = self.state();
        connection.receiver_dropped();
        waiters.forget_receiver();
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
        if let Some(state) = self.state.take() {
            self.shared.let_go(state);
        }
    }
}
