//! What a backplane keeps, and how it times things.

use std::time::Duration;

/// Among how many messages one is found that is sent again, and how many delivered ones are kept, at least.
pub(crate) const REMEMBERED: u64 = 64;

/// The longest time that something is kept, in milliseconds: a hundred years. What is longer is as long as that.
pub(crate) const EVER: u64 = 100 * 365 * 24 * 3600 * 1000;

/// How long a call may take, with all its tries: less than a hub waits for it, so that it is known what became of it.
pub(crate) const DEADLINE: Duration = Duration::from_millis(4_500);

/// After how long without the server calls are refused at once.
pub(crate) const CIRCUIT: Duration = Duration::from_secs(5);

/// How long it may take to open a connection, with everything that makes it usable.
pub(crate) const CONNECTING: Duration = Duration::from_secs(5);

/// How long it may take until a server has answered a new connection.
pub(crate) const GREETING: Duration = Duration::from_secs(3);

/// How long replicas may take to have what was appended.
pub(crate) const REPLICATING: Duration = Duration::from_secs(1);

/// How long a renewal may take, and then its probe.
pub(crate) const PROBE: Duration = Duration::from_secs(5);

/// How long to wait before a connection is opened again, at first and at most.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) prefix: String,
    pub(crate) bounds: Bounds,
    /// How many replicas have to have what is appended.
    pub(crate) replicas: u32,
    /// How long a node is believed to live that is not heard of.
    pub(crate) lease: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let (bounds, lease) = (Bounds::default(), Duration::from_secs(15));
        Self { prefix: "ws".to_owned(), bounds, replicas: 0, lease }
    }
}

impl Settings {
    pub(crate) fn renewal(&self) -> Duration {
        self.lease / 3
    }

    /// How long after the end of its lease a node is tidied up.
    pub(crate) fn reaped_after(&self) -> Duration {
        self.lease * 2 / 3
    }

    /// How long a node has to be up before it tidies up: after an outage all leases are over, and nobody is gone.
    pub(crate) fn reaps_after(&self) -> Duration {
        self.lease * 4 / 3
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) user_messages: u64,
    pub(crate) user_bytes: u64,
    /// In milliseconds, as all times here. 0 is for ever.
    pub(crate) time_to_live: u64,
    pub(crate) history_messages: u64,
    pub(crate) history_time: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            user_messages: 1_000,
            user_bytes: 1024 * 1024,
            time_to_live: millis(Duration::from_secs(7 * 24 * 3600)),
            history_messages: REMEMBERED,
            history_time: millis(Duration::from_secs(60)),
        }
    }
}

/// At least 1, which Redis wants of times.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(EVER).clamp(1, EVER)
}
