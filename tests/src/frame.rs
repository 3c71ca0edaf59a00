//! [`Frame`]: a WebSocket frame (RFC 6455 section 5.2), whether or not it may be sent.

use std::fmt;

use bytes::{Buf as _, BytesMut};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// In place of a length: it follows, in two bytes, or in eight.
const IN_TWO: u8 = 0x7e;
const IN_EIGHT: u8 = 0x7f;

/// With all bits set differently, so that a byte that is unmasked with the wrong one shows.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame: its first byte, and its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    head: u8,
    payload: Vec<u8>,
}

impl Frame {
    /// A frame with this first byte: the final bit, three reserved ones, and the opcode.
    #[must_use]
    pub fn new(head: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { head, payload: payload.into() }
    }

    /// A text message in one frame; whether it is UTF-8 is the caller's choice.
    #[must_use]
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(FINAL | TEXT, payload)
    }

    /// A binary message in one frame.
    #[must_use]
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(FINAL | BINARY, payload)
    }

    /// The last fragment of a message.
    #[must_use]
    pub fn continuation(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(FINAL | CONTINUATION, payload)
    }

    /// A ping.
    #[must_use]
    pub fn ping(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(FINAL | PING, payload)
    }

    /// A pong.
    #[must_use]
    pub fn pong(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(FINAL | PONG, payload)
    }

    /// A Close frame with a code and a reason.
    #[must_use]
    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        Self::new(FINAL | CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
    }

    /// A Close frame without a code.
    #[must_use]
    pub fn empty_close() -> Self {
        Self::new(FINAL | CLOSE, [])
    }

    /// The same frame, with more of its message to follow.
    #[must_use]
    pub fn not_final(mut self) -> Self {
        self.head &= !FINAL;
        self
    }

    /// The same frame, with these bits set in its first byte.
    #[must_use]
    pub fn with_bits(mut self, bits: u8) -> Self {
        self.head |= bits;
        self
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether this is a ping.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        self.head == FINAL | PING
    }

    /// Whether this is a pong.
    #[must_use]
    pub fn is_pong(&self) -> bool {
        self.head == FINAL | PONG
    }

    /// Whether this is a Close frame.
    #[must_use]
    pub fn is_close(&self) -> bool {
        self.head == FINAL | CLOSE
    }

    /// The text of a message in one frame; `None` for any other frame.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if self.head == FINAL | TEXT { str::from_utf8(&self.payload).ok() } else { None }
    }

    /// The code of a Close frame; `None` for an empty one, and for any other frame.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match self.payload[..] {
            [high, low, ..] if self.head == FINAL | CLOSE => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// As a client has to send it.
    #[must_use]
    pub fn masked(&self) -> Vec<u8> {
        let mut bytes = Self::header(self.head, self.payload.len() as u64);
        let masked = self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        bytes.extend(masked);
        bytes
    }

    /// As a server has to send it, and a client must not.
    #[must_use]
    pub fn unmasked(&self) -> Vec<u8> {
        let mut bytes = Self::header(self.head, self.payload.len() as u64);
        bytes[1] &= !MASKED;
        bytes.truncate(bytes.len() - MASK.len());
        bytes.extend(&self.payload);
        bytes
    }

    /// The header of a client's frame that announces `length` bytes, in the shortest form.
    #[must_use]
    pub fn header(head: u8, length: u64) -> Vec<u8> {
        let mut bytes = vec![head];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ 0..=125), _) => bytes.push(MASKED | length),
            (_, Ok(length)) => {
                bytes.push(MASKED | IN_TWO);
                bytes.extend(length.to_be_bytes());
            }
            _ => {
                bytes.push(MASKED | IN_EIGHT);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes
    }

    /// Takes a frame of a server's off the front of what was received, if it is there in full. Fails if it is masked,
    /// or its length is not in the shortest form.
    pub fn take(received: &mut BytesMut) -> Option<Self> {
        let mut rest = &received[..];
        let head = rest.try_get_u8().ok()?;
        let short = rest.try_get_u8().ok()?;
        assert!(short & MASKED == 0, "the server masked a frame");
        let length = match short {
            IN_TWO => u64::from(rest.try_get_u16().ok()?),
            IN_EIGHT => rest.try_get_u64().ok()?,
            length => u64::from(length),
        };
        let shortest = match length {
            0..=125 => short < IN_TWO,
            126..=0xffff => short == IN_TWO,
            _ => short == IN_EIGHT,
        };
        assert!(shortest, "a length of {length} as {short}");
        let length = usize::try_from(length).expect("a server of these tests sends what fits into memory");
        let payload = rest.get(..length)?.to_vec();
        let header = received.len() - rest.len();
        received.advance(header + length);
        Some(Self { head, payload })
    }
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        frame.masked()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.payload[..self.payload.len().min(64)];
        let bytes = self.payload.len();
        write!(f, "Frame({:#04x}, {bytes} bytes, \"{}\")", self.head, start.escape_ascii())
    }
}
