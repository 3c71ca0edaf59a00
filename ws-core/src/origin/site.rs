//! [`Site`]: where the client finds this server, as far as the request says it.

use std::fmt;

use super::forwarded::Forwarded;
use super::host::Host;
use super::parsed::{Tuple, Web};
use super::requested::Requested;

/// The host of this server, to its clients, and the scheme if it is known.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: Host,
    scheme: Option<Web>,
}

impl Site {
    /// As the request says it.
    pub(super) fn new(requested: &Requested<'_>) -> Self {
        Self { host: requested.host.clone(), scheme: None }
    }

    /// As a proxy says it, and the request where the proxy says nothing.
    pub(super) fn behind_proxy(requested: &Requested<'_>, forwarded: Forwarded) -> Self {
        let host = forwarded.host.unwrap_or_else(|| requested.host.clone());
        Self { host: host.or_port(forwarded.port), scheme: forwarded.scheme }
    }

    /// Whether this is one of its own pages. A scheme that is not known is taken for that of the page.
    pub(super) fn has_page(&self, origin: &Tuple) -> bool {
        Web::of(&origin.scheme).is_some_and(|scheme| {
            self.scheme.is_none_or(|own| own == scheme)
                && self.host.name == origin.host
                && self.host.port.or(Some(scheme.default_port())) == origin.port
        })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Some(scheme) => Tuple::of(scheme, &self.host).fmt(f),
            None => write!(f, "a page of {}", self.host),
        }
    }
}
