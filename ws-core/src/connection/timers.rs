//! When a connection has waited long enough for what.
//!
//! There is one `Sleep` for all of it, armed for the earliest deadline and re-armed only when it fires: traffic moves
//! the instants here, and never the timer.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Duration;

use pin_project::pin_project;
use rand::RngExt as _;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::ConnectionConfig;
use crate::error::Timeout;

/// What was last seen when.
#[derive(Debug)]
pub(super) struct Timers {
    /// `ping_interval` with this connection's share of jitter, so that those that came together do not ping together.
    ping_interval: Option<Duration>,
    last_inbound: Instant,
    last_message: Instant,
    /// Since when a ping is unanswered.
    pinged_since: Option<Instant>,
    /// When a message was begun that is not complete.
    message_since: Option<Instant>,
    /// Since when the transport takes nothing.
    blocked_since: Option<Instant>,
    /// The closing has begun.
    ending: bool,
    /// When the current step of the closing is over in any case.
    end_due: Option<Instant>,
}

/// What there is to do because of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    Idle,
    GiveUp(Timeout),
    End,
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
            pinged_since: None,
            message_since: None,
            blocked_since: None,
            ending: false,
            end_due: None,
        }
    }

    /// Bytes have come in: the peer lives.
    pub(super) fn inbound(&mut self, now: Instant) {
        self.last_inbound = now;
        self.pinged_since = None;
    }

    /// A message has come in or gone out.
    pub(super) fn message(&mut self, now: Instant) {
        self.last_message = now;
    }

    /// A message is (not) under way.
    pub(super) fn in_message(&mut self, begun: bool) {
        self.message_since = begun.then(|| self.message_since.unwrap_or(self.last_inbound));
    }

    /// We did not read for a while: the peer is not to blame for its silence.
    pub(super) fn resumed(&mut self, now: Instant) {
        self.inbound(now);
        self.message_excused(now);
    }

    /// The ping has had its time, and nobody could have read the answer: one such does not put off the next.
    pub(super) fn ping_passed(&mut self) {
        if let Some(pinged) = self.pinged_since.take() {
            self.last_inbound = pinged;
        }
    }

    /// A message that is under way did not come to its end because we did not read.
    pub(super) fn message_excused(&mut self, now: Instant) {
        self.message_since = self.message_since.map(|_| now);
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
    pub(super) fn unblocked(&mut self) {
        self.blocked_since = None;
    }

    /// The transport took nothing.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// The closing goes on to its next step, which may take this long.
    pub(super) fn end_within(&mut self, time: Duration, now: Instant) {
        self.ending = true;
        self.end_due = now.checked_add(time);
    }

    /// As `end_within`, if it does not end earlier as it is.
    pub(super) fn end_sooner(&mut self, time: Duration, now: Instant) {
        let sooner = now.checked_add(time);
        self.end_due = self.end_due.into_iter().chain(sooner).min();
    }

    /// Every deadline that counts, in the order in which they are to be looked at.
    fn deadlines(&self, config: &ConnectionConfig) -> [(Option<Instant>, Due); 6] {
        let after = |since: Option<Instant>, time: Option<Duration>| since?.checked_add(time?);
        if self.ending {
            // the end has begun, and has a deadline for all there is to do
            let never = (None, Due::End);
            return [(self.end_due, Due::End), never, never, never, never, never];
        }
        let ping = match self.pinged_since {
            // one at a time
            Some(_) => None,
            None => after(Some(self.last_inbound), self.ping_interval),
        };
        [
            (after(self.pinged_since, Some(config.pong_timeout)), Due::GiveUp(Timeout::Keepalive)),
            (after(self.blocked_since, config.send_timeout), Due::GiveUp(Timeout::Send)),
            (after(self.message_since, config.message_timeout), Due::GiveUp(Timeout::Message)),
            (after(Some(self.last_message), config.idle_timeout), Due::Idle),
            (ping, Due::Ping),
            (None, Due::End),
        ]
    }

    /// What is due at this time.
    pub(super) fn due(&self, config: &ConnectionConfig, now: Instant) -> Option<Due> {
        self.deadlines(config).into_iter().find(|(at, _)| at.is_some_and(|at| at <= now)).map(|(_, due)| due)
    }

    /// When to look again.
    pub(super) fn next(&self, config: &ConnectionConfig) -> Option<Instant> {
        let quiet = self.pinged_since.or(self.blocked_since).or(self.message_since).is_none();
        if quiet && !self.ending && config.idle_timeout.is_none() {
            // nearly always, and after every turn
            return self.last_inbound.checked_add(self.ping_interval?);
        }
        self.deadlines(config).into_iter().filter_map(|(at, _)| at).min()
    }
}

/// The one timer.
#[pin_project]
#[derive(Debug, Default)]
pub(super) struct Alarm {
    #[pin]
    sleep: Option<Sleep>,
    /// It has not fired since it was set, and the task's waker is the one it knows.
    armed: bool,
}

impl Alarm {
    /// Whether it has fired since the last call.
    pub(super) fn take_fired(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let fired = *this.armed && this.sleep.as_pin_mut().is_some_and(|sleep| sleep.is_elapsed());
        *this.armed &= !fired;
        fired
    }

    /// Sees to it that the task is woken at `at` or before. Returns whether that is already past.
    pub(super) fn arm(
        self: Pin<&mut Self>,
        at: Option<Instant>,
        new_waker: bool,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut this = self.project();
        *this.armed &= !new_waker;
        let Some(at) = at else { return false };
        if *this.armed && this.sleep.as_ref().as_pin_ref().is_some_and(|sleep| sleep.deadline() <= at) {
            return false;
        }
        match this.sleep.as_mut().as_pin_mut() {
            Some(sleep) => sleep.reset(at),
            None => this.sleep.set(Some(sleep_until(at))),
        }
        *this.armed = true;
        match this.sleep.as_pin_mut() {
            // a task that has spent its budget would be told to come back, and the timer not be set
            Some(sleep) => pin!(unconstrained(sleep)).poll(cx).is_ready(),
            None => false,
        }
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
        timers.inbound(now + 19 * SECOND);
        assert_eq!(timers.due(&config, now + 36 * SECOND), None);
    }

    #[test]
    fn a_message_has_a_time_limit_from_its_first_byte() {
        let (config, now, mut timers) = start();
        timers.in_message(true);
        timers.inbound(now + 50 * SECOND);
        timers.in_message(true);
        assert_eq!(timers.due(&config, now + 60 * SECOND), Some(Due::GiveUp(Timeout::Message)));
        timers.in_message(false);
        assert_eq!(timers.due(&config, now + 60 * SECOND), None);
    }

    #[test]
    fn pings_do_not_reset_the_idle_timeout() {
        let (mut config, now, mut timers) = start();
        config.idle_timeout = Some(60 * SECOND);
        timers.inbound(now + 59 * SECOND);
        assert_eq!(timers.due(&config, now + 60 * SECOND), Some(Due::Idle));
        timers.message(now + 59 * SECOND);
        assert_eq!(timers.due(&config, now + 60 * SECOND), None);
    }

    #[test]
    fn endless_durations_never_come() {
        let (mut config, now, _) = start();
        config.ping_interval = Some(Duration::MAX);
        config.pong_timeout = Duration::MAX;
        config.idle_timeout = Some(Duration::MAX);
        let mut timers = Timers::new(&config, now);
        timers.pinged(now);
        assert_eq!(timers.next(&config), None);
    }
}
