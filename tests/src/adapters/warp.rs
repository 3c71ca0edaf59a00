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
use ws_warp::{WebSocketUpgrade, websocket};

use super::serve_without_upgrades;
use crate::server::{Answer, Handler, Running, Seen, Server, Setup, Shutdown};

/// The server of `ws-warp`.
#[derive(Debug)]
pub enum Warp {}

impl Server for Warp {
    const KEEPS_REFUSED_AWAY: bool = false;
    const HAS_MIDDLEWARE: bool = false;

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
    let Setup { layer, answer, handler, withhold, .. } = setup;
    let layer = layer.expect("on warp, the filter is the layer");
    let app = Arc::clone(&seen);
    let upgrade = websocket(layer)
        .then(move |upgrade| respond(upgrade, answer, Arc::clone(&handler), Arc::clone(&app)));
    let name = path::param().map(|_: String| ()).untuple_one();
    let at_ws = path("ws").and(name.or(warp::any()).unify()).and(path::end());
    let plain = path!("plain").and(warp::body::bytes()).map(move |body: Bytes| {
        let _call = seen.call();
        Response::new(body.into())
    });
    let routes = at_ws.and(upgrade).or(plain).unify();
    routes.then(move |reply| async move { if withhold { pending().await } else { reply } }).boxed()
}

async fn respond(upgrade: WebSocketUpgrade, answer: Answer, handler: Handler, seen: Arc<Seen>) -> Response {
    let _call = seen.call();
    match answer {
        Answer::Unauthorized => return unauthorized(),
        Answer::Never => pending().await,
        _ => {}
    }
    let upgrade = upgrade.on_failed_upgrade(seen.on_failed());
    let upgrade = match answer {
        // the last choice counts
        Answer::UpgradeWith(protocols) => match upgrade.protocols(["unknown"]).try_protocols(protocols) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                return with_status(error.to_string(), StatusCode::INTERNAL_SERVER_ERROR).into_response();
            }
        },
        _ => upgrade,
    };
    let reply = match answer {
        Answer::Describe => {
            let text = description!(upgrade);
            upgrade.on_upgrade(async move |mut socket| socket.send(text).await)
        }
        Answer::IntoParts => {
            let (reply, socket) = upgrade.into_parts();
            if let Some(socket) = socket {
                tokio::spawn(async move { handler(socket.await?).await });
            }
            reply
        }
        _ => upgrade.on_upgrade(move |socket| handler(socket)),
    };
    match answer {
        Answer::Withhold => pending().await,
        Answer::Replace => unauthorized(),
        _ => reply.into_response(),
    }
}

fn unauthorized() -> Response {
    let reply = with_status("who are you?", StatusCode::UNAUTHORIZED);
    with_header(reply, "WWW-Authenticate", "Bearer").into_response()
}
