//! Races, on several threads.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use ws_core::{WebSocket, testing};
use ws_hub::{
    Acknowledge, After, Append, Appended, Durability, Hub, Log, LogError, Login, MemoryLog, Page, Read,
};

use crate::support::{ANNA, Call, Mood, TestLog, connect, connect_with};

const SOON: Duration = Duration::from_secs(120);

async fn text(client: &mut WebSocket) -> Option<String> {
    let message = timeout(SOON, client.recv()).await.expect("something comes")?;
    message.ok()?.as_text().map(str::to_owned)
}

async fn some_yields(random: &mut SmallRng) {
    for _ in 0..random.random_range(0..6) {
        yield_now().await;
    }
}

/// Two logins and the end of the first one, in any order.
async fn replace_once(hub: Hub<u64>, user: u64) {
    let mut random = SmallRng::seed_from_u64(user);
    let mut first = connect(&hub, user);
    some_yields(&mut random).await;
    let rude = random.random_bool(0.3);
    if random.random_bool(0.5) {
        assert!(hub.send(&user, "first").await.is_accepted());
    }
    some_yields(&mut random).await;
    // once it has an answer, the first one was let in
    first.ping().await.ok();
    timeout(SOON, async {
        while !hub.is_online(&user) {
            yield_now().await;
        }
    })
    .await
    .expect("the first is let in");
    let (entered, has_entered) = oneshot::channel();
    let mut second = connect_with(&hub, user, async move |mut member| {
        let _ = entered.send(());
        while let Some(Ok(_)) = member.recv().await {}
    });
    some_yields(&mut random).await;
    if rude {
        drop(first);
        some_yields(&mut random).await;
    } else {
        timeout(SOON, async { while let Some(Ok(_)) = first.recv().await {} })
            .await
            .expect("the first one ends");
        assert_eq!(first.close_frame().expect("it is told").code, 4001.into());
    }
    timeout(SOON, has_entered).await.expect("it is let in").expect("its handler is called");
    assert!(hub.send(&user, "last").await.is_accepted());
    while text(&mut second).await.expect("the second one goes on") != "last" {}
    assert!(hub.is_online(&user));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newer_login_stays_whenever_the_older_one_goes() {
    const ROUNDS: u64 = 10_000;
    let hub = Hub::new();
    let mut tasks = JoinSet::new();
    for user in 0..ROUNDS {
        if tasks.len() >= 64 {
            tasks.join_next().await.expect("there is one").unwrap();
        }
        tasks.spawn(replace_once(hub.clone(), user));
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    timeout(SOON, async {
        while hub.stats().connections > 0 {
            yield_now().await;
        }
    })
    .await
    .expect("all go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_is_sent_while_its_user_logs_in_arrives() {
    const ROUNDS: u64 = 20_000;
    let hub = Hub::new();
    let mut tasks = JoinSet::new();
    for user in 0..ROUNDS {
        if tasks.len() >= 64 {
            tasks.join_next().await.expect("there is one").unwrap();
        }
        let hub = hub.clone();
        tasks.spawn(async move {
            let sending = tokio::spawn({
                let hub = hub.clone();
                async move { hub.send(&user, "hello").await }
            });
            let mut client = connect(&hub, user);
            assert_eq!(text(&mut client).await.as_deref(), Some("hello"));
            assert!(sending.await.unwrap().is_accepted());
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_logins_at_the_same_time_as_many_are_let_in_as_may_be() {
    for (login, limit) in [(Login::RejectNew, 1), (Login::AllowMany(3), 3)] {
        for round in 0..100 {
            let hub = Hub::builder().login(login).build();
            let clients: Vec<_> = (0..12)
                .map(|_| {
                    tokio::spawn({
                        let hub = hub.clone();
                        async move { connect(&hub, round) }
                    })
                })
                .collect();
            let mut refused = 0;
            let mut kept = Vec::new();
            for client in clients {
                let client = client.await.unwrap();
                // a client is told that it is refused before the pong, or gets one
                if client.sender().ping().await.is_err() || client.is_closed() {
                    refused += 1;
                } else {
                    kept.push(client);
                }
            }
            timeout(SOON, async {
                while hub.stats().refused < 12 - limit {
                    yield_now().await;
                }
            })
            .await
            .expect("the others are refused");
            assert_eq!(hub.stats().connections as u64, limit);
            assert!(refused <= 12 - limit);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_of_connections_is_exact() {
    for _ in 0..20 {
        let hub = Hub::builder().max_connections(10).build();
        let mut tasks = JoinSet::new();
        for user in 0..100 {
            let hub = hub.clone();
            tasks.spawn(async move { connect(&hub, user) });
        }
        let clients = tasks.join_all().await;
        timeout(SOON, async {
            while hub.stats().refused < 90 {
                yield_now().await;
            }
        })
        .await
        .expect("the others are refused");
        assert_eq!((hub.stats().connections, hub.stats().refused), (10, 90));
        drop(clients);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_race_with_logins_and_keep_their_order() {
    const MESSAGES: u32 = 10_000;
    let log = TestLog::default();
    for call in [Call::Append, Call::Read, Call::Acknowledge, Call::GiveBack] {
        log.feels(call, Mood::Yields);
    }
    let roomy = MemoryLog::new().per_user(MESSAGES as usize, 16 * 1024 * 1024);
    for hub in [Hub::builder().log(roomy).build(), Hub::builder().log(log).build()] {
        let sending = tokio::spawn({
            let hub = hub.clone();
            async move {
                let mut random = SmallRng::seed_from_u64(7);
                for number in 0..MESSAGES {
                    assert!(hub.send(&ANNA, number.to_string()).await.is_accepted());
                    if number % 64 == 0 {
                        some_yields(&mut random).await;
                    }
                }
            }
        });
        // a connection hands its messages over by a queue of its own: it reads until its Close frame
        let (got, mut received) = tokio::sync::mpsc::unbounded_channel();
        let mut random = SmallRng::seed_from_u64(8);
        let mut next = 0;
        let deadline = tokio::time::Instant::now() + SOON;
        while next < MESSAGES {
            assert!(tokio::time::Instant::now() < deadline, "got {next}");
            let (server, mut client) = testing::pair();
            let (hub, got) = (hub.clone(), got.clone());
            let (entered, has_entered) = oneshot::channel();
            let attached = tokio::spawn({
                let hub = hub.clone();
                async move {
                    hub.attach_with(ANNA, server, async move |mut member| {
                        let _ = entered.send(());
                        while let Some(Ok(_)) = member.recv().await {}
                    })
                    .await
                }
            });
            timeout(SOON, has_entered).await.expect("it is let in").expect("its handler is called");
            let reading = tokio::spawn(async move {
                while let Some(Ok(message)) = client.recv().await {
                    got.send(message.as_text().unwrap().parse::<u32>().unwrap()).unwrap();
                }
            });
            tokio::time::sleep(Duration::from_millis(random.random_range(1..8))).await;
            hub.disconnect(&ANNA, 4000, "").await.unwrap();
            timeout(SOON, reading).await.expect("it is closed").unwrap();
            timeout(SOON, attached).await.expect("it ends").unwrap().unwrap();
            while let Ok(number) = received.try_recv() {
                assert_eq!(number, next);
                next += 1;
            }
        }
        timeout(SOON, sending).await.expect("all is sent").unwrap();
    }
}

/// A log in memory that stops before it appends, where it is told to: until both ends of `stop` are reached twice.
#[derive(Clone)]
struct Stopping {
    log: Arc<MemoryLog<u64>>,
    stop: Arc<Barrier>,
}

impl Log<u64> for Stopping {
    fn durability(&self) -> Durability {
        self.log.durability()
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        self.log.append(batch)
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        self.log.read(user, after, page)
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, u64>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        self.log.acknowledge(batch)
    }

    fn give_back<'a>(&'a self, user: &'a u64, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.log.give_back(user, number)
    }

    fn is_immediate(&self) -> bool {
        true
    }

    fn append_now(&self, append: &Append<'_, u64>) -> Option<Appended> {
        self.stop.wait();
        self.stop.wait();
        self.log.append_now(append)
    }

    fn acknowledge_now(&self, acknowledge: &Acknowledge<'_, u64>) -> bool {
        self.log.acknowledge_now(acknowledge)
    }
}

#[test]
fn a_user_who_comes_between_the_look_for_them_and_the_append_gets_the_message() {
    let log = Stopping { log: Arc::default(), stop: Arc::new(Barrier::new(2)) };
    let stop = Arc::clone(&log.stop);
    let hub = Hub::builder().log(log).build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let sending = thread::spawn({
        let (hub, runtime) = (hub.clone(), runtime.handle().clone());
        move || runtime.block_on(async { hub.send(&ANNA, "hello").await })
    });
    stop.wait();
    // they are not there for the sender
    let mut client = connect(&hub, ANNA);
    runtime.block_on(async {
        while !hub.is_online(&ANNA) {
            yield_now().await;
        }
    });
    stop.wait();
    assert!(sending.join().unwrap().is_accepted());
    assert_eq!(runtime.block_on(text(&mut client)).as_deref(), Some("hello"));
}
