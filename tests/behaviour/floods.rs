//! HTTP/2 clients that flood a server with frames that cost them little. h2, which hyper uses, ends such a connection, or
//! reads no more of it; the other connections go on.

use std::net::SocketAddr;
use std::time::Duration;

use tower::Layer as _;
use ws_core::WebSocketLayer;
use ws_tests::raw_http2::{ACK, END_HEADERS, END_STREAM, Kind, RawFrame, RawHttp2, code, field, get_head};
use ws_tests::server::{listen, until_binary};
use ws_tests::{Client, Frame, Running, Server, Setup, within};

/// What a GOAWAY says that ends a connection for a flood.
fn calm(reason: &str) -> (u32, String) {
    (code::ENHANCE_YOUR_CALM, reason.to_owned())
}

/// Sends these bytes at once, whether the server reads all of them or ends the connection before, and returns what its GOAWAY
/// says.
async fn answer_to_flood(server: SocketAddr, bytes: Vec<u8>) -> (u32, String) {
    let mut flood = RawHttp2::open(server).await;
    let _ = within("the server to read or to leave", flood.try_write(&bytes)).await;
    flood.goodbye().await
}

/// A WebSocket on another connection goes on.
async fn others_go_on(server: &Running) {
    let mut client = Client::open(server).await;
    client.write(Frame::text("still here")).await;
    assert_eq!(client.frame_but_ping().await, Frame::text("still here"));
}

/// Streams that are opened and reset at once (CVE-2023-44487). 21 of them in a row that no task has taken are one too many.
async fn a_rapid_reset_ends_the_connection<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let flood = (0..1_000).map(|number| 2 * number + 1);
    let bytes = flood.flat_map(|id| [RawFrame::upgrade(id).bytes(), RawFrame::reset(id).bytes()]).flatten();
    let goodbye = answer_to_flood(server.address, bytes.collect()).await;
    assert_eq!(goodbye, calm("too_many_resets"));
    others_go_on(&server).await;
    server.until_open(0).await;
}

/// Streams that are opened, answered and reset, as fast as the answers come: each is a handshake, and ends with its stream.
async fn streams_that_are_reset_again_and_again_leave_nothing<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut flood = RawHttp2::open(server.address).await;
    for stream in (0..1_000).map(|number| 2 * number + 1) {
        flood.send(RawFrame::upgrade(stream)).await;
        assert_eq!(flood.next(Kind::Headers).await.stream, stream);
        flood.send(RawFrame::reset(stream)).await;
    }
    server.until_open(0).await;
    assert_eq!(server.seen.under_way(), 0);
    others_go_on(&server).await;
}

/// 200 at the same time are allowed; and the client that goes on regardless is left.
async fn more_streams_than_allowed_are_refused_and_then_end_the_connection<S: Server>() {
    let server = S::start(Setup::idle()).await;
    let mut flood = RawHttp2::open(server.address).await;
    let mut streams = (0..).map(|number| 2 * number + 1);
    for stream in streams.by_ref().take(200) {
        flood.send(RawFrame::upgrade(stream)).await;
    }
    server.until_open(200).await;
    let stream = streams.next().expect("there are more");
    flood.send(RawFrame::upgrade(stream)).await;
    let reset = flood.next(Kind::ResetStream).await;
    assert_eq!((reset.stream, &reset.payload[..]), (stream, &code::REFUSED_STREAM.to_be_bytes()[..]));
    let bytes: Vec<_> = streams.take(1_100).flat_map(|stream| RawFrame::upgrade(stream).bytes()).collect();
    let _ = within("the server to read or to leave", flood.try_write(&bytes)).await;
    assert_eq!(flood.goodbye().await, calm("too_many_internal_resets"));
    server.until_open(0).await;
}

/// A head that never ends (CVE-2024-27316), of parts that are empty.
async fn a_flood_of_continuations_ends_the_connection<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let begin = RawFrame::new(Kind::Headers, END_STREAM, 1, get_head());
    let part = RawFrame::new(Kind::Continuation, 0, 1, "").bytes();
    let bytes = [begin.bytes(), part.repeat(10_000)].concat();
    assert_eq!(answer_to_flood(server.address, bytes).await, calm("too_many_continuations"));
    others_go_on(&server).await;
}

/// A field of a hundred bytes that the client has in the table of HPACK, and then names a thousand times by a byte each.
async fn a_head_that_is_much_longer_when_it_is_decompressed_ends_the_connection<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut head = get_head();
    // literal with incremental indexing, then the newest entry of the table (RFC 7541 sections 6.2.1 and 6.1)
    let mut indexed = field("x-long", &"x".repeat(100));
    indexed[0] = 0x40;
    head.extend(indexed);
    head.extend([0xbe; 1_000]);
    let bytes = RawFrame::new(Kind::Headers, END_HEADERS | END_STREAM, 1, head).bytes();
    assert_eq!(answer_to_flood(server.address, bytes).await, calm("header_list_way_too_large"));
    others_go_on(&server).await;
}

async fn a_flood_of_empty_data_ends_the_connection<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let data = RawFrame::new(Kind::Data, 0, 1, "").bytes();
    let bytes = [RawFrame::upgrade(1).bytes(), data.repeat(1_000)].concat();
    assert_eq!(answer_to_flood(server.address, bytes).await, calm("too_many_data_frames"));
    others_go_on(&server).await;
    server.until_open(0).await;
}

/// Pieces of a byte each, which take much more memory than their payload while nobody reads them.
async fn a_flood_of_tiny_data_that_nobody_reads_ends_the_connection<S: Server>() {
    let layer = WebSocketLayer::new().ping_interval(Duration::from_millis(500));
    let server = S::start(Setup::until_binary().layer(layer)).await;
    let mut flood = RawHttp2::open(server.address).await;
    let mut sent = 0;
    // a stream has a window of 64 KiB at least
    for stream in (0..40).map(|number| 2 * number + 1) {
        let data = RawFrame::new(Kind::Data, 0, stream, &b"\x82"[..]).bytes();
        let bytes = [RawFrame::upgrade(stream).bytes(), data.repeat(65_535)].concat();
        sent += 1;
        if within("the server to read or to leave", flood.try_write(&bytes)).await.is_err() {
            break;
        }
    }
    assert_eq!(flood.goodbye().await, calm("too_many_data_frames"), "after {sent} streams");
    others_go_on(&server).await;
    // whoever does not read hears of it from the next ping
    server.until_open(0).await;
}

/// Sends 10,000 empty messages, so many in each DATA frame, to a handler that receives none of them.
async fn send_to_a_handler_that_pauses(server: SocketAddr, in_each_frame: usize) -> RawHttp2 {
    let mut client = RawHttp2::open(server).await;
    client.send(RawFrame::upgrade(1)).await;
    client.next(Kind::Headers).await;
    let pause = RawFrame::new(Kind::Data, 0, 1, Frame::binary("").masked());
    let messages = RawFrame::new(Kind::Data, 0, 1, Frame::text("").masked().repeat(in_each_frame));
    let bytes = [pause.bytes(), messages.bytes().repeat(10_000 / in_each_frame)].concat();
    let _ = within("the server to read or to leave", client.try_write(&bytes)).await;
    client
}

/// The connection is open: a PING is answered.
async fn is_open(client: &mut RawHttp2) {
    client.send(RawFrame::new(Kind::Ping, 0, 0, &b"are you?"[..])).await;
    assert_eq!(client.next(Kind::Ping).await.flags, ACK);
}

#[test]
fn with_serve_a_handler_may_pause_while_ten_thousand_small_messages_wait() {
    ws_tests::runtime::run(async {
        let (listener, address) = listen().await;
        let app = WebSocketLayer::new().layer(ws_hyper::service(until_binary));
        tokio::spawn(ws_hyper::serve(listener, app).into_future());
        is_open(&mut send_to_a_handler_that_pauses(address, 1).await).await;
    });
}

#[test]
fn with_axum_ten_thousand_small_messages_that_wait_need_larger_frames_or_windows() {
    ws_tests::runtime::run(async {
        let upgrade = async |upgrade: ws_axum::WebSocketUpgrade| upgrade.on_upgrade(until_binary);
        let app =
            ::axum::Router::new().route("/ws", ::axum::routing::any(upgrade)).layer(WebSocketLayer::new());
        let (listener, address) = listen().await;
        tokio::spawn(::axum::serve(listener, app.clone()).into_future());
        let mut client = send_to_a_handler_that_pauses(address, 1).await;
        assert_eq!(client.goodbye().await, calm("too_many_data_frames"));
        is_open(&mut send_to_a_handler_that_pauses(address, 50).await).await;

        let (listener, address) = listen().await;
        tokio::spawn(ws_hyper::serve(listener, app).into_future());
        is_open(&mut send_to_a_handler_that_pauses(address, 1).await).await;
    });
}

ws_tests::cases! {
    [not http1: "it is about HTTP/2"]
    a_rapid_reset_ends_the_connection,
    streams_that_are_reset_again_and_again_leave_nothing,
    more_streams_than_allowed_are_refused_and_then_end_the_connection,
    a_flood_of_continuations_ends_the_connection,
    a_head_that_is_much_longer_when_it_is_decompressed_ends_the_connection,
    a_flood_of_empty_data_ends_the_connection,
    a_flood_of_tiny_data_that_nobody_reads_ends_the_connection,
}
