//! A hub under load, over TCP: users who come and go in all ways there are, senders who do not care, and then the account
//! of every message that was accepted.
//!
//! What happens is random, and the account is not: whatever the order of things was, no message may be missing. It takes
//! `WS_HUB_LOAD_SECONDS` (6) for each of the two guarantees, and `WS_HUB_LOAD_SEED` makes the same choices again.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use ws_core::{Drain, WebSocket, WebSocketLayer};
use ws_hub::{After, Delivery, Guarantee, Hub, Log as _, Member, MemoryLog, Overflow, Page};
use ws_tests::adapters::Hyper;
use ws_tests::wait::DEADLINE;
use ws_tests::{BoxError, Client, Frame, Running, Server, Setup, until};

const USERS: u32 = 2_000;
/// Those who get most of the messages, and do not stay.
const BUSY: u32 = 200;
const SENDERS: u32 = 4;
const ROOMS: u32 = 10;

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// With a Close frame; it reads until the server's.
    Orderly,
    /// It does not; its next connection replaces this one.
    Replaced,
    /// With a reset.
    Reset,
}

struct World {
    hub: Hub<u32>,
    server: Running,
    seed: u64,
    is_over: AtomicBool,
    may_reset: bool,
}

/// A message as it was sent: by whom, and its number there.
type Sent = (u32, u64);

/// All messages to one user, by sender.
type BySender = BTreeMap<u32, Vec<u64>>;

fn parse(text: &str) -> Sent {
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().expect("a kind, a sender, a number, and padding");
    (word().parse().expect("a sender"), word().parse().expect("a number"))
}

/// Serves a connection; its first message says whose it is.
async fn serve(hub: Hub<u32>, mut socket: WebSocket) -> Result<(), BoxError> {
    let Some(first) = socket.recv().await else { return Ok(()) };
    let user = first?.as_text().unwrap_or_default().parse()?;
    hub.attach_with(user, socket, async |mut member: Member<u32>| {
        member.send("hello").await?;
        while let Some(message) = member.recv().await {
            message?;
        }
        Ok::<_, ws_core::Error>(())
    })
    .await?;
    Ok(())
}

/// One connection, until it is over; returns the messages to its user.
async fn connection(
    world: Arc<World>,
    user: u32,
    stays: Duration,
    exit: Exit,
    mut random: SmallRng,
    greeted: oneshot::Sender<()>,
) -> Vec<Sent> {
    let mut client = Client::open(&world.server).await;
    client.write(Frame::text(user.to_string())).await;
    let leaves_at = Instant::now() + stays;
    let (mut greeted, mut closed) = (Some(greeted), false);
    let (mut got, mut last_of_rooms) = (Vec::new(), None);
    let is_slow = random.random_bool(0.2);
    loop {
        let leaves = exit != Exit::Replaced || world.is_over.load(Ordering::SeqCst);
        let frame = tokio::select! {
            frame = client.frame() => frame,
            () = sleep_until(leaves_at), if leaves && !closed => {
                if exit == Exit::Reset && !world.is_over.load(Ordering::SeqCst) {
                    client.reset();
                    return got;
                }
                closed = true;
                let _ = client.try_write(Frame::close(1000, "")).await;
                continue;
            }
        };
        if frame.is_ping() {
            let _ = client.try_write(Frame::pong(frame.payload())).await;
            continue;
        }
        if frame.close_code().is_some() {
            if !closed {
                let _ = client.try_write(frame).await;
            }
            client.until_gone().await;
            return got;
        }
        let text = std::str::from_utf8(frame.payload()).expect("texts are UTF-8");
        match &text[..1] {
            "h" => drop(greeted.take().map(|greeted| greeted.send(()))),
            "d" => got.push(parse(text)),
            _ => {
                let number = Some(parse(text).1);
                assert!(last_of_rooms < number, "rooms: {number:?} after {last_of_rooms:?}");
                last_of_rooms = number;
            }
        }
        if is_slow && random.random_bool(0.1) {
            sleep(Duration::from_millis(random.random_range(1..100))).await;
        }
    }
}

/// A user, who connects again and again; returns all messages to them, in the order of their connections.
async fn live(world: Arc<World>, user: u32) -> Vec<Sent> {
    let mut random = SmallRng::seed_from_u64(world.seed ^ u64::from(user) << 8);
    let mut connections: Vec<JoinHandle<Vec<Sent>>> = Vec::new();
    while !world.is_over.load(Ordering::SeqCst) {
        let stays =
            if user < BUSY { random.random_range(10..400) } else { random.random_range(1_000..4_000) };
        let exit = match random.random_range(0..10) {
            0..3 => Exit::Replaced,
            3..6 if world.may_reset => Exit::Reset,
            _ => Exit::Orderly,
        };
        let stays = Duration::from_millis(stays);
        let (greeted, was_greeted) = oneshot::channel();
        let task = connection(
            Arc::clone(&world),
            user,
            stays,
            exit,
            SmallRng::seed_from_u64(random.random()),
            greeted,
        );
        let mut task = tokio::spawn(task);
        // it is let in, or it is over
        let _ = was_greeted.await;
        if exit == Exit::Replaced {
            sleep(stays).await;
            connections.push(task);
        } else {
            let got = (&mut task).await.expect("a client reads");
            connections.push(tokio::spawn(async { got }));
            sleep(Duration::from_millis(random.random_range(0..50))).await;
        }
    }
    // whose connection nobody replaces any more closes it
    world.hub.disconnect(&user, 4000, "the end").await.expect("a frame that may be sent");
    let mut all = Vec::new();
    for connection in connections {
        all.extend(connection.await.expect("a client reads"));
    }
    all
}

/// Sends to users, mostly to the busy ones, now and then more at once than a queue takes.
async fn send(world: Arc<World>, sender: u32, ledger: Arc<Mutex<BTreeMap<u32, BySender>>>) {
    let mut random = SmallRng::seed_from_u64(world.seed ^ u64::from(sender) << 40);
    let mut number = 0;
    while !world.is_over.load(Ordering::SeqCst) {
        let users = if random.random_bool(0.8) { BUSY } else { USERS };
        let user = random.random_range(0..users);
        let burst = if random.random_bool(0.05) { 120 } else { random.random_range(1..8) };
        let padding = "x".repeat(random.random_range(0..2_000));
        let mut accepted = Vec::with_capacity(burst);
        for _ in 0..burst {
            match world.hub.send(&user, format!("d {sender} {number} {padding}")).await {
                Delivery::Sent(_) | Delivery::Stored { evicted: 0 } => accepted.push(number),
                other => panic!("{other:?} of a message to {user}"),
            }
            number += 1;
        }
        ledger.lock().await.entry(user).or_default().entry(sender).or_default().extend(accepted);
        sleep(Duration::from_millis(random.random_range(0..4))).await;
    }
}

/// Joins, leaves, sends to rooms and to all, and sends users away.
async fn disturb(world: Arc<World>) {
    let mut random = SmallRng::seed_from_u64(world.seed ^ 0xdead);
    let mut number = 0_u64;
    while !world.is_over.load(Ordering::SeqCst) {
        let user = random.random_range(0..USERS);
        let room = random.random_range(0..ROOMS).to_string();
        match random.random_range(0..100) {
            0..50 => drop(world.hub.join(&user, &room).await),
            50..70 => drop(world.hub.leave(&user, &room)),
            70..85 => {
                number += 1;
                world.hub.room(&room).except(&user).send(format!("r 0 {number} x")).await;
            }
            85 => {
                number += 1;
                world.hub.broadcast(format!("r 0 {number} x")).await;
            }
            86..95 => drop(world.hub.kick(&user).await),
            _ => drop(world.hub.disconnect(&(user % BUSY), 4000, "go").await),
        }
        sleep(Duration::from_millis(random.random_range(0..8))).await;
    }
}

/// Runs it all, and returns what was accepted and what has come, or waits in the log, for each user.
async fn run(guarantee: Guarantee) -> (BTreeMap<u32, BySender>, BTreeMap<u32, BySender>) {
    ws_tests::runtime::allow_many_sockets();
    let setting = |name| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seconds = setting("WS_HUB_LOAD_SECONDS").unwrap_or(6);
    let seed = setting("WS_HUB_LOAD_SEED").unwrap_or_else(rand::random);
    println!("WS_HUB_LOAD_SEED={seed}");

    let log = Arc::new(MemoryLog::new().per_user(1 << 20, 1 << 30).in_all(1 << 32));
    let hub = Hub::builder()
        .queue(100, 1024 * 1024)
        .overflow(Overflow::Disconnect)
        .log(Arc::clone(&log))
        .guarantee(guarantee)
        .build();
    // nobody is given up because this machine is slow
    let patience = Duration::from_secs(120);
    let layer = WebSocketLayer::new()
        .handshake_timeout(patience)
        .ping_interval(Duration::from_secs(5))
        .pong_timeout(patience)
        .close_timeout(patience)
        .send_timeout(None);
    let serving = hub.clone();
    let setup = Setup::new(move |socket| serve(serving.clone(), socket)).layer(layer);
    let world = Arc::new(World {
        hub: hub.clone(),
        server: Hyper::start(setup).await,
        seed,
        is_over: AtomicBool::new(false),
        may_reset: guarantee == Guarantee::AtLeastOnce,
    });

    let users: Vec<_> = (0..USERS).map(|user| tokio::spawn(live(Arc::clone(&world), user))).collect();
    until("most users", || hub.stats().users > USERS as usize * 3 / 4).await;
    let ledger = Arc::new(Mutex::new(BTreeMap::new()));
    let senders =
        (0..SENDERS).map(|sender| tokio::spawn(send(Arc::clone(&world), sender, Arc::clone(&ledger))));
    let mut others: Vec<_> = senders.collect();
    others.push(tokio::spawn(disturb(Arc::clone(&world))));
    sleep(Duration::from_secs(seconds)).await;
    world.is_over.store(true, Ordering::SeqCst);
    for other in others {
        other.await.expect("nothing is refused");
    }

    let mut got: BTreeMap<u32, BySender> = BTreeMap::new();
    let mut add = |user: u32, messages: Vec<Sent>| {
        for (sender, number) in messages {
            got.entry(user).or_default().entry(sender).or_default().push(number);
        }
    };
    for (user, all) in (0..).zip(join_all(users).await) {
        add(user, all.expect("a client reads"));
    }
    let drained = hub.drain(Drain::new().timeout(DEADLINE)).await;
    assert_eq!((drained.remaining, hub.stats().connections), (0, 0));
    for user in 0..USERS {
        let page = Page { messages: usize::MAX, bytes: usize::MAX };
        let waiting = log.read(&user, After::Cursor, page).await.expect("memory does not fail").entries;
        add(user, waiting.iter().map(|entry| parse(entry.message.as_text().expect("texts"))).collect());
    }
    println!("{:?}", hub.stats());
    let ledger = std::mem::take(&mut *ledger.lock().await);
    (ledger, got)
}

fn on_threads<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build();
    runtime.expect("the system gives threads to a runtime").block_on(case)
}

#[test]
fn at_most_once_every_accepted_message_comes_once_and_in_order_or_waits() {
    let (accepted, got) = on_threads(run(Guarantee::AtMostOnce));
    assert_eq!(accepted.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
    for (user, accepted) in &accepted {
        for (sender, accepted) in accepted {
            assert_eq!(got[user].get(sender), Some(accepted), "from {sender} to {user}");
        }
    }
}

#[test]
fn at_least_once_no_accepted_message_is_lost_though_connections_break() {
    let (accepted, got) = on_threads(run(Guarantee::AtLeastOnce));
    for (user, accepted) in &accepted {
        for (sender, accepted) in accepted {
            let got: BTreeSet<_> = got[user].get(sender).into_iter().flatten().collect();
            let lost: Vec<_> = accepted.iter().filter(|number| !got.contains(number)).collect();
            assert!(lost.is_empty(), "from {sender} to {user}: {lost:?} of {}", accepted.len());
        }
    }
}
