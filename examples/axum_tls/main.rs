//! The echo server on axum, with TLS and HTTP/2, by `axum::serve`. Otherwise it is the same program as `axum_echo`.
//!
//! `cargo run --example axum_tls`. `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port. When it starts, it
//! makes a certificate for `localhost` that no client trusts. In a browser, open the `https://` address first, and accept
//! the certificate.
//!
//! What `axum::serve` does not set is set here: `TCP_NODELAY`, and the address of the client on the socket. It has no limits
//! for HTTP/2. `ws_hyper::serve` has all of that, and takes a `Router`, too.

mod listener;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum::routing::any;
use axum::serve::ListenerExt;
use listener::{TlsListener, set_nodelay};
use ws_axum::{Drain, Error, PeerAddr, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener, tls_acceptor};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app = Router::new()
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .layer(layer)
        .layer(map_request(peer_addr));

    let listener = TlsListener::new(listener("wss", "/echo").await?, tls_acceptor()?).tap_io(set_nodelay);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            connections.drain(Drain::new()).await;
        })
        .await?;
    Ok(())
}

/// Tells the WebSockets who is at the other end.
async fn peer_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
