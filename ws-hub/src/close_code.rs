//! The codes with which a hub closes a connection, besides those of
//! [IANA's registry](ws_core::CloseCode#which-code-is-sent-when-and-what-a-client-does-after-it).
//!
//! They are of the range that RFC 6455 leaves to applications (4000–4999, section 7.4.2). An application that uses a hub
//! takes other numbers for its own codes.
//!
//! | code | constant | meaning | reconnect? |
//! |---|---|---|---|
//! | 4001 | [`REPLACED`] | the user has logged in again, and the newer connection replaces this one | no |
//! | 4002 | [`ALREADY_CONNECTED`] | the user has as many connections as they may have | no |
//! | 4003 | [`KICKED`] | the application has disconnected the user | no |
//! | 4100 | [`OVERFLOW`] | the client reads too slowly, and its queue is full | yes |
//!
//! A client can tell from [`CloseCode::should_reconnect`] whether to come back: 4100–4199 say so.
//!
//! ```
//! use ws_core::Closed;
//! use ws_hub::close_code;
//!
//! fn explain(closed: &Closed) -> &'static str {
//!     match closed.code() {
//!         close_code::REPLACED => "you are connected elsewhere",
//!         close_code::KICKED => "you were signed out",
//!         code if code.should_reconnect() => "connecting again",
//!         _ => "the connection is closed",
//!     }
//! }
//! ```

use ws_core::CloseCode;

/// 4001: the user has logged in again, and the newer connection replaces this one
/// ([`Login::ReplaceOld`](crate::Login::ReplaceOld)). The client does not come back, or the two would replace each other
/// for ever.
pub const REPLACED: CloseCode = CloseCode::new(4001);

/// 4002: the user has as many connections as the [`Login`](crate::Login) policy allows. The client does not come back.
pub const ALREADY_CONNECTED: CloseCode = CloseCode::new(4002);

/// 4003: the application has disconnected the user ([`Hub::kick`](crate::Hub::kick)). The client does not come back.
pub const KICKED: CloseCode = CloseCode::new(4003);

/// 4100: messages came faster than the client read them, and its queue is full
/// ([`Overflow::Disconnect`](crate::Overflow::Disconnect)). The client comes back, and gets what is stored.
pub const OVERFLOW: CloseCode = CloseCode::new(4100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_comes_back_after_an_overflow_only() {
        assert!(OVERFLOW.should_reconnect());
        for code in [REPLACED, ALREADY_CONNECTED, KICKED] {
            assert!(!code.should_reconnect(), "{code}");
        }
    }

    #[test]
    fn the_codes_are_of_the_range_of_applications() {
        for code in [REPLACED, ALREADY_CONNECTED, KICKED, OVERFLOW] {
            assert!((4000..=4999).contains(&u16::from(code)), "{code}");
        }
    }
}
