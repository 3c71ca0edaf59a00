//! Why a connection ended: [`CloseCode`], [`CloseFrame`], and [`Closed`], which also tells who ended it.
//!
//! A code is a number with a meaning (RFC 6455 section 7.4), not an enum: applications bring their own (4000–4999),
//! and the registry grows.
//!
//! ```
//! use ws_core::{CloseCode, CloseFrame};
//!
//! let frame = CloseFrame::new(4001, "replaced by a newer connection");
//! assert!(frame.code.is_sendable());
//! assert!(!CloseCode::ABNORMAL.is_sendable()); // 1006 says that there was no Close frame
//! ```

use std::fmt;

use crate::utf8::Utf8Bytes;

/// The number in a Close frame that says why (RFC 6455 section 7.4.1 and the IANA registry).
///
/// ```
/// use ws_core::CloseCode;
///
/// assert_eq!(CloseCode::from(1001), CloseCode::GOING_AWAY);
/// assert_eq!(u16::from(CloseCode::TOO_BIG), 1009);
/// assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 going away");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// 1003: a kind of data that cannot be accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: the Close frame had no code. Never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the data does not fit its type, such as text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: a rule of the endpoint was broken for which there is no better code.
    pub const POLICY: Self = Self(1008);
    /// 1009: the message is larger than the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client expected an extension that the server did not negotiate.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server failed.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; come back.
    pub const RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got a bad response.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Whether this code may stand in a Close frame: 1000–1003, 1007–1014 and 3000–4999.
    ///
    /// The others are reserved (1004, 1005, 1006, 1015), undefined (1016–2999) or no codes at all.
    #[must_use]
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0 {
            1000 => "normal closure",
            1001 => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1005 => "no status",
            1006 => "abnormal closure",
            1007 => "invalid data",
            1008 => "policy violation",
            1009 => "message too big",
            1010 => "mandatory extension",
            1011 => "internal error",
            1012 => "service restart",
            1013 => "try again later",
            1014 => "bad gateway",
            3000..=3999 => "registered",
            4000..=4999 => "application",
            _ => "reserved",
        };
        write!(f, "{} {meaning}", self.0)
    }
}

/// What a Close frame says: a code, and a reason of at most 123 bytes.
///
/// ```
/// use ws_core::{CloseCode, CloseFrame};
///
/// let frame = CloseFrame::new(CloseCode::NORMAL, "bye");
/// assert_eq!(frame.to_string(), "1000 normal closure: bye");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CloseFrame {
    /// Why, as a number.
    pub code: CloseCode,
    /// Why, for a person to read in a log; may be empty.
    pub reason: Utf8Bytes,
}

impl CloseFrame {
    /// The longest reason that fits a Close frame, in bytes (a control frame's 125 less the code).
    pub const MAX_REASON: usize = 123;

    /// A frame with this code and this reason. Whether they may be sent is checked where they are sent.
    #[must_use]
    pub fn new(code: impl Into<CloseCode>, reason: impl Into<Utf8Bytes>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }

    /// Whether the frame may be sent.
    pub(crate) fn check(&self) -> Result<(), InvalidClose> {
        if !self.code.is_sendable() {
            Err(InvalidClose::Code(self.code))
        } else if self.reason.len() > Self::MAX_REASON {
            Err(InvalidClose::Reason(self.reason.len()))
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{}: {}", self.code, self.reason)
        }
    }
}

/// A code or a reason that may not stand in a Close frame.
///
/// ```
/// use ws_core::{CloseCode, InvalidClose};
///
/// let error = InvalidClose::Code(CloseCode::ABNORMAL);
/// assert!(error.to_string().starts_with("close code 1006 may not be sent"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClose {
    /// The code is reserved or undefined.
    #[error("close code {} may not be sent: use 1000–1003, 1007–1014 or 3000–4999", u16::from(*.0))]
    Code(CloseCode),
    /// The reason has this many bytes.
    #[error("a close reason of {0} bytes does not fit: at most {max}", max = CloseFrame::MAX_REASON)]
    Reason(usize),
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// This end: the handler, a limit, a timeout, a drain.
    Local,
    /// The peer.
    Remote,
}

/// How a connection ended.
///
/// ```no_run
/// # async fn handler(mut socket: ws_core::WebSocket) {
/// let closed = socket.closed().await;
/// println!("{:?} closed the connection: {}", closed.by, closed.code());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Closed {
    /// Who began it.
    pub by: Side,
    /// The Close frame of the side that began it; `None` where there was none (the code is 1006 then), or where it
    /// was empty (1005).
    pub frame: Option<CloseFrame>,
    /// Whether both sides sent a Close frame.
    pub clean: bool,
}

impl Closed {
    /// The code as the browser's `CloseEvent` tells it: that of the frame, 1005 for an empty one, 1006 for none.
    #[must_use]
    pub fn code(&self) -> CloseCode {
        match &self.frame {
            Some(frame) => frame.code,
            None if self.clean => CloseCode::NO_STATUS,
            None => CloseCode::ABNORMAL,
        }
    }

    /// The reason, which may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.frame.as_ref().map_or("", |frame| frame.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_defined_codes_are_sendable() {
        let sendable = |code: u16| CloseCode::from(code).is_sendable();
        for code in (1000..=1003).chain(1007..=1014).chain(3000..=4999) {
            assert!(sendable(code), "{code}");
        }
        for code in (0..=999).chain(1004..=1006).chain(1015..=2999).chain(5000..=u16::MAX) {
            assert!(!sendable(code), "{code}");
        }
    }

    #[test]
    fn a_reason_has_at_most_123_bytes() {
        assert_eq!(CloseFrame::new(1000, "x".repeat(123)).check(), Ok(()));
        assert_eq!(CloseFrame::new(1000, "x".repeat(124)).check(), Err(InvalidClose::Reason(124)));
    }
}
