//! What the driver and the user's halves share: two queues, what the handler is lent, the phase of the connection, and who
//! waits for what.
//!
//! The handler runs inside the driver's task, so the lock is free nearly always; it is never held over I/O, over a
//! call of the handler, or while a waker that is not the driver's is called.

use std::borrow::Cow;
use std::num::NonZeroUsize;
#[cfg(not(all(test, shuttle)))]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf as _;
#[cfg(all(test, shuttle))]
use shuttle::sync::atomic::AtomicBool;
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard};
use slab::Slab;
use tokio::time::Instant;

use super::input::{FRAME_COST, Input};
use super::queue::Queue;
use crate::close::{CloseCode, CloseFrame, Closed, Side};
#[cfg(feature = "deflate")]
use crate::config::Deflate;
use crate::config::{ConnectionConfig, Limits, Negotiated};
use crate::error::{Error, TrySendError};
use crate::message::Message;
use crate::observer::ConnectionInfo;
use crate::prepared::PreparedMessage;
use crate::protocol::{Encoder, Role};
#[cfg(feature = "deflate")]
use crate::protocol::{Frame, compress};
use crate::utf8::Utf8Bytes;

/// A connection, as seen from all sides.
pub(crate) struct Shared {
    pub(crate) info: ConnectionInfo,
    pub(crate) config: Arc<ConnectionConfig>,
    pub(crate) negotiated: Negotiated,
    pub(super) role: Role,
    state: Mutex<State>,
    /// The driver looks at the state before it sleeps: it need not be woken. It becomes false with the state locked, after
    /// that look.
    driver_awake: AtomicBool,
}

/// How far the connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// The end is known, and answered as soon as what came before it has been taken; messages can still be sent.
    Ending(Box<Ending>),
    /// Our Close frame is queued or sent; nothing can be sent any more.
    Closing,
    /// The transport is gone.
    Over,
}

/// Why the connection ends, before that was answered.
#[derive(Debug)]
pub(super) enum Ending {
    /// The peer's Close frame.
    Peer(Option<CloseFrame>),
    /// The peer broke a rule.
    Failure(CloseFrame, Error),
}

/// What there is to tell of the end.
struct End {
    closed: Closed,
    /// What the peer's Close frame said.
    peer_frame: Option<CloseFrame>,
    /// What `recv` has to say before it says `None`.
    error: Option<Error>,
    /// What `close` has to say.
    close_error: Option<Error>,
}

impl End {
    fn new(by: Side, frame: Option<CloseFrame>) -> Self {
        Self { closed: Closed { by, frame, clean: false }, peer_frame: None, error: None, close_error: None }
    }

    /// Why the closing handshake failed; each of those who wait for it is told, and the first one the cause.
    fn close_error(&mut self) -> Error {
        match &mut self.close_error {
            Some(Error::Disconnected(cause)) => Error::Disconnected(cause.take()),
            Some(Error::Timeout(timeout)) => Error::Timeout(*timeout),
            _ => Error::Closed,
        }
    }
}

pub(super) struct State {
    inbound: Queue,
    /// What has come and is not decoded: the handler, when it waits for nothing else, takes messages from there itself. It
    /// is lent for a turn of the handler's, and what is left goes through the driver's hands.
    pub(super) lent: Input,
    /// How much decoding that turn has time for.
    pub(super) lent_budget: u32,
    /// Whether there is somebody to take messages.
    pub(super) receiver: bool,
    /// Whom to wake for it, while it waits.
    receiver_waker: Option<Waker>,
    receiver_waits: bool,
    /// A message was taken, and the next one not yet asked for: its answer may be under way.
    in_hand: bool,
    heartbeat: Option<Box<Heartbeat>>,

    /// What was queued, and the driver has not yet fetched to write.
    pub(super) outbound: Encoder,
    /// Bytes that were queued, and that the transport took, since the connection opened.
    pub(super) queued: u64,
    pub(super) written: u64,
    /// A message was queued, or taken from what was lent, since the driver looked.
    pub(super) exchanged: bool,

    pub(super) phase: Phase,
    /// The peer's Close frame has come.
    pub(super) peer_closed: bool,
    /// How the connection ended, or is ending. Most do neither at most times, so it is not a part of each.
    end: Option<Box<End>>,
    /// The handler is done, or there was none.
    handler_done: bool,

    pings: Vec<Ping>,
    next_ping: u64,
    /// A ping was queued since the driver looked.
    pub(super) pinged: bool,
    latency: Option<Duration>,

    /// Those who wait for something, whose places are its keys; `None` while there are none, as most of the time.
    waiters: Option<Box<Slab<(Interest, Waker)>>>,
    driver: Option<Waker>,
    /// What the handler waits for has happened, since the driver looked.
    pub(super) handler_turn: bool,
    /// Something was changed for the driver since it looked.
    pub(super) changed: bool,
}

/// What is sent.
pub(super) enum Outgoing<'a> {
    Own(Message),
    /// Other connections send it, too.
    Prepared(&'a PreparedMessage),
}

impl<'a> Outgoing<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Own(message) => message.len(),
            Self::Prepared(prepared) => prepared.len(),
        }
    }

    fn into_message(self) -> Message {
        match self {
            Self::Own(message) => message,
            Self::Prepared(prepared) => prepared.message().clone(),
        }
    }

    fn encode(self, outbound: &mut Encoder) {
        match self {
            Self::Own(message) => outbound.message(message),
            Self::Prepared(prepared) => outbound.frame(Cow::Borrowed(prepared.frame())),
        }
    }

    /// The frame of the compressed message, if that is shorter.
    #[cfg(feature = "deflate")]
    fn compressed(&self, deflate: Deflate) -> Option<Cow<'a, Frame>> {
        match self {
            Self::Own(message) => compress(message, deflate.into()).map(Cow::Owned),
            Self::Prepared(prepared) => prepared.compressed(deflate.into()),
        }
    }
}

/// A text that is answered in place of being received, and the answer.
struct Heartbeat {
    text: Utf8Bytes,
    answer: PreparedMessage,
}

/// A ping under way.
struct Ping {
    id: u64,
    queued: Instant,
    /// Asked for by `ping()`, which takes the answer and removes the entry.
    awaited: bool,
    round_trip: Option<Duration>,
}

/// What one who waits is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Room in the outbound buffer.
    Room,
    /// Bytes written.
    Written,
    /// A pong.
    Pong,
    /// The end of the connection.
    End,
}

/// A place among those who wait. Futures hold one, so it takes no more than it needs, even where there is none.
#[derive(Clone, Copy)]
pub(super) struct Place(NonZeroUsize);

impl Place {
    fn new(key: usize) -> Self {
        Self(NonZeroUsize::MIN.saturating_add(key))
    }

    fn key(self) -> usize {
        self.0.get() - 1
    }
}

/// How many more messages may come in before the receiver takes one, and how many more bytes.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Room {
    pub(super) fn is_full(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    /// A message of so many bytes comes in.
    pub(super) fn fill(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Wakers to call when the lock is free again: of those in other tasks, of whom there are none most often. The handler is
/// in the driver's, which is told by [`State::handler_turn`].
#[derive(Default)]
#[must_use = "those who wait are to be woken"]
pub(super) struct Wakes(Vec<Waker>);

impl Wakes {
    fn push(&mut self, waker: &Waker, driver: Option<&Waker>, handler_turn: &mut bool) {
        if driver.is_some_and(|driver| driver.will_wake(waker)) {
            *handler_turn = true;
        } else {
            self.0.push(waker.clone());
        }
    }

    pub(super) fn wake(self) {
        if !self.0.is_empty() {
            self.0.into_iter().for_each(Waker::wake);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Connection")
            .field("id", &self.info.id)
            .field("protocol", &self.info.protocol)
            .field("phase", &state.phase)
            .field("inbound", &state.inbound.len())
            .field("outbound", &state.buffered())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        role: Role,
        info: ConnectionInfo,
        config: Arc<ConnectionConfig>,
        negotiated: Negotiated,
    ) -> Arc<Self> {
        Arc::new(Self {
            info,
            config,
            negotiated,
            role,
            state: Mutex::new(State::new(role)),
            driver_awake: AtomicBool::new(false),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // no code that may panic runs while the lock is held, but for allocation
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver is polled: others need not wake it.
    pub(super) fn driver_wakes(&self) {
        self.driver_awake.store(true, Ordering::Relaxed);
    }

    /// The driver has looked at everything, and sleeps.
    pub(super) fn driver_sleeps(&self, state: &mut State) {
        self.driver_awake.store(false, Ordering::Relaxed);
        state.rest();
    }

    /// The driver is to look at what has changed.
    fn wake_driver(&self, state: &mut State) {
        state.changed = true;
        // once is enough until it is polled. If it is being polled just now, once too often
        if !self.driver_awake.load(Ordering::Relaxed)
            && let Some(driver) = &state.driver
        {
            self.driver_awake.store(true, Ordering::Relaxed);
            driver.wake_by_ref();
        }
    }

    /// Changes the state for the user, then wakes the driver.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.wake_driver(&mut state);
        result
    }

    /// Lends the handler what has come, if it waits for a message, and nothing stands before that.
    pub(super) fn lend(&self, input: &mut Input, budget: u32) -> bool {
        let mut state = self.lock();
        let lends = state.is_handler_receiving();
        if lends {
            state.receiver_waits = false;
            state.lent = std::mem::take(input);
            state.lent_budget = budget;
        }
        lends
    }

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut state = self.lock();
        if let Some(message) = state.take_lent(self.role, &self.config.limits) {
            drop(state);
            self.config.observe(|observer| observer.on_message_received(self.info.id, message.len()));
            return Poll::Ready(Some(Ok(message)));
        }
        if !state.inbound.is_empty() {
            let was_full = state.room(&self.config).is_full();
            let message = state.inbound.pop();
            state.in_hand = true;
            if was_full {
                // the driver reads on
                self.wake_driver(&mut state);
            }
            return Poll::Ready(message.map(Ok));
        }
        state.in_hand = false;
        if matches!(state.phase, Phase::Ending(_)) {
            drop(state);
            // what came before the end has been taken and answered
            let wakes = self.change(State::settle);
            wakes.wake();
            state = self.lock();
        }
        if let Some(end) = &mut state.end {
            return Poll::Ready(end.error.take().map(Err));
        }
        match &mut state.receiver_waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.receiver_waits = true;
        Poll::Pending
    }

    /// Queues the message when there is room; `message` is taken in that moment, and not before.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        waiter: &mut Option<Place>,
        message: &mut Option<Outgoing<'_>>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        state.check_sendable()?;
        if state.buffered() >= self.config.outbound_bytes as u64 {
            state.wait(Interest::Room, waiter, cx.waker());
            return Poll::Pending;
        }
        if let Some(message) = message.take() {
            self.push_message(state, message).map_err(|_| Error::Closed)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Queues a message, unless the connection is closed: then gives it back.
    #[expect(clippy::inline_always, reason = "the message is moved less: a tenth of what a small one takes")]
    #[inline(always)]
    fn push_message<'a>(
        &self,
        state: MutexGuard<'_, State>,
        message: Outgoing<'a>,
    ) -> Result<(), Outgoing<'a>> {
        let bytes = message.len();
        #[cfg(feature = "deflate")]
        let (state, compressed) = self.compress(state, &message);
        let mut state = state;
        if state.check_sendable().is_err() {
            return Err(message);
        }
        state.push(|outbound| {
            #[cfg(feature = "deflate")]
            if let Some(frame) = compressed {
                return outbound.frame(frame);
            }
            message.encode(outbound);
        });
        state.exchanged = true;
        self.wake_driver(&mut state);
        drop(state);
        self.observe_sent(bytes);
        Ok(())
    }

    /// The message compressed, where that is agreed and worth it. That takes its time, so not under the lock: others may
    /// want to send, or to close.
    #[cfg(feature = "deflate")]
    fn compress<'a, 'b>(
        &'a self,
        state: MutexGuard<'a, State>,
        message: &Outgoing<'b>,
    ) -> (MutexGuard<'a, State>, Option<Cow<'b, Frame>>) {
        match self.negotiated.deflate {
            Some(deflate) if message.len() >= deflate.compression.threshold => {
                drop(state);
                let compressed = message.compressed(deflate);
                (self.lock(), compressed)
            }
            _ => (state, None),
        }
    }

    /// Waits until there is room in the outbound buffer.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        waiter: &mut Option<Place>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        state.check_sendable()?;
        if state.buffered() < self.config.outbound_bytes as u64 {
            return Poll::Ready(Ok(()));
        }
        state.wait(Interest::Room, waiter, cx.waker());
        Poll::Pending
    }

    /// Queues a message whether there is room or not.
    pub(super) fn queue(&self, message: Message) -> Result<(), Error> {
        self.push_message(self.lock(), Outgoing::Own(message)).map_err(|_| Error::Closed)
    }

    pub(super) fn try_send(&self, message: Outgoing<'_>) -> Result<(), TrySendError> {
        let state = self.lock();
        if state.check_sendable().is_err() {
            Err(TrySendError::Closed(message.into_message()))
        } else if state.buffered() >= self.config.outbound_bytes as u64 {
            Err(TrySendError::Full(message.into_message()))
        } else {
            self.push_message(state, message).map_err(|message| TrySendError::Closed(message.into_message()))
        }
    }

    /// Where a flush that begins now is over.
    pub(super) fn flush_target(&self) -> u64 {
        self.lock().queued
    }

    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        waiter: &mut Option<Place>,
        target: u64,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        if state.written >= target {
            return Poll::Ready(Ok(()));
        }
        if matches!(state.phase, Phase::Over) {
            return Poll::Ready(Err(Error::Closed));
        }
        state.wait(Interest::Written, waiter, cx.waker());
        Poll::Pending
    }

    /// From now on this text is answered in place of being received, those too that wait for the receiver.
    pub(super) fn answer_heartbeat(&self, text: Utf8Bytes, answer: PreparedMessage) {
        let bytes = answer.len();
        let (answered, wakes) = self.change(|state| {
            state.heartbeat = Some(Box::new(Heartbeat { text, answer }));
            let mut inbound = std::mem::take(&mut state.inbound);
            let answered = state.answer_heartbeats(&mut inbound, &self.config);
            state.inbound = inbound;
            // it may have been all that came before the end
            (answered, state.settle_if_idle())
        });
        wakes.wake();
        (0..answered).for_each(|_| self.observe_sent(bytes));
    }

    #[inline]
    fn observe_sent(&self, bytes: usize) {
        self.config.observe(|observer| observer.on_message_sent(self.info.id, bytes));
    }

    /// Hands what has come to the receiver, but for heartbeats, which are answered. Returns how much more there is room
    /// for, and whether the handler has something to do.
    pub(super) fn deliver(&self, messages: Queue, wakes: &mut Wakes) -> (Room, bool) {
        let mut state = self.lock();
        let answered = state.deliver(messages, &self.config, wakes);
        let bytes = state.heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.answer.len());
        let room = state.room(&self.config);
        let handler_turn = std::mem::take(&mut state.handler_turn);
        drop(state);
        (0..answered).for_each(|_| self.observe_sent(bytes));
        (room, handler_turn)
    }

    /// Begins the closing handshake, if it has not begun.
    pub(super) fn start_close(&self, frame: CloseFrame) -> Result<(), Error> {
        frame.check()?;
        self.change(|state| state.close(Some(frame))).wake();
        Ok(())
    }

    /// Waits until the closing handshake is over.
    pub(super) fn poll_close(
        &self,
        cx: &mut Context<'_>,
        waiter: &mut Option<Place>,
    ) -> Poll<Result<Option<CloseFrame>, Error>> {
        let mut state = self.lock();
        if state.peer_closed {
            return Poll::Ready(Ok(state.end.as_ref().and_then(|end| end.peer_frame.clone())));
        }
        if matches!(state.phase, Phase::Over) {
            return Poll::Ready(Err(state.end.as_mut().map_or(Error::Closed, |end| end.close_error())));
        }
        state.wait(Interest::End, waiter, cx.waker());
        Poll::Pending
    }

    /// Waits until the connection is over.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, waiter: &mut Option<Place>) -> Poll<Closed> {
        let mut state = self.lock();
        if let (Phase::Over, Some(end)) = (&state.phase, &state.end) {
            return Poll::Ready(end.closed.clone());
        }
        state.wait(Interest::End, waiter, cx.waker());
        Poll::Pending
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().check_sendable().is_err()
    }

    pub(super) fn close_frame(&self) -> Option<CloseFrame> {
        self.lock().end.as_ref().and_then(|end| end.closed.frame.clone())
    }

    /// Queues a ping, and returns its number.
    pub(super) fn start_ping(&self) -> Result<u64, Error> {
        self.change(|state| {
            state.check_sendable()?;
            Ok(state.push_ping(true))
        })
    }

    pub(super) fn poll_pong(
        &self,
        cx: &mut Context<'_>,
        waiter: &mut Option<Place>,
        id: u64,
    ) -> Poll<Result<Duration, Error>> {
        let mut state = self.lock();
        let round_trip = state.pings.iter().find(|ping| ping.id == id).and_then(|ping| ping.round_trip);
        if let Some(round_trip) = round_trip {
            return Poll::Ready(Ok(round_trip));
        }
        if state.end.is_some() {
            return Poll::Ready(Err(Error::Closed));
        }
        state.wait(Interest::Pong, waiter, cx.waker());
        Poll::Pending
    }

    /// Nobody waits for the answer to this ping any more.
    pub(super) fn forget_ping(&self, id: u64) {
        self.lock().pings.retain(|ping| ping.id != id);
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.lock().latency
    }

    /// One who waited does not any more.
    #[inline]
    pub(super) fn forget(&self, waiter: &mut Option<Place>) {
        if let Some(place) = waiter.take() {
            let mut state = self.lock();
            if let Some(waiters) = &mut state.waiters {
                waiters.try_remove(place.key());
            }
        }
    }

    #[cfg(fuzzing)]
    pub(super) fn waiting(&self) -> (usize, usize, u64) {
        let state = self.lock();
        (state.inbound.len(), state.inbound.bytes(), state.buffered())
    }

    /// Nobody takes messages any more: they are dropped as they come.
    pub(super) fn receiver_dropped(&self) {
        let (messages, wakes) = self.change(|state| {
            state.receiver = false;
            state.receiver_waker = None;
            state.in_hand = false;
            let wakes = if state.handler_done {
                state.close(Some(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "")))
            } else {
                state.settle_if_idle()
            };
            (std::mem::take(&mut state.inbound), wakes)
        });
        drop(messages);
        wakes.wake();
    }
}

impl State {
    fn new(role: Role) -> Self {
        Self {
            inbound: Queue::default(),
            lent: Input::default(),
            lent_budget: 0,
            receiver: true,
            receiver_waker: None,
            receiver_waits: false,
            in_hand: false,
            heartbeat: None,
            outbound: Encoder::new(role),
            queued: 0,
            written: 0,
            exchanged: false,
            phase: Phase::Open,
            peer_closed: false,
            end: None,
            handler_done: false,
            pings: Vec::new(),
            next_ping: 0,
            pinged: false,
            latency: None,
            waiters: None,
            driver: None,
            handler_turn: false,
            changed: false,
        }
    }

    /// Bytes that were queued and not yet taken by the transport.
    pub(super) fn buffered(&self) -> u64 {
        self.queued - self.written
    }

    /// How many more messages may wait for the receiver, and how many more bytes: any, if nobody looks at them.
    pub(super) fn room(&self, config: &ConnectionConfig) -> Room {
        if self.receiver || self.heartbeat.is_some() {
            Room {
                messages: config.inbound_messages.saturating_sub(self.inbound.len()),
                bytes: config.inbound_bytes.saturating_sub(self.inbound.bytes()),
            }
        } else {
            Room { messages: usize::MAX, bytes: usize::MAX }
        }
    }

    /// Whether the driver's own handler waits for a message, and would be given the next one as it comes.
    fn is_handler_receiving(&self) -> bool {
        let waker = self.receiver_waker.as_ref().filter(|_| self.receiver_waits);
        waker.zip(self.driver.as_ref()).is_some_and(|(receiver, driver)| driver.will_wake(receiver))
            && self.inbound.is_empty()
            && self.heartbeat.is_none()
            && matches!(self.phase, Phase::Open)
    }

    /// The next message of what was lent.
    fn take_lent(&mut self, role: Role, limits: &Limits) -> Option<Message> {
        if self.lent_budget == 0 || self.heartbeat.is_some() {
            return None;
        }
        let message = self.lent.take_message(role, limits)?;
        self.lent_budget = self.lent_budget.saturating_sub(FRAME_COST);
        self.in_hand = true;
        self.exchanged = true;
        Some(message)
    }

    /// Appends messages for the receiver; returns how many heartbeats among them were answered.
    fn deliver(&mut self, mut messages: Queue, config: &ConnectionConfig, wakes: &mut Wakes) -> usize {
        let answered = self.answer_heartbeats(&mut messages, config);
        if self.receiver && !messages.is_empty() {
            self.inbound.append(messages);
            self.wake_receiver(wakes);
        }
        answered
    }

    /// Takes heartbeats out of `messages`, and answers them; returns how many it answered. To one who does not read the
    /// answers they must not pile up.
    fn answer_heartbeats(&mut self, messages: &mut Queue, config: &ConnectionConfig) -> usize {
        let Some(heartbeat) = self.heartbeat.take() else { return 0 };
        let before = messages.len();
        messages.retain(|message| message.as_text() != Some(heartbeat.text.as_str()));
        let mut answered = 0;
        for _ in messages.len()..before {
            if self.check_sendable().is_ok() && self.buffered() < config.outbound_bytes as u64 {
                self.push(|outbound| outbound.frame(Cow::Borrowed(heartbeat.answer.frame())));
                self.exchanged = true;
                answered += 1;
            }
        }
        self.heartbeat = Some(heartbeat);
        answered
    }

    /// The handler has returned, or there was none. The connection goes on for a receiver that has moved elsewhere.
    pub(super) fn handler_done(&mut self) -> Wakes {
        self.handler_done = true;
        if self.receiver {
            Wakes::default()
        } else {
            self.close(Some(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "")))
        }
    }

    /// The handler returned an error, or panicked.
    pub(super) fn handler_failed(&mut self) -> Wakes {
        self.handler_done = true;
        self.close(Some(CloseFrame::new(CloseCode::INTERNAL_ERROR, "")))
    }

    fn check_sendable(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Open | Phase::Ending(_) => Ok(()),
            Phase::Closing | Phase::Over => Err(Error::Closed),
        }
    }

    /// The transport took so many bytes.
    pub(super) fn wrote(&mut self, bytes: usize, config: &ConnectionConfig, wakes: &mut Wakes) {
        if bytes > 0 {
            self.written += bytes as u64;
            self.wake(Interest::Written, wakes);
            if self.buffered() < config.outbound_bytes as u64 {
                self.wake(Interest::Room, wakes);
            }
        }
    }

    /// Encodes into the outbound buffer, and counts.
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Encoder)) {
        let before = self.outbound.remaining();
        encode(&mut self.outbound);
        self.queued += (self.outbound.remaining() - before) as u64;
    }

    /// Queues a ping of the driver's or the user's, and returns its number.
    pub(super) fn push_ping(&mut self, awaited: bool) -> u64 {
        let id = self.next_ping;
        self.next_ping += 1;
        // of those that nobody awaits, the newest is enough
        self.pings.retain(|ping| ping.awaited);
        self.pings.push(Ping { id, queued: Instant::now(), awaited, round_trip: None });
        self.push(|outbound| outbound.ping(&id.to_be_bytes()));
        self.pinged = true;
        id
    }

    /// Queues a ping of keepalive's.
    pub(super) fn keepalive_ping(&mut self) -> Wakes {
        if self.check_sendable().is_ok() {
            self.push_ping(false);
        }
        Wakes::default()
    }

    /// Queues the answer to a ping with this payload, if there is room for it; says whether there was.
    pub(super) fn answer_ping(&mut self, payload: &[u8], writable: bool, config: &ConnectionConfig) -> bool {
        let has_room = writable && self.buffered() < config.outbound_bytes as u64;
        if has_room && self.check_sendable().is_ok() {
            self.push(|outbound| outbound.pong(payload));
        }
        has_room
    }

    /// A pong answers the ping of this number and those before it (RFC 6455 section 5.5.3); returns the round trip.
    pub(super) fn pong_received(&mut self, payload: &[u8], wakes: &mut Wakes) -> Option<Duration> {
        let id = u64::from_be_bytes(payload.try_into().ok()?);
        if id >= self.next_ping {
            // the answer to none of ours
            return None;
        }
        let now = Instant::now();
        let mut round_trip = None;
        let mut answered = false;
        for ping in self.pings.iter_mut().filter(|ping| ping.id <= id && ping.round_trip.is_none()) {
            let elapsed = now - ping.queued;
            ping.round_trip = Some(elapsed);
            answered = true;
            if ping.id == id {
                round_trip = Some(elapsed);
            }
        }
        if answered {
            self.latency = round_trip.or(self.latency);
            self.pings.retain(|ping| ping.awaited || ping.round_trip.is_none());
            self.wake(Interest::Pong, wakes);
        }
        round_trip
    }

    fn wait(&mut self, interest: Interest, waiter: &mut Option<Place>, waker: &Waker) {
        let waiters = self.waiters.get_or_insert_default();
        match waiter.and_then(|place| waiters.get_mut(place.key())) {
            Some((of, known)) => {
                *of = interest;
                known.clone_from(waker);
            }
            None => *waiter = Some(Place::new(waiters.insert((interest, waker.clone())))),
        }
    }

    pub(super) fn wake(&mut self, interest: Interest, wakes: &mut Wakes) {
        let Some(waiters) = &self.waiters else { return };
        for (_, (of, waker)) in waiters.iter() {
            if *of == interest {
                wakes.push(waker, self.driver.as_ref(), &mut self.handler_turn);
            }
        }
    }

    pub(super) fn wake_receiver(&mut self, wakes: &mut Wakes) {
        if std::mem::take(&mut self.receiver_waits)
            && let Some(waker) = &self.receiver_waker
        {
            wakes.push(waker, self.driver.as_ref(), &mut self.handler_turn);
        }
    }

    fn wake_all(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        self.wake_receiver(&mut wakes);
        for (_, (_, waker)) in self.waiters.iter().flat_map(|waiters| waiters.iter()) {
            wakes.push(waker, self.driver.as_ref(), &mut self.handler_turn);
        }
        wakes
    }

    /// The end is known. It is answered at once if all that came before it has been taken.
    pub(super) fn end(&mut self, ending: Ending) -> Wakes {
        if let Phase::Open = self.phase {
            self.phase = Phase::Ending(Box::new(ending));
        }
        let mut wakes = self.settle_if_idle();
        self.wake_receiver(&mut wakes);
        wakes
    }

    /// The peer's Close frame: the first word of it, or the answer to ours.
    pub(super) fn close_received(&mut self, frame: Option<CloseFrame>) -> Wakes {
        if let Phase::Open = self.phase {
            return self.end(Ending::Peer(frame));
        }
        self.peer_closed = true;
        if let Some(end) = &mut self.end {
            end.peer_frame = frame;
            end.closed.clean = true;
        }
        self.wake_all()
    }

    /// The connection fails here and now, whatever the handler has not taken.
    pub(super) fn fail(&mut self, frame: CloseFrame, error: Error) -> Wakes {
        if let Phase::Open = self.phase {
            self.phase = Phase::Ending(Box::new(Ending::Failure(frame, error)));
        }
        self.settle()
    }

    fn settle_if_idle(&mut self) -> Wakes {
        if matches!(self.phase, Phase::Ending(_)) && self.inbound.is_empty() && !self.in_hand {
            self.settle()
        } else {
            Wakes::default()
        }
    }

    /// Answers the end.
    pub(super) fn settle(&mut self) -> Wakes {
        let ending = match std::mem::replace(&mut self.phase, Phase::Closing) {
            Phase::Ending(ending) => *ending,
            other => {
                self.phase = other;
                return Wakes::default();
            }
        };
        let end = match ending {
            Ending::Peer(frame) => {
                self.push(|outbound| outbound.close(frame.as_ref()));
                self.peer_closed = true;
                let mut end = End::new(Side::Remote, frame.clone());
                end.closed.clean = true;
                end.peer_frame = frame;
                end
            }
            Ending::Failure(frame, error) => {
                self.push(|outbound| outbound.close(Some(&frame)));
                let mut end = End::new(Side::Local, Some(frame));
                end.error = Some(error);
                end
            }
        };
        self.end = Some(Box::new(end));
        self.wake_all()
    }

    /// Begins to close from our side, or answers the peer if it was first.
    pub(super) fn close(&mut self, frame: Option<CloseFrame>) -> Wakes {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Closing;
                self.push(|outbound| outbound.close(frame.as_ref()));
                self.end = Some(Box::new(End::new(Side::Local, frame)));
                self.wake_all()
            }
            Phase::Ending(_) => self.settle(),
            Phase::Closing | Phase::Over => Wakes::default(),
        }
    }

    /// The transport is gone, by whose doing; `error` is why, if that was not in order.
    pub(super) fn over(&mut self, by: Side, error: Option<Error>, role: Role) -> (Wakes, Closed) {
        if matches!(self.phase, Phase::Ending(_)) {
            // what was to be said to the peer cannot be, but the handler learns it
            drop(self.settle());
        }
        let end = self.end.get_or_insert_with(|| Box::new(End::new(by, None)));
        if matches!(self.phase, Phase::Closing) {
            end.close_error = error;
        } else {
            end.error = error;
        }
        let closed = end.closed.clone();
        self.phase = Phase::Over;
        self.outbound = Encoder::new(role);
        self.pings.clear();
        (self.wake_all(), closed)
    }

    /// The driver has a new waker.
    pub(super) fn set_driver(&mut self, waker: &Waker) {
        self.driver = Some(waker.clone());
    }

    /// There is no driver any more: its waker would keep the memory of its task for as long as there is a `Sender`.
    pub(super) fn driver_gone(&mut self) -> Option<Waker> {
        self.driver.take()
    }

    /// Gives back the memory of what is empty.
    fn rest(&mut self) {
        self.inbound.rest();
        if self.waiters.as_ref().is_some_and(|waiters| waiters.is_empty()) {
            self.waiters = None;
        }
        if self.pings.is_empty() && self.pings.capacity() > 0 {
            self.pings = Vec::new();
        }
    }
}
