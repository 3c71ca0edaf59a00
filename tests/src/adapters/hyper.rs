//! hyper: `ws_hyper::serve` with a tower service that routes by hand.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tower::util::BoxCloneService;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use ws_hyper::{FutureWebSocket, WebSocketUpgrade};

use super::{App, serve_without_upgrades};
use crate::server::{Answer, BoxError, Instead, Running, Seen, Server, Setup, Shutdown, TAG, Tag, changed};
use crate::wait::DEADLINE;

/// The server of `ws-hyper`.
#[derive(Debug)]
pub enum Hyper {}

impl Server for Hyper {
    async fn start(setup: Setup) -> Running {
        Running::spawn(setup, serve).await
    }
}

type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// A service, whatever layers are around it.
type Stack = BoxCloneService<Request<Incoming>, Response<BoxBody>, Infallible>;

fn boxed<S, B>(service: S) -> Stack
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    service
        .map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync()))
        .boxed_clone()
}

async fn serve(setup: Setup, seen: Arc<Seen>, listener: TcpListener, shutdown: Shutdown) {
    let app = App { answer: setup.answer, handler: setup.handler, seen };
    let mut stack = boxed(service_fn(move |request| app.clone().respond(request)));
    stack = boxed(stack.map_response(move |response| changed(setup.change, response)));
    for layer in [setup.layer, setup.outer].into_iter().flatten() {
        stack = boxed(layer.layer(stack));
    }
    stack = boxed(stack.map_request(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(TAG);
        request
    }));
    if setup.withhold {
        stack = boxed(stack.then(async |_| pending::<Result<Response<BoxBody>, _>>().await));
    }
    if setup.upgrades {
        ws_hyper::serve(listener, stack)
            // nobody is given up because this machine is slow
            .header_read_timeout(DEADLINE)
            .with_graceful_shutdown(shutdown.signal, shutdown.connections, shutdown.drain)
            .await
            .expect("the listener works");
    } else {
        serve_without_upgrades(listener, stack).await;
    }
}

impl App {
    async fn respond(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path();
        Ok(if path == "/plain" {
            self.plain(request).await
        } else if path == "/ws" || path.starts_with("/ws/") {
            self.websocket(request).await
        } else {
            respond(StatusCode::NOT_FOUND, Bytes::new())
        })
    }

    async fn websocket(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let _call = self.seen.call();
        match self.answer {
            Answer::Unauthorized => return unauthorized(),
            Answer::Never => pending().await,
            _ => {}
        }
        let (mut parts, _) = request.into_parts();
        match WebSocketUpgrade::from_parts(&mut parts) {
            Ok(upgrade) => answer!(self, upgrade),
            Err(rejection) => made(rejection.into_response(parts.version)),
        }
    }

    async fn plain(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let _call = self.seen.call();
        let tag = request.extensions().get::<Tag>().copied();
        let body = request.into_body().collect().await.expect("the client sends its body").to_bytes();
        let mut response = respond(StatusCode::OK, body);
        if let Some(Tag(tag)) = tag {
            response.headers_mut().insert("X-Tag", HeaderValue::from_static(tag));
        }
        response
    }
}

fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

fn made(response: Response<ws_hyper::Body>) -> Response<Full<Bytes>> {
    response.map(|body| Full::new(body.into_bytes()))
}

fn unauthorized() -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::UNAUTHORIZED, "who are you?");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
