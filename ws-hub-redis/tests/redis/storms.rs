//! Users who come and go on several nodes while connections to the server break and the server is killed. What was accepted is
//! received, in the order of the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use ws_hub::{Delivery, Hub, Login};

use crate::hubs::hubs_on;
use crate::server::Server;
use crate::support::{connect, soon, until};

const USERS: u64 = 4;
const MESSAGES: usize = 150;
const LAST: usize = 1_000_000;

/// What became of the messages of one sender, in the order in which they were sent.
type Sent = Vec<(String, Delivery)>;

/// Sends messages to a user from all nodes in turn, until so many are accepted.
async fn send(hubs: Arc<[Hub<u64>]>, user: u64) -> Sent {
    let (mut sent, mut accepted) = (Vec::new(), 0);
    for number in 0.. {
        let message = format!("{user} {number}");
        let delivery = hubs[number % hubs.len()].send(&user, message.clone()).await;
        accepted += usize::from(delivery.is_accepted());
        sent.push((message, delivery));
        if accepted == MESSAGES {
            break;
        }
        // in the time in which messages would be sent by people
        sleep(Duration::from_millis(10)).await;
    }
    sent
}

/// Reads on one connection after the other, now here, now there. Returns what each of them has got.
async fn read(hubs: Arc<[Hub<u64>]>, user: u64, is_over: Arc<AtomicBool>) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for round in 0.. {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let mut client = connect(&hubs[(round + usize::try_from(user).unwrap()) % hubs.len()], user);
        let mut got = Vec::new();
        let _ = timeout(Duration::from_millis(300), async {
            while let Some(Ok(message)) = client.recv().await {
                got.push(message.as_text().unwrap().to_owned());
            }
        })
        .await;
        all.push(got);
    }
    all
}

/// Does harm until the senders are done.
async fn storm(server: &mut Server, is_over: &dyn Fn() -> bool, kills_server: bool) {
    for round in 0_u64.. {
        if is_over() {
            return;
        }
        match round % 4 {
            0 => drop(server.run(&["CLIENT", "KILL", "TYPE", "pubsub"])),
            1 => drop(server.run(&["CLIENT", "KILL", "TYPE", "normal"])),
            2 => drop(server.run(&["SCRIPT", "FLUSH"])),
            _ if kills_server => {
                server.kill();
                sleep(Duration::from_millis(100 * (round % 5))).await;
                server.restart();
            }
            _ => drop(server.run(&["CLIENT", "PAUSE", "200"])),
        }
        sleep(Duration::from_millis(150)).await;
    }
}

/// The number of a message of a user.
fn number(message: &str) -> usize {
    message.split(' ').nth(1).unwrap().parse().unwrap()
}

fn check(sent: &Sent, got: &[Vec<String>]) {
    let received: HashSet<_> = got.iter().flatten().collect();
    for (message, delivery) in sent {
        let has_come = received.contains(message);
        assert!(has_come || !delivery.is_accepted(), "{message} was {delivery:?}, and is lost");
        assert!(
            !has_come || !matches!(delivery, Delivery::Dropped(_)),
            "{message} was {delivery:?}, and came"
        );
    }
    // what has no answer in time may be written later
    let accepted: HashSet<_> = sent.iter().filter(|(_, it)| it.is_accepted()).map(|(it, _)| it).collect();
    for connection in got {
        let once: HashSet<_> = connection.iter().collect();
        assert_eq!(once.len(), connection.len(), "twice: {connection:?}");
        let numbers: Vec<_> =
            connection.iter().filter(|it| accepted.contains(it)).map(|message| number(message)).collect();
        assert!(numbers.is_sorted(), "not in order: {numbers:?}");
    }
}

/// What one connection gets up to the last message of all, and whether it got that.
async fn read_to_end(hub: &Hub<u64>, user: u64) -> (Vec<String>, bool) {
    let (mut client, mut got) = (connect(hub, user), Vec::new());
    while let Some(Ok(message)) = client.recv().await {
        let message = message.as_text().unwrap().to_owned();
        let is_last = number(&message) == LAST;
        got.push(message);
        if is_last {
            return (got, true);
        }
    }
    (got, false)
}

async fn nothing_is_lost_on(mut server: Server, kills_server: bool, login: Login) {
    let hubs = hubs_on(&server, |hub| hub.login(login)).await;
    nothing_is_lost(hubs, async |is_over| storm(&mut server, is_over, kills_server).await).await;
}

/// Sends and reads on nodes that do not lose data, until enough is accepted, while a storm does harm: it is told how to
/// see whether the senders are done.
pub(crate) async fn nothing_is_lost(
    hubs: impl Into<Arc<[Hub<u64>]>>,
    storm: impl AsyncFnOnce(&dyn Fn() -> bool),
) {
    let hubs = hubs.into();
    let is_over = Arc::new(AtomicBool::new(false));
    let (mut senders, mut readers) = (JoinSet::new(), JoinSet::new());
    for user in 0..USERS {
        let (hubs, is_over) = (Arc::clone(&hubs), Arc::clone(&is_over));
        senders.spawn({
            let hubs = Arc::clone(&hubs);
            async move { (user, send(hubs, user).await) }
        });
        readers.spawn(async move { (user, read(hubs, user, is_over).await) });
    }
    let mut sent = HashMap::new();
    let gather = async {
        while let Some(done) = senders.join_next().await {
            sent.extend([done.unwrap()]);
        }
        is_over.store(true, Ordering::Release);
    };
    let is_done = || is_over.load(Ordering::Acquire);
    timeout(Duration::from_secs(300), async { tokio::join!(gather, storm(&is_done)) })
        .await
        .expect("the senders are not done");
    let mut got: HashMap<_, _> = readers.join_all().await.into_iter().collect();
    // when all is well again, everybody gets the rest
    for user in 0..USERS {
        let sends_last = async || hubs[0].send(&user, format!("{user} {LAST}")).await.is_accepted();
        until("messages are accepted", sends_last).await;
        let got = got.get_mut(&user).unwrap();
        loop {
            let (texts, has_all) = soon(read_to_end(&hubs[1], user)).await;
            got.push(texts);
            if has_all {
                break;
            }
        }
        check(&sent[&user], got);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_connections_to_the_server_break() {
    nothing_is_lost_on(Server::start(&[]), false, Login::ReplaceOld).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_server_is_killed_and_started_again() {
    nothing_is_lost_on(Server::durable(), true, Login::ReplaceOld).await;
}
