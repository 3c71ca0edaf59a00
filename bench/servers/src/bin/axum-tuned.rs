//! As `axum`, tuned for little memory as far as its documentation goes, and messages stay as fast as without, but for long
//! ones: the read buffer, which tungstenite recommends to make small for many connections, has 1 KiB in place of 128 KiB,
//! and a message is written when it is sent.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::broadcast;
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/echo", any(async |upgrade| tuned(upgrade).on_upgrade(echo)))
        .route("/broadcast", any(broadcast_handler))
        .with_state(broadcast::Sender::new(100));

    axum::serve(listen()?, app).await
}

fn tuned(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_SIZE)
        .max_frame_size(MAX_MESSAGE_SIZE)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(_) | Message::Binary(_) = message
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

async fn broadcast_handler(
    upgrade: WebSocketUpgrade,
    State(sender): State<broadcast::Sender<Message>>,
) -> Response {
    tuned(upgrade).on_upgrade(|socket| broadcast(socket, sender))
}

async fn broadcast(socket: WebSocket, sender: broadcast::Sender<Message>) {
    let mut receiver = sender.subscribe();
    let (mut sink, mut stream) = socket.split();
    let mut send_task = tokio::spawn(async move {
        while let Ok(message) = receiver.recv().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut recv_task = tokio::spawn(async move {
        while let Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) = stream.next().await {
            let _ = sender.send(message);
        }
    });
    tokio::select! {
        _ = &mut send_task => recv_task.abort(),
        _ = &mut recv_task => send_task.abort(),
    }
}
