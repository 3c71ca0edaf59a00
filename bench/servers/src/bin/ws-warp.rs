//! This project's library on warp, as in its README. Nothing is tuned but the limits.

use warp::Filter as _;
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};
use ws_warp::{Error, WebSocket, WebSocketLayer, WebSocketUpgrade};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let layer = WebSocketLayer::new().max_message_size(MAX_MESSAGE_SIZE).max_frame_size(MAX_MESSAGE_SIZE);
    let app = warp::path!("echo")
        .and(ws_warp::websocket(layer))
        .map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo));

    warp::serve(app).incoming(listen()?).run().await;
    Ok(())
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
