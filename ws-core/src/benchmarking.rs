//! What the micro-benchmarks in `bench/micro/` need of the inside. It is there under `cfg(benchmarking)` only, which their
//! scripts set, and is no part of the API.

use std::io::IoSlice;

use bytes::Buf as _;
use http::request::Parts;

use crate::config::Limits;
use crate::handshake;
use crate::layer::WebSocketLayer;
use crate::message::Message;
use crate::protocol::{self, Event, Role};
use crate::utf8::{InvalidUtf8, PayloadBuffer, Utf8Bytes};

/// How many pieces leave in one write.
const PIECES: usize = 8;

/// Whether the layer accepts a request.
pub fn accepts(layer: &WebSocketLayer, request: &Parts) -> bool {
    handshake::is_upgrade(request) && handshake::check(request, layer.config()).is_ok()
}

/// A server's decoder, with the limits that are the default.
#[derive(Debug)]
pub struct Decoder(protocol::Decoder);

impl Decoder {
    /// At the beginning of a stream.
    #[must_use]
    pub fn server() -> Self {
        Self(protocol::Decoder::new(Role::Server, Limits::default()))
    }

    /// Decodes all of `input`, and hands over its messages.
    ///
    /// # Panics
    ///
    /// If the input breaks a rule.
    pub fn decode(&mut self, mut input: &mut [u8], mut received: impl FnMut(Message)) {
        while !input.is_empty() {
            let mut budget = u32::MAX;
            let (taken, event) = self.0.decode(input, true, &mut budget);
            match event {
                Some(Event::Message(message)) => received(message),
                Some(Event::Error(error)) => panic!("not the frames that keep the rules: {error}"),
                _ => {}
            }
            input = &mut input[taken..];
        }
    }
}

/// An encoder whose transport takes everything.
#[derive(Debug)]
pub struct Encoder(protocol::Encoder);

impl Encoder {
    /// Of a server, which does not mask.
    #[must_use]
    pub fn server() -> Self {
        Self(protocol::Encoder::new(Role::Server))
    }

    /// Of a client, which masks.
    #[must_use]
    pub fn client() -> Self {
        Self(protocol::Encoder::new(Role::Client))
    }

    /// Queues a message.
    pub fn encode(&mut self, mut message: Message) {
        self.0.message(&mut message);
    }

    /// All that is queued leaves by vectored writes. Returns how many bytes that was.
    pub fn write(&mut self) -> usize {
        let mut written = 0;
        while self.0.has_remaining() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let count = self.0.chunks_vectored(&mut slices);
            let length = slices[..count].iter().map(|slice| slice.len()).sum();
            self.0.advance(length);
            written += length;
        }
        written
    }
}

/// A server's end of the protocol that answers each message with itself, without a connection around it.
#[derive(Debug)]
pub struct Echo {
    decoder: Decoder,
    encoder: Encoder,
}

impl Echo {
    /// At the beginning of a stream.
    #[must_use]
    pub fn server() -> Self {
        Self { decoder: Decoder::server(), encoder: Encoder::server() }
    }

    /// Answers all messages in `input`, in one write if they are small. Returns how many bytes were written.
    ///
    /// # Panics
    ///
    /// If the input breaks a rule.
    pub fn echo(&mut self, input: &mut [u8]) -> usize {
        let Self { decoder, encoder } = self;
        decoder.decode(input, |message| encoder.encode(message));
        encoder.write()
    }
}

/// Masks or unmasks a whole payload.
pub fn apply_mask(key: [u8; 4], bytes: &mut [u8]) {
    protocol::apply_mask(key, bytes);
}

/// Assembles a text of pieces, each of which is validated when it comes.
///
/// # Errors
///
/// If it is not UTF-8.
pub fn assemble<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Utf8Bytes, InvalidUtf8> {
    let mut buffer = PayloadBuffer::default();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        buffer.validate()?;
    }
    buffer.into_text()
}
