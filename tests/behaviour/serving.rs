//! The HTTP server around: clients that say nothing or dawdle, and a shutdown under many sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tower::Layer as _;
use ws_core::{Drain, WebSocketLayer};
use ws_tests::http2::Connection;
use ws_tests::{Client, Frame, Request, Server, Setup};

/// How long clients may take for their headers, of a server of `ws_hyper::serve`.
const TIMEOUT: Duration = Duration::from_secs(1);

async fn serve() -> SocketAddr {
    ws_tests::runtime::allow_many_sockets();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let app = WebSocketLayer::new().layer(ws_hyper::service(async |mut socket: ws_hyper::WebSocket| {
        while let Some(message) = socket.recv().await {
            socket.send(message?).await?;
        }
        Ok::<_, ws_hyper::Error>(())
    }));
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

#[test]
#[should_panic(expected = "header_read_timeout is zero")]
fn a_header_read_timeout_of_zero_is_refused_when_it_is_set() {
    ws_tests::runtime::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let app = ws_hyper::service(async |_: ws_hyper::WebSocket| {});
        let _ = ws_hyper::serve(listener, app).header_read_timeout(Duration::ZERO);
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
    let mut clients: Vec<_> = (0..COUNT).map(|_| Client::on(&connection)).collect();
    join_all(clients.iter_mut().map(|client| client.handshake(Request::upgrade()))).await;
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
