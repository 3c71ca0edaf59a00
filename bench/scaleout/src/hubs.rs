//! Hubs that share the server, their users, and what is measured of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join, try_join_all};
use hdrhistogram::Histogram;
use tokio::time::sleep;
use ws_core::{Message, WebSocket, testing};
use ws_hub::{Append, Backplane as _, Delivery, Hub, MessageId};
use ws_hub_redis::RedisBackplane;

/// How many tasks send at once.
const SENDERS: usize = 64;

/// How many users log in at once.
const AT_ONCE: usize = 256;

/// A node without a hub.
pub(crate) async fn backplane(url: &str) -> Result<RedisBackplane<u64>> {
    Ok(RedisBackplane::builder(url).prefix("bench").connect().await?)
}

/// A node.
pub(crate) async fn node(url: &str) -> Result<Hub<u64>> {
    Ok(Hub::builder().max_connections(1_000_000).backplane(backplane(url).await?).build())
}

/// Connects a user over a pipe in memory.
fn connect(hub: &Hub<u64>, user: u64) -> WebSocket {
    let hub = hub.clone();
    testing::connect(async move |socket| hub.attach(user, socket).await)
}

/// Connects users who take what they get, and waits until they are there.
pub(crate) async fn login(hub: &Hub<u64>, users: std::ops::Range<u64>) -> Result<()> {
    connect_all(hub, users, || ()).await
}

/// The same, and calls a function for each message that any of them gets.
pub(crate) async fn connect_all(
    hub: &Hub<u64>,
    users: std::ops::Range<u64>,
    on_message: impl Fn() + Clone + Send + 'static,
) -> Result<()> {
    let users: Vec<_> = users.collect();
    for some in users.chunks(AT_ONCE) {
        for user in some {
            let mut client = connect(hub, *user);
            let on_message = on_message.clone();
            tokio::spawn(async move {
                while let Some(Ok(_)) = client.recv().await {
                    on_message();
                }
            });
        }
        while !some.iter().all(|user| hub.is_online(user)) {
            sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Sends so many messages, to one user after the other.
pub(crate) async fn send(
    hub: &Hub<u64>,
    users: std::ops::Range<u64>,
    text: &str,
    count: usize,
) -> Result<()> {
    let text: Arc<str> = text.into();
    let senders = (0..SENDERS).map(|sender| {
        let (hub, users, text) = (hub.clone(), users.clone(), Arc::clone(&text));
        tokio::spawn(async move {
            let turns = (sender..count).step_by(SENDERS);
            for (user, _) in users.clone().cycle().skip(sender).step_by(SENDERS).zip(turns) {
                accepted(hub.send(&user, &*text).await)?;
            }
            anyhow::Ok(())
        })
    });
    for sender in try_join_all(senders).await? {
        sender?;
    }
    Ok(())
}

/// Sends one message to all of these users, so often.
pub(crate) async fn send_all(
    hub: &Hub<u64>,
    users: std::ops::Range<u64>,
    text: &str,
    count: usize,
) -> Result<()> {
    let users: Vec<_> = users.collect();
    for _ in 0..count {
        for delivery in hub.send_all(&users, text).await {
            accepted(delivery)?;
        }
    }
    Ok(())
}

/// Appends one message to the logs of all of these users in one call of a backplane, so often.
pub(crate) async fn append_all(
    backplane: &RedisBackplane<u64>,
    users: std::ops::Range<u64>,
    text: &str,
    count: usize,
) -> Result<()> {
    let (users, message) = (users.collect::<Vec<_>>(), Message::text(text));
    for _ in 0..count {
        let batch: Vec<_> =
            users.iter().map(|user| Append::new(user, MessageId::random(), &message)).collect();
        for sent in backplane.append(&batch).await {
            sent?;
        }
    }
    Ok(())
}

fn accepted(delivery: Delivery) -> Result<()> {
    ensure!(delivery.is_accepted(), "a message was not accepted: {delivery:?}");
    Ok(())
}

/// How long messages take, one at a time, from the call of `send` to the client, and to the answer of `send`.
pub(crate) struct Times {
    pub(crate) received: Histogram<u64>,
    pub(crate) answered: Histogram<u64>,
}

/// Sends messages to one user, who is connected to the second hub, and measures how long each takes.
pub(crate) async fn times(from: &Hub<u64>, to: &Hub<u64>, text: &str, count: usize) -> Result<Times> {
    const USER: u64 = u64::MAX;
    let mut client = connect(to, USER);
    while !to.is_online(&USER) {
        sleep(Duration::from_millis(5)).await;
    }
    let mut times = Times { received: Histogram::new(3)?, answered: Histogram::new(3)? };
    for _ in 0..count {
        let start = Instant::now();
        let sending = async { (from.send(&USER, text).await, start.elapsed()) };
        let receiving = async { (client.recv().await, start.elapsed()) };
        let ((delivery, answered), (received, arrived)) = join(sending, receiving).await;
        accepted(delivery)?;
        received.context("the connection is open")??;
        times.received.record(u64::try_from(arrived.as_micros())?)?;
        times.answered.record(u64::try_from(answered.as_micros())?)?;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(times)
}
