//! The load generator: a WebSocket client of prepared frames, so that it takes far less than any server.

mod frame;
mod handshake;
mod link;
mod traffic;
mod workers;

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Barrier, Notify, Semaphore},
    time::sleep,
};

use crate::{
    process::{Process, own_cpu_time},
    scenario::{Load, Scenario},
};
use link::Link;
pub(crate) use traffic::Payload;
use traffic::Traffic;
use workers::{Batches, Meter, Workers};

/// How long a server is under load before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// How many connections are being opened at a time.
const OPENING: usize = 64;
/// How long all connections of a scenario may take to open.
const OPENING_LIMIT: Duration = Duration::from_mins(1);
/// The time in which a server finishes what it does after a handshake, or after a connection.
const SETTLING: Duration = Duration::from_millis(500);
/// Fewer messages than this are no measurement: the window is prolonged.
const FEWEST_MESSAGES: u64 = 20;
/// Until it is this long.
const LONGEST_WINDOW: Duration = Duration::from_secs(15);
/// How many connections are opened and closed before the memory of idle ones is measured.
const WARM_UP_CONNECTIONS: usize = 100;

/// How to measure.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) window: Duration,
    pub(crate) idle: Duration,
    /// In place of the scenario's.
    pub(crate) connections: Option<usize>,
    pub(crate) threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(400),
            idle: Duration::from_mins(1),
            connections: None,
            threads: 2,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Figures {
    /// Of messages or handshakes.
    Throughput(Throughput),
    /// Of connections on which nothing happens.
    Idle(Idle),
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Throughput {
    /// How many messages or handshakes were completed.
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// CPU seconds of the server.
    pub(crate) server_cpu: f64,
    /// CPU seconds of the load generator.
    pub(crate) generator_cpu: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Idle {
    pub(crate) connections: usize,
    /// CPU seconds of the server for all handshakes.
    pub(crate) opening_cpu: f64,
    /// Bytes of resident memory: before the connections, when they are open, and when they have been idle.
    pub(crate) resident_before: u64,
    pub(crate) resident_open: u64,
    pub(crate) resident_after: u64,
    pub(crate) seconds: f64,
    /// CPU seconds of the server in that time.
    pub(crate) cpu: f64,
    /// How many pings the server sent in that time.
    pub(crate) pings: u64,
}

/// Puts a server under the load of a scenario. Takes bounded time, whatever the server does.
pub(crate) async fn measure(
    address: SocketAddr,
    server: Process,
    scenario: &Scenario,
    options: &Options,
) -> Result<Figures> {
    let generator = Generator {
        address,
        server,
        path: scenario.path(),
        connections: options.connections.unwrap_or(scenario.connections).max(1),
        options: *options,
    };
    match scenario.load {
        Load::Echo { payload, size, fragments, window } => {
            let traffic = Traffic::new(payload, size, fragments, window);
            generator.messages(traffic, Behaviour::Echo { window }).await
        }
        Load::Broadcast { size } => {
            let round = Arc::new(Round { missing: AtomicUsize::new(0), complete: Notify::new() });
            generator.messages(Traffic::new(Payload::Binary, size, 1, 1), Behaviour::Broadcast(round)).await
        }
        Load::Pairs { size, .. } => {
            generator.messages(Traffic::new(Payload::Binary, size, 1, 1), Behaviour::Pairs).await
        }
        Load::Handshake => generator.handshakes().await,
        Load::Idle => generator.idle().await,
    }
}

struct Generator {
    address: SocketAddr,
    server: Process,
    path: &'static str,
    connections: usize,
    options: Options,
}

impl Generator {
    /// Measures messages.
    async fn messages(&self, traffic: Traffic, behaviour: Behaviour) -> Result<Figures> {
        let mut workers = Workers::start(self.options.threads)?;
        self.open(&mut workers, self.connections, &Arc::new(traffic), &behaviour).await?;
        self.throughput(workers).await
    }

    async fn handshakes(&self) -> Result<Figures> {
        let workers = Workers::start(self.options.threads)?;
        let traffic = Arc::new(Traffic::new(Payload::Binary, 1, 1, 1));
        for number in 0..self.connections {
            let (address, path, traffic) = (self.address, self.path, Arc::clone(&traffic));
            workers.spawn(number, |meter| async move {
                loop {
                    let begun = Instant::now();
                    Link::open(address, path, Arc::clone(&traffic)).await?;
                    meter.time(begun.elapsed(), 1);
                    meter.count(1);
                }
            });
        }
        self.throughput(workers).await
    }

    async fn idle(&self) -> Result<Figures> {
        // none is sent
        let traffic = Arc::new(Traffic::new(Payload::Binary, 1, 1, 1));
        let mut workers = Workers::start(self.options.threads)?;
        self.open(&mut workers, WARM_UP_CONNECTIONS, &traffic, &Behaviour::Silent).await?;
        drop(workers);
        sleep(SETTLING).await;

        let mut workers = Workers::start(self.options.threads)?;
        let resident_before = self.server.resident()?;
        let before = self.server.cpu_time()?;
        self.open(&mut workers, self.connections, &traffic, &Behaviour::Silent).await?;
        workers.watch("an idle connection", OPENING_LIMIT, sleep(SETTLING)).await?;
        let opened = self.server.cpu_time()?;
        let resident_open = self.server.resident()?;

        let (begun, pings) = (Instant::now(), workers.pings());
        let limit = self.options.idle + OPENING_LIMIT;
        workers.watch("an idle connection", limit, sleep(self.options.idle)).await?;
        Ok(Figures::Idle(Idle {
            connections: self.connections,
            opening_cpu: opened - before,
            resident_before,
            resident_open,
            resident_after: self.server.resident()?,
            seconds: begun.elapsed().as_secs_f64(),
            cpu: self.server.cpu_time()? - opened,
            pings: workers.pings() - pings,
        }))
    }

    /// Opens connections, which behave as is said as soon as all of them are open.
    async fn open(
        &self,
        workers: &mut Workers,
        connections: usize,
        traffic: &Arc<Traffic>,
        behaviour: &Behaviour,
    ) -> Result<()> {
        let opening = Arc::new(Semaphore::new(OPENING));
        let all_open = Arc::new(Barrier::new(connections + 1));
        for number in 0..connections {
            let (address, path) = (self.address, self.path);
            let (opening, all_open) = (Arc::clone(&opening), Arc::clone(&all_open));
            let (traffic, behaviour) = (Arc::clone(traffic), behaviour.clone());
            workers.spawn(number, |meter| async move {
                let path = match behaviour {
                    Behaviour::Pairs => Cow::Owned(format!("{path}/{number}")),
                    _ => Cow::Borrowed(path),
                };
                let link = {
                    let _permit = opening.acquire().await?;
                    Link::open(address, &path, traffic).await?
                };
                all_open.wait().await;
                match behaviour {
                    Behaviour::Echo { window } => echo(link, window, &meter).await,
                    Behaviour::Broadcast(round) if number == 0 => {
                        send_to_all(link, &round, connections, &meter).await
                    }
                    Behaviour::Broadcast(round) => receive_from_one(link, &round, &meter).await,
                    Behaviour::Pairs if number % 2 == 0 => {
                        // a connection is open before the server knows whose it is
                        sleep(SETTLING).await;
                        echo(link, 1, &meter).await
                    }
                    Behaviour::Pairs => answer(link, &meter).await,
                    Behaviour::Silent => stay_silent(link, &meter).await,
                }
            });
        }
        workers.watch("opening the connections", OPENING_LIMIT, all_open.wait()).await?;
        Ok(())
    }

    /// Warms the server up, and then measures it for the window.
    async fn throughput(&self, mut workers: Workers) -> Result<Figures> {
        let limit = self.options.window + LONGEST_WINDOW;
        workers.watch("warming up", limit, sleep(WARM_UP)).await?;
        if workers.messages() == 0 {
            // as of 1,000 connections that settle, or of large messages to a slow server
            workers.watch("warming up", limit, sleep(SETTLING)).await?;
        }
        workers.set_timing(true);
        let begun = Instant::now();
        let (count, server_cpu, generator_cpu) =
            (workers.messages(), self.server.cpu_time()?, own_cpu_time()?);
        workers.watch("the load", limit, sleep(self.options.window)).await?;
        while workers.messages() - count < FEWEST_MESSAGES && begun.elapsed() < LONGEST_WINDOW {
            workers.watch("the load", limit, sleep(WARM_UP)).await?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let count = workers.messages() - count;
        let server_cpu = self.server.cpu_time()? - server_cpu;
        let generator_cpu = own_cpu_time()? - generator_cpu;
        ensure!(count > 0, "nothing was answered in {seconds:.1} s");
        let latencies = workers.latencies()?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ns")]
        let microseconds = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        let (p50, p99) = (microseconds(0.5), microseconds(0.99));
        Ok(Figures::Throughput(Throughput { count, seconds, server_cpu, generator_cpu, p50, p99 }))
    }
}

/// What the connections of a scenario do.
#[derive(Clone)]
enum Behaviour {
    Echo {
        window: usize,
    },
    /// The first connection sends, all receive.
    Broadcast(Arc<Round>),
    /// The first of two connections sends, the other one answers, and so on.
    Pairs,
    Silent,
}

/// A message to all.
struct Round {
    /// How many connections have not got it yet.
    missing: AtomicUsize,
    complete: Notify,
}

impl Round {
    fn arrived(&self, messages: usize) -> Result<()> {
        ensure!(messages <= 1, "a message came twice");
        if messages == 1 && self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete.notify_one();
        }
        Ok(())
    }
}

async fn echo(mut link: Link, window: usize, meter: &Meter) -> Result<()> {
    let mut batches = Batches::new(window);
    batches.sent(Instant::now(), window);
    link.send(window)?;
    loop {
        link.ready().await?;
        let received = link.receive()?;
        if received.messages > 0 {
            let now = Instant::now();
            batches.answered(now, received.messages, meter)?;
            meter.count(received.messages);
            batches.sent(now, received.messages);
            link.send(received.messages)?;
        }
    }
}

async fn send_to_all(mut link: Link, round: &Round, connections: usize, meter: &Meter) -> Result<()> {
    // a connection is open before the server has added it to those that it sends to
    sleep(SETTLING).await;
    loop {
        round.missing.store(connections, Ordering::Release);
        let begun = Instant::now();
        link.send(1)?;
        loop {
            tokio::select! {
                () = round.complete.notified() => break,
                ready = link.ready() => ready?,
            }
            let received = link.receive()?;
            round.arrived(received.messages)?;
        }
        meter.time(begun.elapsed(), 1);
        meter.count(connections);
    }
}

async fn receive_from_one(mut link: Link, round: &Round, meter: &Meter) -> Result<()> {
    loop {
        link.ready().await?;
        let received = link.receive()?;
        round.arrived(received.messages)?;
        meter.count_pings(received.pings);
    }
}

/// Sends a message for each that comes.
async fn answer(mut link: Link, meter: &Meter) -> Result<()> {
    loop {
        link.ready().await?;
        let received = link.receive()?;
        meter.count(received.messages);
        link.send(received.messages)?;
    }
}

/// Answers pings.
async fn stay_silent(mut link: Link, meter: &Meter) -> Result<()> {
    loop {
        link.ready().await?;
        let received = link.receive()?;
        ensure!(received.messages == 0, "a message came though none was sent");
        meter.count_pings(received.pings);
    }
}
