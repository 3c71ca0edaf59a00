//! The way of a request to its answer, from top to bottom: [`answer`] takes the request, [`accept`] judges a handshake, and
//! [`ResponseFuture`] is the answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use pin_project::pin_project;

use super::builder::WebSocketLayer;
use crate::body::{Body, ResponseBody};
use crate::deadline::{self, Deadline};
use crate::handshake;
use crate::rejection::{Rejection, close_connection};
use crate::tracker::NoSlot;
use crate::upgrade::{Accepted, Rendezvous, Terms, WebSocketUpgrade};

/// Answers a request. `call` calls the inner service.
pub(super) fn answer<B, F>(
    layer: &WebSocketLayer,
    request: Request<B>,
    call: impl FnOnce(Request<B>) -> F,
) -> ResponseFuture<F> {
    let (mut parts, body) = request.into_parts();
    if !handshake::is_upgrade(&parts) {
        return ResponseFuture(State::Pass(call(Request::from_parts(parts, body))));
    }
    let version = parts.version;
    let accepted = match accept(layer, &parts) {
        Ok(accepted) => accepted,
        Err(rejection) => return ResponseFuture(State::Own(Some(rejection.into_response(version)))),
    };
    let deadline = Deadline::new(accepted.terms.deadline);
    // the handler takes the handshake out of it
    let rendezvous = Rendezvous::new(accepted);
    parts.extensions.insert(rendezvous.clone());
    let awaited = Awaited { rendezvous, deadline, layer: layer.clone(), version };
    ResponseFuture(State::Upgrade(call(Request::from_parts(parts, body)), awaited))
}

/// Accepts a handshake, or tells the observer and the log that it is refused.
fn accept(layer: &WebSocketLayer, parts: &Parts) -> Result<Accepted, Rejection> {
    let (config, connections) = (&layer.inner().config, &layer.inner().connections);
    let no_slot = |why| {
        let retry_after = connections.retry_after();
        match why {
            NoSlot::Draining => Rejection::Draining { retry_after },
            NoSlot::Full => Rejection::TooManyConnections { retry_after },
        }
    };
    let check = || {
        // a server that drains says so whatever the request is like; `acquire` checks again, atomically
        if connections.is_draining() {
            return Err(no_slot(NoSlot::Draining));
        }
        let deadline = config.handshake_timeout.and_then(deadline::after);
        let handshake = handshake::check(parts, config)?;
        // that of a layer around this one, if they share their connections: the handshake is one
        let outer = parts.extensions.get::<Rendezvous>().and_then(|outer| outer.take_slot(connections));
        let slot = outer.map_or_else(|| connections.acquire(), Ok).map_err(no_slot)?;
        if parts.extensions.get::<OnUpgrade>().is_none() {
            return Err(Rejection::NotUpgradable);
        }
        Ok(Accepted { slot, terms: Terms { handshake, deadline, config: Arc::clone(&config.connection) } })
    };
    check().inspect_err(|rejection| refused(layer, rejection))
}

fn refused(layer: &WebSocketLayer, rejection: &Rejection) {
    layer.inner().warnings.warn(rejection);
    layer.inner().config.connection.observe(|observer| observer.on_refused(rejection));
}

/// The future of a [`WebSocketService`](crate::WebSocketService).
///
/// For a request that is no upgrade it is the inner service's future, without an allocation.
///
/// ```
/// fn is_send<F: Send>() {}
///
/// is_send::<ws_core::ResponseFuture<std::future::Ready<()>>>();
/// ```
#[pin_project]
#[must_use = "futures do nothing unless they are polled"]
pub struct ResponseFuture<F>(#[pin] State<F>);

#[pin_project(project = StateProjection)]
enum State<F> {
    /// The request is no upgrade.
    Pass(#[pin] F),
    /// The handshake is accepted, and the inner service is to answer.
    Upgrade(#[pin] F, Awaited),
    /// The layer answers by itself. `None` after the response was returned.
    Own(Option<Response<Body>>),
}

/// An accepted handshake whose response is awaited.
///
/// Dropping it gives the handshake up, with its slot, unless the layer has seen the response that opens the connection.
struct Awaited {
    rendezvous: Rendezvous,
    deadline: Deadline,
    layer: WebSocketLayer,
    version: Version,
}

impl Awaited {
    fn answered<B>(&self, response: &mut Response<B>) {
        self.rendezvous.answered(response, self.version);
        // a peer that takes the connection for a WebSocket sends frames next, which must not be read as requests
        if handshake::is_http_1(self.version) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            close_connection(response.headers_mut());
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.rendezvous.lost();
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        match state.as_mut().project() {
            StateProjection::Pass(inner) => {
                inner.poll(cx).map_ok(|response| response.map(ResponseBody::inner))
            }
            StateProjection::Upgrade(inner, awaited) => {
                if let Poll::Ready(mut result) = inner.poll(cx) {
                    if let Ok(response) = &mut result {
                        awaited.answered(response);
                    }
                    // gives the handshake up if this was another response, before this future is dropped
                    state.set(State::Own(None));
                    return Poll::Ready(result.map(|response| response.map(ResponseBody::inner)));
                }
                if awaited.deadline.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                refused(&awaited.layer, &Rejection::Timeout);
                let response = Rejection::Timeout.into_response(awaited.version);
                // drops the inner future
                state.set(State::Own(None));
                Poll::Ready(Ok(response.map(ResponseBody::own)))
            }
            StateProjection::Own(response) => {
                // it is `None` only if the future is polled after it was ready
                let response = response.take().expect("`ResponseFuture` polled after it was ready");
                Poll::Ready(Ok(response.map(ResponseBody::own)))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl WebSocketLayer {
    /// Checks a request like the layer does, for code that has no service to put the layer around.
    ///
    /// The handshake timeout starts with this call. The caller sends the response of [`WebSocketUpgrade::on_upgrade`]. If it
    /// is not sent, the handshake is given up, with its slot, when the HTTP server is done with the request, and at the
    /// latest after the handshake timeout. Any other response over HTTP/1.1 needs the header `Connection: close`, so that
    /// what the peer sends next is not read as a request. Nothing but the HTTP server sees which response is sent: whoever
    /// makes the response of [`WebSocketUpgrade::on_upgrade`] has to send it, and no other in its place.
    ///
    /// # Errors
    ///
    /// Why the handshake is refused. [`Rejection::NotAnUpgrade`] if the request is no upgrade.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use ws_core::{Body, WebSocketLayer};
    ///
    /// fn serve(layer: &WebSocketLayer, request: Request<()>) -> Response<Body> {
    ///     let (mut parts, ()) = request.into_parts();
    ///     match layer.upgrade(&mut parts) {
    ///         Ok(upgrade) => upgrade.on_upgrade(async |mut socket| socket.send("hello").await),
    ///         Err(rejection) => rejection.into_response(parts.version),
    ///     }
    /// }
    /// ```
    pub fn upgrade(&self, parts: &mut Parts) -> Result<WebSocketUpgrade, Rejection> {
        if !handshake::is_upgrade(parts) {
            return Err(Rejection::NotAnUpgrade);
        }
        let accepted = accept(self, parts)?;
        WebSocketUpgrade::without_layer(accepted, parts)
    }
}
