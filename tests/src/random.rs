//! [`Random`]: numbers that look random, and are the same again for the same seed.

use std::time::Duration;

/// A generator (SplitMix64): small, because a soak has one for each of thousands of connections.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator of its own for each `stream` of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        random.next();
        random
    }

    /// Another generator, of its own for each `stream` of this one, which stays as it is.
    #[must_use]
    pub fn branch(&self, stream: u64) -> Self {
        Self::new(self.0, stream)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        // the top bits, as a fraction of the limit
        usize::try_from((u128::from(self.next()) * limit as u128) >> 64).expect("it is below a `usize`")
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A time up to twice this long.
    pub fn around(&mut self, mean: Duration) -> Duration {
        mean * u32::try_from(self.below(2_001)).expect("it is small") / 1_000
    }
}
