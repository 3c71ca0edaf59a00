//! Bytes that were read and not yet decoded.
//!
//! Reads go into a buffer that belongs to the thread: a connection borrows it for as long as there is something in it,
//! so that one that is idle holds none. A handler that waits for a message is lent it, and takes from there what is whole.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::config::Limits;
use crate::message::Message;
use crate::protocol::{Role, whole_message};

/// How much is read at once: large enough for many small messages, small enough for the first-level cache.
pub(super) const READ_SIZE: usize = 16 * 1024;

/// What a frame costs besides its bytes, in bytes: the smallest ones take their time by their number.
pub(super) const FRAME_COST: u32 = 64;

thread_local! {
    static SCRATCH: Cell<Option<Box<Buffer>>> = const { Cell::new(None) };
}

/// A pointer, as it moves to and fro between the driver and the receiver.
#[derive(Debug, Default)]
pub(super) struct Input(Option<Box<Buffer>>);

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Buffer {
    fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.taken..]
    }
}

impl Input {
    /// What came in before the connection was ours.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| Box::new(Buffer { bytes: bytes.to_vec(), taken: 0 })))
    }

    /// Whether it is nowhere, or with somebody else.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether nothing is left to decode.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|buffer| buffer.taken == buffer.bytes.len())
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.bytes.capacity())
    }

    /// What is to be decoded.
    pub(super) fn unread(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |buffer| buffer.unread())
    }

    /// The first `count` bytes of what was to be decoded are.
    pub(super) fn take(&mut self, count: usize) {
        if let Some(buffer) = &mut self.0 {
            buffer.taken += count;
        }
    }

    pub(super) fn clear(&mut self) {
        if let Some(buffer) = &mut self.0 {
            buffer.taken = buffer.bytes.len();
        }
    }

    /// The next message, if it is whole in here, see [`whole_message`].
    pub(super) fn take_message(&mut self, role: Role, limits: &Limits) -> Option<Message> {
        let buffer = self.0.as_mut()?;
        let (size, message) = whole_message(buffer.unread(), role, limits)?;
        buffer.taken += size;
        Some(message)
    }

    /// Reads once; there must be nothing left to decode. 0 bytes are the end.
    pub(super) fn poll_fill<T: AsyncRead>(
        &mut self,
        transport: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "bytes would be lost");
        // what is left of bytes that waited is too small
        self.0.take_if(|buffer| buffer.bytes.capacity() < READ_SIZE);
        let buffer = self.0.get_or_insert_with(|| SCRATCH.take().unwrap_or_default());
        buffer.bytes.clear();
        buffer.taken = 0;
        buffer.bytes.reserve_exact(READ_SIZE);
        poll_read_buf(transport, cx, &mut buffer.bytes)
    }

    /// Keeps no more than what is left to decode.
    pub(super) fn park(&mut self) {
        // unless that is all there is, as where it was parked before
        let Some(mut buffer) =
            self.0.take_if(|buffer| buffer.taken > 0 || buffer.bytes.len() < buffer.bytes.capacity())
        else {
            return;
        };
        *self = Self::new(buffer.unread());
        if buffer.bytes.capacity() == READ_SIZE {
            // one that ends with its thread has nobody to give it to
            let _ = SCRATCH.try_with(|scratch| scratch.set(Some(buffer)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_input_with_nothing_left_holds_no_memory() {
        let mut input = Input::default();
        let mut source: &[u8] = b"abc";
        let read = std::future::poll_fn(|cx| input.poll_fill(Pin::new(&mut source), cx)).await.unwrap();
        assert_eq!((read, &*input.unread()), (3, b"abc".as_slice()));
        assert_eq!(input.capacity(), READ_SIZE);

        input.take(1);
        input.park();
        assert_eq!((input.capacity(), &*input.unread()), (2, b"bc".as_slice()));

        let parked = input.unread().as_ptr();
        input.park();
        assert_eq!(input.unread().as_ptr(), parked, "it is not copied again");

        input.take(2);
        input.park();
        assert_eq!(input.capacity(), 0);
    }
}
