//! What the examples have in common. The programs are in the directories beside this one, each with what it serves.

pub mod session;

use std::io::{Error, Write as _};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use tokio::net::TcpListener;

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
