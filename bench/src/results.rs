//! What a run leaves: every sample, and the circumstances, so that the report can be made again.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Figures, Throughput},
    matrix::Plan,
    servers::Server,
};

#[derive(Deserialize, Serialize)]
pub(crate) struct Results {
    pub(crate) circumstances: Circumstances,
    /// The servers that were asked for, but aren't there.
    pub(crate) missing: Vec<String>,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Circumstances {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    /// Whether the servers have a CPU that the load generator leaves to them.
    pub(crate) pinned: bool,
    /// The load average of the last minute before the run: how quiet the machine was.
    pub(crate) load_before: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) idle_seconds: f64,
    /// Servers, and what they are made with.
    pub(crate) versions: Vec<(String, String)>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) server: String,
    pub(crate) scenario: String,
    pub(crate) round: usize,
    pub(crate) outcome: Outcome,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Figures),
    /// Why not.
    Failed(String),
}

impl Circumstances {
    pub(crate) fn now(plan: &Plan, pinned: bool, servers: &[&Server]) -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let processors = || cpu_info.lines().filter_map(|line| line.split_once(':'));
        let cpu = processors().find(|(key, _)| key.trim() == "model name");
        Self {
            date: output(Command::new("date").args(["--utc", "+%F"])),
            cpu: cpu.map_or("unknown", |(_, model)| model.trim()).into(),
            cpus: processors().filter(|(key, _)| key.trim() == "processor").count(),
            pinned,
            load_before: load.split(' ').next().unwrap_or("unknown").into(),
            kernel: output(Command::new("uname").arg("-sr")),
            rustc: output(Command::new("rustc").arg("--version")),
            rounds: plan.rounds,
            seconds: plan.options.window.as_secs_f64(),
            idle_seconds: plan.options.idle.as_secs_f64(),
            versions: servers.iter().map(|server| (server.name.into(), server.version())).collect(),
        }
    }
}

/// The first line that a program prints, or that it is unknown.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().into()
}

/// A quantity of which each server has some samples.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Metric {
    /// Seconds of CPU per message or handshake of a scenario.
    Cpu(&'static str),
    Rate(&'static str),
    /// Microseconds.
    P50(&'static str),
    P99(&'static str),
    /// CPU seconds per second: of the server, and of the load generator.
    Busy(&'static str),
    GeneratorBusy(&'static str),
    /// Bytes per idle connection, when just opened, and at last.
    Memory,
    MemoryAfter,
    /// Seconds of CPU per connection opened.
    OpeningCpu,
    /// Seconds of CPU per idle minute, and pings.
    IdleCpu,
    Pings,
}

impl Metric {
    fn scenario(self) -> &'static str {
        match self {
            Self::Cpu(name)
            | Self::Rate(name)
            | Self::P50(name)
            | Self::P99(name)
            | Self::Busy(name)
            | Self::GeneratorBusy(name) => name,
            Self::Memory | Self::MemoryAfter | Self::OpeningCpu | Self::IdleCpu | Self::Pings => "idle",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
    fn of(self, figures: &Figures) -> Option<f64> {
        match figures {
            Figures::Throughput(Throughput { count, seconds, server_cpu, generator_cpu, p50, p99 }) => {
                match self {
                    Self::Cpu(_) => Some(server_cpu / *count as f64),
                    Self::Rate(_) => Some(*count as f64 / seconds),
                    Self::P50(_) => Some(*p50),
                    Self::P99(_) => Some(*p99),
                    Self::Busy(_) => Some(server_cpu / seconds),
                    Self::GeneratorBusy(_) => Some(generator_cpu / seconds),
                    _ => None,
                }
            }
            Figures::Idle(idle) => {
                let connections = idle.connections as f64;
                let grown = |resident: u64| (resident as f64 - idle.resident_before as f64) / connections;
                // not every round waits
                let waited = idle.seconds >= 0.5;
                let per_minute = |amount: f64| amount / idle.seconds * 60.0;
                match self {
                    Self::Memory => Some(grown(idle.resident_open)),
                    Self::MemoryAfter => waited.then(|| grown(idle.resident_after)),
                    Self::OpeningCpu => Some(idle.opening_cpu / connections),
                    Self::IdleCpu => waited.then(|| per_minute(idle.cpu)),
                    Self::Pings => waited.then(|| per_minute(idle.pings as f64)),
                    _ => None,
                }
            }
        }
    }
}

impl Results {
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// What was measured of a server, in ascending order.
    pub(crate) fn values(&self, server: &str, metric: Metric) -> Vec<f64> {
        let samples = self.samples.iter();
        let samples =
            samples.filter(|sample| sample.server == server && sample.scenario == metric.scenario());
        let mut values: Vec<f64> = samples
            .filter_map(|sample| match &sample.outcome {
                Outcome::Measured(figures) => metric.of(figures),
                Outcome::Failed(_) => None,
            })
            .collect();
        values.sort_by(f64::total_cmp);
        values
    }

    pub(crate) fn median(&self, server: &str, metric: Metric) -> Option<f64> {
        median(&self.values(server, metric))
    }

    /// How many times the floor's median the server's is.
    pub(crate) fn ratio_to_floor(&self, server: &str, metric: Metric) -> Option<f64> {
        Some(self.median(server, metric)? / self.median("floor", metric)?)
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 10.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 10.0]), Some(3.0));
    }
}
