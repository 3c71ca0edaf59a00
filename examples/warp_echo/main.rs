//! The echo server on warp: the same program as `axum_echo` and `hyper_echo`.
//!
//! `cargo run --example warp_echo`. `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port.

use warp::Filter;
use ws_examples::{ctrl_c, listener};
use ws_warp::{Drain, Error, WebSocket, WebSocketLayer, WebSocketUpgrade, websocket};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app =
        warp::path!("echo").and(websocket(layer)).map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo));

    warp::serve(app)
        .incoming(listener("ws", "/echo").await?)
        .graceful(async move {
            ctrl_c().await;
            connections.drain(Drain::new()).await;
        })
        .run()
        .await;
    Ok(())
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
