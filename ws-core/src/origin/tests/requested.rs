//! The host that a request is for.

use http::Version;
use http::request::Parts;

use super::{Header, check, not_allowed, parts};
use crate::origin::error::Denied;
use crate::origin::policy::OriginPolicy;
use crate::origin::requested::{HiddenTarget, Requested};

/// A request for this target, with these lines of `Host`.
fn request(version: Version, target: &str, hosts: &[&[u8]]) -> Parts {
    let headers: Vec<Header<'_>> = hosts.iter().map(|&host| ("host", host)).collect();
    let mut request = parts(&headers);
    request.version = version;
    request.uri = target.parse().unwrap();
    request
}

/// The host, or the part of the request that is missing or wrong.
fn host(version: Version, target: &str, hosts: &[&[u8]]) -> Result<String, &'static str> {
    match Requested::of(&request(version, target, hosts)) {
        Ok(requested) => Ok(requested.host.to_string()),
        Err(Denied::Host { header, .. }) => Err(header),
        Err(denied) => panic!("{denied:?}"),
    }
}

const NOT_HOSTS: &[&[u8]] = &[
    b"",
    b" ",
    b".",
    b":80",
    b"a@b",
    b"@b",
    b"user:password@example.com",
    b"a/b",
    b"example.com/",
    b"/",
    b"a?b",
    b"a#b",
    b"a\\b",
    b"https://example.com",
    b"a b",
    b"a\tb",
    b"a, b",
    b"a,b",
    b"a;b",
    b"a\"b",
    b"<a>",
    b"a*b",
    b"*.example.com",
    b"a%62",
    b"a..b",
    b".a",
    b"b\xc3\xbccher.example",
    b"example.com\xff",
    b"example.com:",
    b"example.com:0",
    b"example.com:080",
    b"example.com:65536",
    b"example.com:-1",
    b"example.com:+80",
    b"example.com:http",
    b"example.com:80:80",
    b"::1",
    b"[::1",
    b"::1]",
    b"[]",
    b"[::g]",
    b"[1.2.3.4]",
    b"[fe80::1%25eth0]",
    b"[::1]a",
    b"[::1]:",
    b"1.2.3.256",
    b"1.2.3",
];

#[test]
fn over_http_1_exactly_one_valid_host_is_required() {
    for (line, expected) in [
        (&b"example.com"[..], "example.com"),
        (b"EXAMPLE.com.", "example.com"),
        (b"example.com:8080", "example.com:8080"),
        (b"localhost", "localhost"),
        (b"my_host-1.internal", "my_host-1.internal"),
        (b"127.0.0.1:3000", "127.0.0.1:3000"),
        (b"[::1]:3000", "[::1]:3000"),
    ] {
        assert_eq!(host(Version::HTTP_11, "/", &[line]).as_deref(), Ok(expected));
    }
    assert_eq!(host(Version::HTTP_11, "/", &[]), Err("Host"));
    for other in [&b"example.com"[..], b"example.org", b""] {
        assert_eq!(host(Version::HTTP_11, "/", &[b"example.com", other]), Err("Host"));
        assert_eq!(host(Version::HTTP_11, "/", &[other, b"example.com"]), Err("Host"));
    }
    for line in NOT_HOSTS {
        assert_eq!(host(Version::HTTP_11, "/", &[line]), Err("Host"), "{line:?}");
    }
}

#[test]
fn over_http_1_a_target_in_absolute_form_replaces_the_host() {
    let of = |target: &str, hosts: &[&[u8]]| host(Version::HTTP_11, target, hosts);
    for target in ["http://example.com/chat", "https://EXAMPLE.com/", "ws://example.com./"] {
        assert_eq!(of(target, &[b"evil.com"]).as_deref(), Ok("example.com"), "{target}");
    }
    assert_eq!(of("http://[::1]:80/", &[b"localhost"]).as_deref(), Ok("[::1]:80"));
    for target in ["http://a@example.com/", "http://example.com:/", "http://example.com:0/", "http://1.2.3/"]
    {
        assert_eq!(of(target, &[b"example.com"]), Err("target"), "{target}");
    }
    // `Host` is required even so
    for hosts in [&[][..], &[b"".as_slice()], &[b"a@b"], &[b"example.com", b"example.com"]] {
        assert_eq!(of("http://example.com/", hosts), Err("Host"), "{hosts:?}");
    }
}

#[test]
fn over_http_2_authority_or_host_is_required_and_both_must_agree() {
    let of = |target: &str, hosts: &[&[u8]]| host(Version::HTTP_2, target, hosts);
    let url = "https://EXAMPLE.com/chat";
    assert_eq!(of(url, &[]).as_deref(), Ok("example.com"));
    assert_eq!(of("/chat", &[b"example.com:80"]).as_deref(), Ok("example.com:80"));
    for same in [&b"example.com"[..], b"Example.COM.", b"example.com:443"] {
        assert_eq!(of(url, &[same]).as_deref(), Ok("example.com"));
        assert_eq!(of("https://example.com:443/", &[same]).as_deref(), Ok("example.com:443"));
    }
    assert_eq!(of("/chat", &[]), Err("Host"));
    for other in [&b"evil.com"[..], b"example.com:80", b"a.example.com"] {
        assert_eq!(of(url, &[other]), Err("Host"), "{other:?}");
    }
    assert_eq!(of("http://example.com/", &[b"example.com:443"]), Err("Host"));
    assert_eq!(of(url, &[b"example.com", b"example.com"]), Err("Host"));
    for line in NOT_HOSTS {
        assert_eq!(of(url, &[line]), Err("Host"), "{line:?}");
        assert_eq!(of("/chat", &[line]), Err("Host"), "{line:?}");
    }
    for target in ["https://a@example.com/", "https://example.com:0/", "https://1.2.3/"] {
        assert_eq!(of(target, &[]), Err(":authority"), "{target}");
    }
}

#[test]
fn a_target_that_an_adapter_does_not_see_is_refused() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut request = request(version, "/", &[b"example.com"]);
        assert!(Requested::of(&request).is_ok());
        request.extensions.insert(HiddenTarget);
        assert!(matches!(Requested::of(&request), Err(Denied::Host { header: "Host", .. })));
    }
}

#[test]
fn the_authority_of_the_target_is_what_origins_are_compared_with() {
    let judge = |policy: &OriginPolicy, origin: &'static str| {
        let mut request = request(Version::HTTP_11, "https://example.com/chat", &[b"evil.com"]);
        request.headers.insert("origin", origin.parse().unwrap());
        check(policy, &request)
    };
    let policy = OriginPolicy::same_origin();
    assert_eq!(judge(&policy, "https://example.com"), Ok(()));
    assert_eq!(judge(&policy, "https://evil.com"), not_allowed("https://evil.com", "a page of example.com"));
    let policy = OriginPolicy::any().allowed_hosts(["evil.com"]);
    assert_eq!(
        judge(&policy, "https://evil.com"),
        Err(Denied::Misdirected { host: "example.com".to_owned() })
    );
    let policy = OriginPolicy::any().allowed_hosts(["example.com"]);
    assert_eq!(judge(&policy, "https://evil.com"), Ok(()));
}
