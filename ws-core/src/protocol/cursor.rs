//! [`Cursor`]: bytes that are being decoded, and what is left of the budget.

/// What a frame costs besides its bytes, in bytes: small frames take time by their number.
const FRAME_COST: u32 = 64;

/// A place in the input, which is unmasked where it is.
pub(super) struct Cursor<'a> {
    /// What was not taken yet.
    pub(super) rest: &'a mut [u8],
    /// Whether somebody receives what is inflated.
    #[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is inflated"))]
    pub(super) heard: bool,
    /// In bytes: those that are inflated, and [`FRAME_COST`] for each frame.
    pub(super) budget: &'a mut u32,
}

impl<'a> Cursor<'a> {
    /// Takes the next bytes, at most so many.
    pub(super) fn take(&mut self, most: usize) -> &'a mut [u8] {
        let rest = std::mem::take(&mut self.rest);
        let (taken, rest) = rest.split_at_mut(most.min(rest.len()));
        self.rest = rest;
        taken
    }
}

/// What is left of a budget behind one more frame.
pub(super) fn charged(budget: u32) -> u32 {
    budget.saturating_sub(FRAME_COST)
}
