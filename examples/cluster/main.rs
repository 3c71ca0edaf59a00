//! Three nodes that share a Redis, one page that shows them, and a button that kills one.
//!
//! `cargo run --example cluster`, and open the address that it prints. The program starts a `redis-server` in a temporary
//! directory, and three processes of its own executable: the nodes. Each window of the page is a user with a connection to one
//! of the nodes. Send yourself 60 messages, which go through one node after the other, and kill the node that you are connected
//! to: the page goes to another node, says the position of the last message that it has, and gets what came after it.
//! Each message is there once, in order.
//!
//! `-- 127.0.0.1:9000` changes the address of the page, and port 0 takes a free port. The nodes take free ports of 127.0.0.1,
//! so the page is for a browser on this machine. Ctrl-C ends all of it, and removes the directory. It needs `redis-server`, of
//! the package of that name on Debian, and a shell.
//!
//! What is where:
//!
//! - `node.rs`: a node, which is what an application is on each of its machines. The page has its WebSocket there.
//! - `nodes.rs`: starts nodes and kills them, and passes messages on to them. In an application, any code with the hub sends.
//! - `redis.rs`: starts Redis.
//! - this file: what the page sees of the nodes, over a WebSocket of its own.

mod node;
mod nodes;
mod redis;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};
use ws_axum::{Drain, Error, Message, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::session::{SessionKey, session};
use ws_examples::{ctrl_c, listener, page};

use node::{Fate, Push};
use nodes::Nodes;
use redis::Redis;

/// How many messages a burst has, and how long it waits before each, so that a node can be killed in the middle.
const BURST: u64 = 60;
const PACE: Duration = Duration::from_millis(50);

/// What the page asks for. Nodes are counted from 0.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// Start a node again.
    Start { node: usize },
    /// End it as `kill -9` does.
    Kill { node: usize },
    /// Send a message to a user through this node.
    Send { node: usize, user: String, text: String },
    /// Send numbered messages to a user, through one node after the other.
    Burst { user: String },
}

#[tokio::main]
async fn main() -> ExitCode {
    // a node is this program, too, started by `nodes.rs`
    let is_node = std::env::args().nth(2).is_some_and(|role| role == nodes::ROLE);
    let end = if is_node { node::run().await } else { run().await };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let key = [(); 4].map(|()| format!("{:032x}", rand::random::<u128>())).concat();
    let sessions = SessionKey::from_hex(&key)?;
    let redis = Redis::start().await?;
    let nodes = Arc::new(Nodes::start(redis.url(), key).await?);

    let layer = WebSocketLayer::new().max_message_size(16 * 1024);
    let connections = layer.connections();
    let control = {
        let nodes = Arc::clone(&nodes);
        any(async move |upgrade: WebSocketUpgrade| upgrade.on_upgrade(|socket| control(nodes, socket)))
    };
    let app = page(include_str!("index.html"))
        .route("/control", control)
        // each window has a directory, and so a cookie and a user, of its own
        .nest("/w/{window}", Router::new().route("/session", session()).with_state(sessions))
        .layer(layer);
    axum::serve(listener("ws", "/control").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            tokio::join!(nodes.end(), connections.drain(Drain::new()));
        })
        .await?;
    redis.end().await;
    Ok(())
}

/// Shows one page the nodes whenever something has changed, and does what it asks for.
async fn control(nodes: Arc<Nodes>, mut socket: WebSocket) -> Result<(), Error> {
    let mut states = nodes.states();
    states.mark_changed();
    loop {
        tokio::select! {
            Ok(()) = states.changed() => {
                let states = states.borrow_and_update().clone();
                socket.send(Message::json(&states)?).await?;
            }
            request = socket.recv_json() => match request {
                // a burst takes a while, and a node may have to be killed meanwhile
                Some(Ok(request)) => drop(tokio::spawn(answer(Arc::clone(&nodes), request))),
                // the message is wrong, not the connection
                Some(Err(error)) if error.is_json() => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

async fn answer(nodes: Arc<Nodes>, request: Request) {
    match request {
        Request::Start { node } => nodes.restart(node).await,
        Request::Kill { node } => nodes.kill(node).await,
        Request::Send { node, user, text } => drop(nodes.push(node, Push::new(user, text)).await),
        Request::Burst { user } => burst(&nodes, &user).await,
    }
}

/// Sends numbered messages to a user. One that a node has not answered, perhaps because it was killed, is sent again through
/// the next one: the id says that it is the same message, so it is written once.
async fn burst(nodes: &Nodes, user: &str) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = 0;
    for number in 1..=BURST {
        let push = Push::new(user.to_owned(), format!("{number} of {BURST}"));
        loop {
            pace.tick().await;
            next += 1;
            if nodes.push(next % nodes::COUNT, push.clone()).await.is_ok_and(Fate::is_accepted) {
                break;
            }
        }
    }
}
