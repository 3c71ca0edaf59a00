//! Who may connect: what each policy says to each `Origin`, before the service is asked.

use ws_core::{OriginPolicy, WebSocketLayer};
use ws_tests::{Client, Request, Server, Setup};

/// Checks the answers of a policy to valid requests with other lines in two headers. Of those that are allowed it is 101
/// in the table, over HTTP/2, too.
async fn judge<S: Server>(policy: OriginPolicy, table: &[(u16, &[&str], &str)]) {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().origin(policy))).await;
    let mut calls = 0;
    for &(status, origin, host) in table {
        let request = Request::upgrade().lines("Origin", origin).lines("Host", &[host]);
        let is_allowed = status == 101;
        let response = if is_allowed {
            Client::ask(&server, request).await
        } else {
            Client::refusal(&server, request).await
        };
        let status = if is_allowed { S::OPENED } else { status };
        assert_eq!(response.status, status, "{origin:?} {host}: {response:?}");
        calls += usize::from(is_allowed || !S::KEEPS_REFUSED_AWAY);
    }
    assert_eq!(server.seen.calls(), calls, "the service is not asked about what is refused");
}

async fn same_origin_allows_its_own_pages_and_what_is_no_browser<S: Server>() {
    judge::<S>(
        OriginPolicy::same_origin(),
        &[
            (101, &[], "example.com"),
            (101, &["https://example.com"], "example.com"),
            (101, &["https://example.com"], "EXAMPLE.com"),
            (101, &["https://example.com"], "example.com:443"),
            (101, &["https://EXAMPLE.com:443"], "example.com"),
            (101, &["https://example.com"], "example.com."),
            (101, &["http://example.com"], "example.com:80"),
            (101, &["http://localhost:3000"], "localhost:3000"),
            (101, &["http://[::1]:8080"], "[::1]:8080"),
            (101, &["http://[0:0::1]:8080"], "[::1]:8080"),
        ],
    )
    .await;
}

async fn same_origin_refuses_every_other_page<S: Server>() {
    let long = format!("https://{}.com", "a".repeat(8 * 1024));
    judge::<S>(
        OriginPolicy::same_origin(),
        &[
            (403, &["https://evil.com"], "example.com"),
            (403, &["https://example.com:8443"], "example.com"),
            (403, &["https://example.com"], "example.com:8443"),
            (403, &["http://example.com"], "example.com:443"),
            (403, &["https://example.com.evil.com"], "example.com"),
            (403, &["https://evil-example.com"], "example.com"),
            (403, &["https://sub.example.com"], "example.com"),
            (403, &["https://example.com@evil.com"], "example.com"),
            (403, &["https://evil.com@example.com"], "example.com"),
            (403, &["https://evil.com#@example.com"], "example.com"),
            (403, &["null"], "example.com"),
            (403, &[""], "example.com"),
            (403, &["https://example.com/"], "example.com"),
            (403, &["https://example.com/chat"], "example.com"),
            (403, &["example.com"], "example.com"),
            (403, &["https://"], "example.com"),
            (403, &["garbage"], "example.com"),
            (403, &[&long], "example.com"),
            (403, &["http://[::2]:8080"], "[::1]:8080"),
        ],
    )
    .await;
}

async fn more_than_one_origin_is_refused_with_400<S: Server>() {
    let table: &[(u16, &[&str], &str)] = &[
        (400, &["https://example.com", "https://example.com"], "example.com"),
        (400, &["https://example.com", "https://evil.com"], "example.com"),
        (400, &["https://example.com, https://evil.com"], "example.com"),
    ];
    judge::<S>(OriginPolicy::same_origin(), table).await;
    judge::<S>(OriginPolicy::any(), table).await;
}

async fn require_origin_refuses_a_request_without_one<S: Server>() {
    judge::<S>(
        OriginPolicy::same_origin().require_origin(),
        &[(403, &[], "example.com"), (101, &["https://example.com"], "example.com")],
    )
    .await;
}

async fn a_list_allows_what_is_on_it_however_it_is_spelled<S: Server>() {
    judge::<S>(
        OriginPolicy::allow(["https://app.example.com"]),
        &[
            (101, &["https://app.example.com"], "example.com"),
            (101, &["https://APP.example.COM"], "example.com"),
            (101, &["https://app.example.com:443"], "example.com"),
            (101, &[], "example.com"),
            (403, &["http://app.example.com"], "example.com"),
            (403, &["https://app.example.com:8443"], "example.com"),
            (403, &["https://sub.app.example.com"], "example.com"),
            (403, &["https://example.com"], "example.com"),
            (403, &["null"], "example.com"),
        ],
    )
    .await;
}

async fn a_star_stands_for_all_subdomains_and_nothing_else<S: Server>() {
    judge::<S>(
        OriginPolicy::allow(["https://*.example.com"]),
        &[
            (101, &["https://a.example.com"], "example.com"),
            (101, &["https://a.b.example.com"], "example.com"),
            (403, &["https://example.com"], "example.com"),
            (403, &["https://.example.com"], "example.com"),
            (403, &["https://aexample.com"], "example.com"),
            (403, &["https://a.example.com.evil.com"], "example.com"),
            (403, &["https://a.example.com:8443"], "example.com"),
            (403, &["http://a.example.com"], "example.com"),
        ],
    )
    .await;
}

#[test]
fn a_list_is_checked_when_it_is_made_and_the_error_says_what_to_write() {
    for (entry, instead) in [
        ("*", "OriginPolicy::any()"),
        ("https://example.com/chat", "https://example.com"),
        ("example.com", "https://example.com"),
        ("https://a*.example.com", "*."),
        ("https://a.*.example.com", "*."),
    ] {
        let error = OriginPolicy::try_allow([entry]).expect_err(entry).to_string();
        assert!(error.contains(instead), "{entry}: {error}");
    }
}

async fn a_predicate_decides_and_fails_closed<S: Server>() {
    let policy = OriginPolicy::predicate(|origin, request| match origin.host() {
        Some("panic.com") => panic!("a predicate that panics, as it should"),
        host => host == Some("good.com") && request.uri.path() == "/ws",
    });
    judge::<S>(
        policy,
        &[
            (101, &["https://good.com"], "example.com"),
            (403, &["https://evil.com"], "example.com"),
            (403, &["https://panic.com"], "example.com"),
            (403, &["null"], "example.com"),
            (403, &["garbage"], "example.com"),
            (101, &["https://good.com"], "example.com"),
        ],
    )
    .await;
}

async fn forwarded_headers_count_only_where_they_are_trusted<S: Server>() {
    let table =
        [("https://evil.com", 403, 101), ("https://example.com", 101, 403), ("http://evil.com", 403, 403)];
    for (trusted, policy) in
        [(false, OriginPolicy::same_origin()), (true, OriginPolicy::same_origin().trust_forwarded())]
    {
        let server = S::start(Setup::echo().layer(WebSocketLayer::new().origin(policy))).await;
        for (origin, ignored, believed) in table {
            let request = Request::upgrade()
                .with("Origin", origin)
                .with("X-Forwarded-Host", "evil.com")
                .with("X-Forwarded-Proto", "https");
            let status = Client::ask(&server, request).await.status;
            let expected = match if trusted { believed } else { ignored } {
                101 => S::OPENED,
                refused => refused,
            };
            assert_eq!(status, expected, "{origin}, trusted: {trusted}");
        }
    }
}

async fn allowed_hosts_refuses_any_other_with_421_whatever_the_origin<S: Server>() {
    judge::<S>(
        OriginPolicy::same_origin().allowed_hosts(["example.com", "localhost:3000"]),
        &[
            (101, &["https://example.com"], "example.com"),
            (101, &[], "EXAMPLE.com:8080"),
            (101, &["http://localhost:3000"], "localhost:3000"),
            (421, &["http://localhost:3001"], "localhost:3001"),
            (421, &["https://rebound.evil.com"], "rebound.evil.com"),
            (421, &["https://example.com"], "evil.com"),
            (421, &[], "evil.com"),
        ],
    )
    .await;
}

async fn a_refusal_names_both_sides_that_were_compared_and_no_scheme_that_is_not_known<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for origin in ["https://EVIL.com:443", "http://evil.com", "null", "file://"] {
        let request = Request::upgrade().lines("Host", &["127.0.0.1:3000"]).with("Origin", origin);
        let response = Client::refusal(&server, request).await;
        let origin = origin.to_lowercase().replace(":443", "");
        let expected = format!("the origin {origin} is not allowed; expected a page of 127.0.0.1:3000\n");
        assert_eq!((response.status, response.body), (403, expected));
    }
    let policy = OriginPolicy::same_origin().trust_forwarded();
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().origin(policy))).await;
    for scheme in ["http", "https"] {
        let request = Request::upgrade().with("Origin", "null").with("X-Forwarded-Proto", scheme);
        let response = Client::refusal(&server, request).await;
        assert!(response.body.ends_with(&format!("expected {scheme}://example.com\n")), "{response:?}");
    }
}

/// The pages of Electron, Cordova, Capacitor, Tauri, Qt, Android, and the extensions of browsers.
const APPS: &[&str] = &[
    "file://",
    "app://.",
    "qrc://",
    "content://",
    "content://com.example.provider",
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://6f1a4d2c-0e1d-4a8e-9d3c-2d3f5a0b7c11",
];

async fn the_page_of_an_app_is_never_of_the_same_origin<S: Server>() {
    for host in ["example.com", "localhost"] {
        let table: Vec<_> =
            APPS.iter().chain(&["null"]).map(|origin| (403, std::slice::from_ref(origin), host)).collect();
        judge::<S>(OriginPolicy::same_origin(), &table).await;
        judge::<S>(OriginPolicy::allow(["https://example.com"]), &table).await;
    }
}

async fn the_page_of_an_app_is_allowed_by_its_exact_name<S: Server>() {
    for origin in APPS {
        let table: Vec<_> = APPS
            .iter()
            .chain(&["null", "https://localhost", "file:///", "app://./"])
            .map(|other| (if other == origin { 101 } else { 403 }, std::slice::from_ref(other), "localhost"))
            .collect();
        judge::<S>(OriginPolicy::allow([origin]), &table).await;
    }
}

async fn a_predicate_is_asked_about_the_page_of_an_app<S: Server>() {
    let policy = OriginPolicy::predicate(|origin, _| origin.is_opaque() || origin.scheme() != Some("file"));
    let table: Vec<_> = APPS
        .iter()
        .chain(&["null"])
        .map(|origin| {
            (if *origin == "file://" { 403 } else { 101 }, std::slice::from_ref(origin), "example.com")
        })
        .collect();
    judge::<S>(policy, &table).await;
}

async fn localhost_allows_every_port_of_this_machine_and_nobody_else<S: Server>() {
    let own = "127.0.0.1:3000";
    judge::<S>(
        OriginPolicy::localhost(),
        &[
            (101, &["http://localhost:5173"], own),
            (101, &["https://localhost:5173"], own),
            (101, &["http://localhost"], own),
            (101, &["http://LOCALHOST:8080"], "[::1]:3000"),
            (101, &["http://127.0.0.1:5173"], "localhost:3000"),
            (101, &["http://127.9.8.7:1"], own),
            (101, &["http://[::1]:5173"], own),
            (101, &[], own),
            (403, &["http://localhost.evil.com"], own),
            (403, &["http://localhost.evil.com:5173"], own),
            (403, &["http://127.0.0.1.nip.io"], own),
            (403, &["http://evil.localhost"], own),
            (403, &["http://localhost@evil.com"], own),
            (403, &["http://localhost:5173@evil.com"], own),
            (403, &["http://evil.com@localhost"], own),
            (403, &["http://evil.com#@localhost"], own),
            (403, &["http://evil.com"], own),
            (403, &["http://192.168.1.2:5173"], "192.168.1.2:5173"),
            (403, &["http://128.0.0.1"], own),
            (403, &["http://[::2]"], own),
            (403, &["http://[::ffff:127.0.0.1]"], own),
            (403, &["ftp://localhost"], own),
            (403, &["file://localhost"], own),
            (403, &["null"], own),
        ],
    )
    .await;
}

const HOST: &str = "X-Forwarded-Host";
const PROTO: &str = "X-Forwarded-Proto";
const PORT: &str = "X-Forwarded-Port";
const STANDARD: &str = "Forwarded";

/// Lines of headers.
type Lines = &'static [(&'static str, &'static str)];

/// What comes from a proxy, with the answers to the page of the site, and to the page that the client tries to make it.
const SAID: &[(Lines, u16, u16)] = &[
    (&[(HOST, "site.com"), (PROTO, "https")], 101, 403),
    (&[(HOST, "evil.com, site.com"), (PROTO, "http, https")], 101, 403),
    (&[(HOST, "evil.com"), (HOST, "site.com"), (PROTO, "https")], 101, 403),
    (&[(HOST, "site.com"), (PORT, "1, 443")], 101, 403),
    (&[(HOST, "site.com"), (PORT, "8443")], 403, 403),
    (&[(HOST, "\"evil.com, site.com\"")], 400, 400),
    (&[(HOST, "evil.com, ")], 400, 400),
    (&[(STANDARD, "for=192.0.2.1;host=site.com;proto=https")], 101, 403),
    (&[(STANDARD, "host=evil.com;proto=http, Host=\"site.com:443\"; Proto=HTTPS")], 101, 403),
    (&[(STANDARD, "host=evil.com"), (STANDARD, "host=site.com")], 101, 403),
    (&[(STANDARD, "host=evil.com;for=\", host=site.com")], 400, 400),
    (&[(STANDARD, "host=evil.com;for=\""), (STANDARD, "host=site.com")], 400, 400),
    (&[(STANDARD, "host=site.com;host=evil.com")], 400, 400),
    (&[(STANDARD, "host=site.com;proto=https"), (HOST, "site.com"), (PROTO, "https")], 101, 403),
    (&[(STANDARD, "host=evil.com;proto=https"), (HOST, "site.com"), (PROTO, "https")], 400, 400),
    (&[(STANDARD, "host=site.com;proto=https"), (HOST, "evil.com"), (PROTO, "https")], 400, 400),
    (&[(STANDARD, "host=evil.com"), (PROTO, "https")], 400, 400),
];

async fn what_a_client_puts_in_front_of_the_proxys_words_does_not_count<S: Server>() {
    let policy = OriginPolicy::same_origin().trust_forwarded();
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().origin(policy))).await;
    let (site, evil) = ("https://site.com", "https://evil.com");
    for (headers, of_site, of_evil) in SAID {
        for (origin, status) in [(site, of_site), (evil, of_evil)] {
            let request = Request::upgrade().with("Origin", origin);
            let request = headers.iter().fold(request, |request, (name, value)| request.with(name, *value));
            let response = Client::ask(&server, request).await;
            let expected = if *status == 101 { S::OPENED } else { *status };
            assert_eq!(response.status, expected, "{origin} {headers:?}: {response:?}");
        }
    }
}

ws_tests::cases! {
    same_origin_allows_its_own_pages_and_what_is_no_browser,
    same_origin_refuses_every_other_page,
    more_than_one_origin_is_refused_with_400,
    require_origin_refuses_a_request_without_one,
    a_list_allows_what_is_on_it_however_it_is_spelled,
    a_star_stands_for_all_subdomains_and_nothing_else,
    a_predicate_decides_and_fails_closed,
    forwarded_headers_count_only_where_they_are_trusted,
    allowed_hosts_refuses_any_other_with_421_whatever_the_origin,
    a_refusal_names_both_sides_that_were_compared_and_no_scheme_that_is_not_known,
    the_page_of_an_app_is_never_of_the_same_origin,
    the_page_of_an_app_is_allowed_by_its_exact_name,
    a_predicate_is_asked_about_the_page_of_an_app,
    localhost_allows_every_port_of_this_machine_and_nobody_else,
    what_a_client_puts_in_front_of_the_proxys_words_does_not_count,
}
