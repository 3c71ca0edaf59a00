//! What messages and users cost a Redis server that joins nodes, and how long a message takes: see `bench/scaleout/run`.
//!
//! The nodes are hubs in this process, with connections of their own to the server; the connections of their users are pipes
//! in memory. So the figures of the server are what they would be with processes, and latency is without a network.

#![expect(clippy::cast_precision_loss, reason = "counts and sizes are far below 2^52")]

mod hubs;
mod outage;
mod raw;
mod server;

use anyhow::{Context as _, Result};
use lexopt::Arg;
use ws_hub::Hub;

use hubs::{Times, append_all, backplane, login, node, send, send_all, times};
use outage::outage;
use raw::{Subscriber, append_and_publish, append_and_publish_by_script, publish, rounded};
use server::{Server, Spent};

/// The size of each message.
const BYTES: usize = 100;

/// How much is done of each thing.
struct Plan {
    appendfsync: &'static str,
    online: u64,
    offline: u64,
    sends: usize,
    latencies: usize,
}

fn plan() -> Result<Plan> {
    let mut plan =
        Plan { appendfsync: "always", online: 5_000, offline: 10_000, sends: 40_000, latencies: 3_000 };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("appendfsync") => {
                let value = arguments.value()?;
                let known = ["always", "everysec", "no"].into_iter().find(|known| value == *known);
                plan.appendfsync = known.context("--appendfsync is always, everysec or no")?;
            }
            Arg::Long("quick") => {
                (plan.online, plan.offline, plan.sends, plan.latencies) = (100, 200, 1_000, 100);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(plan)
}

#[tokio::main]
async fn main() -> Result<()> {
    let plan = plan()?;
    let mut server = Server::start(plan.appendfsync)?;
    let file = if plan.appendfsync == "no" { "no append-only file" } else { "an append-only file" };
    println!(
        "Redis {}, {file}, appendfsync {}, messages of {BYTES} bytes\n",
        server.version().await?,
        plan.appendfsync
    );
    let text = "x".repeat(BYTES);
    raw(&server, &plan, &text).await?;
    let (here, there) = (node(&server.url()).await?, node(&server.url()).await?);
    let online = 0..plan.online;
    let offline = plan.online..plan.online + plan.offline;

    let presence = grown(&server, login(&there, online.clone())).await?;
    messages(&server, &plan, &here, &text).await?;
    println!();
    println!("| memory of Redis | bytes |\n|---|---|");
    println!("| a user who is online | {:.0} |", presence / plan.online as f64);
    // of users who have never had a message
    let fresh = offline.end..offline.end + plan.offline;
    let count = usize::try_from(plan.offline)?;
    let first = grown(&server, send(&here, fresh.clone(), &text, count)).await?;
    println!("| the first unread message of a user | {:.0} |", first / count as f64);
    let further = grown(&server, send(&here, fresh, &text, count * 10)).await?;
    println!("| each further one | {:.0} |\n", further / (count * 10) as f64);

    println!("| one message at a time, ms | p50 | p99 |\n|---|---|---|");
    show_times("from one node to another", &times(&here, &there, &text, plan.latencies).await?);
    let alone = Hub::new();
    show_times(
        "without Redis, on one node, log in memory",
        &times(&alone, &alone, &text, plan.latencies).await?,
    );
    if plan.appendfsync != "no" {
        let users = 1_000_000_000..1_000_000_000 + 3 * plan.online;
        let recovery = outage(&mut server, users, &text).await?;
        println!(
            "\n| Redis was away for 10 seconds, 3 nodes with {} users each | seconds |\n|---|---|",
            plan.online
        );
        println!("| until all nodes are up | {:.2} |", recovery.up.as_secs_f64());
        println!("| until each user has received a message | {:.2} |", recovery.caught_up.as_secs_f64());
    }
    Ok(())
}

/// What Redis takes for commands without scripts.
async fn raw(server: &Server, plan: &Plan, text: &str) -> Result<()> {
    let _subscriber = Subscriber::start(server).await?;
    let mut connection = server.connect().await?;
    let count = rounded(plan.sends * 4);
    println!("| CPU of Redis, each | µs | calls of scripts |\n|---|---|---|");
    let ((), spent) = server.spent(publish(&mut connection, text, count)).await?;
    show("`PUBLISH`, pipelined, 1 subscriber", spent, count);
    let ((), spent) = server.spent(append_and_publish(&mut connection, text, count)).await?;
    show("`XADD` and `PUBLISH`, pipelined, 1 subscriber", spent, count);
    let ((), spent) = server.spent(append_and_publish_by_script(&mut connection, text, count)).await?;
    show("what centrifuge's script for histories does, pipelined, 1 subscriber", spent, count);
    Ok(())
}

/// What Redis takes for messages of a hub. What the others confirm is in it.
async fn messages(server: &Server, plan: &Plan, hub: &Hub<u64>, text: &str) -> Result<()> {
    let online = 0..plan.online;
    let offline = plan.online..plan.online + plan.offline;
    let ((), spent) = server.spent(send(hub, online.clone(), text, plan.sends)).await?;
    show("`send` to a user who is online, and its confirmation", spent, plan.sends);
    let ((), spent) = server.spent(send(hub, offline.clone(), text, plan.sends)).await?;
    show("`send` to a user who is offline", spent, plan.sends);
    let engine = backplane(&server.url()).await?;
    for (what, users) in [("online", online), ("offline", offline)] {
        let users_at_once = usize::try_from(users.end - users.start)?;
        let rounds = (plan.sends / 4 / users_at_once).max(1);
        let ((), spent) = server.spent(send_all(hub, users.clone(), text, rounds)).await?;
        show(&format!("`send_all`, for each of its users, all {what}"), spent, rounds * users_at_once);
        let ((), spent) = server.spent(append_all(&engine, users, text, rounds)).await?;
        show(
            &format!("`Backplane::append` of one batch, for each of its users, all {what}"),
            spent,
            rounds * users_at_once,
        );
    }
    Ok(())
}

/// By how many bytes the server has grown.
async fn grown(server: &Server, work: impl Future<Output = Result<()>>) -> Result<f64> {
    let before = server.memory().await?;
    work.await?;
    Ok(server.memory().await? - before)
}

fn show(what: &str, spent: Spent, count: usize) {
    let each = |all: f64| all / count as f64;
    println!("| {what} | {:.1} | {:.2} |", each(spent.cpu_micros), each(spent.scripts));
}

fn show_times(what: &str, times: &Times) {
    for (to, histogram) in [("to the client", &times.received), ("to the answer of `send`", &times.answered)]
    {
        let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        println!("| {what}, {to} | {:.3} | {:.3} |", millis(0.5), millis(0.99));
    }
}
