//! [`OriginPolicy`]: which web pages may open a connection (RFC 6454, RFC 6455 section 10.2).

#[cfg(test)]
mod random;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;

use crate::error::expect_valid;

static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Which web pages may open a connection, judged by the `Origin` header of the handshake (RFC 6454, RFC 6455 section 10.2).
///
/// A browser opens a WebSocket to any server for any page, sends that server's cookies with the handshake, and asks nobody:
/// CORS does not apply. Only the `Origin` header tells a page of your own from another one. A server that ignores it lets
/// every page on the web act as its visitor.
///
/// The default is [`same_origin`](Self::same_origin). A request without `Origin` does not come from a browser
/// and is allowed, unless [`require_origin`](Self::require_origin) is called. A request with two origins is always
/// answered with 400, and one whose origin is not allowed with 403 and a text that names both sides of the comparison.
///
/// Both sides are parsed and normalised before they are compared: the case of scheme and host, default ports, a trailing dot
/// and the spelling of IPv6 addresses make no difference. What is not an origin (`https://example.com@evil.com`,
/// `https://example.com/chat`, `null`) is equal to none.
///
/// An origin says which page asks, not which user: a program that is no browser sends any `Origin` it likes. So
/// authenticate the user as well.
///
/// ```
/// use ws_core::OriginPolicy;
///
/// let same_host = OriginPolicy::same_origin();
/// let listed = OriginPolicy::allow(["https://example.com", "https://*.example.com"]);
/// let behind_a_proxy = OriginPolicy::same_origin().trust_forwarded();
/// let strict = OriginPolicy::allow(["https://example.com"])
///     .require_origin() // programs that are no browsers have to send one, too
///     .allowed_hosts(["ws.example.com"]);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a policy does nothing until a layer has it"]
pub struct OriginPolicy {
    rule: Rule,
    require_origin: bool,
    trust_forwarded: bool,
    /// Empty: every host is served.
    allowed_hosts: Arc<[HostPattern]>,
}

#[derive(Clone, Default)]
enum Rule {
    #[default]
    SameOrigin,
    Allow(Arc<[OriginPattern]>),
    Predicate(Arc<Predicate>),
    Any,
}

type Predicate = dyn Fn(&Origin, &Parts) -> bool + Send + Sync;

impl OriginPolicy {
    /// Allows the pages of the host that the request is for. This is the default.
    ///
    /// `Origin` is compared with `Host` (in HTTP/2: `:authority`): the host and the port have to be equal.
    /// The scheme is not compared, because a server behind a TLS terminator does not see whether `https` was
    /// used: a `Host` without a port stands for the default port of the origin's own scheme. Where the proxy
    /// in front says which scheme it was, [`trust_forwarded`](Self::trust_forwarded) compares it as well.
    ///
    /// An attacker who points a name of his own at this server's address (DNS rebinding) makes `Origin` and
    /// `Host` equal; [`allowed_hosts`](Self::allowed_hosts) is what stops that.
    pub fn same_origin() -> Self {
        Self::default()
    }

    /// Allows these origins, and no other: list the server's own origin too, if pages of its own connect.
    ///
    /// Each is an origin (`https://example.com`, `http://localhost:3000`, `chrome-extension://<id>`), or one
    /// with `*.` in front of the host for all of its subdomains, however deep, without the host itself. The
    /// scheme and the port have to be equal as well; no port stands for the default one of the scheme.
    ///
    /// # Panics
    ///
    /// If an entry is anything else (`*`, a name without a scheme, an origin with a path or a user, `null`, a
    /// `*` elsewhere than in front), or if there is none. The message says what to write instead.
    /// [`try_allow`](Self::try_allow) returns it as an error.
    ///
    /// ```
    /// use ws_core::OriginPolicy;
    ///
    /// let policy = OriginPolicy::allow(["https://example.com", "https://*.example.com"]);
    /// ```
    #[track_caller]
    pub fn allow<I>(origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        expect_valid(Self::try_allow(origins))
    }

    /// As [`allow`](Self::allow), for origins that come from outside of the program, such as from its configuration.
    ///
    /// # Errors
    ///
    /// If an entry is not an origin or a pattern of origins, or if there is none. The error says what to write
    /// instead.
    ///
    /// ```
    /// use ws_core::{InvalidOrigin, OriginPolicy};
    ///
    /// /// `origins` is `https://example.com https://*.example.com`, for example.
    /// fn policy(origins: &str) -> Result<OriginPolicy, InvalidOrigin> {
    ///     OriginPolicy::try_allow(origins.split_whitespace())
    /// }
    ///
    /// let error = policy("*").unwrap_err();
    /// assert!(error.to_string().contains("OriginPolicy::any()"));
    /// ```
    pub fn try_allow<I>(origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let patterns = parse_list(origins, OriginPattern::parse)?;
        Ok(Self { rule: Rule::Allow(patterns), ..Self::default() })
    }

    /// Allows what `predicate` allows. It is asked for every request with an `Origin` that parses, opaque
    /// ones ([`Origin::is_opaque`]) included.
    ///
    /// It runs on the task of the request: decide from what is at hand. If it panics, the request is refused.
    ///
    /// ```
    /// use ws_core::OriginPolicy;
    ///
    /// let local = OriginPolicy::predicate(|origin, _request| origin.host() == Some("localhost"));
    /// ```
    pub fn predicate<F>(predicate: F) -> Self
    where
        F: Fn(&Origin, &Parts) -> bool + Send + Sync + 'static,
    {
        Self { rule: Rule::Predicate(Arc::new(predicate)), ..Self::default() }
    }

    /// Allows every page on the web to connect, **with the cookies of its visitor**.
    ///
    /// Right for a public service that knows no users, or one whose users are known by something that no
    /// other page has, such as a token in the first message.
    pub fn any() -> Self {
        Self { rule: Rule::Any, ..Self::default() }
    }

    /// Refuses requests without an `Origin` header with 403, too.
    ///
    /// Browsers always send one. This keeps out honest programs only: the others send one as well.
    pub fn require_origin(mut self) -> Self {
        self.require_origin = true;
        self
    }

    /// Believes `X-Forwarded-Host` and `X-Forwarded-Proto`, where [`same_origin`](Self::same_origin) and
    /// [`allowed_hosts`](Self::allowed_hosts) look at the host.
    ///
    /// The forwarded host stands in for `Host`, and the forwarded scheme (`http`, `https`; `ws` and `wss`
    /// mean the same) is compared with that of the origin. Of a list, as a chain of proxies makes it, the
    /// first entry counts. A header that is missing changes nothing.
    ///
    /// Call it only behind a proxy that **overwrites** both headers: whatever a client sends in them is
    /// believed. Without this call they are ignored.
    pub fn trust_forwarded(mut self) -> Self {
        self.trust_forwarded = true;
        self
    }

    /// Refuses requests for any other host with 421, whatever their origin: the defence against DNS
    /// rebinding, for servers on a local machine or in a private network above all.
    ///
    /// An entry is a host (`example.com`, `192.168.1.1`, `[::1]`), on any port, or a host and a port
    /// (`localhost:3000`); a request that names no port is on port 80 or 443. `*.` in front stands for all
    /// subdomains, as in [`allow`](Self::allow).
    ///
    /// # Panics
    ///
    /// If an entry is anything else, or if there is none. The message says what to write instead.
    /// [`try_allowed_hosts`](Self::try_allowed_hosts) returns it as an error.
    ///
    /// ```
    /// use ws_core::OriginPolicy;
    ///
    /// let policy = OriginPolicy::same_origin().allowed_hosts(["localhost", "127.0.0.1", "[::1]"]);
    /// ```
    #[track_caller]
    pub fn allowed_hosts<I>(self, hosts: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        expect_valid(self.try_allowed_hosts(hosts))
    }

    /// As [`allowed_hosts`](Self::allowed_hosts), for hosts that come from outside of the program, such as from its
    /// configuration.
    ///
    /// # Errors
    ///
    /// If an entry is not a host or a pattern of hosts, or if there is none. The error says what to write instead.
    ///
    /// ```
    /// use ws_core::OriginPolicy;
    ///
    /// assert!(OriginPolicy::any().try_allowed_hosts(["example.com"]).is_ok());
    /// assert!(OriginPolicy::any().try_allowed_hosts(["https://example.com"]).is_err()); // that is an origin
    /// ```
    pub fn try_allowed_hosts<I>(mut self, hosts: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.allowed_hosts = parse_list(hosts, HostPattern::parse)?;
        Ok(self)
    }

    /// Judges a request.
    pub(crate) fn check(&self, parts: &Parts) -> Result<(), Denied> {
        self.check_host(parts)?;
        match only_origin(&parts.headers)? {
            Some(value) => self.check_origin(value, parts),
            None if self.require_origin => Err(Denied::MissingOrigin),
            None => Ok(()),
        }
    }

    fn check_host(&self, parts: &Parts) -> Result<(), Denied> {
        if self.allowed_hosts.is_empty() {
            return Ok(());
        }
        let host = self.requested_host(parts)?;
        if self.allowed_hosts.iter().any(|pattern| pattern.matches(&host)) {
            Ok(())
        } else {
            Err(Denied::Misdirected { host: host.to_string() })
        }
    }

    fn check_origin(&self, value: &HeaderValue, parts: &Parts) -> Result<(), Denied> {
        if matches!(self.rule, Rule::SameOrigin) && self.is_plainly_same(value, parts) {
            return Ok(());
        }
        let origin =
            Origin::parse(value.as_bytes()).map_err(|problem| Denied::MalformedOrigin(problem.description()));
        match &self.rule {
            // also what is not an origin
            Rule::Any => Ok(()),
            Rule::SameOrigin => {
                let origin = origin?;
                let own = self.own_origin(&origin, parts)?;
                allow_if(origin.0.as_ref().is_some_and(|origin| origin.matches_own(&own)), &origin, own)
            }
            Rule::Allow(patterns) => {
                let origin = origin?;
                let listed = |origin: &Tuple| patterns.iter().any(|pattern| pattern.matches(origin));
                allow_if(origin.0.as_ref().is_some_and(listed), &origin, "an origin of the server's list")
            }
            Rule::Predicate(predicate) => {
                let origin = origin?;
                // what the closure may have left half done is its own; the panic hook has reported the panic
                let allowed = catch_unwind(AssertUnwindSafe(|| predicate(&origin, parts))).unwrap_or(false);
                allow_if(allowed, &origin, "an origin that the server's predicate allows")
            }
        }
    }

    /// Whether the origin is letter for letter what this server was asked by, as browsers send it: it is parsed once
    /// then, and not taken apart and put together.
    fn is_plainly_same(&self, value: &HeaderValue, parts: &Parts) -> bool {
        let origin = value.as_bytes();
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.is_some_and(|authority| {
            self.forwarded(&parts.headers, &X_FORWARDED_PROTO).is_none()
                && self.requested_authority(parts).is_ok_and(|(_, own)| own == authority)
                && Host::parse(authority).is_ok()
        })
    }

    /// The origin of this server's own pages, as far as the request tells; the rest is taken from `origin`,
    /// which it is to be compared with.
    fn own_origin(&self, origin: &Origin, parts: &Parts) -> Result<Tuple, Denied> {
        let host = self.requested_host(parts)?;
        let web = match self.forwarded_scheme(&parts.headers)? {
            Some(web) => web,
            None => origin.0.as_ref().and_then(|origin| Web::of(&origin.scheme)).unwrap_or(Web::Tls),
        };
        Ok(Tuple {
            scheme: web.scheme().to_owned(),
            host: host.name,
            port: host.port.or_else(|| Some(web.default_port())),
        })
    }

    /// The host that the request is for.
    fn requested_host(&self, parts: &Parts) -> Result<Host, Denied> {
        let (header, authority) = self.requested_authority(parts)?;
        Host::parse(authority).map_err(|problem| Denied::host(header, problem))
    }

    /// The host and port, as they stand there, with the name of the header.
    fn requested_authority<'a>(&self, parts: &'a Parts) -> Result<(&'static str, &'a [u8]), Denied> {
        if let Some(value) = self.forwarded(&parts.headers, &X_FORWARDED_HOST) {
            return Ok(("X-Forwarded-Host", value));
        }
        let mut values = parts.headers.get_all(&HOST).iter();
        let header = values.next();
        if values.next().is_some() {
            return Err(Denied::Host { header: "Host", problem: "there is more than one" });
        }
        // `:authority` of HTTP/2; in HTTP/1.1 a target in absolute form, which outranks `Host` (RFC 9112
        // section 3.2.2)
        if let Some(authority) = parts.uri.authority() {
            return Ok((":authority", authority.as_str().as_bytes()));
        }
        let header = header.ok_or(Denied::Host { header: "Host", problem: "it is missing" })?;
        Ok(("Host", header.as_bytes()))
    }

    /// The scheme that the client used, if a proxy is trusted to know.
    fn forwarded_scheme(&self, headers: &HeaderMap) -> Result<Option<Web>, Denied> {
        let Some(value) = self.forwarded(headers, &X_FORWARDED_PROTO) else { return Ok(None) };
        let scheme = str::from_utf8(value).unwrap_or_default().to_ascii_lowercase();
        match Web::of(&scheme) {
            Some(web) => Ok(Some(web)),
            None => {
                Err(Denied::Host { header: "X-Forwarded-Proto", problem: "it is neither http nor https" })
            }
        }
    }

    /// The first entry of a header that a proxy sets, if proxies are trusted.
    fn forwarded<'a>(&self, headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
        let value = self.trust_forwarded.then(|| headers.get(name)).flatten()?;
        value.as_bytes().split(|&byte| byte == b',').next().map(<[u8]>::trim_ascii)
    }
}

fn allow_if(allowed: bool, origin: &Origin, expected: impl fmt::Display) -> Result<(), Denied> {
    if allowed {
        Ok(())
    } else {
        Err(Denied::NotAllowed { origin: origin.to_string(), expected: expected.to_string() })
    }
}

/// The `Origin` header, of which there is at most one (RFC 6454 section 7.3).
fn only_origin(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Denied> {
    let mut values = headers.get_all(&ORIGIN).iter();
    let value = values.next();
    let is_list = value.is_some_and(|value| value.as_bytes().contains(&b','));
    if is_list || values.next().is_some() { Err(Denied::MultipleOrigins) } else { Ok(value) }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameOrigin => f.write_str("SameOrigin"),
            Self::Allow(patterns) => f.debug_tuple("Allow").field(patterns).finish(),
            Self::Predicate(_) => f.write_str("Predicate(..)"),
            Self::Any => f.write_str("Any"),
        }
    }
}

/// Why a request is refused.
///
/// No text in here holds a byte of a header that was not parsed: names are of letters, digits, `.`, `-`, `_`
/// and the brackets of IPv6, and at most 253 characters long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    MultipleOrigins,
    MissingOrigin,
    MalformedOrigin(&'static str),
    NotAllowed { origin: String, expected: String },
    Host { header: &'static str, problem: &'static str },
    Misdirected { host: String },
}

impl Denied {
    fn host(header: &'static str, problem: Problem) -> Self {
        Self::Host { header, problem: problem.description() }
    }
}

/// An origin: the scheme, the host and the port of a page (RFC 6454), normalised; or `null`, an opaque one.
///
/// Scheme and host are in lower case, a trailing dot of the host is gone, IPv6 addresses are in their one
/// canonical spelling, and the port is the scheme's default (for `http`, `https`, `ws` and `wss`) unless
/// another was given. So two origins are equal if they mean the same page's server; an opaque one is equal to
/// none, itself included, which is why there is no `Eq`.
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
/// let sandboxed: Origin = "null".parse()?;
/// assert!(sandboxed.is_opaque());
/// assert_ne!(sandboxed, sandboxed);
/// # Ok::<(), ws_core::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug)]
pub struct Origin(
    /// `None` is the opaque one.
    Option<Tuple>,
);

impl Origin {
    /// The scheme, in lower case; `None` if the origin is opaque.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.0.as_ref().map(|origin| origin.scheme.as_str())
    }

    /// The host, in lower case, an IPv6 address in its brackets; `None` if the origin is opaque.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.0.as_ref().map(|origin| origin.host.as_str())
    }

    /// The port, which may be the default one of the scheme; `None` if the origin is opaque, or has neither.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.as_ref().and_then(|origin| origin.port)
    }

    /// Whether this is `null`: what browsers send for sandboxed frames, local files and after some redirects.
    ///
    /// Any page can make itself one, so it says nothing about who asks.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.0.is_none()
    }

    fn parse(text: &[u8]) -> Result<Self, Problem> {
        if text == b"null" { Ok(Self(None)) } else { Tuple::parse(text).map(Some).map(Self) }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        // two opaque ones may be of any two pages
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
    /// As a browser sends it: without the default port; `null` for an opaque one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(origin) => origin.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// An origin that is not opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tuple {
    scheme: String,
    host: String,
    /// With the default of the scheme filled in.
    port: Option<u16>,
}

impl Tuple {
    fn parse(text: &[u8]) -> Result<Self, Problem> {
        let (scheme, authority) = split_scheme(text)?;
        Ok(Self::new(scheme, Host::parse(authority)?))
    }

    fn new(scheme: String, host: Host) -> Self {
        let port = host.port.or_else(|| Web::of(&scheme).map(Web::default_port));
        Self { scheme, host: host.name, port }
    }

    /// Whether they are equal, where `ws` means `http` and `wss` means `https`. `own` is of one of the latter
    /// two.
    fn matches_own(&self, own: &Self) -> bool {
        Web::of(&self.scheme).is_some_and(|web| web.scheme() == own.scheme)
            && self.host == own.host
            && self.port == own.port
    }
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

/// The two kinds of web scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Web {
    Plain,
    Tls,
}

impl Web {
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "http" | "ws" => Some(Self::Plain),
            "https" | "wss" => Some(Self::Tls),
            _ => None,
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Plain => 80,
            Self::Tls => 443,
        }
    }
}

/// A host, and the port if one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// Normalised; an IPv6 address in brackets.
    name: String,
    port: Option<u16>,
}

impl Host {
    /// What DNS allows.
    const MAX_NAME: usize = 253;

    fn parse(text: &[u8]) -> Result<Self, Problem> {
        if text.contains(&b'@') {
            return Err(Problem::User);
        }
        if text.iter().any(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')) {
            return Err(Problem::Path);
        }
        let (name, port) = if text.starts_with(b"[") { split_ipv6(text)? } else { split_name(text)? };
        let port = match port {
            Some(port) => Some(parse_port(port).ok_or(Problem::Port)?),
            None => None,
        };
        Ok(Self { name, port })
    }

    /// Whether this is an address, which has no subdomains.
    fn is_address(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<Ipv4Addr>().is_ok()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One entry of `allow`.
#[derive(Clone, Debug)]
struct OriginPattern {
    /// Its host is the parent's, if `subdomains` are meant.
    origin: Tuple,
    subdomains: bool,
}

impl OriginPattern {
    fn parse(text: &str) -> Result<Self, Problem> {
        if matches!(text, "*" | "*://*" | "http://*" | "https://*") {
            return Err(Problem::AnyOrigin);
        }
        if text == "null" {
            return Err(Problem::Opaque);
        }
        let (scheme, authority) = split_scheme(text.as_bytes())?;
        let (host, subdomains) = parse_wildcard(authority)?;
        Ok(Self { origin: Tuple::new(scheme, host), subdomains })
    }

    fn matches(&self, origin: &Tuple) -> bool {
        self.origin.scheme == origin.scheme
            && self.origin.port == origin.port
            && name_matches(&self.origin.host, self.subdomains, &origin.host)
    }
}

/// One entry of `allowed_hosts`.
#[derive(Clone, Debug)]
struct HostPattern {
    /// The parent, if `subdomains` are meant.
    host: Host,
    subdomains: bool,
}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Err(Problem::AnyHost);
        }
        if text.contains("://") {
            return Err(Problem::SchemeOfHost);
        }
        let (host, subdomains) = parse_wildcard(text.as_bytes())?;
        Ok(Self { host, subdomains })
    }

    fn matches(&self, host: &Host) -> bool {
        let port_matches = match (self.host.port, host.port) {
            (None, _) | (Some(80 | 443), None) => true,
            (this, other) => this == other,
        };
        port_matches && name_matches(&self.host.name, self.subdomains, &host.name)
    }
}

/// Whether `name` is `pattern`, or below it, if `subdomains` are meant.
fn name_matches(pattern: &str, subdomains: bool, name: &str) -> bool {
    if subdomains {
        // the dot keeps `evilexample.com` out, and that no name begins with one keeps `.example.com` out
        name.strip_suffix(pattern).is_some_and(|front| front.ends_with('.'))
    } else {
        name == pattern
    }
}

/// Parses the entries of a list, of which there must be one.
fn parse_list<I, T>(entries: I, parse: fn(&str) -> Result<T, Problem>) -> Result<Arc<[T]>, InvalidOrigin>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let parse = |entry: I::Item| {
        let text = entry.as_ref();
        parse(text).map_err(|problem| InvalidOrigin::new(text, problem))
    };
    let list: Arc<[T]> = entries.into_iter().map(parse).collect::<Result<_, _>>()?;
    if list.is_empty() { Err(InvalidOrigin::new("", Problem::NoEntries)) } else { Ok(list) }
}

/// Splits the scheme (RFC 3986 section 3.1) from what follows `://`.
fn split_scheme(text: &[u8]) -> Result<(String, &[u8]), Problem> {
    /// Longer than any that browsers or their extensions have.
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

/// Parses a host that may have `*.` in front, and tells whether it has.
fn parse_wildcard(text: &[u8]) -> Result<(Host, bool), Problem> {
    let parent = text.strip_prefix(b"*.");
    let host = parent.unwrap_or(text);
    if host.contains(&b'*') {
        return Err(Problem::Wildcard);
    }
    let host = Host::parse(host)?;
    if parent.is_some() && host.is_address() {
        return Err(Problem::WildcardAddress);
    }
    Ok((host, parent.is_some()))
}

/// Splits `[::1]:8080` into the normalised address and the text of the port.
fn split_ipv6(text: &[u8]) -> Result<(String, Option<&[u8]>), Problem> {
    let end = text.iter().position(|&byte| byte == b']').ok_or(Problem::Ipv6)?;
    let address: Ipv6Addr =
        str::from_utf8(&text[1..end]).ok().and_then(|text| text.parse().ok()).ok_or(Problem::Ipv6)?;
    let port = match &text[end + 1..] {
        [] => None,
        [b':', port @ ..] => Some(port),
        _ => return Err(Problem::Ipv6),
    };
    let name = match (address.to_ipv4_mapped(), address.segments()) {
        // which the standard library writes as `[::ffff:1.2.3.4]`, and browsers do not
        (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
        _ => format!("[{address}]"),
    };
    Ok((name, port))
}

/// Splits `example.com:8080` into the normalised name and the text of the port.
fn split_name(text: &[u8]) -> Result<(String, Option<&[u8]>), Problem> {
    let (name, port) = match text.iter().position(|&byte| byte == b':') {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    };
    if port.is_some_and(|port| port.contains(&b':')) {
        return Err(Problem::BareIpv6);
    }
    // the name of a host may end in the dot of the root, and is the same host then
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.len() > Host::MAX_NAME {
        return Err(Problem::TooLong);
    }
    if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        return Err(Problem::Character);
    }
    if name.split(|&byte| byte == b'.').any(<[u8]>::is_empty) {
        return Err(Problem::EmptyLabel);
    }
    let name = to_lower_case(name);
    // browsers read `127.1` and `0x7f000001` as addresses and send the usual form: nothing else that ends in
    // a number is the name of a host
    let last = name.rsplit('.').next().unwrap_or_default();
    if is_number(last) && name.parse::<Ipv4Addr>().is_err() {
        return Err(Problem::Ipv4);
    }
    Ok((name, port))
}

/// Whether a label makes a browser read the host as an IPv4 address (WHATWG URL, "ends in a number").
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// A port from 1 to 65535, as it is written by everyone: without a sign or zeros in front.
fn parse_port(text: &[u8]) -> Option<u16> {
    if text.is_empty() || text.starts_with(b"0") || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// For bytes that are known to be ASCII.
fn to_lower_case(ascii: &[u8]) -> String {
    str::from_utf8(ascii).unwrap_or_default().to_ascii_lowercase()
}

/// A text is not an origin, or not a pattern of origins or hosts; it says what to write instead.
///
/// ```
/// let error = ws_core::OriginPolicy::try_allow(["example.com"]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#""example.com" is not valid: it has no scheme; put one in front, as in `https://example.com`"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {}; {}", .problem.description(), .problem.advice())]
pub struct InvalidOrigin {
    text: Box<str>,
    problem: Problem,
}

impl InvalidOrigin {
    fn new(text: &str, problem: Problem) -> Self {
        /// Enough to find it in the program.
        const MAX_TEXT: usize = 100;

        Self { text: text.chars().take(MAX_TEXT).collect(), problem }
    }
}

/// Declares the problems, each with what is wrong, which clients are told too, and what to write instead.
macro_rules! problems {
    ($($problem:ident: $description:literal, $advice:literal;)+) => {
        /// What is wrong with a text that was to be an origin, a host, or a pattern of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Problem {
            $($problem,)+
        }

        impl Problem {
            fn description(self) -> &'static str {
                match self {
                    $(Self::$problem => $description,)+
                }
            }

            fn advice(self) -> &'static str {
                match self {
                    $(Self::$problem => $advice,)+
                }
            }
        }
    };
}

problems! {
    Empty: "it is empty", "write it as `https://example.com`";
    NoScheme: "it has no scheme", "put one in front, as in `https://example.com`";
    Scheme: "its scheme is not one", "write it as `https://example.com`";
    User: "it has a user name", "leave out everything up to the `@`";
    Path: "it has a path", "end it after the host and port, as in `https://example.com`";
    EmptyLabel: "its host is empty, or has two dots in a row", "write the host as `example.com`";
    Character: "its host has a character that no host name has",
        "write the host as `example.com`, and what is not ASCII in Punycode, as `xn--bcher-kva.example`";
    TooLong: "its host has more than 253 characters", "write the host as `example.com`";
    Ipv4: "its host ends in a number and is no IPv4 address", "write an address as `192.168.1.1`";
    Ipv6: "its host in brackets is no IPv6 address", "write an address as `[::1]`, without a zone";
    BareIpv6: "its host has more than one colon", "write an IPv6 address in brackets, as `[::1]`";
    Port: "its port is not a number from 1 to 65535", "write the port as `:8080`, or leave it out";
    Opaque: "every page can make itself `null`",
        "to allow it all the same, use `OriginPolicy::predicate` and `Origin::is_opaque`";
    AnyOrigin: "`*` is not a pattern", "to allow every page on the web, use `OriginPolicy::any()`";
    AnyHost: "`*` is not a pattern", "to serve every host, leave `allowed_hosts` out";
    Wildcard: "it has a `*` that does not stand for all subdomains",
        "write `*.` in front of the host and nowhere else, as in `https://*.example.com`";
    WildcardAddress: "an IP address has no subdomains", "leave out the `*.`";
    SchemeOfHost: "a host has no scheme", "write it as `example.com` or `example.com:8080`";
    NoEntries: "the list is empty", "list what is allowed, such as `https://example.com`";
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    type Header<'a> = (&'a str, &'a [u8]);

    fn parts(headers: &[Header<'_>]) -> Parts {
        let mut request = Request::new(()).into_parts().0;
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    }

    /// The judgement of a request with these two headers.
    fn judge(policy: &OriginPolicy, origin: &str, host: &str) -> Result<(), Denied> {
        policy.check(&parts(&[("origin", origin.as_bytes()), ("host", host.as_bytes())]))
    }

    fn not_allowed(origin: &str, expected: &str) -> Result<(), Denied> {
        Err(Denied::NotAllowed { origin: origin.to_owned(), expected: expected.to_owned() })
    }

    fn is_malformed(judgement: &Result<(), Denied>) -> bool {
        matches!(judgement, Err(Denied::MalformedOrigin(_)))
    }

    fn normalised(text: &str) -> String {
        text.parse::<Origin>().unwrap().to_string()
    }

    fn advice<T: fmt::Debug>(result: Result<T, InvalidOrigin>) -> String {
        result.unwrap_err().to_string()
    }

    const NOT_ORIGINS: &[&str] = &[
        "",
        " ",
        "example.com",
        "//example.com",
        "https:example.com",
        "https:/example.com",
        "://example.com",
        "1https://example.com",
        "ht tps://example.com",
        "*://example.com",
        "https://",
        "https://.",
        "https://:443",
        "file://",
        "NULL",
        "null/",
        "https://example.com/",
        "https://example.com/chat",
        "https://example.com?a",
        "https://example.com#a",
        "https://example.com\\a",
        "https://example.com@evil.com",
        "https://user:password@example.com",
        "https://@example.com",
        "https://example.com:443@evil.com",
        "https://example.com https://evil.com",
        " https://example.com",
        "https://example.com ",
        "https://exa mple.com",
        "https://exa\tmple.com",
        "https://example.com..",
        "https://.example.com",
        "https://a..example.com",
        "https://*.example.com",
        "https://%65xample.com",
        "https://bücher.example",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com:0443",
        "https://example.com:65536",
        "https://example.com:99999999999999999999",
        "https://example.com:+443",
        "https://example.com:-1",
        "https://example.com:4a",
        "https://example.com:443:443",
        "https://::1",
        "https://[::1",
        "https://::1]",
        "https://[]",
        "https://[::1%eth0]",
        "https://[::1%25eth0]",
        "https://[::g]",
        "https://[::1]a",
        "https://[::1]:",
        "https://[::1]:0",
        "https://[[::1]]",
        "https://[127.0.0.1]",
        "https://[v1.x]",
        "https://1.2.3",
        "https://1.2.3.4.5",
        "https://1.2.3.256",
        "https://1.2.3.04",
        "https://127.1",
        "https://2130706433",
        "https://0x7f000001",
        "https://a.0x",
        "javascript:alert(1)",
        "data:text/html,a",
    ];

    #[test]
    fn origins_are_equal_on_their_normalised_form() {
        for (text, expected) in [
            ("https://example.com", "https://example.com"),
            ("HTTPS://EXAMPLE.com", "https://example.com"),
            ("https://example.com.", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("https://example.com.:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("ws://example.com:80", "ws://example.com"),
            ("wss://example.com:443", "wss://example.com"),
            ("http://example.com:443", "http://example.com:443"),
            ("https://example.com:80", "https://example.com:80"),
            ("https://example.com:1", "https://example.com:1"),
            ("https://example.com:65535", "https://example.com:65535"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://my_host", "http://my_host"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1.", "http://127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("http://[2001:DB8::0a]", "http://[2001:db8::a]"),
            // as browsers write them
            ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]"),
            ("http://[::ffff:0.0.0.10]", "http://[::ffff:0:a]"),
            ("http://[::FFFF:102:304]", "http://[::ffff:102:304]"),
            ("http://[::1.2.3.4]", "http://[::102:304]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("app+x.y-z://host:443", "app+x.y-z://host:443"),
        ] {
            assert_eq!(normalised(text), expected, "{text}");
            assert_eq!(text.parse::<Origin>(), expected.parse(), "{text}");
        }
    }

    #[test]
    fn an_origin_tells_its_parts() {
        let origin: Origin = "HTTP://[::1]".parse().unwrap();
        assert_eq!((origin.scheme(), origin.host(), origin.port()), (Some("http"), Some("[::1]"), Some(80)));
        let origin: Origin = "app://host".parse().unwrap();
        assert_eq!((origin.scheme(), origin.host(), origin.port()), (Some("app"), Some("host"), None));
        let origin: Origin = "null".parse().unwrap();
        assert_eq!((origin.scheme(), origin.host(), origin.port()), (None, None, None));
        assert_eq!(origin.to_string(), "null");
    }

    #[test]
    fn null_is_equal_to_nothing() {
        let null: Origin = "null".parse().unwrap();
        assert!(null.is_opaque());
        assert_ne!(null, null.clone());
        assert_ne!(null, "https://example.com".parse().unwrap());
    }

    #[test]
    fn what_is_not_an_origin_is_refused() {
        for text in NOT_ORIGINS {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic() {
        let seeds: [&[u8]; 4] =
            [b"https://a.example.com:8443", b"http://[::1]:80", b"null", b"*.example.com"];
        for seed in seeds {
            for at in 0..seed.len() {
                for byte in 0..=u8::MAX {
                    let mut text = seed.to_vec();
                    text[at] = byte;
                    let _ = Origin::parse(&text);
                    let _ = Host::parse(&text);
                    let _ = Origin::parse(&text[..at]);
                    let _ = Host::parse(&text[at..]);
                }
            }
        }
    }

    #[test]
    fn names_are_bounded() {
        let label = "a".repeat(63);
        let longest = format!("https://{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(normalised(&longest), longest);
        assert_eq!(normalised(&format!("{longest}.")), longest);
        assert!(format!("{longest}a").parse::<Origin>().is_err());
        assert!(format!("{}://a", "a".repeat(64)).parse::<Origin>().is_ok());
        assert!(format!("{}://a", "a".repeat(65)).parse::<Origin>().is_err());
    }

    #[test]
    fn same_origin_allows_the_requested_host() {
        let policy = OriginPolicy::default();
        for (origin, host) in [
            ("https://example.com", "example.com"),
            ("https://example.com", "EXAMPLE.com"),
            ("https://example.com", "example.com:443"),
            ("https://example.com", "example.com."),
            ("https://EXAMPLE.com.:443", "example.com"),
            ("http://example.com", "example.com"),
            ("http://example.com", "example.com:80"),
            ("ws://example.com", "example.com"),
            ("wss://example.com", "example.com:443"),
            ("http://localhost:3000", "localhost:3000"),
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]:8080", "[0:0::1]:8080"),
            ("https://xn--bcher-kva.example", "XN--bcher-kva.example"),
        ] {
            assert_eq!(judge(&policy, origin, host), Ok(()), "{origin} {host}");
        }
    }

    #[test]
    fn same_origin_names_both_sides_of_what_it_refuses() {
        let policy = OriginPolicy::same_origin();
        for (origin, host, expected) in [
            ("https://evil.com", "example.com", "https://example.com"),
            ("https://example.com.evil.com", "example.com", "https://example.com"),
            ("https://evil-example.com", "example.com", "https://example.com"),
            ("https://sub.example.com", "example.com", "https://example.com"),
            ("https://example.com", "sub.example.com", "https://sub.example.com"),
            ("https://example.com:8443", "example.com", "https://example.com"),
            ("https://example.com", "example.com:8443", "https://example.com:8443"),
            ("http://example.com", "example.com:443", "http://example.com:443"),
            ("https://example.com", "example.com:80", "https://example.com:80"),
            ("http://[::1]:8080", "[::2]:8080", "http://[::2]:8080"),
            ("http://127.0.0.1", "localhost", "http://localhost"),
            // a page of an app, not of this server, whatever its host
            ("capacitor://localhost", "localhost", "https://localhost"),
            ("null", "example.com", "https://example.com"),
            ("null", "null", "https://null"),
        ] {
            assert_eq!(judge(&policy, origin, host), not_allowed(origin, expected), "{origin} {host}");
        }
    }

    #[test]
    fn same_origin_refuses_what_is_not_an_origin() {
        for origin in NOT_ORIGINS.iter().filter(|text| !text.contains(',')) {
            assert!(is_malformed(&judge(&OriginPolicy::same_origin(), origin, "example.com")), "{origin:?}");
        }
        let policy = OriginPolicy::same_origin();
        for origin in [&b"https://example.com\xff"[..], b"\x80\xff", b"nu\xc3\xbcll"] {
            let judgement = policy.check(&parts(&[("origin", origin), ("host", b"example.com")]));
            assert!(is_malformed(&judgement), "{origin:?}");
        }
    }

    #[test]
    fn what_is_not_an_origin_is_refused_also_where_the_host_is_the_same() {
        for origin in NOT_ORIGINS.iter().filter(|text| !text.contains(',')) {
            let host = origin.rsplit("//").next().unwrap_or_default();
            assert!(is_malformed(&judge(&OriginPolicy::same_origin(), origin, host)), "{origin:?}");
        }
    }

    #[test]
    fn the_scheme_that_a_trusted_proxy_tells_counts_also_where_the_host_is_the_same() {
        let judge = |policy: OriginPolicy, scheme: &[u8]| {
            policy.check(&parts(&[
                ("origin", b"https://example.com"),
                ("host", b"example.com"),
                ("x-forwarded-proto", scheme),
            ]))
        };
        assert_eq!(judge(OriginPolicy::same_origin().trust_forwarded(), b"https"), Ok(()));
        assert!(judge(OriginPolicy::same_origin().trust_forwarded(), b"http").is_err());
        assert_eq!(judge(OriginPolicy::same_origin(), b"http"), Ok(()), "nobody is trusted");
    }

    #[test]
    fn eight_kilobytes_of_origin_are_refused_in_a_short_text() {
        let policy = OriginPolicy::same_origin();
        for filling in ["a", "a.", ".", ":", "[", "://", "1"] {
            let origin = format!("https://{}", filling.repeat(8192 / filling.len()));
            assert!(is_malformed(&judge(&policy, &origin, "example.com")), "{filling}");
            assert!(is_malformed(&judge(&policy, &origin["https://".len()..], "example.com")), "{filling}");
        }
    }

    #[test]
    fn a_request_has_one_origin_at_most() {
        for policy in [OriginPolicy::same_origin(), OriginPolicy::any(), OriginPolicy::predicate(|_, _| true)]
        {
            let host = ("host", &b"example.com"[..]);
            for headers in [
                &[host, ("origin", b"https://example.com"), ("origin", b"https://example.com")][..],
                &[host, ("origin", b"https://example.com"), ("origin", b"")],
                &[host, ("origin", b"https://example.com, https://example.com")],
                &[host, ("origin", b"https://example.com,")],
                &[host, ("origin", b",")],
            ] {
                assert_eq!(policy.check(&parts(headers)), Err(Denied::MultipleOrigins), "{headers:?}");
            }
        }
    }

    #[test]
    fn a_request_without_origin_is_allowed_unless_one_is_required() {
        let listed = OriginPolicy::try_allow(["https://example.com"]).unwrap();
        for policy in
            [OriginPolicy::same_origin(), OriginPolicy::any(), listed, OriginPolicy::predicate(|_, _| false)]
        {
            assert_eq!(policy.check(&parts(&[("host", b"example.com")])), Ok(()));
            assert_eq!(policy.check(&parts(&[])), Ok(()));
            let policy = policy.require_origin();
            assert_eq!(policy.check(&parts(&[("host", b"example.com")])), Err(Denied::MissingOrigin));
        }
    }

    #[test]
    fn same_origin_needs_one_host_that_is_one() {
        let origin = ("origin", &b"https://example.com"[..]);
        for headers in [
            &[origin][..],
            &[origin, ("host", b"example.com"), ("host", b"example.com")],
            &[origin, ("host", b"")],
            &[origin, ("host", b"example.com, example.com")],
            &[origin, ("host", b"user@example.com")],
            &[origin, ("host", b"https://example.com")],
            &[origin, ("host", b"example.com/")],
            &[origin, ("host", b"example.com:")],
            &[origin, ("host", b"example.com:65536")],
            &[origin, ("host", b"example.com\xff")],
            &[origin, ("host", b"[::1")],
        ] {
            let judgement = OriginPolicy::same_origin().check(&parts(headers));
            assert!(
                matches!(judgement, Err(Denied::Host { header: "Host", .. })),
                "{headers:?} {judgement:?}"
            );
        }
    }

    #[test]
    fn the_authority_of_the_target_is_the_host() {
        let policy = OriginPolicy::same_origin();
        let mut request = parts(&[("origin", b"https://example.com")]);
        request.uri = "https://EXAMPLE.com/chat".parse().unwrap();
        request.version = Version::HTTP_2;
        assert_eq!(policy.check(&request), Ok(()));
        request.headers.insert(HOST, HeaderValue::from_static("evil.com"));
        assert_eq!(policy.check(&request), Ok(()));
        request.uri = "https://user@example.com/chat".parse().unwrap();
        assert!(matches!(policy.check(&request), Err(Denied::Host { header: ":authority", .. })));
        request.uri = "/chat".parse().unwrap();
        assert_eq!(policy.check(&request), not_allowed("https://example.com", "https://evil.com"));
    }

    #[test]
    fn listed_origins_are_allowed_in_any_spelling() {
        let policy = OriginPolicy::try_allow([
            "HTTPS://app.Example.com",
            "http://[::1]:3000",
            "moz-extension://ab-cd",
        ])
        .unwrap();
        for origin in [
            "https://app.example.com",
            "https://APP.example.com",
            "https://app.example.com:443",
            "https://app.example.com.",
            "http://[0::1]:3000",
            "moz-extension://ab-cd",
        ] {
            assert_eq!(judge(&policy, origin, "other.com"), Ok(()), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "wss://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com:80",
            "https://example.com",
            "https://a.app.example.com",
            "https://app.example.com.evil.com",
            "http://[::1]",
            "moz-extension://ab",
            "null",
            // the host of the request itself is not listed
            "https://other.com",
        ] {
            let expected = not_allowed(origin, "an origin of the server's list");
            assert_eq!(judge(&policy, origin, "other.com"), expected, "{origin}");
        }
        assert!(is_malformed(&judge(&policy, "https://app.example.com@evil.com", "other.com")));
        assert!(is_malformed(&judge(&policy, "", "other.com")));
    }

    #[test]
    fn a_star_in_front_stands_for_all_subdomains() {
        let policy = OriginPolicy::try_allow(["https://*.Example.com"]).unwrap();
        for origin in ["https://a.example.com", "https://a.b.example.com", "https://A.example.com.:443"] {
            assert_eq!(judge(&policy, origin, "example.com"), Ok(()), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://aexample.com",
            "https://a.example.com.evil.com",
            "https://a.example.com:8443",
            "http://a.example.com",
        ] {
            assert!(judge(&policy, origin, "example.com").is_err(), "{origin}");
        }
        let policy = OriginPolicy::try_allow(["http://*.localhost:3000"]).unwrap();
        assert_eq!(judge(&policy, "http://a.localhost:3000", "localhost"), Ok(()));
        assert!(judge(&policy, "http://a.localhost", "localhost").is_err());
    }

    #[test]
    fn a_bad_pattern_is_refused_with_what_to_write_instead() {
        for (pattern, advised) in [
            ("*", "OriginPolicy::any()"),
            ("https://*", "OriginPolicy::any()"),
            ("*://*", "OriginPolicy::any()"),
            ("null", "Origin::is_opaque"),
            ("", "`https://example.com`"),
            ("example.com", "`https://example.com`"),
            ("*.example.com", "`https://example.com`"),
            ("https://example.com/", "`https://example.com`"),
            ("https://example.com/chat", "`https://example.com`"),
            ("https://*.example.com/*", "`https://*.example.com`"),
            ("https://user@example.com", "`@`"),
            ("https://a*.example.com", "`https://*.example.com`"),
            ("https://*a.example.com", "`https://*.example.com`"),
            ("https://a.*.example.com", "`https://*.example.com`"),
            ("https://*.*.example.com", "`https://*.example.com`"),
            ("https://*example.com", "`https://*.example.com`"),
            ("https://example.*", "`https://*.example.com`"),
            ("https://example.com:*", "`https://*.example.com`"),
            ("https://*.", "`example.com`"),
            ("https://*.127.0.0.1", "`*.`"),
            ("https://*.[::1]", "`*.`"),
            ("https://bücher.example", "Punycode"),
            ("https://::1", "`[::1]`"),
            ("https://example.com:0", "`:8080`"),
        ] {
            let message = advice(OriginPolicy::try_allow(["https://example.com", pattern]));
            assert!(message.contains(advised), "{pattern}: {message}");
            assert!(message.contains(pattern), "{pattern}: {message}");
        }
        for text in NOT_ORIGINS.iter().filter(|text| !text.starts_with("https://*")) {
            assert!(OriginPolicy::try_allow([text]).is_err(), "{text:?}");
        }
        assert!(advice(OriginPolicy::try_allow([""; 0])).contains("empty"));
    }

    #[test]
    fn a_long_bad_pattern_is_shortened_in_its_message() {
        assert!(advice(OriginPolicy::try_allow(["ü".repeat(10_000)])).len() < 500);
    }

    #[test]
    fn a_predicate_decides_and_fails_closed() {
        let policy = OriginPolicy::predicate(|origin, request| {
            assert_ne!(origin.host(), Some("panic.com"), "this panic is part of a test");
            origin.is_opaque() || request.uri.path() == "/" && origin.host() == Some("example.com")
        });
        assert_eq!(judge(&policy, "https://EXAMPLE.com", "other.com"), Ok(()));
        assert_eq!(judge(&policy, "null", "other.com"), Ok(()));
        for origin in ["https://evil.com", "https://panic.com"] {
            let expected = not_allowed(origin, "an origin that the server's predicate allows");
            assert_eq!(judge(&policy, origin, "other.com"), expected);
        }
        assert!(is_malformed(&judge(&policy, "garbage", "other.com")));
    }

    #[test]
    fn any_allows_every_page() {
        for origin in ["https://evil.com", "null", "", "garbage"] {
            assert_eq!(judge(&OriginPolicy::any(), origin, "example.com"), Ok(()), "{origin}");
        }
    }

    #[test]
    fn forwarded_headers_are_ignored_unless_trusted() {
        let headers = parts(&[
            ("origin", b"https://evil.com"),
            ("host", b"example.com"),
            ("x-forwarded-host", b"evil.com"),
            ("x-forwarded-proto", b"garbage"),
        ]);
        let policy = OriginPolicy::same_origin();
        assert_eq!(policy.check(&headers), not_allowed("https://evil.com", "https://example.com"));
        let policy = OriginPolicy::same_origin().try_allowed_hosts(["evil.com"]).unwrap();
        assert_eq!(policy.check(&headers), Err(Denied::Misdirected { host: "example.com".to_owned() }));
    }

    #[test]
    fn trusted_forwarded_headers_stand_for_host_and_scheme() {
        let policy = OriginPolicy::same_origin().trust_forwarded();
        let judge = |origin: &str, host: &str, scheme: &str| {
            policy.check(&parts(&[
                ("origin", origin.as_bytes()),
                ("host", b"10.0.0.1:8080"),
                ("x-forwarded-host", host.as_bytes()),
                ("x-forwarded-proto", scheme.as_bytes()),
            ]))
        };
        for (origin, host, scheme) in [
            ("https://example.com", "example.com", "https"),
            ("https://example.com", "Example.com:443", "WSS"),
            ("http://example.com", "example.com", "http"),
            ("http://example.com", "example.com", "ws"),
            ("https://example.com", "example.com, proxy.internal", "https, http"),
        ] {
            assert_eq!(judge(origin, host, scheme), Ok(()), "{origin} {host} {scheme}");
        }
        for (origin, host, scheme, expected) in [
            ("http://example.com", "example.com", "https", "https://example.com"),
            ("https://example.com", "example.com", "http", "http://example.com"),
            ("https://example.com:80", "example.com", "http", "http://example.com"),
            ("https://evil.com", "example.com", "https", "https://example.com"),
            ("https://example.com", "evil.com, example.com", "https", "https://evil.com"),
            ("http://10.0.0.1:8080", "example.com", "https", "https://example.com"),
        ] {
            assert_eq!(
                judge(origin, host, scheme),
                not_allowed(origin, expected),
                "{origin} {host} {scheme}"
            );
        }
        let header = |judgement| match judgement {
            Err(Denied::Host { header, .. }) => header,
            _ => "none",
        };
        assert_eq!(header(judge("https://example.com", "", "https")), "X-Forwarded-Host");
        assert_eq!(header(judge("https://example.com", "example.com", "gopher")), "X-Forwarded-Proto");
        assert_eq!(header(judge("https://example.com", "example.com", "")), "X-Forwarded-Proto");
    }

    #[test]
    fn trust_changes_nothing_where_nothing_is_forwarded() {
        let policy = OriginPolicy::same_origin().trust_forwarded();
        assert_eq!(judge(&policy, "https://example.com", "example.com"), Ok(()));
        assert!(judge(&policy, "https://evil.com", "example.com").is_err());
    }

    #[test]
    fn another_host_is_misdirected_whatever_the_origin() {
        let policy = OriginPolicy::any()
            .try_allowed_hosts(["Example.com", "*.example.org", "localhost:3000", "[::1]"])
            .unwrap();
        for host in [
            "example.com",
            "EXAMPLE.com.",
            "example.com:8080",
            "a.example.org",
            "localhost:3000",
            "[::1]",
            "[0::1]:80",
        ] {
            assert_eq!(policy.check(&parts(&[("host", host.as_bytes())])), Ok(()), "{host}");
            assert_eq!(judge(&policy, "https://evil.com", host), Ok(()), "{host}");
        }
        for host in
            ["evil.com", "a.example.com", "example.org", "localhost", "localhost:80", "127.0.0.1", "[::2]"]
        {
            let expected = Err(Denied::Misdirected { host: host.to_owned() });
            assert_eq!(policy.check(&parts(&[("host", host.as_bytes())])), expected, "{host}");
            assert_eq!(judge(&policy, &format!("http://{host}"), host), expected, "{host}");
        }
        assert!(matches!(policy.check(&parts(&[])), Err(Denied::Host { .. })));
        assert!(matches!(policy.check(&parts(&[("host", b"a b")])), Err(Denied::Host { .. })));
    }

    #[test]
    fn a_request_without_port_is_on_one_of_the_default_ports() {
        let policy = OriginPolicy::any().try_allowed_hosts(["a.com:443", "b.com:80"]).unwrap();
        for host in ["a.com", "a.com:443", "b.com", "b.com:80"] {
            assert_eq!(judge(&policy, "null", host), Ok(()), "{host}");
        }
        for host in ["a.com:80", "b.com:443", "a.com:8443"] {
            assert!(judge(&policy, "null", host).is_err(), "{host}");
        }
    }

    #[test]
    fn a_trusted_forwarded_host_is_the_one_that_has_to_be_allowed() {
        let policy = OriginPolicy::any().trust_forwarded().try_allowed_hosts(["example.com"]).unwrap();
        let headers = [("host", &b"10.0.0.1"[..]), ("x-forwarded-host", b"example.com")];
        assert_eq!(policy.check(&parts(&headers)), Ok(()));
        assert!(policy.check(&parts(&headers[..1])).is_err());
    }

    #[test]
    fn a_bad_host_is_refused_with_what_to_write_instead() {
        for (host, advised) in [
            ("*", "leave `allowed_hosts` out"),
            ("https://example.com", "`example.com`"),
            ("example.com/chat", "it has a path"),
            ("", "host is empty"),
            ("a.*.com", "`*`"),
            ("::1", "`[::1]`"),
            ("example.com:x", "port"),
        ] {
            let message = advice(OriginPolicy::any().try_allowed_hosts([host]));
            assert!(message.contains(advised), "{host}: {message}");
        }
        assert!(advice(OriginPolicy::any().try_allowed_hosts([""; 0])).contains("the list is empty"));
    }

    #[test]
    #[should_panic(expected = "\"example.com\" is not valid: it has no scheme; put one in front")]
    fn an_origin_of_the_program_that_is_none_is_refused_at_once() {
        let _ = OriginPolicy::allow(["example.com"]);
    }

    #[test]
    #[should_panic(expected = "a host has no scheme; write it as `example.com`")]
    fn a_host_of_the_program_that_is_none_is_refused_at_once() {
        let _ = OriginPolicy::same_origin().allowed_hosts(["https://example.com"]);
    }
}
