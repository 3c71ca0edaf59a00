//! [`RawHttp2`]: an HTTP/2 connection of which a test writes each frame itself (RFC 9113 section 4), whole or in part.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::request::HOST;
use crate::wait::within;

/// What a client begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;

/// `END_STREAM` of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;

/// `END_HEADERS` of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 0x4;

/// `ACK` of SETTINGS and PING.
pub const ACK: u8 = 0x1;

/// The types of frames (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub enum Kind {
    Data = 0,
    Headers = 1,
    ResetStream = 3,
    Settings = 4,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

/// Error codes (RFC 9113 section 7).
pub mod code {
    /// Not a result of an error.
    pub const NO_ERROR: u32 = 0x0;
    /// The stream was not processed, and may be tried again.
    pub const REFUSED_STREAM: u32 = 0x7;
    /// The stream is not needed any more.
    pub const CANCEL: u32 = 0x8;
    /// The peer does what may be an attack.
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
}

/// A frame, of either side.
#[derive(Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream that it belongs to; 0 for the connection.
    pub stream: u32,
    /// What is behind its header.
    pub payload: Bytes,
}

impl RawFrame {
    /// A frame.
    pub fn new(kind: Kind, flags: u8, stream: u32, payload: impl Into<Bytes>) -> Self {
        Self { kind: kind as u8, flags, stream, payload: payload.into() }
    }

    /// The head of a GET, as HEADERS in one frame.
    #[must_use]
    pub fn get(stream: u32) -> Self {
        Self::new(Kind::Headers, END_HEADERS | END_STREAM, stream, get_head())
    }

    /// The head of a handshake (RFC 8441 section 5).
    #[must_use]
    pub fn upgrade(stream: u32) -> Self {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/ws"),
            (":authority", HOST),
            ("sec-websocket-version", "13"),
        ] {
            block.extend(field(name, value));
        }
        Self::new(Kind::Headers, END_HEADERS, stream, block)
    }

    /// `RST_STREAM`, with the code CANCEL.
    #[must_use]
    pub fn reset(stream: u32) -> Self {
        Self::new(Kind::ResetStream, 0, stream, code::CANCEL.to_be_bytes().to_vec())
    }

    /// Whether it is of this type.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind as u8
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a payload that fits").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    fn take(received: &mut BytesMut) -> Option<Self> {
        let header: [u8; HEADER] = received.get(..HEADER)?.try_into().ok()?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if received.len() < HEADER + length {
            return None;
        }
        received.advance(HEADER);
        let payload = received.split_to(length).freeze();
        Some(Self { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

impl fmt::Debug for RawFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, flags, stream, payload } = self;
        write!(f, "type {kind} flags {flags:#x} stream {stream}, {} bytes", payload.len())
    }
}

/// A field of a head, without compression (RFC 7541 section 6.2.2).
#[must_use]
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
        field.extend(text.as_bytes());
    }
    field
}

/// The head of a GET for `/plain`.
#[must_use]
pub fn get_head() -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/plain"), (":authority", HOST)];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A connection; the test does all that a client has to, but for the settings at the beginning.
#[derive(Debug)]
pub struct RawHttp2 {
    stream: TcpStream,
    received: BytesMut,
    settings: Bytes,
}

impl RawHttp2 {
    /// Connects, sends empty settings, and acknowledges those of the server.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket knows the option");
        let mut raw = Self { stream, received: BytesMut::new(), settings: Bytes::new() };
        raw.write(PREFACE).await;
        raw.send(RawFrame::new(Kind::Settings, 0, 0, "")).await;
        raw.settings = loop {
            let frame = raw.next(Kind::Settings).await;
            if frame.flags & ACK == 0 {
                break frame.payload;
            }
        };
        raw.send(RawFrame::new(Kind::Settings, ACK, 0, "")).await;
        raw
    }

    /// The setting of the server with this number (RFC 9113 section 6.5.2).
    #[must_use]
    pub fn setting(&self, number: u8) -> Option<u32> {
        let setting = self.settings.chunks_exact(6).find(|setting| setting[..2] == [0, number])?;
        Some(u32::from_be_bytes(setting[2..].try_into().expect("four bytes")))
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: RawFrame) {
        self.write(&frame.bytes()).await;
    }

    /// Sends these bytes, which may be part of a frame.
    pub async fn write(&mut self, bytes: &[u8]) {
        within("the server to read", self.stream.write_all(bytes)).await.expect("the connection is open");
    }

    /// Sends these bytes for as long as the server takes them.
    ///
    /// # Errors
    ///
    /// If the connection is over.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next frame; `None` when the connection has ended, however it has.
    pub async fn frame(&mut self) -> Option<RawFrame> {
        loop {
            if let Some(frame) = RawFrame::take(&mut self.received) {
                return Some(frame);
            }
            let read = within("a frame", self.stream.read_buf(&mut self.received)).await;
            if !read.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }

    /// The next frame of this type.
    pub async fn next(&mut self, kind: Kind) -> RawFrame {
        loop {
            let frame = self.frame().await.unwrap_or_else(|| panic!("the connection ended before {kind:?}"));
            if frame.is(kind) {
                return frame;
            }
        }
    }

    /// Waits for the GOAWAY that ends the connection, and for its end; returns its error code and what it says. Answers
    /// PINGs, which are how the server learns that its first GOAWAY has come (RFC 9113 section 6.8).
    pub async fn goodbye(&mut self) -> (u32, String) {
        let last = within("a GOAWAY and the end", async {
            let mut last = None;
            while let Some(frame) = self.frame().await {
                if frame.is(Kind::GoAway) {
                    last = Some(frame.payload);
                } else if frame.is(Kind::Ping) && frame.flags & ACK == 0 {
                    // the server may be gone by now
                    let _ = self.try_write(&RawFrame { flags: ACK, ..frame }.bytes()).await;
                }
            }
            last
        });
        let payload = last.await.expect("a GOAWAY before the end");
        let code = u32::from_be_bytes(payload[4..8].try_into().expect("four bytes"));
        (code, String::from_utf8_lossy(&payload[8..]).into_owned())
    }

    /// Waits until the server has ended the connection, however it does.
    pub async fn until_gone(&mut self) {
        while self.frame().await.is_some() {}
    }
}
