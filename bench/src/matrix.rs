//! Runs every scenario on every server, round by round, so that what the machine does beside is spread over all.

use std::{collections::BTreeSet, env, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    load::{self, Figures, Options},
    results::{Circumstances, Outcome, Results, Sample},
    scenario::{Load, Scenario},
    servers::Server,
};

/// More rounds of 10,000 connections add time, but no knowledge: memory hardly varies.
const IDLE_ROUNDS: usize = 3;

/// How long it is looked at how idle a server is that sends no pings, and so has nothing to do.
const IDLE_WITHOUT_PINGS: Duration = Duration::from_secs(5);

/// What is run.
pub(crate) struct Plan {
    pub(crate) servers: Vec<&'static Server>,
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) rounds: usize,
    pub(crate) options: Options,
    /// In place of 10,000.
    pub(crate) idle_connections: Option<usize>,
    /// Where the samples are saved, after each round.
    pub(crate) json: Option<PathBuf>,
}

/// A server that fails doesn't end the run: the failure is its result.
pub(crate) async fn run(plan: &Plan, cpu: Option<usize>) -> Result<Results> {
    let (mut servers, mut missing) = (Vec::new(), BTreeSet::new());
    for &server in &plan.servers {
        if server.is_built()? {
            servers.push(server);
        } else {
            ensure!(!(server.is_rust() && in_ci()), "the server {} is not built", server.name);
            missing.insert(server.name.to_owned());
        }
    }
    ensure!(!servers.is_empty(), "no server is built");
    let mut results = Results {
        circumstances: Circumstances::now(plan, cpu.is_some(), &servers),
        missing: missing.into_iter().collect(),
        samples: Vec::new(),
    };
    for round in 0..plan.rounds {
        for &scenario in &plan.scenarios {
            if matches!(scenario.load, Load::Idle) && round >= IDLE_ROUNDS {
                continue;
            }
            // each is first, and after each other, in some round
            let first = round * servers.len() / plan.rounds;
            for &server in servers[first..].iter().chain(&servers[..first]) {
                if !server.serves(scenario) {
                    continue;
                }
                eprintln!("round {} of {}: {}, {}", round + 1, plan.rounds, scenario.title, server.name);
                let outcome = match measure(server, scenario, plan, round, cpu).await {
                    Ok(figures) => Outcome::Measured(figures),
                    Err(error) => Outcome::Failed(format!("{error:#}")),
                };
                if let Outcome::Failed(reason) = &outcome {
                    eprintln!("  failed: {reason}");
                }
                let (server, scenario) = (server.name.into(), scenario.name.into());
                results.samples.push(Sample { server, scenario, round, outcome });
            }
        }
        if let Some(file) = &plan.json {
            results.save(file)?;
        }
    }
    Ok(results)
}

async fn measure(
    server: &Server,
    scenario: &Scenario,
    plan: &Plan,
    round: usize,
    cpu: Option<usize>,
) -> Result<Figures> {
    let mut options = plan.options;
    if matches!(scenario.load, Load::Idle) {
        options.connections = plan.idle_connections;
        if round > 0 {
            options.idle = Duration::ZERO;
        } else if !server.keepalive {
            options.idle = options.idle.min(IDLE_WITHOUT_PINGS);
        }
    }
    let running = server.start(cpu).await?;
    let figures = load::measure(running.address, running.process, scenario, &options).await;
    let ended = running.kill().await;
    // that the server has ended is the cause, if it has
    if figures.is_err() {
        ended.as_ref().map_or_else(|error| Err(anyhow::anyhow!("{error:#}")), |()| Ok(()))?;
    }
    let figures = figures?;
    ended.context("after the measurement")?;
    Ok(figures)
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}
