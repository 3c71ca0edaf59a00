//! [`Host`]: the host and port of a URL or of the header `Host`, parsed and normalised.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::Problem;

/// A host, and the port if one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Normalised; an IPv6 address in brackets.
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

impl Host {
    /// The limit of DNS, in bytes.
    pub(super) const MAX_NAME: usize = 253;

    pub(super) fn parse(text: &[u8]) -> Result<Self, Problem> {
        if text.contains(&b'@') {
            return Err(Problem::User);
        }
        if text.iter().any(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')) {
            return Err(Problem::Path);
        }
        let (name, port) = if text.starts_with(b"[") { split_ipv6(text)? } else { split_name(text)? };
        let port = match port {
            Some(port) => Some(parse_port(port)?),
            None => None,
        };
        Ok(Self { name, port })
    }

    /// With this port, if none is given.
    pub(super) fn or_port(mut self, port: Option<u16>) -> Self {
        self.port = self.port.or(port);
        self
    }

    /// Whether this is an address, which has no subdomains.
    pub(super) fn is_address(&self) -> bool {
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
        // browsers write it so; the standard library writes `[::ffff:1.2.3.4]`
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
    // a name with the dot of the root at its end is the same host
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
    // browsers read `127.1` and `0x7f000001` as addresses, and send them as `127.0.0.1`: other names that end in a
    // number are not host names
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

/// A port from 1 to 65535, without a sign and without leading zeros.
pub(super) fn parse_port(text: &[u8]) -> Result<u16, Problem> {
    if text.starts_with(b"0") || !text.iter().all(u8::is_ascii_digit) {
        return Err(Problem::Port);
    }
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Problem::Port)
}

/// `ascii` has to be ASCII.
pub(super) fn to_lower_case(ascii: &[u8]) -> String {
    str::from_utf8(ascii).unwrap_or_default().to_ascii_lowercase()
}
