//! The transport's side of a [`Connection`]: reading, decoding, writing, time.

use std::io;
use std::time::{Duration, Instant};

use bytes::buf::Limit;
use bytes::{Buf as _, Bytes};

use super::closing::{End, Step};
use super::input::{Input, READ_SIZE};
use super::state::{Connection, Kernel, Notice, TURN};
use super::timers::Due;
use crate::close::{CloseCode, CloseFrame, Closed, Side};
use crate::error::{Error, Timeout};
use crate::message::Message;
use crate::protocol::{Encoder, Event};
use crate::utf8::PayloadBuffer;

/// Where to read to. The connection lends it, and gets it back with what was read.
#[derive(Debug)]
pub(crate) enum ReadBuffer {
    /// Frames.
    Frames(Input),
    /// The rest of a long message, at most so many bytes.
    Payload { payload: PayloadBuffer, limit: usize },
}

impl ReadBuffer {
    /// The room for one read.
    pub(crate) fn room(&mut self) -> Limit<&mut Vec<u8>> {
        match self {
            Self::Frames(input) => input.room(),
            Self::Payload { payload, limit } => payload.append_limited(*limit),
        }
    }
}

/// What the driver is to do besides reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Have the kernel end the connection when the peer acknowledges nothing for this time, or no longer.
    /// [`Connection::handle_kernel_watch`] is to be told whether it will.
    WatchKernel(Option<Duration>),
    /// Ask the kernel for the error that it ended the connection with, for [`Connection::handle_kernel_error`].
    AskKernel,
    /// Close our end of the stream, then call [`Connection::handle_shutdown`].
    ShutDown,
    /// Drop the transport and all that belongs to it, then call [`Connection::handle_released`].
    Release,
}

impl Connection {
    pub(crate) fn begin_turn(&mut self) {
        self.budget = TURN;
    }

    pub(crate) fn is_turn_over(&self) -> bool {
        self.budget == 0
    }

    /// Where to read to; `None` if nothing is to be read now.
    pub(crate) fn read_buffer(&mut self, now: Instant) -> Option<ReadBuffer> {
        if self.pauses(now) || self.budget == 0 || !self.input.is_empty() || !self.closing.is_reading() {
            return None;
        }
        if let Some(end) = self.input.take_end() {
            self.ended(end);
            return None;
        }
        Some(match self.decoder.take_payload(READ_SIZE) {
            // a long message goes straight to where it will stay
            Some((payload, limit)) => ReadBuffer::Payload { payload, limit },
            None => ReadBuffer::Frames(std::mem::take(&mut self.input)),
        })
    }

    /// Stops reading while what has come is not received, and goes on when it is.
    fn pauses(&mut self, now: Instant) -> bool {
        let pauses = self.is_full();
        if self.inbound.is_paused && !pauses {
            // we did not read for a while: the peer is not to blame for its silence
            self.timers.inbound(0, now);
            self.timers.message_excused(now);
            self.kernel.is_wanted = false;
        }
        self.inbound.is_paused = pauses;
        pauses
    }

    /// Whether more messages would have to wait than may.
    pub(super) fn is_full(&self) -> bool {
        self.is_heard() && self.inbound.is_full(&self.config)
    }

    /// Whether somebody takes messages, if only to answer them.
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        self.closing.is_receiving() && (!self.inbound.is_receiver_gone || self.heartbeat.is_some())
    }

    /// Whether there would be something to read for.
    pub(crate) fn wants_read(&self) -> bool {
        self.closing.is_reading() && !self.is_full()
    }

    /// Whether there is something to decode, and room for it.
    pub(crate) fn wants_decoding(&self) -> bool {
        !self.input.is_empty() && self.closing.is_decoding() && !self.is_full()
    }

    /// Takes back the buffer, in which the transport has put the next `n` bytes.
    pub(crate) fn handle_read(&mut self, buffer: ReadBuffer, n: usize, now: Instant) {
        if n > 0 {
            self.budget = self.budget.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
            self.timers.inbound(n, now);
        }
        match buffer {
            ReadBuffer::Frames(input) => {
                self.input = input;
                if self.closing.step >= Step::Lingering {
                    self.input.clear();
                }
            }
            ReadBuffer::Payload { payload, .. } => {
                let event = self.decoder.put_payload(payload, n);
                if let Some(message) = self.handle_event(event, self.is_heard()) {
                    self.deliver(message);
                }
            }
        }
    }

    /// The transport has no more to read for now.
    #[inline]
    pub(crate) fn handle_drained(&mut self) {
        if self.closing.step == Step::Broken {
            // there is no more that came before
            self.finish(Side::Remote, None);
        }
    }

    /// The peer's end of the stream has come behind what was read, or an error in its place.
    pub(crate) fn handle_end(&mut self, error: Option<io::Error>) {
        if self.input.is_empty() { self.ended(error) } else { self.input.set_end(error) }
    }

    /// The transport takes nothing any more. What it has for us may still be read.
    pub(crate) fn handle_broken(&mut self, error: io::Error) {
        if !self.closing.is_open() || self.is_given_up_by_kernel(Some(&error)) {
            return self.ended(Some(error));
        }
        self.attention = true;
        self.drop_unsent();
        let error = Some(Error::Disconnected(Some(error)));
        self.closing.begin(Step::Broken, End { error, ..End::new(Side::Remote, None) });
    }

    /// Decodes what was read until there is no room, or the turn is over.
    pub(crate) fn decode_ahead(&mut self) {
        while self.wants_decoding()
            && let Some(message) = self.decode()
        {
            self.deliver(message);
        }
    }

    /// Decodes what came before the end. It is what was read at once, so it is bounded.
    pub(super) fn decode_rest(&mut self) {
        self.budget = TURN;
        while let Some(message) = self.decode() {
            self.deliver(message);
        }
    }

    /// Whether the next message begins in what was read: then a handler that waits for it decodes it itself.
    #[inline]
    pub(crate) fn is_between_messages(&self) -> bool {
        !self.input.is_empty()
            && self.closing.is_open()
            && self.inbound.len() == 0
            && !self.decoder.in_message()
    }

    /// The next message in what was read.
    #[inline]
    pub(super) fn decode(&mut self) -> Option<Message> {
        while self.budget > 0 && !self.input.is_empty() && self.closing.is_decoding() {
            let is_heard = self.is_heard();
            let (taken, event) = self.decoder.decode(self.input.undecoded(), is_heard, &mut self.budget);
            self.input.advance(taken);
            if let Some(message) = self.handle_event(event, is_heard) {
                return Some(message);
            }
        }
        None
    }

    /// Deals with all but messages for the user, which it returns. Those that nobody takes are dropped.
    #[inline]
    fn handle_event(&mut self, event: Option<Event>, is_heard: bool) -> Option<Message> {
        let is_whole = matches!(event, Some(Event::Message(_)));
        self.timers.in_message(!is_whole && self.decoder.in_message());
        match event? {
            Event::Message(message) if is_heard => return self.handle_message(message),
            Event::Message(_) => {}
            Event::Ping(payload) => self.handle_ping(payload),
            Event::Pong(payload) => self.handle_pong(&payload),
            Event::Close(frame) => self.peer_closed(frame),
            Event::Error(error) => self.peer_failed(error),
        }
        None
    }

    /// A message for the user, which it returns, or a heartbeat.
    #[inline]
    fn handle_message(&mut self, message: Message) -> Option<Message> {
        self.timers.exchanged = true;
        if self.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.is(&message)) {
            self.notice(Notice::Received(message.len()));
            self.answer_heartbeat();
            return None;
        }
        (!self.inbound.is_receiver_gone).then_some(message)
    }

    /// Puts a message where it waits for the receiver.
    fn deliver(&mut self, message: Message) {
        self.notice(Notice::Received(message.len()));
        self.inbound.push(message);
    }

    /// Answers a ping, if there is room for that; else the newest one is answered when there is (RFC 6455 section 5.5.3).
    fn handle_ping(&mut self, payload: Bytes) {
        if !self.closing.is_sendable() {
            return;
        }
        if self.timers.is_blocked() || self.outbound_room() == 0 {
            self.unanswered = Some(Box::new(payload));
        } else {
            self.push(|encoder| encoder.pong(&payload));
        }
    }

    fn handle_pong(&mut self, payload: &[u8]) {
        if let Some(round_trip) = self.keepalive.pong(payload, self.timers.last_inbound) {
            self.notice(Notice::Pong(round_trip));
        }
    }

    /// Whether there is something for [`take_output`](Self::take_output) to see, or to take.
    #[inline]
    pub(crate) fn needs_write(&self, is_writable: bool) -> bool {
        self.attention || self.timers.exchanged || is_writable && self.encoder.has_remaining()
    }

    /// Whether it matters to the next [`take_output`](Self::take_output) what time it is, and to what follows it.
    #[inline]
    pub(crate) fn is_timing(&self) -> bool {
        !self.closing.is_open()
            || self.config.idle_timeout.is_some()
            || self.keepalive.has_unseen()
            || self.timers.is_ping_held()
    }

    /// The driver looks at what has happened, and if the transport is writable, takes what is to be written.
    #[inline]
    pub(crate) fn take_output(&mut self, is_writable: bool, now: Instant) -> Option<Encoder> {
        self.attention = false;
        self.see(now);
        let encoder = &mut self.encoder;
        (is_writable && encoder.has_remaining()).then(|| encoder.take_all())
    }

    /// What has begun since the driver last looked has its time from here on.
    #[inline]
    fn see(&mut self, now: Instant) {
        self.timers.see(now);
        self.closing.see(self.config.close_timeout, now);
        if let Some(end) = self.keepalive.see(now) {
            self.timers.pinged(Some(end), now);
        }
    }

    /// Takes back what the transport has not taken of the output, after it took `written` bytes. `is_blocked` says whether
    /// it would take no more.
    pub(crate) fn handle_written(
        &mut self,
        rest: &mut Encoder,
        written: usize,
        is_blocked: bool,
        now: Instant,
    ) {
        if rest.has_remaining() {
            self.encoder.drain_into(rest);
            std::mem::swap(&mut self.encoder, rest);
        }
        if written > 0 {
            self.written += written as u64;
            self.timers.written(self.written, now);
            self.closing.written(self.config.close_timeout, now);
            // before others fill the room that has become free
            if self.outbound_room() > 0
                && self.closing.is_sendable()
                && let Some(payload) = self.unanswered.take()
            {
                self.push(|encoder| encoder.pong(&payload));
            }
        }
        if is_blocked {
            self.timers.blocked(now);
            self.kernel.is_wanted = false;
        }
    }

    /// What the driver is to do besides reading and writing.
    #[inline]
    pub(crate) fn poll_action(&self) -> Option<Action> {
        let Kernel { is_wanted, is_watching, is_asked } = self.kernel;
        match self.closing.step {
            Step::ShuttingDown => Some(Action::ShutDown),
            Step::Closed => Some(Action::Release),
            Step::Released => None,
            _ if is_wanted != is_watching => {
                Some(Action::WatchKernel(is_wanted.then_some(self.config.pong_timeout)))
            }
            _ => is_asked.then_some(Action::AskKernel),
        }
    }

    /// Whether the kernel watches.
    pub(crate) fn handle_kernel_watch(&mut self, is_watching: bool) {
        // one that will not is not asked again and again
        self.kernel.is_wanted = is_watching;
        self.kernel.is_watching = is_watching;
    }

    /// What the kernel has to say of a ping that it watched over.
    pub(crate) fn handle_kernel_error(&mut self, error: Option<io::Error>) {
        self.kernel.is_asked = false;
        match error {
            Some(error) => self.ended(Some(error)),
            None => self.timers.ping_passed(),
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) if nothing happens before.
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.closing.is_open() {
            self.closing.deadline()
        } else if self.kernel.is_asked {
            None
        } else {
            self.timers.next(&self.config)
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.see(now);
        // what ends now has its chance to be written before its deadline is looked at
        if self.closing.deadline().is_some_and(|deadline| deadline <= now) {
            self.closing_timed_out();
        }
        while self.closing.is_open()
            && !self.kernel.is_asked
            && let Some(due) = self.timers.due(&self.config, now)
        {
            self.handle_due(due, now);
        }
        self.see(now);
    }

    fn handle_due(&mut self, due: Due, now: Instant) {
        match due {
            Due::Ping => {
                // of a peer that takes nothing the kernel knows nothing: how long that may last is the send timeout's to say
                self.kernel.is_wanted |= self.inbound.is_paused && !self.timers.is_blocked();
                self.queue_ping(0);
                self.see(now);
                // unless it was seen just now, an earlier ping has not left yet, and stands for this one
                self.timers.pinged(None, now);
            }
            Due::Idle => self.close(Some(CloseFrame::new(CloseCode::GOING_AWAY, "idle timeout"))),
            // silences of our own making
            Due::GiveUp(Timeout::Keepalive) if self.inbound.is_paused => {
                if self.kernel.is_watching {
                    self.kernel.is_asked = true;
                } else {
                    self.timers.ping_passed();
                }
            }
            Due::GiveUp(Timeout::Message) if self.inbound.is_paused => self.timers.message_excused(now),
            Due::GiveUp(timeout @ Timeout::Message) => {
                self.effects.get_or_insert_default().failures.push(timeout.into());
                self.decoder.abandon();
                self.fail(CloseCode::POLICY_VIOLATION, timeout.into());
            }
            Due::GiveUp(timeout) => self.give_up(timeout, now),
        }
    }

    /// Ends the connection now. `error` is what a receiver is told, if the connection was not ending.
    pub(crate) fn abort(&mut self, error: Error) {
        let error = self.closing.is_open().then_some(error);
        self.finish(Side::Local, error);
    }

    /// How the connection ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Closed> {
        self.closing.end().filter(|_| self.closing.is_closed()).map(|end| &end.closed)
    }

    /// Gives back memory before the driver sleeps.
    pub(crate) fn shrink(&mut self) {
        self.input.shrink();
        self.inbound.shrink();
        self.keepalive.shrink();
        self.timers.shrink();
    }
}
