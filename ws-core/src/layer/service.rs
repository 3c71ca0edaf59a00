//! [`WebSocketService`]: a service with the layer around it.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::answer::{ResponseFuture, answer};
use super::builder::WebSocketLayer;
use crate::body::ResponseBody;

/// The service that [`WebSocketLayer`](crate::WebSocketLayer) makes of another one.
///
/// It checks a request that is an upgrade. If it refuses the request, it answers by itself. Otherwise it puts into the
/// extensions what a [`WebSocketUpgrade`](crate::WebSocketUpgrade) is made of, and calls the inner service. Any other
/// request goes to the inner service unchanged. The errors are those of the inner service.
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

impl<S> Layer<S> for WebSocketLayer {
    type Service = WebSocketService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WebSocketService { inner, layer: self.clone() }
    }
}

impl<S> WebSocketService<S> {
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
        answer(layer, request, |request| inner.call(request))
    }
}

/// hyper's own trait: for the layer around a `hyper::service::service_fn`, without tower.
impl<S, B, R> hyper::service::Service<Request<B>> for WebSocketService<S>
where
    S: hyper::service::Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        answer(&self.layer, request, |request| self.inner.call(request))
    }
}
