//! What Redis does without this project: to publish, and to keep a message in a stream and publish it, as two commands or by a
//! script.

use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;

use crate::server::Server;

/// How many commands go to the server at once.
const DEPTH: usize = 256;

/// How long a history stays.
const WEEK: Duration = Duration::from_hours(7 * 24);

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

/// What a script takes that does what that of [centrifuge](https://github.com/centrifugal/centrifuge) does for a channel with a
/// history: count, append to a stream, have both expire, publish.
const HISTORY: &str = "
    local epoch = redis.call('HGET', KEYS[2], 'epoch')
    if not epoch then
        epoch = ARGV[4]
        redis.call('HSET', KEYS[2], 'epoch', epoch)
    end
    local number = redis.call('HINCRBY', KEYS[2], 'number', 1)
    redis.call('EXPIRE', KEYS[2], ARGV[3])
    redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], number, 'm', ARGV[1])
    redis.call('EXPIRE', KEYS[1], ARGV[3])
    redis.call('PUBLISH', 'raw', number .. ':' .. epoch .. ':' .. ARGV[1])
    return { number, epoch }
";

/// Appends to the history of one of many channels and publishes, by a script, so often, pipelined.
pub(crate) async fn append_and_publish_by_script(
    connection: &mut MultiplexedConnection,
    text: &str,
    count: usize,
) -> Result<()> {
    let script: String = redis::cmd("SCRIPT").arg("LOAD").arg(HISTORY).query_async(connection).await?;
    for round in 0..count.div_ceil(DEPTH) {
        let mut pipe = redis::pipe();
        for user in 0..DEPTH {
            let channel = (round * DEPTH + user) % 1000;
            let call = pipe.cmd("EVALSHA").arg(&script).arg(2);
            call.arg(format!("history:{channel}")).arg(format!("meta:{channel}"));
            call.arg(text).arg(1000).arg(WEEK.as_secs()).arg("epoch").ignore();
        }
        pipe.exec_async(connection).await?;
    }
    Ok(())
}

/// How many commands, or pairs of them, are really run for this count.
pub(crate) fn rounded(count: usize) -> usize {
    count.div_ceil(DEPTH) * DEPTH
}
