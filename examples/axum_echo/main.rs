//! The echo server on axum: the same program as `warp_echo` and `hyper_echo`.
//!
//! `cargo run --example axum_echo`. `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port.

use axum::Router;
use axum::routing::any;
use ws_axum::{Drain, Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app = Router::new()
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .layer(layer);

    axum::serve(listener("ws", "/echo").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            connections.drain(Drain::new()).await;
        })
        .await
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
