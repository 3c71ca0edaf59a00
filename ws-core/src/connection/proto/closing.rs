//! How far a connection is: [`Closing`].
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
//! After an error of the peer's, `Ending` leads to `AwaitingPeer`: it gets the time to see our Close frame. From every step
//! a deadline, or the end of the transport, leads to `Closed`.

use std::time::{Duration, Instant};

use crate::close::{CloseFrame, Closed, Side};
use crate::error::Error;

/// How far the connection is, and what there is to tell of its end.
#[derive(Debug, Default)]
pub(super) struct Closing {
    pub(super) step: Step,
    /// `None` while the connection is open.
    pub(super) end: Option<Box<End>>,
}

/// The steps, in the order in which a connection takes them. It may leave some out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Messages go both ways.
    #[default]
    Open,
    /// The end is known, and is answered as soon as what came before it has been taken.
    Ending,
    /// The transport takes nothing any more, but may still have something to read.
    Broken,
    /// Our Close frame is queued or sent. The peer's is awaited.
    AwaitingPeer,
    /// Nothing more is expected of the peer. What is queued leaves.
    Flushing,
    /// Our end of the stream is being closed.
    ShuttingDown,
    /// Only the end of the peer's stream is awaited.
    Lingering,
    /// The transport is of no more use.
    Closed,
    /// The driver has given back what the connection held outside of this state machine.
    Released,
}

/// What there is to tell of the end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) closed: Closed,
    /// What the peer's Close frame said.
    pub(super) peer_frame: Option<CloseFrame>,
    /// What `recv` has to say before it says `None`.
    pub(super) error: Option<Error>,
    /// What `close` has to say.
    pub(super) close_error: Option<Error>,
    pub(super) deadline: Deadline,
}

/// When the current step of the closing is over in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// It counts from when the driver next looks at the time.
    NotStarted,
    /// `None` is never.
    At(Option<Instant>),
    /// As `At`, and what the peer does puts it off no more.
    Final(Instant),
}

impl Deadline {
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::NotStarted => None,
            Self::At(at) => at,
            Self::Final(at) => Some(at),
        }
    }
}

impl End {
    /// An end with the Close frame of the side that was first.
    pub(super) fn new(by: Side, frame: Option<CloseFrame>) -> Self {
        Self {
            closed: Closed { by, frame, clean: false },
            peer_frame: None,
            error: None,
            close_error: None,
            deadline: Deadline::NotStarted,
        }
    }

    pub(super) fn answered(&mut self, frame: Option<CloseFrame>) {
        self.peer_frame = frame;
        self.closed.clean = true;
    }

    /// Whether the peer's Close frame has come.
    pub(super) fn is_answered(&self) -> bool {
        self.closed.clean
    }

    /// Why the closing handshake failed. Each caller is told, and the first one gets the cause.
    pub(super) fn close_error(&mut self) -> Error {
        match &mut self.close_error {
            Some(Error::Disconnected(cause)) => Error::Disconnected(cause.take()),
            Some(Error::Timeout(timeout)) => Error::Timeout(*timeout),
            _ => Error::Closed,
        }
    }
}

impl Closing {
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.step == Step::Open
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.step >= Step::Closed
    }

    #[inline]
    pub(super) fn is_sendable(&self) -> bool {
        self.step <= Step::Ending
    }

    /// Whether messages that come in are for the user.
    #[inline]
    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.step, Step::Open | Step::Broken)
    }

    /// Whether frames are still looked at.
    #[inline]
    pub(super) fn is_decoding(&self) -> bool {
        matches!(self.step, Step::Open | Step::Broken | Step::AwaitingPeer)
    }

    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        self.is_decoding() || self.step == Step::Lingering
    }

    /// Whether there is something to tell of the end. While the driver still holds what others wait for, there is not.
    #[inline]
    pub(super) fn has_end(&self) -> bool {
        self.step >= Step::AwaitingPeer && self.step != Step::Closed
    }

    /// What there is to tell of the end.
    pub(super) fn end_mut(&mut self) -> Option<&mut End> {
        if self.has_end() { self.end.as_deref_mut() } else { None }
    }

    /// As [`end_mut`](Self::end_mut), also while the driver holds something.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_deref().filter(|_| self.step >= Step::AwaitingPeer)
    }

    /// Goes to the first step of this end.
    pub(super) fn begin(&mut self, step: Step, end: End) {
        *self = Self { step, end: Some(Box::new(end)) };
    }

    /// Goes to another step of this end.
    pub(super) fn go_on(&mut self, step: Step, deadline: Deadline) {
        self.step = step;
        if let Some(end) = &mut self.end {
            end.deadline = deadline;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.end.as_ref()?.deadline.at()
    }

    /// The driver looks at the time: a step that has begun since it last did has its time from here on.
    #[inline]
    pub(super) fn see(&mut self, close_timeout: Duration, now: Instant) {
        if let Some(end) = &mut self.end
            && end.deadline == Deadline::NotStarted
        {
            end.deadline = Deadline::At(now.checked_add(close_timeout));
        }
    }

    /// The transport took something. The peer has time to answer from when our Close frame is on its way, also while what is
    /// before it goes out.
    pub(super) fn written(&mut self, close_timeout: Duration, now: Instant) {
        if let Self { step: Step::AwaitingPeer | Step::Flushing, end: Some(end) } = self
            && !matches!(end.deadline, Deadline::Final(_))
        {
            end.deadline = Deadline::At(now.checked_add(close_timeout));
        }
    }
}
