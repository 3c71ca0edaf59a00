//! Redis is away for some time while users stay connected to nodes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::sleep;
use ws_hub::{Health, Hub};

use crate::hubs::{connect_all, node};
use crate::server::Server;

const NODES: u64 = 3;
/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(10);
/// How often to look whether something is done.
const LOOK: Duration = Duration::from_millis(5);
/// How long to look for it.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long it takes from when Redis is ready again.
pub(crate) struct Recovery {
    /// Until all nodes are up.
    pub(crate) up: Duration,
    /// Until each client has received a message that was sent as soon as Redis took it.
    pub(crate) caught_up: Duration,
}

/// Connects so many users to each of three nodes, has the server be away for ten seconds, and sends a message to each user,
/// through another node than theirs.
pub(crate) async fn outage(server: &mut Server, users: Range<u64>, text: &str) -> Result<Recovery> {
    let url = server.url();
    let nodes = try_join_all((0..NODES).map(|_| node(&url))).await?;
    let each = (users.end - users.start) / NODES;
    let users_of = |number: u64| users.start + number * each..users.start + (number + 1) * each;
    let received = Arc::new(AtomicU64::new(0));
    for (number, hub) in (0..).zip(&nodes) {
        let received = Arc::clone(&received);
        connect_all(hub, users_of(number), move || _ = received.fetch_add(1, Ordering::Relaxed)).await?;
    }
    server.outage(AWAY).await?;
    let ready = Instant::now();
    let sending =
        (0..).zip(&nodes).map(|(number, hub)| send_to_all(hub, users_of((number + 1) % NODES), text));
    let up = async {
        until(|| nodes.iter().all(|hub| hub.health() == Health::Up)).await?;
        anyhow::Ok(ready.elapsed())
    };
    let (up, _) = tokio::try_join!(up, try_join_all(sending))?;
    until(|| received.load(Ordering::Relaxed) >= NODES * each).await?;
    Ok(Recovery { up, caught_up: ready.elapsed() })
}

/// Sends a message to each of these users, again and again to those that it was not accepted for.
async fn send_to_all(hub: &Hub<u64>, users: Range<u64>, text: &str) -> Result<()> {
    let start = Instant::now();
    let mut left: Vec<_> = users.collect();
    while !left.is_empty() {
        ensure!(start.elapsed() < PATIENCE, "messages to {} users were not accepted in time", left.len());
        let deliveries = hub.send_all(&left, text).await;
        let mut accepted = deliveries.into_iter().map(ws_hub::Delivery::is_accepted);
        left.retain(|_| !accepted.next().unwrap_or(false));
        sleep(LOOK).await;
    }
    Ok(())
}

async fn until(is_done: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_done() {
        ensure!(start.elapsed() < PATIENCE, "the nodes have not caught up in time");
        sleep(LOOK).await;
    }
    Ok(())
}
