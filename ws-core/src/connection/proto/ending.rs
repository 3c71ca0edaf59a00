//! The end of a [`Connection`]: the ways from one state of [`Closing`] to the next.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::closing::{Closing, Deadline, End, Ending};
use super::state::{Connection, Dropped};
use crate::close::{CloseCode, CloseFrame, Side};
use crate::error::{Error, ProtocolError, Timeout};
use crate::protocol::Role;

/// How long bytes are read and dropped after our end of the stream was closed. If bytes were unread when the transport is
/// closed, the kernel would answer with a reset, which can overtake the Close frame.
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// Begins to close from our side, or answers the peer if it was first.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>) {
        match self.closing {
            Closing::Open => {
                self.push(|encoder| encoder.close(frame.as_ref()));
                self.closing = Closing::AwaitingPeer {
                    end: End::new(Side::Local, frame),
                    deadline: Deadline::NotStarted,
                };
            }
            Closing::Ending { .. } => self.settle(),
            _ => {}
        }
    }

    /// The peer's Close frame: the first word of it, or the answer to ours.
    pub(super) fn peer_closed(&mut self, frame: Option<CloseFrame>) {
        self.attention = true;
        self.input.clear();
        let was_broken = self.closing.is_broken();
        match &mut self.closing {
            Closing::AwaitingPeer { end, .. } => {
                end.answered(frame);
                self.closing.step(|end, deadline| Closing::Flushing { end, deadline });
            }
            Closing::Open | Closing::Ending { .. } => {
                self.closing =
                    Closing::Ending { why: Box::new(Ending::Peer(frame)), deadline: Deadline::NotStarted };
                if was_broken { self.finish(Side::Remote, None) } else { self.settle_if_taken() }
            }
            _ => {}
        }
    }

    /// The peer broke a rule. It is told so when the user has taken what came before.
    pub(super) fn peer_failed(&mut self, error: ProtocolError) {
        tracing::debug!(%error, "connection failed");
        self.attention = true;
        match self.closing {
            Closing::Open => self.fail(error.close_code(), error.into()),
            // the answer to our Close frame was a broken one; else it may still come
            Closing::AwaitingPeer { .. } if self.decoder.is_done() => {
                self.closing.step(|end, deadline| Closing::Flushing { end, deadline });
            }
            _ => {}
        }
    }

    /// The end is known: an error, of which the peer is told by a Close frame.
    pub(super) fn fail(&mut self, code: CloseCode, error: Error) {
        let why = Box::new(Ending::Failure(CloseFrame::new(code, error.to_string()), error));
        self.closing = Closing::Ending { why, deadline: Deadline::NotStarted };
        self.settle_if_taken();
    }

    /// The peer is not there, or does not read: it is told what it can be told at once, and nothing is waited for.
    pub(super) fn give_up(&mut self, timeout: Timeout, now: Instant) {
        tracing::debug!(error = %timeout, "connection given up");
        self.decode_rest();
        if self.closing.is_open() {
            let frame = CloseFrame::new(CloseCode::INTERNAL_ERROR, timeout.to_string());
            let end = self.answer(Ending::Failure(frame, timeout.into()));
            self.closing = Closing::Flushing { end, deadline: Deadline::Final(now) };
        } else {
            self.finish(Side::Local, None);
        }
    }

    /// Answers the end if all that came before it has been taken.
    pub(super) fn settle_if_taken(&mut self) {
        if matches!(self.closing, Closing::Ending { .. })
            && !self.closing.is_broken()
            && self.inbound.is_taken()
        {
            self.settle();
        }
    }

    /// Answers the end.
    pub(super) fn settle(&mut self) {
        self.attention = true;
        let why = match mem::replace(&mut self.closing, Closing::Open) {
            Closing::Ending { why, .. } => *why,
            other => {
                self.closing = other;
                return;
            }
        };
        let is_answered = matches!(why, Ending::Peer(_)) || self.decoder.is_done();
        let is_broken = matches!(why, Ending::Broken(_));
        let end = self.answer(why);
        let deadline = Deadline::NotStarted;
        self.closing = if is_broken {
            Closing::Closed { end, is_released: false }
        } else if is_answered {
            Closing::Flushing { end, deadline }
        } else {
            // it may go on to send before it sees our Close frame, and must not be answered with a reset
            Closing::AwaitingPeer { end, deadline }
        };
    }

    /// Queues the Close frame that answers, and returns what there is to tell.
    fn answer(&mut self, why: Ending) -> Box<End> {
        match why {
            Ending::Peer(frame) => {
                self.push(|encoder| encoder.close(frame.as_ref()));
                let mut end = End::new(Side::Remote, frame.clone());
                end.answered(frame);
                end
            }
            Ending::Failure(frame, error) => {
                self.push(|encoder| encoder.close(Some(&frame)));
                let mut end = End::new(Side::Local, Some(frame));
                end.error = Some(error);
                end.close_error = Some(Error::Closed);
                end
            }
            Ending::Broken(error) => {
                let mut end = End::new(Side::Remote, None);
                end.error = Some(Error::Disconnected(Some(error)));
                end
            }
        }
    }

    /// Goes on where all is written.
    pub(super) fn flushed(&mut self, now: Instant) {
        if matches!(self.closing, Closing::Flushing { .. }) && self.outbound.buffered() == 0 {
            // from here on bytes are read to be dropped
            self.input.clear();
            let linger = now.checked_add(LINGER);
            let role = self.outbound.role();
            self.closing.step(|end, deadline| {
                let deadline = deadline.no_later_than(linger);
                // the server ends the stream first (RFC 6455 section 7.1.1)
                if role == Role::Client && end.closed.clean {
                    Closing::Lingering { end, deadline }
                } else {
                    Closing::ShuttingDown { end, deadline }
                }
            });
        }
    }

    /// The driver has closed our end of the stream.
    pub(crate) fn handle_shutdown(&mut self) {
        if matches!(self.closing, Closing::ShuttingDown { .. }) {
            self.closing.step(|end, deadline| Closing::Lingering { end, deadline });
        }
    }

    /// The peer's end of the stream has come, or an error in its place.
    pub(super) fn peer_gone(&mut self, error: Option<io::Error>) {
        let is_ending_the_stream =
            matches!(self.closing, Closing::ShuttingDown { .. } | Closing::Lingering { .. });
        self.finish(Side::Remote, (!is_ending_the_stream).then_some(Error::Disconnected(error)));
    }

    /// The deadline of the current step has passed.
    pub(super) fn closing_timed_out(&mut self) {
        match self.closing {
            Closing::Ending { .. } if !self.closing.is_broken() => self.settle(),
            Closing::AwaitingPeer { .. } | Closing::Flushing { .. } => {
                self.finish(Side::Remote, Some(Timeout::Close.into()));
            }
            _ => self.finish(Side::Local, None),
        }
    }

    /// The transport is gone, by whose doing; `error` is why, if that was not in order.
    pub(super) fn finish(&mut self, by: Side, error: Option<Error>) {
        self.decode_rest();
        self.attention = true;
        let end = match mem::replace(&mut self.closing, Closing::Open) {
            closed @ Closing::Closed { .. } => {
                self.closing = closed;
                return;
            }
            Closing::Open => {
                let mut end = End::new(by, None);
                end.error = error;
                end
            }
            Closing::Ending { why, .. } => {
                // what was to be said to the peer cannot be, but the user learns it
                let mut end = self.answer(*why);
                end.close_error = end.close_error.take().or(error);
                end
            }
            Closing::AwaitingPeer { mut end, .. }
            | Closing::Flushing { mut end, .. }
            | Closing::ShuttingDown { mut end, .. }
            | Closing::Lingering { mut end, .. } => {
                end.close_error = end.close_error.take().or(error);
                end
            }
        };
        self.closing = Closing::Closed { end, is_released: false };
        self.input.clear();
        self.input.shrink();
        self.decoder.stop();
        self.keepalive.clear();
        let unsent = self.outbound.clear();
        self.effects().dropped.push(Dropped::Outbound(unsent));
    }

    /// The driver has given back what the connection held besides this.
    pub(crate) fn handle_released(&mut self) {
        if let Closing::Closed { is_released, .. } = &mut self.closing {
            *is_released = true;
        }
    }
}
