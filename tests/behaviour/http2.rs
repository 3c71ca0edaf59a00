//! HTTP/2: what is said otherwise there than over HTTP/1.1, and many WebSockets on one connection.

use std::net::SocketAddr;
use std::time::Duration;

use ::hyper::ext::Protocol;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Version};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::{Layer as _, ServiceExt as _};
use ws_core::{Drain, OriginPolicy, WebSocketLayer};
use ws_tests::adapters::Warp;
use ws_tests::http2::{Connection, is_offered};
use ws_tests::request::{ACCEPT, HOST, KEY};
use ws_tests::server::{TAG, listen, until_binary};
use ws_tests::{Client, Endpoint, Frame, Request, Server, Setup, until, within};

/// A CONNECT for `/plain`, with `:protocol` or without.
fn connect(protocol: Option<&'static str>) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::new(Full::default());
    *request.method_mut() = Method::CONNECT;
    let uri = if protocol.is_some() { format!("http://{HOST}/plain") } else { format!("{HOST}:80") };
    *request.uri_mut() = uri.parse().expect("a URI");
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    request
}

async fn a_connect_for_something_else_passes_to_the_service<S: Server>() {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().max_connections(0))).await;
    let connection = Connection::open(server.address).await;
    // to another protocol on a path, and to a host, which no route is for
    for (protocol, status) in [(Some("connect-udp"), 200), (None, 404)] {
        let answer = within("a response", connection.send_as_it_is(connect(protocol))).await;
        assert_eq!(answer.expect("the stream is answered").status(), status, "{protocol:?}");
    }
    let mut client = Client::on(&connection);
    assert_eq!(client.answer_to(Request::upgrade()).await.status, 503, "which the layer says");
}

async fn a_plain_request_passes_with_its_body_and_extensions<S: Server>() {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().max_connections(0))).await;
    let response = Client::ask(&server, Request::new("POST", "/plain").followed_by("body")).await;
    assert_eq!((response.status, response.body.as_str()), (200, "body"));
    assert_eq!(response.header("x-tag"), Some(TAG.0));
}

async fn a_plain_request_on_the_websocket_route_is_told_what_is_possible<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let response = Client::ask(&server, Request::new("GET", "/ws")).await;
    assert_eq!(response.status, 400);
    assert!(response.body.contains("CONNECT with `:protocol` `websocket`"), "{response:?}");
    assert!(!response.body.contains("`Upgrade"), "{response:?}");
}

async fn no_refusal_speaks_of_what_http_2_does_not_have<S: Server>() {
    let policy = OriginPolicy::same_origin().allowed_hosts([HOST]);
    let layer = WebSocketLayer::new().origin(policy).protocols(["a"]).require_protocol();
    let server = S::start(Setup::echo().layer(layer.clone())).await;
    let request = || Request::upgrade().with("Sec-WebSocket-Protocol", "a");
    for (request, status) in [
        (request().lines("Sec-WebSocket-Version", &[]), 400),
        (request().lines("Sec-WebSocket-Version", &["12"]), 400),
        (request().lines("Sec-WebSocket-Protocol", &["b"]), 400),
        (request().lines("Sec-WebSocket-Protocol", &["a b"]), 400),
        (request().with("Sec-WebSocket-Extensions", "a;;b"), 400),
        (request().lines("Host", &["evil.com"]), 421),
        (request().lines("Host", &["a..b"]), 400),
        (request().lines("Origin", &["https://example.com", "https://evil.com"]), 400),
        (request().with("Origin", "https://evil.com"), 403),
        (request().with("Origin", "garbage"), 403),
    ] {
        let response = Client::refusal(&server, request.clone()).await;
        assert_eq!(response.status, status, "{request:?}: {response:?}");
        let is_one_line = response.body.ends_with('\n') && response.body.lines().count() == 1;
        assert!(is_one_line && !response.body.contains("pgrade"), "{request:?}: {response:?}");
    }
    layer.connections().drain(Drain::new()).await;
    assert_eq!(Client::refusal(&server, request()).await.status, 503);
}

#[test]
fn a_route_of_axum_for_get_answers_a_handshake_with_405() {
    ws_tests::runtime::run(async {
        let upgrade = async |upgrade: ws_axum::WebSocketUpgrade| upgrade.on_upgrade(until_binary);
        let app =
            ::axum::Router::new().route("/ws", ::axum::routing::get(upgrade)).layer(WebSocketLayer::new());
        let (listener, address) = listen().await;
        tokio::spawn(::axum::serve(listener, app).into_future());
        for (http2, status) in [(false, 101), (true, 405)] {
            let mut client = Client::to(Endpoint { address, http2 }).await;
            assert_eq!(client.answer_to(Request::upgrade()).await.status, status);
        }
    });
}

async fn a_key_that_a_client_sends_is_answered<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let connection = Connection::open(server.address).await;
    for (keys, accept) in [(&[][..], None), (&[KEY], Some(ACCEPT)), (&[KEY, KEY], None), (&["no key"], None)]
    {
        let mut request = http::Request::from(Request::upgrade());
        for key in keys {
            request.headers_mut().append("sec-websocket-key", key.parse().expect("the value of a header"));
        }
        let response = within("a response", connection.send_as_it_is(request)).await.expect("an answer");
        let header =
            response.headers().get("sec-websocket-accept").map(|it| it.to_str().expect("it is text"));
        assert_eq!((response.status().as_u16(), header), (200, accept), "{keys:?}");
    }
}

/// A handshake with this target, and these lines of `Host`. Without a host in the target there is no `:authority`.
fn for_host(target: &str, hosts: &[&str]) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::from(Request::upgrade());
    *request.uri_mut() = target.parse().expect("a URI");
    for host in hosts {
        request.headers_mut().append("host", host.parse().expect("the value of a header"));
    }
    request
}

async fn a_handshake_is_for_one_host_by_authority_or_header<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let connection = Connection::open(server.address).await;
    let table: &[(&str, &[&str], u16)] = &[
        ("http://example.com/ws", &[], 200),
        ("http://example.com/ws", &["example.com"], 200),
        ("http://example.com/ws", &["EXAMPLE.com."], 200),
        ("http://example.com/ws", &["example.com:80"], 200),
        ("http://example.com:80/ws", &["example.com"], 200),
        ("/ws", &["example.com"], 200),
        ("http://example.com/ws", &["evil.com"], 400),
        ("http://example.com/ws", &["example.com:443"], 400),
        ("http://example.com/ws", &["example.com", "example.com"], 400),
        ("http://example.com/ws", &[""], 400),
        ("http://example.com/ws", &["a@b"], 400),
        ("http://a@example.com/ws", &[], 400),
        ("http://example.com:0/ws", &[], 400),
        ("/ws", &[""], 400),
        ("/ws", &["a@b"], 400),
        ("/ws", &["example.com", "example.com"], 400),
        ("/ws", &[], 400),
    ];
    for origin in [None, Some("http://example.com")] {
        for (target, hosts, status) in table {
            let mut request = for_host(target, hosts);
            if let Some(origin) = origin {
                request.headers_mut().insert("origin", origin.parse().expect("the value of a header"));
            }
            let response = within("a response", connection.send_as_it_is(request)).await.expect("an answer");
            assert_eq!(response.status().as_u16(), *status, "{target} {hosts:?} {origin:?}");
        }
    }
}

#[tokio::test]
async fn the_header_upgrade_means_nothing_over_http_2() {
    // hyper's HTTP/2 takes such a request for malformed, other servers may not
    let inner = tower::service_fn(async |_: http::Request<()>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from("plain"))))
    });
    let request = http::Request::get("/")
        .version(Version::HTTP_2)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
        .body(())
        .expect("a valid request");
    let response = WebSocketLayer::new().layer(inner).oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
}

async fn many_websockets_share_a_connection<S: Server>() {
    const COUNT: usize = 100;
    let server = S::start(Setup::echo()).await;
    let connection = Connection::open(server.address).await;
    let mut clients = Client::open_all_on(&connection, COUNT).await;
    server.until_open(COUNT).await;
    // a page beside them, and one of them that breaks the protocol
    let mut page = Client::on(&connection);
    assert_eq!(page.answer_to(Request::new("GET", "/plain")).await.status, 200);
    let mut wrong = clients.pop().expect("there are many");
    wrong.write(Frame::continuation("")).await;
    wrong.closed_with(1002).await;
    join_all(clients.iter_mut().enumerate().map(|(number, client)| async move {
        let frame = Frame::text(number.to_string());
        assert_eq!(client.echo(frame.clone()).await, frame);
    }))
    .await;
    join_all(clients.into_iter().map(Client::close)).await;
    server.until_open(0).await;
}

async fn one_that_does_not_read_does_not_hold_up_the_others_on_its_connection<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        let silent =
            socket.recv().await.is_some_and(|message| message.is_ok_and(|it| it.as_text().is_none()));
        // as much as the window of a stream takes, and more
        while silent && socket.send(vec![0; 64 * 1024]).await.is_ok() {}
        while let Some(message) = socket.recv().await {
            socket.send(message?).await?;
        }
        Ok(())
    });
    let server = S::start(setup).await;
    let connection = Connection::open(server.address).await;
    let mut lazy = Client::on(&connection);
    lazy.handshake(Request::upgrade()).await;
    lazy.write(Frame::binary("go")).await;
    let mut other = Client::on(&connection);
    other.handshake(Request::upgrade()).await;
    other.write(Frame::text("begin")).await;
    for _ in 0..100 {
        assert_eq!(other.echo(Frame::text("as ever")).await, Frame::text("as ever"));
    }
}

/// Serves as many handlers that do not read as a client may open, and some that do, on one connection.
async fn those_that_nobody_reads_leave_the_others_their_share(address: SocketAddr) {
    const SILENT: usize = 180;
    const OTHERS: usize = 20;
    let connection = Connection::open(address).await;
    let mut silent = Client::open_all_on(&connection, SILENT).await;
    let mut others = Client::open_all_on(&connection, OTHERS).await;
    // each of them as much as its handler's queue and the window of its stream hold, less what hyper's client keeps back
    join_all(
        silent.iter_mut().map(|client| client.write(Frame::binary(vec![0; 4 * 1024]).masked().repeat(28))),
    )
    .await;
    // and much more, which waits for the stream
    let more = silent
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.try_write(vec![0; 1 << 20]).await }));
    let more: Vec<_> = more.collect();
    for _ in 0..20 {
        join_all(others.iter_mut().map(|client| async {
            let frame = Frame::text("x".repeat(1_000));
            assert_eq!(client.echo(frame.clone()).await, frame);
        }))
        .await;
    }
    for more in more {
        more.abort();
    }
}

/// What docs/frameworks.md says for a loop of one's own.
async fn serve_in_a_loop(listener: TcpListener, app: ::axum::Router) {
    loop {
        let (stream, _) = listener.accept().await.expect("the listener works");
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http2()
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .keep_alive_interval(Duration::from_secs(20))
                .max_concurrent_streams(200)
                .initial_stream_window_size(64 * 1024)
                .initial_connection_window_size(200 * 64 * 1024)
                .max_send_buf_size(64 * 1024);
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

fn router() -> ::axum::Router {
    let upgrade = async |upgrade: ws_axum::WebSocketUpgrade| upgrade.on_upgrade(until_binary);
    ::axum::Router::new().route("/ws", ::axum::routing::any(upgrade)).layer(WebSocketLayer::new())
}

#[test]
fn those_that_nobody_reads_leave_the_others_their_share_with_axum_in_a_loop() {
    ws_tests::runtime::run(async {
        let (listener, address) = listen().await;
        tokio::spawn(serve_in_a_loop(listener, router()));
        those_that_nobody_reads_leave_the_others_their_share(address).await;
    });
}

#[test]
fn those_that_nobody_reads_leave_the_others_their_share_with_axum_in_serve() {
    ws_tests::runtime::run(async {
        let (listener, address) = listen().await;
        tokio::spawn(ws_hyper::serve(listener, router()).into_future());
        those_that_nobody_reads_leave_the_others_their_share(address).await;
    });
}

#[test]
fn streams_that_are_reset_while_nobody_reads_give_their_share_back() {
    ws_tests::runtime::run(async {
        let (listener, address) = listen().await;
        let layer = WebSocketLayer::new().ping_interval(Duration::from_millis(300));
        let app = layer.layer(ws_hyper::service(until_binary));
        tokio::spawn(ws_hyper::serve(listener, app).http2_max_concurrent_streams(10).into_future());
        let connection = Connection::open(address).await;
        // three times as many as the window of the connection is for
        for _ in 0..30 {
            let mut client = Client::on(&connection);
            client.handshake(Request::upgrade()).await;
            client.write(Frame::binary(vec![0; 4 * 1024]).masked().repeat(28)).await;
            client.reset();
        }
        until("no WebSocket", || layer.connections().is_empty()).await;
    });
}

#[test]
fn those_that_nobody_reads_leave_the_others_their_share_with_serve() {
    ws_tests::runtime::run(async {
        let (listener, address) = listen().await;
        let app = WebSocketLayer::new().layer(ws_hyper::service(until_binary));
        tokio::spawn(ws_hyper::serve(listener, app).into_future());
        those_that_nobody_reads_leave_the_others_their_share(address).await;
    });
}

async fn a_message_larger_than_any_window_passes_both_ways<S: Server>() {
    let size = 16 << 20;
    let layer = WebSocketLayer::new().max_message_size(size).max_frame_size(size);
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut client = Client::open(&server).await;
    let message = Frame::binary(vec![0xff; size]);
    let answer = client.echo(message.clone()).await;
    assert!(answer == message, "{answer:?}");
    client.close().await;
}

async fn a_connection_that_dies_ends_all_its_websockets_with_an_error_each<S: Server>() {
    const COUNT: usize = 20;
    let (report, mut reports) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            let first = socket.recv().await;
            report.send((first, socket.recv().await.is_none()))?;
            Ok(())
        }
    });
    let server = S::start(setup).await;
    let connection = Connection::open(server.address).await;
    let _clients = Client::open_all_on(&connection, COUNT).await;
    server.until_open(COUNT).await;
    connection.abort();
    for _ in 0..COUNT {
        let (first, is_over) = within("a report", reports.recv()).await.expect("the handler reports");
        let error = first.and_then(Result::err);
        assert!(error.as_ref().is_some_and(ws_core::Error::is_disconnected) && is_over, "{error:?}");
    }
    server.until_open(0).await;
}

async fn what_is_refused_leaves_the_connection_to_the_others<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let connection = Connection::open(server.address).await;
    let mut open = Client::on(&connection);
    open.handshake(Request::upgrade()).await;
    let mut refused = Client::on(&connection);
    let evil = Request::upgrade().with("Origin", "https://evil.com");
    assert_eq!(refused.answer_to(evil).await.status, 403);
    assert_eq!(open.echo(Frame::text("still here")).await, Frame::text("still here"));
    // and the stream that was refused can be tried again
    refused.handshake(Request::upgrade()).await;
    refused.close().await;
    open.close().await;
}

#[tokio::test]
async fn warps_own_server_does_not_offer_websockets_over_http_2() {
    let server = Warp::start(Setup::echo()).await;
    assert!(!is_offered(server.address).await);
}

#[tokio::test]
async fn warps_service_on_another_server_does() {
    use ::warp::Filter as _;

    let (listener, address) = listen().await;
    let route = ws_warp::websocket(WebSocketLayer::new()).map(|upgrade: ws_warp::WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| socket.send("hello").await)
    });
    let server =
        ws_hyper::serve(listener, ::warp::service(route)).header_read_timeout(Duration::from_secs(5));
    tokio::spawn(server.into_future());
    assert!(is_offered(address).await);
    let mut client = Client::on(&Connection::open(address).await);
    client.handshake(Request::upgrade()).await;
    assert_eq!(client.frame().await, Frame::text("hello"));
    client.closed_with_answer(1000).await;
}

ws_tests::cases! {
    [not http1: "it is about HTTP/2"]
    a_plain_request_passes_with_its_body_and_extensions,
    a_plain_request_on_the_websocket_route_is_told_what_is_possible,
    no_refusal_speaks_of_what_http_2_does_not_have,
    a_key_that_a_client_sends_is_answered,
    a_handshake_is_for_one_host_by_authority_or_header,
    a_connect_for_something_else_passes_to_the_service,
    many_websockets_share_a_connection,
    one_that_does_not_read_does_not_hold_up_the_others_on_its_connection,
    a_message_larger_than_any_window_passes_both_ways,
    a_connection_that_dies_ends_all_its_websockets_with_an_error_each,
    what_is_refused_leaves_the_connection_to_the_others,
}
