//! The settings of a [`Client`](super::Client), with their defaults.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
#[cfg(feature = "rustls")]
use tokio_rustls::rustls::ClientConfig;

use super::proxy::Proxies;
#[cfg(feature = "deflate")]
use crate::compression::Compression;
use crate::config::ConnectionConfig;

/// What all connections of a client have in common.
#[derive(Clone)]
pub(super) struct Config {
    /// The headers of the user. None of them belongs to the handshake.
    pub(super) headers: HeaderMap,
    /// The offered subprotocols, in the order of preference. Each one is a token.
    pub(super) protocols: Vec<Arc<str>>,
    pub(super) require_protocol: bool,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) proxies: Proxies,
    #[cfg(feature = "deflate")]
    pub(super) compression: Option<Compression>,
    #[cfg(feature = "rustls")]
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) connection: Arc<ConnectionConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            protocols: Vec::new(),
            require_protocol: false,
            // like the handshake timeout of a server
            connect_timeout: Some(Duration::from_secs(10)),
            proxies: Proxies::None,
            #[cfg(feature = "deflate")]
            compression: None,
            #[cfg(feature = "rustls")]
            tls: None,
            connection: Arc::default(),
        }
    }
}
