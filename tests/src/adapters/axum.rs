//! axum: the extractor, under a router with the layer on it.

use std::future::{pending, ready};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts as _, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::ListenerExt as _;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use ws_axum::{FutureWebSocket, PeerAddr, WebSocketUpgrade};

use super::{App, serve_without_upgrades};
use crate::server::{Answer, Instead, Running, Seen, Server, Setup, Shutdown, TAG, Tag, changed};

/// The server of `ws-axum`.
#[derive(Debug)]
pub enum Axum {}

impl Server for Axum {
    async fn start(setup: Setup) -> Running {
        Running::spawn(setup, serve).await
    }
}

async fn serve(setup: Setup, seen: Arc<Seen>, listener: TcpListener, shutdown: Shutdown) {
    let state = App { answer: setup.answer, handler: setup.handler, seen };
    let mut app = Router::new()
        .route("/ws", any(websocket))
        .route("/ws/{name}", any(websocket))
        .route("/plain", any(plain))
        .with_state(state);
    if let Some(change) = setup.change {
        app = app.layer(map_response(move |response: Response| ready(changed(Some(change), response))));
    }
    for layer in [setup.layer, setup.outer].into_iter().flatten() {
        app = app.layer(layer);
    }
    app = app.layer(Extension(TAG));
    if setup.withhold {
        app = app.layer(from_fn(withhold));
    }
    if setup.upgrades {
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let app = app.layer(map_request(peer_addr));
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(shutdown.drained())
            .await
            .expect("the listener works");
    } else {
        serve_without_upgrades(listener, app).await;
    }
}

async fn websocket(State(app): State<App>, request: Request) -> Response {
    let _call = app.seen.call();
    match app.answer {
        Answer::Unauthorized => return unauthorized(),
        Answer::Never => pending().await,
        _ => {}
    }
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => answer!(app, upgrade),
        Err(rejection) => rejection.into_response(),
    }
}

fn respond(status: StatusCode, text: String) -> Response {
    (status, text).into_response()
}

fn made(response: Response) -> Response {
    response
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, [("WWW-Authenticate", "Bearer")], "who are you?").into_response()
}

async fn plain(State(app): State<App>, tag: Extension<Tag>, body: Bytes) -> Response {
    let _call = app.seen.call();
    ([("X-Tag", tag.0.0)], body).into_response()
}

/// Tells the WebSockets who is at the other end, as [`ws_axum`] says.
async fn peer_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

async fn withhold(request: Request, next: Next) -> Response {
    let _response = next.run(request).await;
    pending().await
}
