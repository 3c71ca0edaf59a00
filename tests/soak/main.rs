//! A soak: thousands of connections with mixed traffic that come and go in all ways for minutes, from outside of the
//! server's process. Nothing that must arrive is lost, doubled or out of order; memory does not grow; and in the end
//! nothing is left.
//!
//! `scripts/soak [SECONDS] [CONNECTIONS]` runs it. `SOAK_SEED` is the seed of another run, which it has printed, and
//! `SOAK_ADAPTER` the adapter.

mod memory;
mod peers;
mod world;

use std::env;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use ws_tests::Outside;
use ws_tests::outside::{Counters, Limits, mib};

use memory::Memory;
use world::World;

/// Short enough for a minute's run; a peer that pauses does so for less.
const LIMITS: Limits = Limits {
    ping: Duration::from_secs(3),
    pong: Duration::from_secs(15),
    message: Duration::from_secs(15),
    send: world::SEND_TIMEOUT,
    close: Duration::from_secs(10),
};

/// When a new server takes over and the old one is drained, in hundredths of the time; the first one before memory is
/// looked at, so that what it takes is in the level.
const ROLLS: [u32; 4] = [4, 30, 55, 80];

/// How long all connections may take to end, in order.
const END: Duration = Duration::from_secs(60);

fn variable<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")),
        Err(_) => default,
    }
}

fn main() -> ExitCode {
    let seconds = variable("SOAK_SECONDS", 20);
    let wanted: usize = variable("SOAK_CONNECTIONS", 200);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970");
    let seed = variable("SOAK_SEED", u64::from(now.subsec_nanos()));
    let adapter = env::var("SOAK_ADAPTER").unwrap_or_else(|_| "axum".to_owned());

    ws_tests::runtime::allow_many_sockets();
    // two may be open where one replaces another, and there are others than sockets
    let possible = ws_tests::runtime::sockets() * 2 / 3;
    let connections = wanted.min(possible);
    if connections < wanted {
        println!(
            "soak: the system's limit of open files lets {connections} connections be, and not {wanted}"
        );
    }
    println!("soak: {connections} connections to {adapter} for {seconds} s, SOAK_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let soak = soak(&adapter, connections, Duration::from_secs(seconds), seed);
    let failures = runtime.expect("the system gives threads to a runtime").block_on(soak);
    for failure in &failures {
        println!("soak: FAILED: {failure}");
    }
    if failures.is_empty() {
        println!("soak: ok");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs it, prints the figures, and returns what is wrong.
async fn soak(adapter: &str, connections: usize, time: Duration, seed: u64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut server = Outside::start(env!("CARGO_BIN_EXE_ws-tests-server"), adapter, LIMITS).await;
    let process = server.process();
    let (counters_before, files_before) = (server.counters().await, process.files());
    let world = Arc::new(World::new(server.endpoint(), connections, seed, time));

    let mut peers = JoinSet::new();
    (0..connections).for_each(|number| peers::spawn(&mut peers, &world, number));
    server.publish((connections / 10).max(20)).await;
    let most = connections * 9 / 10;
    server.until("the connections to be open", |counters| counters.connections >= most).await;

    let start = Instant::now();
    let cpu_before = process.cpu();
    let mut memory = Memory::default();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rolls = ROLLS.iter().map(|part| time * *part / 100).peekable();
    while start.elapsed() < time && failures.is_empty() {
        seconds.tick().await;
        memory.add(start.elapsed(), process.memory());
        if rolls.next_if(|at| start.elapsed() >= *at).is_some() {
            // who is about to connect goes to the new one
            let mut endpoint = world.endpoint.write().await;
            server.roll().await;
            *endpoint = server.endpoint();
        }
        while let Some(ended) = peers.try_join_next() {
            failures.extend(ended.err().map(|error| format!("a peer: {error}")));
        }
    }
    let at_the_end = server.counters().await;
    let cpu = process.cpu().saturating_sub(cpu_before);

    world.over.send_replace(true);
    server.publish(0).await;
    world.quiet.send_replace(true);
    let all = async {
        while let Some(ended) = peers.join_next().await {
            failures.extend(ended.err().map(|error| format!("a peer: {error}")));
        }
    };
    if timeout(END, all).await.is_err() {
        failures.push(format!("{} peers have not ended {END:?} after the end", peers.len()));
    }
    drop(peers);

    let left = settled(&mut server, counters_before, files_before).await;
    failures.extend(left.err());
    let counters = server.counters().await;
    if counters.lost > 0 || counters.overflowed > 0 || counters.panics > 0 {
        failures
            .push(format!("the hub lost messages of peers that read, or the server panicked: {counters:?}"));
    }
    failures.extend(memory.growth().err());

    println!("soak: at the end of the time {at_the_end:?}");
    println!("soak: {}", world.tally);
    println!("soak: memory {memory}, {:.1} MiB when all were gone", mib(process.memory()));
    let rate = cpu.as_secs_f64() / start.elapsed().as_secs_f64();
    println!("soak: CPU of the server {:.1} s, {:.0} % of one core", cpu.as_secs_f64(), rate * 100.0);
    if world.tally.opened.load(Ordering::Relaxed) < connections {
        failures.push("there was less traffic than asked for".to_owned());
    }
    failures
}

/// Waits until all is as it was; says what is not.
async fn settled(server: &mut Outside, before: Counters, files: usize) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let now = server.counters().await;
        let files_now = server.process().files();
        let nobody = (now.connections, now.users, now.attached, now.rooms) == (0, 0, 0, 0);
        if nobody && now.tasks <= before.tasks && files_now <= files {
            return Ok(());
        }
        if start.elapsed() > ws_tests::wait::DEADLINE {
            let handlers = server.handlers().await;
            let left = format!("left over: {now:?}, {files_now} files and the handlers \"{handlers}\"");
            return Err(format!("{left}; before: {before:?} and {files} files"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
