//! Why a proxy cannot be used: [`InvalidProxy`] when it is set, [`ProxyError`] when it is connected through.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use http::{Response, StatusCode};

/// The URL of a proxy that this client cannot connect through. Neither its message nor its `Debug` has the password.
///
/// ```
/// use ws_core::client::Client;
///
/// let error = Client::new().try_proxy("socks5://localhost:1080").unwrap_err();
/// assert!(error.to_string().starts_with("this is not a proxy to connect through: its scheme is not http"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a proxy to connect through: {why}")]
pub struct InvalidProxy {
    /// What is wrong with it, and what to write.
    pub(super) why: &'static str,
}

/// Why a proxy did not open a tunnel to the server.
///
/// ```
/// # fn report(error: &ws_core::client::ConnectError) {
/// if let Some(error) = error.proxy() {
///     println!("{} answered {:?}", error.proxy(), error.response().map(http::Response::status));
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ProxyError {
    pub(super) proxy: String,
    pub(super) failure: ProxyFailure,
}

/// What went wrong, as the end of a sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyFailure {
    #[error("cannot be used: {0}")]
    Unusable(&'static str),
    #[error("cannot be connected to: {0}")]
    Connect(#[source] io::Error),
    #[error("cannot be connected to by TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("refused to connect to the server, with {}{}", .0.status(), advice(.0.status()))]
    Refused(Box<Response<()>>),
    #[error("gave an answer that opens no tunnel: {0}")]
    InvalidResponse(Cow<'static, str>),
    #[error("disconnected before its answer was complete")]
    Disconnected(#[source] Option<io::Error>),
}

/// What to do about a refusal.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            ": write user and password in its URL, http://user:password@host"
        }
        _ => "",
    }
}

impl ProxyError {
    /// The URL of the proxy without user and password, such as `http://proxy.example:3128`. If the value of an environment
    /// variable is not the URL of a proxy, it is ``of the environment variable `HTTP_PROXY` ``, with the name of that variable.
    #[must_use]
    pub fn proxy(&self) -> &str {
        &self.proxy
    }

    /// The answer with which the proxy refused to connect to the server.
    #[must_use]
    pub fn response(&self) -> Option<&Response<()>> {
        match &self.failure {
            ProxyFailure::Refused(response) => Some(response),
            _ => None,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} {}", self.proxy, self.failure)
    }
}

impl Error for ProxyError {
    // the failure is a part of this error, not its cause
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.source()
    }
}
