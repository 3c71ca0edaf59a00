//! [`Target`]: the URL that a client connects to, parsed and checked (RFC 6455 section 3).
//!
//! `http::Uri` is less strict: it drops a fragment, ignores a port that is not valid, and accepts a user and a password.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::Uri;

use super::error::ConnectError;

/// The parts of a URL of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether the scheme is `wss`. Without the feature `rustls` it never is.
    pub(super) secure: bool,
    /// A name or an address; an IPv6 address without brackets.
    pub(super) host: String,
    /// The zone of an IPv6 address: which network of this host it is in (RFC 4007). It is never sent.
    pub(super) zone: Option<String>,
    pub(super) port: u16,
    /// The value of `Host`: without the port if it is the default of the scheme, and without the zone.
    pub(super) authority: String,
    /// The path, with the query.
    pub(super) path_and_query: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, ConnectError> {
        Self::check(url).map_err(|why| ConnectError::InvalidUrl { why })
    }

    pub(super) fn check(url: &str) -> Result<Self, &'static str> {
        if !url.is_ascii() {
            return Err(
                "it has characters beyond ASCII: percent-encode the path and the query, and write the host \
                        in its `xn--` form",
            );
        }
        if url.contains('#') {
            return Err("it has a fragment, which is never sent: leave out the `#` and what follows");
        }
        let (scheme, _) = url.split_once("://").ok_or("it has no scheme: write ws://host or wss://host")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" if cfg!(feature = "rustls") => true,
            "wss" => {
                return Err("its scheme is wss, and there is no TLS: enable the feature `rustls` of ws-core");
            }
            "http" => return Err("its scheme is http: write ws"),
            "https" => return Err("its scheme is https: write wss"),
            _ => return Err("its scheme is not one of WebSockets: write ws, or wss for TLS"),
        };
        let (url, zone) = split_zone(url)?;
        let uri: Uri = url
            .parse()
            .map_err(|_| "it has no host, or a character, such as a space, that has to be percent-encoded")?;
        let authority = uri.authority().ok_or("it has no host: write ws://host")?.as_str();
        if authority.contains('@') {
            return Err("it has a user or a password: send them in the header `Authorization`");
        }
        let written = uri.host().filter(|host| !host.is_empty()).ok_or("it has no host: write ws://host")?;
        let host = match written.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').filter(|text| text.parse::<Ipv6Addr>().is_ok());
                address.ok_or("what is in brackets is not an IPv6 address")?
            }
            None => written,
        };
        let default = if secure { 443 } else { 80 };
        let port = match authority[written.len()..].strip_prefix(':') {
            None | Some("") => default,
            Some(digits) => match digits.parse() {
                Ok(0) | Err(_) => return Err("its port is not a number from 1 to 65535"),
                Ok(port) => port,
            },
        };
        let authority = if port == default { written.to_owned() } else { format!("{written}:{port}") };
        let query = uri.query().map(|query| format!("?{query}"));
        let path_and_query = format!("{}{}", uri.path(), query.unwrap_or_default());
        let (host, zone) = (host.to_owned(), zone.map(str::to_owned));
        Ok(Self { secure, host, zone, port, authority, path_and_query })
    }

    /// The host as the system's resolver reads it: with the zone.
    pub(super) fn resolvable_host(&self) -> Cow<'_, str> {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host).into(),
            None => self.host.as_str().into(),
        }
    }

    /// The host as in a URL: an IPv6 address in brackets, without the zone.
    pub(super) fn written_host(&self) -> Cow<'_, str> {
        if self.host.contains(':') { format!("[{}]", self.host).into() } else { self.host.as_str().into() }
    }

    /// The same, with one more parameter in the query. Name and value are percent-encoded.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut path_and_query = self.path_and_query.clone();
        path_and_query.push_str(match path_and_query.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        });
        percent_encode(name, &mut path_and_query);
        path_and_query.push('=');
        percent_encode(value, &mut path_and_query);
        Self { path_and_query, ..self.clone() }
    }

    /// The path without the query, which may contain a secret.
    pub(super) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }
}

/// Appends a text, in which all but the unreserved characters of RFC 3986 section 2.3 are percent-encoded.
fn percent_encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from(b"0123456789ABCDEF"[usize::from(value)]);
            to.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// Takes the zone out of a URL whose host is an IPv6 address: `ws://[fe80::1%25eth0]/` (RFC 6874).
fn split_zone(url: &str) -> Result<(Cow<'_, str>, Option<&str>), &'static str> {
    let literal = url.split_once("://[").and_then(|(scheme, rest)| Some((scheme, rest.split_once(']')?)));
    let Some((scheme, (literal, rest))) = literal else { return Ok((url.into(), None)) };
    let Some((address, zone)) = literal.split_once('%') else { return Ok((url.into(), None)) };
    if !scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        // this is in the path
        return Ok((url.into(), None));
    }
    let zone = zone.strip_prefix("25").ok_or(
        "the zone of its IPv6 address has a bare `%`: percent-encode it, as in ws://[fe80::1%25eth0]/",
    )?;
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if zone.is_empty() || !zone.bytes().all(is_unreserved) {
        return Err("the zone of its IPv6 address is not one: use letters, digits and -._~ only");
    }
    Ok((format!("{scheme}://[{address}]{rest}").into(), Some(zone)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_says() {
        for (url, secure, host, port, authority, path) in [
            ("ws://example.com", false, "example.com", 80, "example.com", "/"),
            ("ws://example.com/", false, "example.com", 80, "example.com", "/"),
            ("wss://example.com/chat", true, "example.com", 443, "example.com", "/chat"),
            ("WSS://Example.com/Chat", true, "Example.com", 443, "Example.com", "/Chat"),
            ("ws://example.com:80/", false, "example.com", 80, "example.com", "/"),
            ("ws://example.com:/", false, "example.com", 80, "example.com", "/"),
            ("wss://example.com:443", true, "example.com", 443, "example.com", "/"),
            ("ws://example.com:443/", false, "example.com", 443, "example.com:443", "/"),
            ("wss://example.com:80/", true, "example.com", 80, "example.com:80", "/"),
            ("ws://localhost:8080?a=b", false, "localhost", 8080, "localhost:8080", "/?a=b"),
            ("ws://h/a?", false, "h", 80, "h", "/a?"),
            ("ws://h/a%20b/%C3%BC?x=%26&y=/?:@", false, "h", 80, "h", "/a%20b/%C3%BC?x=%26&y=/?:@"),
            ("ws://h//a/../b", false, "h", 80, "h", "//a/../b"),
            ("ws://127.0.0.1:9/", false, "127.0.0.1", 9, "127.0.0.1:9", "/"),
            ("ws://[::1]/", false, "::1", 80, "[::1]", "/"),
            ("wss://[2001:db8::1]:8443/x", true, "2001:db8::1", 8443, "[2001:db8::1]:8443", "/x"),
        ] {
            if secure && !cfg!(feature = "rustls") {
                assert!(Target::check(url).unwrap_err().contains("feature `rustls`"), "{url}");
                continue;
            }
            let expected = Target {
                secure,
                host: host.into(),
                zone: None,
                port,
                authority: authority.into(),
                path_and_query: path.into(),
            };
            assert_eq!(Target::check(url), Ok(expected), "{url}");
        }
        assert_eq!(Target::check("ws://h/a/b?secret").unwrap().path(), "/a/b");
    }

    #[test]
    fn a_parameter_is_added_to_the_query() {
        for (url, name, value, expected) in [
            ("ws://h", "after", "17.9f", "/?after=17.9f"),
            ("ws://h/a", "after", "", "/a?after="),
            ("ws://h/a?", "after", "1", "/a?after=1"),
            ("ws://h/a?b=c", "after", "1", "/a?b=c&after=1"),
            ("ws://h/a?b=c&", "after", "1", "/a?b=c&after=1"),
            ("ws://h/", "a b=", "?&#%+ü\r\n~", "/?a%20b%3D=%3F%26%23%25%2B%C3%BC%0D%0A~"),
        ] {
            let target = Target::check(url).expect(url);
            let with = target.with(name, value);
            assert_eq!(with.path_and_query, expected, "{url}");
            assert_eq!((with.authority, with.port), (target.authority, target.port), "{url}");
        }
    }

    #[test]
    fn the_zone_of_an_address_is_for_the_resolver_alone() {
        for (url, host, resolvable, authority) in [
            ("ws://[fe80::1%25eth0]/", "fe80::1", "fe80::1%eth0", "[fe80::1]"),
            ("ws://[fe80::1%253]:8080/", "fe80::1", "fe80::1%3", "[fe80::1]:8080"),
            ("ws://[fe80::1%25br-lan.7]", "fe80::1", "fe80::1%br-lan.7", "[fe80::1]"),
        ] {
            let target = Target::check(url).expect(url);
            assert_eq!((&*target.host, &*target.resolvable_host()), (host, resolvable), "{url}");
            assert_eq!((&*target.authority, target.path()), (authority, "/"), "{url}");
        }
        let target = Target::check("ws://h/?at=ws://[fe80::1%eth0]/").unwrap();
        assert_eq!((target.zone, &*target.path_and_query), (None, "/?at=ws://[fe80::1%eth0]/"));
    }

    #[test]
    fn what_is_no_url_of_a_websocket_is_told_what_to_write() {
        for (url, expected) in [
            ("", "no scheme"),
            ("example.com/chat", "no scheme"),
            ("/chat", "no scheme"),
            ("ws:example.com", "no scheme"),
            ("http://example.com/", "write ws"),
            ("HTTPS://example.com/", "write wss"),
            ("ftp://example.com/", "write ws, or wss"),
            ("ws://", "no host"),
            ("ws:///chat", "no host"),
            ("ws://:80/", "host"),
            ("ws://user@example.com/", "`Authorization`"),
            ("ws://user:secret@example.com/", "`Authorization`"),
            ("ws://example.com/#top", "fragment"),
            ("ws://example.com/a b", "percent-encoded"),
            ("ws://example.com/a\r\nX: y", "percent-encoded"),
            ("ws://exa mple.com/", "percent-encoded"),
            ("ws://example.com/grüße", "beyond ASCII"),
            ("ws://bücher.example/", "`xn--`"),
            ("ws://example.com:0/", "port"),
            ("ws://example.com:65536/", "port"),
            ("ws://example.com:x/", ""),
            ("ws://[::1/", ""),
            ("ws://[::g]/", ""),
            ("ws://[example.com]/", ""),
            ("ws://[fe80::1%eth0]/", "percent-encode it"),
            ("ws://[fe80::1%25]/", "zone"),
            ("ws://[fe80::1%25eth0%0d%0a]/", "zone"),
            ("ws://[fe80::1%25eth0/", ""),
            ("ws://[example.com%25eth0]/", "not an IPv6 address"),
            ("ws://example.com%25eth0/", ""),
        ] {
            let why = Target::check(url).expect_err(url);
            assert!(why.contains(expected), "{url}: {why}");
        }
    }
}
