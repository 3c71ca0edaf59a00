//! What the project wants to reach, and whether it does.

use crate::{
    results::{Metric, Results},
    servers::{Kind, SERVERS},
};

/// What is not to be exceeded.
#[derive(Clone, Copy)]
enum Bound {
    /// So many times what another server takes.
    Times(f64, &'static str),
    /// So many times what the same server takes for another scenario.
    TimesScenario(f64, &'static str),
    /// So much.
    Amount(f64),
    /// So much more than another server takes.
    Beyond(f64, &'static str),
}

pub(crate) struct Target {
    pub(crate) title: &'static str,
    metric: Metric,
    bound: Bound,
    /// Whether no other Rust library may take less, either.
    best: bool,
}

/// The server that the targets are about.
const OURS: &str = "ws-axum";

pub(crate) const TARGETS: &[Target] = &[
    Target { best: true, ..times_floor("16 B, 1 in flight", "16B-1", 1.05) },
    times_floor("16 B, 32 in flight", "16B-32", 1.4),
    times_floor("1 KiB binary, 8 in flight", "1KiB-binary", 1.12),
    times_floor("1 KiB non-ASCII text, 8 in flight", "1KiB-non-ascii", 1.15),
    Target { best: true, ..times_floor("64 KiB", "64KiB", 1.0) },
    Target { best: true, ..times_floor("1 MiB", "1MiB", 1.0) },
    Target { best: true, ..times_floor("16 MiB", "16MiB", 1.0) },
    times_floor("1 KiB in 16 fragments", "fragments", 1.05),
    times_floor("64 B to 1,000 connections", "broadcast", 1.15),
    Target {
        title: "64 B to one of 1,000 users by id",
        metric: Metric::Cpu("to-user"),
        bound: Bound::TimesScenario(1.3, "to-socket"),
        best: false,
    },
    Target {
        title: "memory of an idle connection with keepalive",
        metric: Metric::Memory,
        bound: Bound::Amount(2048.0),
        best: false,
    },
    Target {
        title: "handshake",
        metric: Metric::Cpu("handshake"),
        bound: Bound::Times(1.15, "axum-tuned"),
        best: false,
    },
    Target {
        title: "CPU of 10,000 idle connections in a minute",
        metric: Metric::IdleCpu,
        // 1 % of a CPU
        bound: Bound::Beyond(0.6, "floor"),
        best: false,
    },
];

const fn times_floor(title: &'static str, scenario: &'static str, factor: f64) -> Target {
    Target { title, metric: Metric::Cpu(scenario), bound: Bound::Times(factor, "floor"), best: false }
}

/// A row of the table of targets.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) target: String,
    pub(crate) measured: String,
    pub(crate) reached: String,
}

impl Target {
    pub(crate) fn judge(&self, results: &Results) -> Verdict {
        let mut target = match self.bound {
            Bound::Times(factor, other) => format!("≤ {factor:.2} × {other}"),
            Bound::TimesScenario(factor, other) => format!("≤ {factor:.2} × {OURS}, {other}"),
            Bound::Amount(bytes) => format!("≤ {bytes:.0} B"),
            Bound::Beyond(seconds, other) => format!("≤ {:.0} ms more than {other}", seconds * 1e3),
        };
        if self.best {
            target += ", and no Rust library takes less";
        }
        let ours = results.median(OURS, self.metric);
        let Some((ours, (bound, measured))) =
            ours.and_then(|ours| Some((ours, self.compare(ours, results)?)))
        else {
            return Verdict { target, measured: "—".into(), reached: "not measured".into() };
        };
        let mut misses = Vec::new();
        if ours > bound {
            misses.push(format!("missed by {:.1} %", (ours / bound - 1.0) * 100.0));
        }
        if self.best {
            let peers = SERVERS.iter().filter(|server| server.kind == Kind::RustPeer);
            let peers =
                peers.filter_map(|server| Some((server.name, results.median(server.name, self.metric)?)));
            let (least, less) =
                peers.fold(("", ours), |least, peer| if peer.1 < least.1 { peer } else { least });
            if less < ours {
                misses.push(format!("{least} takes {:.1} % less", (1.0 - less / ours) * 100.0));
            }
        }
        let reached = if misses.is_empty() { "✓".into() } else { format!("✗ {}", misses.join(", ")) };
        Verdict { target, measured, reached }
    }

    /// What may not be exceeded, in the unit of the metric, and what was measured, in that of the target.
    fn compare(&self, ours: f64, results: &Results) -> Option<(f64, String)> {
        Some(match self.bound {
            Bound::Times(factor, other) => {
                let theirs = results.median(other, self.metric)?;
                (factor * theirs, format!("{:.2} ×", ours / theirs))
            }
            Bound::TimesScenario(factor, other) => {
                let direct = results.median(OURS, Metric::Cpu(other))?;
                (factor * direct, format!("{:.2} ×", ours / direct))
            }
            Bound::Amount(amount) => (amount, format!("{ours:.0} B")),
            Bound::Beyond(amount, other) => {
                let theirs = results.median(other, self.metric)?;
                (theirs + amount, format!("{:+.0} ms", (ours - theirs) * 1e3))
            }
        })
    }
}
