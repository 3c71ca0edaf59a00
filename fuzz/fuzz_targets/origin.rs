//! `Origin`, `Host` and the patterns of a policy, beside what the `url` crate, which reads them as browsers do, makes of
//! them: what is allowed is the same host and port to it, and `null` is never allowed.
//!
//! Input: an origin, a host, and a pattern of either, on a line each.

#![no_main]

use http::Request;
use http::header::{HOST, HeaderValue, ORIGIN};
use http::request::Parts;
use libfuzzer_sys::fuzz_target;
use url::Url;
use ws_core::fuzzing::allows;
use ws_core::{Origin, OriginPolicy};

fn request(origin: &str, host: &str) -> Option<Parts> {
    let mut request = Request::new(()).into_parts().0;
    request.headers.insert(ORIGIN, HeaderValue::from_str(origin).ok()?);
    request.headers.insert(HOST, HeaderValue::from_str(host).ok()?);
    Some(request)
}

/// Host and port by `url`; the dot of the root makes no difference. `None` if it is of another scheme than the web's, or
/// `url` cannot read it, as names in Punycode that mean nothing: no browser has pages there.
fn by_url(text: &str) -> Option<(String, u16)> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let is_web = matches!(url.scheme(), "http" | "https" | "ws" | "wss");
    is_web.then_some((host.strip_suffix('.').unwrap_or(host).to_owned(), url.port_or_known_default()?))
}

fn scheme(text: &str) -> String {
    text.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

/// What is an origin is the same when it is written and read again, and the same to `url`.
fn check_origin(text: &str) -> Option<Origin> {
    let origin: Origin = text.parse().ok()?;
    let written = origin.to_string();
    let again: Origin = written.parse().expect("what was written is an origin");
    assert_eq!(again.to_string(), written);
    assert_eq!(origin.is_opaque(), text == "null");
    assert_eq!(origin == again, !origin.is_opaque());
    if let (Some(by_url), Some(host), Some(port)) = (by_url(text), origin.host(), origin.port()) {
        assert_eq!(by_url, (host.to_owned(), port), "{text:?}");
    }
    Some(origin)
}

/// Who has the same origin as another is what the other has, too.
fn check_same_origin(text: &str, host: &str) {
    let policy = OriginPolicy::same_origin();
    let Some(request) = request(text, host) else { return };
    if !allows(&policy, &request) {
        return;
    }
    let origin = check_origin(text).expect("what is allowed is an origin");
    assert!(!origin.is_opaque());
    let scheme = scheme(text);
    let (name, port) = (origin.host().unwrap_or_default(), origin.port().unwrap_or_default());
    if let (Some(origin), Some(own)) = (by_url(text), by_url(&format!("{scheme}://{host}"))) {
        assert_eq!(origin, own, "{text:?} at {host:?}");
    }
    let turned = self::request(&format!("{scheme}://{host}"), &format!("{name}:{port}"));
    assert!(turned.is_some_and(|request| allows(&policy, &request)), "{text:?} at {host:?}, but not turned");
}

/// What a pattern allows is what it names, or a subdomain of that.
fn check_pattern(text: &str, host: &str, pattern: &str) {
    let Some(request) = request(text, host) else { return };
    if let Ok(policy) = OriginPolicy::try_allow([pattern])
        && allows(&policy, &request)
    {
        assert_ne!(text, "null");
        assert_eq!(scheme(text), scheme(pattern));
        check_covers(pattern, text, true);
    }
    if let Ok(policy) = OriginPolicy::any().try_allowed_hosts([pattern])
        && allows(&policy, &request)
    {
        check_covers(&format!("http://{pattern}"), &format!("http://{host}"), false);
    }
}

fn check_covers(pattern: &str, text: &str, same_port: bool) {
    let plain = pattern.replacen("://*.", "://", 1);
    let (Some((parent, port)), Some((host, own_port))) = (by_url(&plain), by_url(text)) else { return };
    if plain == pattern {
        assert_eq!(host, parent, "{pattern:?} allows {text:?}");
    } else {
        assert!(host.ends_with(&format!(".{parent}")), "{pattern:?} allows {text:?}");
    }
    assert!(!same_port || port == own_port, "{pattern:?} allows {text:?}");
}

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (origin, host, pattern) = (line(), line(), line());
    check_origin(origin);
    check_same_origin(origin, host);
    check_pattern(origin, host, pattern);
});
