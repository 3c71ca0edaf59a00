//! Proxies: which one leads to a server, and the tunnel that it opens (RFC 9110 section 9.3.6).
//!
//! hyper-util reads the user and the password of a URL, and compares hosts with `NO_PROXY`. Its matcher is not asked for the
//! proxy itself: it ignores a value that is not valid, and would connect without a proxy.

use std::env;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::error::ConnectError;
use super::head::read_head;
use super::proxy_error::{InvalidProxy, ProxyError, ProxyFailure};
use super::target::Target;

/// Through which proxies a client connects.
#[derive(Clone, Default)]
pub(super) enum Proxies {
    #[default]
    None,
    All(Proxy),
    Environment(Arc<Environment>),
}

impl Proxies {
    /// Those that the environment variables of this process name.
    pub(super) fn from_env() -> Self {
        let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::Environment(Arc::new(Environment::read(variable)))
    }

    /// The proxy to connect to this server through; `None` to connect directly.
    pub(super) fn find(&self, target: &Target) -> Result<Option<&Proxy>, ConnectError> {
        let proxy = match self {
            Self::None => None,
            Self::All(proxy) => Some(proxy),
            Self::Environment(environment) => environment.find(target)?,
        };
        match proxy {
            Some(proxy) if target.zone.is_some() => Err(proxy.error(ProxyFailure::Unusable(
                "the IPv6 address of the server has a zone, which has a meaning on this host only: connect without a proxy",
            ))),
            proxy => Ok(proxy),
        }
    }
}

/// What the environment variables said when they were read.
pub(super) struct Environment {
    /// For `ws` and for `wss`.
    plain: Option<Result<Proxy, Unusable>>,
    secure: Option<Result<Proxy, Unusable>>,
    /// Has a proxy for every server that `NO_PROXY` does not name.
    exceptions: Matcher,
}

/// A variable whose value is not the URL of a proxy.
struct Unusable {
    variable: &'static str,
    error: InvalidProxy,
}

impl Environment {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let set = names.iter().filter_map(|&name| Some((name, variable(name)?)));
            set.map(|(name, value)| (name, value.trim().to_owned())).find(|(_, value)| !value.is_empty())
        };
        let proxy = |names: &[&'static str]| {
            let (variable, value) = first(names)?;
            Some(Proxy::parse(&value).map_err(|error| Unusable { variable, error }))
        };
        // a web server sets `HTTP_PROXY` for a CGI program to the header `Proxy` of the request, which anybody can send
        // ("httpoxy"); on Windows the names of variables have no letter case
        let plain: &[_] = match variable("REQUEST_METHOD") {
            None => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
            Some(_) if cfg!(windows) => &["all_proxy", "ALL_PROXY"],
            Some(_) => &["http_proxy", "all_proxy", "ALL_PROXY"],
        };
        let exceptions = first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        // curl takes spaces for commas, and the matcher does not
        let exceptions = exceptions.replace(char::is_whitespace, ",");
        Self {
            plain: proxy(plain),
            secure: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            exceptions: Matcher::builder().all("http://proxy").no(exceptions).build(),
        }
    }

    fn find(&self, target: &Target) -> Result<Option<&Proxy>, ConnectError> {
        let proxy = if target.secure { &self.secure } else { &self.plain };
        match proxy {
            None => Ok(None),
            Some(_) if self.is_excepted(target) => Ok(None),
            Some(Ok(proxy)) => Ok(Some(proxy)),
            Some(Err(Unusable { variable, error })) => Err(ConnectError::Proxy(Box::new(ProxyError {
                proxy: format!("of the environment variable `{variable}`"),
                failure: ProxyFailure::Unusable(error.why),
            }))),
        }
    }

    /// Whether `NO_PROXY` names the host.
    fn is_excepted(&self, target: &Target) -> bool {
        let host = target.written_host();
        let server = format!("http://{}", host.trim_end_matches('.')).parse();
        server.is_ok_and(|server: Uri| self.exceptions.intercept(&server).is_none())
    }
}

/// An HTTP proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    /// Where it is, and whether it is connected to over TLS.
    pub(super) target: Target,
    /// The value of `Proxy-Authorization`.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidProxy> {
        Self::check(url).map_err(|why| InvalidProxy { why })
    }

    fn check(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => "ws",
            "https" if cfg!(feature = "rustls") => "wss",
            "https" => {
                return Err(
                    "its scheme is https, and there is no TLS: enable the feature `rustls` of ws-core",
                );
            }
            _ => {
                return Err(
                    "its scheme is not http or https: write http://host:port, or for a proxy of another \
                            kind pass its stream to `connect_over`",
                );
            }
        };
        // what follows the authority has no meaning for a proxy
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err("it has no host: write http://host:port");
        }
        let target = Target::check(&format!("{scheme}://{host}"))?;
        let authorization = match user {
            None | Some("") => None,
            Some(user) => Some(basic(user)?),
        };
        Ok(Self { target, authorization })
    }

    /// Its URL without user and password.
    fn name(&self) -> String {
        let scheme = if self.target.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.target.authority)
    }

    fn error(&self, failure: ProxyFailure) -> ConnectError {
        ConnectError::Proxy(Box::new(ProxyError { proxy: self.name(), failure }))
    }

    /// An error on the way to the proxy, or in its answer, as one that names it.
    pub(super) fn blame(&self, error: ConnectError) -> ConnectError {
        self.error(match error.over_tls(self.target.secure) {
            ConnectError::Connect(error) => ProxyFailure::Connect(error),
            ConnectError::Tls(error) => ProxyFailure::Tls(error),
            ConnectError::InvalidUrl { why } => ProxyFailure::Unusable(why),
            ConnectError::InvalidResponse { why } => ProxyFailure::InvalidResponse(why),
            ConnectError::HeadTooLarge => ProxyFailure::InvalidResponse(
                "its head has more than 16 KiB, or more than 100 headers".into(),
            ),
            ConnectError::Disconnected(error) => ProxyFailure::Disconnected(error),
            other => return other,
        })
    }

    /// Asks the proxy at the other end of `stream` to connect to the server. After that, the server is at the other end.
    pub(super) async fn tunnel<S>(&self, stream: &mut S, target: &Target) -> Result<(), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error| self.blame(ConnectError::Disconnected(Some(error)));
        stream.write_all(&self.request(target)).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let (response, read) = read_head(stream).await.map_err(|error| self.blame(error))?;
        if !response.status().is_success() {
            return Err(self.error(ProxyFailure::Refused(Box::new(response))));
        }
        // in the tunnel the client speaks first, with and without TLS
        if !read.is_empty() {
            let why = "bytes follow it before anything was sent to the server".into();
            return Err(self.error(ProxyFailure::InvalidResponse(why)));
        }
        Ok(())
    }

    /// The head of the request.
    fn request(&self, target: &Target) -> Vec<u8> {
        let server = format!("{}:{}", target.written_host(), target.port);
        let mut head = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            for part in [b"Proxy-Authorization: ", authorization.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// User and password, as the value of `Proxy-Authorization` (RFC 7617).
fn basic(user: &str) -> Result<HeaderValue, &'static str> {
    const ENCODE: &str = "its user or password has a character that has to be percent-encoded";
    let (name, _) = user.split_once(':').unwrap_or((user, ""));
    if name.to_ascii_lowercase().contains("%3a") {
        return Err("its user has a colon, which Basic authentication cannot send");
    }
    if user.contains('@') {
        return Err(ENCODE);
    }
    let matcher = Matcher::builder().all(format!("http://{user}@proxy")).build();
    let proxy = matcher.intercept(&Uri::from_static("http://server"));
    proxy.and_then(|proxy| proxy.basic_auth().cloned()).ok_or(ENCODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy for a server, by these variables: its name, `direct`, or the error.
    fn proxy(variables: &[(&str, &str)], server: &str) -> String {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxies = Proxies::Environment(Arc::new(Environment::read(variable)));
        // without TLS there is no URL with wss
        let secure = server.starts_with("wss://");
        let target = Target { secure, ..Target::parse(&server.replacen("wss://", "ws://", 1)).unwrap() };
        match proxies.find(&target) {
            Ok(Some(proxy)) => proxy.name(),
            Ok(None) => "direct".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_scheme_has_its_variable_and_both_have_one() {
        let both = [("http_proxy", "http://plain"), ("HTTPS_PROXY", "http://secure:3128/")];
        for (variables, server, expected) in [
            (&[][..], "ws://h/", "direct"),
            (&both, "ws://h/", "http://plain"),
            (&both, "wss://h/", "http://secure:3128"),
            (&both[..1], "wss://h/", "direct"),
            (&[("HTTP_PROXY", "proxy:8080")], "ws://h/", "http://proxy:8080"),
            (&[("ALL_PROXY", "http://all"), ("http_proxy", "http://plain")], "ws://h/", "http://plain"),
            (&[("ALL_PROXY", "http://all"), ("http_proxy", "http://plain")], "wss://h/", "http://all"),
            (&[("all_proxy", "ada:secret@all")], "wss://h/", "http://all"),
            // the name in lower case comes first, and an empty value is none
            (&[("HTTP_PROXY", "http://upper"), ("http_proxy", "http://lower")], "ws://h/", "http://lower"),
            (&[("HTTP_PROXY", "http://upper"), ("http_proxy", " ")], "ws://h/", "http://upper"),
            (&[("http_proxy", ""), ("all_proxy", "http://all")], "ws://h/", "http://all"),
        ] {
            assert_eq!(proxy(variables, server), expected, "{variables:?} {server}");
        }
    }

    #[test]
    fn a_header_of_a_request_to_a_cgi_program_names_no_proxy() {
        let variables =
            [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil"), ("HTTPS_PROXY", "http://good")];
        assert_eq!(proxy(&variables, "ws://h/"), "direct");
        assert_eq!(proxy(&variables, "wss://h/"), "http://good");
        let variables = [("REQUEST_METHOD", "GET"), ("http_proxy", "http://good")];
        assert_eq!(proxy(&variables, "ws://h/"), if cfg!(windows) { "direct" } else { "http://good" });
    }

    #[test]
    fn servers_that_no_proxy_names_are_connected_to_directly() {
        for (list, server, is_direct) in [
            ("*", "ws://h/", true),
            ("example.com", "ws://example.com/", true),
            ("example.com", "wss://Chat.Example.COM.:8443/", true),
            (".example.com", "ws://chat.example.com/", true),
            (".example.com", "ws://example.com/", true),
            ("example.com", "ws://notexample.com/", false),
            ("example.com", "ws://example.com.evil.example/", false),
            ("a.example, b.example", "ws://b.example/", true),
            ("a.example b.example", "ws://b.example/", true),
            ("127.0.0.1", "ws://127.0.0.1:80/", true),
            ("127.0.0.1", "ws://127.0.0.10/", false),
            ("10.0.0.0/8", "ws://10.200.3.4/", true),
            ("10.0.0.0/8", "ws://11.0.0.1/", false),
            ("10.0.0.0/8", "ws://localhost/", false),
            ("fd00::/8", "ws://[fd00::1]:9/", true),
            ("::1", "ws://[::1]/", true),
            ("fe80::/10", "ws://[fe80::1%25eth0]/", true),
            ("", "ws://localhost/", false),
            (",, ,", "ws://localhost/", false),
        ] {
            for name in ["no_proxy", "NO_PROXY"] {
                let proxy = proxy(&[("all_proxy", "http://all"), (name, list)], server);
                assert_eq!(proxy == "direct", is_direct, "{list:?} {server}: {proxy}");
            }
        }
    }

    #[test]
    fn a_value_that_is_none_of_a_proxy_fails_the_connections_that_need_it() {
        let variables = [("HTTPS_PROXY", "socks5://ada:secret@proxy"), ("no_proxy", "b")];
        let error = proxy(&variables, "wss://a/");
        assert!(
            error.starts_with(
                "the proxy of the environment variable `HTTPS_PROXY` cannot be used: its scheme"
            ),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(proxy(&variables, "wss://b/"), "direct");
        assert_eq!(proxy(&variables, "ws://a/"), "direct");
    }
}
