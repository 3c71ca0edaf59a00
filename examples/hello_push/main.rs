//! A server that pushes: a greeting every two seconds to whoever is connected. The handler only sends: behind it, pings
//! and Close frames are answered at once, and a client that has gone without a word is found.
//!
//! `cargo run --example hello_push`, then open the address that it prints. `-- 127.0.0.1:9000` listens elsewhere, port 0
//! on a free one. Press Ctrl-C, start it again, and the page is back.

use std::time::Duration;

use axum::routing::any;
use tokio::time::{MissedTickBehavior, interval};
use ws_axum::{Drain, Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener, page};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app = page(include_str!("index.html"))
        .route("/hello", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(greet)))
        .layer(layer);

    axum::serve(listener("ws", "/hello").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            connections.drain(Drain::new()).await;
        })
        .await
}

async fn greet(socket: WebSocket) -> Result<(), Error> {
    // nothing is expected of the client: without a receiver, what it says all the same is dropped
    let (sender, _) = socket.split();
    let mut ticks = interval(Duration::from_secs(2));
    // `send` waits for a client that does not read; it then gets the next greeting, not at once all that it has missed
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1_u64.. {
        ticks.tick().await;
        // fails when the connection is over: the handler ends with it, at most two seconds later
        sender.send(format!("Hello, number {number}")).await?;
    }
    Ok(())
}
