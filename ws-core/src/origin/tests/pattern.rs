//! Lists of origins and of hosts.

use super::{NOT_ORIGINS, advice, check, is_malformed, judge, not_allowed, parts};
use crate::origin::error::Denied;
use crate::origin::policy::OriginPolicy;

#[test]
fn listed_origins_are_allowed_in_any_spelling() {
    let policy =
        OriginPolicy::try_allow(["HTTPS://app.Example.com", "http://[::1]:3000", "moz-extension://ab-cd"])
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
        assert_eq!(check(&policy, &parts(&[("host", host.as_bytes())])), Ok(()), "{host}");
        assert_eq!(judge(&policy, "https://evil.com", host), Ok(()), "{host}");
    }
    for host in
        ["evil.com", "a.example.com", "example.org", "localhost", "localhost:80", "127.0.0.1", "[::2]"]
    {
        let expected = Err(Denied::Misdirected { host: host.to_owned() });
        assert_eq!(check(&policy, &parts(&[("host", host.as_bytes())])), expected, "{host}");
        assert_eq!(judge(&policy, &format!("http://{host}"), host), expected, "{host}");
    }
    assert!(matches!(check(&policy, &parts(&[])), Err(Denied::Host { .. })));
    assert!(matches!(check(&policy, &parts(&[("host", b"a b")])), Err(Denied::Host { .. })));
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
fn an_invalid_origin_in_the_program_panics() {
    let _ = OriginPolicy::allow(["example.com"]);
}

#[test]
#[should_panic(expected = "a host has no scheme; write it as `example.com`")]
fn an_invalid_host_in_the_program_panics() {
    let _ = OriginPolicy::same_origin().allowed_hosts(["https://example.com"]);
}
