//! How a connection ends: [`Closing`], one state with all that belongs to it, and the ways from one to the next.
//!
//! ```text
//!          the peer's Close,             what came before it          our Close and all before it
//!          an error                      is taken                     are written
//!  Open ────────────────────► Ending ────────────────► Flushing ──────────────────► ShuttingDown ──► Lingering ──► Closed
//!   │                                                     ▲
//!   └──────────────────────► AwaitingPeer ────────────────┘
//!     our Close is queued                  the peer's Close
//! ```
//!
//! After an error of the peer's, `Ending` leads to `AwaitingPeer`: it gets the time to see our Close frame. From every state
//! a deadline, or the end of the transport, leads to `Closed`.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::{Connection, Dropped};
use crate::close::{CloseCode, CloseFrame, Closed, Side};
use crate::error::{Error, ProtocolError, Timeout};
use crate::protocol::Role;

/// How long bytes are read and dropped after our end of the stream was closed. If bytes were unread when the transport is
/// closed, the kernel would answer with a reset, which can overtake the Close frame.
const LINGER: Duration = Duration::from_secs(1);

/// How far the connection is.
#[derive(Debug)]
pub(super) enum Closing {
    /// Messages go both ways.
    Open,
    /// The end is known, and is answered as soon as what came before it has been taken.
    Ending { why: Box<Ending>, deadline: Deadline },
    /// Our Close frame is queued or sent. The peer's is awaited.
    AwaitingPeer { end: Box<End>, deadline: Deadline },
    /// Nothing more is expected of the peer. What is queued leaves.
    Flushing { end: Box<End>, deadline: Deadline },
    /// Our end of the stream is being closed.
    ShuttingDown { end: Box<End>, deadline: Deadline },
    /// Only the end of the peer's stream is awaited.
    Lingering { end: Box<End>, deadline: Deadline },
    /// The transport is of no more use.
    Closed {
        end: Box<End>,
        /// The driver has given back what the connection held outside of this state machine.
        is_released: bool,
    },
}

/// Why the connection ends, before that was answered.
#[derive(Debug)]
pub(super) enum Ending {
    /// The peer's Close frame.
    Peer(Option<CloseFrame>),
    /// The peer broke a rule, or took too long.
    Failure(CloseFrame, Error),
    /// The transport takes nothing any more, but may still have something to read.
    Broken(io::Error),
}

/// What there is to tell of the end.
#[derive(Debug)]
pub(super) struct End {
    closed: Closed,
    /// What the peer's Close frame said.
    peer_frame: Option<CloseFrame>,
    /// What `recv` has to say before it says `None`.
    error: Option<Error>,
    /// What `close` has to say.
    close_error: Option<Error>,
}

/// When the current step of the closing is over in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// It counts from when the driver next looks at the time.
    NotStarted,
    At(Instant),
    /// As `At`, and what the peer does puts it off no more.
    Final(Instant),
    Never,
}

impl Deadline {
    fn after(time: Duration, now: Instant) -> Self {
        now.checked_add(time).map_or(Self::Never, Self::At)
    }

    fn at(self) -> Option<Instant> {
        match self {
            Self::At(at) | Self::Final(at) => Some(at),
            Self::NotStarted | Self::Never => None,
        }
    }

    /// As it is, but no later than this.
    fn no_later_than(self, other: Option<Instant>) -> Self {
        match (self, other) {
            (Self::At(at) | Self::Final(at), Some(other)) if at <= other => self,
            (_, Some(other)) => Self::At(other),
            (_, None) => self,
        }
    }
}

impl End {
    fn new(by: Side, frame: Option<CloseFrame>) -> Box<Self> {
        let closed = Closed { by, frame, clean: false };
        Box::new(Self { closed, peer_frame: None, error: None, close_error: None })
    }

    pub(super) fn closed(&self) -> &Closed {
        &self.closed
    }

    /// Takes what `recv` has to say.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// The peer's Close frame, if it has come.
    pub(super) fn answer(&self) -> Option<Option<CloseFrame>> {
        self.closed.clean.then(|| self.peer_frame.clone())
    }

    /// Why the closing handshake failed. Each caller is told, and the first one gets the cause.
    pub(super) fn close_error(&mut self) -> Error {
        match &mut self.close_error {
            Some(Error::Disconnected(cause)) => Error::Disconnected(cause.take()),
            Some(Error::Timeout(timeout)) => Error::Timeout(*timeout),
            _ => Error::Closed,
        }
    }

    /// The peer's Close frame has come, too.
    fn answered(&mut self, frame: Option<CloseFrame>) {
        self.peer_frame = frame;
        self.closed.clean = true;
    }
}

impl Closing {
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// Whether messages can be sent.
    #[inline]
    pub(super) fn is_sendable(&self) -> bool {
        match self {
            Self::Open => true,
            Self::Ending { why, .. } => !matches!(**why, Ending::Broken(_)),
            _ => false,
        }
    }

    /// Whether messages that come in are for the user.
    #[inline]
    pub(super) fn is_receiving(&self) -> bool {
        self.is_open() || self.is_broken()
    }

    /// Whether the transport takes nothing any more, and is still read.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Ending { why, .. } if matches!(**why, Ending::Broken(_)))
    }

    /// Whether frames are still looked at.
    #[inline]
    pub(super) fn is_decoding(&self) -> bool {
        self.is_receiving() || matches!(self, Self::AwaitingPeer { .. })
    }

    /// Whether the transport is still read.
    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        self.is_decoding() || matches!(self, Self::Lingering { .. })
    }

    /// Whether there is something to tell of the end. While the driver still holds what others wait for, there is not.
    #[inline]
    pub(super) fn has_end(&self) -> bool {
        !matches!(self, Self::Open | Self::Ending { .. } | Self::Closed { is_released: false, .. })
    }

    /// What there is to tell of the end.
    pub(super) fn end_mut(&mut self) -> Option<&mut End> {
        match self {
            Self::Open | Self::Ending { .. } | Self::Closed { is_released: false, .. } => None,
            Self::AwaitingPeer { end, .. }
            | Self::Flushing { end, .. }
            | Self::ShuttingDown { end, .. }
            | Self::Lingering { end, .. }
            | Self::Closed { end, is_released: true } => Some(end),
        }
    }

    /// As [`end_mut`](Self::end_mut), also while the driver holds something.
    pub(super) fn end(&self) -> Option<&End> {
        match self {
            Self::Open | Self::Ending { .. } => None,
            Self::AwaitingPeer { end, .. }
            | Self::Flushing { end, .. }
            | Self::ShuttingDown { end, .. }
            | Self::Lingering { end, .. }
            | Self::Closed { end, .. } => Some(end),
        }
    }

    fn deadline_mut(&mut self) -> Option<&mut Deadline> {
        match self {
            Self::Open | Self::Closed { .. } => None,
            Self::Ending { deadline, .. }
            | Self::AwaitingPeer { deadline, .. }
            | Self::Flushing { deadline, .. }
            | Self::ShuttingDown { deadline, .. }
            | Self::Lingering { deadline, .. } => Some(deadline),
        }
    }

    /// When the current step is over in any case.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.deadline_mut()?.at()
    }

    /// The driver looks at the time: a step that has begun since it last did has its time from here on.
    #[inline]
    pub(super) fn see(&mut self, close_timeout: Duration, now: Instant) {
        if !self.is_open()
            && let Some(deadline) = self.deadline_mut().filter(|deadline| **deadline == Deadline::NotStarted)
        {
            *deadline = Deadline::after(close_timeout, now);
        }
    }

    /// The transport took something. The peer has time to answer from when our Close frame is on its way, also while what is
    /// before it goes out.
    pub(super) fn written(&mut self, close_timeout: Duration, now: Instant) {
        if let Self::AwaitingPeer { deadline, .. } | Self::Flushing { deadline, .. } = self
            && !matches!(deadline, Deadline::Final(_))
        {
            *deadline = Deadline::after(close_timeout, now);
        }
    }

    /// Goes on with what there is to tell of the end.
    fn step(&mut self, to: impl FnOnce(Box<End>, Deadline) -> Self) {
        *self = match mem::replace(self, Self::Open) {
            Self::AwaitingPeer { end, deadline }
            | Self::Flushing { end, deadline }
            | Self::ShuttingDown { end, deadline }
            | Self::Lingering { end, deadline } => to(end, deadline),
            other => other,
        };
    }
}

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
