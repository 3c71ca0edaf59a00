//! [`Backoff`]: how long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt as _;

use crate::config::checked;

/// How long to wait between attempts: a random time between zero and a bound (*full jitter*), so that clients that lose
/// their connections together do not reconnect together. Each failed attempt doubles the bound, up to a maximum.
///
/// | knob | default |
/// |---|---|
/// | [`base`](Self::base), the first bound | 500 ms |
/// | [`max`](Self::max), the largest bound | 30 s |
/// | [`reset_after`](Self::reset_after) | 10 s |
///
/// If the server asks for a wait, the random time is added to it, and its bound is at least a quarter of that wait.
///
/// ```
/// use std::time::Duration;
/// use ws_core::client::Backoff;
///
/// let patient = Backoff::new().base(Duration::from_secs(5)).max(Duration::from_secs(300));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a backoff does nothing until a `Reconnect` has it"]
pub struct Backoff {
    base: Duration,
    max: Duration,
    pub(super) reset_after: Duration,
}

impl Backoff {
    /// A backoff with bounds from 500 ms to 30 s.
    pub fn new() -> Self {
        Self {
            base: Duration::from_millis(500),
            max: Duration::from_secs(30),
            reset_after: Duration::from_secs(10),
        }
    }

    /// The bound of the first wait. Default 500 ms.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn base(self, base: Duration) -> Self {
        checked("the base of a backoff", base);
        Self { base, ..self }
    }

    /// The largest bound. Default 30 s. If it is smaller than [`base`](Self::base), it is the bound of every wait.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max(self, max: Duration) -> Self {
        checked("the maximum of a backoff", max);
        Self { max, ..self }
    }

    /// How long a connection has to be open to reset the bound. Default 10 s.
    ///
    /// A shorter one counts as a failed attempt, so that a server that accepts and closes immediately is not flooded.
    pub fn reset_after(self, reset_after: Duration) -> Self {
        Self { reset_after, ..self }
    }

    /// The bound after this many failed attempts in a row.
    fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// A random time to wait after this many failed attempts in a row, if the server asks for at least `hint`.
    pub(super) fn delay(&self, failures: u32, hint: Duration) -> Duration {
        let bound = self.bound(failures).max(hint / 4);
        let part = rand::rng().random_range(0.0..1.0);
        hint.saturating_add(Duration::try_from_secs_f64(bound.as_secs_f64() * part).unwrap_or(bound))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let bounds: Vec<_> = (0..9).map(|failures| Backoff::new().bound(failures).as_millis()).collect();
        assert_eq!(bounds, [500, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(Backoff::new().bound(u32::MAX), Duration::from_secs(30));
        let endless = Backoff::new().max(Duration::MAX).base(Duration::MAX);
        assert_eq!(endless.bound(5), Duration::MAX);
        assert!(endless.delay(5, Duration::ZERO) <= Duration::MAX);
        assert_eq!(Backoff::new().max(Duration::from_millis(1)).bound(1), Duration::from_millis(1));
    }

    #[test]
    fn a_delay_is_anywhere_below_its_bound() {
        let backoff = Backoff::new();
        let bound = backoff.bound(4);
        let delays: Vec<_> = (0..1000).map(|_| backoff.delay(4, Duration::ZERO)).collect();
        assert!(delays.iter().all(|delay| *delay <= bound));
        // each tenth of the range has some of a thousand, but for a chance of less than 10⁻⁴⁴
        for tenth in 0..10 {
            let range = bound * tenth / 10..bound * (tenth + 1) / 10;
            assert!(delays.iter().any(|delay| range.contains(delay)), "{range:?}");
        }
    }

    #[test]
    #[should_panic(expected = "the base of a backoff is zero")]
    fn a_base_of_zero_is_refused_when_it_is_set() {
        let _ = Backoff::new().base(Duration::ZERO);
    }
}
