//! [`Assembly`]: a message that is not complete.

#[cfg(feature = "deflate")]
use super::deflate::Inflater;
#[cfg(feature = "deflate")]
use super::header::Coding;
use super::header::{Kind, Open};
#[cfg(feature = "deflate")]
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
/// Unused memory that is not worth a reallocation.
const SMALL_SLACK: usize = 1024;

/// How many compressed bytes are unmasked and inflated at once, at most.
#[cfg(feature = "deflate")]
pub(super) const INFLATED_AT_ONCE: usize = 4 * 1024;

/// A message that has begun.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) open: Open,
    /// What has come of it, unmasked and inflated.
    pub(super) payload: PayloadBuffer,
    /// Where the message is compressed, and a byte of it has come.
    #[cfg(feature = "deflate")]
    pub(super) inflater: Option<Box<Inflater>>,
}

impl Assembly {
    pub(super) fn new(open: Open) -> Self {
        Self {
            open,
            payload: PayloadBuffer::default(),
            #[cfg(feature = "deflate")]
            inflater: None,
        }
    }

    /// Makes room for `least` of the `missing` bytes of a frame and, if memory is needed for that, for a step that is worth it;
    /// `here` bytes of the stream have come and are not decoded.
    pub(super) fn make_room(
        &mut self,
        limits: &Limits,
        is_final: bool,
        missing: usize,
        least: usize,
        here: usize,
    ) {
        let arrived = self.payload.len();
        if arrived == 0 {
            self.payload.begin(missing);
        }
        if self.payload.capacity() - arrived >= least {
            return;
        }
        let announced = missing.min(arrived.max(AHEAD));
        let step = if is_final {
            announced
        } else {
            // more frames follow, and may be here; if they are not, doubling keeps many small ones linear
            let more = arrived.max(here).max(LEAST_STEP);
            announced.max(more).min(limits.max_message_size - arrived)
        };
        self.payload.reserve_exact(step.max(least));
    }

    /// The message is complete.
    pub(super) fn complete(self) -> Result<Message, ProtocolError> {
        let Self { open, mut payload, .. } = self;
        let slack = payload.capacity() - payload.len();
        if slack > SMALL_SLACK && slack > payload.len() / 4 {
            payload.shrink_to_fit();
        }
        Ok(match open.kind {
            Kind::Text => Message::Text(payload.into_text().map_err(not_utf8)?),
            Kind::Binary => Message::Binary(payload.into_bytes()),
        })
    }
    /// Nobody receives the message: what follows of it is not inflated.
    #[cfg(feature = "deflate")]
    pub(super) fn skip(&mut self) {
        *self = Self::new(Open { coding: Coding::Skipped, ..self.open });
    }

    /// Inflates as much of `piece` as the budget allows, and returns how much that was. The rest stays masked.
    #[cfg(feature = "deflate")]
    pub(super) fn inflate(
        &mut self,
        limits: &Limits,
        piece: &mut [u8],
        mut mask: Mask,
        budget: &mut u32,
    ) -> Result<usize, ProtocolError> {
        mask.clone().apply(piece);
        let inflater = self.inflater.get_or_insert_with(Inflater::borrow);
        let n =
            inflater.feed(piece, budget, |inflated| take_inflated(&mut self.payload, limits, inflated))?;
        mask.skip(n);
        mask.apply(&mut piece[n..]);
        Ok(n)
    }

    /// All of a compressed message has come. One without any bytes needs no decompressor, and is empty.
    #[cfg(feature = "deflate")]
    pub(super) fn finish_inflating(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        match self.inflater.take() {
            Some(inflater) => inflater.finish(|inflated| take_inflated(&mut self.payload, limits, inflated)),
            None => Ok(()),
        }
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
