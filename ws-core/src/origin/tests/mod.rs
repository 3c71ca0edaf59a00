//! Tests of origins, hosts, patterns and policies.

mod apps;
mod forwarded;
mod parsing;
mod pattern;
mod policy;
mod random;
mod requested;

use std::fmt;

use http::Request;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;

use super::error::{Denied, InvalidOrigin};
use super::parsed::Origin;
use super::policy::OriginPolicy;
use super::requested::Requested;

type Header<'a> = (&'a str, &'a [u8]);

fn parts(headers: &[Header<'_>]) -> Parts {
    let mut request = Request::new(()).into_parts().0;
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        request.headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    request
}

/// Checks a request, first its host.
fn check(policy: &OriginPolicy, request: &Parts) -> Result<(), Denied> {
    policy.check(request, &Requested::of(request)?)
}

/// Checks a request with these two headers.
fn judge(policy: &OriginPolicy, origin: &str, host: &str) -> Result<(), Denied> {
    check(policy, &parts(&[("origin", origin.as_bytes()), ("host", host.as_bytes())]))
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
