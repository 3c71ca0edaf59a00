//! Why a backplane is not connected, and why a call fails.

use std::fmt;

use ws_hub::LogError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A [`RedisBackplane`](crate::RedisBackplane) could not be connected. No message contains a password.
///
/// ```
/// use ws_hub_redis::{ConnectError, RedisBackplane};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = RedisBackplane::<u64>::builder("https://example.com").connect().await.unwrap_err();
/// assert!(matches!(error, ConnectError::InvalidAddress { .. }));
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one of a Redis server.
    #[error("{address} is not the address of a Redis server, such as redis://localhost:6379")]
    #[non_exhaustive]
    InvalidAddress {
        /// The address, without user and password.
        address: String,
        /// Why.
        source: Source,
    },
    /// The address is one over TLS, and the feature `tls` of this crate is not enabled.
    #[error("{address} is over TLS, which needs the feature `tls` of ws-hub-redis")]
    #[non_exhaustive]
    TlsNotEnabled {
        /// The address, without user and password.
        address: String,
    },
    /// TLS fails: the certificate of the server is not trusted or is one for another name, or the server does not speak TLS
    /// there or wants a certificate of the client.
    #[cfg(feature = "tls")]
    #[error("the Redis server at {address} cannot be reached over TLS")]
    #[non_exhaustive]
    Tls {
        /// The address, without user and password.
        address: String,
        /// Why.
        source: Source,
    },
    /// A Sentinel answers, and knows no master of this name.
    #[cfg(feature = "sentinel")]
    #[error("the Sentinel at {address} knows no master named {master}")]
    #[non_exhaustive]
    UnknownMaster {
        /// The address of the Sentinel, without user and password.
        address: String,
        /// The name.
        master: String,
    },
    /// The server is one of a cluster.
    #[error(
        "the Redis server at {address} is one of a cluster: use `RedisBackplane::cluster` with its address, and the feature \
         `cluster` of ws-hub-redis"
    )]
    #[non_exhaustive]
    IsCluster {
        /// The address, without user and password.
        address: String,
    },
    /// The server is not one of a cluster.
    #[cfg(feature = "cluster")]
    #[error(
        "the Redis server at {address} is not one of a cluster: use `RedisBackplane::builder` with its address"
    )]
    #[non_exhaustive]
    NotCluster {
        /// The address, without user and password.
        address: String,
    },
    /// Nobody answers there, or not in time.
    #[error("the Redis server at {address} cannot be reached")]
    #[non_exhaustive]
    Unreachable {
        /// The address, without user and password.
        address: String,
        /// Why.
        source: Source,
    },
    /// The server does not let this user in with this password, or does not let it do what is needed.
    #[error("the Redis server at {address} refuses the user or the password, or what they may do")]
    #[non_exhaustive]
    Denied {
        /// The address, without user and password.
        address: String,
        /// Why.
        source: Source,
    },
    /// The server does not know the protocol RESP3, which Redis has since version 6.0.
    #[error("the Redis server at {address} is too old: it does not know RESP3")]
    #[non_exhaustive]
    TooOld {
        /// The address, without user and password.
        address: String,
    },
    /// The data with this prefix are those of another version of this crate, which keeps them in another form.
    #[error("the data at {address} have the schema {found}; this version of ws-hub-redis has {expected}")]
    #[non_exhaustive]
    OtherVersion {
        /// The address, without user and password.
        address: String,
        /// The schema that the data have.
        found: String,
        /// The schema that this crate reads and writes.
        expected: String,
    },
    /// The server answers something else than a Redis server that can be written does.
    #[error("what is at {address} does not answer as a Redis server does that can be written")]
    #[non_exhaustive]
    Failed {
        /// The address, without user and password.
        address: String,
        /// Why.
        source: Source,
    },
}

impl ConnectError {
    /// The server does not let a connection become usable.
    pub(crate) fn unusable(address: &str, failure: Failure) -> Self {
        let address = address.to_owned();
        if failure.to_string().starts_with("NOPERM") {
            return Self::Denied { address, source: failure.into() };
        }
        Self::Failed { address, source: failure.into() }
    }
}

/// Why a call, or one of a batch, failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Nothing has happened, and nothing would.
    Refused,
    /// Nothing has happened; it may do in a moment.
    Busy,
    /// Nothing has happened: the server is a replica. Another one may be the master now.
    Demoted,
    /// Nothing has happened: another server of the cluster has the partition.
    Moved,
    /// Nothing has happened: another server of the cluster is getting the partition, and is to be asked just this time.
    Ask,
    /// The connection broke, or there was no answer: it may have happened.
    Lost,
    /// It may have happened, and the answer would be the same again.
    Unknown,
}

impl FailureKind {
    /// Nothing has happened, and may do when it is tried again.
    pub(crate) fn is_undone(self) -> bool {
        matches!(self, Self::Busy | Self::Demoted | Self::Moved | Self::Ask)
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, text: impl fmt::Display) -> Self {
        Self { kind, text: text.to_string() }
    }

    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Refused, text: text.to_string() }
    }

    pub(crate) fn busy(text: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Busy, text: text.to_string() }
    }

    pub(crate) fn lost(text: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Lost, text: text.to_string() }
    }

    pub(crate) fn unknown(text: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Unknown, text: text.to_string() }
    }

    /// The address of the server that was named, if another one is to be asked: `MOVED`, or `ASK`, a slot, and the address,
    /// without a host if that is the same.
    pub(crate) fn place(&self) -> Option<&str> {
        let place = self.text.split(' ').nth(2)?;
        (!place.starts_with([':', '?'])).then_some(place)
    }

    /// The same, of a call that was tried before, and may have been done then.
    pub(crate) fn doubtful(self) -> Self {
        Self { kind: FailureKind::Unknown, ..self }
    }
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Lost | FailureKind::Unknown => Self::unknown(failure.text),
            _ => Self::refused(failure.text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_have_a_slot_names_the_one_that_has() {
        let named = |text: &str| Failure::new(FailureKind::Moved, text).place().map(str::to_owned);
        for (text, place) in [
            ("MOVED 12182 127.0.0.1:7403", Some("127.0.0.1:7403")),
            ("ASK 12182 two.example.com:7402", Some("two.example.com:7402")),
            ("MOVED 12182 2001:db8::1:7402", Some("2001:db8::1:7402")),
            ("MOVED 12182 ?:7403", None),
            ("MOVED 12182 :7403", None),
            ("MOVED 12182", None),
        ] {
            assert_eq!(named(text).as_deref(), place, "{text}");
        }
    }
}
