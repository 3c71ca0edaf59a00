//! Where the server is: each connection asks anew.

use std::fmt;

use crate::endpoint::Endpoint;
use crate::error::{ConnectError, Failure};
use crate::link::Link;

pub(crate) enum Address {
    Server(Endpoint),
}

impl Address {
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Server(server) => server.shown(),
        }
    }

    /// Opens a connection. `heard` gets what is pushed, and must not wait.
    pub(crate) async fn connect(
        &self,
        heard: impl Fn(Vec<u8>, Vec<u8>) + Send + Sync + 'static,
    ) -> Result<Link, ConnectError> {
        match self {
            Self::Server(server) => server.connect(heard).await,
        }
    }

    /// The server does not let a connection become usable.
    pub(crate) fn unusable(&self, failure: Failure) -> ConnectError {
        let address = self.shown().to_owned();
        if failure.to_string().starts_with("NOPERM") {
            return ConnectError::Denied { address, source: failure.into() };
        }
        ConnectError::Failed { address, source: failure.into() }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}
