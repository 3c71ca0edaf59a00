//! The echo server on hyper, with TLS and HTTP/2. Otherwise it is the same program as `axum_echo` and `warp_echo`.
//!
//! `cargo run --example hyper_echo`. `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port. When it starts,
//! it makes a certificate for `localhost` that no client trusts. In a browser, open the `https://` address first, and accept
//! the certificate.

use tower_layer::Layer;
use ws_examples::{ctrl_c, listener, tls_acceptor};
use ws_hyper::{Drain, Error, WebSocket, WebSocketLayer, service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app = layer.layer(service(echo));

    let tls = tls_acceptor()?;
    ws_hyper::serve(listener("wss", "/echo").await?, app)
        .acceptor(move |stream| {
            let tls = tls.clone();
            async move { tls.accept(stream).await }
        })
        .with_graceful_shutdown(ctrl_c(), connections, Drain::new())
        .await?;
    Ok(())
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
