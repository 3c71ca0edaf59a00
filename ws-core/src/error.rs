//! [`Error`]: why a connection ended, or why a call on it failed.

use std::fmt::Display;
use std::io;

use crate::close::{CloseCode, InvalidClose};
use crate::message::Message;

/// The value of a setting that is written in the program. A mistake in it panics, at the caller's line, with the text of
/// the error, which says what to write instead.
///
/// # Panics
///
/// If it is an error.
#[track_caller]
pub fn expect_valid<T>(result: Result<T, impl Display>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// Why a connection ended without an orderly close, or why a call on it failed.
///
/// Methods such as [`is_closed`](Self::is_closed) and [`is_timeout`](Self::is_timeout) tell the kinds apart without a
/// `match`. The cause, if there is one, is the [`source`](std::error::Error::source).
///
/// ```
/// use ws_core::{Error, WebSocket};
///
/// async fn echo(mut socket: WebSocket) -> Result<(), Error> {
///     while let Some(message) = socket.recv().await {
///         match message {
///             Ok(message) => socket.send(message).await?,
///             Err(error) if error.is_disconnected() => break, // without a Close frame
///             Err(error) => return Err(error),
///         }
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection is closed or closing, and sends nothing more.
    #[error("the connection is closed")]
    Closed,
    /// The transport ended or failed before the closing handshake.
    #[error("the peer disconnected without a closing handshake")]
    Disconnected(#[source] Option<io::Error>),
    /// The peer broke the protocol or a limit. The Close frame told it so.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The peer took too long.
    #[error(transparent)]
    Timeout(#[from] Timeout),
    /// The code or the reason that was given to `close` may not be sent.
    #[error(transparent)]
    InvalidClose(#[from] InvalidClose),
    /// The HTTP connection did not become a WebSocket.
    #[error("the upgrade failed: {reason}")]
    Upgrade {
        /// What went wrong.
        reason: &'static str,
        /// The cause, if there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A message is not JSON of the expected type, or a value cannot be written as JSON. The connection stays open.
    #[cfg(feature = "json")]
    #[error("invalid JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether the connection was already closed when the call was made.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Whether the transport ended without a closing handshake, because the peer crashed or lost its network, for example.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }

    /// Whether the peer broke the protocol or a limit.
    #[must_use]
    pub fn is_protocol(&self) -> bool {
        matches!(self, Self::Protocol(_))
    }

    /// Whether a time limit was exceeded.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether a message is not JSON of the expected type, or a value cannot be written as JSON. The connection stays open.
    #[must_use]
    pub fn is_json(&self) -> bool {
        #[cfg(feature = "json")]
        return matches!(self, Self::Json(_));
        #[cfg(not(feature = "json"))]
        false
    }
}

/// How a peer broke the protocol (RFC 6455) or a limit.
///
/// ```
/// use ws_core::{CloseCode, ProtocolError};
///
/// assert_eq!(ProtocolError::InvalidUtf8.close_code(), CloseCode::INVALID_FRAME_PAYLOAD_DATA);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A client sent a frame without a mask (section 5.1).
    #[error("frame without a mask")]
    Unmasked,
    /// A server sent a frame with a mask (section 5.1).
    #[error("masked frame from a server")]
    Masked,
    /// A reserved bit is set, and no extension that uses it was negotiated (section 5.2).
    #[error("reserved bit set")]
    ReservedBit,
    /// The opcode has no meaning (section 5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A ping, pong or Close frame is fragmented (section 5.5).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A ping, pong or Close frame has a payload of more than 125 bytes (section 5.5).
    #[error("control frame over 125 bytes")]
    ControlTooLong,
    /// A continuation frame outside of a fragmented message (section 5.4).
    #[error("continuation without a start")]
    UnexpectedContinuation,
    /// A new message before the end of a fragmented one (section 5.4).
    #[error("new message inside of a fragmented one")]
    ExpectedContinuation,
    /// The payload of a Close frame has one byte, which is half a code (section 5.5.1).
    #[error("Close frame of one byte")]
    CloseTooShort,
    /// A Close frame has a code that may not be sent (section 7.4).
    #[error("Close frame with code {}", u16::from(*.0))]
    CloseCode(CloseCode),
    /// Text, or the reason of a Close frame, is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A compressed message is not valid DEFLATE data (RFC 7692 section 7.2.2).
    #[cfg(feature = "deflate")]
    #[error("compressed data is invalid")]
    InvalidDeflate,
    /// A message is larger than `max_message_size`, after decompression.
    #[error("message over the limit of {limit} bytes")]
    MessageTooBig {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A frame is larger than `max_frame_size`.
    #[error("frame over the limit of {limit} bytes")]
    FrameTooBig {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A message has more fragments than `max_fragments`.
    #[error("message in more than {limit} fragments")]
    TooManyFragments {
        /// The limit.
        limit: usize,
    },
}

impl ProtocolError {
    /// The code of the Close frame that answers this error.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::INVALID_FRAME_PAYLOAD_DATA,
            #[cfg(feature = "deflate")]
            Self::InvalidDeflate => CloseCode::INVALID_FRAME_PAYLOAD_DATA,
            Self::MessageTooBig { .. } | Self::FrameTooBig { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments { .. } => CloseCode::POLICY_VIOLATION,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Which time limit was exceeded.
///
/// ```
/// assert_eq!(ws_core::Timeout::Keepalive.to_string(), "no sign of life from the peer in time");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Timeout {
    /// The handshake took too long, from the request to the flushed response (`handshake_timeout`).
    #[error("the handshake was not over in time")]
    Handshake,
    /// Nothing came from the peer after a ping (`pong_timeout`).
    #[error("no sign of life from the peer in time")]
    Keepalive,
    /// A message began and was not complete in time (`message_timeout`).
    #[error("a message was not complete in time")]
    Message,
    /// The peer did not read what was sent (`send_timeout`).
    #[error("the peer did not read in time")]
    Send,
    /// The peer did not answer a Close frame (`close_timeout`).
    #[error("the peer did not answer the Close frame in time")]
    Close,
}

/// Why `try_send` did not queue a message. It gives the message back.
///
/// ```
/// use ws_core::{Message, TrySendError};
///
/// let error = TrySendError::Full(Message::from("later"));
/// assert_eq!(error.to_string(), "the outbound buffer is full");
/// assert_eq!(error.into_message(), Message::from("later"));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum TrySendError {
    /// The outbound buffer is above its limit, because the peer reads more slowly than this side sends.
    #[error("the outbound buffer is full")]
    Full(Message),
    /// The connection is closed or closing.
    #[error("the connection is closed")]
    Closed(Message),
}

impl TrySendError {
    /// The message that was not sent.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}
