//! Properties that hold for every stream of bytes: those of the tests, random ones, and those of the fuzzers.

use std::borrow::Cow;

use bytes::{Buf, BufMut};

use super::{Decoder, Encoder, Event, Frame, Role};
use crate::config::{Limits, Negotiated};
use crate::error::ProtocolError;
use crate::message::Message;

pub(crate) mod tungstenite;

/// How much memory a decoder may hold if less has arrived.
const AHEAD: usize = 16 * 1024;
/// What a decoder may hold besides the payload of a message: the payload of a control frame, and its decompressor.
const ASIDE: usize = 256;

/// What a decoder is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    pub(crate) negotiated: Negotiated,
}

/// What a stream becomes: events, and the error that ended it.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    pub(crate) error: Option<ProtocolError>,
}

impl Setup {
    /// Without compression.
    pub(crate) fn plain(role: Role, limits: Limits) -> Self {
        Self { role, limits, negotiated: Negotiated::default() }
    }

    fn decoder(&self) -> Decoder {
        Decoder::new(self.role, self.limits).with(self.negotiated)
    }

    /// Decodes `stream` in one piece.
    pub(crate) fn decode(&self, stream: &[u8]) -> Outcome {
        self.decode_in_pieces(stream, false, || usize::MAX)
    }

    /// Decodes `stream` in pieces, and checks that memory stays bounded. If `straight`, payloads are read to the decoder's own
    /// buffer wherever that is possible.
    pub(crate) fn decode_in_pieces(
        &self,
        stream: &[u8],
        straight: bool,
        mut piece: impl FnMut() -> usize,
    ) -> Outcome {
        let mut decoder = self.decoder();
        let mut events = Vec::new();
        let mut rest = stream;
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            let mut n = piece().clamp(1, rest.len());
            result = if straight && let Some((mut payload, room)) = decoder.take_payload(1) {
                n = n.min(room);
                payload.append_limited(room).put_slice(&rest[..n]);
                take(decoder.put_payload(payload, n), &mut events)
            } else {
                decode_all(&mut decoder, &mut rest[..n].to_vec(), &mut events)
            };
            rest = &rest[n..];
            self.check_memory(&decoder, stream.len() - rest.len());
        }
        if result.is_err() || matches!(events.last(), Some(Event::Close(_))) {
            let behind = decode_step(&mut decoder, &mut [0x81, 0]);
            // the first of the two bytes may be the last one of the header of the peer's Close frame
            let is_ignored = matches!(behind, Ok((2, None) | (1 | 2, Some(Event::Close(None)))));
            assert!(is_ignored, "{behind:?} is not ignored");
            assert!(decoder.take_payload(0).is_none());
            assert_eq!(decoder.capacity(), 0);
            assert!(!decoder.in_message());
        }
        Outcome { events, error: result.err() }
    }

    fn check_memory(&self, decoder: &Decoder, arrived: usize) {
        let held = decoder.capacity();
        assert!(decoder.in_message() || held == 0, "memory is held between messages");
        assert!(
            held <= self.limits.max_message_size.saturating_add(ASIDE),
            "more memory than a message may have"
        );
        // after decompression a payload is longer than the bytes that have arrived
        assert!(
            self.negotiated != Negotiated::default() || held <= arrived + arrived.max(AHEAD),
            "memory runs too far ahead"
        );
    }

    /// How a stream is cut into pieces changes nothing.
    pub(crate) fn check_pieces(&self, stream: &[u8], straight: bool, piece: impl FnMut() -> usize) {
        assert_eq!(self.decode_in_pieces(stream, straight, piece), self.decode(stream));
    }

    /// If the events are encoded, by either side, and decoded again, they are the same.
    pub(crate) fn check_round_trip(&self, stream: &[u8]) {
        let events = self.decode(stream).events;
        for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
            let mut encoder = Encoder::new(sender);
            for event in &events {
                self.encode(event, &mut encoder);
            }
            let sent = encoder.copy_to_bytes(encoder.remaining());
            assert_eq!(encoder.capacity(), 0, "memory is held where nothing is queued");
            // fragments are sent on as one frame
            let limits = Limits { max_frame_size: usize::MAX, ..self.limits };
            let received = Self { role: receiver, limits, ..*self }.decode(&sent);
            assert!(received.error.is_none() && received.events == events, "{events:?} became {received:?}");
        }
    }

    /// Encodes `event` again.
    fn encode(&self, event: &Event, encoder: &mut Encoder) {
        match event {
            Event::Message(message) => encoder.frame(Cow::Owned(self.frame(message))),
            Event::Ping(payload) => encoder.ping(payload),
            Event::Pong(payload) => encoder.pong(payload),
            Event::Close(frame) => encoder.close(frame.as_ref()),
            Event::Error(error) => unreachable!("{error} is told apart"),
        };
    }

    /// Compresses it if that is negotiated and makes it shorter.
    #[cfg_attr(not(feature = "deflate"), expect(clippy::unused_self, reason = "nothing is compressed"))]
    fn frame(&self, message: &Message) -> Frame {
        #[cfg(feature = "deflate")]
        if let Some(deflate) = self.negotiated.deflate
            && let Some(frame) = super::compress(message, deflate.into())
        {
            return frame;
        }
        message.clone().into()
    }

    /// Compression changes nothing for a stream that has no compressed message.
    #[cfg(feature = "deflate")]
    pub(crate) fn check_compression_apart(&self, stream: &[u8]) {
        let plain = Self::plain(self.role, self.limits).decode(stream);
        let either = self.decode(stream);
        if plain.error == Some(ProtocolError::ReservedBit) {
            assert!(either.events.starts_with(&plain.events), "{either:?} does not begin as {plain:?}");
        } else {
            assert_eq!(either, plain);
        }
    }
}

/// One call of [`Decoder::decode`] with a budget for all of `input`.
pub(crate) fn decode_step(
    decoder: &mut Decoder,
    input: &mut [u8],
) -> Result<(usize, Option<Event>), ProtocolError> {
    match decoder.decode(input, true, &mut { u32::MAX }) {
        (_, Some(Event::Error(error))) => Err(error),
        result => Ok(result),
    }
}

/// Decodes all of `input`, up to an error.
pub(crate) fn decode_all(
    decoder: &mut Decoder,
    mut input: &mut [u8],
    events: &mut Vec<Event>,
) -> Result<(), ProtocolError> {
    while !input.is_empty() {
        let (taken, event) = decode_step(decoder, input)?;
        assert!(event.is_some() || taken == input.len(), "stopped without a reason");
        events.extend(event);
        input = &mut input[taken..];
    }
    Ok(())
}

fn take(event: Option<Event>, events: &mut Vec<Event>) -> Result<(), ProtocolError> {
    match event {
        Some(Event::Error(error)) => return Err(error),
        event => events.extend(event),
    }
    Ok(())
}
