//! [`WebSocketService`]: what the layer makes of a service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_service::Service;

use super::body::ResponseBody;
use super::future::{ResponseFuture, Ticket};
use crate::config::Config;
use crate::handshake::{self, Rejection};
use crate::tracker::{Connections, NoSlot};
use crate::upgrade::{Accepted, Pending};

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
    config: Arc<Config>,
    connections: Connections,
}

impl<S> WebSocketService<S> {
    pub(super) fn new(inner: S, config: Arc<Config>, connections: Connections) -> Self {
        Self { inner, config, connections }
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

    /// Checks a request that asks for an upgrade. What it is made of goes into its extensions, and the ticket returned
    /// is for the response.
    fn accept(&self, parts: &mut Parts) -> Result<Ticket, Rejection> {
        // before the clock of the handshake starts anything, and again with the slot, which is atomic
        if self.connections.is_draining() {
            return Err(self.no_slot(NoSlot::Draining));
        }
        let deadline = self.config.handshake_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let handshake = handshake::check(parts, &self.config)?;
        let slot = self.connections.acquire().map_err(|why| self.no_slot(why))?;
        if parts.extensions.get::<OnUpgrade>().is_none() {
            return Err(Rejection::NotUpgradable);
        }
        let config = Arc::clone(&self.config.connection);
        let (confirm, confirmed) = oneshot::channel();
        let pending = Pending::new(Accepted { handshake, slot, deadline, config, confirmed });
        parts.extensions.insert(pending.clone());
        Ok(Ticket::new(pending, confirm, deadline, Arc::clone(&self.config), parts.version))
    }

    fn no_slot(&self, why: NoSlot) -> Rejection {
        let retry_after = self.connections.retry_after();
        match why {
            NoSlot::Draining => Rejection::Draining { retry_after },
            NoSlot::Full => Rejection::TooManyConnections { retry_after },
        }
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
        let (mut parts, body) = request.into_parts();
        if !handshake::is_upgrade(&parts) {
            return ResponseFuture::pass(self.inner.call(Request::from_parts(parts, body)));
        }
        match self.accept(&mut parts) {
            Ok(ticket) => ResponseFuture::upgrade(self.inner.call(Request::from_parts(parts, body)), ticket),
            Err(rejection) => {
                self.config.connection.observe(|observer| observer.on_refused(&rejection));
                ResponseFuture::refused(rejection, parts.version)
            }
        }
    }
}
