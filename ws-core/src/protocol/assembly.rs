//! [`Assembly`]: a message that is not complete.

use std::mem;

#[cfg(feature = "deflate")]
use super::deflate::Inflater;
use super::header::{Coding, Cursor, Header, Kind, Open};
use super::mask::Mask;
use crate::config::Limits;
use crate::error::ProtocolError;
use crate::message::Message;
use crate::utf8::{InvalidUtf8, PayloadBuffer};

/// How far memory may run ahead of the bytes that have come, where those are fewer: what one read of a busy
/// socket brings.
const AHEAD: usize = 16 * 1024;
/// The least memory for a message of several frames.
const LEAST_STEP: usize = 512;
/// The least room that is worth a read of its own.
const MIN_READ: usize = 4 * 1024;
/// The most that is read at once: what has come is unmasked while it is in the processor's cache.
const MAX_READ: usize = 128 * 1024;
/// Unused memory that is not worth a reallocation.
const SMALL_SLACK: usize = 1024;

/// How many compressed bytes are unmasked and inflated at once, at most.
#[cfg(feature = "deflate")]
const INFLATED_AT_ONCE: usize = 4 * 1024;

/// A message that has begun, and its current frame.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) open: Open,
    pub(super) is_final: bool,
    /// Bytes of the frame that are still to come.
    pub(super) missing: usize,
    mask: Mask,
    /// What has come of the message, unmasked and inflated.
    pub(super) payload: PayloadBuffer,
    /// Where the message is compressed, and a byte of it has come.
    #[cfg(feature = "deflate")]
    pub(super) inflater: Option<Box<Inflater>>,
}

impl Assembly {
    pub(super) fn new(open: Open) -> Self {
        Self {
            open,
            is_final: false,
            missing: 0,
            mask: Mask::default(),
            payload: PayloadBuffer::default(),
            #[cfg(feature = "deflate")]
            inflater: None,
        }
    }

    /// The next frame begins. `open` counts it.
    pub(super) fn begin_frame(&mut self, open: Open, header: &Header) {
        self.open = open;
        self.is_final = header.is_final();
        self.missing = header.length();
        self.mask = header.mask;
    }

    /// Takes what there is of the frame, or of a compressed one what the budget allows to be inflated.
    #[cfg_attr(
        not(feature = "deflate"),
        expect(clippy::unnecessary_wraps, reason = "only inflating can fail")
    )]
    pub(super) fn take(&mut self, cursor: &mut Cursor<'_>, limits: &Limits) -> Result<(), ProtocolError> {
        #[cfg(feature = "deflate")]
        if self.open.coding != Coding::Plain {
            return self.take_compressed(cursor, limits);
        }
        let here = cursor.rest.len();
        let n = self.missing.min(here);
        self.make_room(limits, n, here);
        self.payload.extend_from_slice(cursor.take(n));
        self.appended(n);
        Ok(())
    }

    /// Appends the payload of frames that came whole, unmasked. `open` counts them, and `here` bytes behind them have come.
    pub(super) fn append(
        &mut self,
        open: Open,
        is_final: bool,
        payload: &[u8],
        limits: &Limits,
        here: usize,
    ) {
        self.open = open;
        self.is_final = is_final;
        self.make_room(limits, payload.len(), payload.len() + here);
        self.payload.extend_from_slice(payload);
    }

    /// Lends the payload, and says how many bytes may be appended to it. `None` if fewer than `threshold` are missing, or what
    /// comes is compressed.
    pub(super) fn lend(&mut self, limits: &Limits, threshold: usize) -> Option<(PayloadBuffer, usize)> {
        if self.missing < threshold.max(1) || self.open.coding != Coding::Plain {
            return None;
        }
        self.make_room(limits, self.missing.min(MIN_READ), 0);
        let payload = mem::take(&mut self.payload);
        let spare = payload.capacity() - payload.len();
        Some((payload, spare.min(self.missing).min(MAX_READ)))
    }

    /// Makes room for `least` of the missing bytes and, if memory is needed for that, for a step that is worth it; `here`
    /// bytes of the stream have come and are not decoded.
    fn make_room(&mut self, limits: &Limits, least: usize, here: usize) {
        let arrived = self.payload.len();
        if arrived == 0 {
            self.payload.begin(self.missing);
        }
        if self.payload.capacity() - arrived >= least {
            return;
        }
        let announced = self.missing.min(arrived.max(AHEAD));
        let step = if self.is_final {
            announced
        } else {
            // more frames follow, and may be here; if they are not, doubling keeps many small ones linear
            let more = arrived.max(here).max(LEAST_STEP);
            announced.max(more).min(limits.max_message_size - arrived)
        };
        self.payload.reserve_exact(step.max(least));
    }

    /// The last `n` bytes of the payload came in, and are masked.
    pub(super) fn appended(&mut self, n: usize) {
        assert!(n <= self.missing && n <= self.payload.len(), "no more is taken than was read");
        self.missing -= n;
        self.mask.apply(self.payload.unvalidated_mut(self.payload.len() - n));
    }

    #[cfg(feature = "deflate")]
    fn take_compressed(&mut self, cursor: &mut Cursor<'_>, limits: &Limits) -> Result<(), ProtocolError> {
        if !cursor.heard {
            let Self { is_final, missing, mask, .. } = *self;
            *self =
                Self { is_final, missing, mask, ..Self::new(Open { coding: Coding::Skipped, ..self.open }) };
        }
        let mut n = self.missing.min(cursor.rest.len());
        if n > 0 && self.open.coding == Coding::Deflate {
            let piece = &mut cursor.rest[..n.min(INFLATED_AT_ONCE)];
            self.mask.clone().apply(piece);
            let take = |inflated: &[u8]| take_inflated(&mut self.payload, limits, inflated);
            n = self.inflater.get_or_insert_with(Inflater::borrow).feed(piece, cursor.budget, take)?;
            self.mask.skip(n);
            // the rest is for the next turn
            self.mask.clone().apply(&mut piece[n..]);
        }
        cursor.take(n);
        self.missing -= n;
        // a message without any bytes needs no decompressor, and is empty
        match self.inflater.take_if(|_| self.is_final && self.missing == 0) {
            Some(inflater) => inflater.finish(|inflated| take_inflated(&mut self.payload, limits, inflated)),
            None => Ok(()),
        }
    }

    #[inline]
    pub(super) fn validate(&mut self) -> Result<(), ProtocolError> {
        match self.open.kind {
            Kind::Text => self.payload.validate().map_err(not_utf8),
            Kind::Binary => Ok(()),
        }
    }

    /// The message, which is complete; `None` if it was skipped.
    pub(super) fn complete(self) -> Result<Option<Message>, ProtocolError> {
        let Self { open, mut payload, .. } = self;
        #[cfg(feature = "deflate")]
        if open.coding == Coding::Skipped {
            return Ok(None);
        }
        let slack = payload.capacity() - payload.len();
        if slack > SMALL_SLACK && slack > payload.len() / 4 {
            payload.shrink_to_fit();
        }
        Ok(Some(match open.kind {
            Kind::Text => Message::Text(payload.into_text().map_err(not_utf8)?),
            Kind::Binary => Message::Binary(payload.into_bytes()),
        }))
    }
}

/// Appends the next piece of a compressed message, as far as the limit allows: a few bytes may become many.
#[cfg(feature = "deflate")]
fn take_inflated(payload: &mut PayloadBuffer, limits: &Limits, piece: &[u8]) -> Result<(), ProtocolError> {
    let limit = limits.max_message_size;
    let (arrived, left) = (payload.len(), limit - payload.len());
    let (fitting, over) = piece.split_at(piece.len().min(left));
    if payload.capacity() - arrived < fitting.len() {
        // nobody knows how much follows: doubling keeps many pieces linear
        payload.reserve_exact(arrived.min(left).max(fitting.len()));
    }
    payload.extend_from_slice(fitting);
    if over.is_empty() { Ok(()) } else { Err(ProtocolError::MessageTooBig { limit }) }
}

pub(super) fn not_utf8(_: InvalidUtf8) -> ProtocolError {
    ProtocolError::InvalidUtf8
}
