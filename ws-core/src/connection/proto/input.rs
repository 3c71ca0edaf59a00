//! Bytes that were read and not yet decoded.
//!
//! Each thread has a buffer to read into. A connection borrows it while the buffer holds bytes to decode, so an idle
//! connection holds none.

use std::cell::Cell;
use std::io;

use bytes::BufMut as _;
use bytes::buf::Limit;

use crate::spare;

/// How much is read at once: large enough for many small messages, small enough for the first-level cache.
pub(super) const READ_SIZE: usize = 16 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

/// One pointer, as it moves between the connection and the driver that reads into it.
#[derive(Debug, Default)]
pub(crate) struct Input(Option<Box<Buffer>>);

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many of them are decoded.
    decoded: usize,
    /// How the stream ends behind them.
    end: Option<StreamEnd>,
}

/// The end of the peer's stream, or an error in its place.
type StreamEnd = Option<io::Error>;

impl Input {
    /// What came in before the connection was ours.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| Box::new(Buffer { bytes: bytes.to_vec(), ..Buffer::default() })))
    }

    /// Whether nothing is left to decode.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|buffer| buffer.decoded == buffer.bytes.len())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.bytes.capacity())
    }

    /// What is left to decode.
    #[inline]
    pub(super) fn undecoded(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |buffer| &mut buffer.bytes[buffer.decoded..])
    }

    /// The first `count` bytes of what was left are decoded.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        if let Some(buffer) = &mut self.0 {
            buffer.decoded += count;
        }
    }

    /// Drops what is left.
    pub(super) fn clear(&mut self) {
        if let Some(buffer) = &mut self.0 {
            buffer.decoded = buffer.bytes.len();
        }
    }

    /// The stream ends behind what is left, of which there must be some.
    pub(super) fn set_end(&mut self, end: StreamEnd) {
        if let Some(buffer) = &mut self.0 {
            buffer.end = Some(end);
        }
    }

    /// Takes the end of the stream, if it has come. Nothing may be left to decode.
    #[inline]
    pub(super) fn take_end(&mut self) -> Option<StreamEnd> {
        self.0.as_mut()?.end.take()
    }

    /// Room for one read. Nothing may be left to decode.
    pub(super) fn room(&mut self) -> Limit<&mut Vec<u8>> {
        debug_assert!(self.is_empty(), "bytes would be lost");
        // what was left when the connection last slept has a buffer of its size
        self.0.take_if(|buffer| buffer.bytes.capacity() < READ_SIZE);
        let buffer = self.0.get_or_insert_with(|| spare::borrow(&SPARE).unwrap_or_default());
        buffer.bytes.clear();
        buffer.decoded = 0;
        buffer.bytes.reserve_exact(READ_SIZE);
        (&mut buffer.bytes).limit(READ_SIZE)
    }

    /// Keeps no more memory than what is left to decode needs.
    pub(super) fn shrink(&mut self) {
        let is_tight = |buffer: &Buffer| buffer.decoded == 0 && buffer.bytes.len() == buffer.bytes.capacity();
        let Some(mut buffer) = self.0.take_if(|buffer| !is_tight(buffer)) else { return };
        *self = Self::new(&buffer.bytes[buffer.decoded..]);
        if let Some(end) = buffer.end.take() {
            self.0.get_or_insert_default().end = Some(end);
        }
        if buffer.bytes.capacity() == READ_SIZE {
            buffer.bytes.clear();
            spare::give_back(&SPARE, Some(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_with_nothing_left_holds_no_memory() {
        let mut input = Input::default();
        input.room().put_slice(b"abc");
        assert_eq!(&*input.undecoded(), b"abc");
        assert_eq!(input.capacity(), READ_SIZE);

        input.advance(1);
        input.shrink();
        assert_eq!((input.capacity(), &*input.undecoded()), (2, b"bc".as_slice()));

        let kept = input.undecoded().as_ptr();
        input.shrink();
        assert_eq!(input.undecoded().as_ptr(), kept, "it is not copied again");

        input.set_end(None);
        input.advance(2);
        input.shrink();
        assert_eq!(input.capacity(), 0);
        assert!(matches!(input.take_end(), Some(None)), "the end of the stream stays");
    }
}
