//! The echo server on hyper, with TLS and HTTP/2. Otherwise it is the same program as `axum_echo` and `warp_echo`.
//!
//! `cargo run --example hyper_echo`. `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port. When it starts,
//! it makes a certificate for `localhost` that no client trusts. In a browser, open the `https://` address first, and accept
//! the certificate.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tower_layer::Layer;
use ws_examples::{ctrl_c, listener};
use ws_hyper::{Drain, Error, WebSocket, WebSocketLayer, service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app = layer.layer(service(echo));

    let tls = tls()?;
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

/// TLS with a new certificate for `localhost`, and HTTP/2 if the client supports it.
fn tls() -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
