//! When a connection has waited long enough for what.
//!
//! These are instants and sums. Traffic moves the instants, and the driver has one timer, which it arms for the earliest
//! deadline.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::config::ConnectionConfig;
use crate::error::Timeout;

/// What was last seen when.
#[derive(Debug)]
pub(super) struct Timers {
    /// When bytes last came in.
    pub(super) last_inbound: Instant,
    last_message: Instant,
    /// `ping_interval` in milliseconds, with this connection's share of jitter, so that connections that came together do
    /// not ping together. More than a `u32` can count is endless.
    ping_interval: Option<NonZeroU32>,
    /// A message has come in or gone out since the driver looked at the time, which tells when that was.
    pub(super) exchanged: bool,
    /// `None` while nothing is waited for but the peer's next word, as most of the time.
    waits: Option<Box<Waits>>,
}

/// What is waited for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Waits {
    /// Since when a ping is unanswered.
    pinged_since: Option<Instant>,
    /// That ping waits behind what the transport has not taken yet, up to this byte of all that was queued.
    held_until: Option<NonZeroU64>,
    /// The message that has begun and is not complete.
    message: Option<Progress>,
    /// Since when the transport takes nothing.
    blocked_since: Option<Instant>,
}

/// How far a message is.
#[derive(Debug, PartialEq, Eq)]
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
        let jitter = |interval: Duration| {
            let millis = interval.as_millis().saturating_mul(rand::rng().random_range(900..1100)) / 1000;
            NonZeroU32::new(u32::try_from(millis).ok()?.max(1))
        };
        Self {
            ping_interval: config.ping_interval.and_then(jitter),
            last_inbound: now,
            last_message: now,
            exchanged: false,
            waits: None,
        }
    }

    fn ping_interval(&self) -> Option<Duration> {
        self.ping_interval.map(|millis| Duration::from_millis(millis.get().into()))
    }

    fn waits(&mut self) -> &mut Waits {
        self.waits.get_or_insert_default()
    }

    /// Bytes have come in: the peer lives.
    #[inline]
    pub(super) fn inbound(&mut self, bytes: usize, now: Instant) {
        self.last_inbound = now;
        if let Some(waits) = &mut self.waits {
            waits.pinged_since = None;
            if let Some(message) = &mut waits.message {
                message.bytes = message.bytes.saturating_add(bytes as u64);
            }
        }
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
        if begun {
            let since = self.last_inbound;
            self.waits().message.get_or_insert(Progress { since, bytes: 0 });
        } else if let Some(waits) = &mut self.waits {
            waits.message = None;
        }
    }

    /// The pong had its time, and nobody could have read it. A ping that nobody could hear answered does not put off the
    /// next one.
    pub(super) fn ping_passed(&mut self) {
        if let Some(pinged) = self.waits.as_mut().and_then(|waits| waits.pinged_since.take()) {
            self.last_inbound = pinged;
        }
    }

    /// A message that is under way is not complete because we did not read.
    pub(super) fn message_excused(&mut self, now: Instant) {
        if let Some(message) = self.waits.as_mut().and_then(|waits| waits.message.as_mut()) {
            *message = Progress { since: now, bytes: 0 };
        }
    }

    /// A ping is on its way, and if it is held up by what is on its way before it, the pong has its time from when the
    /// transport has taken this byte of all that was queued. An earlier ping that is unanswered keeps its deadline, which a
    /// user who pings must not postpone.
    pub(super) fn pinged(&mut self, held_until: Option<u64>, now: Instant) {
        let waits = self.waits();
        if waits.pinged_since.is_none() {
            waits.pinged_since = Some(now);
            waits.held_until = held_until.and_then(NonZeroU64::new).or(waits.held_until);
        }
    }

    /// Whether it matters when the transport takes something.
    #[inline]
    pub(super) fn is_ping_held(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.held_until.is_some())
    }

    /// The transport took something, and so many bytes in all.
    #[inline]
    pub(super) fn written(&mut self, written: u64, now: Instant) {
        let Some(waits) = &mut self.waits else { return };
        waits.blocked_since = None;
        if waits.held_until.is_some() {
            // the peer has time to answer from when the ping is on its way, while what is before it goes out
            waits.pinged_since = Some(now);
            waits.held_until.take_if(|end| written >= end.get());
        }
    }

    /// The transport took nothing.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.waits().blocked_since.get_or_insert(now);
    }

    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.blocked_since.is_some())
    }

    /// Gives back the memory, if nothing is waited for.
    pub(super) fn shrink(&mut self) {
        self.waits.take_if(|waits| **waits == Waits::NONE);
    }

    /// Every deadline of an open connection, in the order in which they are looked at.
    fn deadlines(&self, config: &ConnectionConfig) -> [(Option<Instant>, Due); 5] {
        let after = |since: Option<Instant>, time: Option<Duration>| since?.checked_add(time?);
        let waits = self.waits.as_deref().unwrap_or(&Waits::NONE);
        // one at a time
        let silent_since = waits.pinged_since.is_none().then_some(self.last_inbound);
        [
            (after(waits.pinged_since, Some(config.pong_timeout)), Due::GiveUp(Timeout::Keepalive)),
            (after(waits.blocked_since, config.send_timeout), Due::GiveUp(Timeout::Send)),
            (waits.message_deadline(config), Due::GiveUp(Timeout::Message)),
            (after(Some(self.last_message), config.idle_timeout), Due::Idle),
            (after(silent_since, self.ping_interval()), Due::Ping),
        ]
    }

    pub(super) fn due(&self, config: &ConnectionConfig, now: Instant) -> Option<Due> {
        self.deadlines(config).into_iter().find(|(at, _)| at.is_some_and(|at| at <= now)).map(|(_, due)| due)
    }

    pub(super) fn next(&self, config: &ConnectionConfig) -> Option<Instant> {
        if self.waits.is_none() && config.idle_timeout.is_none() {
            // nearly always, and after every turn
            return self.last_inbound.checked_add(self.ping_interval()?);
        }
        self.deadlines(config).into_iter().filter_map(|(at, _)| at).min()
    }
}

impl Waits {
    const NONE: Self = Self { pinged_since: None, held_until: None, message: None, blocked_since: None };

    /// When the message that is under way has to be complete: it has its time, and time for each byte that has come, at
    /// the lowest rate that is allowed.
    fn message_deadline(&self, config: &ConnectionConfig) -> Option<Instant> {
        let Progress { since, bytes } = self.message.as_ref()?;
        let per_second = u64::from(config.min_message_rate.get());
        let earned = Duration::from_secs(bytes / per_second)
            + Duration::from_nanos(bytes % per_second * 1_000_000_000 / per_second);
        since.checked_add(config.message_timeout?)?.checked_add(earned)
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
        let intervals: Vec<_> = (0..20).map(|_| start().2.ping_interval().unwrap()).collect();
        assert!(intervals.iter().all(|interval| (18 * SECOND..=22 * SECOND).contains(interval)));
        assert!(intervals.iter().any(|interval| *interval != intervals[0]));
    }

    #[test]
    fn silence_leads_to_a_ping_and_then_to_the_end() {
        let (config, now, mut timers) = start();
        assert_eq!(timers.due(&config, now + 17 * SECOND), None);
        assert_eq!(timers.due(&config, now + 23 * SECOND), Some(Due::Ping));
        timers.pinged(None, now + 23 * SECOND);
        assert_eq!(timers.due(&config, now + 42 * SECOND), None);
        assert_eq!(timers.due(&config, now + 43 * SECOND), Some(Due::GiveUp(Timeout::Keepalive)));
    }

    #[test]
    fn any_inbound_byte_is_a_sign_of_life() {
        let (config, now, mut timers) = start();
        timers.pinged(None, now);
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
        timers.exchanged = true;
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
        timers.pinged(None, now);
        timers.in_message(true);
        assert_eq!(timers.next(&config), None);
    }
}
