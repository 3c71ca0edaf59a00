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

/// The codes that have a name: constants, meanings, and the table in the documentation, all from one list.
macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal, $sent:literal, $reconnect:tt;)*) => {
        /// The number in a Close frame that says why (RFC 6455 section 7.4.1 and the IANA registry).
        ///
        /// ```
        /// use ws_core::CloseCode;
        ///
        /// assert_eq!(CloseCode::from(1001), CloseCode::GOING_AWAY);
        /// assert_eq!(u16::from(CloseCode::TOO_BIG), 1009);
        /// assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 going away");
        /// assert!(CloseCode::RESTART.should_reconnect());
        /// ```
        ///
        /// Who sends which, and whether a client whose connection ended with it should open another one:
        ///
        /// | code | constant | meaning | sent by this library when | reconnect? |
        /// |---|---|---|---|---|
        $(#[doc = concat!(
            "| ", $code, " | [`", stringify!($name), "`](Self::", stringify!($name), ") | ", $meaning, " | ", $sent,
            " | ", stringify!($reconnect), " |",
        )])*
        /// | 3000–3499 | | others of libraries | | yes |
        /// | 3500–3999 | | others of libraries | | no |
        /// | 4000–4999 | | others of the application | | no |
        ///
        /// The other numbers are reserved or undefined, and not sent.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct CloseCode(u16);

        impl CloseCode {
            $(
                $(#[$doc])*
                pub const $name: Self = Self($code);
            )*

            /// What the code means, and whether to come back after it, if it has a name.
            const fn named(self) -> Option<(&'static str, bool)> {
                match self.0 {
                    $($code => Some(($meaning, close_codes!(@ $reconnect))),)*
                    _ => None,
                }
            }
        }
    };
    (@ yes) => { true };
    (@ no) => { false };
}

close_codes! {
    /// 1000: the purpose of the connection is fulfilled.
    NORMAL = 1000, "normal closure", "the handler has returned", no;
    /// 1001: the server shuts down, or the browser leaves the page.
    GOING_AWAY = 1001, "going away", "a drain begins; the connection was idle for too long", yes;
    /// 1002: the peer broke the protocol.
    PROTOCOL = 1002, "protocol error", "the peer broke the protocol", no;
    /// 1003: a kind of data that cannot be accepted.
    UNSUPPORTED = 1003, "unsupported data", "", no;
    /// 1005: the Close frame had no code. Never sent.
    NO_STATUS = 1005, "no status", "never", no;
    /// 1006: the connection ended without a Close frame. Never sent.
    ABNORMAL = 1006, "abnormal closure", "never", yes;
    /// 1007: the data does not fit its type, such as text that is not UTF-8.
    INVALID_DATA = 1007, "invalid data", "text is not UTF-8; compressed data is invalid", no;
    /// 1008: a rule of the endpoint was broken for which there is no better code.
    POLICY = 1008, "policy violation", "a message takes too long, or has too many fragments", no;
    /// 1009: the message is larger than the limit.
    TOO_BIG = 1009, "message too big", "a message is larger than the limit", no;
    /// 1010: the client expected an extension that the server did not negotiate.
    MANDATORY_EXTENSION = 1010, "mandatory extension", "", no;
    /// 1011: the server failed.
    INTERNAL_ERROR = 1011, "internal error", "the handler failed; the peer is silent, or does not read", yes;
    /// 1012: the server restarts; come back.
    RESTART = 1012, "service restart", "a drain is told to say so", yes;
    /// 1013: the server is overloaded; come back later.
    TRY_AGAIN_LATER = 1013, "try again later", "", yes;
    /// 1014: a gateway got a bad response.
    BAD_GATEWAY = 1014, "bad gateway", "", yes;
    /// 3000: who connects is not signed in (IANA registry).
    UNAUTHORIZED = 3000, "unauthorized", "", no;
    /// 3003: who connects may not do so (IANA registry).
    FORBIDDEN = 3003, "forbidden", "", no;
    /// 3100: messages came faster than the client read them, and more wait for it than may (`ws-hub`).
    OVERFLOW = 3100, "outbound queue overflow", "a hub's queue for the connection is full", yes;
    /// 4001: the user has connected once more, and that connection goes on in place of this one (`ws-hub`).
    REPLACED = 4001, "replaced by a newer connection", "a hub's user logs in again", no;
    /// 4002: the user has as many connections as he may have, and this one is not opened (`ws-hub`).
    ALREADY_CONNECTED = 4002, "already connected", "a hub's user logs in too often", no;
    /// 4003: the application has sent the user away (`ws-hub`).
    KICKED = 4003, "kicked", "a hub is told to disconnect the user", no;
}

impl CloseCode {
    /// Whether this code may stand in a Close frame: 1000–1003, 1007–1014 and 3000–4999.
    ///
    /// The others are reserved (1004, 1005, 1006, 1015), undefined (1016–2999) or no codes at all.
    #[must_use]
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether a client whose connection ended with this code should open another one, after a moment: the column
    /// `reconnect?` of the [table](Self). What is not in the table ends for good.
    #[must_use]
    pub const fn should_reconnect(self) -> bool {
        match self.named() {
            Some((_, reconnect)) => reconnect,
            None => matches!(self.0, 3000..=3499),
        }
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
        let meaning = match (self.named(), self.0) {
            (Some((meaning, _)), _) => meaning,
            (None, 3000..=3999) => "registered",
            (None, 4000..=4999) => "application",
            (None, _) => "reserved",
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
    ///
    /// # Errors
    ///
    /// If the code is not one that [may be sent](CloseCode::is_sendable), or the reason has more than 123 bytes.
    pub fn check(&self) -> Result<(), InvalidClose> {
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
    fn who_is_sent_away_for_good_does_not_come_back() {
        let comes_back = |code: u16| CloseCode::from(code).should_reconnect();
        for code in [1001, 1006, 1011, 1012, 1013, 1014, 3001, 3002, 3004, 3100, 3499] {
            assert!(comes_back(code), "{code}");
        }
        for code in [999, 1000, 1002, 1003, 1004, 1005, 1007, 1008, 1009, 1010, 1015, 2000, 3000, 3003, 3500]
        {
            assert!(!comes_back(code), "{code}");
        }
        for code in 4000..=4999 {
            assert!(!comes_back(code), "{code}");
        }
    }

    #[test]
    fn a_reason_has_at_most_123_bytes() {
        assert_eq!(CloseFrame::new(1000, "x".repeat(123)).check(), Ok(()));
        assert_eq!(CloseFrame::new(1000, "x".repeat(124)).check(), Err(InvalidClose::Reason(124)));
    }
}
