//! How far a connection is: [`Closing`], one state with all that belongs to it.
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

use crate::close::{CloseFrame, Closed, Side};
use crate::error::Error;

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
    pub(super) closed: Closed,
    /// What the peer's Close frame said.
    peer_frame: Option<CloseFrame>,
    /// What `recv` has to say before it says `None`.
    pub(super) error: Option<Error>,
    /// What `close` has to say.
    pub(super) close_error: Option<Error>,
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
    pub(super) fn no_later_than(self, other: Option<Instant>) -> Self {
        match (self, other) {
            (Self::At(at) | Self::Final(at), Some(other)) if at <= other => self,
            (_, Some(other)) => Self::At(other),
            (_, None) => self,
        }
    }
}

impl End {
    pub(super) fn new(by: Side, frame: Option<CloseFrame>) -> Box<Self> {
        let closed = Closed { by, frame, clean: false };
        Box::new(Self { closed, peer_frame: None, error: None, close_error: None })
    }

    /// Takes what `recv` has to say.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Whether the peer's Close frame has come.
    pub(super) fn is_answered(&self) -> bool {
        self.closed.clean
    }

    /// What the peer's Close frame said.
    pub(super) fn peer_frame(&self) -> Option<CloseFrame> {
        self.peer_frame.clone()
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
    pub(super) fn answered(&mut self, frame: Option<CloseFrame>) {
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
    pub(super) fn step(&mut self, to: impl FnOnce(Box<End>, Deadline) -> Self) {
        *self = match mem::replace(self, Self::Open) {
            Self::AwaitingPeer { end, deadline }
            | Self::Flushing { end, deadline }
            | Self::ShuttingDown { end, deadline }
            | Self::Lingering { end, deadline } => to(end, deadline),
            other => other,
        };
    }
}
