//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1). A header that is not a list of extensions is refused. An
//! offer that the server does not know, or that is switched off, is declined: the response does not mention it.
//!
//! The only known extension is permessage-deflate: see `deflate`.

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

use super::headers::{is_token, is_token_byte, items, trim};
use crate::rejection::Rejection;

/// Checks that the header is a list of extensions with parameters.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Rejection> {
    if items(headers, &SEC_WEBSOCKET_EXTENSIONS).all(is_extension) {
        Ok(())
    } else {
        Err(Rejection::MalformedExtensions)
    }
}

/// Whether this is an `extension`: a token and its parameters.
///
/// Splitting at every comma and semicolon is correct even between quotes: a quoted value has to be a token, which contains
/// neither.
fn is_extension(text: &[u8]) -> bool {
    let mut parts = parts(text);
    parts.next().is_some_and(is_token) && parts.all(is_parameter)
}

/// The name of an extension, then its parameters.
pub(super) fn parts(extension: &[u8]) -> impl Iterator<Item = &[u8]> {
    extension.split(|&byte| byte == b';').map(trim)
}

/// The name of a parameter, and its value with quotes.
pub(super) fn name_and_value(parameter: &[u8]) -> (&[u8], Option<&[u8]>) {
    match parameter.iter().position(|&byte| byte == b'=') {
        Some(at) => (trim(&parameter[..at]), Some(trim(&parameter[at + 1..]))),
        None => (parameter, None),
    }
}

/// Whether this is an `extension-param`: `name`, `name=value` or `name="value"`.
fn is_parameter(text: &[u8]) -> bool {
    let (name, value) = name_and_value(text);
    is_token(name) && value.is_none_or(is_value)
}

fn is_value(text: &[u8]) -> bool {
    match text.strip_prefix(b"\"") {
        Some(quoted) => quoted
            .strip_suffix(b"\"")
            .is_some_and(|content| !content.is_empty() && unescaped(content).all(is_token_byte)),
        None => is_token(text),
    }
}

/// The content of a quoted string without the backslashes that escape bytes.
pub(super) fn unescaped(content: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = content.iter().copied();
    std::iter::from_fn(move || match bytes.next()? {
        // a backslash at the end is itself, which no token contains
        b'\\' => Some(bytes.next().unwrap_or(b'\\')),
        byte => Some(byte),
    })
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
