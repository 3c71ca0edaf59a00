//! The app of axum's own extractor, as in the documentation of `axum::extract::ws`; the broadcast is that of its example
//! `chat`.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::broadcast;

use crate::{MAX_MESSAGE_SIZE, listen};

/// What is set for a connection before it is upgraded.
type Tune = fn(WebSocketUpgrade) -> WebSocketUpgrade;

/// Serves with the limits of all servers, and what `tune` sets besides.
///
/// # Errors
///
/// If no port is to be had.
pub async fn serve(tune: Tune) -> std::io::Result<()> {
    let app = Router::new()
        .route("/echo", any(async move |upgrade| limited(upgrade, tune).on_upgrade(echo)))
        .route("/broadcast", any(async move |upgrade, state| broadcast_handler(upgrade, state, tune)))
        .with_state(broadcast::Sender::new(100));

    axum::serve(listen()?, app).await
}

fn limited(upgrade: WebSocketUpgrade, tune: Tune) -> WebSocketUpgrade {
    tune(upgrade).max_message_size(MAX_MESSAGE_SIZE).max_frame_size(MAX_MESSAGE_SIZE)
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

fn broadcast_handler(
    upgrade: WebSocketUpgrade,
    State(sender): State<broadcast::Sender<Message>>,
    tune: Tune,
) -> Response {
    limited(upgrade, tune).on_upgrade(|socket| broadcast(socket, sender))
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
