//! Which answer of a service opens the connection of a handshake, and what becomes of the handshake with any other.

use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use ws_core::WebSocketLayer;
use ws_tests::request::ACCEPT;
use ws_tests::{Answer, Client, Frame, Request, Server, Setup, until};

/// A head with this status and these headers, and nothing else.
fn head(status: StatusCode, headers: HeaderMap) -> Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head.headers = headers;
    head
}

async fn a_response_that_is_made_anew_from_status_and_headers_opens_the_connection<S: Server>() {
    for answer in [Answer::Upgrade, Answer::IntoParts] {
        let layer = WebSocketLayer::new().protocols(["a"]);
        let made_anew = |parts: Parts| head(parts.status, parts.headers);
        let server = S::start(Setup::echo().layer(layer).answer(answer).changing_responses(made_anew)).await;
        let mut client = Client::to(&server).await;
        let response = client.answer_to(Request::upgrade().with("Sec-WebSocket-Protocol", "a")).await;
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (S::OPENED, Some("a")));
        assert_eq!(response.header("sec-websocket-accept"), (!server.http2).then_some(ACCEPT));
        assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
        client.close().await;
        server.until_open(0).await;
        assert_eq!(server.seen.failed(), 0);
    }
}

/// Checks that a response which this makes of an upgrade's opens nothing, and reaches the client with this status.
async fn opens_nothing<S: Server>(status: u16, change: fn(Parts) -> Parts) {
    let setup = Setup::idle();
    let layer = WebSocketLayer::new().max_connections(1);
    let server = S::start(setup.layer(layer).changing_responses(change)).await;
    for attempt in 1..=2 {
        let mut client = Client::to(&server).await;
        assert_eq!(client.answer_to(Request::upgrade()).await.status, status);
        until("the upgrade to fail", || server.seen.failed() == attempt).await;
        server.until_open(0).await;
    }
}

async fn the_headers_of_a_response_with_another_status_open_nothing<S: Server>() {
    for (status, change) in [
        (403, (|parts| head(StatusCode::FORBIDDEN, parts.headers)) as fn(Parts) -> Parts),
        (204, |parts| head(StatusCode::NO_CONTENT, parts.headers)),
    ] {
        opens_nothing::<S>(status, change).await;
    }
}

async fn an_ordinary_page_in_place_of_the_response_opens_nothing<S: Server>() {
    opens_nothing::<S>(200, |_| head(StatusCode::OK, HeaderMap::new())).await;
}

async fn the_accept_of_another_handshake_opens_nothing<S: Server>() {
    opens_nothing::<S>(S::OPENED, |mut parts| {
        parts.headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAAAAAAA="));
        head(parts.status, parts.headers)
    })
    .await;
}

async fn a_101_that_is_made_by_hand_for_a_handshake_that_nobody_has_taken_opens_nothing<S: Server>() {
    let by_hand = |_| {
        let headers = [(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_ACCEPT, ACCEPT)];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        head(StatusCode::SWITCHING_PROTOCOLS, headers.into_iter().collect())
    };
    let layer = WebSocketLayer::new().max_connections(1);
    let server = S::start(Setup::echo().layer(layer).changing_responses(by_hand)).await;
    for _ in 0..2 {
        let mut client = Client::to(&server).await;
        client.handshake(Request::upgrade().path("/nowhere")).await;
        client.end().await;
        server.until_open(0).await;
    }
}

async fn another_answer_of_the_service_goes_out_as_it_is<S: Server>() {
    for answer in [Answer::Unauthorized, Answer::Replace] {
        let mut layer = WebSocketLayer::new().max_connections(1);
        if !S::SEES_RESPONSES {
            // at which a handshake ends whose response was replaced
            layer = layer.handshake_timeout(Duration::from_millis(100));
        }
        let server = S::start(Setup::echo().layer(layer).answer(answer)).await;
        let mut client = Client::to(&server).await;
        let closes = !server.http2 && S::SEES_RESPONSES;
        for attempt in 1..=3 {
            let response = client.answer_to(Request::upgrade()).await;
            assert_eq!((response.status, response.body.as_str()), (401, "who are you?"));
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            assert_eq!(response.header("connection"), closes.then_some("close"));
            if closes {
                client.end().await;
                client = Client::to(&server).await;
            }
            // of the one slot there is
            server.until_open(0).await;
            if answer == Answer::Replace {
                until("the upgrade to fail", || server.seen.failed() == attempt).await;
            }
        }
    }
}

async fn a_route_that_does_not_upgrade_answers_an_upgrade_as_any_request<S: Server>() {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().max_connections(1))).await;
    for (path, status) in [("/plain", 200), ("/nowhere", 404), ("/plain", 200)] {
        assert_eq!(Client::ask(&server, Request::upgrade().path(path)).await.status, status, "{path}");
        server.until_open(0).await;
    }
}

async fn what_is_pipelined_behind_any_answer_but_101_is_never_processed<S: Server>() {
    for (answer, path, status) in [
        (Answer::Unauthorized, "/ws", 401),
        (Answer::Upgrade, "/plain", 200),
        (Answer::Upgrade, "/nowhere", 404),
    ] {
        let server = S::start(Setup::echo().answer(answer)).await;
        let second = Vec::from(Request::new("GET", "/plain"));
        let third = Vec::from(Request::upgrade());
        let request = Request::upgrade().path(path).followed_by(second).followed_by(third);
        let mut client = Client::to(&server).await;
        let response = client.answer_to(request).await;
        assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{path}");
        client.end().await;
        assert_eq!(server.seen.calls(), usize::from(path != "/nowhere"), "{path}");
    }
}

ws_tests::cases! {
    a_response_that_is_made_anew_from_status_and_headers_opens_the_connection,
    another_answer_of_the_service_goes_out_as_it_is,
    a_route_that_does_not_upgrade_answers_an_upgrade_as_any_request,

    [not warp: "a filter does not see the response, so the layer knows none but that of the HTTP server"]
    the_headers_of_a_response_with_another_status_open_nothing,
    an_ordinary_page_in_place_of_the_response_opens_nothing,
    the_accept_of_another_handshake_opens_nothing,

    [not http2: "HTTP/2 has no 101", not warp: "what the filter does not see is no handshake"]
    a_101_that_is_made_by_hand_for_a_handshake_that_nobody_has_taken_opens_nothing,

    [not http2: "it is about the bytes behind a head", not warp: "a filter does not see the response, to add a header to it"]
    what_is_pipelined_behind_any_answer_but_101_is_never_processed,
}
