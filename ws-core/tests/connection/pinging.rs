//! `ping`, and the pongs that answer it.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::sleep;
use ws_core::WebSocketLayer;

use crate::support::{Frame, SECOND, open, open_default, settle, soon};

#[tokio::test(start_paused = true)]
async fn a_ping_returns_the_round_trip_time() {
    let (mut socket, peer) = open_default().await;
    let (round_trip, ()) = tokio::join!(socket.ping(), async {
        let ping = peer.next().await.unwrap();
        sleep(3 * SECOND).await;
        peer.send(&Frame::pong(&ping.payload));
    });
    assert_eq!(round_trip.unwrap(), 3 * SECOND);
    assert_eq!(socket.latency(), Some(3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_pong_to_the_newest_answers_the_pings_before_it() {
    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    let later = async {
        sleep(SECOND).await;
        sender.ping().await
    };
    let (first, second, ()) = tokio::join!(sender.ping(), later, async {
        peer.next().await.unwrap();
        let newest = peer.next().await.unwrap();
        sleep(SECOND).await;
        peer.send(&Frame::pong(&newest.payload));
    });
    assert_eq!((first.unwrap(), second.unwrap()), (2 * SECOND, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_pong_to_a_ping_that_nobody_awaits_any_more_answers_those_before_it() {
    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    let first = tokio::spawn({
        let sender = sender.clone();
        async move { sender.ping().await }
    });
    peer.next().await.unwrap();
    assert!(sender.ping().now_or_never().is_none());
    let newest = peer.next().await.unwrap();
    sleep(SECOND).await;
    peer.send(&Frame::pong(&newest.payload));
    assert_eq!(soon(first).await.unwrap().unwrap(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn unsolicited_pongs_are_ignored() {
    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    let (round_trip, ()) = tokio::join!(sender.ping(), async {
        let ping = peer.next().await.unwrap();
        for payload in [&b""[..], b"hello", &[0xff; 8], &[0xff; 125]] {
            peer.send(&Frame::pong(payload));
        }
        sleep(2 * SECOND).await;
        peer.send(&Frame::pong(&ping.payload));
    });
    assert_eq!(round_trip.unwrap(), 2 * SECOND);
    assert_eq!(peer.seen(), [], "a pong has no answer");
}

#[tokio::test(start_paused = true)]
async fn a_ping_fails_when_the_connection_is_closed_before_and_after_it_was_sent() {
    let (mut socket, peer) = open_default().await;
    let (pong, ()) = tokio::join!(socket.ping(), async {
        peer.next().await.unwrap();
        peer.send(&Frame::close(1000, ""));
    });
    assert!(pong.unwrap_err().is_closed());
    assert!(socket.ping().await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn keepalive_measures_the_latency() {
    let (socket, peer) = open(&WebSocketLayer::new().ping_interval(SECOND)).await;
    assert_eq!(socket.latency(), None);
    let ping = peer.next().await.unwrap();
    sleep(Duration::from_millis(70)).await;
    peer.send(&Frame::pong(&ping.payload));
    settle().await;
    assert_eq!(socket.latency(), Some(Duration::from_millis(70)));
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_not_held_up_by_a_full_outbound_buffer() {
    let (mut socket, peer) = open(&WebSocketLayer::new().outbound_buffer(1)).await;
    peer.allow(0);
    socket.send("full").await.unwrap();
    assert!(socket.send("waits").now_or_never().is_none());
    let (pong, ()) = tokio::join!(socket.ping(), async {
        peer.allow_all();
        assert_eq!(peer.next().await, Some(Frame::text("full")));
        let ping = peer.next().await.unwrap();
        peer.send(&Frame::pong(&ping.payload));
    });
    pong.unwrap();
}
