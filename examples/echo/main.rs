//! An echo server, with a page to try it: connect, send text or a file, watch round trips and close codes.
//!
//! `cargo run --example echo`, then open the address that it prints. `-- 127.0.0.1:9000` changes the address, and
//! port 0 takes a free port. Ctrl-C closes the connections with 1001, and ends.

use std::time::Duration;

use axum::routing::any;
use tracing_subscriber::EnvFilter;
use ws_axum::{Drain, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener, page};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,ws_core=debug".into()))
        .with_writer(std::io::stderr)
        .init();

    let layer = WebSocketLayer::new().protocols(["echo", "json"]);
    let connections = layer.connections();
    let app = page(include_str!("index.html"))
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .layer(layer);

    // the drain comes first, because axum's own shutdown does not know WebSockets
    axum::serve(listener("ws", "/echo").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            connections.drain(Drain::new().timeout(Duration::from_secs(5))).await;
        })
        .await
}

async fn echo(mut socket: WebSocket) -> Result<(), ws_axum::Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
