//! [`WebSocketService`]: what the layer makes of a service.

use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response};
use tower_service::Service;

use super::WebSocketLayer;
use super::future::{ResponseFuture, Ticket};
use crate::body::ResponseBody;
use crate::handshake;
use crate::rejection::Rejection;
use crate::upgrade::Rendezvous;

/// The service that [`WebSocketLayer`](crate::WebSocketLayer) makes of another one.
///
/// A request that is an upgrade is checked, and answered here if it is refused; otherwise it goes on with what a
/// [`WebSocketUpgrade`](crate::WebSocketUpgrade) is made of in its extensions. Any other request goes on untouched. The
/// errors are the inner service's.
///
/// ```
/// use tower_layer::Layer;
/// use ws_core::{WebSocketLayer, WebSocketService, service};
///
/// let service: WebSocketService<_> = WebSocketLayer::new().layer(service(async |socket| drop(socket)));
/// # fn is_service<S: tower_service::Service<http::Request<()>>>(_: S) {}
/// # is_service(service);
/// ```
#[derive(Clone, Debug)]
pub struct WebSocketService<S> {
    inner: S,
    layer: WebSocketLayer,
}

impl<S> WebSocketService<S> {
    pub(super) fn new(inner: S, layer: WebSocketLayer) -> Self {
        Self { inner, layer }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to change it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, without the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for WebSocketService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, layer } = self;
        layer.respond(request, |request| inner.call(request))
    }
}

/// hyper's own trait, for a service that needs no stack: the layer around a `hyper::service::service_fn`.
impl<S, B, R> hyper::service::Service<Request<B>> for WebSocketService<S>
where
    S: hyper::service::Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.layer.respond(request, |request| self.inner.call(request))
    }
}

impl WebSocketLayer {
    /// What the layer does with a request that goes on to `call`.
    fn respond<B, F>(&self, request: Request<B>, call: impl FnOnce(Request<B>) -> F) -> ResponseFuture<F> {
        let (mut parts, body) = request.into_parts();
        if !handshake::is_upgrade(&parts) {
            return ResponseFuture::pass(call(Request::from_parts(parts, body)));
        }
        match self.issue(&mut parts) {
            Ok(ticket) => ResponseFuture::upgrade(call(Request::from_parts(parts, body)), ticket),
            Err(rejection) => ResponseFuture::refused(rejection, parts.version),
        }
    }

    /// Checks a request that asks for an upgrade. What it is made of goes into its extensions, and the ticket is for the
    /// response.
    fn issue(&self, parts: &mut Parts) -> Result<Ticket, Rejection> {
        let accepted = self.accept(parts)?;
        let deadline = accepted.deadline;
        let pending = Rendezvous::new(accepted);
        parts.extensions.insert(pending.clone());
        Ok(Ticket::new(pending, deadline, self.clone(), parts.version))
    }
}
