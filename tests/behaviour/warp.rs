//! Where warp differs, as the crate's documentation says: what the other adapters' cases have in its place.

use std::time::Duration;

use ::warp::Filter as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Empty;
use tower::ServiceExt as _;
use ws_core::WebSocketLayer;
use ws_tests::adapters::Warp;
use ws_tests::request::{HOST, KEY};
use ws_tests::server::listen;
use ws_tests::{Answer, Client, Request, Server, Setup, until};
use ws_warp::{WebSocketUpgrade, websocket};

#[tokio::test]
async fn a_refused_handshake_runs_the_route_and_opens_nothing() {
    let server = Warp::start(Setup::echo()).await;
    let evil = Request::upgrade().with("Origin", "https://evil.com");
    assert_eq!(Client::refusal(&server, evil).await.status, 403);
    assert_eq!((server.seen.calls(), server.seen.failed(), server.connections.len()), (1, 0, 0));
}

#[tokio::test]
async fn what_is_no_upgrade_is_not_found() {
    let server = Warp::start(Setup::echo()).await;
    assert_eq!(Client::ask(&server, Request::new("GET", "/ws")).await.status, 404);
    assert_eq!(server.seen.calls(), 0);
}

#[tokio::test]
async fn a_target_that_names_another_host_is_refused_with_400() {
    let server = Warp::start(Setup::echo()).await;
    for origin in [None, Some("https://example.com"), Some("https://evil.com")] {
        for (target, host) in [("http://example.com/ws", "evil.com"), ("http://evil.com/ws", "example.com")] {
            let request = Request::upgrade().path(target).lines("Host", &[host]);
            let request = origin.map_or(request.clone(), |origin| request.with("Origin", origin));
            let response = Client::refusal(&server, request).await;
            assert_eq!(response.status, 400, "{target}, {host}, {origin:?}");
            assert!(response.body.contains("the target of the request names another host"), "{response:?}");
        }
    }
}

#[tokio::test]
async fn a_route_that_does_not_answer_is_not_cut_off() {
    let timeout = Duration::from_millis(100);
    let layer = WebSocketLayer::new().handshake_timeout(timeout);
    // the upgrade under way fails at the timeout, and the route goes on
    let server = Warp::start(Setup::echo().layer(layer).answer(Answer::Withhold)).await;
    let mut client = Client::to(&server).await;
    client.request(Request::upgrade()).await;
    until("the upgrade to fail", || server.seen.failed() == 1).await;
    assert!(server.seen.take_failed()[0].is_timeout());
    assert_eq!(server.seen.under_way(), 1);
    drop(client);
    until("the route to be dropped", || server.seen.under_way() == 0).await;
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_408() {
    let timeout = Duration::from_millis(100);
    let route = websocket(WebSocketLayer::new().handshake_timeout(timeout)).then(
        move |upgrade: WebSocketUpgrade| async move {
            tokio::time::sleep(2 * timeout).await;
            upgrade.on_upgrade(async |socket| drop(socket))
        },
    );
    let (listener, address) = listen().await;
    let server: BoxFuture<'static, ()> = Box::pin(::warp::serve(route.boxed()).incoming(listener).run());
    tokio::spawn(server);
    let mut client = Client::connect(address).await;
    assert_eq!(client.answer_to(Request::upgrade()).await.status, 408);
    client.end().await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_upgraded_counts_as_http_1_0() {
    // as a service that runs on no HTTP server: nothing has promised an upgrade, and a filter sees no version
    let route = websocket(WebSocketLayer::new())
        .map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |socket| drop(socket)));
    let request = http::Request::get("/")
        .header("Host", HOST)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    let response = ::warp::service(route).oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 505);
}
