//! [`Role`]: the side of a connection that we are on.

/// Our side of the connection. A client masks what it sends, a server does not (section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    #[cfg_attr(
        not(any(test, fuzzing, benchmarking, feature = "client", feature = "testing")),
        allow(dead_code, reason = "there is no client")
    )]
    Client,
}
