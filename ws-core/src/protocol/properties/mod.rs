//! What holds for every stream of bytes, whoever makes it up: the tests by hand and by chance, the fuzzers by what they
//! have learnt.

use std::borrow::Cow;

use bytes::{Buf, BufMut};

use super::{Decoder, Encoder, Event, Frame, Role, whole_message};
use crate::config::{Limits, Negotiated};
use crate::error::ProtocolError;
use crate::message::Message;

pub(crate) mod tungstenite;

/// How far a decoder's memory may run ahead of what has arrived, where that is less.
const AHEAD: usize = 16 * 1024;
/// What a decoder may hold besides the payload of a message: that of a control frame, and where its decompressor is.
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

    /// Decodes `stream` in pieces, through `direct` and `advance` or `whole_message` wherever that is possible if it is to be
    /// `straight`, and sees to it that memory stays bounded.
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
            result = if straight && let Some(mut place) = decoder.direct(1) {
                n = n.min(place.remaining_mut());
                place.put_slice(&rest[..n]);
                decoder.advance(n).map(|event| events.extend(event))
            } else {
                let mut piece = rest[..n].to_vec();
                let whole = if straight { self.take_whole(&decoder, &mut piece, &mut events) } else { 0 };
                decode_all(&mut decoder, &mut piece[whole..], &mut events)
            };
            rest = &rest[n..];
            self.check_memory(&decoder, stream.len() - rest.len());
        }
        if result.is_err() || matches!(events.last(), Some(Event::Close(_))) {
            assert_eq!(decoder.decode(&mut [0x81, 0]), Ok((2, None)), "what follows is not ignored");
            assert!(decoder.direct(0).is_none());
            assert_eq!(decoder.capacity(), 0);
            assert!(!decoder.in_message());
        }
        Outcome { events, error: result.err() }
    }

    /// Takes the messages that need no decoder from the front of `input`. Returns how many bytes they take.
    fn take_whole(&self, decoder: &Decoder, input: &mut [u8], events: &mut Vec<Event>) -> usize {
        let mut taken = 0;
        if !decoder.in_message() && !matches!(events.last(), Some(Event::Close(_))) {
            while let Some((size, message)) = whole_message(&mut input[taken..], self.role, &self.limits) {
                events.push(Event::Message(message));
                taken += size;
            }
        }
        taken
    }

    fn check_memory(&self, decoder: &Decoder, arrived: usize) {
        let held = decoder.capacity();
        assert!(decoder.in_message() || held == 0, "memory is held between messages");
        assert!(
            held <= self.limits.max_message_size.saturating_add(ASIDE),
            "more memory than a message may have"
        );
        // what was compressed is longer than what has arrived
        assert!(
            self.negotiated != Negotiated::default() || held <= arrived + arrived.max(AHEAD),
            "memory runs too far ahead"
        );
    }

    /// How a stream is cut into pieces changes nothing.
    pub(crate) fn check_pieces(&self, stream: &[u8], straight: bool, piece: impl FnMut() -> usize) {
        assert_eq!(self.decode_in_pieces(stream, straight, piece), self.decode(stream));
    }

    /// What was read is read the same again when it has been sent on, by either side.
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

    /// Queues what `event` came as.
    fn encode(&self, event: &Event, encoder: &mut Encoder) {
        match event {
            Event::Message(message) => encoder.frame(Cow::Owned(self.frame(message))),
            Event::Ping(payload) => encoder.ping(payload),
            Event::Pong(payload) => encoder.pong(payload),
            Event::Close(frame) => encoder.close(frame.as_ref()),
        }
    }

    /// Compressed where that is agreed and makes it shorter.
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

/// Decodes all of `input`.
pub(crate) fn decode_all(
    decoder: &mut Decoder,
    mut input: &mut [u8],
    events: &mut Vec<Event>,
) -> Result<(), ProtocolError> {
    while !input.is_empty() {
        let (taken, event) = decoder.decode(input)?;
        assert!(event.is_some() || taken == input.len(), "stopped without a reason");
        events.extend(event);
        input = &mut input[taken..];
    }
    Ok(())
}
