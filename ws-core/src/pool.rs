//! A pool that reuses the memory of long messages.
//!
//! New memory of the operating system costs more than decoding the payload in it: each page causes a page fault, and is
//! filled with zeros. So when a long message is dropped, the pool keeps its memory, and lends it to the next message of
//! about that length.
//!
//! The pool holds at most [`MOST`] bytes in the whole process, and frees a buffer that was not used for [`KEEP`]. It has no
//! clock of its own: it looks for old buffers when a long message is dropped, and when a timer of any connection fires. A
//! buffer is lent before its message has come, and is as large as the message. So lent buffers count against the same bound:
//! peers that announce long messages and send little cannot hold more than that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The length in bytes from which a message is long. The allocator itself reuses the memory of shorter ones.
pub(crate) const LONG: usize = 32 * 1024;

/// Where the payload begins in the memory of a long message. A large allocation begins close to the start of a page, and
/// the kernel copies more slowly to there than to a little behind it.
pub(crate) const FRONT: u8 = 64;

/// The most bytes that the pool keeps and lends.
const MOST: usize = 48 * 1024 * 1024;

/// How long the pool keeps a buffer that is not used.
const KEEP: Duration = Duration::from_secs(10);

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

#[derive(Debug)]
struct Pool {
    /// Buffers with the time when they came, in that order.
    spare: Vec<(Instant, Vec<u8>)>,
    spare_bytes: usize,
    lent_bytes: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { spare: Vec::new(), spare_bytes: 0, lent_bytes: 0 }
    }

    fn lock() -> MutexGuard<'static, Self> {
        // a panic cannot leave it in an inconsistent state
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the smallest buffer that fits. At most a fifth of it may be left unused.
    fn borrow(&mut self, length: usize) -> Option<Vec<u8>> {
        let fits = length..=length.saturating_add(length / 4);
        let (index, _) = (self.spare.iter().enumerate())
            .map(|(index, (_, buffer))| (index, buffer.capacity()))
            .filter(|(_, capacity)| fits.contains(capacity))
            .min_by_key(|(_, capacity)| *capacity)?;
        let (_, buffer) = self.spare.remove(index);
        self.spare_bytes -= buffer.capacity();
        self.lent_bytes += buffer.capacity();
        Some(buffer)
    }

    /// Keeps a buffer. Returns it if the pool is full.
    fn keep(&mut self, buffer: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        if self.spare_bytes + self.lent_bytes + buffer.capacity() > MOST {
            return Some(buffer);
        }
        self.spare_bytes += buffer.capacity();
        self.spare.push((now, buffer));
        None
    }

    /// Takes out the buffers that were not used for [`KEEP`].
    fn take_old(&mut self, now: Instant) -> Vec<(Instant, Vec<u8>)> {
        let old = self.spare.partition_point(|(since, _)| now.duration_since(*since) >= KEEP);
        let old: Vec<_> = self.spare.drain(..old).collect();
        self.spare_bytes -= old.iter().map(|(_, buffer)| buffer.capacity()).sum::<usize>();
        old
    }
}

/// Lends an empty buffer for `length` bytes, or up to a quarter more, if there is one. It counts as lent until [`settle`] is
/// called for it.
pub(crate) fn borrow(length: usize) -> Option<Vec<u8>> {
    Pool::lock().borrow(length)
}

/// A buffer of `capacity` bytes does not count as lent any more: its message is complete, or was dropped.
pub(crate) fn settle(capacity: usize) {
    Pool::lock().lent_bytes -= capacity;
}

/// Keeps the memory of a long message for the next one.
fn keep(mut buffer: Vec<u8>) {
    buffer.clear();
    let now = Instant::now();
    let mut pool = Pool::lock();
    let surplus = (pool.keep(buffer, now), pool.take_old(now));
    drop(pool);
    // frees memory, which is slow, so the pool is not locked
    drop(surplus);
}

/// Frees the buffers that were not used for [`KEEP`].
pub(crate) fn give_back_old() {
    // another thread uses the pool; a later timer does this
    let Ok(mut pool) = POOL.try_lock() else { return };
    let old = pool.take_old(Instant::now());
    drop(pool);
    drop(old);
}

/// The payload of a long message. When it is dropped, the pool keeps its memory.
pub(crate) struct LongPayload {
    bytes: Vec<u8>,
    front: usize,
}

impl LongPayload {
    /// A payload that begins at `front` in `bytes`.
    pub(crate) fn new(bytes: Vec<u8>, front: usize) -> Self {
        Self { bytes, front }
    }
}

impl AsRef<[u8]> for LongPayload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.front..]
    }
}

impl Drop for LongPayload {
    fn drop(&mut self) {
        keep(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Vec<u8> {
        Vec::with_capacity(capacity)
    }

    #[test]
    fn a_kept_buffer_is_lent_to_a_message_of_about_its_length() {
        let mut pool = Pool::new();
        let now = Instant::now();
        let (small, large) = (buffer(1000), buffer(1200));
        let addresses = [small.as_ptr(), large.as_ptr()];
        assert!(pool.keep(large, now).is_none() && pool.keep(small, now).is_none());

        assert_eq!(pool.borrow(799), None, "more than a fifth would be unused");
        assert_eq!(pool.borrow(1201), None);
        assert_eq!(pool.borrow(usize::MAX), None);
        let lent = [pool.borrow(990).unwrap(), pool.borrow(990).unwrap()];
        assert_eq!(lent.each_ref().map(Vec::as_ptr), addresses);
        assert_eq!(pool.borrow(990), None);
    }

    #[test]
    fn kept_and_lent_memory_together_is_bounded() {
        let mut pool = Pool::new();
        let now = Instant::now();
        assert!(pool.keep(buffer(MOST / 2), now).is_none());
        assert!(pool.keep(buffer(MOST / 2), now).is_none());
        assert!(pool.keep(buffer(1), now).is_some());
        let lent = pool.borrow(MOST / 2).unwrap();
        assert!(pool.keep(buffer(1), now).is_some());
        pool.lent_bytes -= lent.capacity();
        assert!(pool.keep(buffer(1), now).is_none());
    }

    #[test]
    fn a_buffer_that_is_not_used_is_freed() {
        let mut pool = Pool::new();
        let now = Instant::now();
        assert!(pool.keep(buffer(1000), now).is_none());
        assert!(pool.keep(buffer(2000), now + KEEP / 2).is_none());
        assert!(pool.take_old(now + KEEP / 2).is_empty());
        assert_eq!(pool.take_old(now + KEEP).len(), 1);
        assert_eq!((pool.spare.len(), pool.spare_bytes), (1, 2000));
    }
}
