//! The judgement of a browser's request, without its HTTP.

use divan::{Bencher, black_box};
use http::Request;
use http::request::Parts;
use ws_core::benchmarking::accepts;
use ws_core::{OriginPolicy, WebSocketLayer};

/// What Chromium sends.
const HEADERS: [(&str, &str); 15] = [
    ("host", "chat.example.com"),
    ("connection", "Upgrade"),
    ("pragma", "no-cache"),
    ("cache-control", "no-cache"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("upgrade", "websocket"),
    ("origin", "https://chat.example.com"),
    ("sec-websocket-version", "13"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("cookie", "session=0f3b1c5a9e7d4f62b8a1; theme=dark; consent=1"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "websocket"),
];

#[divan::bench]
fn any_origin(bencher: Bencher<'_, '_>) {
    check(bencher, &WebSocketLayer::new().origin(OriginPolicy::any()), &request());
}

#[divan::bench]
fn same_origin(bencher: Bencher<'_, '_>) {
    check(bencher, &WebSocketLayer::new(), &request());
}

#[divan::bench]
fn allow_list(bencher: Bencher<'_, '_>) {
    let policy =
        OriginPolicy::allow(["https://example.com", "https://*.example.org", "https://chat.example.com"]);
    check(bencher, &WebSocketLayer::new().origin(policy), &request());
}

#[divan::bench]
fn subprotocols(bencher: Bencher<'_, '_>) {
    let layer = WebSocketLayer::new().protocols(["graphql-transport-ws", "chat.v2", "chat.v1"]);
    let mut request = request();
    let offer = "soap, chat.v1, chat.v2".parse().expect("a header's value");
    request.headers.insert("sec-websocket-protocol", offer);
    check(bencher, &layer, &request);
}

fn check(bencher: Bencher<'_, '_>, layer: &WebSocketLayer, request: &Parts) {
    assert!(accepts(layer, request), "a request that is accepted");
    bencher.bench(|| accepts(layer, black_box(request)));
}

fn request() -> Parts {
    let builder = Request::builder().uri("/rooms/1");
    let builder = HEADERS.iter().fold(builder, |builder, &(name, value)| builder.header(name, value));
    builder.body(()).expect("a request").into_parts().0
}
