//! Tests of a client that reconnects.

mod attempts;
mod messages;
mod resume;
mod streams;

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use ws_core::client::{Client, Interruption, Reconnect, ReconnectState, ReconnectingWebSocket, States};
use ws_core::{WebSocket, WebSocketLayer, testing};

use crate::support::{URL, accept, pipe, read_head};

/// The servers' ends of the connections, one after the other.
struct Servers(mpsc::UnboundedReceiver<DuplexStream>);

impl Servers {
    /// The next attempt.
    async fn next(&mut self) -> DuplexStream {
        self.0.recv().await.expect("an attempt")
    }

    /// The next attempt, accepted: the server's socket.
    async fn accept(&mut self) -> WebSocket {
        self.accept_by(&WebSocketLayer::new()).await.1
    }

    /// As `accept`, with the request.
    async fn accept_by(&mut self, layer: &WebSocketLayer) -> (String, WebSocket) {
        let mut stream = self.next().await;
        let head = accept(&mut stream).await;
        let (sender, socket) = oneshot::channel();
        tokio::spawn(testing::accept(layer, stream, async move |socket: WebSocket| {
            sender.send(socket).expect("the test waits for it");
        }));
        (head, socket.await.expect("a connection"))
    }

    /// Answers the next attempt with these bytes.
    async fn answer(&mut self, response: &str) {
        let mut stream = self.next().await;
        read_head(&mut stream).await;
        stream.write_all(response.as_bytes()).await.expect("a client that reads");
    }
}

/// A connection to servers in memory.
fn start_with(
    client: &Client,
    configure: impl FnOnce(Reconnect) -> Reconnect,
) -> (ReconnectingWebSocket, Servers) {
    let (sender, servers) = mpsc::unbounded_channel();
    let reconnect = client.reconnecting(URL).over(move || {
        let (server, stream) = pipe();
        let _ = sender.send(server);
        async { Ok(stream) }
    });
    (configure(reconnect).start(), Servers(servers))
}

fn start(configure: impl FnOnce(Reconnect) -> Reconnect) -> (ReconnectingWebSocket, Servers) {
    start_with(&Client::new(), configure)
}

/// The next state in which the client waits: its attempt, its delay, and its cause.
async fn waiting(states: &mut States) -> (u32, Duration, Interruption) {
    loop {
        match states.changed().await {
            Some(ReconnectState::Waiting { attempt, delay, why, .. }) => return (attempt, delay, why),
            Some(ReconnectState::Ended { .. }) | None => panic!("it has ended"),
            Some(_) => {}
        }
    }
}

async fn opened(states: &mut States) {
    while !states.changed().await.expect("not the end").is_open() {}
}

/// Why it has ended.
async fn ended(states: &mut States) -> Option<Interruption> {
    loop {
        if let ReconnectState::Ended { why, .. } = states.changed().await.expect("the end") {
            return why;
        }
    }
}

async fn text(socket: &mut WebSocket) -> String {
    socket.recv().await.unwrap().unwrap().as_text().unwrap().to_owned()
}

/// Waits for the beginning of an attempt.
async fn opened_attempt(states: &mut States) {
    while !matches!(states.changed().await, Some(ReconnectState::Connecting { .. })) {}
}

fn refused(retry_after: &str) -> String {
    format!("HTTP/1.1 503 X\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n")
}
