//! The HTTP server around: clients that say nothing or dawdle, and a shutdown under many sockets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::hyper::body::Incoming;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::{MissedTickBehavior, interval};
use tower::Layer as _;
use ws_core::{Connections, Drain, Error, WebSocket, WebSocketLayer};
use ws_hyper::Serve;
use ws_tests::http2::Connection;
use ws_tests::raw_http2::{ACK, Kind, RawFrame, RawHttp2, code};
use ws_tests::server::listen;
use ws_tests::{Client, Endpoint, Frame, Request, Server, Setup, until, within};

/// How long clients may take for their headers, of a server of `ws_hyper::serve`.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(300);

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

async fn serve() -> SocketAddr {
    let (listener, address) = listen().await;
    let app = WebSocketLayer::new().layer(ws_hyper::service(echo));
    tokio::spawn(ws_hyper::serve(listener, app).header_read_timeout(TIMEOUT).into_future());
    address
}

/// Sends a byte of these at a time until the server ends the connection, however it does.
async fn dawdle(address: SocketAddr, bytes: Vec<u8>) {
    // before the server can know of the client, whose time it counts
    let begin = Instant::now();
    let mut client = Client::connect(address).await;
    let mut bytes = bytes.into_iter();
    let mut drips = interval(TIMEOUT / 20);
    drips.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = client.until_gone() => break,
            _ = drips.tick() => {
                if let Some(byte) = bytes.next() {
                    let _ = client.try_write([byte]).await;
                }
            }
        }
    }
    assert!(begin.elapsed() >= TIMEOUT, "{:?}", begin.elapsed());
}

#[test]
fn a_thousand_clients_that_dawdle_are_cut_off_and_hold_up_nobody() {
    ws_tests::runtime::allow_many_sockets();
    ws_tests::runtime::run(async {
        let address = serve().await;
        let head = Vec::from(Request::upgrade().with("X-Long", "x".repeat(1_000)));
        let slow = join_all((0..1_000).map(|_| tokio::spawn(dawdle(address, head.clone()))));
        let others = async {
            for _ in 0..20 {
                let mut client = Client::connect(address).await;
                client.handshake(Request::upgrade()).await;
                assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
                client.close().await;
            }
        };
        let (slow, ()) = tokio::join!(slow, others);
        for client in slow {
            client.expect("it was cut off in time");
        }
    });
}

#[test]
fn a_client_that_says_nothing_or_not_enough_of_http_2_is_cut_off() {
    ws_tests::runtime::run(async {
        let address = serve().await;
        // nothing at all, the beginning of what could be either HTTP, and HTTP/2 without a request
        for bytes in [&b""[..], b"PRI", b"PRI * HTTP/2.0\r\n\r\nSM"] {
            dawdle(address, bytes.to_vec()).await;
        }
    });
}

/// Asks for a page, and reads the answer.
async fn ask(connection: &mut RawHttp2, stream: u32) {
    connection.send(RawFrame::get(stream)).await;
    while connection.next(Kind::Headers).await.stream != stream {}
}

#[test]
fn a_connection_without_a_stream_ends_with_goaway_at_the_idle_timeout() {
    ws_tests::runtime::run(async {
        let (listener, address) = listen().await;
        let app = WebSocketLayer::new().layer(ws_hyper::service(echo));
        tokio::spawn(ws_hyper::serve(listener, app).idle_timeout(SHORT).into_future());
        let mut client = RawHttp2::open(address).await;
        for stream in [1, 3] {
            ask(&mut client, stream).await;
        }
        let begin = Instant::now();
        assert_eq!(client.goodbye().await.0, code::NO_ERROR);
        assert!(begin.elapsed() >= SHORT / 2, "{:?}", begin.elapsed());
        // and one that does not answer, so that it cannot be told that no stream of its own was lost
        let mut client = RawHttp2::open(address).await;
        ask(&mut client, 1).await;
        client.until_gone().await;
    });
}

#[test]
fn a_connection_of_http_1_ends_at_the_idle_timeout_between_two_requests() {
    ws_tests::runtime::run(async {
        for header_read_timeout in [Some(Duration::from_secs(60)), None] {
            let (listener, address) = listen().await;
            let app = tower::service_fn(async |_: http::Request<Incoming>| {
                Ok::<_, Infallible>(http::Response::new("a page".to_owned()))
            });
            let server =
                ws_hyper::serve(listener, app).header_read_timeout(header_read_timeout).idle_timeout(SHORT);
            tokio::spawn(server.into_future());
            let mut client = Client::connect(address).await;
            for _ in 0..2 {
                client.request(Request::new("GET", "/")).await;
                assert_eq!(client.response().await.body, "a page");
            }
            client.until_gone().await;
        }
    });
}

#[test]
fn an_open_websocket_is_not_cut_by_the_idle_timeout() {
    ws_tests::runtime::run(async {
        for http2 in [false, true] {
            let (listener, address) = listen().await;
            let app = WebSocketLayer::new().ping_interval(2 * SHORT).layer(ws_hyper::service(echo));
            tokio::spawn(ws_hyper::serve(listener, app).idle_timeout(SHORT).into_future());
            let mut client = Client::open(Endpoint { address, http2 }).await;
            for _ in 0..3 {
                let ping = client.frame().await;
                assert!(ping.is_ping(), "{ping:?}");
                client.write(Frame::pong(ping.payload())).await;
            }
            client.close().await;
        }
    });
}

/// A server whose WebSockets send nothing of themselves, and its layer.
async fn quiet(configure: impl FnOnce(Serve<Quiet>) -> Serve<Quiet>) -> (SocketAddr, Connections) {
    let (listener, address) = listen().await;
    let layer = WebSocketLayer::new().ping_interval(None);
    let connections = layer.connections();
    let app: Quiet = layer.layer(ws_hyper::service(|socket| Box::pin(idle(socket))));
    tokio::spawn(configure(ws_hyper::serve(listener, app)).into_future());
    (address, connections)
}

type Quiet = ws_core::WebSocketService<ws_core::HandlerService<fn(WebSocket) -> BoxFuture<'static, ()>>>;

async fn idle(socket: WebSocket) {
    std::future::pending::<()>().await;
    drop(socket);
}

/// A WebSocket of a raw connection.
async fn open(address: SocketAddr, connections: &Connections) -> RawHttp2 {
    let mut client = RawHttp2::open(address).await;
    client.send(RawFrame::upgrade(1)).await;
    client.next(Kind::Headers).await;
    until("an open WebSocket", || connections.len() == 1).await;
    client
}

#[test]
fn a_client_that_answers_no_ping_of_http_2_is_cut_off_with_its_websockets() {
    ws_tests::runtime::run(async {
        let (address, connections) =
            quiet(|server| server.http2_keep_alive_interval(SHORT).http2_keep_alive_timeout(SHORT)).await;
        let mut client = open(address, &connections).await;
        client.until_gone().await;
        until("no WebSocket", || connections.is_empty()).await;
    });
}

#[test]
fn a_client_that_stops_within_a_frame_is_cut_off() {
    ws_tests::runtime::run(async {
        let (address, connections) =
            quiet(|server| server.http2_keep_alive_interval(SHORT).http2_keep_alive_timeout(SHORT)).await;
        let whole = RawFrame::upgrade(3).bytes();
        for half in [&whole[..5], &whole[..whole.len() / 2]] {
            let mut client = open(address, &connections).await;
            client.write(half).await;
            client.until_gone().await;
            until("no WebSocket", || connections.is_empty()).await;
        }
        // a head of which the rest is missing: nothing else may come before it
        let mut client = open(address, &connections).await;
        client.send(RawFrame { flags: 0, ..RawFrame::upgrade(3) }).await;
        client.until_gone().await;
        until("no WebSocket", || connections.is_empty()).await;
    });
}

#[test]
fn a_client_that_answers_pings_of_http_2_stays() {
    ws_tests::runtime::run(async {
        let (address, connections) = quiet(|server| server.http2_keep_alive_interval(SHORT)).await;
        let mut client = open(address, &connections).await;
        for _ in 0..5 {
            let ping = client.next(Kind::Ping).await;
            client.send(RawFrame { flags: ACK, ..ping }).await;
        }
        assert_eq!(connections.len(), 1);
    });
}

/// What the client floods with has an answer each, which it does not read.
#[test]
fn a_client_that_floods_and_does_not_read_is_held_back_and_then_cut_off() {
    ws_tests::runtime::run(async {
        let (address, connections) = quiet(|server| {
            server.http2_keep_alive_interval(SHORT).http2_keep_alive_timeout(SHORT).idle_timeout(SHORT)
        })
        .await;
        for flood in [RawFrame::new(Kind::Ping, 0, 0, vec![0; 8]), RawFrame::new(Kind::Settings, 0, 0, "")] {
            let mut client = open(address, &connections).await;
            let frames = flood.bytes().repeat(10_000);
            while within("the server to read or to leave", client.try_write(&frames)).await.is_ok() {}
            until("no WebSocket", || connections.is_empty()).await;
        }
    });
}

#[test]
#[should_panic(expected = "set a smaller http2_stream_window, or fewer http2_max_concurrent_streams")]
fn windows_that_are_larger_together_than_http_2_has_are_refused_when_they_are_set() {
    ws_tests::runtime::run(async {
        let (listener, _) = listen().await;
        let _ =
            ws_hyper::serve(listener, ()).http2_max_concurrent_streams(1_000).http2_stream_window(4 << 20);
    });
}

#[test]
fn the_windows_and_streams_of_http_2_are_those_that_are_set() {
    ws_tests::runtime::run(async {
        let app = || WebSocketLayer::new().layer(ws_hyper::service(echo));
        let (listener, by_default) = listen().await;
        tokio::spawn(ws_hyper::serve(listener, app()).into_future());
        let (listener, set) = listen().await;
        let server = ws_hyper::serve(listener, app());
        tokio::spawn(server.http2_max_concurrent_streams(10).http2_stream_window(100_000).into_future());
        for (address, streams, window) in [(by_default, 200, 64 * 1024), (set, 10, 100_000)] {
            let mut client = RawHttp2::open(address).await;
            // RFC 9113 section 6.5.2, and RFC 8441 section 3
            let [max_streams, initial_window, connect_protocol] = [3, 4, 8].map(|it| client.setting(it));
            assert_eq!((max_streams, initial_window), (Some(streams), Some(window)));
            assert_eq!(connect_protocol, Some(1));
            let update = client.next(Kind::WindowUpdate).await;
            let more = u32::from_be_bytes(update.payload[..].try_into().expect("four bytes"));
            assert_eq!((update.stream, 65_535 + more), (0, streams * window));
        }
    });
}

async fn a_shutdown_tells_five_hundred_sockets_and_ends_when_they_have<S: Server>() {
    const COUNT: usize = 500;
    ws_tests::runtime::allow_many_sockets();
    let deadline = Duration::from_secs(15);
    let server = S::start(Setup::echo().drain(Drain::new().timeout(deadline))).await;
    let mut clients = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        clients.push(Client::open(&server).await);
    }
    server.until_open(COUNT).await;
    let connections = server.connections.clone();
    let start = Instant::now();
    tokio::join!(server.stop(), async {
        join_all(clients.iter_mut().map(|client| client.closed_with_answer(1001))).await;
    });
    assert!(connections.is_empty() && start.elapsed() < deadline, "{:?}", start.elapsed());
}

async fn a_shutdown_tells_all_streams_of_a_connection<S: Server>() {
    const COUNT: usize = 100;
    let server = S::start(Setup::echo()).await;
    let connection = Connection::open(server.address).await;
    let mut clients = Client::open_all_on(&connection, COUNT).await;
    server.until_open(COUNT).await;
    tokio::join!(server.stop(), async {
        join_all(clients.iter_mut().map(|client| client.closed_with_answer(1001))).await;
    });
}

ws_tests::cases! {
    a_shutdown_tells_five_hundred_sockets_and_ends_when_they_have,

    [not http1: "it is about HTTP/2"]
    a_shutdown_tells_all_streams_of_a_connection,
}
