//! [`OriginPolicy`]: whether a request is allowed, by its headers `Origin` and `Host`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;

use super::error::{Denied, InvalidOrigin};
use super::host::Host;
use super::parsed::{Origin, Tuple, Web};
use super::pattern::{HostPattern, OriginPattern, parse_list};
use crate::error::expect_valid;

static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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
    Predicate(Arc<Predicate>),
    Any,
}

type Predicate = dyn Fn(&Origin, &Parts) -> bool + Send + Sync;

impl OriginPolicy {
    /// Allows the pages of the host that the request is for. This is the default.
    ///
    /// `Origin` is compared with `Host` (HTTP/2: `:authority`). The host and the port have to be equal. The scheme is not
    /// compared, because a server behind a TLS terminator does not see whether the client used `https`. So a `Host` without
    /// a port has the default port of the origin's scheme. If the proxy says which scheme the client used,
    /// [`trust_forwarded`](Self::trust_forwarded) compares it as well.
    ///
    /// Attackers can point a host name of their own at the address of this server (DNS rebinding). Then `Origin` and `Host`
    /// are equal. [`allowed_hosts`](Self::allowed_hosts) protects against that.
    pub fn same_origin() -> Self {
        Self::default()
    }

    /// Allows these origins and no others. If the server's own pages connect, list its own origin, too.
    ///
    /// An entry is an origin (`https://example.com`, `http://localhost:3000`, `chrome-extension://<id>`). With `*.` in front
    /// of the host it matches all subdomains, at any depth, but not the host itself. The scheme and the port have to be
    /// equal; without a port, it is the default of the scheme.
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

    /// Trusts `X-Forwarded-Host` and `X-Forwarded-Proto`, for [`same_origin`](Self::same_origin) and
    /// [`allowed_hosts`](Self::allowed_hosts). Without this call both headers are ignored.
    ///
    /// The forwarded host replaces `Host`. The forwarded scheme (`http` or `ws`, `https` or `wss`) is compared with the
    /// scheme of the origin. If a chain of proxies makes a list, the first entry counts. A missing header changes nothing.
    ///
    /// Call it only behind a proxy that **overwrites** both headers. Otherwise clients can send any value in them.
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

    /// Checks a request.
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
            // also if it is not an origin
            Rule::Any => Ok(()),
            Rule::SameOrigin => {
                let origin = origin?;
                let own = self.own_origin(&origin, parts)?;
                allow_if(origin.tuple().is_some_and(|origin| origin.matches_own(&own)), &origin, own)
            }
            Rule::Allow(patterns) => {
                let origin = origin?;
                let listed = |origin: &Tuple| patterns.iter().any(|pattern| pattern.matches(origin));
                allow_if(origin.tuple().is_some_and(listed), &origin, "an origin of the server's list")
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
    /// requests of browsers, and saves the parsing of both sides.
    fn is_plainly_same(&self, value: &HeaderValue, parts: &Parts) -> bool {
        let origin = value.as_bytes();
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.is_some_and(|authority| {
            self.forwarded(&parts.headers, &X_FORWARDED_PROTO).is_none()
                && self.requested_authority(parts).is_ok_and(|(_, own)| own == authority)
                && Host::parse(authority).is_ok()
        })
    }

    /// The origin of this server's own pages, according to the request. What the request does not say is taken from
    /// `origin`, with which the result is compared.
    fn own_origin(&self, origin: &Origin, parts: &Parts) -> Result<Tuple, Denied> {
        let host = self.requested_host(parts)?;
        let web = match self.forwarded_scheme(&parts.headers)? {
            Some(web) => web,
            None => origin.tuple().and_then(|origin| Web::of(&origin.scheme)).unwrap_or(Web::Tls),
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

    /// The text of the host and port, with the name of the header that it is from.
    fn requested_authority<'a>(&self, parts: &'a Parts) -> Result<(&'static str, &'a [u8]), Denied> {
        if let Some(value) = self.forwarded(&parts.headers, &X_FORWARDED_HOST) {
            return Ok(("X-Forwarded-Host", value));
        }
        let mut values = parts.headers.get_all(&HOST).iter();
        let header = values.next();
        if values.next().is_some() {
            return Err(Denied::Host { header: "Host", problem: "there is more than one" });
        }
        // `:authority` of HTTP/2; in HTTP/1.1 a target in absolute form, which replaces `Host` (RFC 9112 section 3.2.2)
        if let Some(authority) = parts.uri.authority() {
            return Ok((":authority", authority.as_str().as_bytes()));
        }
        let header = header.ok_or(Denied::Host { header: "Host", problem: "it is missing" })?;
        Ok(("Host", header.as_bytes()))
    }

    /// The scheme that the client used, if a trusted proxy says it.
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
            Self::Predicate(_) => f.write_str("Predicate(..)"),
            Self::Any => f.write_str("Any"),
        }
    }
}
