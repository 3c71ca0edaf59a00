//! [`Request`]: the text of an HTTP/1.1 request, right or wrong, and [`Response`]: what came back.

use std::fmt::Write as _;

use bytes::{Buf as _, BytesMut};

/// The host that clients ask for unless a test says otherwise.
pub const HOST: &str = "example.com";

/// The key of the handshake in RFC 6455 section 1.3, and the answer to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request, as text.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    rest: Vec<u8>,
}

impl Request {
    /// A request with no header but `Host`.
    #[must_use]
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        let headers = vec![("Host".to_owned(), HOST.to_owned())];
        Self { method, path: path.into(), version: "HTTP/1.1", headers, rest: Vec::new() }
    }

    /// A valid handshake with the server's WebSocket route.
    #[must_use]
    pub fn upgrade() -> Self {
        Self::new("GET", "/ws")
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", KEY)
    }

    /// With another path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// With another method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// With another version of HTTP.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// With one more line of headers.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With these lines in place of all that this header has.
    #[must_use]
    pub fn lines(mut self, name: &str, lines: &[&str]) -> Self {
        self.headers.retain(|(known, _)| known != name);
        lines.iter().fold(self, |request, line| request.with(name, *line))
    }

    /// With more bytes behind the head.
    #[must_use]
    pub fn followed_by(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.rest.extend(bytes.into());
        self
    }
}

impl From<Request> for Vec<u8> {
    fn from(Request { method, path, version, headers, rest }: Request) -> Self {
        let mut head = format!("{method} {path} {version}\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend(rest);
        bytes
    }
}

/// A response to an HTTP/1.1 request.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body, where it has a length.
    pub body: String,
}

impl Response {
    /// The lines of a header.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The one line of a header, if there is one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.lines(name);
        assert!(lines.len() < 2, "one line of {name}: {lines:?}");
        lines.first().copied()
    }

    /// Takes a response off the front of what was received, if it is there in full. One to HEAD has no body,
    /// whatever its length says.
    pub(crate) fn take(received: &mut BytesMut, method: &str) -> Option<Self> {
        let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = str::from_utf8(&received[..end]).expect("the head of a response is ASCII");
        let mut lines = head.lines().take_while(|line| !line.is_empty());
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header is a name and a value");
            (name.to_owned(), value.trim().to_owned())
        });
        let mut response = Self {
            status: status.expect("a response begins with its status"),
            headers: headers.collect(),
            body: String::new(),
        };
        let length = match response.header("content-length") {
            Some(length) if method != "HEAD" => length.parse().expect("a length is a number"),
            _ => 0,
        };
        if received.len() < end + length {
            return None;
        }
        received.advance(end);
        response.body = String::from_utf8(received.split_to(length).to_vec()).expect("the body is text");
        Some(response)
    }
}
