//! warp: the filter, on warp's own server.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::net::TcpListener;
use warp::filters::BoxedFilter;
use warp::reply::{Reply, Response, with_header, with_status};
use warp::{Filter, path};
use ws_warp::{FutureWebSocket, UpgradeReply, WebSocketUpgrade, websocket};

use super::{App, serve_without_upgrades};
use crate::server::{Answer, Instead, Running, Seen, Server, Setup, Shutdown, changed};

/// The server of `ws-warp`.
#[derive(Debug)]
pub enum Warp {}

impl Server for Warp {
    const KEEPS_REFUSED_AWAY: bool = false;
    const HAS_MIDDLEWARE: bool = false;
    const SEES_RESPONSES: bool = false;

    async fn start(setup: Setup) -> Running {
        assert!(setup.outer.is_none(), "warp's own server has no middleware");
        Running::spawn(setup, serve).await
    }
}

fn serve(setup: Setup, seen: Arc<Seen>, listener: TcpListener, shutdown: Shutdown) -> BoxFuture<'static, ()> {
    let upgrades = setup.upgrades;
    let routes = routes(setup, seen);
    if upgrades {
        // both are boxed here, where the compiler sees that they are `Send`; in an async function it does not
        let drained: BoxFuture<'static, ()> = Box::pin(shutdown.drained());
        Box::pin(warp::serve(routes).incoming(listener).graceful(drained).run())
    } else {
        Box::pin(serve_without_upgrades(listener, warp::service(routes)))
    }
}

fn routes(setup: Setup, seen: Arc<Seen>) -> BoxedFilter<(Response,)> {
    let Setup { layer, answer, handler, change, withhold, .. } = setup;
    let layer = layer.expect("on warp, the filter is the layer");
    let app = App { answer, handler, seen: Arc::clone(&seen) };
    let upgrade = websocket(layer)
        .then(move |upgrade| route(upgrade, app.clone()))
        .map(move |response| changed(change, response));
    let name = path::param().map(|_: String| ()).untuple_one();
    let at_ws = path("ws").and(name.or(warp::any()).unify()).and(path::end());
    let plain = path!("plain").and(warp::body::bytes()).map(move |body: Bytes| {
        let _call = seen.call();
        Response::new(body.into())
    });
    let routes = at_ws.and(upgrade).or(plain).unify();
    routes.then(move |reply| async move { if withhold { pending().await } else { reply } }).boxed()
}

async fn route(upgrade: WebSocketUpgrade, app: App) -> Response {
    let _call = app.seen.call();
    match app.answer {
        Answer::Unauthorized => unauthorized(),
        Answer::Never => pending().await,
        _ => answer!(app, upgrade),
    }
}

fn respond(status: StatusCode, text: String) -> Response {
    with_status(text, status).into_response()
}

fn made(reply: UpgradeReply) -> Response {
    reply.into_response()
}

fn unauthorized() -> Response {
    let reply = with_status("who are you?", StatusCode::UNAUTHORIZED);
    with_header(reply, "WWW-Authenticate", "Bearer").into_response()
}
