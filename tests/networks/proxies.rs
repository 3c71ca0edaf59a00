//! nginx, haproxy and Caddy in front of the server, with the settings of `docs/proxies.md`, and TLS from the client to them.
//!
//! What goes through a proxy is the same for every adapter, so there is one here.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio_rustls::client::TlsStream;
use ws_core::client::Client;
use ws_core::{
    CloseFrame, Compression, Drain, Error, Message, OriginPolicy, Side, WebSocket, WebSocketLayer,
};
use ws_tests::adapters::Axum;
use ws_tests::{Frame, Request, Running, Server as _, Setup, runtime, until, within};

use crate::proxy::{CADDY, HAPROXY, Kind, NGINX, Proxy};

/// How long the proxies of some cases let a connection be silent.
const CUT: Duration = Duration::from_secs(1);

async fn echo(layer: WebSocketLayer) -> Running {
    Axum::start(Setup::echo().layer(layer)).await
}

async fn exchange(socket: &mut WebSocket, message: impl Into<Message>) {
    let message = message.into();
    let echo = async {
        socket.send(message.clone()).await.expect("the connection lives");
        socket.recv().await.expect("an answer").expect("the connection lives")
    };
    assert!(within("an echo", echo).await == message, "{} bytes have changed", message.len());
}

async fn messages_of_every_size_and_the_subprotocol_come_through(kind: Kind) {
    let server = echo(WebSocketLayer::new().protocols(["chat"]).compression(Compression::new())).await;
    let proxy = Proxy::start(kind, &server).await;
    let client = Client::new().protocols(["other", "chat"]);
    for client in [client.clone(), client.compression(Compression::new())] {
        let mut socket = proxy.open(&client).await;
        assert_eq!(socket.protocol(), Some("chat"));
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            exchange(&mut socket, (0..=u8::MAX).cycle().take(size).collect::<Vec<_>>()).await;
            exchange(&mut socket, "ß".repeat(size / 2)).await;
        }
        within("a pong", socket.ping()).await.expect("the connection lives");
        let answer = within("the answer", socket.close(1000, "")).await.expect("the server answers");
        assert_eq!(answer, Some(CloseFrame::new(1000, "")));
    }
}

async fn close_codes_come_through_both_ways(kind: Kind) {
    let (report, mut frames) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            let message = socket.recv().await.transpose()?;
            match message.as_ref().and_then(Message::as_text) {
                None => report.send(socket.close_frame())?,
                Some("close") => drop(socket.close(4001, "bye").await?),
                Some("fail") => return Err("as it was told".into()),
                Some(_) => {}
            }
            Ok(())
        }
    });
    let server = Axum::start(setup.layer(WebSocketLayer::new().max_message_size(1_000))).await;
    let proxy = Proxy::start(kind, &server).await;

    let mut socket = proxy.open(&Client::new()).await;
    let answer = within("the answer", socket.close(4002, "see you")).await.expect("the server answers");
    assert_eq!(answer, Some(CloseFrame::new(4002, "see you")));
    let frame = within("the handler's report", frames.recv()).await.expect("the handler reports");
    assert_eq!(frame, Some(CloseFrame::new(4002, "see you")));

    let (return_, too_big) = ("return".to_owned(), "big".repeat(1_000));
    for (said, code, reason) in [
        ("close".to_owned(), 4001, "bye"),
        ("fail".to_owned(), 1011, ""),
        (return_, 1000, ""),
        (too_big, 1009, ""),
    ] {
        let mut socket = proxy.open(&Client::new()).await;
        socket.send(said).await.expect("the connection lives");
        assert!(within("the end", socket.recv()).await.is_none());
        let closed = within("the end", socket.closed()).await;
        assert_eq!((closed.by, closed.clean, closed.code().into()), (Side::Remote, true, code));
        assert!(reason.is_empty() || closed.reason() == reason, "{closed:?}");
    }
    until("all connections to end", || server.connections.is_empty()).await;
}

/// A client takes an error of its socket for 1006, so the whole message has to go out, and nothing may be reset.
async fn a_client_that_goes_on_sending_sees_in_every_try_that_its_message_is_too_big(kind: Kind) {
    const SIZE: usize = 8 * 1024 * 1024;
    const TRIES: usize = 20;
    let layer = WebSocketLayer::new().max_message_size(1_000).close_timeout(Duration::from_secs(60));
    let server = echo(layer).await;
    let proxy = Proxy::start(kind, &server).await;
    let message = Frame::binary(vec![0; SIZE]).masked();
    for number in 0..TRIES {
        let mut stream = proxy.stream().await;
        let end = async {
            stream.write_all(&Vec::from(Request::upgrade())).await?;
            let mut received = BytesMut::new();
            while !received.ends_with(b"\r\n\r\n") {
                read_more(&mut stream, &mut received).await?;
            }
            received.clear();
            stream.write_all(&message).await?;
            stream.flush().await?;
            let close = loop {
                match Frame::take(&mut received) {
                    Some(frame) => break frame,
                    None => read_more(&mut stream, &mut received).await?,
                }
            };
            stream.write_all(&close.masked()).await?;
            stream.flush().await?;
            stream.read_buf(&mut received).await.map(|more| (close.close_code(), more))
        };
        let end = within("the end", end).await.unwrap_or_else(|error| panic!("try {number}: {error}"));
        assert_eq!(end, (Some(1009), 0), "try {number}");
    }
    until("all connections to end", || server.connections.is_empty()).await;
}

/// Reads what comes next, which is not the end.
async fn read_more(stream: &mut TlsStream<TcpStream>, received: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(received).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn without_pings_the_proxy_cuts_what_is_idle_and_both_sides_see_it(kind: Kind) {
    let (report, mut errors) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            report.send(socket.recv().await.and_then(Result::err))?;
            Ok(())
        }
    });
    let server = Axum::start(setup.layer(WebSocketLayer::new().ping_interval(None))).await;
    let proxy = Proxy::start_with(kind, &server, CUT).await;
    let start = Instant::now();
    let mut socket = proxy.open(&Client::new().ping_interval(None)).await;
    let end = within("the client's end", socket.recv()).await.and_then(Result::err);
    println!("{kind:?}: the client's connection is cut after {:?}: {end:?}", start.elapsed());
    assert!(start.elapsed() >= CUT, "{:?}", start.elapsed());
    assert!(end.as_ref().is_some_and(Error::is_disconnected), "{end:?}");
    let end = within("the server's end", errors.recv()).await.expect("the handler reports");
    println!("{kind:?}: the server's: {end:?}");
    assert!(end.as_ref().is_some_and(Error::is_disconnected), "{end:?}");
    until("all connections to end", || server.connections.is_empty()).await;
}

async fn without_pings_the_proxy_cuts_an_idle_connection_and_no_websocket(kind: Kind) {
    let server = echo(WebSocketLayer::new().ping_interval(None)).await;
    let proxy = Proxy::start_with(kind, &server, CUT).await;
    let mut socket = proxy.open(&Client::new().ping_interval(None)).await;
    let mut idle = proxy.stream().await;
    idle.write_all(&Vec::from(Request::new("GET", "/plain"))).await.expect("the proxy reads");
    let start = Instant::now();
    let cut = async { while read_more(&mut idle, &mut BytesMut::new()).await.is_ok() {} };
    within("the end of a connection without a request", cut).await;
    until("some times the limit", || start.elapsed() > 4 * CUT).await;
    exchange(&mut socket, "still here").await;
}

async fn pings_of_either_side_keep_what_is_idle(kind: Kind) {
    let interval = Duration::from_millis(300);
    let (layer, client) = (WebSocketLayer::new(), Client::new());
    for (layer, client) in [
        (layer.clone().ping_interval(interval), client.clone().ping_interval(None)),
        (layer.ping_interval(None), client.ping_interval(interval)),
    ] {
        let server = echo(layer).await;
        let proxy = Proxy::start_with(kind, &server, CUT).await;
        let mut socket = proxy.open(&client).await;
        let start = Instant::now();
        until("some times the time of the cut", || start.elapsed() > 4 * CUT).await;
        exchange(&mut socket, "still here").await;
    }
}

async fn the_origin_is_judged_by_what_the_proxy_says(kind: Kind) {
    let trusting = echo(WebSocketLayer::new().origin(OriginPolicy::same_origin().trust_forwarded())).await;
    let cautious = echo(WebSocketLayer::new()).await;
    let site = "https://example.com";
    for (server, origin, header, accepted) in [
        (&trusting, site, None, true),
        (&trusting, "https://example.org", None, false),
        (&trusting, "http://example.com", None, false),
        // what a client says in these headers does not get past the proxy
        (&trusting, site, Some(("x-forwarded-host", "example.org")), true),
        (&trusting, "https://example.org", Some(("x-forwarded-host", "example.org")), false),
        (&trusting, "http://example.com", Some(("x-forwarded-proto", "http")), false),
        (&trusting, "https://example.com:8443", Some(("x-forwarded-port", "8443")), false),
        (&trusting, site, Some(("x-forwarded-port", "8443")), true),
        (&trusting, "https://example.org", Some(("forwarded", "host=example.org")), false),
        (&trusting, site, Some(("forwarded", "host=example.org")), true),
        // the proxy says https, and nobody listens
        (&cautious, site, None, true),
        (&cautious, "http://example.com", None, true),
        (&cautious, "https://example.org", Some(("x-forwarded-host", "example.org")), false),
    ] {
        let proxy = Proxy::start(kind, server).await;
        let mut client = Client::new().origin(origin);
        if let Some((name, value)) = header {
            client = client.header(name, value);
        }
        let result = proxy.connect(&client).await;
        if accepted {
            let mut socket = result.unwrap_or_else(|error| panic!("{origin}, {header:?}: {error}"));
            exchange(&mut socket, "hello").await;
        } else {
            let error = result.err().unwrap_or_else(|| panic!("{origin}, {header:?}: it was accepted"));
            let refusal = error.refusal().unwrap_or_else(|| panic!("{origin}, {header:?}: {error}"));
            assert_eq!(refusal.status(), 403);
            let body = String::from_utf8_lossy(refusal.body());
            assert!(body.contains(origin), "{body}");
        }
    }
}

async fn a_full_server_says_through_it_when_to_come_back(kind: Kind) {
    let server = echo(WebSocketLayer::new().max_connections(1)).await;
    let proxy = Proxy::start(kind, &server).await;
    let mut socket = proxy.open(&Client::new()).await;
    let error = proxy.connect(&Client::new()).await.expect_err("there is no room");
    let refusal = error.refusal().expect("the answer is the server's");
    assert_eq!(refusal.status(), 503);
    assert!(refusal.retry_after().is_some_and(|time| time > Duration::ZERO), "{refusal:?}");
    assert!(String::from_utf8_lossy(refusal.body()).contains("connections"), "{refusal:?}");
    exchange(&mut socket, "undisturbed").await;
}

async fn a_shutdown_comes_through(kind: Kind) {
    let drain = Drain::new().code(1012).reconnect_within(Duration::from_secs(30));
    let server = Axum::start(Setup::echo().drain(drain)).await;
    let proxy = Proxy::start(kind, &server).await;
    let mut socket = proxy.open(&Client::new()).await;
    exchange(&mut socket, "hello").await;
    let stopped = tokio::spawn(server.stop());
    assert!(within("the end", socket.recv()).await.is_none());
    let closed = within("the end", socket.closed()).await;
    assert_eq!((closed.by, closed.clean, closed.code().into()), (Side::Remote, true, 1012));
    assert!(closed.reason().starts_with("retry-after="), "{closed:?}");
    within("the server to end", stopped).await.expect("it does not panic");
}

/// Makes a test of each function, for a proxy.
macro_rules! for_proxy {
    ($module:ident, $kind:ident, $($case:ident,)*) => {
        mod $module {
            $(#[test] fn $case() { super::runtime::run(super::$case(super::Kind::$kind)); })*
        }
    };
}

/// Makes a test of each function, for each proxy.
macro_rules! for_each_proxy {
    ($($case:ident,)*) => {
        for_proxy! {
            nginx, Nginx,
            $($case,)*
            without_pings_the_proxy_cuts_what_is_idle_and_both_sides_see_it,
            pings_of_either_side_keep_what_is_idle,
        }
        for_proxy! {
            haproxy, Haproxy,
            $($case,)*
            without_pings_the_proxy_cuts_what_is_idle_and_both_sides_see_it,
            pings_of_either_side_keep_what_is_idle,
        }
        for_proxy! {
            haproxy_over_http2, HaproxyOverHttp2,
            $($case,)*
            without_pings_the_proxy_cuts_what_is_idle_and_both_sides_see_it,
            pings_of_either_side_keep_what_is_idle,
        }
        for_proxy! {
            caddy, Caddy,
            $($case,)*
            without_pings_the_proxy_cuts_an_idle_connection_and_no_websocket,
        }
    };
}

for_each_proxy! {
    messages_of_every_size_and_the_subprotocol_come_through,
    close_codes_come_through_both_ways,
    a_client_that_goes_on_sending_sees_in_every_try_that_its_message_is_too_big,
    the_origin_is_judged_by_what_the_proxy_says,
    a_full_server_says_through_it_when_to_come_back,
    a_shutdown_comes_through,
}

#[test]
fn a_caddy_that_speaks_http2_to_the_server_hands_no_upgrade_on() {
    runtime::run(async {
        let server = echo(WebSocketLayer::new()).await;
        let proxy = Proxy::start(Kind::CaddyOverHttp2, &server).await;
        let error = proxy.connect(&Client::new()).await.expect_err("the answer is Caddy's own");
        assert_eq!(error.status().expect("it is an answer"), 502);
        assert_eq!(server.seen.calls(), 0);
    });
}

#[test]
fn an_nginx_that_is_not_told_to_hands_no_upgrade_on() {
    runtime::run(async {
        let server = echo(WebSocketLayer::new()).await;
        let proxy = Proxy::start(Kind::PlainNginx, &server).await;
        let error = proxy.connect(&Client::new()).await.expect_err("the server sees a plain request");
        assert_eq!(error.status().expect("the answer is the server's"), 426);
    });
}

#[test]
fn the_settings_that_the_documentation_shows_are_these() {
    let page = include_str!("../../docs/proxies.md");
    for settings in [NGINX, HAPROXY, CADDY] {
        assert!(page.contains(settings), "docs/proxies.md does not show\n{settings}");
    }
}
