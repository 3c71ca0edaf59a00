//! Settings of one route: they change its connections alone, and the layer counts and drains these with all the others.

use std::time::Duration;

use ws_core::{Drain, WebSocketLayer};
use ws_tests::{Answer, Client, Frame, Request, Server, Setup};

/// What the layer allows, in these tests.
const LAYERS: usize = 1_000;
/// What the route allows: more than the default of a frame, which has to follow.
const ROUTES: usize = 2 << 20;

/// Checks that a message of this many bytes, in one frame, comes back, and that a byte more is refused with 1009.
async fn takes_at_most<S: Server>(setup: Setup, size: usize) {
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    let largest = Frame::binary(vec![7; size]);
    assert!(client.echo(largest.clone()).await == largest);
    // only its header, as the rest is not read
    client.write(&Frame::binary(vec![7; size + 1]).masked()[..14]).await;
    client.closed_with(1009).await;
    server.until_open(0).await;
}

async fn a_route_can_take_larger_messages_than_the_layer<S: Server>() {
    let layer = WebSocketLayer::new().max_message_size(LAYERS);
    takes_at_most::<S>(Setup::echo().layer(layer.clone()), LAYERS).await;
    takes_at_most::<S>(Setup::echo().layer(layer).answer(Answer::UpgradeUpTo(ROUTES)), ROUTES).await;
}

async fn a_route_can_take_smaller_messages_than_the_layer<S: Server>() {
    let layer = WebSocketLayer::new().max_message_size(ROUTES);
    takes_at_most::<S>(Setup::echo().layer(layer).answer(Answer::UpgradeUpTo(LAYERS)), LAYERS).await;
}

async fn the_limit_of_a_frame_stays_where_it_was_set<S: Server>() {
    let layer = WebSocketLayer::new().max_frame_size(LAYERS);
    takes_at_most::<S>(Setup::echo().layer(layer).answer(Answer::UpgradeUpTo(ROUTES)), LAYERS).await;
}

async fn a_route_can_have_a_timeout_that_the_layer_has_not<S: Server>() {
    let server =
        S::start(Setup::echo().answer(Answer::UpgradeUnlessIdleFor(Duration::from_millis(300)))).await;
    let mut client = Client::open(&server).await;
    client.closed_with_answer(1001).await;
    server.until_open(0).await;
}

async fn a_route_with_limits_of_its_own_is_counted_and_drained_with_the_layers<S: Server>() {
    let layer = WebSocketLayer::new().max_message_size(LAYERS).max_connections(1);
    counted_and_drained::<S>(Setup::echo().layer(layer).answer(Answer::UpgradeUpTo(ROUTES))).await;
}

/// Checks that a server with one slot opens one connection, which takes long messages, and drains it.
async fn counted_and_drained<S: Server>(setup: Setup) {
    let layer = setup.outer.clone().or_else(|| setup.layer.clone()).expect("a layer");
    let connections = layer.connections();
    let server = S::start(setup).await;
    for _ in 0..2 {
        let mut client = Client::open(&server).await;
        assert_eq!(connections.len(), 1);
        assert_eq!(Client::refusal(&server, Request::upgrade()).await.status, 503);
        let long = Frame::binary(vec![7; ROUTES]);
        assert!(client.echo(long.clone()).await == long);
        client.close().await;
        server.until_open(0).await;
    }
    let mut client = Client::open(&server).await;
    let (drained, ()) = tokio::join!(connections.drain(Drain::new()), client.closed_with_answer(1001));
    assert_eq!((drained.closed, drained.aborted, drained.remaining), (1, 0, 0));
}

async fn a_clone_of_the_layer_around_one_of_its_routes_takes_no_slot_of_its_own<S: Server>() {
    let layer = WebSocketLayer::new().max_message_size(LAYERS).max_connections(1);
    counted_and_drained::<S>(Setup::echo().layer(layer.clone().max_message_size(ROUTES)).outer(layer)).await;
}

async fn a_clone_of_the_layer_refuses_what_the_layer_around_it_accepts<S: Server>() {
    let layer = WebSocketLayer::new().max_connections(1);
    let setup = Setup::echo().layer(layer.clone().protocols(["a"]).require_protocol()).outer(layer);
    let server = S::start(setup).await;
    for _ in 0..2 {
        assert_eq!(Client::refusal(&server, Request::upgrade()).await.status, 400);
        server.until_open(0).await;
    }
    Client::open_with(&server, Request::upgrade().with("Sec-WebSocket-Protocol", "a")).await.close().await;
}

ws_tests::cases! {
    a_route_can_take_larger_messages_than_the_layer,
    a_route_can_take_smaller_messages_than_the_layer,
    the_limit_of_a_frame_stays_where_it_was_set,
    a_route_can_have_a_timeout_that_the_layer_has_not,
    a_route_with_limits_of_its_own_is_counted_and_drained_with_the_layers,

    [not warp: "warp's own server has no middleware, and a filter is the innermost of it all"]
    a_clone_of_the_layer_around_one_of_its_routes_takes_no_slot_of_its_own,
    a_clone_of_the_layer_refuses_what_the_layer_around_it_accepts,
}
