//! The report, in Markdown.

use std::fmt::Write;

use crate::{
    load::Figures,
    results::{Metric, Outcome, Results},
    scenario::{Load, SCENARIOS, Scenario},
    servers::{Kind, SERVERS, Server},
    targets::TARGETS,
};

/// All of it. `analysis` is what was written by hand.
pub(crate) fn markdown(results: &Results, analysis: Option<&str>) -> String {
    let mut report = String::from(
        "# Results of the benchmarks\n\n\
         Written by `bench/run`: change that, or [ANALYSIS.md](ANALYSIS.md), not this. The samples are in\n\
         [results.json](results.json).\n\n",
    );
    circumstances(&mut report, results);
    ratios(&mut report, results);
    targets(&mut report, results);
    memory(&mut report, results);
    for scenario in measured(results) {
        details(&mut report, results, scenario);
    }
    failures(&mut report, results);
    if let Some(analysis) = analysis {
        report.push('\n');
        report.push_str(analysis);
    }
    report
}

fn circumstances(report: &mut String, results: &Results) {
    let circumstances = &results.circumstances;
    let pinning = if circumstances.pinned {
        "Each server has one CPU to itself, and the load generator the others"
    } else {
        "There is only one CPU: the servers share it with the load generator, which disturbs them"
    };
    let _ = write!(
        report,
        "Measured on {} with {} CPUs ({}), {}, {}. The load average was {} before.\n\n\
         {pinning}.\n\
         They talk over the loopback interface. The servers take turns, rounds: {}, with a fresh process each time; after\n\
         a warm-up the window is {} s. What is compared is the CPU time of the server's process per message, its system\n\
         calls included: the median of the rounds, the least and the most. All answers are checked byte by byte. `floor`\n\
         has no WebSocket library: it knows where the messages end, unmasks them and writes them back. It is what the\n\
         sockets take. Where a server is not busy nearly all the time, something else was the limit.\n\n\
         ![CPU per message](charts/cpu.svg)\n\n![Memory per idle connection](charts/memory.svg)\n\n\
         | server | made with |\n|---|---|\n",
        circumstances.date,
        circumstances.cpus,
        circumstances.cpu,
        circumstances.kernel,
        circumstances.rustc,
        circumstances.load_before,
        circumstances.rounds,
        circumstances.seconds,
    );
    for (server, version) in &circumstances.versions {
        let _ = writeln!(report, "| {server} | {version} |");
    }
    if !results.missing.is_empty() {
        let _ = writeln!(report, "\nNot measured, because not installed: {}.", results.missing.join(", "));
    }
}

/// The scenarios of messages and handshakes of which there is a sample.
fn measured(results: &Results) -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().filter(|scenario| {
        !matches!(scenario.load, Load::Idle)
            && results.samples.iter().any(|sample| sample.scenario == scenario.name)
    })
}

/// The servers of which there is a sample of a scenario.
fn compared<'a>(results: &'a Results, scenario: &'a str) -> impl Iterator<Item = &'static Server> + 'a {
    SERVERS.iter().filter(move |server| {
        let mut samples = results.samples.iter();
        samples.any(|sample| sample.scenario == scenario && sample.server == server.name)
    })
}

/// In bold if it is ours.
fn name(server: &Server) -> String {
    if server.kind == Kind::Ours { format!("**{}**", server.name) } else { server.name.into() }
}

fn row(report: &mut String, cells: impl IntoIterator<Item = String>) {
    for cell in cells {
        let _ = write!(report, "| {cell} ");
    }
    report.push_str("|\n");
}

fn header<'a>(report: &mut String, columns: impl IntoIterator<Item = &'a str>) {
    let columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
    let aligned = (0..columns.len()).map(|column| if column == 0 { "---" } else { "--:" }.to_owned());
    let aligned: Vec<String> = aligned.collect();
    row(report, columns);
    row(report, aligned);
}

fn ratios(report: &mut String, results: &Results) {
    report.push_str("\n## CPU time per message, in multiples of the floor's\n\n");
    header(report, std::iter::once("server").chain(measured(results).map(|scenario| scenario.title)));
    for server in SERVERS {
        let cells: Vec<String> = measured(results)
            .map(|scenario| {
                let ratio = results.ratio_to_floor(server.name, Metric::Cpu(scenario.name));
                ratio.map_or("—".into(), |ratio| format!("{ratio:.2}"))
            })
            .collect();
        if cells.iter().any(|cell| cell != "—") {
            row(report, std::iter::once(name(server)).chain(cells));
        }
    }
}

fn targets(report: &mut String, results: &Results) {
    report.push_str("\n## Targets of ws-axum\n\n");
    row(report, ["scenario", "target", "measured", "reached"].map(String::from));
    row(report, ["---"; 4].map(String::from));
    for target in TARGETS {
        let verdict = target.judge(results);
        row(report, [target.title.into(), verdict.target, verdict.measured, verdict.reached]);
    }
}

fn memory(report: &mut String, results: &Results) {
    let connections = results.samples.iter().find_map(|sample| match &sample.outcome {
        Outcome::Measured(Figures::Idle(idle)) => Some(idle.connections),
        _ => None,
    });
    let Some(connections) = connections else { return };
    let _ = write!(
        report,
        "\n## Idle connections\n\n\
         {connections} connections, opened 64 at a time, and then silent for {} s, or for 5 s at most where the server\n\
         sends no pings and has nothing to do. Memory is what the process grows by,\n\
         per connection. CPU and pings are those of all the connections, per minute; a server without a number of pings\n\
         sends none by itself.\n\n",
        results.circumstances.idle_seconds
    );
    let columns =
        ["server", "memory, just opened", "memory, at last", "CPU per opening", "CPU per minute", "pings"];
    header(report, columns);
    for server in compared(results, "idle") {
        let median = |metric| results.median(server.name, metric);
        let pings = if server.keepalive { median(Metric::Pings) } else { None };
        let cells = [
            name(server),
            cell(median(Metric::Memory), bytes),
            cell(median(Metric::MemoryAfter), bytes),
            cell(median(Metric::OpeningCpu), seconds),
            cell(median(Metric::IdleCpu), seconds),
            cell(pings, |pings| format!("{pings:.0}")),
        ];
        row(report, cells);
    }
}

fn details(report: &mut String, results: &Results, scenario: &Scenario) {
    let unit = scenario.unit();
    let _ = write!(report, "\n## {}\n\n{} connections.\n\n", scenario.title, scenario.connections);
    let cpu = format!("CPU per {unit}");
    let columns =
        ["server", &cpu, "least–most", "× floor", "per second", "p50", "p99", "busy", "load generator busy"];
    header(report, columns);
    for server in compared(results, scenario.name) {
        let median = |metric| results.median(server.name, metric);
        let values = results.values(server.name, Metric::Cpu(scenario.name));
        let spread = values.first().zip(values.last());
        let cells = [
            name(server),
            cell(median(Metric::Cpu(scenario.name)), seconds),
            spread.map_or("failed".into(), |(least, most)| format!("{}–{}", seconds(*least), seconds(*most))),
            cell(results.ratio_to_floor(server.name, Metric::Cpu(scenario.name)), |ratio| {
                format!("{ratio:.2}")
            }),
            cell(median(Metric::Rate(scenario.name)), thousands),
            cell(median(Metric::P50(scenario.name)), |microseconds| seconds(microseconds / 1e6)),
            cell(median(Metric::P99(scenario.name)), |microseconds| seconds(microseconds / 1e6)),
            cell(median(Metric::Busy(scenario.name)), percent),
            cell(median(Metric::GeneratorBusy(scenario.name)), percent),
        ];
        row(report, cells);
    }
}

fn failures(report: &mut String, results: &Results) {
    let mut heading = "\n## Failures\n\n";
    for sample in &results.samples {
        if let Outcome::Failed(reason) = &sample.outcome {
            let _ = writeln!(
                report,
                "{heading}- {}, {}, round {}: {reason}",
                sample.server,
                sample.scenario,
                sample.round + 1
            );
            heading = "";
        }
    }
}

fn cell(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value.map_or("—".into(), format)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// With three significant digits.
pub(crate) fn significant(value: f64) -> String {
    match value.abs() {
        size if size < 0.995 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// With the unit that suits it.
pub(crate) fn seconds(value: f64) -> String {
    match value.abs() {
        size if size < 999.5e-6 => format!("{} µs", significant(value * 1e6)),
        size if size < 0.9995 => format!("{} ms", significant(value * 1e3)),
        _ => format!("{} s", significant(value)),
    }
}

/// With the unit that suits it.
pub(crate) fn bytes(value: f64) -> String {
    if value.abs() < 1024.0 {
        format!("{value:.0} B")
    } else {
        format!("{} KiB", significant(value / 1024.0))
    }
}

/// A whole number, with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        serde_json::from_str(include_str!("testdata/results.json")).unwrap()
    }

    #[test]
    fn the_report_tells_ratios_targets_memory_and_failures() {
        let report = markdown(&results(), Some("## Where the time goes\n"));
        for line in [
            "Measured on 2026-01-02 with 4 CPUs (Made-up CPU), Linux 6.0, rustc 1.95.0. The load average was 0.10 before.",
            "Not measured, because not installed: gorilla.",
            "| server | 16 B, 1 in flight |",
            "| **ws-axum** | 1.10 |",
            "| axum | 1.50 |",
            "| 16 B, 1 in flight | ≤ 1.05 × floor, and no Rust library takes less | 1.10 × | ✗ missed by 4.8 % |",
            "| memory of an idle connection with keepalive | ≤ 2048 B | 1500 B | ✓ |",
            "| CPU of 10,000 idle connections in a minute | ≤ 600 ms more than floor | +100 ms | ✓ |",
            "| 64 KiB | ≤ 1.00 × floor, and no Rust library takes less | — | not measured |",
            "| **ws-axum** | 1.46 KiB | 1.56 KiB | 20.0 µs | 200 ms | 10000 |",
            "| **ws-axum** | 1.10 µs | 1.00 µs–1.20 µs | 1.10 | 909,091 | 10.0 µs | 20.0 µs | 100 % | 50 % |",
            "- warp, 16B-1, round 1: the server closed the connection",
            "## Where the time goes",
        ] {
            assert!(report.lines().any(|there| there == line), "no line {line:?} in\n{report}");
        }
    }

    #[test]
    fn numbers_have_three_digits_and_the_unit_that_suits_them() {
        assert_eq!(seconds(0.145e-6), "0.145 µs");
        assert_eq!(seconds(10.69e-3), "10.7 ms");
        assert_eq!(seconds(999.9e-6), "1.00 ms");
        assert_eq!(seconds(75.0), "75.0 s");
        assert_eq!(bytes(1000.0), "1000 B");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(12.0), "12");
    }
}
