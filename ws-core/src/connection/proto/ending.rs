//! The end of a [`Connection`]: the ways from one step of [`Closing`](super::closing::Closing) to the next.

use std::io;
use std::time::{Duration, Instant};

use super::closing::{Deadline, End, Step};
use super::state::Connection;
use crate::close::{CloseCode, CloseFrame, Side};
use crate::error::{Error, ProtocolError, Timeout};
use crate::protocol::Role;

/// How long bytes are read and dropped after our end of the stream was closed. If bytes were unread when the transport is
/// closed, the kernel would answer with a reset, which can overtake the Close frame.
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// Begins to close from our side, or answers the peer if it was first.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>) {
        match self.closing.step {
            Step::Open => {
                self.closing.begin(Step::AwaitingPeer, End::new(Side::Local, frame));
                self.queue_close();
            }
            Step::Ending | Step::Broken => self.settle(),
            _ => {}
        }
    }

    fn queue_close(&mut self) {
        let Some(end) = &self.closing.end else { return };
        self.attention = true;
        self.queued += self.encoder.close(end.closed.frame.as_ref()) as u64;
    }

    /// The peer's Close frame: the first word of it, or the answer to ours.
    pub(super) fn peer_closed(&mut self, frame: Option<CloseFrame>) {
        self.attention = true;
        self.input.clear();
        let step = self.closing.step;
        match (step, &mut self.closing.end) {
            (Step::AwaitingPeer, Some(end)) => {
                end.answered(frame);
                self.closing.step = Step::Flushing;
            }
            (Step::Open | Step::Ending | Step::Broken, _) => {
                let mut end = End::new(Side::Remote, frame.clone());
                end.answered(frame);
                self.closing.begin(Step::Ending, end);
                if step == Step::Broken { self.finish(Side::Remote, None) } else { self.settle_if_taken() }
            }
            _ => {}
        }
    }

    /// The peer broke a rule. It is told so when the user has taken what came before.
    pub(super) fn peer_failed(&mut self, error: ProtocolError) {
        self.effects.get_or_insert_default().failures.push(error.into());
        self.attention = true;
        match self.closing.step {
            Step::Open => self.fail(error.close_code(), error.into()),
            // the answer to our Close frame was a broken one; else it may still come
            Step::AwaitingPeer if self.decoder.is_done() => self.closing.step = Step::Flushing,
            _ => {}
        }
    }

    /// The end is known: an error, of which the peer is told by a Close frame.
    pub(super) fn fail(&mut self, code: CloseCode, error: Error) {
        let mut end = End::new(Side::Local, Some(CloseFrame::new(code, error.to_string())));
        end.error = Some(error);
        end.close_error = Some(Error::Closed);
        self.closing.begin(Step::Ending, end);
        self.settle_if_taken();
    }

    /// The peer is not there, or does not read: it is told what it can be told at once, and nothing is waited for.
    pub(super) fn give_up(&mut self, timeout: Timeout, now: Instant) {
        self.effects.get_or_insert_default().failures.push(timeout.into());
        self.decode_rest();
        if self.closing.is_open() {
            self.fail(CloseCode::INTERNAL_ERROR, timeout.into());
            self.settle();
            self.closing.go_on(Step::Flushing, Deadline::Final(now));
        } else {
            self.finish(Side::Local, None);
        }
    }

    pub(super) fn settle_if_taken(&mut self) {
        if self.closing.step == Step::Ending && self.inbound.is_taken() {
            self.settle();
        }
    }

    pub(super) fn settle(&mut self) {
        self.attention = true;
        match self.closing.step {
            Step::Broken => self.closing.go_on(Step::Closed, Deadline::At(None)),
            Step::Ending => {
                self.queue_close();
                let is_answered = self.closing.end.as_ref().is_some_and(|end| end.is_answered());
                // it may go on to send before it sees our Close frame, and must not be answered with a reset
                let is_awaited = !is_answered && !self.decoder.is_done();
                let step = if is_awaited { Step::AwaitingPeer } else { Step::Flushing };
                self.closing.go_on(step, Deadline::NotStarted);
            }
            _ => {}
        }
    }

    /// All that the transport took has left.
    #[inline]
    pub(crate) fn handle_flushed(&mut self, now: Instant) {
        if self.closing.step == Step::Flushing
            && self.buffered() == 0
            && let Some(end) = &self.closing.end
        {
            // from here on bytes are read to be dropped
            self.input.clear();
            let deadline = [end.deadline.at(), now.checked_add(LINGER)].into_iter().flatten().min();
            // the server ends the stream first (RFC 6455 section 7.1.1)
            let is_peers_turn = self.encoder.role() == Role::Client && end.is_answered();
            let step = if is_peers_turn { Step::Lingering } else { Step::ShuttingDown };
            self.closing.go_on(step, Deadline::At(deadline));
        }
    }

    /// The driver has closed our end of the stream.
    pub(crate) fn handle_shutdown(&mut self) {
        if self.closing.step == Step::ShuttingDown {
            self.closing.step = Step::Lingering;
        }
    }

    /// The stream has ended, with an error if there is one.
    pub(super) fn ended(&mut self, error: Option<io::Error>) {
        if self.is_given_up_by_kernel(error.as_ref()) {
            // that is keepalive's own verdict
            self.fail(CloseCode::INTERNAL_ERROR, Timeout::Keepalive.into());
            return self.finish(Side::Local, None);
        }
        let is_ending_the_stream = matches!(self.closing.step, Step::ShuttingDown | Step::Lingering);
        self.finish(Side::Remote, (!is_ending_the_stream).then_some(Error::Disconnected(error)));
    }

    /// Whether the kernel has ended the connection because nothing was acknowledged.
    pub(super) fn is_given_up_by_kernel(&self, error: Option<&io::Error>) -> bool {
        use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
        // it tells the reason if it knows one
        let is_verdict = |kind| matches!(kind, TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown);
        self.kernel.is_watching
            && self.closing.is_open()
            && error.is_some_and(|error| is_verdict(error.kind()))
    }

    pub(super) fn closing_timed_out(&mut self) {
        match self.closing.step {
            Step::Ending => self.settle(),
            Step::AwaitingPeer | Step::Flushing => self.finish(Side::Remote, Some(Timeout::Close.into())),
            _ => self.finish(Side::Local, None),
        }
    }

    /// The transport is gone, by whose doing; `error` is why, if that was not in order.
    pub(super) fn finish(&mut self, by: Side, error: Option<Error>) {
        self.decode_rest();
        self.attention = true;
        if self.closing.is_closed() {
            return;
        }
        if self.closing.step == Step::Ending {
            // what is to be said to the peer cannot be any more, so what was queued is not all sent
            self.queue_close();
        }
        match &mut self.closing.end {
            Some(end) => end.close_error = end.close_error.take().or(error),
            None => self.closing.begin(Step::Closed, End { error, ..End::new(by, None) }),
        }
        self.closing.go_on(Step::Closed, Deadline::At(None));
        self.input.clear();
        self.input.shrink();
        self.decoder.stop();
        self.keepalive.clear();
        self.drop_unsent();
    }

    /// Nothing more leaves.
    pub(super) fn drop_unsent(&mut self) {
        self.unanswered = None;
        let unsent = self.encoder.take_all();
        self.drop_later(unsent);
    }

    /// The driver has given back what the connection held besides this.
    pub(crate) fn handle_released(&mut self) {
        if self.closing.step == Step::Closed {
            self.closing.step = Step::Released;
        }
    }
}
