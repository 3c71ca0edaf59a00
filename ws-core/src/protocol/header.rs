//! Frame headers: [`HeaderReader`] collects one that was received, [`Rules`] judges it, and `put_*` write those that are
//! sent.
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

use super::Role;
use super::mask::Mask;
use crate::config::Limits;
use crate::error::ProtocolError;

/// The longest header: two bytes, a length of eight, a key of four.
pub(super) const MAX_HEADER: usize = 14;
/// What a frame costs besides its bytes, in bytes: small frames take time by their number.
pub(super) const FRAME_COST: u32 = 64;
/// The longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// In place of a length: it follows in two bytes, or in eight.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const FINAL_TEXT: u8 = FINAL | TEXT;
const FINAL_BINARY: u8 = FINAL | BINARY;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The type of a message: its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Text = TEXT,
    Binary = BINARY,
}

/// The type of a control frame: its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Control {
    Close = CLOSE,
    Ping = PING,
    Pong = PONG,
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

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Control(Control),
    /// With the message as it is once this frame has begun.
    Data(Open),
}

/// A header that keeps the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) frame: Frame,
    pub(super) is_final: bool,
    /// Of the payload, within the limits.
    pub(super) length: usize,
    pub(super) mask: Mask,
}

/// What a header is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) role: Role,
    pub(super) limits: &'a Limits,
    /// The fragmented message that we are in.
    pub(super) open: Option<Open>,
    /// Bytes of that message so far, at most `limits.max_message_size`.
    pub(super) assembled: usize,
    /// Whether messages may be compressed.
    #[cfg(feature = "deflate")]
    pub(super) deflate: bool,
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

    /// Takes the next bytes of a header from the front of `input`, and has `judge` look at all that has come of it.
    /// Returns how many bytes were taken, and the header if it is complete. The reader is empty again then. If the
    /// header is not complete, all of `input` is taken.
    ///
    /// # Errors
    ///
    /// Those of `judge`. Nothing of `input` is taken then, so that the same bytes can be looked at with other eyes.
    pub(super) fn read<H, E>(
        &mut self,
        input: &[u8],
        judge: impl Fn(&[u8]) -> Result<Option<(usize, H)>, E>,
    ) -> Result<(usize, Option<H>), E> {
        let held = usize::from(self.len);
        let (_, free) = self.bytes.split_at_mut(held);
        // what is copied beyond the end of the header does no harm
        let copied = free.len().min(input.len());
        free[..copied].copy_from_slice(&input[..copied]);
        match judge(&self.bytes[..held + copied])? {
            // the longest header fits, so it is incomplete only because `input` ends
            None => {
                self.len += u8::try_from(copied).unwrap_or_default();
                Ok((copied, None))
            }
            // what was held was incomplete, so the header is longer than that
            Some((size, header)) => {
                self.len = 0;
                Ok((size - held, Some(header)))
            }
        }
    }
}

impl Rules<'_> {
    /// The header at the front of `bytes` and its size, or `None` if there is more of it to come.
    ///
    /// # Errors
    ///
    /// As soon as no further bytes could make it a header that keeps the rules.
    pub(super) fn judge(&self, bytes: &[u8]) -> Result<Option<(usize, Header)>, ProtocolError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let frame = self.judge_first(first)?;
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        self.judge_second(frame, second)?;

        let Some((length, rest)) = payload_length(second, rest) else { return Ok(None) };
        let length = self.judge_length(frame, length)?;

        let (mask, rest) = if second & MASKED == 0 {
            (Mask::default(), rest)
        } else {
            let Some(mask) = mask(rest) else { return Ok(None) };
            mask
        };
        let is_final = first & FINAL != 0;
        Ok(Some((bytes.len() - rest.len(), Header { frame, is_final, length, mask })))
    }

    #[inline]
    fn judge_first(&self, first: u8) -> Result<Frame, ProtocolError> {
        let coding = match first & RESERVED {
            0 => Coding::Plain,
            #[cfg(feature = "deflate")]
            COMPRESSED if self.deflate && starts_message(first) => Coding::Deflate,
            // it would need an extension that gives it a meaning
            _ => return Err(ProtocolError::ReservedBit),
        };
        let is_final = first & FINAL != 0;
        let control = match first & OPCODE {
            CONTINUATION => return self.continued().map(Frame::Data),
            TEXT => return self.started(Kind::Text, coding).map(Frame::Data),
            BINARY => return self.started(Kind::Binary, coding).map(Frame::Data),
            CLOSE => Control::Close,
            PING => Control::Ping,
            PONG => Control::Pong,
            reserved => return Err(ProtocolError::ReservedOpcode(reserved)),
        };
        if is_final { Ok(Frame::Control(control)) } else { Err(ProtocolError::FragmentedControl) }
    }

    fn started(&self, kind: Kind, coding: Coding) -> Result<Open, ProtocolError> {
        match self.open {
            None => Ok(Open { kind, coding, frames: 1 }),
            Some(_) => Err(ProtocolError::ExpectedContinuation),
        }
    }

    fn continued(&self) -> Result<Open, ProtocolError> {
        let limit = self.limits.max_fragments;
        match self.open {
            None => Err(ProtocolError::UnexpectedContinuation),
            Some(open) if open.frames as usize >= limit => Err(ProtocolError::TooManyFragments { limit }),
            Some(open) => Ok(Open { frames: open.frames.saturating_add(1), ..open }),
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

    /// The length as a `usize`, which it is where it keeps the limits.
    #[inline]
    fn judge_length(&self, frame: Frame, length: u64) -> Result<usize, ProtocolError> {
        let Limits { max_frame_size, max_message_size, .. } = *self.limits;
        // what no `usize` can tell is over every limit
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Frame::Data(Open { coding, .. }) = frame else {
            // judged with the second byte
            return Ok(length);
        };
        if length > max_frame_size {
            Err(ProtocolError::FrameTooBig { limit: max_frame_size })
        // what becomes of compressed data is judged when it has
        } else if coding == Coding::Plain && length > max_message_size.saturating_sub(self.assembled) {
            Err(ProtocolError::MessageTooBig { limit: max_message_size })
        } else {
            Ok(length)
        }
    }
}

/// The header of a message in one frame that is not compressed: nearly all frames are such, and small, so that the header
/// is what they cost.
pub(super) struct Whole {
    pub(super) kind: Kind,
    /// Of the header.
    pub(super) size: usize,
    /// Of the payload.
    pub(super) length: usize,
    pub(super) mask: Mask,
}

impl Whole {
    /// The header at the front of `bytes`, if it is complete and no rule is broken by it alone. [`Rules`] judge any other.
    #[inline]
    pub(super) fn parse(bytes: &[u8], role: Role) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let kind = match first {
            FINAL_TEXT => Kind::Text,
            FINAL_BINARY => Kind::Binary,
            _ => return None,
        };
        let (length, rest) = payload_length(second, rest)?;
        let length = usize::try_from(length).ok()?;
        let (mask, rest) = match (role, second & MASKED != 0) {
            (Role::Server, true) => mask(rest)?,
            (Role::Client, false) => (Mask::default(), rest),
            _ => return None,
        };
        Some(Self { kind, size: bytes.len() - rest.len(), length, mask })
    }
}

/// A header that nobody judges: only what is needed to find the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unjudged {
    pub(super) is_close: bool,
    /// Of the payload.
    pub(super) length: u64,
}

impl Unjudged {
    /// The header at the front of `bytes` and its size, or `None` if there is more of it to come.
    pub(super) fn parse(bytes: &[u8]) -> Option<(usize, Self)> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = payload_length(second, rest)?;
        let rest = if second & MASKED == 0 { rest } else { mask(rest)?.1 };
        Some((bytes.len() - rest.len(), Self { is_close: first & OPCODE == CLOSE, length }))
    }
}

/// Only the first frame of a message says whether it is compressed (RFC 7692 section 6).
#[cfg(feature = "deflate")]
fn starts_message(first: u8) -> bool {
    matches!(first & OPCODE, TEXT | BINARY)
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

#[inline]
fn mask(rest: &[u8]) -> Option<(Mask, &[u8])> {
    rest.split_first_chunk().map(|(key, rest)| (Mask::new(*key), rest))
}

/// Appends a header of ours: of a frame that is the whole of a message.
#[inline]
pub(super) fn put_data(to: &mut Vec<u8>, kind: Kind, compressed: bool, length: usize, mask: Option<Mask>) {
    let first = FINAL | kind as u8;
    put(to, if compressed { COMPRESSED | first } else { first }, length, mask);
}

/// Appends a header of ours: of a control frame.
pub(super) fn put_control(to: &mut Vec<u8>, control: Control, length: usize, mask: Option<Mask>) {
    put(to, FINAL | control as u8, length, mask);
}

/// With the shortest form of the length, as section 5.2 wants it.
#[inline]
fn put(to: &mut Vec<u8>, first: u8, length: usize, mask: Option<Mask>) {
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
