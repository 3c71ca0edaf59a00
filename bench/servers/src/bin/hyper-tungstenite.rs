//! `hyper-tungstenite`, as in its example `server`. Nothing is tuned but the limits.

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_tungstenite::HyperWebsocket;
use hyper_tungstenite::tungstenite::error::ProtocolError;
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_tungstenite::tungstenite::{Error, Message};
use ws_bench_servers::{MAX_MESSAGE_SIZE, serve_http1};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    serve_http1(upgrade).await
}

async fn upgrade(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, ProtocolError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_SIZE))
        .max_frame_size(Some(MAX_MESSAGE_SIZE));
    let (response, socket) = hyper_tungstenite::upgrade(&mut request, Some(config))?;
    tokio::spawn(echo(socket));
    Ok(response)
}

async fn echo(socket: HyperWebsocket) -> Result<(), Error> {
    let mut socket = socket.await?;
    while let Some(message) = socket.next().await {
        if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}
