//! [`service`]: makes a route of a handler, which is any async function that takes a [`WebSocket`].

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::body::Body;
use crate::connection::WebSocket;
use crate::outcome::Outcome;
use crate::upgrade::WebSocketUpgrade;

/// A service that upgrades every request and serves the connection with `handler`: for a handler that needs only the
/// socket.
///
/// Put it under a [`WebSocketLayer`](crate::WebSocketLayer). It answers a request that is no upgrade with 426 (upgrade
/// required). Without the layer it answers every upgrade with 500.
///
/// A handler that needs the request, for example the user that an earlier middleware authenticated, takes a
/// [`WebSocketUpgrade`] instead.
///
/// ```
/// use ws_core::{Error, WebSocket, service};
///
/// async fn echo(mut socket: WebSocket) -> Result<(), Error> {
///     while let Some(message) = socket.recv().await {
///         socket.send(message?).await?;
///     }
///     Ok(())
/// }
///
/// let route = service(echo); // a tower service, for `route_service` or hyper
/// # fn is_service<S: tower_service::Service<http::Request<()>>>(_: S) {}
/// # is_service(route);
/// ```
pub fn service<H, Fut>(handler: H) -> HandlerService<H>
where
    H: FnOnce(WebSocket) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    HandlerService { handler }
}

/// A handler as a tower service and as a hyper service, made by [`service`].
#[derive(Clone)]
pub struct HandlerService<H> {
    handler: H,
}

impl<H> fmt::Debug for HandlerService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService").finish_non_exhaustive()
    }
}

impl<H, Fut, B> Service<Request<B>> for HandlerService<H>
where
    H: FnOnce(WebSocket) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.serve(request)))
    }
}

impl<H, Fut, B> hyper::service::Service<Request<B>> for HandlerService<H>
where
    H: FnOnce(WebSocket) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        ready(Ok(self.serve(request)))
    }
}

impl<H, Fut> HandlerService<H>
where
    H: FnOnce(WebSocket) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    fn serve<B>(&self, request: Request<B>) -> Response<Body> {
        let (mut parts, _) = request.into_parts();
        match WebSocketUpgrade::from_parts(&mut parts) {
            Ok(upgrade) => upgrade.on_upgrade(self.handler.clone()),
            Err(rejection) => rejection.into_response(parts.version),
        }
    }
}
