//! The task of a connection that reconnects: it connects, carries messages, waits, and starts again.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::consume_budget;
use tokio::time::{Instant, sleep, timeout};

use super::builder::Reconnect;
use super::queue::{Phase, Queue};
use super::socket::{ReconnectingWebSocket, Shared};
use super::state::{Interruption, ReconnectState};
use crate::client::error::ConnectError;
use crate::close::{CloseFrame, Closed};
use crate::connection::{Receiver, Sender, Transport, WebSocket};

/// The longest time that a server can ask to wait. A longer one is most probably a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

impl Reconnect {
    /// Spawns the task, which starts to connect.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> ReconnectingWebSocket {
        let connection = &self.client.config.connection;
        let inbound = Queue::new(connection.inbound_messages, connection.inbound_bytes, true);
        let outbound = Queue::new(self.max_messages, self.max_bytes, self.keeps);
        let shared = Shared::new(inbound, outbound);
        let socket = ReconnectingWebSocket::new(shared.clone());
        tokio::spawn(run(self, shared));
        socket
    }
}

/// Runs until it does not reconnect any more.
fn run(mut reconnect: Reconnect, shared: Arc<Shared>) -> impl Future<Output = ()> + Send {
    // made before the task is spawned: a runtime that shuts down may drop the task before its first poll
    let end = End(shared);
    async move {
        let shared = &end.0;
        let why = repeat(&mut reconnect, shared).await;
        if let Some(why) = &why {
            tracing::debug!(%why, "not reconnecting");
        }
        shared.end(ReconnectState::Ended { why });
    }
}

/// Sets the last state if the task is dropped before it does: by a panic of a hook, or with the runtime.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end(ReconnectState::Ended { why: Some(Interruption::Aborted) });
    }
}

/// Opens one connection after the other. Returns why it does not reconnect; `None` if the user closed it.
async fn repeat(reconnect: &mut Reconnect, shared: &Shared) -> Option<Interruption> {
    // failed attempts in a row; a connection shorter than `reset_after` counts as one
    let mut failures: u32 = 0;
    loop {
        shared.set_state(ReconnectState::Connecting { attempt: failures.saturating_add(1) });
        let attempt = tokio::select! {
            biased;
            _ = shared.asked_to_close() => return None,
            attempt = attempt(reconnect) => attempt,
        };
        let mut lasted = false;
        let why = match attempt {
            Ok(socket) => {
                let opened = Instant::now();
                shared.outbound.set_phase(Phase::Connected);
                shared.set_state(ReconnectState::Open);
                let closed = carry(shared, socket, reconnect.close_timeout()).await?;
                shared.outbound.set_phase(Phase::Waiting);
                lasted = opened.elapsed() >= reconnect.backoff.reset_after;
                Interruption::Closed(closed)
            }
            Err(why) => why,
        };
        failures = if lasted { 0 } else { failures.saturating_add(1) };
        let exhausted = reconnect.max_attempts.is_some_and(|max| failures >= max);
        if exhausted || !(reconnect.judge)(&why) {
            return Some(why);
        }
        let hint = why.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
        let delay = reconnect.backoff.delay(failures, hint);
        tracing::debug!(%why, failures, ?delay, "reconnecting");
        shared.set_state(ReconnectState::Waiting { attempt: failures.saturating_add(1), delay, why });
        tokio::select! {
            biased;
            _ = shared.asked_to_close() => return None,
            () = sleep(delay) => {}
        }
    }
}

/// Opens one connection, and calls the hooks. Each step has the client's `connect_timeout`.
async fn attempt(reconnect: &mut Reconnect) -> Result<WebSocket, Interruption> {
    let Reconnect { target, resume, on_attempt, connector, on_response, on_connect, .. } = reconnect;
    let place = resume.as_mut().and_then(|(name, hook)| Some((&*name, hook()?)));
    let target =
        &place.map_or(Cow::Borrowed(&*target), |(name, value)| Cow::Owned(target.with(name, &value)));
    let mut client = reconnect.client.clone();
    if let Some(hook) = on_attempt {
        let original = client.clone();
        client = original.in_time(async { Ok(hook(client).await) }).await?.map_err(Interruption::hook)?;
    }
    let (mut socket, response) = match connector {
        None => client.connect_to(target).await?,
        Some(connector) => {
            let open = async {
                let stream = connector().await.map_err(ConnectError::Connect)?;
                client.open(target, Transport::Other(stream)).await
            };
            client.in_time(open).await?
        }
    };
    if let Some(hook) = on_response {
        hook(&response);
    }
    if let Some(hook) = on_connect {
        socket = client.in_time(async { Ok(hook(socket).await) }).await?.map_err(Interruption::hook)?;
    }
    Ok(socket)
}

/// Carries messages between the user and a connection until it ends; `None` if the user closed it.
async fn carry(shared: &Shared, socket: WebSocket, close_timeout: Duration) -> Option<Closed> {
    let (sender, mut receiver) = socket.split();
    tokio::select! {
        biased;
        frame = shared.asked_to_close() => {
            close(shared, &sender, frame, close_timeout).await;
            None
        }
        never = send(shared, &sender) => match never {},
        closed = receive(shared, &sender, &mut receiver) => Some(closed),
    }
}

/// Sends queued messages over the connection, in order. A message leaves the queue when the connection has taken it.
async fn send(shared: &Shared, sender: &Sender) -> Infallible {
    loop {
        let message = shared.outbound.wait_first().await;
        if sender.send(message).await.is_err() {
            // nobody waits for space any more: this connection takes no messages
            shared.outbound.set_phase(Phase::Waiting);
            return pending().await;
        }
        shared.outbound.remove_first();
        // lets the rest of the task run, even if messages never run out
        consume_budget().await;
    }
}

/// Queues the messages of the connection; returns how it ended.
async fn receive(shared: &Shared, sender: &Sender, receiver: &mut Receiver) -> Closed {
    loop {
        match receiver.recv().await {
            Some(Ok(message)) => {
                shared.inbound.deliver(message);
                // waits only above the bounds, so that it sees the end of the connection also with a full queue
                shared.inbound.within_bounds().await;
                consume_budget().await;
            }
            // the code of the Close frame says what the error was
            Some(Err(_)) | None => return sender.closed().await,
        }
    }
}

/// Sends the queued messages and closes the connection.
async fn close(shared: &Shared, sender: &Sender, frame: CloseFrame, close_timeout: Duration) {
    let rest = async {
        while let Some(message) = shared.outbound.first() {
            if sender.send(message).await.is_err() {
                break;
            }
            shared.outbound.remove_first();
        }
    };
    // messages that the server does not take in this time are dropped
    let _ = timeout(close_timeout, rest).await;
    // an error changes nothing: the connection has ended
    let _ = sender.close_with(frame).await;
}
