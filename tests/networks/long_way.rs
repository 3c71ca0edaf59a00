//! Ways through the network that are long, lose packets, or carry little at a time.

use std::time::{Duration, Instant};

use ws_tests::{Path, Server};

use crate::conversation::{converse, talker};
use crate::network::Network;

const LARGEST: usize = 300_000;

async fn a_conversation_comes_through_a_delay_of_200_milliseconds_and_a_loss_of_5_percent<S: Server>() {
    let server = S::start(talker(LARGEST)).await;
    let delay = Duration::from_millis(200);
    let start = Instant::now();
    converse(Path::default().delay(delay).loss(5).to(server.address).await, LARGEST).await;
    // the handshakes and the Closes alone
    assert!(start.elapsed() >= 2 * 6 * delay, "{:?}", start.elapsed());
    server.until_open(0).await;
}

async fn a_conversation_comes_through_one_byte_at_a_time<S: Server>() {
    let server = S::start(talker(1_000)).await;
    converse(Path::default().bytewise().to(server.address).await, 1_000).await;
    server.until_open(0).await;
}

#[expect(clippy::unused_async, reason = "it is a case like the others")]
async fn a_conversation_comes_through_packets_of_500_bytes<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    network.limit_packets(500);
    let server = network.serve::<S>(talker(LARGEST));
    network.client(converse(server.address(), LARGEST));
}

ws_tests::cases! {
    on ws_tests::runtime::run:
    [not http2: "the client speaks HTTP/1.1"]
    a_conversation_comes_through_a_delay_of_200_milliseconds_and_a_loss_of_5_percent,
    a_conversation_comes_through_one_byte_at_a_time,
    a_conversation_comes_through_packets_of_500_bytes,
}
