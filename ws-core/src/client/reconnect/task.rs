//! The task of a connection that comes back: connect, carry messages, wait, and again.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::consume_budget;
use tokio::time::{Instant, sleep, timeout};

use super::queue::Phase;
use super::socket::Shared;
use super::state::{Interruption, ReconnectState};
use super::{MAX_RETRY_AFTER, Reconnect};
use crate::client::ConnectError;
use crate::close::{CloseFrame, Closed};
use crate::connection::{Receiver, Sender, Transport, WebSocket};

/// Runs until it is over for good.
pub(super) async fn run(mut reconnect: Reconnect, shared: Arc<Shared>) {
    let end = End(&shared);
    let why = repeat(&mut reconnect, &shared).await;
    if let Some(why) = &why {
        tracing::debug!(%why, "not reconnecting");
    }
    shared.end(ReconnectState::Ended { why });
    drop(end);
}

/// Says that it is over when the task is, even if a hook has panicked or the runtime is gone.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end(ReconnectState::Ended { why: None });
    }
}

/// One connection after the other. Returns what it does not come back after; `None` if it was asked to close.
async fn repeat(reconnect: &mut Reconnect, shared: &Shared) -> Option<Interruption> {
    // attempts in a row that did not come to a connection that has lasted
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
        let delay = reconnect.backoff.delay(failures).max(hint);
        tracing::debug!(%why, failures, ?delay, "reconnecting");
        shared.set_state(ReconnectState::Waiting { attempt: failures.saturating_add(1), delay, why });
        tokio::select! {
            biased;
            _ = shared.asked_to_close() => return None,
            () = sleep(delay) => {}
        }
    }
}

/// Opens one connection, with its hooks. Each of them has the client's `connect_timeout`.
async fn attempt(reconnect: &mut Reconnect) -> Result<WebSocket, Interruption> {
    let Reconnect { target, on_attempt, connector, on_connect, .. } = reconnect;
    let mut client = reconnect.client.clone();
    if let Some(hook) = on_attempt {
        let original = client.clone();
        client = original.in_time(async { Ok(hook(client).await) }).await?.map_err(Interruption::hook)?;
    }
    let mut socket = match connector {
        None => client.connect_to(target).await?,
        Some(connector) => {
            let open = async {
                let stream = connector().await.map_err(ConnectError::Connect)?;
                client.open(target, Transport::Other(stream)).await
            };
            client.in_time(open).await?
        }
    };
    if let Some(hook) = on_connect {
        socket = client.in_time(async { Ok(hook(socket).await) }).await?.map_err(Interruption::hook)?;
    }
    Ok(socket)
}

/// Carries messages between the user and a connection until that ends; `None` if it was asked to close.
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

/// Hands what is queued to the connection, in order. A message leaves the queue in the moment in which the connection
/// has taken it.
async fn send(shared: &Shared, sender: &Sender) -> Infallible {
    loop {
        let message = shared.outbound.wait_first().await;
        if sender.send(message).await.is_err() {
            // nobody is to wait for room that this connection does not make
            shared.outbound.set_phase(Phase::Waiting);
            return pending().await;
        }
        shared.outbound.remove_first();
        // one who sends without end is not to keep the task from all else
        consume_budget().await;
    }
}

/// Takes all that comes from the connection; returns how it ended.
async fn receive(shared: &Shared, sender: &Sender, receiver: &mut Receiver) -> Closed {
    loop {
        match receiver.recv().await {
            Some(Ok(message)) => {
                shared.inbound.deliver(message);
                // only from one too many on, so that the end of the connection is seen also when the queue is full
                shared.inbound.within_bounds().await;
                consume_budget().await;
            }
            // what is wrong with it is in the code that it was closed with
            Some(Err(_)) | None => return sender.closed().await,
        }
    }
}

/// Closes the connection, after what is queued.
async fn close(shared: &Shared, sender: &Sender, frame: CloseFrame, close_timeout: Duration) {
    let rest = async {
        while let Some(message) = shared.outbound.first() {
            if sender.send(message).await.is_err() {
                break;
            }
            shared.outbound.remove_first();
        }
    };
    // what a server does not take in this time it does not get
    let _ = timeout(close_timeout, rest).await;
    // whichever way it ends, it is over
    let _ = sender.close_with(frame).await;
}
