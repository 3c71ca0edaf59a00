//! What Redis does without this project: to publish, and to keep a message in a stream and publish it.

use anyhow::Result;
use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;

use crate::server::Server;

/// How many commands go to the server at once.
const DEPTH: usize = 256;

/// One client that takes what is published, until this is dropped.
pub(crate) struct Subscriber(tokio::task::JoinHandle<()>);

impl Subscriber {
    pub(crate) async fn start(server: &Server) -> Result<Self> {
        let mut messages = redis::Client::open(server.url())?.get_async_pubsub().await?;
        messages.subscribe("raw").await?;
        let task = tokio::spawn(async move { messages.on_message().for_each(async |_| {}).await });
        Ok(Self(task))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Publishes so often, pipelined.
pub(crate) async fn publish(connection: &mut MultiplexedConnection, text: &str, count: usize) -> Result<()> {
    for _ in 0..count.div_ceil(DEPTH) {
        let mut pipe = redis::pipe();
        for _ in 0..DEPTH {
            pipe.publish("raw", text).ignore();
        }
        pipe.exec_async(connection).await?;
    }
    Ok(())
}

/// Appends to one of many streams and publishes, so often, pipelined.
pub(crate) async fn append_and_publish(
    connection: &mut MultiplexedConnection,
    text: &str,
    count: usize,
) -> Result<()> {
    for round in 0..count.div_ceil(DEPTH) {
        let mut pipe = redis::pipe();
        for user in 0..DEPTH {
            let stream = format!("raw:{}", (round * DEPTH + user) % 1000);
            pipe.cmd("XADD")
                .arg(stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(1000)
                .arg("*")
                .arg("m")
                .arg(text)
                .ignore();
            pipe.publish("raw", text).ignore();
        }
        pipe.exec_async(connection).await?;
    }
    Ok(())
}

/// How many commands, or pairs of them, are really run for this count.
pub(crate) fn rounded(count: usize) -> usize {
    count.div_ceil(DEPTH) * DEPTH
}
