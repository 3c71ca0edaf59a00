//! The opening handshake: which requests become a WebSocket, and what the others are told.

use std::time::Duration;

use futures_util::future::join_all;
use tower::{Layer as _, ServiceExt as _};
use ws_core::WebSocketLayer;
use ws_tests::request::{HOST, KEY};
use ws_tests::server::TAG;
use ws_tests::{Answer, Client, Frame, Request, Server, Setup, until};

/// Checks that each of these requests, made of a valid one, is refused with `status`, and nothing of it comes through.
async fn refused<S: Server>(layer: WebSocketLayer, status: u16, requests: impl IntoIterator<Item = Request>) {
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut count = 0;
    for request in requests {
        count += 1;
        let response = Client::refusal(&server, request.clone()).await;
        assert_eq!(response.status, status, "{request:?}: {response:?}");
    }
    assert_eq!((server.seen.calls(), server.connections.len()), (calls::<S>(count), 0));
}

/// How often the service is asked about this many handshakes that are refused.
fn calls<S: Server>(refused: usize) -> usize {
    if S::KEEPS_REFUSED_AWAY { 0 } else { refused }
}

/// Valid requests, but for the lines of one header.
fn with_lines<'a>(name: &'a str, table: &'a [&'a [&'a str]]) -> impl Iterator<Item = Request> {
    table.iter().map(move |lines| Request::upgrade().lines(name, lines))
}

async fn a_valid_request_is_answered_with_nothing_that_was_not_negotiated<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut client = Client::to(&server).await;
    let response = client.answer_to(Request::upgrade()).await;
    assert_eq!(response.status, S::OPENED);
    let over_http_1 = |value| if server.http2 { None } else { Some(value) };
    assert_eq!(response.header("connection").map(str::to_lowercase).as_deref(), over_http_1("upgrade"),);
    assert_eq!(response.header("upgrade"), over_http_1("websocket"));
    assert_eq!(response.header("sec-websocket-accept"), over_http_1("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for name in ["sec-websocket-protocol", "sec-websocket-extensions", "content-length", "transfer-encoding"]
    {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
    client.close().await;
    server.until_open(0).await;
}

async fn a_request_that_is_no_upgrade_passes_with_its_body_and_extensions<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let post = || Request::new("POST", "/plain").with("Content-Length", "4");
    let chunked = Request::new("POST", "/plain").with("Transfer-Encoding", "chunked");
    for (request, body) in [
        (Request::new("GET", "/plain"), ""),
        (post().followed_by("body"), "body"),
        (chunked.followed_by("2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"), "body"),
        (post().with("Connection", "Upgrade").with("Upgrade", "h2c").followed_by("body"), "body"),
        (Request::upgrade().path("/plain").lines("Upgrade", &["websockets"]), ""),
        (Request::upgrade().path("/plain").lines("Upgrade", &[]), ""),
    ] {
        let response = Client::ask(&server, request.clone()).await;
        assert_eq!((response.status, response.body.as_str()), (200, body), "{request:?}");
        let tag = S::HAS_MIDDLEWARE.then_some(TAG.0);
        assert_eq!(response.header("x-tag"), tag, "{request:?}");
    }
    assert!(server.connections.is_empty());
}

async fn a_plain_request_on_the_websocket_route_is_told_to_upgrade<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let response = Client::ask(&server, Request::new("GET", "/ws")).await;
    let expected = if server.http2 { (400, None) } else { (426, Some("websocket")) };
    assert_eq!((response.status, response.header("upgrade")), expected);
    assert!(response.body.contains("WebSocket"), "{response:?}");
}

async fn the_tokens_that_ask_for_an_upgrade_are_found_among_others_in_any_case<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let connection: &[&[&str]] = &[
        &["Upgrade"],
        &["keep-alive, Upgrade"],
        &["keep-alive,UPGRADE,x"],
        &["keep-alive", "upgrade"],
        &[",, upgrade ,"],
    ];
    let upgrade: &[&[&str]] = &[&["WebSocket"], &["WEBSOCKET"], &["h2c, websocket"], &["h2c", "websocket"]];
    for request in with_lines("Connection", connection).chain(with_lines("Upgrade", upgrade)) {
        Client::open_with(&server, request).await.close().await;
    }
}

async fn the_names_of_headers_are_not_case_sensitive<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for change in [str::to_uppercase, str::to_lowercase] {
        let head = Vec::from(Request::upgrade());
        let head = String::from_utf8(head).expect("a request is text");
        let head: String = head
            .split_inclusive("\r\n")
            .map(|line| match line.split_once(": ") {
                Some((name, value)) => format!("{}: {value}", change(name)),
                None => line.to_owned(),
            })
            .collect();
        let mut client = Client::connect(server.address).await;
        client.write(head).await;
        assert_eq!(client.response().await.status, 101);
    }
}

async fn connection_without_the_token_upgrade_is_refused_with_400<S: Server>() {
    let table: &[&[&str]] =
        &[&[], &[""], &["keep-alive"], &["notupgrade"], &["upgraded"], &["up", "grade"], &["\"upgrade\""]];
    refused::<S>(WebSocketLayer::new(), 400, with_lines("Connection", table)).await;
}

async fn any_method_but_get_is_refused_with_405_and_told_which<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for method in ["POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let response = Client::refusal(&server, Request::upgrade().method(method)).await;
        assert_eq!((response.status, response.header("allow")), (405, Some("GET")), "{method}");
    }
    assert_eq!(server.seen.calls(), calls::<S>(7));
}

async fn http_1_0_is_refused_with_505<S: Server>() {
    refused::<S>(WebSocketLayer::new(), 505, [Request::upgrade().version("HTTP/1.0")]).await;
}

async fn an_announced_body_is_refused_with_400_and_never_read_as_frames<S: Server>() {
    let body = Frame::text("smuggled").masked();
    let length = body.len().to_string();
    let chunked = format!("{:x}\r\n{}\r\n0\r\n\r\n", 4, "body");
    refused::<S>(
        WebSocketLayer::new(),
        400,
        [
            Request::upgrade().with("Content-Length", "5").followed_by("hello"),
            Request::upgrade().with("Content-Length", length).followed_by(body),
            Request::upgrade().with("Transfer-Encoding", "chunked").followed_by(chunked),
        ],
    )
    .await;
}

async fn an_announced_body_of_no_bytes_is_none<S: Server>() {
    let server = S::start(Setup::echo()).await;
    Client::open_with(&server, Request::upgrade().with("Content-Length", "0")).await.close().await;
}

async fn any_version_but_13_is_refused_and_told_which<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let table: &[&[&str]] = &[&[], &[""], &["8"], &["12"], &["13", "13"], &["8", "13"], &["13, 8"], &["013"]];
    // 426 is about the header `Upgrade`, which HTTP/2 does not have
    let (status, upgrade) = if server.http2 { (400, None) } else { (426, Some("websocket")) };
    for request in with_lines("Sec-WebSocket-Version", table) {
        let response = Client::refusal(&server, request.clone()).await;
        assert_eq!(response.status, status, "{request:?}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"), "{request:?}");
        assert_eq!(response.header("upgrade"), upgrade, "{request:?}");
    }
    assert_eq!(server.seen.calls(), calls::<S>(table.len()));
}

async fn a_key_that_is_not_one_of_16_bytes_is_refused_with_400<S: Server>() {
    let table: &[&[&str]] = &[
        &[],
        &[""],
        &["AAAAAAAAAAAAAAAAAAAA"],
        &["AAAAAAAAAAAAAAAAAAAAAAA="],
        &["AAAAAAAAAAAAAAAAAAAAAA"],
        &["!!!!!!!!!!!!!!!!!!!!!!=="],
        &[KEY, KEY],
        &["dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="],
    ];
    refused::<S>(WebSocketLayer::new(), 400, with_lines("Sec-WebSocket-Key", table)).await;
}

async fn the_server_prefers_its_own_order_of_subprotocols<S: Server>() {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().protocols(["a", "b"]))).await;
    let table: &[(&[&str], Option<&str>)] = &[
        (&["b, a"], Some("a")),
        (&["b", "a"], Some("a")),
        (&["c,b"], Some("b")),
        (&[", ,a,,"], Some("a")),
        (&["A"], None),
        (&["c"], None),
        (&[], None),
    ];
    for (offer, chosen) in table {
        let request = Request::upgrade().lines("Sec-WebSocket-Protocol", offer);
        let response = Client::ask(&server, request).await;
        assert_eq!(
            (response.status, response.header("sec-websocket-protocol")),
            (S::OPENED, *chosen),
            "{offer:?}"
        );
    }
}

async fn a_route_can_have_subprotocols_of_its_own<S: Server>() {
    let layer = WebSocketLayer::new().protocols(["a"]);
    let server = S::start(Setup::echo().layer(layer).answer(Answer::UpgradeWith(&["c", "b"]))).await;
    for (offer, chosen) in [("a, b, c", Some("c")), ("b", Some("b")), ("a", None)] {
        let response = Client::ask(&server, Request::upgrade().with("Sec-WebSocket-Protocol", offer)).await;
        assert_eq!(
            (response.status, response.header("sec-websocket-protocol")),
            (S::OPENED, chosen),
            "{offer}"
        );
    }
}

async fn a_route_whose_subprotocol_is_no_token_is_told<S: Server>() {
    let server = S::start(Setup::echo().answer(Answer::UpgradeWith(&["a b"]))).await;
    let response = Client::ask(&server, Request::upgrade()).await;
    assert_eq!(response.status, 500);
    until("the handshake to be given up", || server.connections.is_empty()).await;
}

async fn a_route_sees_the_request<S: Server>() {
    let layer = WebSocketLayer::new().protocols(["a"]);
    let server = S::start(Setup::echo().layer(layer).answer(Answer::Describe)).await;
    let request =
        Request::upgrade().path("/ws?room=1").with("X-Name", "Ada").with("Sec-WebSocket-Protocol", "b, a");
    let mut client = Client::open_with(&server, request).await;
    let method = if S::OPENED == 101 { "GET" } else { "CONNECT" };
    let tag = S::HAS_MIDDLEWARE.then_some(TAG.0);
    let expected = format!(r#"{method} Some("/ws?room=1") Some("Ada") {tag:?} Some("a") late: false"#);
    assert_eq!(client.frame().await, Frame::text(expected));
    client.closed_with_answer(1000).await;
}

async fn a_route_can_serve_the_socket_on_a_task_of_its_own<S: Server>() {
    let server = S::start(Setup::echo().answer(Answer::IntoParts)).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
    client.close().await;
    let stranger = Request::upgrade().with("Origin", "https://evil.com");
    assert_eq!(Client::refusal(&server, stranger).await.status, 403);
    until("the connection to end", || server.connections.is_empty()).await;
    assert_eq!(server.seen.failed(), 0);
}

async fn a_required_subprotocol_has_to_be_offered<S: Server>() {
    let layer = || WebSocketLayer::new().protocols(["a"]).require_protocol();
    let table: &[&[&str]] = &[&[], &[""], &["b"], &["A"]];
    refused::<S>(layer(), 400, with_lines("Sec-WebSocket-Protocol", table)).await;
    let server = S::start(Setup::echo().layer(layer())).await;
    Client::open_with(&server, Request::upgrade().with("Sec-WebSocket-Protocol", "b, a")).await.close().await;
}

async fn offers_that_cannot_be_read_are_refused_with_400<S: Server>() {
    let protocols = [&["a b"][..], &["\"a\""], &["a;b"], &["a, b@c"]];
    refused::<S>(WebSocketLayer::new(), 400, with_lines("Sec-WebSocket-Protocol", &protocols)).await;
    let extensions = [&["a b"][..], &["a;;b"], &["permessage-deflate; =1"]];
    refused::<S>(WebSocketLayer::new(), 400, with_lines("Sec-WebSocket-Extensions", &extensions)).await;
}

async fn an_extension_that_is_not_wanted_is_declined<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for offer in ["permessage-deflate; client_max_window_bits", "x-unheard-of; a=1, permessage-deflate"] {
        let response = Client::ask(&server, Request::upgrade().with("Sec-WebSocket-Extensions", offer)).await;
        assert_eq!(
            (response.status, response.header("sec-websocket-extensions")),
            (S::OPENED, None),
            "{offer}"
        );
    }
}

async fn ten_thousand_subprotocols_are_read_in_no_time<S: Server>() {
    let names =
        |prefix, count| (0..count).map(move |number| format!("{prefix}{number}")).chain(["last".into()]);
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().protocols(names("known", 100)))).await;
    let offer = names("offered", 10_000).collect::<Vec<_>>().join(",");
    let response = Client::ask(&server, Request::upgrade().with("Sec-WebSocket-Protocol", offer)).await;
    assert_eq!((response.status, response.header("sec-websocket-protocol")), (S::OPENED, Some("last")));
}

async fn frames_right_behind_the_handshake_are_delivered<S: Server>() {
    let server = S::start(Setup::echo()).await;
    // more of them than one read of the HTTP server's takes, and the last one in two parts
    let messages: Vec<_> = (0..200).map(|number| Frame::text(format!("{number:0>100}"))).collect();
    let bytes: Vec<u8> = messages.iter().flat_map(Frame::masked).collect();
    let (now, later) = bytes.split_at(bytes.len() - 50);
    let mut client = Client::open_with(&server, Request::upgrade().followed_by(now)).await;
    client.write(later).await;
    for message in messages {
        assert_eq!(client.frame().await, message);
    }
    client.close().await;
}

async fn a_handshake_may_come_byte_by_byte<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut client = Client::connect(server.address).await;
    for byte in Vec::from(Request::upgrade()).into_iter().chain(Frame::text("hi").masked()) {
        client.write([byte]).await;
    }
    assert_eq!(client.response().await.status, 101);
    assert_eq!(client.frame().await, Frame::text("hi"));
}

async fn what_is_pipelined_behind_a_refused_handshake_is_never_processed<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let second = Vec::from(Request::new("GET", "/plain"));
    let third = Vec::from(Request::upgrade());
    let refused = Request::upgrade().lines("Sec-WebSocket-Key", &[]);
    let response = Client::refusal(&server, refused.followed_by(second).followed_by(third)).await;
    assert_eq!((response.status, server.seen.calls()), (400, calls::<S>(1)));
}

async fn every_refusal_is_one_line_that_repeats_nothing_raw<S: Server>() {
    let server =
        S::start(Setup::echo().layer(WebSocketLayer::new().protocols(["a"]).require_protocol())).await;
    for name in [
        "Connection",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Origin",
        "Content-Length",
    ] {
        let value = if name == "Content-Length" { "7" } else { "<script>ECHO</script>" };
        let request = Request::upgrade().lines(name, &[value]);
        let response = Client::refusal(&server, request.followed_by("<ECHO>!")).await;
        let line = response.body.strip_suffix('\n').unwrap_or_default();
        assert!(!line.is_empty() && !line.contains(['\n', '\r']), "{response:?}");
        assert!(!format!("{response:?}").contains("ECHO"), "{response:?}");
    }
}

async fn a_connection_may_upgrade_after_other_requests<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut client = Client::to(&server).await;
    for _ in 0..2 {
        assert_eq!(client.answer_to(Request::new("GET", "/plain")).await.status, 200);
    }
    client.handshake(Request::upgrade()).await;
    assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
    client.close().await;
}

async fn a_service_that_never_answers_is_dropped_at_the_handshake_timeout<S: Server>() {
    let timeout = Duration::from_millis(300);
    for answer in [Answer::Never, Answer::Withhold] {
        let layer = WebSocketLayer::new().max_connections(1).handshake_timeout(timeout);
        let server = S::start(Setup::echo().layer(layer).answer(answer)).await;
        for attempt in 1..=2 {
            let start = std::time::Instant::now();
            let response = Client::refusal(&server, Request::upgrade()).await;
            assert_eq!(response.status, 408);
            assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
            assert_eq!((server.seen.calls(), server.seen.under_way()), (attempt, 0));
            server.until_open(0).await;
            let failed = if answer == Answer::Withhold { attempt } else { 0 };
            until("the upgrade to fail", || server.seen.failed() == failed).await;
        }
    }
}

async fn an_upgrade_whose_response_never_leaves_ends_at_the_handshake_timeout<S: Server>() {
    let timeout = Duration::from_millis(300);
    let layer = WebSocketLayer::new().handshake_timeout(timeout);
    let server = S::start(Setup::echo().layer(layer).withholding_responses()).await;
    let start = std::time::Instant::now();
    let mut client = Client::to(&server).await;
    client.request(Request::upgrade()).await;
    until("the upgrade to fail", || server.seen.failed() == 1).await;
    assert!(start.elapsed() >= timeout);
    assert!(server.seen.take_failed()[0].is_timeout());
    server.until_open(0).await;
}

async fn a_peer_that_goes_before_the_response_frees_its_slot<S: Server>() {
    for answer in [Answer::Never, Answer::Withhold] {
        let server = S::start(Setup::echo().answer(answer)).await;
        for go in [|client: Client| drop(client), Client::reset] {
            let mut client = Client::to(&server).await;
            client.request(Request::upgrade()).await;
            until("the request to arrive", || server.seen.under_way() == 1).await;
            assert_eq!(server.connections.len(), 1);
            go(client);
            server.until_open(0).await;
            until("the service to be dropped", || server.seen.under_way() == 0).await;
        }
        let failed = if answer == Answer::Withhold { 2 } else { 0 };
        until("the upgrades to fail", || server.seen.failed() == failed).await;
    }
}

async fn without_the_layer_an_upgrade_is_answered_with_500<S: Server>() {
    let server = S::start(Setup::echo().without_layer()).await;
    let response = Client::ask(&server, Request::upgrade()).await;
    assert_eq!(response.status, 500);
    assert!(response.body.contains(".layer(WebSocketLayer::new())"), "{response:?}");
}

async fn where_the_http_server_does_not_upgrade_the_handler_learns_of_it<S: Server>() {
    let server = S::start(Setup::echo().without_upgrades()).await;
    let mut client = Client::connect(server.address).await;
    client.write(Request::upgrade()).await;
    until("the upgrade to fail", || server.seen.failed() == 1).await;
    server.until_open(0).await;
}

#[tokio::test]
async fn where_a_connection_cannot_be_upgraded_at_all_the_answer_is_500() {
    // as a service that runs on no HTTP server: nothing has promised an upgrade
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let service = layer.layer(ws_core::service(async |socket| drop(socket)));
    let request = ::axum::http::Request::get("/")
        .header("Host", HOST)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY);
    let response = service.oneshot(request.body(()).expect("a valid request")).await.expect("an answer");
    assert_eq!((response.status().as_u16(), connections.len()), (500, 0));
}

async fn one_connection_more_than_the_limit_is_refused_with_503<S: Server>() {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().max_connections(2))).await;
    let first = Client::open(&server).await;
    let mut second = Client::open(&server).await;
    let response = Client::refusal(&server, Request::upgrade()).await;
    let retry: u64 =
        response.header("retry-after").and_then(|text| text.parse().ok()).expect("a number of seconds");
    assert_eq!((response.status, server.connections.len()), (503, 2));
    assert!(retry > 0);
    // whichever way a connection ends, its slot is free
    first.close().await;
    server.until_open(1).await;
    let third = Client::open(&server).await;
    third.reset();
    server.until_open(1).await;
    let _fourth = Client::open(&server).await;
    assert_eq!(second.echo(Frame::text("still here")).await, Frame::text("still here"));
}

async fn of_200_handshakes_at_once_exactly_as_many_as_allowed_succeed<S: Server>() {
    ws_tests::runtime::allow_many_sockets();
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().max_connections(100))).await;
    let attempts = (0..200).map(|_| async {
        let mut client = Client::to(&server).await;
        let response = client.answer_to(Request::upgrade()).await;
        assert_eq!(response.header("retry-after").is_some(), response.status == 503);
        (response.status, client)
    });
    for _ in 0..2 {
        let answers = join_all(attempts.clone()).await;
        let count = |status| answers.iter().filter(|(answer, _)| *answer == status).count();
        assert_eq!((count(S::OPENED), count(503), server.connections.len()), (100, 100, 100));
        drop(answers);
        server.until_open(0).await;
    }
}

async fn of_two_layers_around_a_route_the_inner_one_serves<S: Server>() {
    let outer = WebSocketLayer::new()
        .protocols(["outer"])
        .max_message_size(1)
        .handshake_timeout(Duration::from_millis(200));
    let all = outer.connections();
    let inner = WebSocketLayer::new().protocols(["inner"]).ping_interval(Duration::from_millis(400));
    let server = S::start(Setup::echo().layer(inner).outer(outer)).await;
    let request = Request::upgrade().with("Sec-WebSocket-Protocol", "outer, inner");
    let mut client = Client::to(&server).await;
    let response = client.answer_to(request).await;
    assert_eq!(response.header("sec-websocket-protocol"), Some("inner"));
    until("the outer layer to let go", || all.is_empty()).await;
    assert_eq!(server.connections.len(), 1);
    // its ping comes when the outer layer's handshake timeout is past
    assert!(client.frame().await.is_ping());
    assert_eq!(client.echo(Frame::text("longer than 1")).await, Frame::text("longer than 1"));
    client.close().await;
    server.until_open(0).await;
}

async fn the_outer_of_two_layers_refuses_what_it_would_refuse_alone<S: Server>() {
    let outer = WebSocketLayer::new().max_connections(0);
    let all = outer.connections();
    let server = S::start(Setup::echo().outer(outer)).await;
    assert_eq!(Client::refusal(&server, Request::upgrade()).await.status, 503);
    all.set_max_connections(None);
    let request = Request::upgrade().with("Origin", format!("https://{HOST}"));
    Client::open_with(&server, request).await.close().await;
}

ws_tests::cases! {
    a_valid_request_is_answered_with_nothing_that_was_not_negotiated,
    any_version_but_13_is_refused_and_told_which,
    the_server_prefers_its_own_order_of_subprotocols,
    a_route_can_have_subprotocols_of_its_own,
    a_route_whose_subprotocol_is_no_token_is_told,
    a_route_sees_the_request,
    a_route_can_serve_the_socket_on_a_task_of_its_own,
    a_required_subprotocol_has_to_be_offered,
    offers_that_cannot_be_read_are_refused_with_400,
    an_extension_that_is_not_wanted_is_declined,
    an_upgrade_whose_response_never_leaves_ends_at_the_handshake_timeout,
    a_peer_that_goes_before_the_response_frees_its_slot,
    one_connection_more_than_the_limit_is_refused_with_503,
    of_200_handshakes_at_once_exactly_as_many_as_allowed_succeed,
    a_connection_may_upgrade_after_other_requests,

    [not http2: "it is about the request line or headers that HTTP/2 does not have"]
    the_tokens_that_ask_for_an_upgrade_are_found_among_others_in_any_case,
    the_names_of_headers_are_not_case_sensitive,
    connection_without_the_token_upgrade_is_refused_with_400,
    any_method_but_get_is_refused_with_405_and_told_which,
    http_1_0_is_refused_with_505,
    a_key_that_is_not_one_of_16_bytes_is_refused_with_400,
    every_refusal_is_one_line_that_repeats_nothing_raw,

    [not http2: "it writes the bytes behind a head by hand, which are in frames of HTTP/2"]
    a_request_that_is_no_upgrade_passes_with_its_body_and_extensions,
    an_announced_body_is_refused_with_400_and_never_read_as_frames,
    an_announced_body_of_no_bytes_is_none,
    frames_right_behind_the_handshake_are_delivered,
    a_handshake_may_come_byte_by_byte,
    what_is_pipelined_behind_a_refused_handshake_is_never_processed,

    [not http2: "hyper takes 16 KiB of headers over HTTP/2"]
    ten_thousand_subprotocols_are_read_in_no_time,

    [not http2: "hyper upgrades the streams of HTTP/2 unasked"]
    where_the_http_server_does_not_upgrade_the_handler_learns_of_it,

    [not warp: "the filter is the layer: it cannot be forgotten"]
    without_the_layer_an_upgrade_is_answered_with_500,

    [not warp: "what is no upgrade is not found, so that other routes can match it"]
    a_plain_request_on_the_websocket_route_is_told_to_upgrade,

    [not warp: "a filter cannot cut off the route behind it"]
    a_service_that_never_answers_is_dropped_at_the_handshake_timeout,

    [not warp: "warp's own server has no middleware, and a filter is the innermost of it all"]
    of_two_layers_around_a_route_the_inner_one_serves,
    the_outer_of_two_layers_refuses_what_it_would_refuse_alone,
}
