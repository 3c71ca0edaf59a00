//! [`Client`]: the settings of connections to other servers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, ORIGIN};
#[cfg(feature = "rustls")]
use tokio_rustls::rustls::ClientConfig;

use super::config::Config;
use super::error::InvalidHeader;
#[cfg(feature = "deflate")]
use crate::compression::Compression;
use crate::config::{ConnectionConfig, checked, connection_knobs};
use crate::handshake::protocol_names;
use crate::origin::{InvalidOrigin, Origin};

/// Opens connections. Make one, and clone it: a clone is cheap.
///
/// Every value is checked when it is set: a duration of zero panics, and `None` switches a time limit off where that is
/// possible.
///
/// ```no_run
/// use std::time::Duration;
/// use ws_core::Client;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new().protocols(["chat"]).ping_interval(Duration::from_secs(10));
/// let (mut first, mut second) = (client.connect("ws://a.example/").await?, client.connect("ws://b.example/").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a client does nothing until it connects"]
pub struct Client {
    pub(super) config: Arc<Config>,
}

impl Client {
    /// A client with the defaults: see the [table](crate::client#defaults).
    pub fn new() -> Self {
        Self { config: Arc::default() }
    }

    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }

    fn set_connection(self, set: impl FnOnce(&mut ConnectionConfig)) -> Self {
        self.set(|config| set(Arc::make_mut(&mut config.connection)))
    }

    /// Sends a header with the handshake. Replaces an earlier header of this name. Default none.
    ///
    /// # Errors
    ///
    /// If the name or the value is not valid in a header, or if the handshake sets this header: `Host` (from the URL),
    /// `Origin` (see [`origin`](Self::origin)), `Upgrade`, `Connection`, `Sec-WebSocket-…`, `Content-Length`,
    /// `Transfer-Encoding`.
    ///
    /// ```
    /// use ws_core::Client;
    ///
    /// let client = Client::new().header("cookie", "session=6f1e")?;
    ///
    /// assert!(client.clone().header("x-user", "Ada\r\nx-admin: yes").is_err());
    /// assert!(client.header("sec-websocket-key", "my own").is_err());
    /// # Ok::<(), ws_core::client::InvalidHeader>(())
    /// ```
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self, InvalidHeader> {
        let (name, value) = InvalidHeader::check(name.as_ref(), value.as_ref())?;
        Ok(self.set(|config| drop(config.headers.insert(name, value))))
    }

    /// Sends the header `Origin`, as a browser does for a page (RFC 6454). Default none: servers see no browser.
    ///
    /// # Errors
    ///
    /// If it is not an origin: `https://example.com`, `http://localhost:3000`.
    ///
    /// ```
    /// use ws_core::Client;
    ///
    /// let client = Client::new().origin("https://example.com")?;
    /// assert!(client.origin("example.com").is_err());
    /// # Ok::<(), ws_core::InvalidOrigin>(())
    /// ```
    pub fn origin(self, origin: impl AsRef<str>) -> Result<Self, InvalidOrigin> {
        let origin: Origin = origin.as_ref().parse()?;
        // the text of an origin is always valid in a header
        let value = HeaderValue::try_from(origin.to_string()).ok();
        Ok(self.set(|config| config.headers.extend(value.map(|value| (ORIGIN, value)))))
    }

    /// The offered subprotocols, in the order of preference (RFC 6455 section 1.9). Default none.
    ///
    /// [`WebSocket::protocol`](crate::WebSocket::protocol) is the one that the server has chosen.
    ///
    /// # Panics
    ///
    /// If a name is not a token (letters, digits and ``!#$%&'*+-.^_`|~`` only), or is in the list twice.
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        let offered = protocol_names(protocols);
        for (at, name) in offered.iter().enumerate() {
            assert!(!offered[..at].contains(name), "the subprotocol {name:?} is there twice: offer it once");
        }
        self.set(|config| config.protocols = offered)
    }

    /// Refuses a server that chooses none of the [`protocols`](Self::protocols). Default off.
    pub fn require_protocol(self) -> Self {
        self.set(|config| config.require_protocol = true)
    }

    /// How long it may take to open a connection: DNS, TCP, TLS and the handshake together. Default 10 s; `None` for no
    /// limit.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn connect_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("connect_timeout", timeout);
        self.set(|config| config.connect_timeout = timeout)
    }

    connection_knobs!();

    /// Offers to compress messages (permessage-deflate, RFC 7692), each one by itself, and compresses if the server agrees.
    /// Default off: see [`Compression`] for its cost, and for what must not be compressed.
    ///
    /// The offer asks the server to compress each message by itself, too. If the server agrees without
    /// `server_no_context_takeover`, connecting fails (section 7.1.1.1).
    #[cfg(feature = "deflate")]
    pub fn compression(self, compression: impl Into<Option<Compression>>) -> Self {
        let compression = compression.into();
        self.set(|config| config.compression = compression)
    }

    /// The TLS configuration: roots, certificates, versions. Default the roots that the operating system trusts, TLS 1.2
    /// and 1.3.
    ///
    /// Leave its `alpn_protocols` empty, or set them to `http/1.1` only.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    /// use ws_core::Client;
    ///
    /// # let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()])?.cert.der().clone();
    /// let mut roots = RootCertStore::empty();
    /// roots.add(authority)?;
    /// let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    /// let client = Client::new().tls_config(Arc::new(config));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls")]
    pub fn tls_config(self, config: Arc<ClientConfig>) -> Self {
        self.set(|own| own.tls = Some(config))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // without the values, which may be secrets; `HeaderMap::keys` would print them
        f.debug_struct("Client")
            .field("headers", &self.config.headers.keys().collect::<Vec<_>>())
            .field("protocols", &self.config.protocols)
            .field("require_protocol", &self.config.require_protocol)
            .field("connect_timeout", &self.config.connect_timeout)
            .field("connection", &self.config.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "connect_timeout is zero")]
    fn a_time_of_zero_is_refused_when_it_is_set() {
        let _ = Client::new().connect_timeout(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "\"a\" is there twice")]
    fn a_subprotocol_that_is_there_twice_is_refused_when_it_is_set() {
        let _ = Client::new().protocols(["a", "b", "a"]);
    }

    #[test]
    fn what_is_printed_of_a_client_has_no_secret() {
        let client = Client::new().header("authorization", "Bearer 6f1e").unwrap();
        let printed = format!("{client:?}");
        assert!(printed.contains("authorization") && !printed.contains("6f1e"), "{printed}");
    }
}
