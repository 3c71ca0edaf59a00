//! The filter on a server that offers WebSockets over HTTP/2, as `ws_hyper::serve` does.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::handshake;
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::duplex;
use warp::Filter;
use ws_warp::{WebSocketLayer, WebSocketUpgrade, websocket};

/// The answer to a handshake for `https://example.com` that comes from a page of `origin`.
async fn answer(origin: &'static str) -> Response<Incoming> {
    answer_for("https://example.com/", None, origin).await
}

/// The answer to a handshake for this target, which is without `:authority` if it is a path.
async fn answer_for(
    target: &'static str,
    host: Option<&'static str>,
    origin: &'static str,
) -> Response<Incoming> {
    let app =
        websocket(WebSocketLayer::new()).map(|upgrade: WebSocketUpgrade| upgrade.on_upgrade(async |_| ()));
    let (client, server) = duplex(64 * 1024);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.enable_connect_protocol();
    let service = TowerToHyperService::new(warp::service(app));
    tokio::spawn(builder.serve_connection(TokioIo::new(server), service));

    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(client)).await.expect("a connection");
    tokio::spawn(connection);
    // the server's settings, without which there is no `:protocol`, come before its first answer
    let request = Request::get("https://example.com/").body(Empty::<Bytes>::new()).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::NOT_FOUND);

    let mut request = Request::connect(target)
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("origin", origin)
        .body(Empty::new())
        .expect("a request");
    if let Some(host) = host {
        request.headers_mut().insert("host", HeaderValue::from_static(host));
    }
    sender.send_request(request).await.expect("an answer")
}

#[tokio::test]
async fn the_origin_is_compared_with_the_authority() {
    assert_eq!(answer("https://example.com").await.status(), StatusCode::OK);
    assert_eq!(answer("https://example.org").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn authority_or_host_names_the_host_and_both_name_the_same() {
    let url = "https://example.com/";
    for (target, host, status) in [
        (url, None, StatusCode::OK),
        (url, Some("example.com"), StatusCode::OK),
        (url, Some("EXAMPLE.com"), StatusCode::OK),
        ("/", Some("example.com"), StatusCode::OK),
        (url, Some("evil.com"), StatusCode::BAD_REQUEST),
        (url, Some("a@b"), StatusCode::BAD_REQUEST),
        ("https://a@example.com/", None, StatusCode::BAD_REQUEST),
        ("/", Some("a@b"), StatusCode::BAD_REQUEST),
        ("/", None, StatusCode::BAD_REQUEST),
    ] {
        let answer = answer_for(target, host, "https://example.com").await;
        assert_eq!(answer.status(), status, "{target} {host:?}");
    }
}
