//! When a connection has waited long enough for what.
//!
//! These are instants and sums. Traffic moves the instants, and the driver has one timer, which it arms for the earliest
//! deadline.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::config::ConnectionConfig;
use crate::error::Timeout;

/// What was last seen when.
#[derive(Debug)]
pub(super) struct Timers {
    /// `ping_interval` with this connection's share of jitter, so that connections that came together do not ping together.
    ping_interval: Option<Duration>,
    last_inbound: Instant,
    last_message: Instant,
    /// A message has come in or gone out since the driver looked at the time.
    exchanged: bool,
    /// Since when a ping is unanswered.
    pinged_since: Option<Instant>,
    /// The message that has begun and is not complete.
    message: Option<Progress>,
    /// Since when the transport takes nothing.
    blocked_since: Option<Instant>,
}

/// How far a message is.
#[derive(Debug)]
struct Progress {
    since: Instant,
    /// Bytes that have come since then.
    bytes: u64,
}

/// What there is to do because of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    Idle,
    GiveUp(Timeout),
}

impl Timers {
    pub(super) fn new(config: &ConnectionConfig, now: Instant) -> Self {
        let jitter = rand::rng().random_range(0.9..1.1);
        Self {
            ping_interval: config.ping_interval.map(|interval| {
                Duration::try_from_secs_f64(interval.as_secs_f64() * jitter).unwrap_or(interval)
            }),
            last_inbound: now,
            last_message: now,
            exchanged: false,
            pinged_since: None,
            message: None,
            blocked_since: None,
        }
    }

    /// Bytes have come in: the peer lives.
    #[inline]
    pub(super) fn inbound(&mut self, bytes: usize, now: Instant) {
        self.last_inbound = now;
        self.pinged_since = None;
        if let Some(message) = &mut self.message {
            message.bytes = message.bytes.saturating_add(bytes as u64);
        }
    }

    /// When bytes last came in.
    pub(super) fn last_inbound(&self) -> Instant {
        self.last_inbound
    }

    /// A message has come in or gone out. When that was, the driver tells.
    #[inline]
    pub(super) fn exchanged(&mut self) {
        self.exchanged = true;
    }

    /// Whether a message has come in or gone out since the driver looked at the time.
    #[inline]
    pub(super) fn has_exchanged(&self) -> bool {
        self.exchanged
    }

    /// The driver looks at the time.
    #[inline]
    pub(super) fn see(&mut self, now: Instant) {
        if std::mem::take(&mut self.exchanged) {
            self.last_message = now;
        }
    }

    /// A message is (not) under way.
    #[inline]
    pub(super) fn in_message(&mut self, begun: bool) {
        if !begun {
            self.message = None;
        } else if self.message.is_none() {
            self.message = Some(Progress { since: self.last_inbound, bytes: 0 });
        }
    }

    /// We did not read for a while: the peer is not to blame for its silence.
    pub(super) fn resumed(&mut self, now: Instant) {
        self.inbound(0, now);
        self.message_excused(now);
    }

    /// The pong had its time, and nobody could have read it. A ping that nobody could hear answered does not put off the
    /// next one.
    pub(super) fn ping_passed(&mut self) {
        if let Some(pinged) = self.pinged_since.take() {
            self.last_inbound = pinged;
        }
    }

    /// A message that is under way is not complete because we did not read.
    pub(super) fn message_excused(&mut self, now: Instant) {
        if let Some(message) = &mut self.message {
            *message = Progress { since: now, bytes: 0 };
        }
    }

    /// Whether a ping is unanswered.
    pub(super) fn awaits_pong(&self) -> bool {
        self.pinged_since.is_some()
    }

    /// A ping is on its way, or held up by what is on its way before it.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.pinged_since = Some(now);
    }

    /// The transport took something.
    #[inline]
    pub(super) fn unblocked(&mut self) {
        self.blocked_since = None;
    }

    /// The transport took nothing.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// When the message that is under way has to be complete: it has its time, and time for each byte that has come, at
    /// the lowest rate that is allowed.
    fn message_deadline(&self, config: &ConnectionConfig) -> Option<Instant> {
        let Progress { since, bytes } = self.message.as_ref()?;
        let per_second = u64::from(config.min_message_rate.get());
        let earned = Duration::from_secs(bytes / per_second)
            + Duration::from_nanos(bytes % per_second * 1_000_000_000 / per_second);
        since.checked_add(config.message_timeout?)?.checked_add(earned)
    }

    /// Every deadline of an open connection, in the order in which they are looked at.
    fn deadlines(&self, config: &ConnectionConfig) -> [(Option<Instant>, Due); 5] {
        let after = |since: Option<Instant>, time: Option<Duration>| since?.checked_add(time?);
        let ping = match self.pinged_since {
            // one at a time
            Some(_) => None,
            None => after(Some(self.last_inbound), self.ping_interval),
        };
        [
            (after(self.pinged_since, Some(config.pong_timeout)), Due::GiveUp(Timeout::Keepalive)),
            (after(self.blocked_since, config.send_timeout), Due::GiveUp(Timeout::Send)),
            (self.message_deadline(config), Due::GiveUp(Timeout::Message)),
            (after(Some(self.last_message), config.idle_timeout), Due::Idle),
            (ping, Due::Ping),
        ]
    }

    /// What is due at this time.
    pub(super) fn due(&self, config: &ConnectionConfig, now: Instant) -> Option<Due> {
        self.deadlines(config).into_iter().find(|(at, _)| at.is_some_and(|at| at <= now)).map(|(_, due)| due)
    }

    /// When to look again.
    pub(super) fn next(&self, config: &ConnectionConfig) -> Option<Instant> {
        let is_quiet = self.pinged_since.is_none() && self.blocked_since.is_none() && self.message.is_none();
        if is_quiet && config.idle_timeout.is_none() {
            // nearly always, and after every turn
            return self.last_inbound.checked_add(self.ping_interval?);
        }
        self.deadlines(config).into_iter().filter_map(|(at, _)| at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> (ConnectionConfig, Instant, Timers) {
        let config = ConnectionConfig::default();
        let now = Instant::now();
        let timers = Timers::new(&config, now);
        (config, now, timers)
    }

    #[test]
    fn jitter_is_a_tenth_of_the_interval_and_differs() {
        let intervals: Vec<_> = (0..20).map(|_| start().2.ping_interval.unwrap()).collect();
        assert!(intervals.iter().all(|interval| (18 * SECOND..=22 * SECOND).contains(interval)));
        assert!(intervals.iter().any(|interval| *interval != intervals[0]));
    }

    #[test]
    fn silence_leads_to_a_ping_and_then_to_the_end() {
        let (config, now, mut timers) = start();
        assert_eq!(timers.due(&config, now + 17 * SECOND), None);
        assert_eq!(timers.due(&config, now + 23 * SECOND), Some(Due::Ping));
        timers.pinged(now + 23 * SECOND);
        assert_eq!(timers.due(&config, now + 42 * SECOND), None);
        assert_eq!(timers.due(&config, now + 43 * SECOND), Some(Due::GiveUp(Timeout::Keepalive)));
    }

    #[test]
    fn any_inbound_byte_is_a_sign_of_life() {
        let (config, now, mut timers) = start();
        timers.pinged(now);
        timers.inbound(1, now + 19 * SECOND);
        assert_eq!(timers.due(&config, now + 36 * SECOND), None);
    }

    #[test]
    fn a_message_has_a_time_limit_from_its_first_byte() {
        let (config, now, mut timers) = start();
        timers.in_message(true);
        timers.inbound(0, now + 50 * SECOND);
        timers.in_message(true);
        assert_eq!(timers.due(&config, now + 60 * SECOND), Some(Due::GiveUp(Timeout::Message)));
        timers.in_message(false);
        assert_eq!(timers.due(&config, now + 60 * SECOND), None);
    }

    #[test]
    fn bytes_of_a_message_earn_time_at_the_lowest_rate() {
        let (config, now, mut timers) = start();
        timers.ping_interval = None;
        timers.in_message(true);
        timers.inbound(10 * 1024 + 512, now + 50 * SECOND);
        let due = Some(Due::GiveUp(Timeout::Message));
        assert_eq!(timers.due(&config, now + Duration::from_millis(70_499)), None);
        assert_eq!(timers.due(&config, now + Duration::from_millis(70_500)), due);
    }

    #[test]
    fn pings_do_not_reset_the_idle_timeout() {
        let (mut config, now, mut timers) = start();
        config.idle_timeout = Some(60 * SECOND);
        timers.inbound(1, now + 59 * SECOND);
        assert_eq!(timers.due(&config, now + 60 * SECOND), Some(Due::Idle));
        timers.exchanged();
        timers.see(now + 59 * SECOND);
        assert_eq!(timers.due(&config, now + 60 * SECOND), None);
    }

    #[test]
    fn endless_durations_never_come() {
        let (mut config, now, _) = start();
        config.ping_interval = Some(Duration::MAX);
        config.pong_timeout = Duration::MAX;
        config.idle_timeout = Some(Duration::MAX);
        config.message_timeout = Some(Duration::MAX);
        let mut timers = Timers::new(&config, now);
        timers.pinged(now);
        timers.in_message(true);
        assert_eq!(timers.next(&config), None);
    }
}
