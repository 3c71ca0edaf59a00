//! `tokio-tungstenite`, as in its example `echo-server`; the broadcast is that of its example `server`. Nothing is tuned
//! but the limits.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::mpsc::{UnboundedSender, unbounded};
use futures_util::future::{ready, select};
use futures_util::stream::TryStreamExt as _;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};

type PeerMap = Arc<Mutex<HashMap<SocketAddr, UnboundedSender<Message>>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let peers = PeerMap::default();
    let listener = listen()?;
    loop {
        let (stream, address) = listener.accept().await?;
        tokio::spawn(serve(stream, address, peers.clone()));
    }
}

async fn serve(stream: TcpStream, address: SocketAddr, peers: PeerMap) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_SIZE))
        .max_frame_size(Some(MAX_MESSAGE_SIZE));
    let mut is_broadcast = false;
    #[expect(clippy::result_large_err, reason = "the callback is of the type that tungstenite wants")]
    let path = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        is_broadcast = request.uri().path() == "/broadcast";
        Ok(response)
    };
    let socket = accept_hdr_async_with_config(stream, path, Some(config)).await?;
    if is_broadcast {
        broadcast(socket, address, peers).await;
        Ok(())
    } else {
        echo(socket).await
    }
}

async fn echo(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn broadcast(socket: WebSocketStream<TcpStream>, address: SocketAddr, peers: PeerMap) {
    let (sender, receiver) = unbounded();
    peers.lock().unwrap_or_else(PoisonError::into_inner).insert(address, sender);
    let (outgoing, incoming) = socket.split();

    let broadcast_incoming = incoming.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            for peer in peers.lock().unwrap_or_else(PoisonError::into_inner).values() {
                // whose connection is over is about to leave
                let _ = peer.unbounded_send(message.clone());
            }
        }
        ready(Ok(()))
    });
    let receive_from_others = receiver.map(Ok).forward(outgoing);
    select(broadcast_incoming, receive_from_others).await;

    peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
}
