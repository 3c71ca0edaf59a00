//! Which requests a policy allows.

use http::Version;
use http::header::{HOST, HeaderValue};

use super::{NOT_ORIGINS, is_malformed, judge, not_allowed, parts};
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
        ("https://evil.com", "example.com", "https://example.com"),
        ("https://example.com.evil.com", "example.com", "https://example.com"),
        ("https://evil-example.com", "example.com", "https://example.com"),
        ("https://sub.example.com", "example.com", "https://example.com"),
        ("https://example.com", "sub.example.com", "https://sub.example.com"),
        ("https://example.com:8443", "example.com", "https://example.com"),
        ("https://example.com", "example.com:8443", "https://example.com:8443"),
        ("http://example.com", "example.com:443", "http://example.com:443"),
        ("https://example.com", "example.com:80", "https://example.com:80"),
        ("http://[::1]:8080", "[::2]:8080", "http://[::2]:8080"),
        ("http://127.0.0.1", "localhost", "http://localhost"),
        // a page of an app, not of this server, whatever its host
        ("capacitor://localhost", "localhost", "https://localhost"),
        ("null", "example.com", "https://example.com"),
        ("null", "null", "https://null"),
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
        let judgement = policy.check(&parts(&[("origin", origin), ("host", b"example.com")]));
        assert!(is_malformed(&judgement), "{origin:?}");
    }
}

#[test]
fn what_is_not_an_origin_is_refused_also_where_the_host_is_the_same() {
    for origin in NOT_ORIGINS.iter().filter(|text| !text.contains(',')) {
        let host = origin.rsplit("//").next().unwrap_or_default();
        assert!(is_malformed(&judge(&OriginPolicy::same_origin(), origin, host)), "{origin:?}");
    }
}

#[test]
fn the_scheme_that_a_trusted_proxy_tells_counts_also_where_the_host_is_the_same() {
    let judge = |policy: OriginPolicy, scheme: &[u8]| {
        policy.check(&parts(&[
            ("origin", b"https://example.com"),
            ("host", b"example.com"),
            ("x-forwarded-proto", scheme),
        ]))
    };
    assert_eq!(judge(OriginPolicy::same_origin().trust_forwarded(), b"https"), Ok(()));
    assert!(judge(OriginPolicy::same_origin().trust_forwarded(), b"http").is_err());
    assert_eq!(judge(OriginPolicy::same_origin(), b"http"), Ok(()), "nobody is trusted");
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
            assert_eq!(policy.check(&parts(headers)), Err(Denied::MultipleOrigins), "{headers:?}");
        }
    }
}

#[test]
fn a_request_without_origin_is_allowed_unless_one_is_required() {
    let listed = OriginPolicy::try_allow(["https://example.com"]).unwrap();
    for policy in
        [OriginPolicy::same_origin(), OriginPolicy::any(), listed, OriginPolicy::predicate(|_, _| false)]
    {
        assert_eq!(policy.check(&parts(&[("host", b"example.com")])), Ok(()));
        assert_eq!(policy.check(&parts(&[])), Ok(()));
        let policy = policy.require_origin();
        assert_eq!(policy.check(&parts(&[("host", b"example.com")])), Err(Denied::MissingOrigin));
    }
}

#[test]
fn same_origin_needs_one_host_that_is_one() {
    let origin = ("origin", &b"https://example.com"[..]);
    for headers in [
        &[origin][..],
        &[origin, ("host", b"example.com"), ("host", b"example.com")],
        &[origin, ("host", b"")],
        &[origin, ("host", b"example.com, example.com")],
        &[origin, ("host", b"user@example.com")],
        &[origin, ("host", b"https://example.com")],
        &[origin, ("host", b"example.com/")],
        &[origin, ("host", b"example.com:")],
        &[origin, ("host", b"example.com:65536")],
        &[origin, ("host", b"example.com\xff")],
        &[origin, ("host", b"[::1")],
    ] {
        let judgement = OriginPolicy::same_origin().check(&parts(headers));
        assert!(matches!(judgement, Err(Denied::Host { header: "Host", .. })), "{headers:?} {judgement:?}");
    }
}

#[test]
fn the_authority_of_the_target_is_the_host() {
    let policy = OriginPolicy::same_origin();
    let mut request = parts(&[("origin", b"https://example.com")]);
    request.uri = "https://EXAMPLE.com/chat".parse().unwrap();
    request.version = Version::HTTP_2;
    assert_eq!(policy.check(&request), Ok(()));
    request.headers.insert(HOST, HeaderValue::from_static("evil.com"));
    assert_eq!(policy.check(&request), Ok(()));
    request.uri = "https://user@example.com/chat".parse().unwrap();
    assert!(matches!(policy.check(&request), Err(Denied::Host { header: ":authority", .. })));
    request.uri = "/chat".parse().unwrap();
    assert_eq!(policy.check(&request), not_allowed("https://example.com", "https://evil.com"));
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
fn forwarded_headers_are_ignored_unless_trusted() {
    let headers = parts(&[
        ("origin", b"https://evil.com"),
        ("host", b"example.com"),
        ("x-forwarded-host", b"evil.com"),
        ("x-forwarded-proto", b"garbage"),
    ]);
    let policy = OriginPolicy::same_origin();
    assert_eq!(policy.check(&headers), not_allowed("https://evil.com", "https://example.com"));
    let policy = OriginPolicy::same_origin().try_allowed_hosts(["evil.com"]).unwrap();
    assert_eq!(policy.check(&headers), Err(Denied::Misdirected { host: "example.com".to_owned() }));
}

#[test]
fn trusted_forwarded_headers_stand_for_host_and_scheme() {
    let policy = OriginPolicy::same_origin().trust_forwarded();
    let judge = |origin: &str, host: &str, scheme: &str| {
        policy.check(&parts(&[
            ("origin", origin.as_bytes()),
            ("host", b"10.0.0.1:8080"),
            ("x-forwarded-host", host.as_bytes()),
            ("x-forwarded-proto", scheme.as_bytes()),
        ]))
    };
    for (origin, host, scheme) in [
        ("https://example.com", "example.com", "https"),
        ("https://example.com", "Example.com:443", "WSS"),
        ("http://example.com", "example.com", "http"),
        ("http://example.com", "example.com", "ws"),
        ("https://example.com", "example.com, proxy.internal", "https, http"),
    ] {
        assert_eq!(judge(origin, host, scheme), Ok(()), "{origin} {host} {scheme}");
    }
    for (origin, host, scheme, expected) in [
        ("http://example.com", "example.com", "https", "https://example.com"),
        ("https://example.com", "example.com", "http", "http://example.com"),
        ("https://example.com:80", "example.com", "http", "http://example.com"),
        ("https://evil.com", "example.com", "https", "https://example.com"),
        ("https://example.com", "evil.com, example.com", "https", "https://evil.com"),
        ("http://10.0.0.1:8080", "example.com", "https", "https://example.com"),
    ] {
        assert_eq!(judge(origin, host, scheme), not_allowed(origin, expected), "{origin} {host} {scheme}");
    }
    let header = |judgement| match judgement {
        Err(Denied::Host { header, .. }) => header,
        _ => "none",
    };
    assert_eq!(header(judge("https://example.com", "", "https")), "X-Forwarded-Host");
    assert_eq!(header(judge("https://example.com", "example.com", "gopher")), "X-Forwarded-Proto");
    assert_eq!(header(judge("https://example.com", "example.com", "")), "X-Forwarded-Proto");
}

#[test]
fn trust_changes_nothing_where_nothing_is_forwarded() {
    let policy = OriginPolicy::same_origin().trust_forwarded();
    assert_eq!(judge(&policy, "https://example.com", "example.com"), Ok(()));
    assert!(judge(&policy, "https://evil.com", "example.com").is_err());
}

#[test]
fn a_trusted_forwarded_host_is_the_one_that_has_to_be_allowed() {
    let policy = OriginPolicy::any().trust_forwarded().try_allowed_hosts(["example.com"]).unwrap();
    let headers = [("host", &b"10.0.0.1"[..]), ("x-forwarded-host", b"example.com")];
    assert_eq!(policy.check(&parts(&headers)), Ok(()));
    assert!(policy.check(&parts(&headers[..1])).is_err());
}
