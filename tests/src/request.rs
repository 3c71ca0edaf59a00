//! [`Request`]: the text of an HTTP/1.1 request, right or wrong, and [`Response`]: what came back. The same over HTTP/2,
//! as far as that can say it.

use std::fmt::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::ext::Protocol;

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

    pub(crate) fn method_name(&self) -> &'static str {
        self.method
    }

    /// Whether it asks for a WebSocket, in so many words.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.value("Upgrade") == Some("websocket")
    }

    /// The first line of a header.
    fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
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

impl From<Request> for http::Request<Full<Bytes>> {
    /// The same over HTTP/2: a handshake is a CONNECT with `:protocol`, and has no key (RFC 8441 section 5).
    fn from(text: Request) -> Self {
        let host = text.value("Host").expect("a request of HTTP/2 has an authority");
        let uri = format!("http://{host}{}", text.path);
        let is_upgrade = text.is_upgrade();
        let mut request = Self::new(text.rest.into());
        *request.uri_mut() = uri.parse().expect("a URI");
        *request.method_mut() = text.method.parse().expect("a method");
        if is_upgrade {
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(Protocol::from_static("websocket"));
        }
        for (name, value) in &text.headers {
            if !matches!(name.as_str(), "Host" | "Connection" | "Upgrade" | "Sec-WebSocket-Key") {
                let name = http::HeaderName::try_from(name).expect("the name of a header");
                request.headers_mut().append(name, value.parse().expect("the value of a header"));
            }
        }
        request
    }
}

/// A response to a request.
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

    /// The response to a request over HTTP/2, whose body is to be read unless the stream goes on as a WebSocket.
    pub(crate) async fn read(response: http::Response<Incoming>, has_body: bool) -> Self {
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| {
            (name.to_string(), value.to_str().expect("the value of a header is ASCII").to_owned())
        });
        let mut response =
            Self { status: parts.status.as_u16(), headers: headers.collect(), body: String::new() };
        if has_body {
            let body = body.collect().await.expect("the body ends").to_bytes();
            response.body = String::from_utf8(body.into()).expect("the body is text");
        }
        response
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
