//! [`Encoder`]: messages and control frames in, bytes out.
//!
//! What is small is copied behind what was queued before, so that many messages are one run of bytes. What is
//! large is queued as it is behind its header, and leaves by vectored write. Differs from tungstenite's
//! `FrameCodec`, which copies every payload into one buffer and keeps the memory of the largest: here memory
//! is given back when everything has left.
//!
//! Order of the bytes: `small` is cut at as many places as there are entries in `large`, and at each cut one
//! large payload is inserted. With `s` for the unsent part of `small`:
//!
//! ```text
//! s[..before0]  large0  s[..before1]  large1  …  s[..behind]
//! ```
//!
//! Invariants: `start <= small.len()`; the sum of all `before` and of `behind` is the length of `s`; no large
//! payload is empty; where nothing is queued, no memory is held.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::Role;
use super::header::{Control, Kind, MAX_CONTROL, MAX_HEADER, put_control, put_data};
use super::mask::Mask;
use crate::close::CloseFrame;
use crate::message::Message;

/// From this length on a payload is not copied. Below it a copy (at most some 100 ns) costs less than what
/// sharing costs: an entry in the queue, a slice more for the kernel, and the payload's memory held until it
/// has left.
const LARGE: usize = 4 * 1024;
/// The largest buffer that is kept for the next connection. It is also what a few bytes for a peer that does
/// not read can pin, hence not larger.
const MAX_SPARE: usize = 16 * 1024;

thread_local! {
    /// A buffer that its connection gave back. One is enough: a connection encodes and flushes in one turn,
    /// so the buffer is back before the next connection on this thread asks for it.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A message that is ready to be sent, as one frame. What it lacks are the few bytes of its header, which a client makes
/// anew for each connection, and which in one piece with the payload would cost a copy of it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(super) kind: Kind,
    /// The payload is that of permessage-deflate.
    pub(super) compressed: bool,
    pub(super) payload: Bytes,
}

impl From<Message> for Frame {
    fn from(message: Message) -> Self {
        Self { kind: kind(&message), compressed: false, payload: message.into_bytes() }
    }
}

/// Whether the frame says that it is text or binary.
pub(super) fn kind(message: &Message) -> Kind {
    if message.is_text() { Kind::Text } else { Kind::Binary }
}

/// The outbound buffer of a connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    role: Role,
    small: Vec<u8>,
    /// What is in front of this in `small` has left.
    start: usize,
    large: VecDeque<Large>,
    /// Bytes of `small` behind the last large payload.
    behind: usize,
    /// Sum of the lengths in `large`.
    large_bytes: usize,
}

#[derive(Debug)]
struct Large {
    /// Bytes of `small` in front of this payload and behind the one before it.
    before: usize,
    payload: Bytes,
}

impl Encoder {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, small: Vec::new(), start: 0, large: VecDeque::new(), behind: 0, large_bytes: 0 }
    }

    /// Queues `message` as one frame. Returns its payload if that was copied, for the caller to drop where the code that an
    /// owner of the bytes runs then does no harm.
    #[inline]
    pub(crate) fn message(&mut self, message: Message) -> Option<Bytes> {
        if message.len() < LARGE {
            self.push_small(kind(&message), false, message.as_bytes());
            Some(message.into_bytes())
        } else {
            self.push_large(message.into())
        }
    }

    /// Queues a frame. One that is borrowed is shared if its payload is large; if it is small, not even its reference count
    /// is touched. Returns the payload as [`message`](Self::message) does.
    pub(crate) fn frame(&mut self, frame: Cow<'_, Frame>) -> Option<Bytes> {
        if frame.payload.len() >= LARGE {
            return self.push_large(frame.into_owned());
        }
        self.push_small(frame.kind, frame.compressed, &frame.payload);
        match frame {
            Cow::Owned(frame) => Some(frame.payload),
            Cow::Borrowed(_) => None,
        }
    }

    /// Queues a ping with a payload of at most 125 bytes.
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        self.push_control(Control::Ping, &[], payload);
    }

    /// Queues a pong with a payload of at most 125 bytes.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        self.push_control(Control::Pong, &[], payload);
    }

    /// Queues a Close frame, which must be one that may be sent.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>) {
        match frame {
            None => self.push_control(Control::Close, &[], &[]),
            Some(CloseFrame { code, reason }) => {
                self.push_control(Control::Close, &u16::from(*code).to_be_bytes(), reason.as_bytes());
            }
        }
    }

    /// Moves all that is queued behind what `into` has left. That is a swap where `into` is empty.
    pub(crate) fn drain_into(&mut self, into: &mut Self) {
        debug_assert_eq!(self.role, into.role, "frames are masked, or not, for one role");
        if !self.has_remaining() {
            return;
        }
        if !into.has_remaining() {
            mem::swap(self, into);
            return;
        }
        into.make_room(self.unsent());
        into.small.extend_from_slice(&self.small[self.start..]);
        into.large_bytes += self.large_bytes;
        let mut in_front = mem::take(&mut into.behind);
        into.large.extend(
            self.large.drain(..).map(|large| Large {
                before: large.before + mem::take(&mut in_front),
                payload: large.payload,
            }),
        );
        into.behind = in_front + self.behind;
        self.release();
    }

    /// Whether all that is queued is in one piece.
    pub(crate) fn is_one_chunk(&self) -> bool {
        self.large.is_empty()
    }

    /// How many bytes of memory are held, large payloads included, which may be shared.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.small.capacity() + self.large.capacity() * size_of::<Large>() + self.large_bytes
    }

    fn push_control(&mut self, control: Control, front: &[u8], back: &[u8]) {
        let length = front.len() + back.len();
        debug_assert!(length <= MAX_CONTROL);
        let mask = self.mask();
        self.push_run(length, |small| {
            put_control(small, control, length, mask);
            let start = small.len();
            small.extend_from_slice(front);
            small.extend_from_slice(back);
            apply(mask, &mut small[start..]);
        });
    }

    #[inline]
    fn push_small(&mut self, kind: Kind, compressed: bool, payload: &[u8]) {
        let mask = self.mask();
        self.push_run(payload.len(), |small| {
            put_data(small, kind, compressed, payload.len(), mask);
            let start = small.len();
            small.extend_from_slice(payload);
            apply(mask, &mut small[start..]);
        });
    }

    fn push_large(&mut self, frame: Frame) -> Option<Bytes> {
        let mask = self.mask();
        let Frame { kind, compressed, payload } = frame;
        self.push_run(0, |small| put_data(small, kind, compressed, payload.len(), mask));
        let (payload, copied) = if mask.is_none() {
            (payload, None)
        } else {
            // masks in place what is ours alone, and copies what others hold too
            let (mut masked, copied) = match payload.try_into_mut() {
                Ok(unique) => (unique, None),
                Err(shared) => (BytesMut::from(&shared[..]), Some(shared)),
            };
            apply(mask, &mut masked);
            (masked.freeze(), copied)
        };
        self.large_bytes += payload.len();
        self.large.push_back(Large { before: mem::take(&mut self.behind), payload });
        copied
    }

    /// A mask for the next frame, if ours are masked.
    #[inline]
    fn mask(&self) -> Option<Mask> {
        match self.role {
            Role::Server => None,
            Role::Client => Some(Mask::random()),
        }
    }

    /// Appends to `small`: a header, and a payload of `length` bytes.
    #[inline]
    fn push_run(&mut self, length: usize, push: impl FnOnce(&mut Vec<u8>)) {
        self.make_room(MAX_HEADER + length);
        let start = self.small.len();
        push(&mut self.small);
        self.behind += self.small.len() - start;
    }

    /// Makes room for `additional` bytes at the end of `small`.
    #[inline]
    fn make_room(&mut self, additional: usize) {
        if self.small.capacity() - self.small.len() < additional {
            self.make_more_room(additional);
        }
    }

    #[cold]
    fn make_more_room(&mut self, additional: usize) {
        if self.small.capacity() == 0 {
            self.small = SPARE.try_with(Cell::take).unwrap_or_default();
            if self.small.capacity() >= additional {
                return;
            }
        }
        // a peer that reads slowly may never let the buffer run empty. Moving no more than has left costs
        // each byte one move, and keeps the memory in proportion to what is queued
        if self.start >= self.unsent() {
            self.small.drain(..self.start);
            self.start = 0;
        }
        self.small.reserve(additional);
    }

    /// How many bytes of `small` have not left.
    fn unsent(&self) -> usize {
        self.small.len() - self.start
    }

    /// `count` bytes have left. Large payloads that have left whole are put into `sent`, for the caller to drop where the
    /// code that an owner of the bytes runs then does no harm.
    ///
    /// # Panics
    ///
    /// If that is more than is queued.
    pub(crate) fn advance_into(&mut self, count: usize, sent: &mut Vec<Bytes>) {
        let remaining = self.remaining();
        assert!(count <= remaining, "no more leaves than is queued");
        if count == remaining {
            if !self.large.is_empty() {
                sent.extend(self.large.drain(..).map(|large| large.payload));
            }
            return self.release();
        }
        let mut left = count;
        while left > 0 {
            left -= self.advance_in_chunk(left, sent);
        }
    }

    /// Up to `count` bytes of the current chunk have left; says how many.
    fn advance_in_chunk(&mut self, count: usize, sent: &mut Vec<Bytes>) -> usize {
        let in_small = match self.large.front_mut() {
            None => &mut self.behind,
            Some(large) if large.before > 0 => &mut large.before,
            Some(large) => {
                let n = count.min(large.payload.len());
                large.payload.advance(n);
                self.large_bytes -= n;
                if large.payload.is_empty() {
                    sent.extend(self.large.pop_front().map(|large| large.payload));
                }
                return n;
            }
        };
        let n = count.min(*in_small);
        *in_small -= n;
        self.start += n;
        n
    }

    /// Gives back all memory.
    fn release(&mut self) {
        let mut small = mem::take(&mut self.small);
        if small.capacity() <= MAX_SPARE {
            small.clear();
            // a thread that is about to end keeps nothing
            let _ = SPARE.try_with(|spare| spare.set(small));
        }
        *self = Self::new(self.role);
    }
}

fn apply(mask: Option<Mask>, payload: &mut [u8]) {
    if let Some(mut mask) = mask {
        mask.apply(payload);
    }
}

impl Buf for Encoder {
    fn remaining(&self) -> usize {
        self.unsent() + self.large_bytes
    }

    fn chunk(&self) -> &[u8] {
        let unsent = &self.small[self.start..];
        match self.large.front() {
            None => unsent,
            Some(large) if large.before == 0 => &large.payload,
            Some(large) => &unsent[..large.before],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut unsent, behind) = self.small[self.start..].split_at(self.unsent() - self.behind);
        let in_front = self.large.iter().flat_map(|large| {
            let (before, rest) = unsent.split_at(large.before);
            unsent = rest;
            [before, &large.payload]
        });
        let chunks = in_front.chain([behind]).filter(|chunk| !chunk.is_empty());
        slices.iter_mut().zip(chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, count: usize) {
        self.advance_into(count, &mut Vec::new());
    }
}
