//! [`WebSocketLayer`]: the middleware.
//!
//! It differs from a framework's WebSocket extractor in that it is applied once, to a whole router, and from then on
//! every upgrade below is validated, checked for its origin, timed, kept alive, bounded and drainable. Requests that
//! are no upgrades pass untouched.
//!
//! ```
//! use std::time::Duration;
//! use tower_layer::Layer;
//! use ws_core::{OriginPolicy, WebSocketLayer, service};
//!
//! let layer = WebSocketLayer::new()
//!     .origin(OriginPolicy::allow(["https://app.example.com"])?)
//!     .protocols(["chat.v2", "chat.v1"])
//!     .ping_interval(Duration::from_secs(30))
//!     .max_connections(10_000);
//!
//! let app = layer.layer(service(async |mut socket: ws_core::WebSocket| {
//!     socket.send("hello").await
//! }));
//! # fn is_service<S: tower_service::Service<http::Request<()>>>(_: S) {}
//! # is_service(app);
//! # Ok::<(), ws_core::InvalidOrigin>(())
//! ```

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
use crate::config::{Config, ConnectionConfig};
use crate::handshake::{self, Rejection, is_token};
use crate::observer::Observer;
use crate::origin::OriginPolicy;
use crate::tracker::{Connections, NoSlot};
use crate::upgrade::{Accepted, WebSocketUpgrade};

/// The middleware: put it around a router, and every upgrade on it is taken care of.
///
/// A layer and its clones share their [`Connections`]. Where several layers stand around one route, each one checks
/// the handshake, and the innermost serves the connection.
///
/// Every time is checked when it is set: `None` switches it off where that can be, and a time of zero panics.
///
/// The example is [at the module](crate::layer).
#[derive(Clone)]
#[must_use = "a layer does nothing before it is put around a service"]
pub struct WebSocketLayer {
    config: Arc<Config>,
    connections: Connections,
}

impl WebSocketLayer {
    /// The layer with its defaults, which are those of a public server: same origin, handshake timeout 10 s, a ping
    /// after 20 s of silence, and bounds on all that a peer can send.
    pub fn new() -> Self {
        Self { config: Arc::new(Config::default()), connections: Connections::default() }
    }

    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
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
    /// If a name is not a token: letters, digits and ``!#$%&'*+-.^_`|~`` only.
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let known = protocols.into_iter().map(|protocol| {
            let protocol = protocol.as_ref();
            assert!(
                is_token(protocol),
                "the subprotocol {protocol:?} is not a token: use letters, digits and !#$%&'*+-.^_`|~ only"
            );
            Arc::from(protocol)
        });
        let known: Vec<Arc<str>> = known.collect();
        self.set(|config| config.protocols = known)
    }

    /// Refuses a handshake that offers none of the [`protocols`](Self::protocols) with 400. Default off.
    pub fn require_protocol(self) -> Self {
        self.set(|config| config.require_protocol = true)
    }

    /// How many connections there may be; one more is refused with 503 and `Retry-After`. Default no limit.
    ///
    /// Handshakes under way count. The clones of this layer share the limit.
    pub fn max_connections(self, limit: impl Into<Option<usize>>) -> Self {
        self.connections.set_max_connections(limit);
        self
    }

    /// The live connections of this layer and its clones: their count, and the way to drain them.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// How long a handshake may take, from the request to the flushed response; then the service below is dropped, and
    /// the answer is 408. Default 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn handshake_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("handshake_timeout", timeout);
        self.set(|config| config.handshake_timeout = timeout)
    }

    /// After how long a silence of the peer a ping is sent. Default 20 s; each connection takes up to 10 % more or
    /// less, so that those that came together do not ping together. `None` switches keepalive off.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn ping_interval(self, interval: impl Into<Option<Duration>>) -> Self {
        let interval = checked("ping_interval", interval);
        self.set_connection(|config| config.ping_interval = interval)
    }

    /// How long after a ping a sign of life has to come: the pong, or any other byte. Then the connection is over, with
    /// 1011 if that can still be said. Default 20 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn pong_timeout(self, timeout: Duration) -> Self {
        checked("pong_timeout", timeout);
        self.set_connection(|config| config.pong_timeout = timeout)
    }

    /// How long the peer has to answer our Close frame, counted from when it last took any of what was sent; and how
    /// long messages that came before its own Close frame delay our answer to it while the handler does not take them.
    /// Default 5 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        checked("close_timeout", timeout);
        self.set_connection(|config| config.close_timeout = timeout)
    }

    /// After how long without a *message*, either way, the connection is closed with 1001. Pings do not count. Default
    /// off.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("idle_timeout", timeout);
        self.set_connection(|config| config.idle_timeout = timeout)
    }

    /// How long a message may take from its first byte to its last; then the connection is closed with 1008. Default
    /// 60 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn message_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("message_timeout", timeout);
        self.set_connection(|config| config.message_timeout = timeout)
    }

    /// How long the peer may take nothing of what was sent; then the connection is dropped. Default 30 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn send_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("send_timeout", timeout);
        self.set_connection(|config| config.send_timeout = timeout)
    }

    /// The largest message, in bytes, over all its fragments and after decompression; a larger one closes the
    /// connection with 1009 before memory is taken for it. Default 1 MiB.
    pub fn max_message_size(self, bytes: usize) -> Self {
        self.set_connection(|config| config.limits.max_message_size = bytes)
    }

    /// The largest frame, in bytes as they are on the wire. Default 1 MiB.
    pub fn max_frame_size(self, bytes: usize) -> Self {
        self.set_connection(|config| config.limits.max_frame_size = bytes)
    }

    /// How many fragments a message may have; one more closes the connection with 1008. Default 4,096.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn max_fragments(self, fragments: usize) -> Self {
        assert!(
            fragments > 0,
            "max_fragments is 0: a message has at least one; use 1 to refuse fragmentation"
        );
        self.set_connection(|config| config.limits.max_fragments = fragments)
    }

    /// How much may wait for a handler that does not receive: after that many messages, or bytes, reading pauses, and
    /// the peer comes to feel it. Default 32 messages or 64 KiB.
    ///
    /// # Panics
    ///
    /// If one of them is 0.
    pub fn inbound_queue(self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "an inbound queue of 0 never takes a message: use at least 1");
        self.set_connection(|config| {
            config.inbound_messages = messages;
            config.inbound_bytes = bytes;
        })
    }

    /// How many bytes may wait to be written before `send` waits. Default 64 KiB.
    ///
    /// It is a high-water mark, not a size: memory is taken when there is something to write, and given back after.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn outbound_buffer(self, bytes: usize) -> Self {
        assert!(bytes > 0, "an outbound buffer of 0 bytes never takes a message: use at least 1");
        self.set_connection(|config| config.outbound_bytes = bytes)
    }

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

    /// Tells `observer` what happens on the connections. Default nobody.
    pub fn observer(self, observer: impl Observer) -> Self {
        let observer: Arc<dyn Observer> = Arc::new(observer);
        self.set_connection(|config| config.observer = Some(observer))
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
        self.check(parts).inspect_err(|rejection| {
            self.config.connection.observe(|observer| observer.on_refused(rejection));
        })
    }

    fn check(&self, parts: &Parts) -> Result<Accepted, Rejection> {
        // first of all, and again with the slot, which is atomic
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
        Ok(Accepted { handshake, slot, deadline, config, confirmed: None })
    }

    fn no_slot(&self, why: NoSlot) -> Rejection {
        let retry_after = self.connections.retry_after();
        match why {
            NoSlot::Draining => Rejection::Draining { retry_after },
            NoSlot::Full => Rejection::TooManyConnections { retry_after },
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn connection_config(&self) -> Arc<ConnectionConfig> {
        Arc::clone(&self.config.connection)
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
            deflate: self.config.compression.map(|compression| Deflate { compression, window_bits: None }),
        }
    }
}

/// A time that is not zero.
fn checked(name: &str, time: impl Into<Option<Duration>>) -> Option<Duration> {
    let time = time.into();
    assert!(time != Some(Duration::ZERO), "{name} is zero, which no peer can meet: use a longer time");
    time
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
            .field("config", &self.config)
            .field("connections", &self.connections.len())
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
}
