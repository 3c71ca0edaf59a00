//! What a log keeps, and the clock that it goes by.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Among how many messages one is found that is sent again, and how many delivered ones are kept, at least.
pub(crate) const REMEMBERED: u64 = 64;

/// A time that does not come, in milliseconds.
const FOREVER: u64 = u64::MAX / 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) user_messages: u64,
    pub(crate) user_bytes: u64,
    pub(crate) all_bytes: u64,
    /// In milliseconds, as all times here.
    pub(crate) time_to_live: u64,
    pub(crate) history_messages: u64,
    pub(crate) history_time: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            user_messages: 1_000,
            user_bytes: 1024 * 1024,
            all_bytes: 1024 * 1024 * 1024,
            time_to_live: millis(Duration::from_secs(7 * 24 * 3600)),
            history_messages: REMEMBERED,
            history_time: millis(Duration::from_secs(60)),
        }
    }
}

/// At most [`FOREVER`], so that sums of a time and a duration do not overflow.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(FOREVER, |millis| millis.min(FOREVER))
}

/// A time in milliseconds. `None` is a time that never ends.
pub(crate) fn millis_or_forever(time: Option<Duration>) -> u64 {
    time.map_or(FOREVER, millis)
}

/// Milliseconds since 1970: times are in the file, so they are those of the wall clock.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    #[cfg(test)]
    pub(crate) fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(|| SystemTime::UNIX_EPOCH.elapsed().map_or(0, millis)))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
