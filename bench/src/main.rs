//! Runs the servers in turn, and writes what they take.

mod charts;
mod load;
mod matrix;
mod process;
mod report;
mod results;
mod scenario;
mod servers;
mod targets;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use crate::{
    load::{Figures, Options},
    matrix::Plan,
    process::Process,
    results::Results,
};

const USAGE: &str = "\
ws-bench load --scenario NAME (--server NAME | --address IP:PORT --pid PID)
    [--seconds S] [--idle-seconds S] [--connections N] [--threads N]
    Puts one server under the load of one scenario, and prints what it took.
ws-bench run [--rounds N] [--servers A,B] [--scenarios A,B] [--seconds S] [--idle-seconds S]
    [--idle-connections N] [--threads N] [--json FILE] [--report FILE] [--charts FOLDER]
    Measures all servers in turn. Writes the samples, the report and its charts where it is told.
ws-bench report --json FILE [--report FILE] [--charts FOLDER]
    Writes the report of samples once more.";

/// Rounds of a run, unless told otherwise: many, of short windows. On a machine that is shared, what others take of it
/// comes and goes in seconds.
const ROUNDS: usize = 13;

fn main() -> Result<()> {
    if std::env::args_os().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let mut arguments = lexopt::Parser::from_env();
    process::raise_file_limit()?;
    let cpu = process::leave_a_cpu_to_servers()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let command = arguments.next()?;
    match command {
        Some(Value(command)) if command == "load" => runtime.block_on(load_one(arguments, cpu)),
        Some(Value(command)) if command == "run" => runtime.block_on(run(arguments, cpu)),
        Some(Value(command)) if command == "report" => report_again(arguments),
        _ => bail!("no command\n\n{USAGE}"),
    }
}

async fn load_one(mut arguments: lexopt::Parser, cpu: Option<usize>) -> Result<()> {
    let (mut server, mut scenario, mut address, mut pid) = (None, None, None, None);
    let mut options = Options::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("server") => server = Some(find_server(&arguments.value()?.string()?)?),
            Long("scenario") => scenario = Some(find_scenario(&arguments.value()?.string()?)?),
            Long("address") => address = Some(arguments.value()?.parse::<SocketAddr>()?),
            Long("pid") => pid = Some(Process(arguments.value()?.parse()?)),
            Long("seconds") => options.window = seconds(&mut arguments)?,
            Long("idle-seconds") => options.idle = seconds(&mut arguments)?,
            Long("connections") => options.connections = Some(arguments.value()?.parse()?),
            Long("threads") => options.threads = arguments.value()?.parse()?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let scenario = scenario.context("no --scenario")?;
    let figures = match (server, address, pid) {
        (Some(server), None, None) => {
            let running = server.start(cpu).await?;
            let figures = load::measure(running.address, running.process, scenario, &options).await;
            let ended = running.kill().await;
            let figures = figures?;
            ended?;
            figures
        }
        (None, Some(address), Some(pid)) => load::measure(address, pid, scenario, &options).await?,
        _ => bail!("either --server, or --address and --pid"),
    };
    let (words, json) = (in_words(&figures, scenario.unit()), serde_json::to_string(&figures)?);
    // an error in place of a panic, where the reader wants the first line only
    writeln!(io::stdout(), "{words}\n{json}").context("writing the figures")
}

/// Where results go.
#[derive(Default)]
struct Files {
    report: Option<PathBuf>,
    charts: Option<PathBuf>,
}

impl Files {
    fn write(&self, results: &Results) -> Result<()> {
        let analysis = Path::new(env!("CARGO_MANIFEST_DIR")).join("ANALYSIS.md");
        let report = report::markdown(results, fs::read_to_string(analysis).ok().as_deref());
        match &self.report {
            Some(file) => write(file, &report)?,
            None => println!("{report}"),
        }
        if let Some(folder) = &self.charts {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
            write(&folder.join("cpu.svg"), &charts::cpu(results))?;
            write(&folder.join("memory.svg"), &charts::memory(results))?;
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

async fn run(mut arguments: lexopt::Parser, cpu: Option<usize>) -> Result<()> {
    let mut files = Files::default();
    let mut plan = Plan {
        servers: servers::SERVERS.iter().collect(),
        scenarios: scenario::SCENARIOS.iter().collect(),
        rounds: ROUNDS,
        options: Options::default(),
        idle_connections: None,
        json: None,
    };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("rounds") => plan.rounds = arguments.value()?.parse()?,
            Long("servers") => plan.servers = list(&mut arguments, find_server)?,
            Long("scenarios") => plan.scenarios = list(&mut arguments, find_scenario)?,
            Long("seconds") => plan.options.window = seconds(&mut arguments)?,
            Long("idle-seconds") => plan.options.idle = seconds(&mut arguments)?,
            Long("idle-connections") => plan.idle_connections = Some(arguments.value()?.parse()?),
            Long("threads") => plan.options.threads = arguments.value()?.parse()?,
            Long("json") => plan.json = Some(arguments.value()?.into()),
            Long("report") => files.report = Some(arguments.value()?.into()),
            Long("charts") => files.charts = Some(arguments.value()?.into()),
            _ => return Err(argument.unexpected().into()),
        }
    }
    files.write(&matrix::run(&plan, cpu).await?)
}

fn report_again(mut arguments: lexopt::Parser) -> Result<()> {
    let (mut json, mut files) = (None, Files::default());
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => json = Some(PathBuf::from(arguments.value()?)),
            Long("report") => files.report = Some(arguments.value()?.into()),
            Long("charts") => files.charts = Some(arguments.value()?.into()),
            _ => return Err(argument.unexpected().into()),
        }
    }
    files.write(&Results::load(&json.context("no --json")?)?)
}

/// Names with commas between them.
fn list<T>(arguments: &mut lexopt::Parser, find: fn(&str) -> Result<T>) -> Result<Vec<T>> {
    arguments.value()?.string()?.split(',').map(find).collect()
}

fn find_server(name: &str) -> Result<&'static servers::Server> {
    servers::find(name).with_context(|| {
        let names: Vec<_> = servers::SERVERS.iter().map(|server| server.name).collect();
        format!("no server {name:?}; there are {}", names.join(", "))
    })
}

fn find_scenario(name: &str) -> Result<&'static scenario::Scenario> {
    scenario::find(name).with_context(|| {
        let names: Vec<_> = scenario::SCENARIOS.iter().map(|scenario| scenario.name).collect();
        format!("no scenario {name:?}; there are {}", names.join(", "))
    })
}

fn seconds(arguments: &mut lexopt::Parser) -> Result<Duration> {
    let value = arguments.value()?.parse()?;
    Duration::try_from_secs_f64(value).with_context(|| format!("{value} is no number of seconds"))
}

#[expect(clippy::cast_precision_loss, reason = "to be read by people")]
fn in_words(figures: &Figures, unit: &str) -> String {
    match figures {
        Figures::Throughput(figures) => {
            let count = figures.count as f64;
            format!(
                "{:.3} µs of CPU per {unit}, {:.0} per second, p50 {:.0} µs, p99 {:.0} µs; the server was busy \
                 {:.0} % of a CPU, the load generator {:.0} %",
                figures.server_cpu / count * 1e6,
                count / figures.seconds,
                figures.p50,
                figures.p99,
                figures.server_cpu / figures.seconds * 100.0,
                figures.generator_cpu / figures.seconds * 100.0,
            )
        }
        Figures::Idle(figures) => {
            let connections = figures.connections as f64;
            let resident = |bytes: u64| (bytes as f64 - figures.resident_before as f64) / connections;
            format!(
                "{:.1} µs of CPU to open a connection, {:.0} B of memory when open, {:.0} B when idle; {:.0} ms of \
                 CPU and {} pings in {:.1} s",
                figures.opening_cpu / connections * 1e6,
                resident(figures.resident_open),
                resident(figures.resident_after),
                figures.cpu * 1e3,
                figures.pings,
                figures.seconds,
            )
        }
    }
}
