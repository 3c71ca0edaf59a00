//! Timeouts: when each one fires, and what resets it.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};
use ws_core::{CloseCode, Error, Side, Timeout, WebSocket, WebSocketLayer};

use crate::support::{Frame, HOUR, Peer, SECOND, numbers, open, open_default, received, serve, settle, soon};

/// After how many seconds the driver drops the transport.
async fn lifetime(peer: &Peer) -> u64 {
    let start = Instant::now();
    peer.dropped().await;
    start.elapsed().as_secs()
}

/// After how many seconds a silent peer is given up by default: a ping after 20 s ± 10 %, then a deadline of 20 s.
const GIVEN_UP: std::ops::RangeInclusive<u64> = 38..=42;

/// A layer without keepalive.
fn without_pings() -> WebSocketLayer {
    WebSocketLayer::new().ping_interval(None)
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let (mut socket, peer) = open_default().await;
    let start = Instant::now();
    assert!(peer.next().await.unwrap().is_ping());
    let pinged = start.elapsed();
    assert!((18 * SECOND..=22 * SECOND).contains(&pinged), "{pinged:?}");

    let error = soon(socket.recv()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout(Timeout::Keepalive)), "{error}");
    assert_eq!(start.elapsed().as_secs(), (pinged + 20 * SECOND).as_secs());
    assert!(socket.recv().await.is_none());
    assert_eq!(peer.rest().await.last().unwrap().close_code(), 1011);
    let closed = socket.closed().await;
    assert_eq!((closed.by, closed.clean, closed.code()), (Side::Local, false, CloseCode::INTERNAL_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_lives() {
    let (mut socket, peer) = open_default().await;
    let start = Instant::now();
    while start.elapsed() < HOUR {
        let ping = peer.next().await.expect("the connection lives");
        sleep(19 * SECOND).await;
        peer.send(&Frame::pong(&ping.payload));
    }
    assert!(socket.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn any_inbound_byte_is_a_sign_of_life() {
    let (socket, peer) = open(&WebSocketLayer::new().message_timeout(None)).await;
    for byte in Frame::text("x".repeat(100)).masked() {
        peer.send_bytes(&[byte]);
        sleep(37 * SECOND).await;
    }
    assert!(!socket.is_closed());
}

#[tokio::test(start_paused = true)]
async fn sending_is_no_sign_that_the_peer_lives() {
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        while socket.send("talk").await.is_ok() {
            sleep(SECOND).await;
        }
    });
    let lived = lifetime(&peer).await;
    assert!(GIVEN_UP.contains(&lived), "{lived}");
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_handlers_do_not_postpone_the_deadline() {
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        while !socket.is_closed() {
            let _ = timeout(SECOND, socket.ping()).await;
            sleep(9 * SECOND).await;
        }
    });
    let lived = lifetime(&peer).await;
    assert!(lived <= *GIVEN_UP.end(), "{lived}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_though_the_handler_never_reads() {
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        pending::<()>().await;
        drop(socket);
    });
    let lived = lifetime(&peer).await;
    assert!(GIVEN_UP.contains(&lived), "{lived}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up_at_the_send_timeout() {
    let (mut socket, peer) = open_default().await;
    peer.allow(0);
    let start = Instant::now();
    socket.send("never taken").await.unwrap();
    let error = soon(socket.recv()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout(Timeout::Send)), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(peer.state().dropped);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up_by_keepalive_if_that_is_first() {
    let (mut socket, peer) = open(&WebSocketLayer::new().send_timeout(None)).await;
    peer.allow(0);
    socket.send("never taken").await.unwrap();
    let lived = lifetime(&peer).await;
    assert!(GIVEN_UP.contains(&lived), "{lived}");
    let error = socket.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout(Timeout::Keepalive)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_but_steady_reader_lives_while_a_ping_waits_behind_a_large_message() {
    let (mut socket, peer) = open_default().await;
    peer.allow(1);
    socket.send(vec![0; 100_000]).await.unwrap();
    for _ in 0..100 {
        peer.allow(1000);
        sleep(19 * SECOND).await;
    }
    assert!(!socket.is_closed());
    peer.allow_all();
    assert_eq!(peer.next().await.unwrap().payload.len(), 100_000);
    // the pong timeout of this ping begins here
    assert!(peer.next().await.unwrap().is_ping());
    assert_eq!(lifetime(&peer).await, 20);
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_not_given_up_for_silence_while_reading_is_paused() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&numbers(100));
    // half a message: its timeout does not fire while reading is paused either
    peer.send_bytes(&Frame::text("end").masked()[..7]);
    sleep(3 * HOUR).await;
    assert!(!socket.is_closed());
    for number in 0..100 {
        let message = soon(socket.recv()).await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some(&*number.to_string()));
    }
    settle().await;
    peer.send_bytes(&Frame::text("end").masked()[7..]);
    assert_eq!(soon(socket.recv()).await.unwrap().unwrap().as_text(), Some("end"));

    // silent from here on
    let lived = lifetime(&peer).await;
    assert!(GIVEN_UP.contains(&lived), "{lived}");
}

/// Pongs are not read then, but the kernel notices from these pings that the peer is gone.
#[tokio::test(start_paused = true)]
async fn pings_go_on_at_their_interval_while_reading_is_paused() {
    // also half a message, whose timeout passes and delays no ping
    let (socket, peer) = open(&WebSocketLayer::new().message_timeout(7 * SECOND)).await;
    peer.send_all(&numbers(100));
    peer.send_bytes(&Frame::text("end").masked()[..7]);
    sleep(660 * SECOND).await;
    assert!(!socket.is_closed());
    let pings = peer.seen().iter().filter(|frame| frame.is_ping()).count();
    assert!(
        (30..=36).contains(&pings),
        "{pings} in 11 minutes, with one after 18 to 22 s and a deadline of 20 s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_has_a_minute_from_its_first_byte() {
    let (mut socket, peer) = open_default().await;
    peer.send(&Frame::text("whole"));
    sleep(10 * SECOND).await;
    let start = Instant::now();
    let drip = async {
        for byte in Frame::text("x".repeat(1000)).masked() {
            peer.send_bytes(&[byte]);
            sleep(SECOND).await;
        }
    };
    tokio::select! {
        () = drip => panic!("it was let in"),
        frame = peer.next_but_pings() => assert_eq!(frame.unwrap().close_code(), 1008),
        texts = received(&mut socket) => assert_eq!(texts.len(), 2, "{texts:?}"),
    }
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn fragments_without_end_are_over_at_the_message_timeout() {
    let (mut socket, peer) = open_default().await;
    let start = Instant::now();
    peer.send(&Frame::new(0x01, "a"));
    while !socket.is_closed() {
        peer.send(&Frame::new(0x00, "a"));
        sleep(SECOND).await;
    }
    assert_eq!(received(&mut socket).await, ["error: a message was not complete in time"]);
    let lived = start.elapsed().as_secs();
    assert!((60..=62).contains(&lived), "{lived}");

    // the peer goes on sending, and does not answer the Close frame
    while !peer.state().dropped {
        peer.send(&Frame::new(0x00, "a"));
        sleep(SECOND).await;
    }
    let lived = start.elapsed().as_secs();
    assert!((65..=67).contains(&lived), "{lived}");
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_is_reset_by_messages_only() {
    let (mut socket, peer) = open(&WebSocketLayer::new().idle_timeout(100 * SECOND)).await;
    for _ in 0..3 {
        for _ in 0..9 {
            sleep(10 * SECOND).await;
            peer.send(&Frame::ping(b""));
        }
        peer.send(&Frame::text("in"));
        for _ in 0..9 {
            sleep(10 * SECOND).await;
            peer.send(&Frame::ping(b""));
        }
        socket.send("out").await.unwrap();
    }
    let start = Instant::now();
    while !socket.is_closed() {
        peer.send(&Frame::ping(b""));
        sleep(SECOND).await;
    }
    let lived = start.elapsed().as_secs();
    assert!((100..=101).contains(&lived), "{lived}");
    settle().await;
    let closes: Vec<_> = peer.seen().into_iter().filter(Frame::is_close).collect();
    assert_eq!(closes, [Frame::close(1001, "idle timeout")]);
}

#[tokio::test(start_paused = true)]
async fn timers_that_are_off_never_fire() {
    let layer = without_pings().send_timeout(None).message_timeout(None).idle_timeout(None);
    let (mut socket, peer) = open(&layer).await;
    peer.allow(0);
    socket.send("never taken").await.unwrap();
    peer.send(&Frame::new(0x01, "never complete"));
    sleep(1000 * HOUR).await;
    assert!(!socket.is_closed());
    peer.allow_all();
    settle().await;
    assert_eq!(peer.seen(), [Frame::text("never taken")]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_pong_timeout_never_fires() {
    let (socket, peer) = open(&WebSocketLayer::new().pong_timeout(Duration::MAX)).await;
    sleep(HOUR).await;
    assert!(!socket.is_closed());
    assert_eq!(peer.seen().len(), 1, "one ping at a time");
}

#[tokio::test(start_paused = true)]
async fn the_longest_close_timeout_never_fires() {
    let layer = WebSocketLayer::new().close_timeout(Duration::MAX).idle_timeout(HOUR);
    let (mut socket, peer) = open(&layer).await;
    assert!(socket.close(1000, "").now_or_never().is_none());
    sleep(3 * HOUR).await;
    assert_eq!(peer.seen(), [Frame::close(1000, "")], "nothing is sent behind a Close frame");
    peer.send(&Frame::close(1000, ""));
    assert!(soon(socket.closed()).await.clean);
}

#[tokio::test(start_paused = true)]
async fn timeouts_of_the_longest_duration_never_fire() {
    let layer = WebSocketLayer::new()
        .ping_interval(Duration::MAX)
        .pong_timeout(Duration::MAX)
        .close_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .message_timeout(Duration::MAX)
        .send_timeout(Duration::MAX);
    let (mut socket, peer) = open(&layer).await;
    peer.allow(0);
    socket.send("never taken").await.unwrap();
    peer.send(&Frame::new(0x01, "never complete"));
    assert!(socket.ping().now_or_never().is_none());
    sleep(1000 * HOUR).await;
    assert!(!socket.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_spends_the_budget_of_its_task_does_not_lose_the_timer() {
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        for _ in 0..200 {
            tokio::task::consume_budget().await;
        }
        pending::<()>().await;
        drop(socket);
    });
    let lived = lifetime(&peer).await;
    assert!(GIVEN_UP.contains(&lived), "{lived}");
}
