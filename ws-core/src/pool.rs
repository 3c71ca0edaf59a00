//! The memory of long messages, kept for the next ones.
//!
//! Memory that comes fresh from the operating system costs more than all that is done to the payload in it: each page of
//! it is a fault, and is filled with zeros. So a message that is dropped leaves its memory here, and the next one of about
//! that length is read to where the last one was.
//!
//! What is kept is bounded, [`MOST`] in the whole process, and given back when nothing has wanted it for [`KEEP`]: by the
//! next long message that is dropped, or the next timer of any connection, since a pool has no clock of its own. A buffer is
//! as large as the message that it is lent for, before that has come: what is lent for messages under way counts against the
//! same bound, so that no more than that can be held by peers who announce much and send little.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From this length on a message is long, in bytes. The memory of shorter ones is the allocator's business, which keeps it
/// at hand.
pub(crate) const LONG: usize = 32 * 1024;

/// Where the payload begins in the memory of a long message: memory of its own begins close to the start of a page, and
/// from there the kernel copies more slowly than from a little behind it.
pub(crate) const FRONT: u8 = 64;

/// Bytes that are kept or lent.
const MOST: usize = 48 * 1024 * 1024;

/// How long a buffer is kept for a message that does not come.
const KEEP: Duration = Duration::from_secs(10);

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

#[derive(Debug)]
struct Pool {
    /// In the order in which they came, with the time.
    spare: Vec<(Instant, Vec<u8>)>,
    spare_bytes: usize,
    lent_bytes: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { spare: Vec::new(), spare_bytes: 0, lent_bytes: 0 }
    }

    fn lock() -> MutexGuard<'static, Self> {
        // nothing that is done with it locked leaves it halfway
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The smallest that fits, if one does without too much of it unused.
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

    /// Returns it if there is no room for it.
    fn keep(&mut self, buffer: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        if self.spare_bytes + self.lent_bytes + buffer.capacity() > MOST {
            return Some(buffer);
        }
        self.spare_bytes += buffer.capacity();
        self.spare.push((now, buffer));
        None
    }

    /// Takes out what has been there for long.
    fn take_old(&mut self, now: Instant) -> Vec<(Instant, Vec<u8>)> {
        let old = self.spare.partition_point(|(since, _)| now.duration_since(*since) >= KEEP);
        let old: Vec<_> = self.spare.drain(..old).collect();
        self.spare_bytes -= old.iter().map(|(_, buffer)| buffer.capacity()).sum::<usize>();
        old
    }
}

/// An empty buffer for `length` bytes, or up to a quarter more, if there is one. It is lent until [`settle`] is told of it.
pub(crate) fn borrow(length: usize) -> Option<Vec<u8>> {
    Pool::lock().borrow(length)
}

/// A message for which `capacity` bytes were lent is complete, or will not be.
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
    // gives memory back to the system, which takes its time
    drop(surplus);
}

/// Gives back what nothing has wanted for long.
pub(crate) fn give_back_old() {
    // whoever has it locked does this as well
    let Ok(mut pool) = POOL.try_lock() else { return };
    let old = pool.take_old(Instant::now());
    drop(pool);
    drop(old);
}

/// The payload of a message, whose memory is kept when it is dropped.
pub(crate) struct LongPayload {
    bytes: Vec<u8>,
    front: usize,
}

impl LongPayload {
    /// The payload is in `bytes` behind the first `front` of them.
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
    fn what_was_kept_is_lent_to_a_message_of_about_that_length() {
        let mut pool = Pool::new();
        let now = Instant::now();
        let (small, large) = (buffer(1000), buffer(1200));
        let addresses = [small.as_ptr(), large.as_ptr()];
        assert!(pool.keep(large, now).is_none() && pool.keep(small, now).is_none());

        assert_eq!(pool.borrow(799), None, "a quarter of it would be unused");
        assert_eq!(pool.borrow(1201), None);
        assert_eq!(pool.borrow(usize::MAX), None);
        let lent = [pool.borrow(990).unwrap(), pool.borrow(990).unwrap()];
        assert_eq!(lent.each_ref().map(Vec::as_ptr), addresses);
        assert_eq!(pool.borrow(990), None);
    }

    #[test]
    fn what_is_kept_and_lent_is_bounded() {
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
    fn what_nothing_wants_is_given_back() {
        let mut pool = Pool::new();
        let now = Instant::now();
        assert!(pool.keep(buffer(1000), now).is_none());
        assert!(pool.keep(buffer(2000), now + KEEP / 2).is_none());
        assert!(pool.take_old(now + KEEP / 2).is_empty());
        assert_eq!(pool.take_old(now + KEEP).len(), 1);
        assert_eq!((pool.spare.len(), pool.spare_bytes), (1, 2000));
    }
}
