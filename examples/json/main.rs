//! JSON in both directions: the client sends a user, and the server registers them and answers with the registered user. The
//! answer to any other message is an error that names line and column, and the connection stays open.
//!
//! `cargo run --example json`, then open the address that it prints. `-- 127.0.0.1:9000` changes the address, and port 0
//! takes a free port.

use axum::routing::any;
use serde::{Deserialize, Serialize};
use ws_axum::{Drain, Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener, page};

#[derive(Deserialize, Serialize)]
struct User {
    /// Set by the server. What the client sends is ignored.
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
    // no user is longer than that; a longer message closes the connection with 1009
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
            // the message is wrong, not the connection
            Err(error) if error.is_json() => Answer::Problem { error: error.to_string() },
            Err(error) => return Err(error),
        };
        socket.send_json(&answer).await?;
    }
    Ok(())
}
