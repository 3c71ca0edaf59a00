//! What the examples have in common. The programs are in the directories beside this one, each with what it serves.

pub mod environment;
pub mod session;

use std::io::{Error, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// Listens on the address given on the command line, or on 127.0.0.1:3000, and prints what to connect to: `scheme` is
/// `ws` or `wss`, and `path` where the WebSocket is.
///
/// # Errors
///
/// If it is not an address, or is in use.
pub async fn listener(scheme: &str, path: &str) -> std::io::Result<TcpListener> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|error| Error::new(error.kind(), format!("{address}: {error}")))?;
    let address = listener.local_addr()?;
    println!("{}://{address}/\n{scheme}://{address}{path}", scheme.replace("ws", "http"));
    std::io::stdout().flush()?;
    Ok(listener)
}

/// A router that serves a page at `/`, and with it `style.css`, `connection.js` and `session.js`, which the pages share. The
/// scripts say at the top how to use them.
pub fn page(html: &'static str) -> Router {
    let file = |mime, text: &'static str| get(async move || ([(CONTENT_TYPE, mime)], text));
    Router::new()
        .route("/", get(async move || Html(html)))
        .route("/style.css", file("text/css", include_str!("style.css")))
        .route("/connection.js", file("text/javascript", include_str!("connection.js")))
        .route("/session.js", file("text/javascript", include_str!("session.js")))
}

/// Waits for Ctrl-C. If the program cannot be told of it, waits for ever.
pub async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// TLS with a new certificate for `localhost`, and HTTP/2 if the client supports it.
///
/// # Errors
///
/// If the system has no random numbers.
pub fn tls_acceptor() -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
