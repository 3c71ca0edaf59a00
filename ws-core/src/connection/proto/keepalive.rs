//! Pings of ours, and the pongs that answer them.

use std::time::{Duration, Instant};

/// The pings that are not answered, and the round trip that was measured last.
#[derive(Debug, Default)]
pub(super) struct Keepalive {
    /// In the order of their numbers; `None` while there are none, as most of the time.
    #[expect(clippy::box_collection, reason = "nearly every connection has none")]
    pings: Option<Box<Vec<Ping>>>,
    /// The number of the next ping, which is its payload.
    pub(super) next: u64,
    /// How many pongs have answered one of them. It wraps around: a turn of the driver takes fewer than it can count.
    pub(super) pongs: u16,
    pub(super) latency: Option<Duration>,
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
        let newest = self.pings.as_mut()?.last_mut().filter(|ping| ping.end > written)?;
        newest.awaited += awaited;
        Some(newest.id)
    }

    /// The next ping was queued, and its frame ends at `end`.
    pub(super) fn queued(&mut self, awaited: u32, end: u64) {
        // of those that nobody awaits, the newest is enough
        let pings = self.pings.get_or_insert_default();
        pings.retain(|ping| ping.awaited > 0);
        pings.push(Ping { id: self.next, end, sent: None, awaited, round_trip: None });
        self.next += 1;
    }

    /// The driver sees the pings that were queued since it last looked. Returns where the last one of them ends.
    pub(super) fn see(&mut self, now: Instant) -> Option<u64> {
        let mut end = None;
        for ping in self.pings.as_mut()?.iter_mut().rev().take_while(|ping| ping.sent.is_none()) {
            ping.sent = Some(now);
            end = end.or(Some(ping.end));
        }
        end
    }

    /// Whether a ping was queued that the driver has not seen.
    #[inline]
    pub(super) fn has_unseen(&self) -> bool {
        self.pings.as_ref().and_then(|pings| pings.last()).is_some_and(|ping| ping.sent.is_none())
    }

    /// A pong answers the ping of this number and those before it (RFC 6455 section 5.5.3). Returns the round trip.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        let id = u64::from_be_bytes(payload.try_into().ok()?);
        if id >= self.next {
            // it answers none of ours
            return None;
        }
        self.pongs = self.pongs.wrapping_add(1);
        let pings = self.pings.as_mut()?;
        let mut round_trip = None;
        for ping in pings.iter_mut().filter(|ping| ping.id <= id && ping.round_trip.is_none()) {
            let elapsed = now.saturating_duration_since(ping.sent.unwrap_or(now));
            ping.round_trip = Some(elapsed);
            if ping.id == id {
                round_trip = Some(elapsed);
            }
        }
        self.latency = round_trip.or(self.latency);
        pings.retain(|ping| ping.awaited > 0 || ping.round_trip.is_none());
        round_trip
    }

    /// The round trip of a ping that was answered.
    pub(super) fn round_trip(&self, id: u64) -> Option<Duration> {
        let pings = self.pings.as_ref()?;
        pings[pings.binary_search_by_key(&id, |ping| ping.id).ok()?].round_trip
    }

    /// One who waited for the answer does not any more.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(pings) = &mut self.pings
            && let Ok(index) = pings.binary_search_by_key(&id, |ping| ping.id)
        {
            let ping = &mut pings[index];
            ping.awaited = ping.awaited.saturating_sub(1);
            if ping.awaited == 0 {
                pings.remove(index);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.pings = None;
    }

    pub(super) fn shrink(&mut self) {
        self.pings.take_if(|pings| pings.is_empty());
    }
}
