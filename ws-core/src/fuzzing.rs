//! What the fuzzers in `fuzz/` need of the inside. It is there under `cfg(fuzzing)` only, which cargo-fuzz sets, and is no
//! part of the API.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;

use crate::close::CloseFrame;
use crate::compression::Compression;
use crate::config::{ConnectionConfig, Deflate, Limits, Negotiated};
use crate::connection::{Driven, Sender};
use crate::handshake;
use crate::layer::WebSocketLayer;
use crate::message::Message;
use crate::origin::{OriginPolicy, Requested};
use crate::protocol::properties::{Setup, tungstenite};
use crate::protocol::{Event, Role};
use crate::rejection::Rejection;

/// How streams are decoded.
#[derive(Clone, Copy, Debug)]
pub struct Decoding {
    /// By the client's side of a connection: what comes is not masked.
    pub client: bool,
    /// Messages may be compressed.
    pub deflate: bool,
    /// In bytes, at least 125.
    pub max_message_size: usize,
    /// In bytes, at least 125.
    pub max_frame_size: usize,
    /// At least 1.
    pub max_fragments: usize,
}

impl Decoding {
    fn setup(self) -> Setup {
        let deflate = Deflate { compression: Compression::new(), window_bits: None };
        Setup {
            role: if self.client { Role::Client } else { Role::Server },
            limits: Limits {
                max_message_size: self.max_message_size,
                max_frame_size: self.max_frame_size,
                max_fragments: self.max_fragments,
            },
            negotiated: Negotiated { deflate: self.deflate.then_some(deflate) },
        }
    }

    /// Memory is bounded, and how `stream` is cut into pieces changes nothing. If it is `straight`, long payloads are read
    /// to where they will stay.
    pub fn check_pieces(self, stream: &[u8], straight: bool, piece: impl FnMut() -> usize) {
        self.setup().check_pieces(stream, straight, piece);
    }

    /// What is read is read the same again when it was sent on.
    pub fn check_round_trip(self, stream: &[u8]) {
        self.setup().check_round_trip(stream);
    }

    /// The messages in `stream`, up to where it ends, breaks a rule or closes.
    pub fn messages(self, stream: &[u8]) -> Vec<Message> {
        let messages = self.setup().decode(stream).events.into_iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        });
        messages.collect()
    }

    /// tungstenite reads the same, where nothing is compressed; and whether it may be matters where it is only.
    pub fn check_against_tungstenite(self, stream: &[u8]) {
        let setup = self.setup();
        tungstenite::check(setup.role, setup.limits, stream);
        setup.check_compression_apart(stream);
    }
}

/// A connection without a runtime, which is small enough to meet its bounds. Each call checks that memory is bounded.
#[derive(Debug)]
pub struct Connection(Driven);

impl Connection {
    /// One that is open, of a server or a client.
    #[must_use]
    pub fn new(is_client: bool, is_compressed: bool) -> Self {
        let second = Duration::from_secs(1);
        let config = ConnectionConfig {
            limits: Limits { max_message_size: 40_000, max_frame_size: 30_000, max_fragments: 16 }.into(),
            inbound_messages: 4,
            inbound_bytes: 1_000,
            outbound_bytes: 2_000,
            idle_timeout: Some(120 * second),
            ..ConnectionConfig::default()
        };
        let deflate = Deflate { compression: Compression::new(), window_bits: None };
        let negotiated = Negotiated { deflate: is_compressed.then_some(deflate) };
        Self(Driven::new(if is_client { Role::Client } else { Role::Server }, config, negotiated))
    }

    /// The peer sends bytes.
    pub fn peer_sends(&mut self, bytes: &[u8]) {
        self.0.peer_sends(bytes);
    }

    /// The peer's stream ends behind what it has sent, with an error if there is one.
    pub fn peer_ends(&mut self, error: Option<ErrorKind>) {
        self.0.peer_ends(error);
    }

    /// The transport takes this many more bytes.
    pub fn allow(&mut self, bytes: usize) {
        self.0.allow(bytes);
    }

    /// The transport takes nothing any more.
    pub fn break_off(&mut self, error: ErrorKind) {
        self.0.break_off(error);
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.0.pass(time);
    }

    /// The user sends a message, if there is room.
    pub fn try_send(&mut self, message: Message) {
        self.0.try_send(message);
    }

    /// The user pings.
    pub fn ping(&mut self) {
        self.0.ping();
    }

    /// The user closes, with a code that may be sent.
    pub fn close(&mut self, code: u16) {
        if CloseFrame::new(code, "").check().is_ok() {
            self.0.close(code);
        }
    }

    /// The user has heartbeats answered.
    pub fn answer_heartbeats(&mut self) {
        self.0.answer_heartbeats();
    }

    /// The user receives up to this many messages.
    pub fn receive(&mut self, most: usize) {
        self.0.receive(most);
    }

    /// The receiver is dropped.
    pub fn drop_receiver(&mut self) {
        self.0.connection.receiver_dropped();
        self.0.turn();
    }

    /// The handler returns, or fails.
    pub fn handler_returns(&mut self, fails: bool) {
        if fails {
            self.0.connection.handler_failed();
        } else {
            self.0.connection.handler_done();
        }
        self.0.turn();
    }

    /// Nobody says anything more. The connection ends, in order or by its timeouts; what the peer saw of it keeps the rules.
    /// Returns what was received.
    #[must_use]
    pub fn finish(mut self) -> Vec<Message> {
        self.0.finish();
        self.0.received
    }
}

/// What the answer to a request says besides yes.
#[derive(Debug, PartialEq)]
pub struct Accepted {
    /// `Sec-WebSocket-Accept`.
    pub accept: Option<HeaderValue>,
    /// `Sec-WebSocket-Protocol`.
    pub protocol: Option<Arc<str>>,
    /// `Sec-WebSocket-Extensions`.
    pub extensions: Option<HeaderValue>,
}

/// The layer's judgement of a request; `None` if it is not an upgrade.
pub fn judge(layer: &WebSocketLayer, request: &Parts) -> Option<Result<Accepted, Rejection>> {
    handshake::is_upgrade(request).then(|| {
        let handshake = handshake::check(request, layer.config())?;
        Ok(Accepted {
            accept: handshake.accept,
            protocol: handshake.protocol,
            extensions: handshake.negotiated.deflate.as_ref().map(handshake::deflate::answer),
        })
    })
}

/// Whether the policy allows a request.
pub fn allows(policy: &OriginPolicy, request: &Parts) -> bool {
    Requested::of(request).is_ok_and(|requested| policy.check(request, &requested).is_ok())
}

/// What a connection has in memory for its user and its transport.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    /// Messages that nobody has received.
    pub messages: usize,
    /// Their bytes.
    pub inbound: usize,
    /// Bytes that the transport has not taken.
    pub outbound: u64,
}

/// What waits in the connection of `sender`.
pub fn queued(sender: &Sender) -> Queued {
    let (messages, inbound, outbound) = sender.queued();
    Queued { messages, inbound, outbound }
}
