//! The settings of a log.

use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use ws_hub::Key;

use crate::config::{Bounds, Clock, REMEMBERED, millis, millis_or_forever};
use crate::error::OpenError;
use crate::file::{Opener, opener};
use crate::redb_log::RedbLog;

/// The settings of a [`RedbLog`], from [`RedbLog::builder`].
///
/// ```
/// use std::time::Duration;
/// use ws_hub_redb::RedbLog;
///
/// # let directory = std::env::temp_dir().join(format!("ws-hub-redb-doc-builder-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// # let path = directory.join("messages.redb");
/// let log = RedbLog::<String>::builder()
///     .per_user(10_000, 4 * 1024 * 1024)
///     .in_all(10 * 1024 * 1024 * 1024)
///     .time_to_live(Duration::from_secs(30 * 24 * 3600))
///     .open(path)?;
/// # drop(log);
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), ws_hub_redb::OpenError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct RedbLogBuilder<U> {
    bounds: Bounds,
    cache: usize,
    clock: Clock,
    user: PhantomData<fn() -> U>,
}

impl<U> Default for RedbLogBuilder<U> {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            cache: 64 * 1024 * 1024,
            clock: Clock::default(),
            user: PhantomData,
        }
    }
}

impl<U: Key> RedbLogBuilder<U> {
    /// How many messages, and bytes of them, are kept for one user. Default 1,000 and 1 MiB.
    ///
    /// # Panics
    ///
    /// If one of them is 0: a hub that keeps nothing is built `without_log`.
    #[track_caller]
    pub fn per_user(mut self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "a log that keeps nothing: use `without_log`");
        self.bounds.user_messages = messages as u64;
        self.bounds.user_bytes = bytes as u64;
        self
    }

    /// How many bytes are kept for all users. Default 1 GiB: more than in memory, because a disk has more room, and what is
    /// kept for days adds up.
    ///
    /// The file may become three times as large, and 16 MiB more: its pages are not full, and a transaction writes new ones
    /// before the old ones are free.
    ///
    /// # Panics
    ///
    /// If it is 0: a hub that keeps nothing is built `without_log`.
    #[track_caller]
    pub fn in_all(mut self, bytes: u64) -> Self {
        assert!(bytes > 0, "a log that keeps nothing: use `without_log`");
        self.bounds.all_bytes = bytes;
        self
    }

    /// How long an undelivered message is kept. `None` keeps it until a bound is reached. Default 7 days.
    ///
    /// # Panics
    ///
    /// If it is zero: a hub that keeps nothing is built `without_log`.
    #[track_caller]
    pub fn time_to_live(mut self, time: impl Into<Option<Duration>>) -> Self {
        let time = time.into();
        assert!(time != Some(Duration::ZERO), "a log that keeps nothing: use `without_log`");
        self.bounds.time_to_live = millis_or_forever(time);
        self
    }

    /// How many messages are kept after they are delivered, and for how long after the last of them: for clients that come
    /// back and resume. Default 64 messages, which is also the least, and 60 seconds.
    pub fn history(mut self, messages: usize, time: Duration) -> Self {
        self.bounds.history_messages = REMEMBERED.max(messages as u64);
        self.bounds.history_time = millis(time);
        self
    }

    /// How many bytes of the file are kept in memory, at most. Default 64 MiB.
    pub fn cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// Opens the file, and makes it if there is none. Its directory has to be there, on a file system that has locks and hard
    /// links.
    ///
    /// It blocks: a file whose process was killed is checked as a whole, one that is for the most part free is made smaller,
    /// and what is too old is removed. Open it before there are connections.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: another process has the file, it is something else, or I/O fails.
    ///
    /// # Panics
    ///
    /// If the operating system gives no thread.
    pub fn open(self, path: impl AsRef<Path>) -> Result<RedbLog<U>, OpenError> {
        let opener = opener(self.cache);
        self.open_by(path.as_ref(), opener)
    }

    pub(crate) fn open_by(self, path: &Path, opener: Opener) -> Result<RedbLog<U>, OpenError> {
        RedbLog::start(path, opener, self.bounds, self.clock)
    }

    #[cfg(test)]
    pub(crate) fn clock(mut self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }
}

/// How to make one.
impl<U: Key> RedbLog<U> {
    /// Opens the file with the defaults, and makes it if there is none: see
    /// [`RedbLogBuilder::open`](RedbLogBuilder::open).
    ///
    /// # Errors
    ///
    /// [`OpenError`]: another process has the file, it is something else, or I/O fails.
    ///
    /// # Panics
    ///
    /// If the operating system gives no thread.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// Its settings.
    pub fn builder() -> RedbLogBuilder<U> {
        RedbLogBuilder::default()
    }
}
