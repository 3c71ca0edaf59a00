//! [`Skipping`]: what is left to look at behind an error.
//!
//! The peer may go on to send for a while before it sees our Close frame. Its frames are not judged any more. They are only
//! followed from header to header, to find its own Close frame.

use super::header::{FRAME_COST, HeaderReader, Unjudged};

/// What is left of the current frame, and the header of the next one.
#[derive(Debug, Default)]
pub(super) struct Skipping {
    pub(super) missing: u64,
    pub(super) header: HeaderReader,
}

impl Skipping {
    /// Takes the next bytes, and says whether they were the header of a Close frame.
    pub(super) fn skip(&mut self, input: &[u8], budget: &mut u32) -> (usize, bool) {
        let skipped = usize::try_from(self.missing).unwrap_or(usize::MAX).min(input.len());
        self.missing -= skipped as u64;
        if skipped == input.len() {
            return (skipped, false);
        }
        *budget = budget.saturating_sub(FRAME_COST);
        let parse = |bytes: &[u8]| Ok::<_, std::convert::Infallible>(Unjudged::parse(bytes));
        let Ok((size, header)) = self.header.read(&input[skipped..], parse);
        self.missing = header.map_or(0, |header| header.length);
        (skipped + size, header.is_some_and(|header| header.is_close))
    }
}
