//! [`Forwarded`]: what a proxy says of the request that it got, by `Forwarded` (RFC 7239) or `X-Forwarded-*`.
//!
//! Each proxy adds its own words behind those that it got. Only the last ones are of the proxy that speaks with this server.
//! All before them may be the client's.

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use super::error::Denied;
use super::host::{Host, parse_port};
use super::parsed::Web;

static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the nearest proxy says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded {
    pub(super) host: Option<Host>,
    /// The port of the host, if that does not say it.
    pub(super) port: Option<u16>,
    pub(super) scheme: Option<Web>,
}

impl Forwarded {
    /// The proxy sets one kind of headers, and a client may have sent the other. So both have to say the same.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Denied> {
        let unofficial = Self::of_unofficial(headers)?;
        let standard = Self::of_standard(headers)?;
        let nothing = Self::default();
        if standard == nothing || standard == unofficial {
            Ok(unofficial)
        } else if unofficial == nothing {
            Ok(standard)
        } else {
            Err(Denied::Host { header: "Forwarded", problem: "`X-Forwarded-*` does not say the same" })
        }
    }

    /// By `X-Forwarded-Host`, `X-Forwarded-Port` and `X-Forwarded-Proto`.
    fn of_unofficial(headers: &HeaderMap) -> Result<Self, Denied> {
        let mut forwarded = Self::default();
        if let Some(value) = last_item(headers, &X_FORWARDED_HOST) {
            forwarded.set_host("X-Forwarded-Host", value)?;
        }
        if let Some(value) = last_item(headers, &X_FORWARDED_PORT) {
            let port = parse_port(value).map_err(|problem| Denied::host("X-Forwarded-Port", problem))?;
            forwarded.port = Some(port);
        }
        if let Some(value) = last_item(headers, &X_FORWARDED_PROTO) {
            forwarded.set_scheme("X-Forwarded-Proto", value)?;
        }
        Ok(forwarded.normalised())
    }

    /// By the last element of the header `Forwarded`.
    fn of_standard(headers: &HeaderMap) -> Result<Self, Denied> {
        let mut last = Element::default();
        for line in headers.get_all(FORWARDED) {
            let malformed = Denied::Host {
                header: "Forwarded",
                problem: "it is not a list such as `host=example.com;proto=https`",
            };
            last = Element::last_of(line.as_bytes()).ok_or(malformed)?;
        }
        let mut forwarded = Self::default();
        if let Some(value) = last.host {
            forwarded.set_host("Forwarded", &value)?;
        }
        if let Some(value) = last.proto {
            forwarded.set_scheme("Forwarded", &value)?;
        }
        Ok(forwarded.normalised())
    }

    fn set_host(&mut self, header: &'static str, value: &[u8]) -> Result<(), Denied> {
        self.host = Some(Host::parse(value).map_err(|problem| Denied::host(header, problem))?);
        Ok(())
    }

    fn set_scheme(&mut self, header: &'static str, value: &[u8]) -> Result<(), Denied> {
        let scheme = str::from_utf8(value).unwrap_or_default().to_ascii_lowercase();
        let problem = "it is neither http nor https";
        self.scheme = Some(Web::of(&scheme).ok_or(Denied::Host { header, problem })?);
        Ok(())
    }

    /// With the port, if it is known, in the host, if there is one.
    fn normalised(mut self) -> Self {
        if let Some(host) = self.host.take() {
            let port = self.port.take().or(self.scheme.map(Web::default_port));
            self.host = Some(host.or_port(port));
        }
        self
    }
}

/// The last item of a comma-separated list over all lines of a header. An empty one counts: the item in front of it is not
/// the nearest proxy's.
fn last_item<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let line = headers.get_all(name).into_iter().next_back()?;
    line.as_bytes().rsplit(|&byte| byte == b',').next().map(<[u8]>::trim_ascii)
}

/// An element of the header `Forwarded`: what one proxy says.
#[derive(Default)]
struct Element {
    host: Option<Vec<u8>>,
    proto: Option<Vec<u8>>,
}

impl Element {
    /// The last element in a line; `None` if any of the line is malformed: a quotation mark that a client has not closed may
    /// be closed by one of the proxy's.
    fn last_of(line: &[u8]) -> Option<Self> {
        let mut element = Self::default();
        let mut rest = line.trim_ascii();
        while let Some(&first) = rest.first() {
            rest = match first {
                b',' => {
                    element = Self::default();
                    &rest[1..]
                }
                b';' => &rest[1..],
                _ => {
                    let after = element.read_pair(rest)?.trim_ascii_start();
                    if !matches!(after.first(), None | Some(b',' | b';')) {
                        return None;
                    }
                    after
                }
            };
            rest = rest.trim_ascii_start();
        }
        Some(element)
    }

    /// Reads a pair such as `host=example.com`, and returns what is behind it.
    fn read_pair<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let (name, rest) = split_word(text)?;
        let rest = rest.strip_prefix(b"=")?;
        let (value, rest) = match rest.strip_prefix(b"\"") {
            Some(quoted) => split_quoted(quoted)?,
            None => split_word(rest).map(|(word, rest)| (word.to_vec(), rest))?,
        };
        let known = match name.to_ascii_lowercase().as_slice() {
            b"host" => &mut self.host,
            b"proto" => &mut self.proto,
            _ => return Some(rest),
        };
        // each name is there once (RFC 7239 section 4)
        known.replace(value).is_none().then_some(rest)
    }
}

/// Splits off a token. `host=[::1]:8080` without quotation marks is not a token, but proxies write it.
fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_delimiter = |byte: &u8| !byte.is_ascii_graphic() || b",;=\"\\".contains(byte);
    let end = text.iter().position(is_delimiter).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Splits off the rest of a quoted string (RFC 9110 section 5.6.4), without its backslashes.
fn split_quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &text[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            byte => value.push(byte),
        }
    }
    None
}
