//! The servers that the suite runs on: one file for each adapter, and all that a framework needs is in there.

/// What an adapter's `WebSocketUpgrade` says of the request, as text.
macro_rules! description {
    ($upgrade:ident) => {
        format!(
            "{} {:?} {:?} {:?} {:?} late: {}",
            $upgrade.head().method,
            $upgrade.uri().path_and_query().map(|it| it.as_str()),
            $upgrade.headers().get("X-Name"),
            $upgrade.extensions().get::<$crate::server::Tag>().map(|tag| tag.0),
            $upgrade.protocol(),
            $upgrade.is_late(),
        )
    };
}

/// What an adapter's route does with its `WebSocketUpgrade`. The adapter has functions that make its responses: `respond`
/// with a status and a text, `unauthorized`, and `made` for an upgrade's.
macro_rules! answer {
    ($app:expr, $upgrade:expr) => {{
        let App { answer, handler, seen, .. } = $app;
        let upgrade = $upgrade.on_failed_upgrade(seen.on_failed());
        let upgrade = match answer {
            // the last choice counts
            Answer::UpgradeWith(protocols) => match upgrade.protocols(["unknown"]).try_protocols(protocols) {
                Ok(upgrade) => upgrade,
                Err(error) => return respond(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Answer::UpgradeUpTo(size) => upgrade.max_message_size(size),
            Answer::UpgradeUnlessIdleFor(time) => upgrade.idle_timeout(time),
            _ => upgrade,
        };
        let serve = move |socket| handler(socket);
        match answer {
            Answer::Describe => {
                let text = description!(upgrade);
                made(upgrade.on_upgrade(async move |mut socket| socket.send(text).await))
            }
            Answer::IntoParts => {
                let (response, socket) = upgrade.into_parts();
                if let Some(socket) = Option::<FutureWebSocket>::from(socket) {
                    tokio::spawn(async move { serve(socket.await?).await });
                }
                made(response)
            }
            Answer::Keep(instead) => {
                seen.keep(move || drop(upgrade.on_upgrade(serve)));
                if instead == Instead::Never { pending().await } else { unauthorized() }
            }
            Answer::KeepParts(instead) => {
                let parts = upgrade.into_parts();
                seen.keep(move || drop(parts));
                if instead == Instead::Never { pending().await } else { unauthorized() }
            }
            Answer::Withhold => {
                let _response = upgrade.on_upgrade(serve);
                pending().await
            }
            Answer::Replace => {
                drop(upgrade.on_upgrade(serve));
                unauthorized()
            }
            _ => made(upgrade.on_upgrade(serve)),
        }
    }};
}

mod axum;
mod hyper;
mod warp;

use std::marker::PhantomData;
use std::sync::Arc;

use ::hyper::body::Incoming;
use ::hyper::server::conn::http1;
use http::{Request, Response};
use http_body::Body;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::Service;

pub use self::axum::Axum;
pub use self::hyper::Hyper;
pub use self::warp::Warp;
use crate::server::{Answer, BoxError, Handler, Running, Seen, Server, Setup};

/// What a route needs of the setup.
#[derive(Clone)]
struct App {
    answer: Answer,
    handler: Handler,
    seen: Arc<Seen>,
}

/// A server to which clients speak HTTP/2.
#[derive(Debug)]
pub struct Http2<S>(PhantomData<S>);

impl<S: Server> Server for Http2<S> {
    const OPENED: u16 = 200;
    const KEEPS_REFUSED_AWAY: bool = S::KEEPS_REFUSED_AWAY;
    const HAS_MIDDLEWARE: bool = S::HAS_MIDDLEWARE;
    const SEES_RESPONSES: bool = S::SEES_RESPONSES;

    async fn start(setup: Setup) -> Running {
        S::start(setup).await.over_http2()
    }
}

/// A loop around hyper, as many have written it, that forgot the upgrades.
async fn serve_without_upgrades<S, B>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.expect("the listener works");
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
