//! `Sec-WebSocket-Protocol` (RFC 6455 section 4.2.2): checks the offer of the client and chooses from it.

use std::sync::Arc;

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;

use super::headers::{is_token, items};
use crate::rejection::Rejection;

/// Checks that the header is a list of tokens.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Rejection> {
    if items(headers, &SEC_WEBSOCKET_PROTOCOL).all(is_token) {
        Ok(())
    } else {
        Err(Rejection::MalformedProtocol)
    }
}

/// A list of subprotocols that a server or a client cannot have.
///
/// ```
/// use ws_core::{InvalidProtocol, WebSocketLayer};
///
/// let error: InvalidProtocol = WebSocketLayer::new().try_protocols(["my chat"]).unwrap_err();
/// assert!(error.to_string().starts_with("the subprotocol \"my chat\" is not a token"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidProtocol {
    /// The name is not a token (RFC 6455 section 4.1).
    #[error("the subprotocol {0:?} is not a token: use letters, digits and !#$%&'*+-.^_`|~ only")]
    NotAToken(String),
    /// A client offers the name twice (RFC 6455 section 4.1).
    #[error("the subprotocol {0:?} is there twice: offer it once")]
    Twice(String),
}

/// The names of subprotocols, as a server knows them or a client offers them.
///
/// # Errors
///
/// If a name is not a token.
pub fn names<I>(protocols: I) -> Result<Vec<Arc<str>>, InvalidProtocol>
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let names = protocols.into_iter().map(|protocol| {
        let protocol = protocol.as_ref();
        if is_token(protocol) {
            Ok(Arc::from(protocol))
        } else {
            Err(InvalidProtocol::NotAToken(protocol.to_owned()))
        }
    });
    names.collect()
}

/// The builder method `protocols` and its twin `try_protocols`, with the docs of the first one. The type has a method
/// `fn set_protocols(self, Vec<Arc<str>>) -> Result<Self, InvalidProtocol>`; `$problem` is when that or a name is not valid.
///
/// Not part of the public API: only this crate and the adapter crates use it.
#[doc(hidden)]
#[macro_export]
macro_rules! __protocols {
    ($(#[$doc:meta])+ panics $problem:literal) => {
        $(#[$doc])+
        ///
        /// # Panics
        ///
        #[doc = $problem]
        /// [`try_protocols`](Self::try_protocols) returns an error instead.
        #[track_caller]
        pub fn protocols<I>(self, protocols: I) -> Self
        where
            I: IntoIterator<Item: AsRef<str>>,
        {
            $crate::__expect_valid(self.try_protocols(protocols))
        }

        /// As [`protocols`](Self::protocols), for names that come from outside of the program.
        ///
        /// # Errors
        ///
        #[doc = $problem]
        pub fn try_protocols<I>(self, protocols: I) -> Result<Self, $crate::InvalidProtocol>
        where
            I: IntoIterator<Item: AsRef<str>>,
        {
            self.set_protocols($crate::__protocol_names(protocols)?)
        }
    };
}

/// Chooses the first of `known` that the client offers. `known` is in the server's order of preference.
///
/// Names are compared with their letter case, as browsers compare the answer.
pub(crate) fn choose(headers: &HeaderMap, known: &[Arc<str>]) -> Option<Arc<str>> {
    let is_offered =
        |name: &str| items(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == name.as_bytes());
    known.iter().find(|name| is_offered(name)).cloned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn offer(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(line).unwrap())).collect()
    }

    fn chosen(lines: &[&str], known: &[&str]) -> Option<String> {
        let known: Vec<Arc<str>> = known.iter().map(|&name| name.into()).collect();
        choose(&offer(lines), &known).map(|name| name.to_string())
    }

    #[test]
    fn the_servers_order_decides() {
        for lines in [&["b, a"][..], &["b", "a"], &["b,a"], &[",b,,a,"], &["a"], &["x, a, a"]] {
            assert_eq!(chosen(lines, &["a", "b"]).as_deref(), Some("a"), "{lines:?}");
        }
        assert_eq!(chosen(&["b"], &["a", "b"]).as_deref(), Some("b"));
    }

    #[test]
    fn what_was_not_offered_is_not_chosen() {
        for lines in [&[][..], &[""], &["c"], &["A"], &["aa"], &["a b"]] {
            assert_eq!(chosen(lines, &["a"]), None, "{lines:?}");
        }
        assert_eq!(chosen(&["a"], &[]), None);
    }

    #[test]
    fn names_are_tokens_and_empty_items_are_ignored() {
        for lines in [&[][..], &[""], &[","], &["a"], &["a,a"], &["v1.chat , v2.chat", "\tv3.chat"]] {
            assert_eq!(check(&offer(lines)), Ok(()), "{lines:?}");
        }
        for lines in [&["a b"][..], &["a", "b c"], &["\"a\""], &["a/b"], &["a;b"], &["a, @"]] {
            assert_eq!(check(&offer(lines)), Err(Rejection::MalformedProtocol), "{lines:?}");
        }
        let not_ascii = HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap();
        let headers = HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, not_ascii)]);
        assert_eq!(check(&headers), Err(Rejection::MalformedProtocol));
    }

    #[test]
    fn ten_thousand_names_are_read_like_one() {
        let names: Vec<_> = (0..10_000).map(|number| format!("name{number}")).collect();
        let lines = [names.join(",")];
        let lines = [lines[0].as_str()];
        assert_eq!(check(&offer(&lines)), Ok(()));
        assert_eq!(chosen(&lines, &["other", "name9999"]).as_deref(), Some("name9999"));
    }
}
