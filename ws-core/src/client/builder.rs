//! [`Client`]: the settings of connections to other servers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, ORIGIN};
#[cfg(feature = "rustls")]
use tokio_rustls::rustls::ClientConfig;

use super::config::Config;
use super::error::InvalidHeader;
use super::proxy::{Proxies, Proxy};
use super::proxy_error::InvalidProxy;
#[cfg(feature = "deflate")]
use crate::compression::Compression;
use crate::config::{ConnectionConfig, checked};
use crate::error::expect_valid;
use crate::handshake::InvalidProtocol;
use crate::origin::{InvalidOrigin, Origin};

/// Opens connections. Make one, and clone it: a clone is cheap.
///
/// Every value is checked when it is set: a duration of zero panics, and `None` switches a time limit off where that is
/// possible.
///
/// ```no_run
/// use std::time::Duration;
/// use ws_core::client::Client;
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
    /// # Panics
    ///
    /// If the name or the value is not valid in a header, or if the handshake sets this header: `Host` (from the URL),
    /// `Origin` (see [`origin`](Self::origin)), `Upgrade`, `Connection`, `Sec-WebSocket-…`, `Content-Length`,
    /// `Transfer-Encoding`; or if it is `Proxy-Authorization` (see [`proxy`](Self::proxy)).
    /// [`try_header`](Self::try_header) returns an error instead.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// let client = Client::new().header("x-api-version", "2");
    /// ```
    #[track_caller]
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        expect_valid(self.try_header(name, value))
    }

    /// As [`header`](Self::header), for a name or a value that comes from outside of the program, such as a token.
    ///
    /// # Errors
    ///
    /// If the header cannot be sent.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// # fn token() -> String { "6f1e".to_owned() }
    /// let client = Client::new().try_header("authorization", format!("Bearer {}", token()))?;
    ///
    /// assert!(client.clone().try_header("x-user", "Ada\r\nx-admin: yes").is_err());
    /// assert!(client.try_header("sec-websocket-key", "my own").is_err());
    /// # Ok::<(), ws_core::client::InvalidHeader>(())
    /// ```
    pub fn try_header(self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self, InvalidHeader> {
        let (name, value) = InvalidHeader::check(name.as_ref(), value.as_ref())?;
        Ok(self.set(|config| drop(config.headers.insert(name, value))))
    }

    /// Sends the header `Origin`, as a browser does for a page (RFC 6454). Replaces an earlier one. Default none: servers see
    /// no browser.
    ///
    /// # Panics
    ///
    /// If it is not an origin: `https://example.com`, `http://localhost:3000`. [`try_origin`](Self::try_origin) returns
    /// an error instead.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// let client = Client::new().origin("https://example.com");
    /// ```
    #[track_caller]
    pub fn origin(self, origin: impl AsRef<str>) -> Self {
        expect_valid(self.try_origin(origin))
    }

    /// As [`origin`](Self::origin), for an origin that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// If it is not an origin.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// assert!(Client::new().try_origin("https://example.com").is_ok());
    /// assert!(Client::new().try_origin("example.com").is_err());
    /// ```
    pub fn try_origin(self, origin: impl AsRef<str>) -> Result<Self, InvalidOrigin> {
        let origin: Origin = origin.as_ref().parse()?;
        // the text of an origin is always valid in a header
        let value = HeaderValue::try_from(origin.to_string()).ok();
        Ok(self.set(|config| {
            if let Some(value) = value {
                config.headers.insert(ORIGIN, value);
            }
        }))
    }

    crate::__protocols! {
        /// The offered subprotocols, in the order of preference (RFC 6455 section 1.9). Replaces those of an
        /// earlier call. Default none.
        ///
        /// [`WebSocket::protocol`](crate::WebSocket::protocol) is the one that the server has chosen.
        panics "If a name is not a token (letters, digits and ``!#$%&'*+-.^_`|~`` only), or is in the list twice."
    }

    fn set_protocols(self, offered: Vec<Arc<str>>) -> Result<Self, InvalidProtocol> {
        let is_repeated = |&(at, name): &(usize, &Arc<str>)| offered[..at].contains(name);
        if let Some((_, name)) = offered.iter().enumerate().find(is_repeated) {
            return Err(InvalidProtocol::Twice(name.to_string()));
        }
        Ok(self.set(|config| config.protocols = offered))
    }

    /// Refuses a server that chooses none of the [`protocols`](Self::protocols). Default off.
    pub fn require_protocol(self) -> Self {
        self.set(|config| config.require_protocol = true)
    }

    /// How long it may take to open a connection: DNS, TCP, the proxy, TLS and the handshake together. Default 10 s; `None`
    /// for no limit.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn connect_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = checked("connect_timeout", timeout);
        self.set(|config| config.connect_timeout = timeout)
    }

    crate::__connection_settings!();

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
    /// use ws_core::client::Client;
    ///
    /// # let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()])?.cert.der().clone();
    /// let mut roots = RootCertStore::empty();
    /// roots.add(authority)?;
    /// let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    /// let client = Client::new().tls_config(Arc::new(config));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// With a client certificate, for a server that asks for one (mutual TLS):
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    /// use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    /// use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    /// use ws_core::client::Client;
    ///
    /// let mut roots = RootCertStore::empty();
    /// roots.add(CertificateDer::from_pem_file("authority.pem")?)?;
    /// let chain = CertificateDer::pem_file_iter("client.pem")?.collect::<Result<Vec<_>, _>>()?;
    /// let key = PrivateKeyDer::from_pem_file("client.key")?;
    /// let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    /// let client = Client::new().tls_config(Arc::new(config));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "rustls")]
    pub fn tls_config(self, config: Arc<ClientConfig>) -> Self {
        self.set(|own| own.tls = Some(config))
    }
}

/// Proxies.
impl Client {
    /// Connects through this HTTP proxy, for `ws` as for `wss`: asks it with `CONNECT` for a tunnel to the server (RFC 9110
    /// section 9.3.6). Replaces an earlier proxy, and [`proxy_from_env`](Self::proxy_from_env). Default none.
    ///
    /// The URL is `http://host:port`, or `https://host:port` for TLS to the proxy, with the feature `rustls` and the same
    /// `tls_config` as for servers. Without a port it is 80 or 443, without a scheme `http`. User and password are sent to
    /// the proxy as Basic authentication (RFC 7617): `http://user:password@host:port`, percent-encoded.
    ///
    /// The proxy resolves the name of the server. Its answer has the limits of a server's: the head is bounded, and the
    /// [`connect_timeout`](Self::connect_timeout) includes it. Many proxies allow `CONNECT` to port 443 only, which means
    /// `wss`.
    ///
    /// [`connect_over`](Self::connect_over) and [`Reconnect::over`](crate::client::Reconnect::over) use no proxy. With them,
    /// connect through a proxy of another kind, such as SOCKS.
    ///
    /// # Panics
    ///
    /// If it is not the URL of a proxy. [`try_proxy`](Self::try_proxy) returns an error instead.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// let client = Client::new().proxy("http://proxy.example:3128");
    /// ```
    #[track_caller]
    pub fn proxy(self, url: impl AsRef<str>) -> Self {
        expect_valid(self.try_proxy(url))
    }

    /// As [`proxy`](Self::proxy), for a URL that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// If it is not the URL of a proxy.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// assert!(Client::new().try_proxy("http://ada:secret@proxy.example:3128").is_ok());
    /// assert!(Client::new().try_proxy("ftp://proxy.example").is_err());
    /// ```
    pub fn try_proxy(self, url: impl AsRef<str>) -> Result<Self, InvalidProxy> {
        let proxy = Proxy::parse(url.as_ref())?;
        Ok(self.set(|config| config.proxies = Proxies::All(proxy)))
    }

    /// Connects through the proxies that the environment variables name now. Replaces an earlier
    /// [`proxy`](Self::proxy). Default off: the variables have no effect.
    ///
    /// | variable | for |
    /// |---|---|
    /// | `http_proxy`, `HTTP_PROXY` | `ws` |
    /// | `https_proxy`, `HTTPS_PROXY` | `wss` |
    /// | `all_proxy`, `ALL_PROXY` | both, if the variable above is not set |
    /// | `no_proxy`, `NO_PROXY` | servers to connect to without a proxy |
    ///
    /// The name in lower case comes first, and an empty value counts as none. The values are URLs as for
    /// [`proxy`](Self::proxy). If the one that a connection needs is not valid, connecting fails.
    ///
    /// `NO_PROXY` is a list, with commas: names of hosts (`example.com` and `.example.com` name that host and all below it),
    /// IP addresses, networks (`10.0.0.0/8`, `fd00::/8`), or `*` for all. Names are not resolved.
    ///
    /// In a CGI program (`REQUEST_METHOD` is set), `HTTP_PROXY` is ignored: its value may be a header of the request.
    ///
    /// ```
    /// use ws_core::client::Client;
    ///
    /// let client = Client::new().proxy_from_env();
    /// ```
    pub fn proxy_from_env(self) -> Self {
        self.set(|config| config.proxies = Proxies::from_env())
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
    #[should_panic(expected = "the header `upgrade` cannot be set")]
    fn a_header_of_the_handshake_is_refused_when_it_is_set() {
        let _ = Client::new().header("upgrade", "h2c");
    }

    #[test]
    #[should_panic(expected = "it has no scheme; put one in front")]
    fn an_origin_that_is_none_is_refused_when_it_is_set() {
        let _ = Client::new().origin("example.com");
    }

    #[test]
    #[should_panic(expected = "its scheme is http: write ws")]
    fn a_url_that_is_none_of_a_websocket_is_refused_before_it_is_connected_to() {
        let _ = Client::new().reconnecting("http://example.com");
    }

    #[test]
    fn values_from_outside_are_errors() {
        let client = Client::new();
        assert!(matches!(client.clone().try_header("a b", ""), Err(InvalidHeader::Name(_))));
        assert!(client.clone().try_origin("example.com").is_err());
        let twice = client.clone().try_protocols(["a", "b", "a"]);
        assert_eq!(twice.unwrap_err(), InvalidProtocol::Twice("a".to_owned()));
        assert!(client.try_reconnecting("http://example.com").unwrap_err().is_invalid_url());
    }

    #[test]
    fn what_is_printed_of_a_client_has_no_secret() {
        let client = Client::new().header("authorization", "Bearer 6f1e");
        let printed = format!("{client:?}");
        assert!(printed.contains("authorization") && !printed.contains("6f1e"), "{printed}");
    }
}
