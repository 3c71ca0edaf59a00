//! Headers that are lists of tokens (RFC 9110 section 5.6). Values are bytes, because they may not be ASCII.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The value of a header, if the header is there exactly once.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The items of a comma-separated list over all lines of a header, without the white space around them. Empty items are
/// ignored (RFC 9110 section 5.6.1.2).
pub(crate) fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(trim)
        .filter(|item| !item.is_empty())
}

/// Whether such a list contains the token, in any letter case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// Removes spaces and tabs at both ends. A header cannot contain other white space.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Whether this is a token (RFC 9110 section 5.6.2), as the names of subprotocols and extensions are.
pub(super) fn is_token(text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// Whether a token may contain this byte.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::header::UPGRADE;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (UPGRADE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn a_list_goes_over_all_lines_and_ignores_white_space_and_empty_items() {
        let headers = headers(&["a,b , ,,\tc\t", "", " ", ",", "d e"]);
        let items: Vec<_> = items(&headers, &UPGRADE).map(|item| str::from_utf8(item).unwrap()).collect();
        assert_eq!(items, ["a", "b", "c", "d e"]);
    }

    #[test]
    fn only_a_single_line_is_the_only_one() {
        assert!(only(&headers(&[]), &UPGRADE).is_none());
        assert!(only(&headers(&["a"]), &UPGRADE).is_some());
        assert!(only(&headers(&["a", "a"]), &UPGRADE).is_none());
    }

    #[test]
    fn a_token_has_the_bytes_of_rfc_9110_and_at_least_one() {
        for byte in 0..=u8::MAX {
            let expected =
                matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token([byte]), expected, "{byte:#x}");
        }
        assert!(!is_token(""));
        assert!(is_token("graphql-transport-ws"));
        assert!(!is_token("chat room"));
    }
}
