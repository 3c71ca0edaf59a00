//! [`Requested`]: the host that a request is for, by its target and by the header `Host`.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Version};

use super::error::Denied;
use super::host::Host;
use super::parsed::Web;

/// An adapter puts this into the extensions of a request whose target names another host than the header `Host`, if it
/// cannot see which.
///
/// The request is refused with 400, because the host that it is for is not known. It is for adapters only.
///
/// ```
/// use ws_core::{HiddenTarget, WebSocketLayer};
///
/// let request = http::Request::get("/")
///     .header("host", "example.com")
///     .header("connection", "upgrade")
///     .header("upgrade", "websocket")
///     .extension(HiddenTarget)
///     .body(());
/// let (mut parts, ()) = request?.into_parts();
/// assert_eq!(WebSocketLayer::new().upgrade(&mut parts).unwrap_err().status(), 400);
/// # Ok::<(), http::Error>(())
/// ```
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct HiddenTarget;

/// The host that a request is for.
#[derive(Debug)]
pub(crate) struct Requested<'a> {
    pub(super) host: Host,
    /// As the request has it.
    pub(super) text: &'a [u8],
}

impl<'a> Requested<'a> {
    /// Over HTTP/1.1 there has to be one `Host`, and a target in absolute form replaces it (RFC 9112 section 3.2). From
    /// HTTP/2 on, there has to be `:authority` or `Host`, and both name the same host (RFC 9113 section 8.3.1).
    pub(crate) fn of(parts: &'a Parts) -> Result<Self, Denied> {
        let is_http_1 = parts.version <= Version::HTTP_11;
        let name = if is_http_1 { "target" } else { ":authority" };
        let target = parts.uri.authority().map(|authority| Self::parse(name, authority.as_str().as_bytes()));
        let header = Self::of_header(&parts.headers)?;
        let problem = |problem| Err(Denied::Host { header: "Host", problem });
        if parts.extensions.get::<HiddenTarget>().is_some() {
            return problem("the target of the request names another host");
        }
        let default_port = parts.uri.scheme_str().and_then(Web::of).map(Web::default_port);
        let is_same = |target: &Self, header: &Self| {
            target.host.clone().or_port(default_port) == header.host.clone().or_port(default_port)
        };
        match (target.transpose()?, header) {
            (None, None) => problem("it is missing"),
            (Some(_), None) if is_http_1 => problem("it is missing"),
            (Some(target), Some(header)) if !is_http_1 && !is_same(&target, &header) => {
                problem("`:authority` names another host")
            }
            (Some(requested), _) | (None, Some(requested)) => Ok(requested),
        }
    }

    fn of_header(headers: &'a HeaderMap) -> Result<Option<Self>, Denied> {
        let mut values = headers.get_all(HOST).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Denied::Host { header: "Host", problem: "there is more than one" });
        }
        Self::parse("Host", value.as_bytes()).map(Some)
    }

    fn parse(header: &'static str, text: &'a [u8]) -> Result<Self, Denied> {
        let host = Host::parse(text).map_err(|problem| Denied::host(header, problem))?;
        Ok(Self { host, text })
    }
}
