//! [`Encoder`]: messages and control frames in, bytes out.
//!
//! What is small is copied behind what was queued before, so that many messages are one run of bytes. What is
//! large is queued as it is behind its header, and leaves by vectored write. Differs from tungstenite's
//! `FrameCodec`, which copies every payload into one buffer and keeps the memory of the largest: here memory
//! is given back when everything has left.
//!
//! Order of the bytes: small messages and headers are in `small`. Each large payload knows how many of these bytes leave
//! before it. The bytes behind the last large payload leave at the end. With `s` for the part of `small` that is not sent:
//!
//! ```text
//! s[..before0]  large0  s[..before1]  large1  …  s[..behind]
//! ```
//!
//! Invariants: `start <= small.len()`; the sum of all `before` and of `behind` is the length of `s`; no large
//! payload is empty; where nothing is queued there is no [`Queued`], and no memory is held.
//!
//! A small frame that many connections send, and that is all that is queued, is not copied either: all of them hold the same
//! bytes, until something is queued behind it.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes, BytesMut};

use super::header::{CLOSE, FINAL, FINAL_BINARY, FINAL_TEXT, MAX_CONTROL, MAX_HEADER, PING, PONG, Role, put};
use super::mask::Mask;
use crate::close::CloseFrame;
use crate::message::Message;
use crate::spare;

/// From this length on a payload is not copied. Below it a copy (at most some 100 ns) costs less than what
/// sharing costs: an entry in the queue, a slice more for the kernel, and the payload's memory held until it
/// has left.
const LARGE: usize = 4 * 1024;
/// The largest buffer that is kept for the next connection. It is also what a few bytes for a peer that does
/// not read can pin, hence not larger.
const MAX_SPARE: usize = 16 * 1024;

thread_local! {
    /// What a connection gave back. One is enough: a connection encodes and flushes in one turn, so it is back before the
    /// next connection on this thread asks for it.
    static SPARE: Cell<Option<Box<Queued>>> = const { Cell::new(None) };
}

/// A message that is ready to be sent, as one frame. What it lacks are the few bytes of its header, which a client makes
/// anew for each connection, and which in one piece with the payload would cost a copy of it.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Of the header.
    first: u8,
    pub(super) payload: Bytes,
    /// A connection has sent it.
    was_sent: AtomicBool,
    /// Its bytes as a server sends them, if it is small, and was sent more than once.
    shared: OnceLock<SharedFrame>,
}

/// All bytes of a small frame, which several connections hold. It is a thin pointer, as each of them has room for one.
type SharedFrame = Arc<Box<[u8]>>;

impl Frame {
    pub(super) fn new(first: u8, payload: Bytes) -> Self {
        Self { first, payload, was_sent: AtomicBool::new(false), shared: OnceLock::new() }
    }

    /// The bytes of a small frame that a server has sent before: most messages are sent once, and are not worth it.
    fn shared(&self) -> Option<&SharedFrame> {
        if self.shared.get().is_none() && !self.was_sent.load(Ordering::Relaxed) {
            self.was_sent.store(true, Ordering::Relaxed);
            return None;
        }
        Some(self.shared.get_or_init(|| {
            let mut bytes = Vec::with_capacity(MAX_HEADER + self.payload.len());
            put(&mut bytes, self.first, self.payload.len(), None);
            bytes.extend_from_slice(&self.payload);
            Arc::new(bytes.into_boxed_slice())
        }))
    }
}

/// The clone shares the payload, and nothing else.
impl Clone for Frame {
    fn clone(&self) -> Self {
        Self::new(self.first, self.payload.clone())
    }
}

impl From<Message> for Frame {
    fn from(message: Message) -> Self {
        Self::new(first_byte(&message), message.into_bytes())
    }
}

/// The first byte of the frame that a message becomes if it is not compressed.
pub(super) fn first_byte(message: &Message) -> u8 {
    if message.is_text() { FINAL_TEXT } else { FINAL_BINARY }
}

/// The outbound buffer of a connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    role: Role,
    /// All that is queued, if it is one small frame that others send, too.
    shared: Option<SharedFrame>,
    /// One pointer, as nearly every connection has nothing to say. `None` while there is a frame in `shared`.
    queued: Option<Box<Queued>>,
}

#[derive(Debug, Default)]
struct Queued {
    small: Vec<u8>,
    /// What is in front of this in `small` has left.
    start: usize,
    large: VecDeque<Large>,
    /// The sum of their lengths.
    large_bytes: usize,
    /// Bytes of `small` behind the last large payload.
    behind: usize,
}

#[derive(Debug)]
struct Large {
    /// Bytes of `small` in front of this payload and behind the one before it.
    before: usize,
    payload: Bytes,
}

impl Encoder {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, shared: None, queued: None }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Takes all that is queued.
    #[inline]
    pub(crate) fn take_all(&mut self) -> Self {
        Self { role: self.role, shared: self.shared.take(), queued: self.queued.take() }
    }

    /// Queues `message` as one frame, and as all of these returns how many bytes that is. What is left of it is for the
    /// caller to drop where the code that an owner of the bytes runs then does no harm.
    #[inline]
    pub(crate) fn message(&mut self, message: &mut Message) -> usize {
        let first = first_byte(message);
        if message.len() < LARGE {
            return self.push_small(first, message.as_bytes());
        }
        let payload = mem::replace(message, Message::Binary(Bytes::new())).into_bytes();
        let (bytes, copied) = self.push_large(first, payload);
        *message = Message::Binary(copied);
        bytes
    }

    /// Queues a frame. One that is borrowed is shared with others that send it: its payload if that is large, and all of it if
    /// it is small and nothing else is queued.
    #[inline]
    pub(crate) fn frame(&mut self, frame: Cow<'_, Frame>) -> usize {
        match frame {
            Cow::Borrowed(frame) => self.share(frame).unwrap_or_else(|| self.frame_once(frame)),
            Cow::Owned(Frame { first, payload, .. }) if payload.len() >= LARGE => {
                self.push_large(first, payload).0
            }
            Cow::Owned(frame) => self.push_small(frame.first, &frame.payload),
        }
    }

    /// Queues a frame that no other connection sends at this time. It is copied if it is small.
    pub(crate) fn frame_once(&mut self, frame: &Frame) -> usize {
        if frame.payload.len() < LARGE {
            return self.push_small(frame.first, &frame.payload);
        }
        self.push_large(frame.first, frame.payload.clone()).0
    }

    /// Queues a frame that is not copied, if it can be the only one.
    #[inline]
    fn share(&mut self, frame: &Frame) -> Option<usize> {
        let is_alone = self.shared.is_none() && self.queued.is_none();
        if !is_alone || self.role == Role::Client || frame.payload.len() >= LARGE {
            return None;
        }
        let shared = frame.shared()?;
        self.shared = Some(Arc::clone(shared));
        Some(shared.len())
    }

    /// Copies the frame that is shared with others: something is queued behind it, or a part of it has left.
    #[cold]
    #[inline(never)]
    fn unshare(&mut self) {
        if let Some(shared) = self.shared.take() {
            let queued = self.queued.get_or_insert_with(borrow_queued);
            queued.make_room(shared.len());
            queued.small.extend_from_slice(&shared);
            queued.behind += shared.len();
        }
    }

    /// Queues a ping with a payload of at most 125 bytes.
    pub(crate) fn ping(&mut self, payload: &[u8]) -> usize {
        self.push_control(PING, payload)
    }

    /// Queues a pong with a payload of at most 125 bytes.
    pub(crate) fn pong(&mut self, payload: &[u8]) -> usize {
        self.push_control(PONG, payload)
    }

    /// Queues a Close frame, which must be one that may be sent.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>) -> usize {
        let payload = frame
            .map(|CloseFrame { code, reason }| [&u16::from(*code).to_be_bytes(), reason.as_bytes()].concat());
        self.push_control(CLOSE, &payload.unwrap_or_default())
    }

    /// Moves all that is queued behind what `into` has left.
    pub(crate) fn drain_into(&mut self, into: &mut Self) {
        debug_assert_eq!(self.role, into.role, "frames are masked, or not, for one role");
        if !into.has_remaining() {
            *into = self.take_all();
            return;
        }
        self.unshare();
        into.unshare();
        let (Some(mut from), Some(to)) = (self.queued.take(), &mut into.queued) else { return };
        to.make_room(from.unsent().len());
        to.small.extend_from_slice(from.unsent());
        match from.large.front_mut() {
            None => to.behind += from.behind,
            Some(first) => {
                first.before += to.behind;
                to.behind = from.behind;
                to.large_bytes += from.large_bytes;
                to.large.append(&mut mem::take(&mut from.large));
            }
        }
        from.release();
    }

    /// Whether all that is queued is in one piece.
    pub(crate) fn is_one_chunk(&self) -> bool {
        self.queued.as_ref().is_none_or(|queued| queued.large.is_empty())
    }

    /// How many bytes of memory are held, with what may be shared.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        let shared = self.shared.as_ref().map_or(0, |frame| size_of_val(frame) + frame.len());
        self.queued.as_deref().map_or(shared, |queued| {
            let large = queued.large.capacity() * size_of::<Large>() + queued.large_bytes;
            size_of_val(queued) + queued.small.capacity() + large
        })
    }

    fn push_control(&mut self, opcode: u8, payload: &[u8]) -> usize {
        debug_assert!(payload.len() <= MAX_CONTROL);
        self.push_small(FINAL | opcode, payload)
    }

    #[inline]
    fn push_small(&mut self, first: u8, payload: &[u8]) -> usize {
        let mask = self.mask();
        self.append(first, payload.len(), mask, payload)
    }

    /// Returns besides the payload if that was copied, else nothing.
    fn push_large(&mut self, first: u8, payload: Bytes) -> (usize, Bytes) {
        let mask = self.mask();
        let bytes = payload.len() + self.append(first, payload.len(), mask, &[]);
        let (payload, copied) = match mask {
            None => (payload, Bytes::new()),
            Some(mut mask) => {
                // masks in place what is ours alone, and copies what others hold too
                let (mut masked, copied) = match payload.try_into_mut() {
                    Ok(unique) => (unique, Bytes::new()),
                    Err(shared) => (BytesMut::from(&shared[..]), shared),
                };
                mask.apply(&mut masked);
                (masked.freeze(), copied)
            }
        };
        let queued = self.queued.get_or_insert_default();
        queued.large_bytes += payload.len();
        queued.large.push_back(Large { before: mem::take(&mut queued.behind), payload });
        (bytes, copied)
    }

    #[inline]
    fn mask(&self) -> Option<Mask> {
        (self.role == Role::Client).then(Mask::random)
    }

    /// Appends to `small` the header for a payload of that length, and what of the payload is to be copied.
    #[inline]
    fn append(&mut self, first: u8, length: usize, mask: Option<Mask>, copied: &[u8]) -> usize {
        if self.shared.is_some() {
            self.unshare();
        }
        let queued = self.queued.get_or_insert_with(borrow_queued);
        queued.make_room(MAX_HEADER + copied.len());
        let small = &mut queued.small;
        let before = small.len();
        put(small, first, length, mask);
        let start = small.len();
        small.extend_from_slice(copied);
        if let Some(mut mask) = mask {
            mask.apply(&mut small[start..]);
        }
        let bytes = small.len() - before;
        queued.behind += bytes;
        bytes
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
        if count < remaining {
            self.unshare();
            if let Some(queued) = &mut self.queued {
                queued.advance(count, sent);
            }
        } else if let Some(mut queued) = self.queued.take() {
            if queued.large_bytes > 0 {
                sent.extend(mem::take(&mut queued.large).into_iter().map(|large| large.payload));
            }
            queued.release();
        } else {
            self.shared = None;
        }
    }
}

/// What the thread keeps, or a new one.
#[expect(clippy::unnecessary_box_returns, reason = "it goes from one box to the next")]
fn borrow_queued() -> Box<Queued> {
    spare::borrow(&SPARE).unwrap_or_default()
}

impl Queued {
    /// Gives back the memory, where no large payload is left.
    fn release(mut self: Box<Self>) {
        if self.small.capacity() <= MAX_SPARE {
            self.small.clear();
            (self.start, self.behind, self.large_bytes) = (0, 0, 0);
            spare::give_back(&SPARE, Some(self));
        }
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
        // a peer that reads slowly may never let the buffer run empty. Moving no more than has left costs
        // each byte one move, and keeps the memory in proportion to what is queued
        if self.start >= self.unsent().len() {
            self.small.drain(..self.start);
            self.start = 0;
        }
        self.small.reserve(additional);
    }

    /// The part of `small` that has not left.
    fn unsent(&self) -> &[u8] {
        &self.small[self.start..]
    }

    /// `count` bytes have left, and some are left.
    fn advance(&mut self, count: usize, sent: &mut Vec<Bytes>) {
        let mut left = count;
        while let Some(first) = self.large.front_mut() {
            let before = left.min(first.before);
            let of_payload = (left - before).min(first.payload.len());
            left -= before + of_payload;
            self.start += before;
            first.before -= before;
            first.payload.advance(of_payload);
            self.large_bytes -= of_payload;
            if !first.payload.is_empty() {
                return;
            }
            sent.extend(self.large.pop_front().map(|large| large.payload));
            if self.large.is_empty() {
                self.large = VecDeque::new();
            }
        }
        self.start += left;
        self.behind -= left;
    }
}

impl Buf for Encoder {
    fn remaining(&self) -> usize {
        match &self.queued {
            Some(queued) => queued.small.len() - queued.start + queued.large_bytes,
            None => self.shared.as_ref().map_or(0, |frame| frame.len()),
        }
    }

    fn chunk(&self) -> &[u8] {
        let Some(queued) = &self.queued else { return self.shared.as_deref().map_or(&[], |frame| frame) };
        match queued.large.front() {
            None => queued.unsent(),
            Some(large) if large.before == 0 => &large.payload,
            Some(large) => &queued.unsent()[..large.before],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(queued) = &self.queued else {
            let chunks = slices.iter_mut().zip(&self.shared);
            return chunks.map(|(slice, frame)| *slice = IoSlice::new(frame)).count();
        };
        let mut unsent = queued.unsent();
        if let ([slice, ..], 0) = (&mut *slices, queued.large_bytes) {
            *slice = IoSlice::new(unsent);
            return 1;
        }
        let (_, behind) = unsent.split_at(unsent.len() - queued.behind);
        let in_front = queued.large.iter().flat_map(|large| {
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
