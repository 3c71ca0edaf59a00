//! [`OriginPolicy`]: whether a request is allowed, by its headers `Origin` and `Host`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderValue, ORIGIN};
use http::request::Parts;

use super::error::{Denied, InvalidOrigin};
use super::forwarded::Forwarded;
use super::parsed::{Origin, Tuple};
use super::pattern::{HostPattern, OriginPattern, parse_list};
use super::requested::Requested;
use super::site::Site;
use crate::error::expect_valid;

/// Which web pages may open a connection, by the header `Origin` of the handshake (RFC 6454, RFC 6455 section 10.2).
///
/// A browser lets any page open a WebSocket to any server, and sends the cookies of that server with the handshake. CORS
/// does not apply to WebSockets. The header `Origin` of the handshake says which page asks. If a server does not check it,
/// every page on the web can act as the user who visits it.
///
/// The default is [`same_origin`](Self::same_origin). A request without `Origin` does not come from a browser. It is
/// allowed, unless [`require_origin`](Self::require_origin) is called. A request with two origins is answered with 400. An
/// origin that is not allowed is answered with 403, and the text names both sides of the comparison.
///
/// It differs from a comparison of strings in that both sides are parsed and normalised first. The case of scheme and host,
/// default ports, a trailing dot and the spelling of IPv6 addresses make no difference. What is not an origin
/// (`https://example.com@evil.com`, `https://example.com/chat`, `null`) equals no origin.
///
/// # In development
///
/// A development server such as Vite serves the page on another port than this server's, which is another origin. This line
/// allows it, and no page from elsewhere:
///
/// ```
/// use ws_core::{OriginPolicy, WebSocketLayer};
///
/// let policy = if cfg!(debug_assertions) { OriginPolicy::localhost() } else { OriginPolicy::same_origin() };
/// let layer = WebSocketLayer::new().origin(policy);
/// ```
///
/// A browser does not show why a handshake was refused. The server's log does: see [`Rejection`](crate::Rejection).
///
/// # Users
///
/// An origin names a page, not a user, and a program that is no browser can send any `Origin`. Authenticate the user as
/// well.
///
/// ```
/// use ws_core::OriginPolicy;
///
/// let same_host = OriginPolicy::same_origin();
/// let listed = OriginPolicy::allow(["https://example.com", "https://*.example.com"]);
/// let behind_a_proxy = OriginPolicy::same_origin().trust_forwarded();
/// let strict = OriginPolicy::allow(["https://example.com"])
///     .require_origin() // also for programs that are no browsers
///     .allowed_hosts(["ws.example.com"]);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a policy does nothing until a layer has it"]
pub struct OriginPolicy {
    rule: Rule,
    require_origin: bool,
    trust_forwarded: bool,
    /// If it is empty, every host is allowed.
    allowed_hosts: Arc<[HostPattern]>,
}

#[derive(Clone, Default)]
enum Rule {
    #[default]
    SameOrigin,
    Allow(Arc<[OriginPattern]>),
    Localhost,
    Predicate(Arc<Predicate>),
    Any,
}

type Predicate = dyn Fn(&Origin, &Parts) -> bool + Send + Sync;

impl OriginPolicy {
    /// Allows the pages of the host that the request is for. This is the default.
    ///
    /// `Origin` is compared with `Host`, or with the target of the request if that names a host (HTTP/2: `:authority`). The
    /// host and the port have to be equal. The scheme is not compared, because a server behind a TLS terminator does not see
    /// whether the client used `https`. So a `Host` without a port has the default port of the origin's scheme. If the proxy
    /// says which scheme the client used, [`trust_forwarded`](Self::trust_forwarded) compares it as well.
    ///
    /// A page with a scheme of its own, such as `file://` or `capacitor://localhost`, is of no server. Use
    /// [`allow`](Self::allow) for it.
    ///
    /// Attackers can point a host name of their own at the address of this server (DNS rebinding). Then `Origin` and `Host`
    /// are equal. [`allowed_hosts`](Self::allowed_hosts) protects against that.
    pub fn same_origin() -> Self {
        Self::default()
    }

    /// Allows these origins and no others. If the server's own pages connect, list its own origin, too.
    ///
    /// An entry is an origin (`https://example.com`, `http://localhost:3000`, `chrome-extension://<id>`, `app://.`). With `*.`
    /// in front of the host it matches all subdomains, at any depth, but not the host itself. The scheme and the port have to
    /// be equal; without a port, it is the default of the scheme.
    ///
    /// `file://` stands for every file on the disk of the user that a browser or an app opens, also for one from the web that
    /// the user has saved.
    ///
    /// # Panics
    ///
    /// If an entry is anything else (`*`, a name without a scheme, an origin with a path or a user name, `null`, a `*` that
    /// is not in front), or if there is no entry. The message says what to write instead.
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
    /// If an entry is not an origin or a pattern of origins, or if there is no entry. The error says what to write instead.
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

    /// Allows pages of `localhost`, `127.0.0.0/8` and `[::1]`, with `http` or `https`, on any port, and no others. Use it in
    /// development, where a page comes from another server on the same machine, such as Vite on `http://localhost:5173`.
    ///
    /// Names that only look like it are other hosts: `localhost.example.com`, `127.0.0.1.nip.io`. On a public server it lets in
    /// any program on the machine of a user that serves a page, so use another policy there.
    ///
    /// ```
    /// use ws_core::OriginPolicy;
    ///
    /// let policy = if cfg!(debug_assertions) { OriginPolicy::localhost() } else { OriginPolicy::same_origin() };
    /// ```
    pub fn localhost() -> Self {
        Self { rule: Rule::Localhost, ..Self::default() }
    }

    /// Allows what `predicate` allows. It is called for every request with a valid `Origin`, which may be opaque
    /// ([`Origin::is_opaque`]).
    ///
    /// It runs on the task of the request and must not block. If it panics, the request is refused.
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

    /// Allows every page on the web to connect, **with the cookies of the user who visits it**.
    ///
    /// Use it for a public service without users, or if users authenticate by something that no other page has, for example
    /// a token in the first message.
    pub fn any() -> Self {
        Self { rule: Rule::Any, ..Self::default() }
    }

    /// Refuses requests without the header `Origin` with 403.
    ///
    /// Browsers always send it. It is no protection against other programs, which can send any origin.
    pub fn require_origin(mut self) -> Self {
        self.require_origin = true;
        self
    }

    /// Trusts what the proxy in front of this server says in `X-Forwarded-Host`, `X-Forwarded-Port` and `X-Forwarded-Proto`, or
    /// in `Forwarded` (RFC 7239), for [`same_origin`](Self::same_origin) and [`allowed_hosts`](Self::allowed_hosts). Without
    /// this call these headers are ignored.
    ///
    /// The forwarded host replaces that of the request. The forwarded port counts if the host has none. The forwarded scheme
    /// (`http` or `ws`, `https` or `wss`) is compared with the scheme of the origin. A missing header changes nothing. One that
    /// cannot be read is answered with 400.
    ///
    /// Only the proxy that speaks with this server is trusted. If a header is a list, on one line or on several, the last
    /// entry is that proxy's and counts. All entries in front of it may be the client's. If both `Forwarded` and
    /// `X-Forwarded-*` tell a host, a port or a scheme, they have to tell the same, else the answer is 400.
    ///
    /// Call it only behind a proxy that sets, or removes, **each** of these headers. A client can send any value in one that
    /// the proxy passes on.
    pub fn trust_forwarded(mut self) -> Self {
        self.trust_forwarded = true;
        self
    }

    /// Refuses requests for other hosts with 421, whatever their origin. This is the defence against DNS rebinding, most
    /// important for servers on a local machine or in a private network.
    ///
    /// An entry is a host (`example.com`, `192.168.1.1`, `[::1]`), on any port, or a host and a port (`localhost:3000`). A
    /// request without a port is on port 80 or 443. `*.` in front matches all subdomains, as in [`allow`](Self::allow).
    ///
    /// # Panics
    ///
    /// If an entry is anything else, or if there is no entry. The message says what to write instead.
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
    /// If an entry is not a host or a pattern of hosts, or if there is no entry. The error says what to write instead.
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

    /// Checks a request for the host `requested`.
    pub(crate) fn check(&self, parts: &Parts, requested: &Requested<'_>) -> Result<(), Denied> {
        self.check_host(parts, requested)?;
        match only_origin(&parts.headers)? {
            Some(value) => self.check_origin(value, parts, requested),
            None if self.require_origin => Err(Denied::MissingOrigin),
            None => Ok(()),
        }
    }

    fn check_host(&self, parts: &Parts, requested: &Requested<'_>) -> Result<(), Denied> {
        if self.allowed_hosts.is_empty() {
            return Ok(());
        }
        let host = self.site(parts, requested)?.host;
        if self.allowed_hosts.iter().any(|pattern| pattern.matches(&host)) {
            Ok(())
        } else {
            Err(Denied::Misdirected { host: host.to_string() })
        }
    }

    fn check_origin(
        &self,
        value: &HeaderValue,
        parts: &Parts,
        requested: &Requested<'_>,
    ) -> Result<(), Denied> {
        if matches!(self.rule, Rule::SameOrigin) && self.is_plainly_same(value, requested) {
            return Ok(());
        }
        let origin =
            Origin::parse(value.as_bytes()).map_err(|problem| Denied::MalformedOrigin(problem.description()));
        match &self.rule {
            // also if it is not an origin
            Rule::Any => Ok(()),
            Rule::SameOrigin => {
                let origin = origin?;
                let site = self.site(parts, requested)?;
                allow_if(origin.tuple().is_some_and(|origin| site.has_page(origin)), &origin, site)
            }
            Rule::Allow(patterns) => {
                let origin = origin?;
                let listed = |origin: &Tuple| patterns.iter().any(|pattern| pattern.matches(origin));
                allow_if(origin.tuple().is_some_and(listed), &origin, "an origin of the server's list")
            }
            Rule::Localhost => {
                let origin = origin?;
                let allowed = origin.tuple().is_some_and(Tuple::is_localhost);
                allow_if(allowed, &origin, "a page of localhost, 127.0.0.0/8 or [::1]")
            }
            Rule::Predicate(predicate) => {
                let origin = origin?;
                // the panic hook has reported the panic; state that it may have broken belongs to the predicate
                let allowed = catch_unwind(AssertUnwindSafe(|| predicate(&origin, parts))).unwrap_or(false);
                allow_if(allowed, &origin, "an origin that the server's predicate allows")
            }
        }
    }

    /// Whether the text of the origin, after the scheme, is the text of the host in the request. That is so for most
    /// requests of browsers, and saves parsing the origin.
    fn is_plainly_same(&self, value: &HeaderValue, requested: &Requested<'_>) -> bool {
        let origin = value.as_bytes();
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        !self.trust_forwarded && authority == Some(requested.text)
    }

    /// Where the client finds this server.
    fn site(&self, parts: &Parts, requested: &Requested<'_>) -> Result<Site, Denied> {
        Ok(if self.trust_forwarded {
            Site::behind_proxy(requested, Forwarded::of(&parts.headers)?)
        } else {
            Site::new(requested)
        })
    }
}

fn allow_if(allowed: bool, origin: &Origin, expected: impl fmt::Display) -> Result<(), Denied> {
    if allowed {
        Ok(())
    } else {
        Err(Denied::NotAllowed { origin: origin.to_string(), expected: expected.to_string() })
    }
}

/// The header `Origin`, of which there is at most one (RFC 6454 section 7.3).
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
            Self::Localhost => f.write_str("Localhost"),
            Self::Predicate(_) => f.write_str("Predicate(..)"),
            Self::Any => f.write_str("Any"),
        }
    }
}
