//! The entries of an [`OriginPolicy`](super::OriginPolicy): patterns of origins and of hosts.

use std::sync::Arc;

use super::error::{InvalidOrigin, Problem};
use super::host::Host;
use super::parsed::{Tuple, split_scheme};

/// One entry of `allow`.
#[derive(Clone, Debug)]
pub(super) struct OriginPattern {
    /// With the host of the parent, if it matches `subdomains`.
    origin: Tuple,
    subdomains: bool,
}

impl OriginPattern {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if matches!(text, "*" | "*://*" | "http://*" | "https://*") {
            return Err(Problem::AnyOrigin);
        }
        if text == "null" {
            return Err(Problem::Opaque);
        }
        let (scheme, authority) = split_scheme(text.as_bytes())?;
        let (authority, subdomains) = split_wildcard(authority)?;
        Ok(Self { origin: Tuple::new(scheme, authority)?, subdomains })
    }

    pub(super) fn matches(&self, origin: &Tuple) -> bool {
        self.origin.scheme == origin.scheme
            && self.origin.port == origin.port
            && name_matches(&self.origin.host, self.subdomains, &origin.host)
    }
}

/// One entry of `allowed_hosts`.
#[derive(Clone, Debug)]
pub(super) struct HostPattern {
    /// The parent, if it matches `subdomains`.
    host: Host,
    subdomains: bool,
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Err(Problem::AnyHost);
        }
        if text.contains("://") {
            return Err(Problem::SchemeOfHost);
        }
        let (host, subdomains) = split_wildcard(text.as_bytes())?;
        Ok(Self { host: Host::parse(host)?, subdomains })
    }

    pub(super) fn matches(&self, host: &Host) -> bool {
        let port_matches = match (self.host.port, host.port) {
            (None, _) | (Some(80 | 443), None) => true,
            (this, other) => this == other,
        };
        port_matches && name_matches(&self.host.name, self.subdomains, &host.name)
    }
}

/// Whether `name` is `pattern`, or with `subdomains`, a subdomain of it.
fn name_matches(pattern: &str, subdomains: bool, name: &str) -> bool {
    if subdomains {
        // the dot excludes `evilexample.com`; the names of apps may have empty labels, as in `app://.example`
        let labels = name.strip_suffix(pattern).and_then(|front| front.strip_suffix('.'));
        labels.is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
    } else {
        name == pattern
    }
}

/// Parses the entries of a list, which must not be empty.
pub(super) fn parse_list<I, T>(
    entries: I,
    parse: fn(&str) -> Result<T, Problem>,
) -> Result<Arc<[T]>, InvalidOrigin>
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

/// Splits off the `*.` in front, if it is there. Returns whether it is.
fn split_wildcard(text: &[u8]) -> Result<(&[u8], bool), Problem> {
    let parent = text.strip_prefix(b"*.");
    let rest = parent.unwrap_or(text);
    if rest.contains(&b'*') {
        return Err(Problem::Wildcard);
    }
    if let Some(parent) = parent
        && Host::parse(parent)?.is_address()
    {
        return Err(Problem::WildcardAddress);
    }
    Ok((rest, parent.is_some()))
}
