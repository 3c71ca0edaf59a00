//! Where the server is: each connection asks anew.

use std::fmt;

use crate::endpoint::Endpoint;
use crate::error::{ConnectError, Failure};
use crate::link::Link;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;

pub(crate) enum Address {
    Server(Endpoint),
    #[cfg(feature = "sentinel")]
    Master(Sentinels),
}

impl Address {
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Server(server) => server.shown(),
            #[cfg(feature = "sentinel")]
            Self::Master(sentinels) => sentinels.shown(),
        }
    }

    /// Opens a connection. `heard` gets what is pushed, and must not wait.
    pub(crate) async fn connect(
        &self,
        heard: impl Fn(Vec<u8>, Vec<u8>) + Send + Sync + 'static,
    ) -> Result<Link, ConnectError> {
        match self {
            Self::Server(server) => server.connect(heard).await,
            #[cfg(feature = "sentinel")]
            Self::Master(sentinels) => sentinels.connect(heard).await,
        }
    }

    /// The server does not let a connection become usable.
    pub(crate) fn unusable(&self, failure: Failure) -> ConnectError {
        ConnectError::unusable(self.shown(), failure)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}
