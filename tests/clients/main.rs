//! WebSocket clients that others wrote: Python's `websockets`, npm's `ws` and `undici`, and tokio-tungstenite; and in
//! `servers`, their servers and our client.
//!
//! Each case is a server, and a function of the same name in `client.py` and in `client.cjs`, which asserts what the
//! client sees. They need a Python that has `websockets` (`WS_TESTS_PYTHON` names it, by default `python3`), and `ws`
//! and `undici` where Node.js looks (`NODE_PATH`); `scripts/test` sees to both.

#[path = "../support/mod.rs"]
mod support;

mod servers;
mod tungstenite;
mod undici;

use std::env;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use support::{Process, Server};
use tokio::sync::Semaphore;
use ws_axum::{
    CloseFrame, ConnectionId, Drain, Error, Observer, WebSocket, WebSocketLayer, WebSocketUpgrade,
};

/// A library, by the script that uses it.
#[derive(Clone, Copy)]
enum Library {
    Python,
    Node,
}

impl Library {
    /// Its script of this name.
    fn script(self, name: &str) -> Command {
        let (program, kind) = match self {
            Self::Python => (env::var_os("WS_TESTS_PYTHON").unwrap_or_else(|| "python3".into()), "py"),
            Self::Node => ("node".into(), "cjs"),
        };
        let mut command = Command::new(program);
        command.arg(format!("{}/clients/{name}.{kind}", env!("CARGO_MANIFEST_DIR")));
        command
    }

    /// Starts the case `case` against `server`.
    fn start(self, case: &str, server: &Server) -> Process {
        let mut command = self.script("client");
        Process::start(command.args([case, &server.url("ws", "")]))
    }

    /// Runs the case `case` against `server`, to its good end.
    fn run(self, case: &str, server: &Server) {
        let (status, said) = self.start(case, server).finish();
        assert!(status.success(), "{case}: {status}: {said:?}");
    }
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

/// A server that echoes at `/echo`.
fn echo_server(layer: WebSocketLayer) -> Server {
    let echo = any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo));
    Server::start(Router::new().route("/echo", echo).layer(layer))
}

/// Makes a test of each function below, for each library.
macro_rules! for_each_library {
    ($($case:ident)*) => {
        mod python {
            $(#[test] fn $case() { super::$case(super::Library::Python); })*
        }

        mod node {
            $(#[test] fn $case() { super::$case(super::Library::Node); })*
        }
    };
}
pub(crate) use for_each_library;

for_each_library! {
    messages_of_every_size
    fragments
    pings
    pipelined
    subprotocols
    offered_compression
    refusals
    no_slot
    the_client_closes
    the_server_closes
    drain
    the_client_answers_pings
    keepalive
}

/// Text and binary, empty, non-ASCII, around the lengths where a frame's header grows, and 900 KB.
fn messages_of_every_size(client: Library) {
    client.run("messages_of_every_size", &echo_server(WebSocketLayer::new()));
}

/// Messages in several frames, with pings between them.
fn fragments(client: Library) {
    client.run("fragments", &echo_server(WebSocketLayer::new()));
}

/// The client's pings, with payloads of 0 to 125 bytes.
fn pings(client: Library) {
    client.run("pings", &echo_server(WebSocketLayer::new()));
}

/// 1,000 messages before the first answer is read.
fn pipelined(client: Library) {
    client.run("pipelined", &echo_server(WebSocketLayer::new()));
}

/// The server's preference decides; where nothing fits, none is chosen.
fn subprotocols(client: Library) {
    client.run("subprotocols", &echo_server(WebSocketLayer::new().protocols(["a", "b"])));
}

/// Both libraries offer permessage-deflate, and do without; `/offer` says what it was offered.
fn offered_compression(client: Library) {
    let offer = any(async |upgrade: WebSocketUpgrade| {
        let offer = upgrade.head().headers.get("sec-websocket-extensions").cloned();
        upgrade.on_upgrade(async move |mut socket| {
            let offer = offer.as_ref().and_then(|offer| offer.to_str().ok()).unwrap_or("nothing");
            socket.send(offer).await
        })
    });
    let server = Server::start(Router::new().route("/offer", offer).layer(WebSocketLayer::new()));
    client.run("offered_compression", &server);
}

/// A foreign origin, and a version that is not 13.
fn refusals(client: Library) {
    client.run("refusals", &echo_server(WebSocketLayer::new()));
}

/// The limit of connections is reached.
fn no_slot(client: Library) {
    client.run("no_slot", &echo_server(WebSocketLayer::new().max_connections(1)));
}

/// The client closes with 4002, and the handler learns it.
fn the_client_closes(client: Library) {
    let (sender, frames) = mpsc::channel();
    let report = async move |mut socket: WebSocket| {
        assert!(socket.recv().await.is_none());
        sender.send(socket.close_frame()).expect("the test listens");
    };
    let app = Router::new().route_service("/report", ws_axum::service(report)).layer(WebSocketLayer::new());
    client.run("the_client_closes", &Server::start(app));
    assert_eq!(frames.recv_timeout(support::DEADLINE), Ok(Some(CloseFrame::new(4002, "see you"))));
}

/// The server closes: as the handler says, when it returns, when it fails, and when a message is too big.
fn the_server_closes(client: Library) {
    let bye = async |mut socket: WebSocket| socket.close(4001, "bye").await.map(drop);
    let app = Router::new()
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .route_service("/says-bye", ws_axum::service(bye))
        .route_service("/returns", ws_axum::service(async |socket: WebSocket| drop(socket)))
        .route_service("/fails", ws_axum::service(async |_: WebSocket| Err::<(), _>("no database")))
        .layer(WebSocketLayer::new().max_message_size(1000));
    client.run("the_server_closes", &Server::start(app));
}

/// The server drains: 1001 for those who are there, 503 for those who come.
fn drain(client: Library) {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let server = echo_server(layer);
    let client = client.start("drain", &server);
    client.find(|line| (line == "connected").then_some(()));
    let drained = server.block_on(connections.drain(Drain::new()));
    assert_eq!((drained.closed, drained.aborted), (1, 0));
    let (status, said) = client.finish();
    assert!(status.success(), "{status}: {said:?}");
}

/// The handler pings, and the client's library answers.
fn the_client_answers_pings(client: Library) {
    let ping = async |mut socket: WebSocket| -> Result<(), Error> {
        for _ in 0..3 {
            let round_trip = socket.ping().await?;
            socket.send(format!("{} µs", round_trip.as_micros())).await?;
        }
        Ok(())
    };
    let app = Router::new().route_service("/ping", ws_axum::service(ping)).layer(WebSocketLayer::new());
    client.run("the_client_answers_pings", &Server::start(app));
}

/// Counts pongs.
struct Pongs(Arc<Semaphore>);

impl Observer for Pongs {
    fn on_pong(&self, _: ConnectionId, _: Duration) {
        self.0.add_permits(1);
    }
}

/// Keepalive pings a client that is silent, and the client's library answers.
fn keepalive(client: Library) {
    let pongs = Arc::new(Semaphore::new(0));
    let layer =
        WebSocketLayer::new().ping_interval(Duration::from_millis(50)).observer(Pongs(Arc::clone(&pongs)));
    let answered = async move |mut socket: WebSocket| -> Result<(), Error> {
        pongs.acquire_many(3).await.expect("nobody closes it").forget();
        socket.close(4000, "three pongs").await.map(drop)
    };
    let app = Router::new().route_service("/silence", ws_axum::service(answered)).layer(layer);
    client.run("keepalive", &Server::start(app));
}
