//! [`Memory`]: what the server has had, second by second, and whether it grew.

use std::fmt;
use std::time::Duration;

use ws_tests::outside::mib;

/// What the level may rise by: an allocator keeps some of what was freed, and traffic is random.
const SLACK: usize = 8 * 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Memory(Vec<(Duration, usize)>);

impl Memory {
    pub(crate) fn add(&mut self, at: Duration, bytes: usize) {
        self.0.push((at, bytes));
    }

    /// The median of a tenth of the time.
    fn tenth(&self, number: usize) -> usize {
        let count = self.0.len();
        let mut tenth: Vec<_> =
            self.0[count * number / 10..count * (number + 1) / 10].iter().map(|(_, bytes)| *bytes).collect();
        tenth.sort_unstable();
        tenth.get(tenth.len() / 2).copied().unwrap_or_default()
    }

    /// MiB an hour, over the last eight tenths, by the method of least squares.
    fn trend(&self) -> f64 {
        let rest = &self.0[self.0.len() / 5..];
        let points = || rest.iter().map(|(at, bytes)| (at.as_secs_f64() / 3_600.0, mib(*bytes)));
        let (count, x_sum, y_sum) = points()
            .fold((0.0, 0.0, 0.0), |(count, x_sum, y_sum), (x, y)| (count + 1.0, x_sum + x, y_sum + y));
        let (above, below) = points().fold((0.0, 0.0), |(above, below), (x, y)| {
            let x = x - x_sum / count;
            (above + x * (y - y_sum / count), below + x.powi(2))
        });
        above / below
    }

    /// Compares the last tenth with the second one: in the first, what is made once is made.
    pub(crate) fn growth(&self) -> Result<(), String> {
        let (level, end) = (self.tenth(1), self.tenth(9));
        if end <= level + level * 15 / 100 + SLACK {
            return Ok(());
        }
        Err(format!("memory grew from {:.1} to {:.1} MiB", mib(level), mib(end)))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("by tenths of the time")?;
        (0..10).try_for_each(|tenth| write!(f, " {:.1}", mib(self.tenth(tenth))))?;
        write!(f, " MiB, trend {:+.1} MiB an hour", self.trend())
    }
}
