//! The memory of long messages, kept for the next ones.
//!
//! Memory that comes fresh from the operating system costs more than all that is done to the payload in it: each page of
//! it is a fault, and is filled with zeros. So a message that is dropped leaves its memory here, and the next one of about
//! that length is read to where the last one was.
//!
//! What is kept is bounded, [`MOST`] in the whole process, and given back when nothing has wanted it for [`KEEP`]. A
//! buffer is as large as the message that it is lent for, before that has come: what is lent for messages under way counts
//! against the same bound, so that no more than that can be held by peers who announce much and send little.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// From this length on a message is long, in bytes. The memory of shorter ones is the allocator's business, which keeps it
/// at hand.
pub(crate) const LONG: usize = 32 * 1024;

/// Where the payload begins in the memory of a long message: memory of its own begins close to the start of a page, and
/// from there the kernel copies more slowly than from a little behind it.
pub(crate) const FRONT: usize = 64;

/// Bytes that are kept or lent.
const MOST: usize = 48 * 1024 * 1024;

/// How long a buffer is kept for a message that does not come.
const KEEP: Duration = Duration::from_secs(10);

static POOL: Mutex<Pool> = Mutex::new(Pool { spare: Vec::new(), spare_bytes: 0, lent_bytes: 0 });

struct Pool {
    /// In the order in which they came, with the time.
    spare: Vec<(Instant, Vec<u8>)>,
    spare_bytes: usize,
    lent_bytes: usize,
}

impl Pool {
    fn lock() -> MutexGuard<'static, Self> {
        // nothing that is done with it locked leaves it halfway
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what has been there for long.
    fn take_old(&mut self, now: Instant) -> Vec<(Instant, Vec<u8>)> {
        let old = self.spare.partition_point(|(since, _)| now.duration_since(*since) >= KEEP);
        let old: Vec<_> = self.spare.drain(..old).collect();
        self.spare_bytes -= old.iter().map(|(_, buffer)| buffer.capacity()).sum::<usize>();
        old
    }

    fn remove(&mut self, index: usize) -> Vec<u8> {
        let (_, buffer) = self.spare.remove(index);
        self.spare_bytes -= buffer.capacity();
        buffer
    }
}

/// An empty buffer for `length` bytes, or up to a quarter more, if there is one. It is lent until
/// [`settle`](settle) is told of it.
pub(crate) fn borrow(length: usize) -> Option<Vec<u8>> {
    let mut pool = Pool::lock();
    let fits = length..=length + length / 4;
    let (index, _) = (pool.spare.iter().enumerate())
        .filter(|(_, (_, buffer))| fits.contains(&buffer.capacity()))
        .min_by_key(|(_, (_, buffer))| buffer.capacity())?;
    let buffer = pool.remove(index);
    pool.lent_bytes += buffer.capacity();
    Some(buffer)
}

/// A message for which `capacity` bytes were lent is complete, or will not be.
pub(crate) fn settle(capacity: usize) {
    Pool::lock().lent_bytes -= capacity;
}

/// Keeps the memory of a long message for the next one.
fn keep(mut buffer: Vec<u8>) {
    buffer.clear();
    let mut pool = Pool::lock();
    if pool.spare_bytes + pool.lent_bytes + buffer.capacity() <= MOST {
        pool.spare_bytes += buffer.capacity();
        pool.spare.push((Instant::now(), buffer));
    }
    let old = pool.take_old(Instant::now());
    drop(pool);
    drop(old);
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
