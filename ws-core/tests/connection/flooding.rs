//! A peer that always has one more frame to read does not put off a deadline.
//!
//! The task of the connection never sleeps, so the paused clock does not move by itself: these tests move it.

use futures_util::FutureExt as _;
use tokio::task::yield_now;
use tokio::time::{Instant, advance};
use ws_core::{Error, Timeout, WebSocketLayer};

use crate::support::{Frame, Peer, SECOND, echo, open, serve};

/// Longer than every deadline here.
const PATIENCE: u64 = 20;

/// Moves the clock second by second until the driver drops the transport. Returns after how many seconds that was.
async fn lifetime(peer: &Peer) -> u64 {
    // the driver's deadlines count from when it first runs
    run_for_a_while().await;
    let start = Instant::now();
    while !peer.state().dropped {
        let lived = start.elapsed().as_secs();
        assert!(lived < PATIENCE, "the connection still lives after {lived} s");
        advance(SECOND).await;
        run_for_a_while().await;
    }
    start.elapsed().as_secs()
}

/// Lets the other tasks run: each yield is as long as the runtime takes to look at its timers.
async fn run_for_a_while() {
    for _ in 0..2 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_and_does_not_answer_our_close_is_cut_at_the_close_timeout() {
    for frame in [Frame::binary([1; 1000]), Frame::pong(&[1; 125]), Frame::new(0x02, [1; 1000])] {
        let (mut socket, peer) = open(&WebSocketLayer::new().close_timeout(3 * SECOND)).await;
        peer.flood(&frame);
        assert!(socket.close(1000, "").now_or_never().is_none());
        assert_eq!(lifetime(&peer).await, 3, "{frame:?}");
        assert_eq!(peer.seen(), [Frame::close(1000, "")]);
        assert!(!socket.closed().await.clean);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_behind_its_error_is_cut_at_the_close_timeout() {
    let peer = serve(&WebSocketLayer::new().close_timeout(3 * SECOND), echo);
    peer.send_bytes(&Frame::text("not masked").unmasked());
    peer.flood(&Frame::binary([1; 1000]));
    assert_eq!(lifetime(&peer).await, 3);
    assert_eq!(peer.next().await.unwrap().close_code(), 1002);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_and_takes_nothing_is_cut_at_the_send_timeout() {
    let (mut socket, peer) = open(&WebSocketLayer::new().send_timeout(3 * SECOND)).await;
    peer.allow(0);
    socket.send("never taken").await.unwrap();
    peer.flood(&Frame::pong(&[1; 125]));
    assert_eq!(lifetime(&peer).await, 3);
    let error = socket.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout(Timeout::Send)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pongs_does_not_reset_the_idle_timeout() {
    let layer = WebSocketLayer::new().idle_timeout(3 * SECOND).close_timeout(3 * SECOND);
    let (_socket, peer) = open(&layer).await;
    peer.flood(&Frame::pong(&[1; 125]));
    assert_eq!(lifetime(&peer).await, 6, "the idle timeout, then the close timeout");
    assert_eq!(peer.next().await, Some(Frame::close(1001, "idle timeout")));
}

/// Any byte is a sign of life: keepalive does not ping a peer that floods, and does not wait for pongs.
#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_is_not_cut_by_keepalive() {
    let layer = WebSocketLayer::new().ping_interval(SECOND).pong_timeout(SECOND);
    let (socket, peer) = open(&layer).await;
    peer.flood(&Frame::pong(&[1; 125]));
    for _ in 0..6 {
        advance(SECOND).await;
        run_for_a_while().await;
    }
    assert!(!socket.is_closed());
    assert_eq!(peer.seen(), []);
}
