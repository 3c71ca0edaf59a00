//! This project's library on axum, as in its README; the broadcast is of `ws-hub`. Nothing is tuned but the limits.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::any;
use ws_axum::{Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};
use ws_hub::Hub;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let hub = Hub::builder().queue(100, 2 * MAX_MESSAGE_SIZE).build();
    let app = Router::new()
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .route(
            "/broadcast",
            any(async |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| broadcast(&hub, socket).await)
            }),
        )
        .layer(WebSocketLayer::new().max_message_size(MAX_MESSAGE_SIZE).max_frame_size(MAX_MESSAGE_SIZE));

    axum::serve(listen()?, app).await
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

/// Each connection is a user of its own.
async fn broadcast(hub: &Hub<u64>, socket: WebSocket) -> Result<(), ws_hub::Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let user = NEXT.fetch_add(1, Ordering::Relaxed);
    hub.attach_with(user, socket, async |mut member| {
        while let Some(message) = member.recv().await {
            hub.broadcast(message?).await;
        }
        Ok::<_, Error>(())
    })
    .await
}
