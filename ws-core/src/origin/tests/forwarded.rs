//! Headers of a proxy, and that a client cannot forge them.

use super::{Header, check, not_allowed, parts};
use crate::origin::error::Denied;
use crate::origin::policy::OriginPolicy;

const SITE: &str = "https://example.com";

/// Checks a page against a server behind a proxy. The server's own name is `internal:3000`.
fn judge(origin: &str, forwarded: &[(&str, &str)]) -> Result<(), Denied> {
    let mut headers: Vec<Header<'_>> = vec![("origin", origin.as_bytes()), ("host", b"internal:3000")];
    headers.extend(forwarded.iter().map(|&(name, value)| (name, value.as_bytes())));
    check(&OriginPolicy::same_origin().trust_forwarded(), &parts(&headers))
}

/// The header that a refusal with 400 names.
fn header(judgement: Result<(), Denied>) -> Option<&'static str> {
    judgement.err().and_then(|denied| match denied {
        Denied::Host { header, .. } => Some(header),
        _ => None,
    })
}

#[test]
fn forwarded_headers_are_ignored_unless_trusted() {
    for forwarded in [
        &[
            ("x-forwarded-host", &b"evil.com"[..]),
            ("x-forwarded-proto", b"garbage"),
            ("x-forwarded-port", b"x"),
        ][..],
        &[("forwarded", b"host=evil.com;proto=https")],
        &[("forwarded", b"\"")],
    ] {
        let mut headers = vec![("origin", &b"https://evil.com"[..]), ("host", b"example.com")];
        headers.extend(forwarded);
        let headers = parts(&headers);
        let policy = OriginPolicy::same_origin();
        assert_eq!(check(&policy, &headers), not_allowed("https://evil.com", "a page of example.com"));
        let policy = OriginPolicy::same_origin().allowed_hosts(["evil.com"]);
        assert_eq!(check(&policy, &headers), Err(Denied::Misdirected { host: "example.com".to_owned() }));
    }
}

#[test]
fn trusted_forwarded_headers_stand_for_host_and_scheme() {
    let judge = |origin: &str, host: &str, scheme: &str| {
        judge(origin, &[("x-forwarded-host", host), ("x-forwarded-proto", scheme)])
    };
    for (origin, host, scheme) in [
        (SITE, "example.com", "https"),
        (SITE, "Example.com:443", "WSS"),
        ("http://example.com", "example.com", "http"),
        ("http://example.com", "example.com", "ws"),
        ("https://example.com:8443", "example.com:8443", "https"),
    ] {
        assert_eq!(judge(origin, host, scheme), Ok(()), "{origin} {host} {scheme}");
    }
    for (origin, host, scheme, expected) in [
        ("http://example.com", "example.com", "https", SITE),
        (SITE, "example.com", "http", "http://example.com"),
        ("https://example.com:80", "example.com", "http", "http://example.com"),
        ("https://evil.com", "example.com", "https", SITE),
        ("http://internal:3000", "example.com", "https", SITE),
        ("null", "example.com", "http", "http://example.com"),
    ] {
        assert_eq!(judge(origin, host, scheme), not_allowed(origin, expected), "{origin} {host} {scheme}");
    }
    for host in ["", "a@b", "a b", "https://example.com", "example.com:0", "\"example.com\""] {
        assert_eq!(header(judge(SITE, host, "https")), Some("X-Forwarded-Host"), "{host}");
    }
    for scheme in ["", "gopher", "https:", "\"https\""] {
        assert_eq!(header(judge(SITE, "example.com", scheme)), Some("X-Forwarded-Proto"), "{scheme}");
    }
}

#[test]
fn a_forwarded_port_counts_where_the_host_has_none() {
    let with_port = "https://example.com:8443";
    for (host, port, page) in [
        ("example.com", "8443", with_port),
        ("example.com", "443", SITE),
        ("example.com:8443", "3000", with_port),
        ("example.com", " 8443 ", with_port),
    ] {
        let said = [("x-forwarded-host", host), ("x-forwarded-port", port), ("x-forwarded-proto", "https")];
        assert_eq!(judge(page, &said), Ok(()), "{host} {port}");
        assert!(judge("https://example.com:1", &said).is_err());
    }
    // the host of the request itself has a port; without the scheme, that of the page is assumed
    assert_eq!(judge("http://internal:3000", &[("x-forwarded-port", "8443")]), Ok(()));
    let policy = OriginPolicy::same_origin().trust_forwarded();
    let at_8443 = |origin: &[u8]| {
        check(&policy, &parts(&[("origin", origin), ("host", b"example.com"), ("x-forwarded-port", b"8443")]))
    };
    assert_eq!(at_8443(b"https://example.com:8443"), Ok(()));
    assert_eq!(at_8443(b"http://example.com:8443"), Ok(()));
    assert_eq!(at_8443(SITE.as_bytes()), not_allowed(SITE, "a page of example.com:8443"));
    for port in ["", "0", "65536", "-1", "443x", "\"443\"", "08443"] {
        assert_eq!(header(judge(SITE, &[("x-forwarded-port", port)])), Some("X-Forwarded-Port"), "{port}");
    }
}

#[test]
fn the_standard_header_says_the_same_in_its_own_grammar() {
    for value in [
        "host=example.com;proto=https",
        "for=192.0.2.1;host=example.com;proto=https;by=_proxy",
        "Proto=HTTPS; Host=Example.com",
        "for=\"[2001:db8::1]:4711\" ; proto=https ;host=\"example.com:443\"",
        "host=example.com:443;proto=https",
        "host=\"exa\\mple.com\";proto=\"https\"",
        ";;host=example.com;;proto=wss;",
        "for=\"a,b;host=evil.com\";host=example.com;proto=https",
    ] {
        assert_eq!(judge(SITE, &[("forwarded", value)]), Ok(()), "{value}");
        assert_eq!(
            judge("http://example.com", &[("forwarded", value)]),
            not_allowed("http://example.com", SITE)
        );
    }
    let ipv6 = [("forwarded", "host=\"[::1]:8080\";proto=http")];
    assert_eq!(judge("http://[::1]:8080", &ipv6), Ok(()));
    // parts that are missing are taken from the request
    assert_eq!(judge("https://internal:3000", &[("forwarded", "for=192.0.2.1;proto=https")]), Ok(()));
    assert_eq!(judge("http://internal:3000", &[("forwarded", "for=192.0.2.1")]), Ok(()));
    assert_eq!(judge("http://example.com", &[("forwarded", "host=example.com")]), Ok(()));
}

#[test]
fn a_standard_header_that_cannot_be_read_is_refused() {
    for value in [
        "host",
        "host=",
        "=example.com",
        "host=example.com;host=example.com",
        "host=example.com;HOST=evil.com",
        "proto=https;proto=http",
        "host =example.com",
        "host= example.com",
        "host=example.com proto=https",
        "host=\"example.com",
        "host=\"example.com\\",
        "host=\"example.com\\\"",
        "host=\"example.com\"x",
        "host=\"\"\"\"",
        "host=a=b",
        "host=example.com;proto=https\tx",
        "host=a@b",
        "host=\"\"",
        "host=\"a,b\"",
        "host=example.com:0",
        "proto=gopher",
        "proto=\"\"",
    ] {
        assert_eq!(header(judge(SITE, &[("forwarded", value)])), Some("Forwarded"), "{value}");
    }
}

#[test]
fn of_several_values_the_last_one_is_the_nearest_proxys() {
    let page = |judgement, expected: &str| assert_eq!(judgement, not_allowed("https://evil.com", expected));
    for values in [
        &["evil.com, example.com"][..],
        &["evil.com", "example.com"],
        &["evil.com,evil.com", "x,example.com "],
    ] {
        let mut said: Vec<_> = values.iter().map(|&value| ("x-forwarded-host", value)).collect();
        said.extend([
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-port", "2, 443"),
        ]);
        assert_eq!(judge(SITE, &said), Ok(()), "{values:?}");
        page(judge("https://evil.com", &said), SITE);
    }
    for values in [
        &["host=evil.com;proto=https, host=example.com;proto=https"][..],
        &["host=evil.com;proto=http", "host=example.com;proto=https"],
        &["host=\"evil.com,\";proto=http, host=evil.com", "host=evil.com , host=example.com;proto=https"],
    ] {
        let said: Vec<_> = values.iter().map(|&value| ("forwarded", value)).collect();
        assert_eq!(judge(SITE, &said), Ok(()), "{values:?}");
        page(judge("https://evil.com", &said), SITE);
    }
    // an empty entry of the proxy names nothing, and the entries before it are the client's
    page(judge("https://evil.com", &[("forwarded", "host=evil.com,")]), "a page of internal:3000");
    page(
        judge("https://evil.com", &[("forwarded", "host=evil.com"), ("forwarded", "")]),
        "a page of internal:3000",
    );
    page(
        judge("https://evil.com", &[("forwarded", "host=evil.com, for=192.0.2.1")]),
        "a page of internal:3000",
    );
    let empty = judge("https://evil.com", &[("x-forwarded-host", "evil.com, ")]);
    assert_eq!(header(empty), Some("X-Forwarded-Host"));
    let empty = judge("https://evil.com", &[("x-forwarded-host", "evil.com"), ("x-forwarded-host", "")]);
    assert_eq!(header(empty), Some("X-Forwarded-Host"));
}

#[test]
fn a_quotation_mark_of_the_client_does_not_swallow_what_the_proxy_adds() {
    for begun in ["host=evil.com;for=\"", "host=evil.com;for=\"\\", "for=\"x\\\"", "host=evil.com;for="] {
        for added in [
            "for=192.0.2.1;host=example.com;proto=https",
            "for=\"[::1]:1\";host=\"example.com\";proto=\"https\"",
        ] {
            let joined = format!("{begun}, {added}");
            assert_eq!(
                header(judge("https://evil.com", &[("forwarded", &joined)])),
                Some("Forwarded"),
                "{joined}"
            );
            let lines = [("forwarded", begun), ("forwarded", added)];
            assert_eq!(header(judge("https://evil.com", &lines)), Some("Forwarded"), "{lines:?}");
        }
    }
}

#[test]
fn both_kinds_of_headers_have_to_say_the_same() {
    let standard = ("forwarded", "for=192.0.2.1;host=example.com;proto=https");
    let unofficial = [("x-forwarded-host", "example.com"), ("x-forwarded-proto", "https")];
    let with = |said: &[(&'static str, &'static str)]| [&unofficial[..], said].concat();
    assert_eq!(judge(SITE, &with(&[standard])), Ok(()));
    assert_eq!(judge(SITE, &with(&[standard, ("x-forwarded-port", "443")])), Ok(()));
    assert_eq!(judge(SITE, &with(&[("forwarded", "for=192.0.2.1")])), Ok(()));
    // one is of the proxy and one of the client, and the server cannot know which
    for other in
        ["host=evil.com;proto=https", "host=evil.com", "host=example.com;proto=http", "host=example.com"]
    {
        assert_eq!(
            header(judge("https://evil.com", &with(&[("forwarded", other)]))),
            Some("Forwarded"),
            "{other}"
        );
    }
    for said in [
        [standard, ("x-forwarded-host", "evil.com")],
        [standard, ("x-forwarded-proto", "http")],
        [standard, ("x-forwarded-proto", "https")],
        [standard, ("x-forwarded-port", "8443")],
    ] {
        assert_eq!(header(judge("https://evil.com", &said)), Some("Forwarded"), "{said:?}");
    }
}

#[test]
fn trust_changes_nothing_where_nothing_is_forwarded() {
    assert_eq!(judge("https://internal:3000", &[]), Ok(()));
    assert!(judge("https://evil.com", &[]).is_err());
    // the scheme counts even if the host is the same
    assert_eq!(judge("https://internal:3000", &[("x-forwarded-proto", "https")]), Ok(()));
    assert!(judge("https://internal:3000", &[("x-forwarded-proto", "http")]).is_err());
}

#[test]
fn a_trusted_forwarded_host_is_the_one_that_has_to_be_allowed() {
    let policy = OriginPolicy::any().trust_forwarded().allowed_hosts(["example.com"]);
    let own = ("host", &b"10.0.0.1"[..]);
    for said in [
        ("x-forwarded-host", &b"evil.com, example.com"[..]),
        ("forwarded", b"host=evil.com, host=example.com"),
    ] {
        assert_eq!(check(&policy, &parts(&[own, said])), Ok(()));
    }
    assert!(check(&policy, &parts(&[own])).is_err());
    let policy = OriginPolicy::any().trust_forwarded().allowed_hosts(["10.0.0.1:8443"]);
    assert_eq!(check(&policy, &parts(&[own, ("x-forwarded-port", b"8443")])), Ok(()));
    assert!(check(&policy, &parts(&[own, ("x-forwarded-port", b"443")])).is_err());
}
