//! TLS for clients, with rustls.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use super::error::ConnectError;

/// The only protocol over which this client upgrades.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Starts TLS over `stream`, with the server of this name.
pub(super) async fn connect<S>(
    stream: S,
    host: &str,
    config: Option<Arc<ClientConfig>>,
) -> Result<TlsStream<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = match config {
        Some(config) => config,
        None => default_config().await?,
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::InvalidUrl {
        why: "its host is neither a name nor an address, which TLS needs",
    })?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)?;
    match stream.get_ref().1.alpn_protocol() {
        None | Some(HTTP_1_1) => Ok(stream),
        Some(_) => Err(ConnectError::invalid_response(
            "TLS has agreed on another protocol than HTTP/1.1: offer only `http/1.1` in `alpn_protocols`, or none",
        )),
    }
}

/// The configuration with the roots of the operating system, which are read once.
async fn default_config() -> Result<Arc<ClientConfig>, ConnectError> {
    static DEFAULT: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = DEFAULT.get() {
        return Ok(Arc::clone(config));
    }
    // it reads files, which blocks
    let config = tokio::task::spawn_blocking(read_config).await.map_err(std::io::Error::other);
    let config = config.and_then(std::convert::identity).map_err(ConnectError::Tls)?;
    Ok(Arc::clone(DEFAULT.get_or_init(|| Arc::new(config))))
}

fn read_config() -> std::io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = "the operating system has no root certificates: install them (`ca-certificates`), or pass a `tls_config`";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    }
    // the process may have no default provider, or the features of rustls may enable two
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        config.map_err(std::io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(config)
}
