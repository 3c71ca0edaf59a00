//! Where a server is: each connection asks anew.

use std::fmt;

#[cfg(feature = "cluster")]
use crate::cluster::Node;
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, Failure};
use crate::link::{Heard, Link};
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;

pub(crate) enum Address {
    Server(Endpoint),
    #[cfg(feature = "sentinel")]
    Master(Sentinels),
    #[cfg(feature = "cluster")]
    Node(Node),
}

impl Address {
    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::Server(server) => server.shown(),
            #[cfg(feature = "sentinel")]
            Self::Master(sentinels) => sentinels.shown(),
            #[cfg(feature = "cluster")]
            Self::Node(node) => node.shown(),
        }
    }

    /// Opens a connection. `heard` gets what is pushed, and must not wait.
    pub(crate) async fn connect(&self, heard: impl Heard) -> Result<Link, ConnectError> {
        match self {
            Self::Server(server) => server.connect(heard).await,
            #[cfg(feature = "sentinel")]
            Self::Master(sentinels) => sentinels.connect(heard).await,
            #[cfg(feature = "cluster")]
            Self::Node(node) => node.connect(heard).await,
        }
    }

    /// Opens a connection that is used for calls, if the server is one that this address may lead to.
    pub(crate) async fn connect_for_calls(&self) -> Result<Link, ConnectError> {
        let link = self.connect(|_, _| {}).await?;
        match self {
            Self::Server(server) => {
                let mode = link.says("mode").await.map_err(|failure| self.unusable(failure))?;
                if mode.as_deref() == Some("cluster") {
                    return Err(ConnectError::IsCluster { address: server.shown().to_owned() });
                }
                Ok(link)
            }
            #[cfg(feature = "sentinel")]
            Self::Master(_) => Ok(link),
            #[cfg(feature = "cluster")]
            Self::Node(node) => node.reigning(link).await,
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
