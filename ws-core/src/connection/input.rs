//! Bytes that were read and not yet decoded.
//!
//! Reads go into a buffer that belongs to the thread: a connection borrows it for as long as there is something in it,
//! so that one that is idle holds none.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// How much is read at once: large enough for many small messages, small enough for the first-level cache.
pub(super) const READ_SIZE: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Input {
    /// What came in before the connection was ours.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), taken: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// What is to be decoded.
    pub(super) fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.taken..]
    }

    /// The first `count` bytes of what was to be decoded are.
    pub(super) fn take(&mut self, count: usize) {
        self.taken += count;
    }

    pub(super) fn clear(&mut self) {
        self.taken = self.bytes.len();
    }

    /// Reads once; there must be nothing left to decode. 0 bytes are the end.
    pub(super) fn poll_fill<T: AsyncRead>(
        &mut self,
        transport: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "bytes would be lost");
        if self.bytes.capacity() < READ_SIZE {
            self.bytes = SCRATCH.take();
        }
        self.bytes.clear();
        self.taken = 0;
        self.bytes.reserve_exact(READ_SIZE);
        poll_read_buf(transport, cx, &mut self.bytes)
    }

    /// Keeps no more than what is left to decode.
    pub(super) fn park(&mut self) {
        if self.taken == 0 && self.bytes.len() == self.bytes.capacity() {
            // nothing is held, or no more than what is left since it was parked before
            return;
        }
        let left = self.unread().to_vec();
        let bytes = std::mem::replace(&mut self.bytes, left);
        self.taken = 0;
        if bytes.capacity() == READ_SIZE {
            SCRATCH.set(bytes);
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
