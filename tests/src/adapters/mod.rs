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

mod axum;
mod hyper;
mod warp;

use std::marker::PhantomData;

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
use crate::server::{BoxError, Running, Server, Setup};

/// A server to which clients speak HTTP/2.
#[derive(Debug)]
pub struct Http2<S>(PhantomData<S>);

impl<S: Server> Server for Http2<S> {
    const OPENED: u16 = 200;
    const KEEPS_REFUSED_AWAY: bool = S::KEEPS_REFUSED_AWAY;
    const HAS_MIDDLEWARE: bool = S::HAS_MIDDLEWARE;

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
