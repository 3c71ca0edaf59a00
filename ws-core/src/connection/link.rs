//! The driver without its handler: what it does with the transport. It is not generic, so it is compiled once.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::buf::Limit;
use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tracing::Span;
use tracing::span::Entered;

use super::proto::Action;
use super::shared::{MutexGuard, Shared, State, drop_each};
use super::transport::Transport;
use crate::error::Error;
use crate::pool;
use crate::protocol::Encoder;
use crate::tracker::{Registration, Signal};

/// Pieces that leave in one write, at most.
const SLICES: usize = 64;

/// A connection and its transport.
pub(crate) struct Link {
    pub(super) shared: Arc<Shared>,
    transport: Option<Transport>,
    /// The transport has not been flushed since something was written.
    is_unflushed: bool,
    /// `None` where nobody listens to it.
    span: Option<Box<Span>>,
}

/// A turn of the driver. The connection is locked, but for I/O and the handler.
pub(super) struct Turn<'a, 'b> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) state: MutexGuard<'a, State>,
    /// `None` when the connection is over.
    pub(super) transport: &'a mut Option<Transport>,
    is_unflushed: &'a mut bool,
    pub(super) cx: &'a mut Context<'b>,
    /// The time, as of the beginning of the turn, or of the handler's last.
    now: std::time::Instant,
    /// The transport may have something to read, or may take something: it has not said otherwise in this turn.
    is_readable: bool,
    is_writable: bool,
    /// The handler has woken itself in its turn, to let other tasks have theirs.
    handler_yields: bool,
    _entered: Option<Entered<'a>>,
}

pub(super) enum Next {
    /// Go round once more: something may be done.
    Round,
    /// Let others have their turn, then go on.
    Yield,
    /// Wait for something to happen, until this time at most.
    Sleep(Option<std::time::Instant>),
}

impl Link {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transport: Transport,
        registration: Option<Registration>,
        span: Span,
    ) -> Self {
        span.in_scope(|| tracing::debug!("connection open"));
        shared.config.observe(|observer| observer.on_open(&shared.info));
        shared.lock().registration = registration;
        let span = (!span.is_disabled()).then(|| Box::new(span));
        Self { shared, transport: Some(transport), is_unflushed: false, span }
    }
}

impl<'a, 'b> Turn<'a, 'b> {
    pub(super) fn new(link: &'a mut Link, cx: &'a mut Context<'b>) -> Self {
        let Link { shared, transport, is_unflushed, span } = link;
        Self {
            _entered: span.as_deref().map(Span::enter),
            state: shared.lock(),
            shared,
            transport,
            is_unflushed,
            cx,
            now: Instant::now().into_std(),
            is_readable: true,
            is_writable: true,
            handler_yields: false,
        }
    }

    /// The task was woken. Returns whether it has a new waker.
    pub(super) fn begin(&mut self) -> bool {
        self.state.connection.begin_turn();
        let waker = self.cx.waker();
        let is_new = self.state.waiters.driver_polled(waker);
        if is_new {
            self.with_registration(|registration| registration.set_waker(waker));
        }
        is_new
    }

    /// Follows the signal of a drain, if there is one. Returns whether the connection was to end at once. A signal that comes
    /// before the turn has begun may have found no waker to call.
    pub(super) fn follow_signal(&mut self) -> bool {
        match self.state.registration.as_mut().and_then(Registration::take_signal) {
            Some(Signal::Close(frame)) => {
                self.state.connection.close(Some(*frame));
                false
            }
            Some(Signal::Abort) => {
                self.abort("the deadline of a drain has passed");
                true
            }
            None => false,
        }
    }

    fn abort(&mut self, reason: &'static str) {
        self.state.connection.abort(Error::Disconnected(Some(io::Error::other(reason))));
        self.act();
    }

    /// Does something while the connection is not locked. Those who wait are woken later.
    #[inline]
    pub(super) fn unlocked<T>(&mut self, work: impl FnOnce() -> T) -> T {
        MutexGuard::unlocked(&mut self.state, work)
    }

    fn look_at_clock(&mut self) {
        self.now = Instant::now().into_std();
    }

    /// Does something with the registration, if there is one, while the connection is not locked.
    fn with_registration(&mut self, work: impl FnOnce(&mut Registration)) {
        if let Some(mut registration) = self.state.registration.take() {
            self.unlocked(|| work(&mut registration));
            self.state.registration = Some(registration);
        }
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
        let others = self.state.for_others();
        let shared = self.shared;
        self.unlocked(|| shared.notify(others));
    }

    /// Reads and decodes until there is nothing more, no room, or the turn has lasted long enough.
    pub(super) fn read(&mut self) {
        while !self.decode_ahead()
            && self.is_readable
            && let Some(transport) = self.transport.as_mut()
            && let Some(mut buffer) = self.state.connection.read_buffer(self.now)
        {
            // a task that was woken to write asks whether there is something to read before it prepares for that
            let is_called = self.state.connection.needs_driver();
            let (n, next) = if is_called && !transport.may_be_readable(self.cx) {
                (0, Poll::Pending)
            } else {
                MutexGuard::unlocked(&mut self.state, || fill(transport, self.cx, buffer.room()))
            };
            let connection = &mut self.state.connection;
            connection.handle_read(buffer, n, self.now);
            match next {
                Poll::Pending => {
                    self.is_readable = false;
                    connection.handle_drained();
                }
                Poll::Ready(Ok(0)) => connection.handle_end(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => connection.handle_end(Some(error)),
            }
        }
    }

    /// Decodes what was read, unless the handler waits for a message and decodes it itself. Says whether it does.
    #[inline]
    fn decode_ahead(&mut self) -> bool {
        let State { connection, waiters, .. } = &mut *self.state;
        let is_handlers_part = connection.is_between_messages() && waiters.is_handler_receiving();
        if !is_handlers_part {
            connection.decode_ahead();
        }
        is_handlers_part
    }

    pub(super) fn keep_time(&mut self) {
        self.unlocked(pool::give_back_old);
        self.look_at_clock();
        self.state.connection.handle_timeout(self.now);
    }

    /// Polls the handler by `poll`, while the connection is not locked, if it was woken since the last call, or what it
    /// waits for has come.
    #[inline]
    pub(super) fn poll_handler(&mut self, poll: impl FnOnce()) {
        let State { connection, waiters, .. } = &mut *self.state;
        waiters.notice_handler(connection);
        self.notify();
        if mem::take(&mut self.state.waiters.handler_turn) {
            self.unlocked(poll);
            self.handler_yields = self.state.waiters.handler_turn;
        }
    }

    /// Writes all that is queued, in as few calls as it takes, and flushes.
    pub(super) fn write(&mut self) {
        if !self.state.connection.needs_write(self.is_writable) && !*self.is_unflushed {
            return;
        }
        if self.state.connection.is_timing() {
            // the handler may have taken its time
            self.look_at_clock();
        }
        let output = self.state.connection.take_output(self.is_writable, self.now);
        let Some(transport) = self.transport else { return };
        let unflushed = &mut *self.is_unflushed;
        let mut result = Poll::Ready(Ok(()));
        if let Some(mut output) = output {
            let queued = output.remaining();
            let mut sent = Vec::new();
            result = MutexGuard::unlocked(&mut self.state, || {
                let result = write_all(transport, self.cx, &mut output, &mut sent);
                *unflushed |= output.remaining() < queued;
                match result {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => flush(transport, self.cx, unflushed),
                }
            });
            let is_blocked = output.has_remaining();
            if is_blocked {
                self.is_writable = false;
                self.look_at_clock();
            }
            let written = queued - output.remaining();
            self.state.connection.handle_written(&mut output, written, is_blocked, self.now);
            if !sent.is_empty() {
                self.unlocked(|| drop_each(sent));
            }
        } else if *unflushed {
            result = MutexGuard::unlocked(&mut self.state, || flush(transport, self.cx, unflushed));
        }
        match result {
            Poll::Ready(Err(error)) => {
                // what the transport has for us is still read
                self.is_readable = true;
                *self.is_unflushed = false;
                self.state.connection.handle_broken(error);
            }
            _ if *self.is_unflushed => {}
            _ => self.state.connection.handle_flushed(self.now),
        }
    }

    /// Does what is to be done besides reading and writing.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.state.connection.poll_action()
            && let Some(transport) = self.transport.as_mut()
        {
            match action {
                Action::WatchKernel(limit) => {
                    let is_watching =
                        MutexGuard::unlocked(&mut self.state, || transport.limit_acknowledgement(limit));
                    self.state.connection.handle_kernel_watch(is_watching);
                }
                Action::AskKernel => self.state.connection.handle_kernel_error(transport.take_error()),
                Action::ShutDown => {
                    let shutdown =
                        MutexGuard::unlocked(&mut self.state, || Pin::new(transport).poll_shutdown(self.cx));
                    if shutdown.is_pending() {
                        return;
                    }
                    self.state.connection.handle_shutdown();
                }
                Action::Release => self.release(),
            }
        }
    }

    /// The connection is over: its transport and its slot are given back, then it is told.
    fn release(&mut self) {
        MutexGuard::unlocked(&mut self.state, || *self.transport = None);
        self.with_registration(Registration::release_slot);
        self.state.connection.handle_released();
        if let Some(closed) = self.state.connection.outcome().cloned() {
            let shared = self.shared;
            self.unlocked(|| {
                let (code, reason) = (closed.code(), closed.reason());
                tracing::debug!(by = ?closed.by, %code, reason, "connection over");
                shared.config.observe(|observer| observer.on_close(&shared.info, &closed));
            });
        }
    }

    /// What to do next. Before the driver sleeps, buffers are given back, and from then on the others wake the task.
    pub(super) fn next(&mut self) -> Next {
        let connection = &self.state.connection;
        let wants_read = self.is_readable && connection.wants_read() || connection.wants_decoding();
        if wants_read && connection.is_turn_over() || self.handler_yields {
            return Next::Yield;
        }
        self.notify();
        let State { connection, waiters, .. } = &mut *self.state;
        if wants_read || connection.needs_driver() || waiters.handler_turn {
            return Next::Round;
        }
        connection.begin_turn();
        connection.shrink();
        waiters.driver_sleeps();
        Next::Sleep(connection.poll_timeout())
    }
}

impl Drop for Turn<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        self.notify();
    }
}

/// Reads until the room is full, or there is no more for now. Returns how many bytes came, and what the last read said.
fn fill(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    mut room: Limit<&mut Vec<u8>>,
) -> (usize, Poll<io::Result<usize>>) {
    let before = room.remaining_mut();
    loop {
        let read = poll_read_buf(Pin::new(&mut *transport), cx, &mut room);
        if !matches!(read, Poll::Ready(Ok(1..))) || !room.has_remaining_mut() {
            return (before - room.remaining_mut(), read);
        }
    }
}

/// Writes until all is written, or the transport takes no more. Payloads that have left are put into `sent`.
fn write_all(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    output: &mut Encoder,
    sent: &mut Vec<Bytes>,
) -> Poll<io::Result<()>> {
    while output.has_remaining() {
        // a plain write takes less of the kernel's time than a vectored one
        let written = if output.is_one_chunk() || !transport.is_write_vectored() {
            Pin::new(&mut *transport).poll_write(cx, output.chunk())
        } else {
            write_vectored(transport, cx, output)
        };
        match ready!(written) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => output.advance_into(n, sent),
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

#[inline(never)]
fn write_vectored(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    output: &Encoder,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let count = output.chunks_vectored(&mut slices);
    Pin::new(transport).poll_write_vectored(cx, &slices[..count])
}

fn flush(transport: &mut Transport, cx: &mut Context<'_>, unflushed: &mut bool) -> Poll<io::Result<()>> {
    if *unflushed {
        ready!(Pin::new(transport).poll_flush(cx))?;
        *unflushed = false;
    }
    Poll::Ready(Ok(()))
}

impl Drop for Link {
    /// If the task was dropped before its time, as when its runtime shuts down, those who wait in other tasks learn it.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut turn = Turn::new(self, &mut cx);
        turn.abort("the task of the connection was dropped");
        turn.state.waiters.driver_gone();
        let registration = turn.state.registration.take();
        drop(turn);
        drop(registration);
    }
}
