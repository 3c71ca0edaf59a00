//! [`WebSocketLayer`]: the middleware.

mod body;
mod future;
mod service;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tower_layer::Layer;

pub use body::{Body, ResponseBody};
pub use future::ResponseFuture;
pub use service::WebSocketService;

#[cfg(feature = "deflate")]
use crate::compression::Compression;
#[cfg(all(feature = "deflate", feature = "testing"))]
use crate::config::Deflate;
#[cfg(feature = "testing")]
use crate::config::Negotiated;
use crate::config::{Config, ConnectionConfig, checked, connection_knobs};
use crate::error::expect_valid;
use crate::handshake::{self, InvalidProtocol, Rejection, protocol_names};
use crate::origin::OriginPolicy;
use crate::tracker::{Connections, NoSlot};
use crate::upgrade::{Accepted, WebSocketUpgrade};

/// The middleware: put it around a router, and it takes care of every upgrade on it.
///
/// It differs from a framework's WebSocket extractor in that it is applied once, to a whole router. From then on every
/// upgrade below it is validated, checked for its origin, timed, kept alive, bounded and drainable. Requests that are no
/// upgrades pass untouched.
///
/// A layer and its clones share their [`Connections`]. Where several layers stand around one route, each one checks
/// the handshake, and the innermost serves the connection.
///
/// Every time is checked when it is set: `None` switches it off where that can be, and a time of zero panics.
///
/// ```
/// use std::time::Duration;
/// use tower_layer::Layer;
/// use ws_core::{OriginPolicy, WebSocketLayer, service};
///
/// let layer = WebSocketLayer::new()
///     .origin(OriginPolicy::allow(["https://app.example.com"]))
///     .protocols(["chat.v2", "chat.v1"])
///     .ping_interval(Duration::from_secs(30))
///     .max_connections(10_000);
///
/// let app = layer.layer(service(async |mut socket: ws_core::WebSocket| {
///     socket.send("hello").await
/// }));
/// # fn is_service<S: tower_service::Service<http::Request<()>>>(_: S) {}
/// # is_service(app);
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing before it is put around a service"]
pub struct WebSocketLayer {
    inner: Arc<Inner>,
}

/// One allocation: a framework may clone the layer for each connection and route.
#[derive(Clone, Default)]
struct Inner {
    config: Config,
    connections: Connections,
}

impl WebSocketLayer {
    /// The layer with its defaults, which are those of a public server: same origin, handshake timeout 10 s, a ping
    /// after 20 s of silence, and bounds on all that a peer can send.
    pub fn new() -> Self {
        Self { inner: Arc::default() }
    }

    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(&mut Arc::make_mut(&mut self.inner).config);
        self
    }

    fn set_connection(self, set: impl FnOnce(&mut ConnectionConfig)) -> Self {
        self.set(|config| set(Arc::make_mut(&mut config.connection)))
    }

    /// Which origins may connect. Default [`OriginPolicy::same_origin`].
    ///
    /// A browser sends the cookies of a site with every handshake, whatever page asks for it: without this check any
    /// page could speak with the rights of your user (RFC 6455 section 10.2).
    pub fn origin(self, policy: OriginPolicy) -> Self {
        self.set(|config| config.origin = policy)
    }

    /// The subprotocols that the server knows, in the order of its preference. Default none.
    ///
    /// Of those that the client offers, the first in this list is chosen (RFC 6455 section 4.2.2).
    ///
    /// # Panics
    ///
    /// If a name is not a token: letters, digits and ``!#$%&'*+-.^_`|~`` only. [`try_protocols`](Self::try_protocols)
    /// returns an error instead.
    #[track_caller]
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        expect_valid(self.try_protocols(protocols))
    }

    /// As [`protocols`](Self::protocols), for names that come from outside of the program.
    ///
    /// # Errors
    ///
    /// If a name is not a token.
    pub fn try_protocols<I>(self, protocols: I) -> Result<Self, InvalidProtocol>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let known = protocol_names(protocols)?;
        Ok(self.set(|config| config.protocols = known))
    }

    /// Refuses a handshake that offers none of the [`protocols`](Self::protocols) with 400. Default off.
    pub fn require_protocol(self) -> Self {
        self.set(|config| config.require_protocol = true)
    }

    /// How many connections there may be; one more is refused with 503 and `Retry-After`. Default no limit.
    ///
    /// Handshakes under way count. The clones of this layer share the limit.
    pub fn max_connections(self, limit: impl Into<Option<usize>>) -> Self {
        self.inner.connections.set_max_connections(limit);
        self
    }

    /// The live connections of this layer and its clones: their count, and the way to drain them.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.inner.connections.clone()
    }

    /// How long a handshake may take, from the request to the flushed response; then the service below is dropped, and
    /// the answer is 408. Default 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("handshake_timeout", timeout);
        self.set(|config| config.handshake_timeout = timeout)
    }

    connection_knobs!();

    /// Compresses messages with peers that offer permessage-deflate (RFC 7692), as browsers do. Default off: see
    /// [`Compression`] for what it costs, and for what must not be compressed.
    ///
    /// What comes in compressed is held to [`max_message_size`](Self::max_message_size) after decompression, and to
    /// [`max_frame_size`](Self::max_frame_size) before.
    #[cfg(feature = "deflate")]
    pub fn compression(self, compression: impl Into<Option<Compression>>) -> Self {
        let compression = compression.into();
        self.set(|config| config.compression = compression)
    }

    /// Checks a request without a stack of services: what the layer does, for code that has the request in hand.
    ///
    /// The handshake timeout counts from this call. That the response of [`WebSocketUpgrade::on_upgrade`] is sent is up
    /// to the caller; if it is not, the connection is given up when the time is over.
    ///
    /// # Errors
    ///
    /// Why the handshake is refused; [`Rejection::NotAnUpgrade`] if the request is no upgrade.
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
        let accepted = self.accept(parts)?;
        WebSocketUpgrade::new(accepted, None, parts)
    }

    /// Accepts a request that asks for an upgrade, or tells the observer that it is refused.
    fn accept(&self, parts: &Parts) -> Result<Accepted, Rejection> {
        self.check(parts).inspect_err(|rejection| self.refused(rejection))
    }

    /// Tells the observer that a handshake is refused.
    fn refused(&self, rejection: &Rejection) {
        self.inner.config.connection.observe(|observer| observer.on_refused(rejection));
    }

    fn check(&self, parts: &Parts) -> Result<Accepted, Rejection> {
        // first of all, and again with the slot, which is atomic
        if self.inner.connections.is_draining() {
            return Err(self.no_slot(NoSlot::Draining));
        }
        let deadline =
            self.inner.config.handshake_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let handshake = handshake::check(parts, &self.inner.config)?;
        let slot = self.inner.connections.acquire().map_err(|why| self.no_slot(why))?;
        if parts.extensions.get::<OnUpgrade>().is_none() {
            return Err(Rejection::NotUpgradable);
        }
        let config = Arc::clone(&self.inner.config.connection);
        Ok(Accepted { handshake, slot, deadline, config })
    }

    fn no_slot(&self, why: NoSlot) -> Rejection {
        let retry_after = self.inner.connections.retry_after();
        match why {
            NoSlot::Draining => Rejection::Draining { retry_after },
            NoSlot::Full => Rejection::TooManyConnections { retry_after },
        }
    }

    #[cfg(any(fuzzing, benchmarking))]
    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    #[cfg(feature = "testing")]
    pub(crate) fn connection_config(&self) -> Arc<ConnectionConfig> {
        Arc::clone(&self.inner.config.connection)
    }

    /// What is negotiated with a client that offers all that can be.
    #[cfg(feature = "testing")]
    #[cfg_attr(
        not(feature = "deflate"),
        expect(clippy::unused_self, reason = "there is nothing to negotiate")
    )]
    pub(crate) fn negotiated(&self) -> Negotiated {
        Negotiated {
            #[cfg(feature = "deflate")]
            deflate: self
                .inner
                .config
                .compression
                .map(|compression| Deflate { compression, window_bits: None }),
        }
    }
}

impl Default for WebSocketLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for WebSocketLayer {
    type Service = WebSocketService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WebSocketService::new(inner, self.clone())
    }
}

impl fmt::Debug for WebSocketLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketLayer")
            .field("config", &self.inner.config)
            .field("connections", &self.inner.connections.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "ping_interval is zero")]
    fn a_time_of_zero_is_refused_when_it_is_set() {
        let _ = WebSocketLayer::new().ping_interval(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "\"a b\" is not a token")]
    fn a_subprotocol_that_is_no_token_is_refused_when_it_is_set() {
        let _ = WebSocketLayer::new().protocols(["a b"]);
    }

    #[test]
    fn a_subprotocol_from_outside_that_is_no_token_is_an_error() {
        let error = WebSocketLayer::new().try_protocols(["a", "a b"]).unwrap_err();
        assert_eq!(error, InvalidProtocol::NotAToken("a b".to_owned()));
        assert!(WebSocketLayer::new().try_protocols(["a", "b"]).is_ok());
    }
}
