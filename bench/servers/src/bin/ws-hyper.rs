//! This project's library on hyper, as in its README. Nothing is tuned but the limits.

use tower_layer::Layer as _;
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};
use ws_hyper::{Error, WebSocket, WebSocketLayer};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = WebSocketLayer::new()
        .max_message_size(MAX_MESSAGE_SIZE)
        .max_frame_size(MAX_MESSAGE_SIZE)
        .layer(ws_hyper::service(echo));

    ws_hyper::serve(listen()?, app).await
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
