//! Why a connection ended: [`CloseCode`], [`CloseFrame`], and [`Closed`], which also says which side ended it.
//!
//! A code is a number with a meaning (RFC 6455 section 7.4), not an enum: applications define their own (4000–4999),
//! and IANA's registry grows.

use std::fmt;

use crate::utf8::Utf8Bytes;

/// The codes that have a name: constants, meanings, and the table in the documentation, all from one list.
macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal, $sent:literal, $reconnect:tt;)*) => {
        /// The number in a Close frame that says why the connection ends (RFC 6455 section 7.4).
        ///
        /// The constants have the names of IANA's [WebSocket Close Code Number Registry]. Any `u16` converts into a
        /// code, also one that may not be sent: `close` checks that.
        ///
        /// [WebSocket Close Code Number Registry]: https://www.iana.org/assignments/websocket/websocket.xml#close-code-number
        ///
        /// ```
        /// use ws_core::CloseCode;
        ///
        /// /// Sent to a client whose version is too old.
        /// const OUTDATED: CloseCode = CloseCode::new(4010);
        ///
        /// assert_eq!(CloseCode::from(1001), CloseCode::GOING_AWAY);
        /// assert_eq!(u16::from(CloseCode::MESSAGE_TOO_BIG), 1009);
        /// assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 going away");
        /// assert!(CloseCode::SERVICE_RESTART.should_reconnect());
        /// assert!(!OUTDATED.should_reconnect());
        /// ```
        ///
        /// # Which code is sent when, and what a client does after it
        ///
        /// The last column says whether a client opens a new connection after this code. It is what
        /// [`should_reconnect`](Self::should_reconnect) returns.
        ///
        /// | code | constant | meaning | sent by this crate when | reconnect? |
        /// |---|---|---|---|---|
        $(#[doc = concat!(
            "| ", $code, " | [`", stringify!($name), "`](Self::", stringify!($name), ") | ", $meaning, " | ", $sent,
            " | ", stringify!($reconnect), " |",
        )])*
        /// | 3000–3499 | | other codes that libraries register with IANA | | yes |
        /// | 3500–3999 | | other codes that libraries register with IANA | | no |
        /// | 4100–4199 | | codes of the application that ask the client to come back | | yes |
        /// | 4000–4099, 4200–4999 | | other codes of the application | | no |
        ///
        /// All other numbers are reserved or undefined, and are never sent. After them a client does not come back.
        ///
        /// So an application that defines a code of its own takes one of 4100–4199 if the client is to come back after
        /// it, as the Pusher protocol does, and another one of 4000–4999 if not. `ws-hub` uses 4001–4003 and 4100.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct CloseCode(u16);

        impl CloseCode {
            $(
                $(#[$doc])*
                pub const $name: Self = Self($code);
            )*

            /// What the code means, and whether a client comes back after it, if the code has a name.
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
    NORMAL_CLOSURE = 1000, "normal closure", "the handler has returned", no;
    /// 1001: the server shuts down, or the browser leaves the page.
    GOING_AWAY = 1001, "going away", "a drain begins; the connection was idle for too long", yes;
    /// 1002: the peer broke the protocol.
    PROTOCOL_ERROR = 1002, "protocol error", "the peer broke the protocol", no;
    /// 1003: a kind of data that this side does not accept.
    UNSUPPORTED_DATA = 1003, "unsupported data", "", no;
    /// 1005: the Close frame had no code. Never sent.
    NO_STATUS_RECEIVED = 1005, "no status received", "never", no;
    /// 1006: the connection ended without a Close frame. Never sent.
    ABNORMAL_CLOSURE = 1006, "abnormal closure", "never", yes;
    /// 1007: the data does not fit its type, such as text that is not UTF-8.
    INVALID_FRAME_PAYLOAD_DATA = 1007, "invalid frame payload data", "text is not UTF-8; compressed data is invalid", no;
    /// 1008: the peer broke a rule for which there is no better code.
    POLICY_VIOLATION = 1008, "policy violation", "a message takes too long, or has too many fragments", no;
    /// 1009: the message is larger than the limit.
    MESSAGE_TOO_BIG = 1009, "message too big", "a message is larger than the limit", no;
    /// 1010: the client needs an extension that the server did not negotiate.
    MANDATORY_EXTENSION = 1010, "mandatory extension", "", no;
    /// 1011: the server failed.
    INTERNAL_ERROR = 1011, "internal error", "the handler failed; the peer is silent, or does not read", yes;
    /// 1012: the server restarts.
    SERVICE_RESTART = 1012, "service restart", "a drain is told to send it", yes;
    /// 1013: the server is overloaded.
    TRY_AGAIN_LATER = 1013, "try again later", "", yes;
    /// 1014: a gateway got an invalid response.
    BAD_GATEWAY = 1014, "bad gateway", "", yes;
    /// 1015: the TLS handshake failed. Never sent.
    TLS_HANDSHAKE = 1015, "TLS handshake failed", "never", no;
    /// 3000: the client is not signed in.
    UNAUTHORIZED = 3000, "unauthorized", "", no;
    /// 3003: the client may not do what it asked for.
    FORBIDDEN = 3003, "forbidden", "", no;
    /// 3008: the client took too long.
    TIMEOUT = 3008, "timeout", "", yes;
}

impl CloseCode {
    /// The code with this number. As `From<u16>`, for constants.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// Whether this code may stand in a Close frame: 1000–1003, 1007–1014 and 3000–4999.
    ///
    /// The others are reserved (1004, 1005, 1006, 1015), undefined (1016–2999), or no codes at all.
    #[must_use]
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether a client opens a new connection, after a moment, when its connection ended with this code: the column
    /// `reconnect?` of the [table](Self#which-code-is-sent-when-and-what-a-client-does-after-it).
    #[must_use]
    pub const fn should_reconnect(self) -> bool {
        match self.named() {
            Some((_, reconnect)) => reconnect,
            None => matches!(self.0, 3000..=3499 | 4100..=4199),
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

/// What a Close frame says: a code, and a reason of at most 123 bytes (RFC 6455 section 5.5.1).
///
/// It is a plain value, built with [`new`](Self::new) or field by field. Whether it may be sent is checked when it is
/// given to `close_with`, or by [`check`](Self::check).
///
/// ```
/// use ws_core::{CloseCode, CloseFrame, InvalidClose};
///
/// let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
/// assert_eq!(frame, CloseFrame::new(CloseCode::NORMAL_CLOSURE, "bye"));
/// assert_eq!(frame.to_string(), "1000 normal closure: bye");
/// assert_eq!(frame.check(), Ok(()));
///
/// // 1006 says that there was no Close frame
/// let frame = CloseFrame::new(CloseCode::ABNORMAL_CLOSURE, "");
/// assert_eq!(frame.check(), Err(InvalidClose::Code(CloseCode::ABNORMAL_CLOSURE)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    /// Why the connection ends, for programs.
    pub code: CloseCode,
    /// Why the connection ends, for people who read a log. May be empty.
    pub reason: Utf8Bytes,
}

impl CloseFrame {
    /// The longest reason that fits into a Close frame, in bytes: a control frame has 125, and the code takes 2.
    pub const MAX_REASON: usize = 123;

    /// A frame with this code and this reason.
    #[must_use]
    pub fn new(code: impl Into<CloseCode>, reason: impl Into<Utf8Bytes>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }

    /// Checks that the frame may be sent.
    ///
    /// # Errors
    ///
    /// If the code [may not be sent](CloseCode::is_sendable), or the reason has more than 123 bytes.
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
/// let error = InvalidClose::Code(CloseCode::ABNORMAL_CLOSURE);
/// assert!(error.to_string().starts_with("close code 1006 may not be sent"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClose {
    /// The code is reserved or undefined.
    #[error("close code {} may not be sent: use 1000–1003, 1007–1014 or 3000–4999", u16::from(*.0))]
    Code(CloseCode),
    /// The reason is too long. This is its length in bytes.
    #[error("a close reason of {0} bytes does not fit: use at most {max} bytes", max = CloseFrame::MAX_REASON)]
    Reason(usize),
}

/// One of the two sides of a connection.
///
/// ```
/// # fn log(closed: &ws_core::Closed) {
/// use ws_core::Side;
///
/// if closed.by == Side::Remote {
///     println!("the peer has left: {}", closed.code());
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// This side: the handler, a limit, a timeout, a drain.
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
    /// The side that began to close.
    pub by: Side,
    /// The Close frame of that side. `None` if it sent none (then the code is 1006), or an empty one (1005).
    pub frame: Option<CloseFrame>,
    /// Whether both sides sent a Close frame.
    pub clean: bool,
}

impl Closed {
    /// The code as a browser's `CloseEvent` has it: that of the frame, 1005 for an empty frame, 1006 if there was none.
    #[must_use]
    pub fn code(&self) -> CloseCode {
        match &self.frame {
            Some(frame) => frame.code,
            None if self.clean => CloseCode::NO_STATUS_RECEIVED,
            None => CloseCode::ABNORMAL_CLOSURE,
        }
    }

    /// The reason. May be empty.
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
        for code in [1001, 1006, 1011, 1012, 1013, 1014, 3001, 3002, 3004, 3008, 3100, 3499] {
            assert!(comes_back(code), "{code}");
        }
        for code in [999, 1000, 1002, 1003, 1004, 1005, 1007, 1008, 1009, 1010, 1015, 2000, 3000, 3003, 3500]
        {
            assert!(!comes_back(code), "{code}");
        }
        for code in (4000..=4099).chain(4200..=4999) {
            assert!(!comes_back(code), "{code}");
        }
    }

    #[test]
    fn an_application_has_a_range_of_codes_that_ask_to_come_back() {
        for code in 4100..=4199 {
            assert!(CloseCode::new(code).should_reconnect(), "{code}");
        }
    }

    #[test]
    fn the_constants_are_those_of_the_registry() {
        for (constant, code) in [
            (CloseCode::NORMAL_CLOSURE, 1000),
            (CloseCode::GOING_AWAY, 1001),
            (CloseCode::PROTOCOL_ERROR, 1002),
            (CloseCode::UNSUPPORTED_DATA, 1003),
            (CloseCode::NO_STATUS_RECEIVED, 1005),
            (CloseCode::ABNORMAL_CLOSURE, 1006),
            (CloseCode::INVALID_FRAME_PAYLOAD_DATA, 1007),
            (CloseCode::POLICY_VIOLATION, 1008),
            (CloseCode::MESSAGE_TOO_BIG, 1009),
            (CloseCode::MANDATORY_EXTENSION, 1010),
            (CloseCode::INTERNAL_ERROR, 1011),
            (CloseCode::SERVICE_RESTART, 1012),
            (CloseCode::TRY_AGAIN_LATER, 1013),
            (CloseCode::BAD_GATEWAY, 1014),
            (CloseCode::TLS_HANDSHAKE, 1015),
            (CloseCode::UNAUTHORIZED, 3000),
            (CloseCode::FORBIDDEN, 3003),
            (CloseCode::TIMEOUT, 3008),
        ] {
            assert_eq!(u16::from(constant), code);
        }
    }

    #[test]
    fn a_reason_has_at_most_123_bytes() {
        assert_eq!(CloseFrame::new(1000, "x".repeat(123)).check(), Ok(()));
        assert_eq!(CloseFrame::new(1000, "x".repeat(124)).check(), Err(InvalidClose::Reason(124)));
    }
}
