//! Why a connection did not open: [`ConnectError`], and [`Refusal`], the answer of a server that refused the handshake.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::proxy_error::{ProxyError, ProxyFailure};

/// How much of the text of a refusal is in the message of the error, in characters.
const SHOWN: usize = 200;

/// Why a connection did not open.
///
/// ```no_run
/// # async fn run() -> Result<(), ws_core::client::ConnectError> {
/// use ws_core::client;
///
/// match client::connect("wss://example.com/chat").await {
///     Ok(socket) => drop(socket),
///     Err(error) if error.status() == Some(http::StatusCode::UNAUTHORIZED) => println!("sign in first"),
///     Err(error) if error.should_retry() => println!("later: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one of a WebSocket (RFC 6455 section 3), or this client cannot connect to it.
    #[error("this is not a URL to connect to: {why}")]
    InvalidUrl {
        /// What is wrong with it, and what to write.
        why: &'static str,
    },
    /// The name of the server has no address, or none of its addresses accepts a connection. This is the error of the last
    /// address.
    #[error("cannot connect to the server: {0}")]
    Connect(#[source] io::Error),
    /// TLS failed: the certificate of the server is not trusted or not for its name, or there is no common version or
    /// cipher.
    #[error("no TLS with the server: {0}")]
    Tls(#[source] io::Error),
    /// The connection was not open within the `connect_timeout`.
    #[error("the connection was not open in time")]
    Timeout,
    /// The server answered with another status than 101.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The answer does not open a WebSocket (RFC 6455 section 4.1), or is not HTTP/1.1.
    #[error("the server's answer does not open a WebSocket: {why}")]
    InvalidResponse {
        /// What is wrong with it, and what it should be.
        why: Cow<'static, str>,
    },
    /// The head of the answer is larger than 16 KiB, or has more than 100 headers.
    #[error("the head of the server's answer has more than 16 KiB, or more than 100 headers")]
    HeadTooLarge,
    /// The connection ended or broke before the answer was complete.
    #[error("the server disconnected before its answer was complete")]
    Disconnected(#[source] Option<io::Error>),
    /// The proxy cannot be reached, or has not opened a tunnel to the server.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
}

impl ConnectError {
    /// Whether the URL is not valid.
    #[must_use]
    pub fn is_invalid_url(&self) -> bool {
        matches!(self, Self::InvalidUrl { .. })
    }

    /// Whether the network failed: no address, no connection, or a connection that broke before the answer.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Disconnected(_))
    }

    /// Whether TLS failed.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the `connect_timeout` was exceeded.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether the server refused the handshake with an HTTP status.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether the answer broke the protocol or a limit. Usually there is no WebSocket at that URL.
    #[must_use]
    pub fn is_invalid_response(&self) -> bool {
        matches!(self, Self::InvalidResponse { .. } | Self::HeadTooLarge)
    }

    /// The answer of a server that refused the handshake.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Why a proxy did not lead to the server.
    #[must_use]
    pub fn proxy(&self) -> Option<&ProxyError> {
        match self {
            Self::Proxy(error) => Some(error),
            _ => None,
        }
    }

    /// The status of the server's [refusal](Self::refusal). That of a proxy is in [`proxy`](Self::proxy).
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.refusal().map(Refusal::status)
    }

    /// How long the server, or the proxy, asks the client to wait, in a refusal.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::Proxy(error) => retry_after(error.response().map(Response::headers)?),
            _ => None,
        }
    }

    /// Whether a retry may succeed without a change:
    ///
    /// | error | retry? |
    /// |---|---|
    /// | [`Connect`](Self::Connect), [`Disconnected`](Self::Disconnected), [`Timeout`](Self::Timeout) | yes |
    /// | [`Tls`](Self::Tls) | if the connection broke; not if certificate or parameters are wrong |
    /// | [`Refused`](Self::Refused) with 408, 425, 429, 5xx | yes |
    /// | [`Refused`](Self::Refused) with another status, such as 401, 404 or a redirect | no |
    /// | [`Proxy`](Self::Proxy) | as for the same error of a server |
    /// | [`InvalidUrl`](Self::InvalidUrl), [`InvalidResponse`](Self::InvalidResponse), [`HeadTooLarge`](Self::HeadTooLarge) | no |
    #[must_use]
    pub fn should_retry(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Disconnected(_) | Self::Timeout => true,
            Self::Tls(error) => !is_tls_error(error),
            Self::Refused(refusal) => is_passing_status(refusal.status()),
            Self::Proxy(error) => match &error.failure {
                ProxyFailure::Connect(_) | ProxyFailure::Disconnected(_) => true,
                ProxyFailure::Tls(error) => !is_tls_error(error),
                ProxyFailure::Refused(response) => is_passing_status(response.status()),
                ProxyFailure::Unusable(_) | ProxyFailure::InvalidResponse(_) => false,
            },
            Self::InvalidUrl { .. } | Self::InvalidResponse { .. } | Self::HeadTooLarge => false,
        }
    }

    /// This error, of a handshake over a connection with TLS if `secure`. With TLS 1.3, the other side refuses a client's
    /// certificate after the client's half of TLS is over.
    pub(super) fn over_tls(self, secure: bool) -> Self {
        match self {
            Self::Disconnected(Some(error)) if secure && is_tls_error(&error) => Self::Tls(error),
            error => error,
        }
    }

    pub(super) fn invalid_response(why: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidResponse { why: why.into() }
    }
}

/// Whether a retry may get another answer.
fn is_passing_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
}

/// Whether this is an error of TLS itself, not of the connection below.
fn is_tls_error(error: &io::Error) -> bool {
    // rustls gives its errors this kind
    error.kind() == io::ErrorKind::InvalidData
}

/// The header `Retry-After` (RFC 9110 section 10.2.3), as the time from now.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The answer of a server that refused the handshake.
///
/// ```
/// # fn report(error: &ws_core::client::ConnectError) {
/// if let Some(refusal) = error.refusal() {
///     println!("{}: {}", refusal.status(), String::from_utf8_lossy(refusal.body()));
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Refusal {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Refusal {
    /// The status, which is not 101.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first 4 KiB of the body, as far as they arrived within one second.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The header `Retry-After` (RFC 9110 section 10.2.3), seconds or a date, as the time from now. Zero for a date that has
    /// passed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The target of a redirect. It is never followed, because the request has headers that another server must not see.
    /// Connect to the target if you trust it.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        let location = self.headers.get(LOCATION)?.to_str().ok()?;
        self.status.is_redirection().then_some(location)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server refused the handshake with {}", self.status)?;
        if let Some(location) = self.location() {
            return write!(
                f,
                ": a redirect to {location:?}, which is not followed: connect to that URL instead"
            );
        }
        let text = String::from_utf8_lossy(&self.body);
        let line = text.lines().next().unwrap_or_default().trim();
        if !line.is_empty() && !line.starts_with('<') {
            let shown: String = line.chars().take(SHOWN).collect();
            write!(f, ": {}", shown.escape_debug())?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// A header that cannot be sent with a handshake.
///
/// ```
/// use ws_core::client::{Client, InvalidHeader};
///
/// let error = Client::new().try_header("upgrade", "h2c").unwrap_err();
/// assert!(matches!(error, InvalidHeader::Reserved { .. }));
/// assert_eq!(error.to_string(), "the header `upgrade` cannot be set: it belongs to the handshake");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is not valid for a header.
    #[error("{0:?} is not the name of a header: use letters, digits and !#$%&'*+-.^_`|~ only")]
    Name(String),
    /// The value contains a byte that is not valid in a header.
    #[error("the value of the header `{0}` has a line break or another control character")]
    Value(HeaderName),
    /// The header is set by something else.
    #[error("the header `{name}` cannot be set: {why}")]
    Reserved {
        /// Its name.
        name: HeaderName,
        /// What sets it.
        why: &'static str,
    },
}

impl InvalidHeader {
    /// Checks that a header with this name and value can be sent.
    pub(super) fn check(name: &str, value: &[u8]) -> Result<(HeaderName, HeaderValue), Self> {
        let name = HeaderName::try_from(name).map_err(|_| Self::Name(name.to_owned()))?;
        let why = match name.as_str() {
            "host" => Some("it is that of the URL; `connect_over` reaches it at another address"),
            "origin" => Some("use the method `origin`"),
            "proxy-authorization" => {
                Some("the server must not see it; write user and password in the URL for `proxy`")
            }
            "content-length" | "transfer-encoding" => Some("a handshake has no body"),
            "upgrade" | "connection" => Some("it belongs to the handshake"),
            other if other.starts_with("sec-websocket-") => Some("it belongs to the handshake"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Self::Reserved { name, why });
        }
        let value = HeaderValue::from_bytes(value).map_err(|_| Self::Value(name.clone()))?;
        Ok((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, headers: &[(HeaderName, &str)], body: impl Into<Bytes>) -> ConnectError {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let status = StatusCode::from_u16(status).unwrap();
        ConnectError::Refused(Box::new(Refusal { status, headers, body: body.into() }))
    }

    #[test]
    fn what_may_go_well_later_is_tried_again() {
        let io = || io::Error::from(io::ErrorKind::ConnectionReset);
        for error in [ConnectError::Connect(io()), ConnectError::Tls(io()), ConnectError::Timeout] {
            assert!(error.should_retry(), "{error}");
        }
        assert!(ConnectError::Disconnected(None).should_retry());
        assert!(!ConnectError::Tls(io::ErrorKind::InvalidData.into()).should_retry());
        assert!(!ConnectError::InvalidUrl { why: "" }.should_retry());
        assert!(!ConnectError::invalid_response("").should_retry());
        assert!(!ConnectError::HeadTooLarge.should_retry());
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(refused(status, &[], "").should_retry(), "{status}");
        }
        for status in [200, 204, 301, 302, 307, 400, 401, 403, 404, 405, 426] {
            assert!(!refused(status, &[], "").should_retry(), "{status}");
        }
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let after = |value| refused(503, &[(RETRY_AFTER, value)], "").retry_after();
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let later = after("Fri, 31 Dec 9999 23:59:59 GMT").unwrap();
        assert!(later > Duration::from_secs(3600 * 24 * 365), "{later:?}");
        for value in ["", "-1", "1.5", "soon", "18446744073709551616"] {
            assert_eq!(after(value), None, "{value}");
        }
        assert_eq!(refused(503, &[], "").retry_after(), None);
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        for (error, expected) in [
            (refused(403, &[], ""), "403 Forbidden"),
            (
                refused(403, &[], "the origin is not allowed\nmore"),
                "403 Forbidden: the origin is not allowed",
            ),
            (refused(404, &[], "<html><body>"), "404 Not Found"),
            (refused(401, &[], "no\u{1b}[31m"), "401 Unauthorized: no\\u{1b}[31m"),
            (
                refused(302, &[(LOCATION, "/login")], "moved"),
                "302 Found: a redirect to \"/login\", which is not followed: connect to that URL instead",
            ),
        ] {
            assert_eq!(error.to_string(), format!("the server refused the handshake with {expected}"));
        }
        assert!(refused(400, &[], "x".repeat(5000)).to_string().len() < 300);
    }

    #[test]
    fn headers_of_the_handshake_and_those_that_would_inject_lines_are_refused() {
        for name in [
            "Host",
            "Upgrade",
            "connection",
            "Sec-WebSocket-Key",
            "sec-websocket-version",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
            "sec-websocket-anything",
            "Content-Length",
            "Transfer-Encoding",
            "Origin",
            "Proxy-Authorization",
        ] {
            let error = InvalidHeader::check(name, b"x").unwrap_err();
            assert!(matches!(error, InvalidHeader::Reserved { .. }), "{name}: {error}");
        }
        for name in ["", "a b", "a:", "a\r\nb", "ü"] {
            assert_eq!(InvalidHeader::check(name, b"x"), Err(InvalidHeader::Name(name.to_owned())));
        }
        for value in ["a\r\nb: c", "a\nb", "a\0", "a\x7f"] {
            let error = InvalidHeader::check("X-Token", value.as_bytes()).unwrap_err();
            assert!(matches!(error, InvalidHeader::Value(_)), "{value:?}");
        }
        for value in ["", "a b", "Grüße", "Bearer x.y-z="] {
            assert!(InvalidHeader::check("Authorization", value.as_bytes()).is_ok(), "{value}");
        }
    }
}
