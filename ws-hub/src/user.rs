//! [`User`]: the connections of one user, under one lock.
//!
//! The lock is held for moments: never over I/O, over a call that waits, or while a waker is called.

use std::task::Waker;

#[cfg(not(all(test, shuttle)))]
use parking_lot::{Mutex, MutexGuard};
#[cfg(all(test, shuttle))]
use shuttle_parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::mailbox::Mailbox;

/// A user who has connections, or one that is being let in.
pub(crate) struct User<U> {
    pub(crate) id: U,
    /// In the order in which they came.
    mailboxes: Mutex<Vec<Mailbox>>,
    /// Raised when it is known of a mailbox that was full whether its client reads.
    pub(crate) moved: Notify,
}

/// Wakers to call when the lock is free.
pub(crate) type Wakes = Vec<Waker>;

impl<U> User<U> {
    pub(crate) fn new(id: U) -> Self {
        Self { id, mailboxes: Mutex::new(Vec::new()), moved: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Mailbox>> {
        self.mailboxes.lock()
    }
}

/// How many connections messages go to.
#[inline]
pub(crate) fn open(mailboxes: &[Mailbox]) -> usize {
    mailboxes.iter().filter(|mailbox| mailbox.is_open()).count()
}

/// The mailbox of a connection.
pub(crate) fn find(mailboxes: &mut [Mailbox], connection: u64) -> Option<&mut Mailbox> {
    mailboxes.iter_mut().find(|mailbox| mailbox.connection == connection)
}
