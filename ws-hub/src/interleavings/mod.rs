//! Interleavings of threads, by shuttle: what is sent to users and to rooms while connections come, go, and replace one
//! another, on one node or two, over logs that answer at once or later. If a wake-up were lost, all threads would wait, and
//! shuttle would report a deadlock.
//!
//! `scripts/interleavings` runs these tests. shuttle switches threads at the locks of this crate, those of the log in memory
//! and of the backplane in memory included, and wherever a task waits; not at the locks of connections or of tokio. Timers
//! never fire: whoever would wait for one waits for ever.

mod client;
mod logs;
mod nodes;
mod rooms;
mod users;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::future::block_on;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};
use tokio::sync::oneshot;
use ws_core::Drain;

use crate::backplane::{Backplane as _, Signal};
use crate::builder::HubBuilder;
use crate::config::{Guarantee, Login};
use crate::delivery::Delivery;
use crate::faults::Push;
use crate::framing;
use crate::hub::Hub;
use crate::in_process::InProcess;
use crate::log::{After, Log, Page};
use crate::memory::MemoryLog;

use client::{Client, Got, Manners};

/// How many interleavings of each scenario are tried, unless `INTERLEAVINGS` in the environment asks for more.
const ORDERS: usize = 400;

const USER: u64 = 7;

/// The last message that is sent: after it, some clients close.
const LAST: &str = "last";

/// How many steps a future that is given up may come before that, about.
const STEPS: usize = 40;

/// Pipes that take all that is sent, and one message.
const ROOMY: usize = 256;
const NARROW: usize = 24;

const ALL: Page = Page { messages: usize::MAX, bytes: usize::MAX };

type Texts = Vec<String>;

/// Tries `scenario` in many orders, with timers that never fire.
fn in_any_order(scenario: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let orders = std::env::var("INTERLEAVINGS").map_or(ORDERS, |orders| orders.parse().expect("a number"));
    let mut config = Config::new();
    // without optimization, futures within futures take more than the default
    config.stack_size = 256 * 1024;
    Runner::new(RandomScheduler::new(orders), config).run(scenario);
}

/// Little waits for a connection: what else comes is read from the log.
fn builder(guarantee: Guarantee, login: Login) -> HubBuilder<u64> {
    Hub::builder().queue(2, 4096).guarantee(guarantee).login(login).framed(framing::prefix)
}

/// Hubs of one process, and what they share.
struct Nodes {
    hubs: Vec<Hub<u64>>,
    engines: Vec<Arc<InProcess<u64>>>,
    log: Arc<MemoryLog<u64>>,
}

impl Nodes {
    /// So many, whose log is in memory and answers at once.
    fn new(count: usize, build: impl Fn() -> HubBuilder<u64>) -> Self {
        let log = Arc::new(MemoryLog::new());
        Self::over(count, &log, Arc::clone(&log), build)
    }

    /// So many, over `shown`, which keeps its messages in `log`.
    fn over(
        count: usize,
        log: &Arc<MemoryLog<u64>>,
        shown: impl Log<u64>,
        build: impl Fn() -> HubBuilder<u64>,
    ) -> Self {
        let first = InProcess::over(shown);
        let others: Vec<_> = (1..count).map(|_| first.another()).collect();
        let engines: Vec<_> = std::iter::once(first).chain(others).map(Arc::new).collect();
        let hubs = engines.iter().map(|engine| build().backplane(Arc::clone(engine)).build());
        Self { hubs: hubs.collect(), log: Arc::clone(log), engines }
    }

    /// What waits for the user.
    fn waiting(&self) -> Texts {
        let read = block_on(self.log.read(&USER, After::Cursor, ALL)).unwrap();
        read.entries.iter().map(|entry| entry.message.as_text().unwrap().to_owned()).collect()
    }

    /// Everything is delivered, where that is known without an answer of the client.
    fn assert_nothing_waits(&self, guarantee: Guarantee) {
        if guarantee == Guarantee::AtMostOnce {
            assert_eq!(self.waiting(), [""; 0]);
        }
    }

    /// Waits until all logins are over: then nobody is left, and nothing of them.
    fn assert_at_rest(&self) {
        for hub in &self.hubs {
            assert_eq!(block_on(hub.drain(Drain::new())).remaining, 0);
            let inner = &hub.inner;
            assert_eq!(inner.attached.load(Ordering::SeqCst), 0);
            assert_eq!((inner.read().counts(), inner.read().everyone().len()), ((0, 0, 0), 0));
            assert_eq!((hub.rooms().len(), inner.feeds.all().len()), (0, 0));
        }
        let online = block_on(self.engines[0].online(None, usize::MAX)).unwrap();
        assert_eq!(online.users, [0; 0]);
        assert_eq!(block_on(self.engines[0].connections(&[USER])).unwrap(), [0]);
        self.engines[0].assert_nothing_on_the_way();
    }
}

/// Runs `work` in a thread.
fn concurrently<T, F>(hub: &Hub<u64>, work: impl FnOnce(Hub<u64>) -> F + Send + 'static) -> JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let hub = hub.clone();
    thread::spawn(move || block_on(work(hub)))
}

/// Sends messages to the user from a thread. Returns those that were accepted.
fn send(hub: &Hub<u64>, texts: [&'static str; 2]) -> JoinHandle<Texts> {
    concurrently(hub, async move |hub| {
        let mut accepted = Texts::new();
        for text in texts {
            if hub.send(&USER, text).await.is_accepted() {
                accepted.push(text.to_owned());
            }
        }
        accepted
    })
}

fn kick(hub: &Hub<u64>) -> JoinHandle<usize> {
    concurrently(hub, async |hub| hub.kick(&USER).await.unwrap())
}

/// What all of these senders say was accepted.
fn accepted(senders: impl IntoIterator<Item = JoinHandle<Texts>>) -> Texts {
    senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
}

/// A future, until another thread gives it up, at any moment.
struct Cut(Option<oneshot::Sender<()>>);

impl Cut {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (cut, is_cut) = oneshot::channel();
        (Self(Some(cut)), is_cut)
    }

    fn cut(mut self) -> JoinHandle<()> {
        let cut = self.0.take();
        thread::spawn(move || {
            // a thread with nothing to do is soon over: what it cuts is to come further in some of the orders
            for _ in 0..thread_rng().gen_range(0..STEPS) {
                thread::yield_now();
            }
            drop(cut);
        })
    }
}

/// What the future is ready with, unless it is given up before.
async fn unless_cut<T>(is_cut: oneshot::Receiver<()>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = is_cut => None,
        result = work => Some(result),
    }
}

/// Waits until nobody is attached any more.
fn all_left(hub: &Hub<u64>) {
    block_on(async {
        loop {
            let left = hub.inner.left.notified();
            if hub.inner.attached.load(Ordering::SeqCst) == 0 {
                break;
            }
            left.await;
        }
    });
}

/// The numbers and the texts of messages of a log that came on a connection.
fn logged(got: &Got) -> Vec<(u64, String)> {
    let parse = |text: &String| {
        let (position, text) = text.split_once('\n').expect("it is framed");
        let position: crate::position::Position = position.parse().unwrap();
        (position.number, text.to_owned())
    };
    got.texts.iter().map(parse).collect()
}

/// What came on a connection, in the order of the log and without gaps.
fn in_order(got: &Got) -> Texts {
    let messages = logged(got);
    for pair in messages.windows(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0, "out of order, or a gap: {messages:?}");
    }
    texts(got)
}

/// What came on a connection.
fn texts(got: &Got) -> Texts {
    logged(got).into_iter().map(|(_, text)| text).collect()
}

/// What was accepted was delivered, or waits; if nothing may come twice, once and in one place.
fn assert_delivered(accepted: &[String], delivered: &[String], waiting: &[String], is_once: bool) {
    for text in accepted {
        let count = delivered.iter().filter(|it| *it == text).count();
        let waits = waiting.contains(text);
        assert!(count > 0 || waits, "{text} is lost: {delivered:?} {waiting:?}");
        assert!(!is_once || count + usize::from(waits) == 1, "{text} twice: {delivered:?} {waiting:?}");
    }
}
