//! JSON, in and out: the client sends a user, the server registers it and answers with the user that it made of it. What
//! is no user gets an error that names line and column, and the connection goes on.
//!
//! `cargo run --example json`, then open the address that it prints. `-- 127.0.0.1:9000` listens elsewhere, port 0 on a
//! free one.

use axum::routing::any;
use serde::{Deserialize, Serialize};
use ws_axum::{Drain, Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener, page};

#[derive(Deserialize, Serialize)]
struct User {
    /// Given by the server, whatever the client says.
    #[serde(skip_deserializing)]
    id: u64,
    name: String,
    age: Option<u8>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    User(User),
    Problem { error: String },
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // no user is longer than that; who sends more is sent away with 1009
    let layer = WebSocketLayer::new().max_message_size(4096);
    let connections = layer.connections();
    let app = page(include_str!("index.html"))
        .route("/users", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(register)))
        .layer(layer);

    axum::serve(listener("ws", "/users").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            connections.drain(Drain::new()).await;
        })
        .await
}

async fn register(mut socket: WebSocket) -> Result<(), Error> {
    let mut users = 0;
    while let Some(user) = socket.recv_json::<User>().await {
        let answer = match user {
            Ok(user) => {
                users += 1;
                Answer::User(User { id: users, ..user })
            }
            // the message is at fault, and not the connection
            Err(error) if error.is_json() => Answer::Problem { error: error.to_string() },
            Err(error) => return Err(error),
        };
        socket.send_json(&answer).await?;
    }
    Ok(())
}
