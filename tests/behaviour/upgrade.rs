//! The ways to a WebSocket without a framework: each of them opens one, and refuses what has to be refused.

use std::convert::Infallible;
use std::sync::Arc;

use ::hyper::body::Incoming;
use ::hyper::server::conn::http1;
use ::hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tower::Layer as _;
use ws_hyper::{Body, Error, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_tests::server::listen;
use ws_tests::{Client, Frame, Request};

/// Serves with hyper's own server of HTTP/1.1; checks that a WebSocket opens there and that a stranger is refused.
async fn opens_and_refuses<S, B>(service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>, Error = Infallible, Future: Send>,
    S: Send + Sync + 'static,
    B: http_body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let (listener, address) = listen().await;
    let service = Arc::new(service);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), Arc::clone(&service));
            tokio::spawn(connection.with_upgrades());
        }
    });
    let mut client = Client::connect(address).await;
    client.handshake(Request::upgrade()).await;
    assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
    client.close().await;

    let mut client = Client::connect(address).await;
    let response = client.answer_to(Request::upgrade().with("Origin", "https://evil.com")).await;
    assert_eq!((response.status, response.header("connection")), (403, Some("close")));
    client.end().await;
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_layers_service_is_hypers_too() {
    let inner = service_fn(async |request: http::Request<Incoming>| {
        let (mut parts, _) = request.into_parts();
        Ok::<_, Infallible>(match WebSocketUpgrade::from_parts(&mut parts) {
            Ok(upgrade) => upgrade.on_upgrade(echo),
            Err(rejection) => rejection.into_response(parts.version),
        })
    });
    opens_and_refuses(WebSocketLayer::new().layer(inner)).await;
}

#[tokio::test]
async fn a_request_in_hand_is_upgraded_without_a_stack() {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    opens_and_refuses(service_fn(move |mut request: http::Request<Incoming>| {
        let response = match ws_hyper::upgrade(&mut request, &layer) {
            Ok(upgrade) => upgrade.on_upgrade(echo),
            Err(rejection) => rejection.into_response(request.version()),
        };
        async { Ok(response) }
    }))
    .await;
    ws_tests::until("the connection to end", || connections.is_empty()).await;
}

#[tokio::test]
async fn a_socket_can_be_had_without_a_handler() {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    opens_and_refuses(service_fn(move |mut request: http::Request<Incoming>| {
        let response: http::Response<Body> = match ws_hyper::upgrade(&mut request, &layer) {
            Ok(upgrade) => {
                let (response, socket) = upgrade.into_parts();
                tokio::spawn(async { echo(socket.await?).await });
                response
            }
            Err(rejection) => rejection.into_response(request.version()),
        };
        async { Ok(response) }
    }))
    .await;
    ws_tests::until("the connection to end", || connections.is_empty()).await;
}
