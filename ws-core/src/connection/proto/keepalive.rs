//! Pings of ours, and the pongs that answer them.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// The pings that are not answered, and the round trip that was measured last.
#[derive(Debug, Default)]
pub(super) struct Keepalive {
    /// In the order of their numbers.
    pings: Vec<Ping>,
    next: u64,
    /// How many pongs have answered one of them.
    pongs: u64,
    latency: Option<Duration>,
    /// A ping waits behind what the transport has not taken yet, up to this byte of all that was queued.
    unsent: Option<NonZeroU64>,
}

#[derive(Debug)]
struct Ping {
    id: u64,
    /// Where its frame ends among all bytes that were queued.
    end: u64,
    /// When the driver first saw it.
    sent: Option<Instant>,
    /// How many wait for the answer.
    awaited: u32,
    round_trip: Option<Duration>,
}

impl Keepalive {
    /// The ping that is queued and not sent, if there is one: a second one would tell nothing more.
    pub(super) fn share_unsent(&mut self, awaited: u32, written: u64) -> Option<u64> {
        let newest = self.pings.last_mut().filter(|ping| ping.end > written)?;
        newest.awaited += awaited;
        Some(newest.id)
    }

    /// The number of the next ping, which is its payload.
    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    /// The next ping was queued, and its frame ends at `end`.
    pub(super) fn queued(&mut self, awaited: u32, end: u64) {
        // of those that nobody awaits, the newest is enough
        self.pings.retain(|ping| ping.awaited > 0);
        self.pings.push(Ping { id: self.next, end, sent: None, awaited, round_trip: None });
        self.next += 1;
    }

    /// The driver sees the pings that were queued since it last looked. Returns where the last one of them ends.
    pub(super) fn see(&mut self, now: Instant) -> Option<u64> {
        let mut end = None;
        for ping in self.pings.iter_mut().rev().take_while(|ping| ping.sent.is_none()) {
            ping.sent = Some(now);
            end = end.or(Some(ping.end));
        }
        end
    }

    /// Whether it matters when a ping leaves.
    #[inline]
    pub(super) fn is_timing(&self) -> bool {
        self.unsent.is_some() || self.pings.last().is_some_and(|ping| ping.sent.is_none())
    }

    /// The deadline of the pong counts from when the transport has taken this byte.
    pub(super) fn hold_until(&mut self, end: u64) {
        self.unsent = NonZeroU64::new(end);
    }

    /// The transport took something. Says whether a ping is, or was, held up by it.
    pub(super) fn written(&mut self, written: u64) -> bool {
        let was_unsent = self.unsent.is_some();
        self.unsent.take_if(|end| written >= end.get());
        was_unsent
    }

    /// A pong answers the ping of this number and those before it (RFC 6455 section 5.5.3). Returns the round trip.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let id = u64::from_be_bytes(payload.try_into().ok()?);
        if id >= self.next {
            // it answers none of ours
            return None;
        }
        self.pongs += 1;
        let mut round_trip = None;
        for ping in self.pings.iter_mut().filter(|ping| ping.id <= id && ping.round_trip.is_none()) {
            let elapsed = now.saturating_duration_since(ping.sent.unwrap_or(now));
            ping.round_trip = Some(elapsed);
            if ping.id == id {
                round_trip = Some(elapsed);
            }
        }
        self.latency = round_trip.or(self.latency);
        self.pings.retain(|ping| ping.awaited > 0 || ping.round_trip.is_none());
        round_trip
    }

    /// The round trip of a ping that was answered.
    pub(super) fn round_trip(&self, id: u64) -> Option<Duration> {
        let index = self.pings.binary_search_by_key(&id, |ping| ping.id).ok()?;
        self.pings[index].round_trip
    }

    /// One who waited for the answer does not any more.
    pub(super) fn forget(&mut self, id: u64) {
        if let Ok(index) = self.pings.binary_search_by_key(&id, |ping| ping.id) {
            let ping = &mut self.pings[index];
            ping.awaited = ping.awaited.saturating_sub(1);
            if ping.awaited == 0 {
                self.pings.remove(index);
            }
        }
    }

    /// How many pongs have answered pings.
    #[inline]
    pub(super) fn pongs(&self) -> u64 {
        self.pongs
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// No answer comes any more.
    pub(super) fn clear(&mut self) {
        self.pings = Vec::new();
        self.unsent = None;
    }

    /// Gives back the memory, if there is nothing in it.
    pub(super) fn shrink(&mut self) {
        if self.pings.is_empty() && self.pings.capacity() > 0 {
            self.pings = Vec::new();
        }
    }
}
