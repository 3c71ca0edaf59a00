//! A server at one address: connections to it are opened here, with what the client library needs for it.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion,
    RedisError,
};
use tokio::time::timeout;

use crate::config::{CONNECTING, GREETING};
use crate::error::ConnectError;
use crate::link::{End, Heard, Link};
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// Calls that the client library queues.
const QUEUE: usize = 4_096;

/// What the addresses of servers over TLS begin with, and what they begin with without it.
const SECURE: [(&str, &str); 2] = [("rediss://", "redis://"), ("valkeys://", "valkey://")];

/// How to get into a server, whatever its address says.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// A user and a password.
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) database: Option<u16>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Tls,
}

pub(crate) struct Endpoint {
    client: Client,
    shown: String,
    is_secure: bool,
    #[cfg(feature = "tls")]
    tls: Tls,
}

impl Endpoint {
    pub(crate) fn parse(url: &str, options: &Options) -> Result<Self, ConnectError> {
        let secure = SECURE.iter().find_map(|(secure, plain)| Some((plain, url.strip_prefix(secure)?)));
        let plain = secure.map_or(url.to_owned(), |(plain, rest)| format!("{plain}{rest}"));
        // without user and password
        let bare = || url.rsplit_once('@').map_or(url, |(_, bare)| bare).to_owned();
        if secure.is_some() && url.contains('#') {
            let source = "certificates are checked, whatever follows the address".into();
            return Err(ConnectError::InvalidAddress { address: bare(), source });
        }
        let info = plain.into_connection_info();
        let info =
            info.map_err(|error| ConnectError::InvalidAddress { address: bare(), source: error.into() })?;
        let endpoint = Self::new(info, secure.is_some(), options)?;
        if cfg!(not(feature = "tls")) && endpoint.is_secure {
            return Err(ConnectError::TlsNotEnabled { address: bare() });
        }
        Ok(endpoint)
    }

    fn new(info: ConnectionInfo, is_secure: bool, options: &Options) -> Result<Self, ConnectError> {
        let shown = info.addr().to_string();
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some((user, password)) = &options.credentials {
            settings = settings.set_username(user).set_password(password);
        }
        if let Some(database) = options.database {
            settings = settings.set_db(database.into());
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = Client::open(info);
        let client = client
            .map_err(|error| ConnectError::InvalidAddress { address: shown.clone(), source: error.into() })?;
        Ok(Self {
            client,
            shown,
            is_secure,
            #[cfg(feature = "tls")]
            tls: options.tls.clone(),
        })
    }

    /// Another server, over TLS if this one is.
    #[cfg(any(feature = "sentinel", feature = "cluster"))]
    pub(crate) fn beside(&self, host: String, port: u16, options: &Options) -> Result<Self, ConnectError> {
        let address = format!("{host}:{port}");
        let info = (host, port).into_connection_info();
        let info = info.map_err(|error| ConnectError::InvalidAddress { address, source: error.into() })?;
        Self::new(info, self.is_secure, options)
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Opens a connection. `heard` gets what is pushed, and must not wait.
    pub(crate) async fn connect(&self, heard: impl Heard) -> Result<Link, ConnectError> {
        let end = Arc::new(End::default());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(GREETING))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(Arc::clone(&end).on_push(heard));
        match timeout(CONNECTING, self.open(config)).await {
            Ok(connection) => Ok(Link::new(connection?, end)),
            Err(elapsed) => {
                Err(ConnectError::Unreachable { address: self.shown.clone(), source: elapsed.into() })
            }
        }
    }

    async fn open(&self, config: AsyncConnectionConfig) -> Result<MultiplexedConnection, ConnectError> {
        #[cfg(feature = "tls")]
        let info = self.client.get_connection_info();
        #[cfg(feature = "tls")]
        if let (true, redis::ConnectionAddr::Tcp(host, port)) = (self.is_secure, info.addr()) {
            let stream = self.tls.connect(host, *port, &self.shown).await?;
            let opening = MultiplexedConnection::new_with_config(info.redis_settings(), stream, config);
            let (connection, driver) = opening.await.map_err(|error| self.error(error))?;
            // it ends with the last clone of the connection
            tokio::spawn(driver);
            return Ok(connection);
        }
        let opening = self.client.get_multiplexed_async_connection_with_config(&config);
        opening.await.map_err(|error| self.error(error))
    }

    fn error(&self, error: RedisError) -> ConnectError {
        let address = self.shown.clone();
        let is_denied = matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
        // the server may refuse the certificate of the client when it is through with TLS for the client
        #[cfg(feature = "tls")]
        if crate::tls::is_from_tls(&error) {
            return ConnectError::Tls { address, source: error.into() };
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => ConnectError::Denied { address, source: error.into() },
            _ if is_denied => ConnectError::Denied { address, source: error.into() },
            ErrorKind::RESP3NotSupported => ConnectError::TooOld { address },
            _ if is_old(&error) => ConnectError::TooOld { address },
            ErrorKind::Io => ConnectError::Unreachable { address, source: error.into() },
            _ => ConnectError::Failed { address, source: error.into() },
        }
    }
}

#[cfg(feature = "cluster")]
impl Endpoint {
    /// How to get into it, and into those that let the same in.
    pub(crate) fn options(&self) -> Options {
        let settings = self.client.get_connection_info().redis_settings();
        let password = settings.password().map(str::to_owned);
        let user = || settings.username().unwrap_or("default").to_owned();
        Options {
            credentials: password.map(|password| (user(), password)),
            database: None,
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
        }
    }

    pub(crate) fn host(&self) -> &str {
        self.shown.rsplit_once(':').map_or(&self.shown, |(host, _)| host)
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(crate) fn database(&self) -> i64 {
        self.client.get_connection_info().redis_settings().db()
    }
}

/// Whether the server does not know how to speak RESP3.
fn is_old(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default().to_ascii_lowercase();
    error.code() == Some("NOPROTO") || detail.contains("unknown command") && detail.contains("hello")
}
