//! This project's library on axum, as in its README; what goes to all, or to a user by id, is of `ws-hub`. Nothing is tuned
//! but the limits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Path;
use axum::routing::any;
use ws_axum::{Error, Sender, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};
use ws_hub::Hub;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let senders = Arc::<Senders>::default();
    let hub = Hub::builder().queue(100, 2 * MAX_MESSAGE_SIZE).build();
    let app = Router::new()
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .route(
            "/broadcast",
            any({
                let hub = hub.clone();
                async |upgrade: WebSocketUpgrade| {
                    upgrade.on_upgrade(async move |socket| broadcast(&hub, socket).await)
                }
            }),
        )
        .route(
            "/user/{id}",
            any(async |Path(id): Path<u64>, upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| to_user(&hub, id, socket).await)
            }),
        )
        .route(
            "/socket/{id}",
            any(async |Path(id): Path<u64>, upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |socket| to_socket(&senders, id, socket).await)
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

/// Sends what comes to the other user of a pair.
async fn to_user(hub: &Hub<u64>, id: u64, socket: WebSocket) -> Result<(), ws_hub::Error> {
    hub.attach_with(id, socket, async |mut member| {
        while let Some(message) = member.recv().await {
            let _ = hub.send(&(id ^ 1), message?).await;
        }
        Ok::<_, Error>(())
    })
    .await
}

type Senders = Mutex<HashMap<u64, Sender>>;

/// The same, on the socket itself.
async fn to_socket(senders: &Senders, id: u64, mut socket: WebSocket) -> Result<(), Error> {
    let of = |id| senders.lock().expect("nobody panics").get(&id).cloned();
    senders.lock().expect("nobody panics").insert(id, socket.sender());
    let mut other = None;
    while let Some(message) = socket.recv().await {
        let message = message?;
        if other.is_none() {
            other = of(id ^ 1);
        }
        if let Some(other) = &other {
            other.send(message).await?;
        }
    }
    Ok(())
}
