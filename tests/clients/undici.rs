//! undici, the WebSocket of Node.js, over HTTP/2.
//!
//! Unlike browsers, it sends a `Sec-WebSocket-Key` there, and requires the answer to it.

use axum::Router;
use axum::http::Version;
use axum::routing::any;
use ws_axum::{WebSocket, WebSocketLayer, WebSocketUpgrade};

use crate::support::{Process, Server};
use crate::{Library, echo};

#[test]
fn over_http2_messages_the_subprotocol_and_close_codes_come_through() {
    let version = async |version: Version, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            socket.close(4000, format!("{version:?}")).await.map(drop)
        })
    };
    let app = Router::new()
        .route("/version", any(version))
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
        .layer(WebSocketLayer::new().protocols(["a", "b"]));
    let server = Server::start_tls(app);
    let mut command = Library::Node.script("undici");
    let (status, said) = Process::start(command.arg(server.url("wss", ""))).finish();
    assert!(status.success(), "{status}: {said:?}");
}
