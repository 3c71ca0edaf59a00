//! TLS to servers.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, OnceLock};

use redis::RedisError;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::config::GREETING;
use crate::error::ConnectError;

/// What is trusted, and how the client shows who it is: as the application says, or else the roots of the operating system.
#[derive(Clone, Default)]
pub(crate) struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Self {
        Self(Some(config))
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        shown: &str,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let address = || shown.to_owned();
        let failed = |error: io::Error| ConnectError::Tls { address: address(), source: error.into() };
        let config = match &self.0 {
            Some(config) => Arc::clone(config),
            None => default_config().await.map_err(failed)?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ConnectError::InvalidAddress { address: address(), source: error.into() })?;
        let unreachable =
            |error: io::Error| ConnectError::Unreachable { address: address(), source: error.into() };
        let stream = timeout(GREETING, TcpStream::connect((host, port))).await;
        let stream = stream.unwrap_or_else(|elapsed| Err(elapsed.into())).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let opening = timeout(GREETING, TlsConnector::from(config).connect(name, stream)).await;
        opening.unwrap_or_else(|elapsed| Err(elapsed.into())).map_err(failed)
    }
}

/// Whether an error of the client library was caused by one of TLS.
pub(crate) fn is_from_tls(error: &RedisError) -> bool {
    let source =
        error.source().and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let error = source.and_then(|source| source.downcast_ref::<io::Error>());
    let Some(inner) = error.and_then(io::Error::get_ref) else { return false };
    inner.is::<rustls::Error>()
}

/// The configuration with the roots of the operating system, which are read once.
async fn default_config() -> io::Result<Arc<ClientConfig>> {
    static DEFAULT: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = DEFAULT.get() {
        return Ok(Arc::clone(config));
    }
    // it reads files, which blocks
    let config = tokio::task::spawn_blocking(read_config).await.map_err(io::Error::other)??;
    Ok(Arc::clone(DEFAULT.get_or_init(|| Arc::new(config))))
}

fn read_config() -> io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = "the operating system has no root certificates: install them (`ca-certificates`), or pass a `tls_config`";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    // the process may have no default provider, or the features of rustls may enable two
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
