//! `Duration::MAX` for every time that can be set is a time that never comes: nothing panics, and connections are opened,
//! used, closed and drained as ever.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ::hyper::body::Incoming;
use http_body::Body;
use tokio::net::TcpListener;
use tower::{Layer as _, Service};
use ws_core::client::{Backoff, Client as WebSocketClient, ReconnectState};
use ws_core::{CloseCode, Drain, WebSocket, WebSocketLayer};
use ws_hub::Hub;
use ws_hyper::Serve;
use ws_tests::server::listen;
use ws_tests::{BoxError, Client, Endpoint, Frame, Server, Setup, within};

const ENDLESS: Duration = Duration::MAX;

/// A knob, and what sets it.
type Knob<T> = (&'static str, fn(T) -> T);

const LAYER: [Knob<WebSocketLayer>; 7] = [
    ("handshake_timeout", |layer| layer.handshake_timeout(ENDLESS)),
    ("ping_interval", |layer| layer.ping_interval(ENDLESS)),
    ("pong_timeout", |layer| layer.pong_timeout(ENDLESS)),
    ("close_timeout", |layer| layer.close_timeout(ENDLESS)),
    ("idle_timeout", |layer| layer.idle_timeout(ENDLESS)),
    ("message_timeout", |layer| layer.message_timeout(ENDLESS)),
    ("send_timeout", |layer| layer.send_timeout(ENDLESS)),
];

const DRAIN: [Knob<Drain>; 3] = [
    ("timeout", |drain| drain.timeout(ENDLESS)),
    ("batches", |drain| drain.batches(1_000, ENDLESS)),
    ("reconnect_within", |drain| drain.reconnect_within(ENDLESS)),
];

const CLIENT: [Knob<WebSocketClient>; 7] = [
    ("connect_timeout", |client| client.connect_timeout(ENDLESS)),
    ("ping_interval", |client| client.ping_interval(ENDLESS)),
    ("pong_timeout", |client| client.pong_timeout(ENDLESS)),
    ("close_timeout", |client| client.close_timeout(ENDLESS)),
    ("idle_timeout", |client| client.idle_timeout(ENDLESS)),
    ("message_timeout", |client| client.message_timeout(ENDLESS)),
    ("send_timeout", |client| client.send_timeout(ENDLESS)),
];

const BACKOFF: [Knob<Backoff>; 3] = [
    ("base", |backoff| backoff.base(ENDLESS)),
    ("max", |backoff| backoff.max(ENDLESS)),
    ("reset_after", |backoff| backoff.reset_after(ENDLESS)),
];

/// Each knob alone, then all of them.
fn settings<T>(new: fn() -> T, knobs: &'static [Knob<T>]) -> impl Iterator<Item = (&'static str, T)> {
    let each = knobs.iter().map(move |(name, set)| (*name, set(new())));
    each.chain(std::iter::once_with(move || ("all", knobs.iter().fold(new(), |all, (_, set)| set(all)))))
}

/// Opens connections, uses and closes one, and shuts the server down with the other.
async fn serves_and_drains<S: Server>(name: &str, layer: WebSocketLayer, drain: Drain) {
    let server = S::start(Setup::echo().layer(layer).drain(drain)).await;
    let (mut client, mut drained) = (Client::open(&server).await, Client::open(&server).await);
    for client in [&mut client, &mut drained] {
        assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"), "{name}");
    }
    client.close().await;
    let connections = server.connections.clone();
    tokio::join!(server.stop(), drained.closed_with_answer(1001));
    assert!(connections.is_empty(), "{name}");
}

async fn every_time_of_a_layer_may_be_endless<S: Server>() {
    for (name, layer) in settings(WebSocketLayer::new, &LAYER) {
        serves_and_drains::<S>(name, layer, Drain::new()).await;
    }
}

async fn every_time_of_a_drain_may_be_endless<S: Server>() {
    for (name, drain) in settings(Drain::new, &DRAIN) {
        serves_and_drains::<S>(name, WebSocketLayer::new(), drain).await;
    }
}

async fn a_client_may_have_any_endless_time<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let url = format!("ws://{}/ws", server.address);
    for (name, client) in settings(WebSocketClient::new, &CLIENT) {
        let mut socket = within(name, client.connect(&url)).await.expect("a connection");
        socket.send("hi").await.expect("it is open");
        let message = within(name, socket.recv()).await.expect("an answer").expect("no error");
        assert_eq!(message.as_text(), Some("hi"), "{name}");
        within(name, socket.close(1000, "")).await.expect("an orderly close");
    }
}

async fn a_client_that_reconnects_may_have_any_endless_time<S: Server>() {
    let setup = Setup::new(|mut socket: WebSocket| async move {
        socket.send("hi").await?;
        // the client may close first
        let _ = socket.close(CloseCode::SERVICE_RESTART, "").await;
        Ok(())
    });
    let server = S::start(setup).await;
    let url = format!("ws://{}/ws", server.address);
    for (name, client) in settings(WebSocketClient::new, &CLIENT) {
        for (knob, backoff) in settings(Backoff::new, &BACKOFF) {
            let reconnect = client.reconnecting(&url).backoff(backoff);
            let mut socket = reconnect.start();
            let mut states = socket.states();
            assert_eq!(within(name, socket.recv()).await.expect("a message").as_text(), Some("hi"));
            within(format_args!("the end of a connection, {name}, {knob}"), async {
                while !matches!(states.changed().await, Some(ReconnectState::Waiting { .. })) {}
            })
            .await;
            within(name, socket.close(1000, "")).await.expect("a code that may be sent");
        }
    }
}

/// A time of `ws_hyper::serve`, and what sets it.
type ServerTime<S> = (&'static str, fn(Serve<S>, Option<Duration>) -> Serve<S>);

fn server_times<S>() -> [ServerTime<S>; 4] {
    [
        ("header_read_timeout", |server, time| server.header_read_timeout(time)),
        ("idle_timeout", |server, time| server.idle_timeout(time)),
        ("http2_keep_alive_interval", |server, time| server.http2_keep_alive_interval(time)),
        ("http2_keep_alive_timeout", |server, time| server.http2_keep_alive_timeout(time)),
    ]
}

#[test]
fn every_time_of_a_server_may_be_endless() {
    async fn serves<S, B>(app: S, name: &str, server: impl FnOnce(Serve<S>) -> Serve<S>)
    where
        S: Service<http::Request<Incoming>, Response = http::Response<B>, Error = Infallible>,
        S: Service<http::Request<Incoming>, Future: Send> + Clone + Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let (listener, address) = listen().await;
        let server = tokio::spawn(server(ws_hyper::serve(listener, app)).into_future());
        for http2 in [false, true] {
            let mut client = Client::open(Endpoint { address, http2 }).await;
            assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"), "{name}");
            client.close().await;
        }
        assert!(!server.is_finished(), "{name}");
        server.abort();
    }

    ws_tests::runtime::run(async {
        let app = WebSocketLayer::new().layer(ws_hyper::service(async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await {
                socket.send(message?).await?;
            }
            Ok::<_, ws_hyper::Error>(())
        }));
        for time in [Some(ENDLESS), None] {
            for (name, set) in server_times() {
                serves(app.clone(), name, |server| set(server, time)).await;
            }
            let all = |server| server_times().into_iter().fold(server, |server, (_, set)| set(server, time));
            serves(app.clone(), "all", all).await;
        }
    });
}

#[test]
fn no_time_of_a_server_may_be_zero() {
    ws_tests::runtime::run(async {
        for (name, set) in server_times() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
            let server = ws_hyper::serve(listener, ());
            let result = catch_unwind(AssertUnwindSafe(|| set(server, Some(Duration::ZERO))));
            let message = result.err().and_then(|panic| panic.downcast::<String>().ok());
            let message = message.unwrap_or_else(|| panic!("{name} of zero is taken"));
            assert!(message.starts_with(&format!("{name} is zero")) && message.contains("use"), "{message}");
        }
    });
}

#[test]
fn a_hub_may_be_drained_with_any_endless_time() {
    ws_tests::runtime::run(async {
        for (name, drain) in settings(Drain::new, &DRAIN) {
            let hub = Hub::<u64>::new();
            let attaching = hub.clone();
            let layer = WebSocketLayer::new();
            let mut client =
                ws_core::testing::connect_with(&layer, async move |socket| attaching.attach(1, socket).await);
            within(name, async {
                while hub.stats().connections == 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let (drained, ()) = tokio::join!(within(name, hub.drain(drain)), async {
                assert!(within(name, client.recv()).await.is_none());
            });
            assert_eq!((drained.closed, drained.remaining), (1, 0), "{name}");
        }
    });
}

ws_tests::cases! {
    every_time_of_a_layer_may_be_endless,
    every_time_of_a_drain_may_be_endless,

    [not http2: "the client of ws-core speaks HTTP/1.1"]
    a_client_may_have_any_endless_time,
    a_client_that_reconnects_may_have_any_endless_time,
}
