//! Other middleware around a WebSocket, inside and outside of the layer, on axum and hyper: `docs/middleware.md` says
//! what each does to one, and is what these tests show.

use std::net::SocketAddr;
use std::time::Duration;

use ::axum::Router;
use ::axum::routing::any;
use http::StatusCode;
use http::header::HeaderValue;
use tower::ServiceBuilder;
use tower::limit::ConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use ws_axum::{Error, OriginPolicy, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_tests::server::listen;
use ws_tests::trace::Trace;
use ws_tests::{Client, Frame, Request};

/// How long a handshake may take, of a server with a timeout.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Answers every message, and panics when it is asked to.
async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        let message = message?;
        assert_ne!(message.as_text(), Some("panic"), "a handler that panics, as it should");
        socket.send(message).await?;
    }
    Ok(())
}

fn routes() -> Router {
    Router::new().route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
}

async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(::axum::serve(listener, app).into_future());
    address
}

/// Servers with a middleware and a layer, each inside of the other: on axum, and on hyper.
macro_rules! servers {
    ($middleware:expr, $layer:expr) => {{
        let mut addresses = vec![
            serve(routes().layer($middleware).layer($layer)).await,
            serve(routes().layer($layer).layer($middleware)).await,
        ];
        let (listener, address) = listen().await;
        let inside = ServiceBuilder::new().layer($layer).layer($middleware).service(ws_core::service(echo));
        tokio::spawn(ws_hyper::serve(listener, inside).into_future());
        addresses.push(address);
        let (listener, address) = listen().await;
        let outside = ServiceBuilder::new().layer($middleware).layer($layer).service(ws_core::service(echo));
        tokio::spawn(ws_hyper::serve(listener, outside).into_future());
        addresses.push(address);
        addresses
    }};
    ($middleware:expr) => {
        servers!($middleware, WebSocketLayer::new())
    };
}

async fn open(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.handshake(Request::upgrade()).await;
    client
}

async fn echoes_and_closes(mut client: Client) {
    assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
    client.close().await;
}

#[tokio::test]
async fn tracing_tells_of_the_handshake() {
    let trace = Trace::record();
    for address in servers!(TraceLayer::new_for_http()) {
        let client = open(address).await;
        let event = trace.event("status=101");
        assert_eq!(event.target, "tower_http::trace::on_response");
        echoes_and_closes(client).await;
        trace.clear();
    }
}

#[tokio::test]
async fn a_timeout_is_for_the_handshake_only() {
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT);
    // the first ping comes when the timeout is past
    for address in servers!(timeout, WebSocketLayer::new().ping_interval(2 * TIMEOUT)) {
        let mut client = open(address).await;
        let ping = client.frame().await;
        assert!(ping.is_ping(), "{ping:?}");
        client.write(Frame::pong(ping.payload())).await;
        echoes_and_closes(client).await;
    }
    let never = || Router::new().route("/ws", any(std::future::pending::<()>));
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT);
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    for app in [never().layer(timeout).layer(layer.clone()), never().layer(layer.clone()).layer(timeout)] {
        let mut client = Client::connect(serve(app).await).await;
        assert_eq!(client.answer_to(Request::upgrade()).await.status, 408);
        ws_tests::until("the slot to be free", || connections.is_empty()).await;
    }
}

#[tokio::test]
async fn compression_leaves_the_101_and_the_frames_alone() {
    for address in servers!(CompressionLayer::new()) {
        let mut client = Client::connect(address).await;
        let response = client.answer_to(Request::upgrade().with("Accept-Encoding", "gzip")).await;
        assert_eq!((response.status, response.header("content-encoding")), (101, None));
        let frame = Frame::text("compressible ".repeat(1_000));
        assert_eq!(client.echo(frame.clone()).await, frame);
        echoes_and_closes(client).await;
    }
}

#[tokio::test]
async fn cors_neither_breaks_a_websocket_nor_protects_it() {
    let cors = || CorsLayer::new().allow_origin(HeaderValue::from_static("https://app.example.com"));
    let evil = || Request::upgrade().with("Origin", "https://evil.com");
    for address in servers!(cors()) {
        echoes_and_closes(open(address).await).await;
        // which the origin policy of the layer says
        assert_eq!(Client::connect(address).await.answer_to(evil()).await.status, 403);
    }
    for address in servers!(cors(), WebSocketLayer::new().origin(OriginPolicy::any())) {
        let mut client = Client::connect(address).await;
        client.handshake(evil()).await;
        echoes_and_closes(client).await;
    }
}

#[tokio::test]
async fn a_catcher_of_panics_sees_none_of_a_connections_handler() {
    for address in servers!(CatchPanicLayer::new()) {
        let mut client = open(address).await;
        assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
        client.write(Frame::text("panic")).await;
        client.closed_with_answer(1011).await;
        echoes_and_closes(open(address).await).await;
    }
}

#[tokio::test]
async fn a_limit_of_concurrency_counts_handshakes_and_not_connections() {
    for address in servers!(ConcurrencyLimitLayer::new(1)) {
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(open(address).await);
        }
        for client in clients {
            echoes_and_closes(client).await;
        }
    }
}
