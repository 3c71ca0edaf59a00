//! Frame headers: [`Header`] reads one that was received, [`Rules`] judge it, [`HeaderReader`] collects one that comes in
//! pieces from a [`Cursor`], and [`put`] writes those that are sent.
//!
//! Differs from tungstenite's `FrameHeader`, which reads a header from a stream and judges nothing, in that a header is
//! judged while it arrives; to parse it twice would cost a tenth of what a small message takes. Each rule stands with
//! the byte that first breaks it, in the order of the bytes, so that a header that comes in pieces fails as the same
//! header in one piece does:
//!
//! 1. the first byte: reserved bits, opcode, fragmented control frames, the sequence of fragments and their
//!    count;
//! 2. the second byte: the mask bit, the length of control frames;
//! 3. the length, before the mask's key: the limits.

use std::mem;
use std::sync::Arc;

use super::mask::Mask;
use crate::config::Limits;
use crate::error::ProtocolError;

/// The longest header: two bytes, a length of eight, a key of four.
pub(super) const MAX_HEADER: usize = 14;
/// The longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

pub(super) const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
#[cfg(feature = "deflate")]
pub(super) const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// In place of a length: it follows in two bytes, or in eight.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame costs besides its bytes, in bytes: small frames take time by their number.
const FRAME_COST: u32 = 64;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
/// What begins a message in one frame that is not compressed.
pub(super) const FINAL_TEXT: u8 = FINAL | TEXT;
pub(super) const FINAL_BINARY: u8 = FINAL | BINARY;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// A place in the input, which is unmasked where it is.
pub(super) struct Cursor<'a> {
    /// What was not taken yet.
    pub(super) rest: &'a mut [u8],
    /// Whether somebody receives what is inflated.
    #[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is inflated"))]
    pub(super) heard: bool,
    /// In bytes: those that are inflated, and `FRAME_COST` for each frame.
    pub(super) budget: &'a mut u32,
}

impl<'a> Cursor<'a> {
    /// Takes the next bytes, at most so many.
    pub(super) fn take(&mut self, most: usize) -> &'a mut [u8] {
        let rest = mem::take(&mut self.rest);
        let (taken, rest) = rest.split_at_mut(most.min(rest.len()));
        self.rest = rest;
        taken
    }
}

/// What is left of a budget behind one more frame.
pub(super) fn charged(budget: u32) -> u32 {
    budget.saturating_sub(FRAME_COST)
}

/// Our side of the connection. A client masks what it sends, a server does not (section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    #[cfg_attr(
        not(any(test, fuzzing, benchmarking, feature = "client", feature = "testing")),
        allow(dead_code, reason = "there is no client")
    )]
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Close,
    Ping,
    Pong,
}

/// How the payload of a message is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    /// Compressed (RFC 7692).
    #[cfg(feature = "deflate")]
    Deflate,
    /// Compressed, and not inflated because nobody receives it.
    #[cfg(feature = "deflate")]
    Skipped,
}

/// A message of which a frame has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) kind: Kind,
    pub(super) coding: Coding,
    /// How many frames it has so far, up to what a `u32` can count.
    pub(super) frames: u32,
}

impl Open {
    fn new(kind: Kind) -> Self {
        Self { kind, coding: Coding::Plain, frames: 1 }
    }

    /// The message with one more frame.
    #[inline]
    fn next(self, limits: &Limits) -> Result<Self, ProtocolError> {
        let limit = limits.max_fragments;
        if self.frames as usize >= limit {
            return Err(ProtocolError::TooManyFragments { limit });
        }
        Ok(Self { frames: self.frames.saturating_add(1), ..self })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Control(Control),
    /// With the message as it is once this frame has begun.
    Data(Open),
}

/// A header as it is on the wire, whatever the rules say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    first: u8,
    second: u8,
    /// Of the payload.
    pub(super) length: u64,
    pub(super) mask: Mask,
    /// Of the header.
    pub(super) size: usize,
}

impl Header {
    /// The header at the front of `bytes`, or `None` if there is more of it to come.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = payload_length(second, rest)?;
        let (mask, rest) = if second & MASKED == 0 {
            (Mask::default(), rest)
        } else {
            let (key, rest) = rest.split_first_chunk()?;
            (Mask::new(*key), rest)
        };
        Some(Self { first, second, length, mask, size: bytes.len() - rest.len() })
    }

    /// Of the payload. What no `usize` can tell is over every limit.
    #[inline]
    pub(super) fn length(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    pub(super) fn is_final(&self) -> bool {
        self.first & FINAL != 0
    }

    pub(super) fn is_close(&self) -> bool {
        self.first & OPCODE == CLOSE
    }
}

/// The bytes of a header that is not complete.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeaderReader {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl HeaderReader {
    /// Whether nothing has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes of a header, and has `judge` look at all that has come of it. If it is complete, returns it and
    /// what `judge` made of it, and is empty again.
    ///
    /// # Errors
    ///
    /// Those of `judge`. No bytes are taken then, so that they can be looked at with other eyes.
    pub(super) fn read<J>(
        &mut self,
        cursor: &mut Cursor<'_>,
        judge: impl Fn(&[u8]) -> Result<Option<(J, Header)>, ProtocolError>,
    ) -> Result<Option<(J, Header)>, ProtocolError> {
        let held = usize::from(self.len);
        let (_, free) = self.bytes.split_at_mut(held);
        // what is copied beyond the end of the header does no harm
        let copied = free.len().min(cursor.rest.len());
        free[..copied].copy_from_slice(&cursor.rest[..copied]);
        let judged = judge(&self.bytes[..held + copied])?;
        if let Some((_, header)) = &judged {
            // what was held was incomplete, so the header is longer than that
            cursor.take(header.size - held);
            *cursor.budget = charged(*cursor.budget);
            self.len = 0;
        } else {
            // the longest header fits, so it is incomplete only because the input ends
            cursor.take(copied);
            self.len += u8::try_from(copied).unwrap_or_default();
        }
        Ok(judged)
    }
}

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) role: Role,
    pub(super) limits: Arc<Limits>,
    /// Whether messages may be compressed.
    #[cfg(feature = "deflate")]
    pub(super) deflate: bool,
}

impl Rules {
    /// The header at the front of `bytes`, and what its frame is, or `None` if there is more of it to come. `open` is the
    /// fragmented message that it may belong to, with the bytes of it so far, at most `max_message_size`.
    ///
    /// # Errors
    ///
    /// As soon as no further bytes could make it a header that keeps the rules.
    pub(super) fn judge(
        &self,
        bytes: &[u8],
        open: Option<(Open, usize)>,
    ) -> Result<Option<(Frame, Header)>, ProtocolError> {
        let (message, assembled) = open.unzip();
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let frame = self.judge_first(first, message)?;
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        self.judge_second(frame, second)?;
        if let Some((length, _)) = payload_length(second, rest) {
            self.judge_length(frame, length, assembled.unwrap_or(0))?;
        }
        Ok(Header::parse(bytes).map(|header| (frame, header)))
    }

    /// As [`judge`](Self::judge), only for a data frame that is not compressed: nearly all frames are such. `None` if it is
    /// anything else, or breaks a rule or a limit.
    #[inline]
    pub(super) fn plain(&self, bytes: &[u8], open: Option<(Open, usize)>) -> Option<(Open, Header)> {
        let header = Header::parse(bytes)?;
        let (open, assembled) = match (header.first & !FINAL, open) {
            (TEXT, None) => (Open::new(Kind::Text), 0),
            (BINARY, None) => (Open::new(Kind::Binary), 0),
            (CONTINUATION, Some((open, assembled))) => (open.next(&self.limits).ok()?, assembled),
            _ => return None,
        };
        self.judge_second(Frame::Data(open), header.second).ok()?;
        self.judge_length(Frame::Data(open), header.length, assembled).ok()?;
        (open.coding == Coding::Plain).then_some((open, header))
    }

    #[inline]
    fn judge_first(&self, first: u8, open: Option<Open>) -> Result<Frame, ProtocolError> {
        let opcode = first & OPCODE;
        let coding = match first & RESERVED {
            0 => Coding::Plain,
            // only the first frame of a message says whether it is compressed (RFC 7692 section 6)
            #[cfg(feature = "deflate")]
            COMPRESSED if self.deflate && matches!(opcode, TEXT | BINARY) => Coding::Deflate,
            // it would need an extension that gives it a meaning
            _ => return Err(ProtocolError::ReservedBit),
        };
        let started = |kind| Frame::Data(Open { coding, ..Open::new(kind) });
        match (opcode, open) {
            (TEXT | BINARY, Some(_)) => Err(ProtocolError::ExpectedContinuation),
            (TEXT, None) => Ok(started(Kind::Text)),
            (BINARY, None) => Ok(started(Kind::Binary)),
            (CONTINUATION, None) => Err(ProtocolError::UnexpectedContinuation),
            (CONTINUATION, Some(open)) => open.next(&self.limits).map(Frame::Data),
            (CLOSE | PING | PONG, _) if first & FINAL == 0 => Err(ProtocolError::FragmentedControl),
            (CLOSE, _) => Ok(Frame::Control(Control::Close)),
            (PING, _) => Ok(Frame::Control(Control::Ping)),
            (PONG, _) => Ok(Frame::Control(Control::Pong)),
            (reserved, _) => Err(ProtocolError::ReservedOpcode(reserved)),
        }
    }

    #[inline]
    fn judge_second(&self, frame: Frame, second: u8) -> Result<(), ProtocolError> {
        match (self.role, second & MASKED != 0) {
            (Role::Server, false) => Err(ProtocolError::Unmasked),
            (Role::Client, true) => Err(ProtocolError::Masked),
            _ if matches!(frame, Frame::Control(_)) && usize::from(second & LENGTH) > MAX_CONTROL => {
                Err(ProtocolError::ControlTooLong)
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn judge_length(&self, frame: Frame, length: u64, assembled: usize) -> Result<(), ProtocolError> {
        let Limits { max_frame_size, max_message_size, .. } = *self.limits;
        match frame {
            Frame::Data(_) if length > max_frame_size as u64 => {
                Err(ProtocolError::FrameTooBig { limit: max_frame_size })
            }
            // what becomes of compressed data is judged when it has
            Frame::Data(Open { coding: Coding::Plain, .. })
                if length > max_message_size.saturating_sub(assembled) as u64 =>
            {
                Err(ProtocolError::MessageTooBig { limit: max_message_size })
            }
            // that of a control frame was judged with the second byte
            _ => Ok(()),
        }
    }
}

/// The length of the payload that the second byte of a header begins, and what follows it.
#[inline]
fn payload_length(second: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    match second & LENGTH {
        LENGTH_16 => {
            rest.split_first_chunk().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))
        }
        LENGTH_64 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest)),
        length => Some((length.into(), rest)),
    }
}

/// Appends a header of ours, with the shortest form of the length, as section 5.2 wants it.
#[inline]
pub(super) fn put(to: &mut Vec<u8>, first: u8, length: usize, mask: Option<Mask>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..LENGTH_16), _) => to.extend_from_slice(&[first, masked | length]),
        (_, Ok(length)) => {
            let [high, low] = length.to_be_bytes();
            to.extend_from_slice(&[first, masked | LENGTH_16, high, low]);
        }
        _ => {
            to.extend_from_slice(&[first, masked | LENGTH_64]);
            to.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        to.extend_from_slice(&mask.key());
    }
}
