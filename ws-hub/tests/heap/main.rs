//! How much of the heap a [`MemoryLog`] and users who are online take: a binary of its own, because it counts every allocation,
//! so that its tests run one at a time.

use std::alloc::System;
use std::future::pending;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::{Handle, Runtime};
use tokio::task::yield_now;
use tokio::time::sleep;
use ws_core::{Message, WebSocket, testing};
use ws_hub::{
    Acknowledge, After, Append, Appended, Delivery, Durability, Guarantee, Hub, Log, LogError, MemoryLog,
    MessageId, Page, Read,
};

/// One counts what there is, the other the most there was at once.
#[global_allocator]
static HEAP: PeakMemAlloc<&StatsAlloc<System>> = PeakMemAlloc::new(&INSTRUMENTED_SYSTEM);

const BOUND: usize = 64 * 1024 * 1024;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

fn append<U: Clone + Eq + Hash + Send + Sync + 'static>(log: &MemoryLog<U>, user: &U, bytes: usize) -> u64 {
    let message = Message::binary(vec![0; bytes]);
    match log.append_now(&Append::new(user, MessageId::random(), &message)) {
        Some(Appended::Logged { position, .. }) => position.number,
        other => panic!("{other:?}"),
    }
}

/// What fills a log.
type Fill<U> = fn(&MemoryLog<U>, &mut dyn FnMut());

/// More users than fit, with long names and one message of one byte.
fn many_names(log: &MemoryLog<String>, look: &mut dyn FnMut()) {
    for user in 0..200_000 {
        append(log, &format!("{user:0200}"), 1);
        look();
    }
}

/// The same, with names of which each is its own allocation, and little else.
fn many_short_names(log: &MemoryLog<Arc<str>>, look: &mut dyn FnMut()) {
    for user in 0..200_000 {
        append(log, &user.to_string().into(), 1);
        look();
    }
}

/// More users than fit, with one message of one byte.
fn many_users(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    for user in 0..250_000 {
        append(log, &user, 1);
        look();
    }
}

/// Few users, with as many messages as fit.
fn few_users(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    for number in 0..400_000 {
        append(log, &(number % 500), 100);
        look();
    }
}

/// Users who had much, and were delivered it.
fn readers(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    for user in 0..9_000 {
        let top = (0..300).map(|_| append(log, &user, 1)).max().unwrap();
        log.acknowledge_now(&Acknowledge { user: &user, upto: top });
        look();
    }
}

/// Many users, and then others, who have much.
fn few_after_many(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    many_users(log, look);
    for number in 0..200_000 {
        append(log, &(2_000_000 + number % 100), 1_000);
        look();
    }
}

#[test]
fn a_log_in_memory_takes_at_most_one_and_a_half_times_its_bound() {
    let _alone = alone();
    let cases: [(&str, Fill<u64>); 4] = [
        ("many users with little", many_users),
        ("few users with much", few_users),
        ("users who read all", readers),
        ("few users after many", few_after_many),
    ];
    for (name, fill) in cases {
        assert_within_bound(name, fill);
    }
    assert_within_bound("many users with long names", many_names);
    assert_within_bound("many users with short names", many_short_names);
}

fn assert_within_bound<U: Clone + Eq + Hash>(name: &str, fill: Fill<U>) {
    let before = live();
    HEAP.reset_peak_memory();
    let log = MemoryLog::<U>::new().in_all(BOUND);
    let mut looks = 0_usize;
    let mut most = 0;
    fill(&log, &mut || {
        looks += 1;
        if looks.is_multiple_of(64) {
            most = most.max(live().saturating_sub(before));
        }
    });
    let (end, peak, messages) = (live() - before, HEAP.get_peak_memory(), log.len());
    let share = |bytes: usize| bytes * 100 / BOUND;
    let figures = format!(
        "{name}: {messages} messages; {} % of the bound at the end, {} % at most, {} % within a call",
        share(end),
        share(most),
        share(peak)
    );
    println!("{figures}");
    assert!(share(end) >= 20, "the bound is reached with much less: {figures}");
    assert!(share(peak) <= 150, "{figures}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Append,
    Read,
    Acknowledge,
    GiveBack,
}

/// A log in memory that does what one of its calls says, and never answers it.
struct Hanging(MemoryLog<u64>, Call);

impl Hanging {
    fn call<'a, T: Send + 'a>(&self, call: Call, work: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        if call != self.1 {
            return work;
        }
        Box::pin(async move {
            work.await;
            pending().await
        })
    }
}

impl Log<u64> for Hanging {
    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        self.call(Call::Append, self.0.append(batch))
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        self.call(Call::Read, self.0.read(user, after, page))
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, u64>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        self.call(Call::Acknowledge, self.0.acknowledge(batch))
    }

    fn give_back<'a>(&'a self, user: &'a u64, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.call(Call::GiveBack, self.0.give_back(user, number))
    }
}

/// What a hub holds during and after 100 logins in a row of one user, who is sent 100 messages of 10 KB each time.
async fn held_over_logins(hanging: Call, guarantee: Guarantee) -> (usize, usize) {
    let before = live();
    let hub = Hub::<u64>::builder().log(Hanging(MemoryLog::new(), hanging)).guarantee(guarantee).build();
    let mut most = 0;
    for _ in 0..100 {
        let attaching = hub.clone();
        let client = testing::connect(async move |socket| attaching.attach(7, socket).await);
        sleep(Duration::from_millis(1)).await;
        join_all((0..100).map(|_| hub.send(&7, vec![0; 10_000]))).await;
        drop(client);
        most = most.max(live().saturating_sub(before));
    }
    sleep(Duration::from_secs(300)).await;
    (most, live().saturating_sub(before))
}

fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

const MIB: usize = 1024 * 1024;

#[test]
fn at_most_64_mib_are_on_their_way_to_a_log_that_never_answers() {
    let _alone = alone();
    paused().block_on(async {
        let before = live();
        let hub = Hub::<u64>::builder().log(Hanging(MemoryLog::new(), Call::Append)).build();
        let deliveries = join_all((0..100).map(|user| {
            let hub = &hub;
            async move { join_all((0..100).map(|_| hub.send(&user, vec![0; 10_000]))).await }
        }));
        let deliveries = deliveries.await.concat();
        assert!(deliveries.iter().all(|delivery| *delivery == Delivery::Unknown));
        let held = live() - before;
        println!("{held} bytes");
        assert!((60 * MIB..66 * MIB).contains(&held), "{held} bytes");
    });
}

#[test]
fn a_log_that_never_answers_does_not_let_a_hub_hold_more_than_its_bounds() {
    let _alone = alone();
    for hanging in [Call::Append, Call::Read, Call::Acknowledge, Call::GiveBack] {
        for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
            let (most, end) = paused().block_on(held_over_logins(hanging, guarantee));
            println!("{hanging:?}, {guarantee:?}: {most} bytes at most, {end} at the end");
            // a minute of what is on its way to the log; the log of the user, and the queue of a connection
            let bound = if hanging == Call::Append { 13 * MIB } else { 0 } + 3 * MIB;
            assert!(most <= bound, "{hanging:?}, {guarantee:?}: {most} bytes");
            assert!(end <= 2 * MIB, "{hanging:?}, {guarantee:?}: {end} bytes");
        }
    }
}

/// What each of many connections takes, when all of them are open.
async fn each(connect: impl Fn(u64) -> WebSocket) -> usize {
    const COUNT: usize = 2_000;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (before, tasks_before) = (live(), tasks());
    let mut clients = Vec::new();
    for number in 0..COUNT as u64 {
        let mut client = connect(number);
        // an answer says that the connection is served
        client.ping().await.unwrap();
        clients.push(client);
    }
    for _ in 0..100 {
        yield_now().await;
    }
    let each = (live() - before) / COUNT;
    drop(clients);
    // a hub keeps one that listens
    while tasks() > tasks_before + 1 {
        yield_now().await;
    }
    each
}

#[test]
fn a_user_who_is_online_takes_less_than_a_connection_does() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(compare_with_connections());
}

async fn compare_with_connections() {
    let serve = |_| {
        testing::connect(async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await {
                message?;
            }
            Ok::<_, ws_core::Error>(())
        })
    };
    // what is allocated once is, before it is counted
    each(serve).await;
    let plain = each(serve).await;
    let hub = Hub::<u64>::new();
    let online = each(|user| {
        let hub = hub.clone();
        testing::connect(async move |socket| hub.attach(user, socket).await)
    });
    let online = online.await;
    assert_eq!((hub.stats().users, hub.stats().refused), (0, 0));
    println!("{plain} bytes for a connection, {online} for one of a user");
    assert!(online <= plain + 1_150, "{} bytes", online - plain);
    assert!(online > plain, "something is counted that is not there");
}
