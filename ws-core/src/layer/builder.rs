//! [`WebSocketLayer`]: the settings of the middleware.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::warnings::Warnings;
#[cfg(feature = "deflate")]
use crate::compression::Compression;
#[cfg(all(feature = "deflate", feature = "testing"))]
use crate::config::Deflate;
#[cfg(feature = "testing")]
use crate::config::Negotiated;
use crate::config::{Config, ConnectionConfig, checked};
use crate::handshake::InvalidProtocol;
use crate::origin::OriginPolicy;
use crate::tracker::Connections;

/// The middleware: put it around a router, and it handles every upgrade on that router.
///
/// It differs from a framework's WebSocket extractor in that it is applied once, to a whole router. Then every upgrade on
/// that router is validated, checked for its origin, timed, kept alive, bounded and drainable. Requests that are no
/// upgrades pass unchanged.
///
/// A layer and its clones share their [`Connections`].
///
/// For a route with other settings of a connection, the methods of [`WebSocketUpgrade`](crate::WebSocketUpgrade) are the
/// shortest way. A route without one, as of [`service`](crate::service()), gets a clone of the layer:
/// `layer.clone().max_message_size(64 << 20).layer(service(upload))`. If several layers are around one route, each of them
/// checks the handshake, and the innermost serves the connection. It counts and drains the connection, too: a clone of the
/// layer around it does so with that layer, and takes one slot in all.
///
/// Every duration is checked when it is set: zero panics, and `None` switches a time limit off where that is possible.
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

/// In one allocation, because a framework may clone the layer for each connection and route.
#[derive(Clone, Default)]
pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) connections: Connections,
    pub(super) warnings: Arc<Warnings>,
}

impl WebSocketLayer {
    /// A layer with the defaults, which suit a public server: same origin, a handshake timeout of 10 s, a ping after 20 s
    /// of silence, and bounds on everything that a peer can send.
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
    /// A browser sends the cookies of a site with every handshake, from any page. Without this check any page could act as
    /// your user (RFC 6455 section 10.2).
    pub fn origin(self, policy: OriginPolicy) -> Self {
        self.set(|config| config.origin = policy)
    }

    crate::__protocols! {
        /// The subprotocols that the server knows, in its order of preference. Default none.
        ///
        /// The server chooses the first of this list that the client offers (RFC 6455 section 4.2.2).
        panics "If a name is not a token: letters, digits and ``!#$%&'*+-.^_`|~`` only."
    }

    #[expect(clippy::unnecessary_wraps, reason = "a client has more to check")]
    fn set_protocols(self, known: Vec<Arc<str>>) -> Result<Self, InvalidProtocol> {
        Ok(self.set(|config| config.protocols = known))
    }

    /// Refuses a handshake that offers none of the [`protocols`](Self::protocols) with 400. Default off.
    pub fn require_protocol(self) -> Self {
        self.set(|config| config.require_protocol = true)
    }

    /// How many connections may be open. Further handshakes are refused with 503 and `Retry-After`. Default no limit.
    ///
    /// Handshakes in progress count. The clones of this layer share the limit.
    pub fn max_connections(self, limit: impl Into<Option<usize>>) -> Self {
        self.inner.connections.set_max_connections(limit);
        self
    }

    /// A handle to the open connections of this layer and its clones, to count and to drain them.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.inner.connections.clone()
    }

    /// How long a handshake may take, from the request to the flushed response. After that time the future of the inner
    /// service is dropped, and the answer is 408. Default 10 s; `None` for no limit.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("handshake_timeout", timeout);
        self.set(|config| config.handshake_timeout = timeout)
    }

    crate::__connection_settings!();

    /// Compresses messages with peers that offer permessage-deflate (RFC 7692), as browsers do. Default off: see
    /// [`Compression`] for its cost, and for what must not be compressed.
    ///
    /// For compressed messages of the peer, [`max_message_size`](Self::max_message_size) is a limit of the size after
    /// decompression, and [`max_frame_size`](Self::max_frame_size) of the size before.
    #[cfg(feature = "deflate")]
    pub fn compression(self, compression: impl Into<Option<Compression>>) -> Self {
        let compression = compression.into();
        self.set(|config| config.compression = compression)
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    #[cfg(any(fuzzing, benchmarking))]
    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    #[cfg(feature = "testing")]
    pub(crate) fn connection_config(&self) -> Arc<ConnectionConfig> {
        Arc::clone(&self.inner.config.connection)
    }

    /// What is negotiated with a client that offers everything.
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
    #[should_panic(expected = "min_message_rate is 0")]
    fn a_rate_of_zero_is_refused_when_it_is_set() {
        let _ = WebSocketLayer::new().min_message_rate(0);
    }

    #[test]
    fn the_limit_of_a_frame_is_that_of_a_message_until_it_is_set() {
        let limits = |layer: WebSocketLayer| *layer.inner.config.connection.limits;
        let layer = WebSocketLayer::new().max_message_size(5);
        assert_eq!(limits(layer.clone()).max_frame_size, 5);
        assert_eq!(limits(layer.clone().max_message_size(6)).max_frame_size, 6);
        assert_eq!(limits(layer.max_frame_size(3).max_message_size(7)).max_frame_size, 3);
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
