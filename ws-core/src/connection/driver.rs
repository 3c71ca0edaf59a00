//! The driver: the task of a connection. It polls the handler, reads, writes, and keeps the time.
//!
//! It goes round until neither the handler nor the I/O makes progress: read what has come, let the handler take it,
//! write all that the handler said in one call. So nothing that is sent waits for anything but the handler's own yield,
//! and what is sent together leaves together.

use std::any::Any;
use std::future::{Future, Ready};
use std::io;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use pin_project::pin_project;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tokio_util::io::{poll_read_buf, poll_write_buf};
use tracing::Span;

use super::input::{FRAME_COST, Input, READ_SIZE};
use super::queue::Queue;
use super::shared::{Ending, Phase, Room, Shared, State, Wakes};
use super::socket::WebSocket;
use super::timers::{Alarm, Due, Timers};
use super::transport::Transport;
use crate::close::{CloseCode, CloseFrame, Side};
use crate::error::{Error, ProtocolError, Timeout};
use crate::handler::Outcome;
use crate::message::Message;
use crate::pool;
use crate::protocol::{Decoder, Encoder, Event, Role};
use crate::tracker::{Registration, Signal};

/// Rounds in one poll, after which the other tasks of the thread have their turn.
const ROUNDS: usize = 16;

/// Bytes read in one poll, over all of its rounds, and [`FRAME_COST`] for each frame. A runtime's thread looks for what has
/// come in for its other connections only after some dozens of polls, so a flood that makes each of them long is felt by all.
const READ_BUDGET: u32 = 64 * 1024;

/// How long bytes are read and dropped after our end of the stream was closed: closing with bytes unread would make
/// the kernel answer with a reset, which can overtake the Close frame.
const LINGER: Duration = Duration::from_secs(1);

/// A connection's task. It is ready when the connection is over and the handler has returned.
#[pin_project]
pub(crate) struct Driver<F, Fut> {
    #[pin]
    handler: Handler<F, Fut>,
    #[pin]
    alarm: Alarm,
    link: Link,
}

/// The user's part.
#[pin_project(project = HandlerProjection, project_replace = HandlerReplaced)]
enum Handler<F, Fut> {
    NotStarted(F, WebSocket),
    Running(#[pin] Fut),
    Done,
}

impl Driver<fn(WebSocket) -> Ready<()>, Ready<()>> {
    /// A connection whose socket is used elsewhere.
    pub(crate) fn without_handler(link: Link) -> (Self, WebSocket) {
        let socket = WebSocket::new(Arc::clone(&link.shared));
        drop(link.shared.lock().handler_done());
        (Self { handler: Handler::Done, alarm: Alarm::default(), link }, socket)
    }
}

impl<F, Fut> Driver<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    /// A connection that `handler` serves.
    pub(crate) fn new(link: Link, handler: F) -> Self {
        let socket = WebSocket::new(Arc::clone(&link.shared));
        Self { handler: Handler::NotStarted(handler, socket), alarm: Alarm::default(), link }
    }

    /// The handler's turn. A panic in it is caught, and ends the connection only.
    fn poll_handler(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.project();
        if let HandlerProjection::NotStarted(..) = this.handler.as_mut().project()
            && let HandlerReplaced::NotStarted(handler, socket) =
                this.handler.as_mut().project_replace(Handler::Done)
        {
            match catch_unwind(AssertUnwindSafe(|| handler(socket))) {
                Ok(future) => this.handler.set(Handler::Running(future)),
                Err(panic) => this.link.handler_panicked(panic.as_ref()),
            }
        }
        if let HandlerProjection::Running(future) = this.handler.as_mut().project() {
            let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(cx).map(Outcome::into_result))) {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(outcome)) => Ok(outcome),
                Err(panic) => Err(panic),
            };
            // what it held of the socket goes first, so that the end finds no receiver
            let dropped = catch_unwind(AssertUnwindSafe(|| this.handler.set(Handler::Done)));
            match outcome.and_then(|outcome| dropped.map(|()| outcome)) {
                Ok(Ok(())) => this.link.handler_returned(),
                Ok(Err(error)) => this.link.handler_failed(error.as_ref()),
                Err(panic) => this.link.handler_panicked(panic.as_ref()),
            }
        }
    }
}

impl<F, Fut> Future for Driver<F, Fut>
where
    F: FnOnce(WebSocket) -> Fut,
    Fut: Future<Output: Outcome>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let span = self.link.span.clone();
        let _entered = span.as_deref().map(Span::enter);

        let mut this = self.as_mut().project();
        this.link.wake_up(cx);
        if this.link.is_aborted() {
            this.handler.set(Handler::Done);
            return Poll::Ready(());
        }
        this.link.budget = READ_BUDGET;
        // whether there is something to write, or somebody to tell
        let mut changed = true;
        for _ in 0..ROUNDS {
            let this = self.as_mut().project();
            // first what has come, then whether it came in time: the task itself may be late
            changed |= this.link.read(cx);
            if this.alarm.take_fired() {
                this.link.keep_time(cx);
                changed = true;
            }
            if std::mem::take(&mut this.link.handler_turn) {
                self.as_mut().poll_handler(cx);
                changed = true;
            }
            let this = self.as_mut().project();
            if changed {
                this.link.write(cx);
                this.link.close_transport(cx);
            }
            changed = false;
            if this.link.is_busy() {
                if this.link.budget == 0 {
                    break;
                }
            } else if this.link.sleep() {
                if this.link.stage == Stage::Over && matches!(*this.handler, Handler::Done) {
                    return Poll::Ready(());
                }
                let new_waker = std::mem::take(&mut this.link.new_waker);
                if !this.alarm.arm(this.link.next_deadline(), new_waker, cx) {
                    return Poll::Pending;
                }
            } else {
                changed = true;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// How far the closing is, as the driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Open,
    /// The end is known, and not yet answered.
    Ending,
    /// Our Close frame is on its way.
    Closing,
    /// Our end of the stream is being closed.
    ShuttingDown,
    /// Only the end of the peer's stream is awaited.
    Lingering,
    Over,
}

/// Why nothing more is read.
enum Broken {
    Protocol(ProtocolError),
    /// The peer's end of the stream, or an error in its place.
    Transport(Option<io::Error>),
}

impl From<ProtocolError> for Broken {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// The connection without its handler: not generic, so it is compiled once.
pub(crate) struct Link {
    shared: Arc<Shared>,
    role: Role,
    /// `None` when the connection is over.
    transport: Option<Transport>,
    registration: Option<Registration>,
    /// `None` where nobody listens to it.
    span: Option<Arc<Span>>,
    stage: Stage,
    /// The peer is not asked for its Close frame: it does not speak the protocol, or does not speak.
    failed: bool,
    /// Nothing more is expected of the peer but the end of its stream.
    answered: bool,
    /// The transport may have something to read, or may take something: it has not said otherwise since the last wake.
    readable: bool,
    writable: bool,
    /// Something has happened for the handler since it was polled.
    handler_turn: bool,
    /// The task's, which others know, too.
    waker: Option<Waker>,
    /// The alarm does not know it yet.
    new_waker: bool,

    input: Input,
    /// What is left of [`READ_BUDGET`].
    budget: u32,
    decoder: Decoder,
    /// What may still wait for the handler.
    room: Room,
    /// Reading has stopped for want of room.
    paused: bool,
    /// The kernel watches over the pings in that time.
    kernel_asked: bool,

    /// What the transport has not taken yet: on the heap, as it takes nearly always all.
    unwritten: Option<Box<Encoder>>,
    /// Bytes written, and not yet counted in the shared state.
    uncounted: usize,
    /// The transport has not been flushed since something was written.
    unflushed: bool,
    /// The newest ping that could not be answered, because the peer takes nothing.
    unanswered: Option<Box<Bytes>>,
    /// A ping of ours waits behind what the transport has not taken yet, up to this byte.
    ping_end: Option<NonZeroU64>,

    timers: Timers,
}

impl Link {
    /// A connection over `transport`, from which `read` was already read.
    pub(crate) fn new(
        shared: Arc<Shared>,
        role: Role,
        transport: Transport,
        read: &[u8],
        registration: Option<Registration>,
        span: Span,
    ) -> Self {
        let config = &shared.config;
        span.in_scope(|| tracing::debug!("connection open"));
        config.observe(|observer| observer.on_open(&shared.info));
        Self {
            role,
            transport: Some(transport),
            registration,
            span: (!span.is_disabled()).then(|| Arc::new(span)),
            stage: Stage::Open,
            failed: false,
            answered: false,
            readable: true,
            writable: true,
            handler_turn: false,
            waker: None,
            new_waker: true,
            input: Input::new(read),
            budget: 0,
            decoder: Decoder::new(role, config.limits).with(shared.negotiated),
            room: Room { messages: config.inbound_messages, bytes: config.inbound_bytes },
            paused: false,
            kernel_asked: false,
            unwritten: None,
            uncounted: 0,
            unflushed: false,
            unanswered: None,
            ping_end: None,
            timers: Timers::new(config, Instant::now()),
            shared,
        }
    }

    /// The task was woken.
    fn wake_up(&mut self, cx: &mut Context<'_>) {
        self.readable = true;
        self.writable = true;
        // it may have been woken for it
        self.handler_turn = true;
        self.shared.driver_wakes();
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.shared.lock().set_driver(cx.waker());
            self.new_waker = true;
            if let Some(registration) = &self.registration {
                registration.set_waker(cx.waker());
            }
        }
    }

    /// Whether a drain asks for the end at once. If it asks for an orderly one, that begins.
    fn is_aborted(&mut self) -> bool {
        match self.registration.as_mut().and_then(Registration::take_signal) {
            Some(Signal::Close(frame)) => {
                self.change(|state| state.close(Some(*frame)));
                false
            }
            Some(Signal::Abort) => {
                self.over(Side::Local, None);
                true
            }
            None => false,
        }
    }

    /// Changes the shared state, wakes whom that concerns, and follows.
    fn change(&mut self, change: impl FnOnce(&mut State) -> Wakes) {
        let wakes = change(&mut self.shared.lock());
        wakes.wake();
        self.sync();
    }

    /// Brings this side and the shared state together: counts what was written, follows the closing.
    fn sync(&mut self) {
        self.sync_output(None);
    }

    /// As `sync`; also fetches what was queued.
    fn sync_output(&mut self, output: Option<&mut Encoder>) {
        if self.stage == Stage::Over {
            return;
        }
        let mut wakes = Wakes::default();
        let config = &self.shared.config;
        let mut state = self.shared.lock();
        state.changed = false;
        state.wrote(std::mem::take(&mut self.uncounted), config, &mut wakes);
        self.unanswered.take_if(|payload| state.answer_ping(payload, self.writable, config));
        if !state.lent.is_none() {
            self.input = std::mem::take(&mut state.lent);
            self.budget = state.lent_budget;
        }
        if std::mem::take(&mut state.exchanged) && config.idle_timeout.is_some() {
            self.timers.message(Instant::now());
        }
        // the answer to an earlier one has its deadline, which a handler that pings must not postpone
        if std::mem::take(&mut state.pinged) && !self.timers.awaits_pong() {
            self.ping_end = NonZeroU64::new(state.queued);
            self.timers.pinged(Instant::now());
        }
        if let Some(output) = output {
            state.outbound.drain_into(output);
        }
        self.room = state.room(config);
        self.answered = self.failed || state.peer_closed;
        let reached = match state.phase {
            Phase::Open => Stage::Open,
            Phase::Ending(_) => Stage::Ending,
            Phase::Closing | Phase::Over => Stage::Closing,
        };
        self.handler_turn |= std::mem::take(&mut state.handler_turn);
        drop(state);
        wakes.wake();

        if reached > self.stage {
            self.stage = reached;
            self.timers.end_within(self.shared.config.close_timeout, Instant::now());
        }
        if self.paused && !self.room.is_full() {
            self.paused = false;
            self.timers.resumed(Instant::now());
            self.dismiss_kernel();
        }
    }

    /// While reading is paused nobody would see the answer to a ping. What there is to see is whether the peer's kernel
    /// acknowledges it, and only our kernel sees that.
    ///
    /// A peer that takes nothing acknowledges nothing, but it may live, and take nothing because we do not read: how long
    /// that may last is the send timeout's to say.
    fn ask_kernel(&mut self) {
        if !self.kernel_asked
            && !self.timers.is_blocked()
            && let Some(transport) = &self.transport
        {
            self.kernel_asked = transport.limit_acknowledgement(Some(self.shared.config.pong_timeout));
        }
    }

    fn dismiss_kernel(&mut self) {
        if std::mem::take(&mut self.kernel_asked)
            && let Some(transport) = &self.transport
        {
            transport.limit_acknowledgement(None);
        }
    }

    /// What the kernel has to say, if it was asked.
    fn kernels_error(&self) -> Option<io::Error> {
        self.transport.as_ref().filter(|_| self.kernel_asked)?.take_error()
    }

    /// Does what is due.
    fn keep_time(&mut self, cx: &mut Context<'_>) {
        pool::give_back_old();
        self.sync();
        let now = Instant::now();
        while self.stage < Stage::Over
            && let Some(due) = self.timers.due(&self.shared.config, now)
        {
            match due {
                Due::Ping => {
                    if self.paused {
                        self.ask_kernel();
                    }
                    self.change(State::keepalive_ping);
                }
                Due::Idle => {
                    let frame = CloseFrame::new(CloseCode::GOING_AWAY, "idle timeout");
                    self.change(|state| state.close(Some(frame)));
                }
                // silences of our own making
                Due::GiveUp(Timeout::Keepalive) if self.paused => match self.kernels_error() {
                    Some(error) => self.peer_gone(Some(error)),
                    None => self.timers.ping_passed(),
                },
                Due::GiveUp(Timeout::Message) if self.paused => self.timers.message_excused(now),
                Due::GiveUp(timeout @ Timeout::Message) => {
                    self.fail(CloseCode::POLICY_VIOLATION, timeout.into());
                }
                Due::GiveUp(timeout) => self.give_up(timeout, cx),
                Due::End => match self.stage {
                    Stage::Ending => self.change(State::settle),
                    Stage::Closing => self.over(Side::Remote, Some(Timeout::Close.into())),
                    _ => self.over(Side::Local, None),
                },
            }
        }
    }

    /// When there will be something to do if nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Over => None,
            _ => self.timers.next(&self.shared.config),
        }
    }

    /// Reads and decodes until there is nothing more, no room, or the others have waited long enough. Says whether
    /// something has come that they are to know of.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut came = false;
        let mut messages = Queue::default();
        while self.budget > 0 {
            match self.stage {
                Stage::Open if self.room.is_full() => {
                    self.paused = true;
                    break;
                }
                Stage::Open | Stage::Closing if !self.answered => {}
                Stage::Lingering => self.input.clear(),
                _ => break,
            }
            let event = if !self.input.is_empty() {
                self.budget = self.budget.saturating_sub(FRAME_COST);
                self.decode()
            } else if self.readable {
                let event = self.read_once(cx);
                if messages.is_empty() && self.lend() {
                    break;
                }
                event
            } else {
                break;
            };
            came |= !matches!(event, Ok(None));
            match event {
                Ok(None) => {}
                Ok(Some(Event::Message(message))) => self.message_received(message, &mut messages),
                Ok(Some(Event::Ping(payload))) => self.ping_received(payload),
                Ok(Some(Event::Pong(payload))) => self.pong_received(&payload),
                // what came before the end is delivered first
                Ok(Some(Event::Close(frame))) => {
                    self.deliver(&mut messages);
                    self.input.clear();
                    self.change(|state| state.close_received(frame));
                }
                Err(broken) => {
                    self.deliver(&mut messages);
                    match broken {
                        Broken::Protocol(error) => self.fail(error.close_code(), error.into()),
                        Broken::Transport(error) => self.peer_gone(error),
                    }
                }
            }
        }
        self.deliver(&mut messages);
        came
    }

    /// Reads what one call gives, and takes that from the budget.
    fn read_once(&mut self, cx: &mut Context<'_>) -> Result<Option<Event>, Broken> {
        let Some(transport) = &mut self.transport else { return Ok(None) };
        let transport = Pin::new(transport);
        let direct = if self.stage == Stage::Lingering { None } else { self.decoder.direct(READ_SIZE) };
        let is_direct = direct.is_some();
        let result = match direct {
            // a long message goes straight to where it will stay
            Some(mut payload) => poll_read_buf(transport, cx, &mut payload),
            None => self.input.poll_fill(transport, cx),
        };
        match result {
            Poll::Pending => self.readable = false,
            Poll::Ready(Ok(0)) => return Err(Broken::Transport(None)),
            Poll::Ready(Err(error)) => return Err(Broken::Transport(Some(error))),
            Poll::Ready(Ok(read)) => {
                self.budget = self.budget.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
                self.timers.inbound(Instant::now());
                if is_direct {
                    let event = self.decoder.advance(read)?;
                    self.timers.in_message(self.decoder.in_message());
                    return Ok(event);
                }
            }
        }
        Ok(None)
    }

    /// Lends the handler what was read: it is spared the queue, and each message is made when the one before it is done with.
    /// Says whether it takes it.
    fn lend(&mut self) -> bool {
        let lends = self.stage == Stage::Open
            && !self.input.is_empty()
            && !self.decoder.in_message()
            && self.shared.lend(&mut self.input, self.budget);
        self.handler_turn |= lends;
        lends
    }

    fn decode(&mut self) -> Result<Option<Event>, Broken> {
        let (taken, event) = self.decoder.decode(self.input.unread())?;
        self.input.take(taken);
        self.timers.in_message(self.decoder.in_message());
        Ok(event)
    }

    fn message_received(&mut self, message: Message, messages: &mut Queue) {
        // what comes behind our own Close frame is nobody's
        if self.stage != Stage::Open {
            return;
        }
        let config = &self.shared.config;
        if config.idle_timeout.is_some() {
            self.timers.message(Instant::now());
        }
        config.observe(|observer| observer.on_message_received(self.shared.info.id, message.len()));
        self.room.fill(message.len());
        messages.push(message);
    }

    fn ping_received(&mut self, payload: Bytes) {
        // answers must not pile up: the newest will do (RFC 6455 section 5.5.3)
        let answered = self.shared.lock().answer_ping(&payload, self.writable, &self.shared.config);
        self.unanswered = (!answered).then(|| Box::new(payload));
    }

    fn pong_received(&mut self, payload: &[u8]) {
        let mut wakes = Wakes::default();
        let round_trip = self.shared.lock().pong_received(payload, &mut wakes);
        wakes.wake();
        if let Some(round_trip) = round_trip {
            self.shared.config.observe(|observer| observer.on_pong(self.shared.info.id, round_trip));
        }
    }

    /// Hands messages to the receiver.
    fn deliver(&mut self, messages: &mut Queue) {
        if messages.is_empty() {
            return;
        }
        let mut wakes = Wakes::default();
        let (room, handler_turn) = self.shared.deliver(std::mem::take(messages), &mut wakes);
        self.room = room;
        self.handler_turn |= handler_turn;
        wakes.wake();
    }

    /// The peer broke a rule. It is told so when the handler has taken what came before.
    fn fail(&mut self, code: CloseCode, error: Error) {
        tracing::debug!(%error, "connection failed");
        self.input.clear();
        self.failed = true;
        let frame = CloseFrame::new(code, error.to_string());
        self.change(|state| state.end(Ending::Failure(frame, error)));
    }

    /// The peer is not there, or does not read: what can be told it at once is, and nothing is waited for.
    fn give_up(&mut self, timeout: Timeout, cx: &mut Context<'_>) {
        self.timed_out(timeout);
        self.write(cx);
        if let Some(transport) = &mut self.transport {
            let _ = Pin::new(transport).poll_shutdown(cx);
        }
        self.over(Side::Local, None);
    }

    fn timed_out(&mut self, timeout: Timeout) {
        tracing::debug!(error = %timeout, "connection given up");
        self.failed = true;
        let frame = CloseFrame::new(CloseCode::INTERNAL_ERROR, timeout.to_string());
        self.change(|state| state.fail(frame, timeout.into()));
    }

    /// The peer's end of the stream has come, or an error in its place.
    fn peer_gone(&mut self, error: Option<io::Error>) {
        if self.kernel_asked
            && self.stage == Stage::Open
            && error.as_ref().is_some_and(|error| is_unacknowledged(error.kind()))
        {
            // keepalive's own verdict, by the kernel's mouth
            self.timed_out(Timeout::Keepalive);
            return self.over(Side::Local, None);
        }
        let error = (self.stage < Stage::ShuttingDown).then_some(Error::Disconnected(error));
        self.over(Side::Remote, error);
    }

    /// Writes all that was queued, in as few calls as it takes.
    fn write(&mut self, cx: &mut Context<'_>) {
        let mut output =
            self.unwritten.take().map_or_else(|| Encoder::new(self.role), |unwritten| *unwritten);
        self.sync_output(Some(&mut output));
        while output.has_remaining() && self.writable {
            let Some(transport) = &mut self.transport else { return };
            let written = if output.is_one_chunk() {
                // a plain write takes less of the kernel's time than a vectored one
                let written = Pin::new(transport).poll_write(cx, output.chunk());
                written.map_ok(|count| {
                    output.advance(count);
                    count
                })
            } else {
                poll_write_buf(Pin::new(transport), cx, &mut output)
            };
            match written {
                Poll::Pending => {
                    self.writable = false;
                    self.timers.blocked(Instant::now());
                    self.dismiss_kernel();
                }
                Poll::Ready(Ok(0)) => return self.peer_gone(Some(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return self.peer_gone(Some(error)),
                Poll::Ready(Ok(written)) => {
                    self.wrote(written);
                    if self.unanswered.is_some() {
                        // before the handler fills the room that has become free
                        self.sync_output(Some(&mut output));
                    }
                }
            }
        }
        if output.has_remaining() {
            self.unwritten = Some(Box::new(output));
        }
        self.flush(cx);
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        if let Some(transport) = &mut self.transport
            && self.unflushed
        {
            match Pin::new(transport).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.peer_gone(Some(error)),
            }
        }
    }

    fn wrote(&mut self, written: usize) {
        self.uncounted += written;
        self.unflushed = true;
        self.timers.unblocked();
        if self.stage == Stage::Closing {
            // the peer has time to answer from when our Close frame is on its way, while what is before it goes out
            self.timers.end_within(self.shared.config.close_timeout, Instant::now());
        }
        if let Some(end) = self.ping_end {
            // the peer has time to answer from when the ping is on its way, while what is before it goes out
            self.timers.pinged(Instant::now());
            if self.shared.lock().written + self.uncounted as u64 >= end.get() {
                self.ping_end = None;
            }
        }
    }

    /// Once both sides have said that they close, and all is written, ends the stream.
    fn close_transport(&mut self, cx: &mut Context<'_>) {
        let Some(transport) = &mut self.transport else { return };
        if self.stage == Stage::Closing && self.answered && self.unwritten.is_none() && !self.unflushed {
            // the server ends the stream first (RFC 6455 section 7.1.1)
            self.stage = match self.role {
                Role::Client if !self.failed => Stage::Lingering,
                _ => Stage::ShuttingDown,
            };
            self.timers.end_sooner(LINGER, Instant::now());
        }
        if self.stage == Stage::ShuttingDown && Pin::new(transport).poll_shutdown(cx).is_ready() {
            self.stage = Stage::Lingering;
        }
    }

    /// The connection is over: all that it held is given back.
    fn over(&mut self, by: Side, error: Option<Error>) {
        if self.transport.take().is_none() {
            return;
        }
        self.stage = Stage::Over;
        self.input.clear();
        self.input.park();
        self.decoder = Decoder::new(self.role, self.shared.config.limits);
        self.unwritten = None;
        if let Some(registration) = &mut self.registration {
            registration.release_slot();
        }
        let (wakes, closed) = self.shared.lock().over(by, error, self.role);
        wakes.wake();
        tracing::debug!(by = ?closed.by, code = %closed.code(), reason = closed.reason(), "connection over");
        self.shared.config.observe(|observer| observer.on_close(&self.shared.info, &closed));
    }

    fn handler_returned(&mut self) {
        self.change(State::handler_done);
    }

    fn handler_failed(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        let error = error as &(dyn std::error::Error + 'static);
        if self.stage == Stage::Open {
            tracing::error!(error, "handler failed");
        } else {
            // most often what it was told of the end, handed on
            tracing::debug!(error, "handler failed after the end of the connection");
        }
        self.change(State::handler_failed);
    }

    fn handler_panicked(&mut self, panic: &(dyn Any + Send)) {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value that is not a string");
        tracing::error!(message, "handler panicked");
        self.change(State::handler_failed);
    }

    /// Whether another round would do something, as far as this side knows.
    fn is_busy(&self) -> bool {
        let to_read = match self.stage {
            Stage::Open => !self.room.is_full(),
            Stage::Closing => !self.answered,
            Stage::Lingering => true,
            Stage::Ending | Stage::ShuttingDown | Stage::Over => false,
        };
        self.handler_turn
            || to_read && (self.readable || !self.input.is_empty())
            || self.writable && self.unwritten.is_some()
    }

    /// Counts what was written. Says whether the others have nothing to do either: then buffers are given back, and they
    /// are to wake the task.
    fn sleep(&mut self) -> bool {
        let mut wakes = Wakes::default();
        let mut state = self.shared.lock();
        state.wrote(std::mem::take(&mut self.uncounted), &self.shared.config, &mut wakes);
        self.handler_turn = std::mem::take(&mut state.handler_turn);
        let sleeps = !(self.handler_turn || state.changed && self.stage < Stage::Over);
        if sleeps {
            self.shared.driver_sleeps(&mut state);
            self.input.park();
        }
        drop(state);
        wakes.wake();
        sleeps
    }
}

/// Whether the kernel has ended a connection so because nothing was acknowledged: it tells the reason if it knows one.
fn is_unacknowledged(error: io::ErrorKind) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    matches!(error, TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown)
}

impl Drop for Link {
    /// If the task was dropped before its time, as when its runtime shuts down, those in other tasks who wait learn it.
    fn drop(&mut self) {
        let span = self.span.clone();
        let _entered = span.as_deref().map(Span::enter);
        self.over(Side::Local, None);
        let _waker = self.shared.lock().driver_gone();
    }
}
