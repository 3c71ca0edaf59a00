//! `Sec-WebSocket-Extensions` (RFC 6455 section 9.1): every well-formed offer is declined, by not answering
//! it.

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

use super::Rejection;
use super::headers::{is_token, is_token_byte, items, trim};

/// Refuses a header that is not a list of extensions with parameters.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Rejection> {
    if items(headers, &SEC_WEBSOCKET_EXTENSIONS).all(is_extension) {
        Ok(())
    } else {
        Err(Rejection::MalformedExtensions)
    }
}

/// Whether this is an `extension`: a token and its parameters.
///
/// To split at every comma and semicolon is right, also between quotes: what is quoted has to be a token,
/// which has neither of them.
fn is_extension(text: &[u8]) -> bool {
    let mut parts = text.split(|&byte| byte == b';').map(trim);
    parts.next().is_some_and(is_token) && parts.all(is_parameter)
}

/// Whether this is an `extension-param`: `name`, `name=value` or `name="value"`.
fn is_parameter(text: &[u8]) -> bool {
    match text.iter().position(|&byte| byte == b'=') {
        Some(at) => is_token(trim(&text[..at])) && is_value(trim(&text[at + 1..])),
        None => is_token(text),
    }
}

fn is_value(text: &[u8]) -> bool {
    match text.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_suffix(b"\"").is_some_and(is_quoted_token),
        None => is_token(text),
    }
}

/// Whether the content of a quoted string, in which any byte may have a backslash in front, is a token.
fn is_quoted_token(text: &[u8]) -> bool {
    let mut bytes = text.iter().copied();
    let mut unescaped = std::iter::from_fn(|| match bytes.next()? {
        // a backslash at the end stands for itself, and is no token
        b'\\' => Some(bytes.next().unwrap_or(b'\\')),
        byte => Some(byte),
    });
    !text.is_empty() && unescaped.all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn checked(lines: &[&[u8]]) -> Result<(), Rejection> {
        let value = |line: &&[u8]| (SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_bytes(line).unwrap());
        check(&lines.iter().map(value).collect())
    }

    #[test]
    fn well_formed_offers_are_accepted() {
        for line in [
            "",
            ",",
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
            "permessage-deflate;client_max_window_bits=\"10\"",
            "permessage-deflate\t;\tclient_max_window_bits = 10 , , x-other",
            "a; b=\"\\1\\0\"",
            "permessage-deflate; client_max_window_bits=99; client_max_window_bits=99",
        ] {
            assert_eq!(checked(&[line.as_bytes()]), Ok(()), "{line}");
        }
        assert_eq!(checked(&[b"a; b=1", b"", b"c"]), Ok(()));
    }

    #[test]
    fn malformed_offers_are_refused() {
        for line in [
            ";",
            "a;",
            ";a",
            "a;;b",
            "a b",
            "a=1",
            "a; =1",
            "a; b=",
            "a; b==1",
            "a; b=1=2",
            "a; b=1 2",
            "a; b c=1",
            "a; \"b\"=1",
            "a; b=\"",
            "a; b=\"\"",
            "a; b=\"1",
            "a; b=1\"",
            "a; b=\"1\"2",
            "a; b=\"1 2\"",
            "a; b=\"1,2\"",
            "a; b=\"1;2\"",
            "a; b=\"1\\\"",
            "a; b=\"\\\\\"",
            "a; b=\"\\\"\"",
            "a, b;",
            "\"a\"",
            "a/b",
        ] {
            assert_eq!(checked(&[line.as_bytes()]), Err(Rejection::MalformedExtensions), "{line}");
        }
        assert_eq!(checked(&[b"a", b"caf\xe9"]), Err(Rejection::MalformedExtensions));
        assert_eq!(checked(&[b"a; b=\"1", b"2\""]), Err(Rejection::MalformedExtensions));
    }

    #[test]
    fn a_long_offer_is_read_like_a_short_one() {
        let line = "a; b=\"1\", ".repeat(10_000);
        assert_eq!(checked(&[line.as_bytes()]), Ok(()));
        let line = "a; b=\"".repeat(10_000);
        assert_eq!(checked(&[line.as_bytes()]), Err(Rejection::MalformedExtensions));
    }
}
