//! [`play`]: one attack on one server, and all that is measured around it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use ws_tests::outside::{Counters, Limits, Process, mib};
use ws_tests::{Client, Frame, Outside};

use crate::neighbour::{self, Neighbours, Times};

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// What an allocator may keep for itself, beside what is asserted; the attacks would take many times as much if there
/// were no bound.
const SLACK: usize = 8 * MIB;

/// What stands in the windows of HTTP/2 for each stream, in the HTTP library, and not in the kernel.
const WINDOWS: usize = 2 * MIB;

/// How much later than it should the end of a connection may be seen, on a loaded machine.
const LATE: Duration = Duration::from_secs(5);

/// An attack.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Where it is one.
    pub(crate) adapters: &'static [&'static str],
    pub(crate) limits: Limits,
    /// How many attackers there are, and how much memory the server may have for each of them.
    pub(crate) attackers: usize,
    pub(crate) memory: usize,
    /// Attacks, and waits for the end of it; returns the verdict.
    pub(crate) attack: for<'a> fn(&'a mut Scene) -> BoxFuture<'a, String>,
}

/// Where an attack takes place.
pub(crate) struct Scene {
    pub(crate) server: Outside,
    pub(crate) neighbours: Neighbours,
    pub(crate) attackers: usize,
    pub(crate) limits: Limits,
}

impl Scene {
    /// Opens a connection, and says what its handler is to be.
    pub(crate) async fn open(&self, role: &str) -> Client {
        let mut client = Client::open(self.server.endpoint()).await;
        client.write(Frame::text(role)).await;
        client
    }

    /// As many connections as there are attackers.
    pub(crate) async fn open_all(&self, role: &str) -> Vec<Client> {
        let mut clients = Vec::with_capacity(self.attackers);
        for _ in 0..self.attackers {
            clients.push(self.open(role).await);
        }
        clients
    }

    /// Waits until the server has no connections but the well-behaved ones.
    pub(crate) async fn until_over(&mut self) {
        let over = |counters: Counters| counters.connections == neighbour::COUNT;
        self.server.until("the attackers' connections to be over", over).await;
    }

    /// As [`until_over`](Self::until_over), no sooner than after `least`, and not much later than after `most`, since
    /// `start`.
    pub(crate) async fn over_between(&mut self, start: Instant, least: Duration, most: Duration) -> Duration {
        let counters = self.server.counters().await;
        let early = start.elapsed() < least && counters.connections != neighbour::COUNT + self.attackers;
        assert!(!early, "a connection was over after {:?} already", start.elapsed());
        self.until_over().await;
        let time = start.elapsed();
        assert!(time >= least && time <= most + LATE, "over after {time:?}, and not {least:?} to {most:?}");
        time
    }
}

/// The figures of an attack.
pub(crate) struct Row {
    name: String,
    verdict: String,
    time: Duration,
    memory: [usize; 3],
    files: [usize; 3],
    cpu: Duration,
    before: Times,
    during: Times,
}

impl Row {
    pub(crate) const HEADER: &str = "\
        | attack | verdict | time | RSS before → peak → after, MiB | files | CPU | others' echo p50/p99/max before → during |\n\
        |---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, verdict, time, memory, files, cpu, before, during } = self;
        let [low, peak, after] = memory.map(mib);
        let [files_before, files_peak, files_after] = files;
        write!(f, "| {name} | {verdict} | {:.1} s ", time.as_secs_f64())?;
        write!(f, "| {low:.1} → {peak:.1} → {after:.1} | {files_before} → {files_peak} → {files_after} ")?;
        write!(f, "| {:.1} s | {before} → {during} |", cpu.as_secs_f64())
    }
}

/// The most that a process has had, since this was started.
struct Peaks {
    memory: Arc<AtomicUsize>,
    files: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Peaks {
    fn start(process: Process) -> Self {
        let peaks = Self { memory: Arc::default(), files: Arc::default(), stop: Arc::default() };
        let (memory, files) = (Arc::clone(&peaks.memory), Arc::clone(&peaks.files));
        let stop = Arc::clone(&peaks.stop);
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                memory.fetch_max(process.memory(), Ordering::SeqCst);
                files.fetch_max(process.files(), Ordering::SeqCst);
                thread::sleep(Duration::from_millis(10));
            }
        });
        peaks
    }
}

impl Drop for Peaks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Runs a case on a server of its own.
pub(crate) fn play(adapter: &str, case: &Case) -> Row {
    let name = format!("{adapter}: {}", case.name.replace('_', " "));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the system gives threads to a runtime").block_on(act(name, adapter, case))
}

async fn act(name: String, adapter: &str, case: &Case) -> Row {
    let server = Outside::start(env!("CARGO_BIN_EXE_ws-tests-server"), adapter, case.limits).await;
    let (process, endpoint) = (server.process(), server.endpoint());
    // what is made once, and what an allocator keeps of it, is there before anything is measured
    for _ in 0..30 {
        let mut client = Client::open(endpoint).await;
        client.write(Frame::text("echo")).await;
        let message = Frame::binary(vec![0; 64 * KIB]);
        client.write(message.clone()).await;
        assert_eq!(client.frame().await, message);
        client.close().await;
    }
    let neighbours = Neighbours::start(endpoint);
    let mut scene = Scene { server, neighbours, attackers: case.attackers, limits: case.limits };
    let calm = |counters: Counters| counters.connections == neighbour::COUNT;
    let counted = scene.server.until("the well-behaved connections", calm).await;
    let warm = scene.neighbours.echoes();
    sleep(Duration::from_millis(300)).await;
    let before = scene.neighbours.since(warm);

    let (memory, files, cpu) = (process.memory(), process.files(), process.cpu());
    let peaks = Peaks::start(process);
    let echoes = scene.neighbours.echoes();
    let start = Instant::now();
    let verdict = (case.attack)(&mut scene).await;
    let time = start.elapsed();
    scene.until_over().await;
    let none_left = |counters: Counters| counters.tasks <= counted.tasks;
    let after = scene.server.until("the attackers' tasks to end", none_left).await;
    ws_tests::until("the attackers' file descriptors to be closed", || process.files() <= files).await;
    let during = scene.neighbours.since(echoes);
    let row = Row {
        name,
        verdict,
        time,
        memory: [memory, peaks.memory.load(Ordering::SeqCst), process.memory()],
        files: [files, peaks.files.load(Ordering::SeqCst), process.files()],
        cpu: process.cpu().saturating_sub(cpu),
        before,
        during,
    };
    drop(peaks);
    scene.neighbours.stop();
    check(&row, case, endpoint.http2);
    assert_eq!(after.panics, 0, "the server panicked");
    row
}

fn check(row: &Row, case: &Case, http2: bool) {
    let each = case.memory + if http2 { WINDOWS } else { 0 };
    let [low, peak, _] = row.memory;
    let allowed = low + case.attackers * each + SLACK;
    assert!(peak <= allowed, "{allowed} bytes of memory are allowed: {row}");
    // relative to what the same machine could do a moment before, and with room for what else it does; how much a flood
    // may hold up at most is locked where turns are counted, by the tests of the connection
    assert!(row.before.len() > 10 && row.during.len() > 10, "too few echoes to tell: {row}");
    let most = 10 * row.before.max() + Duration::from_secs(2);
    assert!(row.during.max() <= most, "an echo of {most:?} is allowed: {row}");
    let most = 10 * row.before.percentile(50) + Duration::from_millis(300);
    assert!(row.during.percentile(50) <= most, "{most:?} for half of the echoes are allowed: {row}");
}
