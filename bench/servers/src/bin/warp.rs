//! warp with its own filter `ws`; the broadcast is that of its example `websockets_chat`. Nothing is tuned but the limits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{RwLock, mpsc};
use warp::Filter as _;
use warp::ws::{Message, WebSocket, Ws};
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};

/// Who is connected: by number, with a queue for each.
type Users = Arc<RwLock<HashMap<usize, mpsc::UnboundedSender<Message>>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let users = Users::default();
    let echo = warp::path!("echo").and(warp::ws()).map(|upgrade| limited(upgrade).on_upgrade(echo));
    let broadcast = warp::path!("broadcast").and(warp::ws()).map(move |upgrade| {
        let users = users.clone();
        limited(upgrade).on_upgrade(|socket| broadcast(socket, users))
    });

    warp::serve(echo.or(broadcast)).incoming(listen()?).run().await;
    Ok(())
}

fn limited(upgrade: Ws) -> Ws {
    upgrade.max_message_size(MAX_MESSAGE_SIZE).max_frame_size(MAX_MESSAGE_SIZE)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn broadcast(socket: WebSocket, users: Users) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);

    let (mut sink, mut stream) = socket.split();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
    });

    users.write().await.insert(id, sender);
    while let Some(Ok(message)) = stream.next().await {
        if message.is_text() || message.is_binary() {
            for user in users.read().await.values() {
                // whose connection is over is about to leave
                let _ = user.send(message.clone());
            }
        }
    }
    users.write().await.remove(&id);
}
