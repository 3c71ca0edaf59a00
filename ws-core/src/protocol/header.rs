//! What a frame announces, and whether it may: [`HeaderReader`] collects a header, [`Rules`] judges it.
//!
//! Differs from `FrameHeader::parse`, which does the reading, in that a header is judged while it arrives.
//! Each rule stands with the byte that first breaks it, in the order of the bytes, so that a header that
//! comes in pieces fails as the same header in one piece does:
//!
//! 1. the first byte: reserved bits, opcode, fragmented control frames, the sequence of fragments and their
//!    count;
//! 2. the second byte: the mask bit, the length of control frames;
//! 3. the length, before the mask's key: the limits.

use std::io::Cursor;

use bytes::Buf;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::Role;
use super::mask::Mask;
use crate::config::Limits;
use crate::error::ProtocolError;

/// The longest header: two bytes, a length of eight, a key of four.
pub(super) const MAX_HEADER: usize = 14;
/// The longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

const OPCODE: u8 = 0x0f;
const RESERVED: u8 = 0x70;
#[cfg(feature = "deflate")]
const COMPRESSED: u8 = 0x40;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const KEY: usize = 4;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
}

/// How the payload of a message is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    /// Compressed (RFC 7692).
    #[cfg(feature = "deflate")]
    Deflate,
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
    len: usize,
}

impl HeaderReader {
    /// Whether nothing has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes of the header from the front of `input`; says how many, and the header if that
    /// was all of it, and is ready for the next one then. If it was not, all of `input` is taken.
    ///
    /// # Errors
    ///
    /// As soon as no further bytes could make it a header that keeps the rules.
    #[inline]
    pub(super) fn read(
        &mut self,
        input: &[u8],
        rules: &Rules<'_>,
    ) -> Result<(usize, Option<Header>), ProtocolError> {
        // the common case: the whole header is here, and the copy has a length that the compiler knows
        if self.is_empty()
            && let Some(bytes) = input.first_chunk()
            && let Some((size, header)) = rules.judge(*bytes, MAX_HEADER)?
        {
            return Ok((size, Some(header)));
        }
        let held = self.len;
        let (_, free) = self.bytes.split_at_mut(held);
        // what is copied beyond the end of the header does no harm
        let copied = free.len().min(input.len());
        free[..copied].copy_from_slice(&input[..copied]);
        match rules.judge(self.bytes, held + copied)? {
            // the longest header fits, so what is incomplete is so for want of input
            None => {
                self.len += copied;
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
    /// The header in the first `len` of `bytes` and its size, or `None` if there is more of it to come.
    #[inline]
    fn judge(
        &self,
        mut bytes: [u8; MAX_HEADER],
        len: usize,
    ) -> Result<Option<(usize, Header)>, ProtocolError> {
        let present = |index| (index < len).then(|| bytes[index]);
        let Some(first) = present(0) else { return Ok(None) };
        let frame = self.judge_first(first)?;
        let Some(second) = present(1) else { return Ok(None) };
        self.judge_second(frame, second)?;

        // without the mask bit the parser is done where the length ends
        bytes[1] &= !MASKED;
        let mut cursor = Cursor::new(&bytes[..len]);
        let Some((parsed, length)) = FrameHeader::parse(&mut cursor)
            // reading from memory does not fail, and a reserved opcode was refused above
            .map_err(|_| ProtocolError::ReservedOpcode(first & OPCODE))?
        else {
            return Ok(None);
        };
        let length = self.judge_length(frame, length)?;
        let end = len - cursor.remaining();

        let (size, mask) = match bytes[end..len].first_chunk::<KEY>() {
            _ if second & MASKED == 0 => (end, Mask::default()),
            Some(key) => (end + KEY, Mask::new(*key)),
            None => return Ok(None),
        };
        Ok(Some((size, Header { frame, is_final: parsed.is_final, length, mask })))
    }

    fn judge_first(&self, first: u8) -> Result<Frame, ProtocolError> {
        let coding = match first & RESERVED {
            0 => Coding::Plain,
            #[cfg(feature = "deflate")]
            COMPRESSED if self.deflate && starts_message(first) => Coding::Deflate,
            // it would need an extension that gives it a meaning
            _ => return Err(ProtocolError::ReservedBit),
        };
        let is_final = first & FINAL != 0;
        match OpCode::from(first & OPCODE) {
            OpCode::Control(Control::Reserved(code)) | OpCode::Data(Data::Reserved(code)) => {
                Err(ProtocolError::ReservedOpcode(code))
            }
            OpCode::Control(_) if !is_final => Err(ProtocolError::FragmentedControl),
            OpCode::Control(control) => Ok(Frame::Control(control)),
            OpCode::Data(Data::Continue) => self.continued().map(Frame::Data),
            OpCode::Data(Data::Text) => self.started(Kind::Text, coding).map(Frame::Data),
            OpCode::Data(Data::Binary) => self.started(Kind::Binary, coding).map(Frame::Data),
        }
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

    fn judge_second(&self, frame: Frame, second: u8) -> Result<(), ProtocolError> {
        match (self.role, second & MASKED != 0) {
            (Role::Server, false) => Err(ProtocolError::Unmasked),
            (Role::Client, true) => Err(ProtocolError::Masked),
            _ if matches!(frame, Frame::Control(_)) && usize::from(second & !MASKED) > MAX_CONTROL => {
                Err(ProtocolError::ControlTooLong)
            }
            _ => Ok(()),
        }
    }

    /// The length as a `usize`, which it is where it keeps the limits.
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

/// Only the first frame of a message says whether it is compressed (RFC 7692 section 6).
#[cfg(feature = "deflate")]
fn starts_message(first: u8) -> bool {
    matches!(OpCode::from(first & OPCODE), OpCode::Data(Data::Text | Data::Binary))
}
