//! Which requests a policy allows.

use super::{NOT_ORIGINS, check, is_malformed, judge, normalised, not_allowed, parts};
use crate::origin::error::Denied;
use crate::origin::policy::OriginPolicy;

#[test]
fn same_origin_allows_the_requested_host() {
    let policy = OriginPolicy::default();
    for (origin, host) in [
        ("https://example.com", "example.com"),
        ("https://example.com", "EXAMPLE.com"),
        ("https://example.com", "example.com:443"),
        ("https://example.com", "example.com."),
        ("https://EXAMPLE.com.:443", "example.com"),
        ("http://example.com", "example.com"),
        ("http://example.com", "example.com:80"),
        ("ws://example.com", "example.com"),
        ("wss://example.com", "example.com:443"),
        ("http://localhost:3000", "localhost:3000"),
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]:8080", "[0:0::1]:8080"),
        ("https://xn--bcher-kva.example", "XN--bcher-kva.example"),
    ] {
        assert_eq!(judge(&policy, origin, host), Ok(()), "{origin} {host}");
    }
}

#[test]
fn same_origin_names_both_sides_of_what_it_refuses() {
    let policy = OriginPolicy::same_origin();
    for (origin, host, expected) in [
        ("https://evil.com", "example.com", "a page of example.com"),
        ("https://example.com.evil.com", "example.com", "a page of example.com"),
        ("https://evil-example.com", "example.com", "a page of example.com"),
        ("https://sub.example.com", "example.com", "a page of example.com"),
        ("https://example.com", "sub.example.com", "a page of sub.example.com"),
        ("https://example.com:8443", "example.com", "a page of example.com"),
        ("https://example.com", "example.com:8443", "a page of example.com:8443"),
        ("http://example.com", "example.com:443", "a page of example.com:443"),
        ("https://example.com", "example.com:80", "a page of example.com:80"),
        ("http://[::1]:8080", "[::2]:8080", "a page of [::2]:8080"),
        ("http://127.0.0.1", "localhost", "a page of localhost"),
        // a page of an app, not of this server, whatever its host
        ("capacitor://localhost", "localhost", "a page of localhost"),
        ("null", "example.com", "a page of example.com"),
        ("null", "null", "a page of null"),
    ] {
        assert_eq!(judge(&policy, origin, host), not_allowed(origin, expected), "{origin} {host}");
    }
}

#[test]
fn same_origin_refuses_what_is_not_an_origin() {
    for origin in NOT_ORIGINS.iter().filter(|text| !text.contains(',')) {
        assert!(is_malformed(&judge(&OriginPolicy::same_origin(), origin, "example.com")), "{origin:?}");
    }
    let policy = OriginPolicy::same_origin();
    for origin in [&b"https://example.com\xff"[..], b"\x80\xff", b"nu\xc3\xbcll"] {
        let judgement = check(&policy, &parts(&[("origin", origin), ("host", b"example.com")]));
        assert!(is_malformed(&judgement), "{origin:?}");
    }
}

#[test]
fn an_invalid_origin_is_refused_also_if_the_host_is_the_same() {
    for origin in NOT_ORIGINS.iter().filter(|text| !text.contains(',')) {
        let host = origin.rsplit("//").next().unwrap_or_default();
        // most of these are no hosts either
        assert!(judge(&OriginPolicy::same_origin(), origin, host).is_err(), "{origin:?}");
    }
}

#[test]
fn eight_kilobytes_of_origin_are_refused_in_a_short_text() {
    let policy = OriginPolicy::same_origin();
    for filling in ["a", "a.", ".", ":", "[", "://", "1"] {
        let origin = format!("https://{}", filling.repeat(8192 / filling.len()));
        assert!(is_malformed(&judge(&policy, &origin, "example.com")), "{filling}");
        assert!(is_malformed(&judge(&policy, &origin["https://".len()..], "example.com")), "{filling}");
    }
}

#[test]
fn a_request_has_one_origin_at_most() {
    for policy in [OriginPolicy::same_origin(), OriginPolicy::any(), OriginPolicy::predicate(|_, _| true)] {
        let host = ("host", &b"example.com"[..]);
        for headers in [
            &[host, ("origin", b"https://example.com"), ("origin", b"https://example.com")][..],
            &[host, ("origin", b"https://example.com"), ("origin", b"")],
            &[host, ("origin", b"https://example.com, https://example.com")],
            &[host, ("origin", b"https://example.com,")],
            &[host, ("origin", b",")],
        ] {
            assert_eq!(check(&policy, &parts(headers)), Err(Denied::MultipleOrigins), "{headers:?}");
        }
    }
}

#[test]
fn a_request_without_origin_is_allowed_unless_one_is_required() {
    let listed = OriginPolicy::try_allow(["https://example.com"]).unwrap();
    for policy in
        [OriginPolicy::same_origin(), OriginPolicy::any(), listed, OriginPolicy::predicate(|_, _| false)]
    {
        assert_eq!(check(&policy, &parts(&[("host", b"example.com")])), Ok(()));
        let policy = policy.require_origin();
        assert_eq!(check(&policy, &parts(&[("host", b"example.com")])), Err(Denied::MissingOrigin));
    }
}

#[test]
fn a_predicate_decides_and_fails_closed() {
    let policy = OriginPolicy::predicate(|origin, request| {
        assert_ne!(origin.host(), Some("panic.com"), "this panic is part of a test");
        origin.is_opaque() || request.uri.path() == "/" && origin.host() == Some("example.com")
    });
    assert_eq!(judge(&policy, "https://EXAMPLE.com", "other.com"), Ok(()));
    assert_eq!(judge(&policy, "null", "other.com"), Ok(()));
    for origin in ["https://evil.com", "https://panic.com"] {
        let expected = not_allowed(origin, "an origin that the server's predicate allows");
        assert_eq!(judge(&policy, origin, "other.com"), expected);
    }
    assert!(is_malformed(&judge(&policy, "garbage", "other.com")));
}

#[test]
fn any_allows_every_page() {
    for origin in ["https://evil.com", "null", "", "garbage"] {
        assert_eq!(judge(&OriginPolicy::any(), origin, "example.com"), Ok(()), "{origin}");
    }
}

#[test]
fn localhost_allows_pages_of_this_machine_on_any_port_and_no_others() {
    let policy = OriginPolicy::localhost();
    for origin in [
        "http://localhost",
        "http://localhost:5173",
        "https://localhost:8443",
        "http://LOCALHOST.:3000",
        "http://127.0.0.1:5173",
        "https://127.0.0.1",
        "http://127.255.0.3:1",
        "http://[::1]:5173",
        "http://[0:0::1]",
    ] {
        for host in ["127.0.0.1:3000", "example.com"] {
            assert_eq!(judge(&policy, origin, host), Ok(()), "{origin}");
        }
    }
    for origin in [
        "http://localhost.evil.com",
        "http://evil.localhost",
        "http://evil-localhost",
        "http://127.0.0.1.nip.io",
        "http://a127.0.0.1.com",
        "http://128.0.0.1",
        "http://126.255.255.255",
        "http://0.0.0.0",
        "http://192.168.1.2:5173",
        "http://[::2]",
        "http://[::]",
        "http://[::ffff:127.0.0.1]",
        "http://example.com",
        "ws://localhost",
        "ftp://localhost",
        "file://localhost",
        "capacitor://localhost",
        "file://",
        "null",
    ] {
        let expected = not_allowed(&normalised(origin), "a page of localhost, 127.0.0.0/8 or [::1]");
        assert_eq!(judge(&policy, origin, "localhost"), expected);
    }
    for origin in [
        "http://localhost@evil.com",
        "http://evil.com@localhost",
        "http://localhost:3000@evil.com",
        "http://localhost#evil.com",
        "http://localhost\\.evil.com",
        "http://localhost/",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.0.0.1",
        "http://127.0.0.01",
        "localhost",
        "",
    ] {
        assert!(is_malformed(&judge(&policy, origin, "localhost")), "{origin}");
    }
}
