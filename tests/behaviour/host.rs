//! The host that a request is for: there is one, and it is one, whatever the origin (RFC 6455 section 4.2.1, RFC 9112
//! section 3.2).

use ws_core::{OriginPolicy, WebSocketLayer};
use ws_tests::{Client, Request, Server, Setup};

/// What is no host.
const NOT_HOSTS: &[&str] = &[
    "",
    ":80",
    "a@b",
    "user:password@example.com",
    "a/b",
    "example.com/chat",
    "example.com?a",
    "example.com#a",
    "https://example.com",
    "a b",
    "a\tb",
    "example.com, example.com",
    "example.com,evil.com",
    "example.com;a",
    "<a>",
    "*.example.com",
    "a..b",
    "b\u{fc}cher.example",
    "example.com:",
    "example.com:0",
    "example.com:65536",
    "example.com:-1",
    "example.com:http",
    "example.com:80:80",
    "::1",
    "[::1",
    "[::g]",
    "[127.0.0.1]",
    "[fe80::1%25eth0]",
    "[::1]a",
    "127.0.0.256",
];

fn with_hosts(lines: &[&str], origin: Option<&str>) -> Request {
    let request = Request::upgrade().lines("Host", lines);
    origin.map_or_else(|| request.clone(), |origin| request.clone().with("Origin", origin))
}

async fn a_handshake_without_exactly_one_valid_host_is_refused_with_400<S: Server>() {
    let lines = NOT_HOSTS.iter().map(std::slice::from_ref);
    let wrong =
        [&[][..], &["example.com", "example.com"], &["example.com", "evil.com"], &["", "example.com"]];
    let policies = [
        (OriginPolicy::same_origin(), None),
        (OriginPolicy::same_origin(), Some("https://example.com")),
        (OriginPolicy::any(), Some("https://example.com")),
    ];
    for (policy, origin) in policies {
        let server = S::start(Setup::echo().layer(WebSocketLayer::new().origin(policy))).await;
        let mut calls = 0;
        for lines in lines.clone().chain(wrong) {
            let response = Client::refusal(&server, with_hosts(lines, origin)).await;
            assert_eq!(response.status, 400, "{lines:?}, {origin:?}: {response:?}");
            assert!(response.body.contains("`Host`"), "{lines:?}: {response:?}");
            calls += usize::from(!S::KEEPS_REFUSED_AWAY);
        }
        assert_eq!((server.seen.calls(), server.connections.len()), (calls, 0));
        // which the HTTP server refuses by itself
        for host in ["exam\u{1}ple.com", "example.com\u{7f}"] {
            assert_eq!(Client::ask(&server, with_hosts(&[host], origin)).await.status, 400, "{host:?}");
        }
    }
}

async fn a_handshake_for_any_host_is_accepted_in_any_spelling<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for host in [
        "example.com",
        "EXAMPLE.com.",
        "example.com:8080",
        "localhost:3000",
        "my_service-1.internal",
        "127.0.0.1:3000",
        "[::1]:3000",
        "[2001:DB8::1]",
    ] {
        let response = Client::ask(&server, with_hosts(&[host], None)).await;
        assert_eq!(response.status, S::OPENED, "{host}: {response:?}");
    }
}

async fn a_target_in_absolute_form_needs_a_host_all_the_same<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let request = |hosts: &[&str]| Request::upgrade().path("http://example.com/ws").lines("Host", hosts);
    for hosts in [&[][..], &[""], &["a@b"], &["example.com", "example.com"]] {
        let response = Client::refusal(&server, request(hosts)).await;
        assert_eq!(response.status, 400, "{hosts:?}: {response:?}");
    }
    Client::open_with(&server, request(&["example.com"])).await.close().await;
}

async fn a_target_in_absolute_form_replaces_the_host<S: Server>() {
    let evil = "https://evil.com";
    let site = "https://example.com";
    let same = OriginPolicy::same_origin;
    for (policy, target, host, origin, status) in [
        (same(), "http://example.com/ws", "evil.com", site, 101),
        (same(), "http://example.com:80/ws", "evil.com", "http://example.com", 101),
        (same(), "https://EXAMPLE.com/ws", "evil.com", site, 101),
        (same(), "http://[::1]:3000/ws", "evil.com", "http://[::1]:3000", 101),
        (same(), "http://example.com/ws", "evil.com", evil, 403),
        (same(), "http://evil.com/ws", "example.com", site, 403),
        (same(), "http://a@example.com/ws", "example.com", site, 400),
        (same(), "http://example.com:0/ws", "example.com", site, 400),
        (same().allowed_hosts(["example.com"]), "http://example.com/ws", "evil.com", site, 101),
        (same().allowed_hosts(["example.com"]), "http://evil.com/ws", "example.com", evil, 421),
    ] {
        let server = S::start(Setup::echo().layer(WebSocketLayer::new().origin(policy))).await;
        let request = Request::upgrade().path(target).lines("Host", &[host]).with("Origin", origin);
        let response = Client::ask(&server, request).await;
        assert_eq!(response.status, status, "{target}, {host}, {origin}: {response:?}");
    }
}

ws_tests::cases! {
    a_handshake_for_any_host_is_accepted_in_any_spelling,

    [not http2: "it is about the header `Host`, and `:authority` is tested apart"]
    a_handshake_without_exactly_one_valid_host_is_refused_with_400,
    a_target_in_absolute_form_needs_a_host_all_the_same,

    [not http2: "HTTP/2 has no request line", not warp: "a filter does not see the host in a target if it is another"]
    a_target_in_absolute_form_replaces_the_host,
}
