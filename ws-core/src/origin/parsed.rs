//! [`Origin`]: the value of the header `Origin`, parsed and normalised.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::error::{InvalidOrigin, Problem};
use super::host::{Host, to_lower_case};

/// An origin: the scheme, the host and the port of a page (RFC 6454), normalised; or `null`, an opaque one.
///
/// Scheme and host are in lower case, the host has no trailing dot, IPv6 addresses have their canonical spelling, and the
/// port is the default of the scheme (`http`, `https`, `ws`, `wss`) unless another is given. So two origins are equal if
/// they name the same server. An opaque origin equals none, not even itself, so there is no `Eq`.
///
/// The pages of an app that is not on the web have a scheme of their own, and then the host may be any name, or empty:
/// `app://.` (Electron), `file://`, `qrc://` (Qt), `content://com.example.provider` (Android).
///
/// ```
/// use ws_core::Origin;
///
/// let origin: Origin = "https://Example.com:443".parse()?;
/// assert_eq!(origin.scheme(), Some("https"));
/// assert_eq!(origin.host(), Some("example.com"));
/// assert_eq!(origin.port(), Some(443));
/// assert_eq!(origin.to_string(), "https://example.com");
///
/// let page_of_an_app: Origin = "app://.".parse()?;
/// assert_eq!((page_of_an_app.scheme(), page_of_an_app.host()), (Some("app"), Some(".")));
///
/// let sandboxed: Origin = "null".parse()?;
/// assert!(sandboxed.is_opaque());
/// assert_ne!(sandboxed, sandboxed);
/// # Ok::<(), ws_core::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug)]
pub struct Origin(
    /// `None` for `null`.
    Option<Tuple>,
);

impl Origin {
    /// The scheme, in lower case; `None` if the origin is opaque.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.0.as_ref().map(|origin| origin.scheme.as_str())
    }

    /// The host, in lower case, an IPv6 address in its brackets; empty for `file://`; `None` if the origin is opaque.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.0.as_ref().map(|origin| origin.host.as_str())
    }

    /// The port, or the default of the scheme; `None` if there is neither, or if the origin is opaque.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.as_ref().and_then(|origin| origin.port)
    }

    /// Whether this is `null`, which browsers send for sandboxed frames, for local files and after some redirects.
    ///
    /// Any page can make the browser send it, so it says nothing about the page.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.0.is_none()
    }

    /// `None` if the origin is opaque.
    pub(super) fn tuple(&self) -> Option<&Tuple> {
        self.0.as_ref()
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, Problem> {
        if text == b"null" { Ok(Self(None)) } else { Tuple::parse(text).map(Some).map(Self) }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        // two opaque origins may belong to different pages
        matches!((&self.0, &other.0), (Some(this), Some(other)) if this == other)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        Self::parse(text.as_bytes()).map_err(|problem| InvalidOrigin::new(text, problem))
    }
}

impl fmt::Display for Origin {
    /// As a browser sends it: without the default port, and `null` if it is opaque.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(origin) => origin.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// An origin that is not opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) scheme: String,
    pub(super) host: String,
    /// The default of the scheme if none is given.
    pub(super) port: Option<u16>,
}

impl Tuple {
    fn parse(text: &[u8]) -> Result<Self, Problem> {
        let (scheme, authority) = split_scheme(text)?;
        Self::new(scheme, authority)
    }

    /// `authority` is what follows `://`: a host and port. Only on the web it has to be one.
    pub(super) fn new(scheme: String, authority: &[u8]) -> Result<Self, Problem> {
        let web = Web::of(&scheme);
        match Host::parse(authority) {
            Ok(host) => {
                let port = host.port.or_else(|| web.map(Web::default_port));
                Ok(Self { scheme, host: host.name, port })
            }
            Err(_) if web.is_none() && is_name(authority) => {
                Ok(Self { scheme, host: to_lower_case(authority), port: None })
            }
            Err(problem) => Err(problem),
        }
    }

    /// A page of the web.
    pub(super) fn of(scheme: Web, host: &Host) -> Self {
        let port = host.port.or(Some(scheme.default_port()));
        Self { scheme: scheme.scheme().to_owned(), host: host.name.clone(), port }
    }

    /// Whether this is a page of a web server on the machine of the browser, on any port.
    pub(super) fn is_localhost(&self) -> bool {
        let is_loopback = |address: Ipv4Addr| address.is_loopback();
        matches!(self.scheme.as_str(), "http" | "https")
            && (matches!(self.host.as_str(), "localhost" | "[::1]")
                || self.host.parse().is_ok_and(is_loopback))
    }
}

/// Whether an app that is not on the web may be called so. The name may be empty, and has nothing that could end it.
fn is_name(text: &[u8]) -> bool {
    text.len() <= Host::MAX_NAME
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte))
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if Web::of(&self.scheme).map(Web::default_port) != Some(port) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// Whether a scheme of the web uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Web {
    Plain,
    Tls,
}

impl Web {
    pub(super) fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "http" | "ws" => Some(Self::Plain),
            "https" | "wss" => Some(Self::Tls),
            _ => None,
        }
    }

    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }

    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Plain => 80,
            Self::Tls => 443,
        }
    }
}

/// Splits the scheme (RFC 3986 section 3.1) from what follows `://`.
pub(super) fn split_scheme(text: &[u8]) -> Result<(String, &[u8]), Problem> {
    /// In bytes; longer than any scheme of browsers and their extensions.
    const MAX_SCHEME: usize = 64;

    if text.is_empty() {
        return Err(Problem::Empty);
    }
    let end = text.windows(3).position(|window| window == b"://").ok_or(Problem::NoScheme)?;
    let (scheme, authority) = (&text[..end], &text[end + 3..]);
    let is_scheme = scheme.len() <= MAX_SCHEME
        && scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    if is_scheme { Ok((to_lower_case(scheme), authority)) } else { Err(Problem::Scheme) }
}
