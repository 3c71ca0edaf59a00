//! Every knob, its unit, its default, and the reason for the default, in one table.
//!
//! The builder methods of [`WebSocketLayer`](crate::WebSocketLayer) set these; the fields are documented there.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "deflate")]
use crate::compression::Compression;
use crate::observer::Observer;
use crate::origin::OriginPolicy;

/// How handshakes are judged.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) origin: OriginPolicy,
    /// In the server's order of preference; each one is a token.
    pub(crate) protocols: Vec<Arc<str>>,
    pub(crate) require_protocol: bool,
    pub(crate) handshake_timeout: Option<Duration>,
    #[cfg(feature = "deflate")]
    pub(crate) compression: Option<Compression>,
    /// Shared by the connections.
    pub(crate) connection: Arc<ConnectionConfig>,
}

/// How a connection behaves once it is open.
#[derive(Clone)]
pub(crate) struct ConnectionConfig {
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) message_timeout: Option<Duration>,
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) inbound_messages: usize,
    pub(crate) inbound_bytes: usize,
    pub(crate) outbound_bytes: usize,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl ConnectionConfig {
    /// Calls the observer, if there is one. Its panic is not ours: it is logged by the panic hook, and goes no further.
    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| tell(observer.as_ref())));
        }
    }
}

/// What was negotiated for one connection, beside what all connections have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// permessage-deflate (RFC 7692).
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<Deflate>,
}

/// How our messages are compressed. The peer's are inflated whatever it chose, and nobody keeps a context.
#[cfg(feature = "deflate")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deflate {
    pub(crate) compression: Compression,
    /// Base-2 logarithm of the size of our window, if the client wants it smaller than it could be: 9 to 15.
    pub(crate) window_bits: Option<u8>,
}

/// How much a peer may send in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// In bytes, over all fragments, and after decompression.
    pub(crate) max_message_size: usize,
    /// In bytes, as they are on the wire.
    pub(crate) max_frame_size: usize,
    pub(crate) max_fragments: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // a browser sends cookies with an upgrade from any page
            origin: OriginPolicy::same_origin(),
            protocols: Vec::new(),
            require_protocol: false,
            // as Netty and Python's `websockets`
            handshake_timeout: Some(Duration::from_secs(10)),
            // memory, and CRIME/BREACH
            #[cfg(feature = "deflate")]
            compression: None,
            connection: Arc::new(ConnectionConfig::default()),
        }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            // below the 30–60 s after which proxies cut what is idle
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            // quiet is not dead
            idle_timeout: None,
            // a peer that drips one message for ever
            message_timeout: Some(Duration::from_secs(60)),
            // a peer that stops reading
            send_timeout: Some(Duration::from_secs(30)),
            limits: Limits::default(),
            // enough to be busy while the handler is, little enough for 10,000 connections
            inbound_messages: 32,
            inbound_bytes: 64 * 1024,
            outbound_bytes: 64 * 1024,
            observer: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_size: 1024 * 1024, max_frame_size: 1024 * 1024, max_fragments: 4096 }
    }
}

impl std::fmt::Debug for ConnectionConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionConfig")
            .field("ping_interval", &self.ping_interval)
            .field("pong_timeout", &self.pong_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("message_timeout", &self.message_timeout)
            .field("send_timeout", &self.send_timeout)
            .field("limits", &self.limits)
            .field("inbound_messages", &self.inbound_messages)
            .field("inbound_bytes", &self.inbound_bytes)
            .field("outbound_bytes", &self.outbound_bytes)
            .finish_non_exhaustive()
    }
}
