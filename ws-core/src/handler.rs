//! What serves a connection: any async function of a [`WebSocket`], and [`service`], which makes a route of one.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::connection::WebSocket;
use crate::layer::Body;
use crate::upgrade::WebSocketUpgrade;

/// What a handler may return: nothing, or a `Result` whose error can be boxed.
///
/// `Ok` closes the connection with 1000. `Err` is logged, and closes it with 1011.
///
/// ```
/// use ws_core::{Outcome, WebSocket};
///
/// fn is_a_handler<F, Fut>(_: F)
/// where
///     F: FnOnce(WebSocket) -> Fut,
///     Fut: Future<Output: Outcome>,
/// {
/// }
///
/// is_a_handler(|socket| async move { drop(socket) });
/// is_a_handler(|socket| async move {
///     drop(socket);
///     Ok::<_, std::io::Error>(())
/// });
/// ```
pub trait Outcome: sealed::Sealed {
    /// The outcome as a `Result`.
    ///
    /// # Errors
    ///
    /// That of the handler.
    fn into_result(self) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Box<dyn StdError + Send + Sync>> {
        Ok(())
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), Box<dyn StdError + Send + Sync>> {
        self.map_err(Into::into)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

/// A service that upgrades every request and serves the connection with `handler`: a route that needs nothing but the
/// socket.
///
/// It goes under a [`WebSocketLayer`](crate::WebSocketLayer). A request that is no upgrade is answered with 426
/// (upgrade required), and without the layer every upgrade with 500.
///
/// A handler that needs the request, such as the user that an earlier middleware found, takes a [`WebSocketUpgrade`]
/// instead.
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

/// A handler as a tower service, made by [`service`].
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
