//! A server that pushes a greeting to each client every two seconds. The handler only sends. Meanwhile the connection answers
//! pings and Close frames at once, and notices a client that disappears.
//!
//! `cargo run --example hello_push`, then open the address that it prints. `-- 127.0.0.1:9000` changes the address, and
//! port 0 takes a free port. Press Ctrl-C and start it again: the page reconnects.

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
    // the client has nothing to say; without a receiver, its messages are dropped
    let (sender, _) = socket.split();
    let mut ticks = interval(Duration::from_secs(2));
    // `send` waits for a client that does not read; later that client gets the next greeting, not all that it missed
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1_u64.. {
        ticks.tick().await;
        // fails when the connection is over, so the handler ends at most two seconds after it
        sender.send(format!("Hello, number {number}")).await?;
    }
    Ok(())
}
