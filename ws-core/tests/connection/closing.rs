//! Every way in which a connection ends.

use std::io;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use ws_core::{CloseCode, CloseFrame, Error, Side, WebSocket, WebSocketLayer, testing};

use crate::support::{
    Frame, HOUR, SECOND, ask, echo, numbers, open, open_default, received, serve, settle, soon, wire,
};

#[tokio::test(start_paused = true)]
async fn close_sends_what_is_queued_and_resolves_with_the_peers_answer() {
    let (mut socket, peer) = open_default().await;
    socket.send("last words").await.unwrap();
    let (answer, ()) = tokio::join!(socket.close(4001, "bye"), async {
        assert_eq!(peer.next().await, Some(Frame::text("last words")));
        assert_eq!(peer.next().await, Some(Frame::close(4001, "bye")));
        sleep(3 * SECOND).await;
        peer.send(&Frame::close(4001, "and you"));
    });
    assert_eq!(answer.unwrap(), Some(CloseFrame::new(4001, "and you")));
    assert!(received(&mut socket).await.is_empty());

    peer.end();
    let closed = soon(socket.closed()).await;
    assert_eq!((closed.by, closed.clean), (Side::Local, true));
    assert_eq!(closed.frame, Some(CloseFrame::new(4001, "bye")));
}

#[tokio::test(start_paused = true)]
async fn close_with_sends_the_given_frame() {
    let (mut socket, peer) = open_default().await;
    let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
    assert!(socket.close_with(frame).now_or_never().is_none());
    assert_eq!(peer.next().await, Some(Frame::close(1000, "bye")));

    let (socket, peer) = open_default().await;
    let (sender, _receiver) = socket.split();
    let frame = CloseFrame { code: CloseCode::FORBIDDEN, reason: String::from("members only").into() };
    assert!(sender.close_with(frame).now_or_never().is_none());
    assert_eq!(peer.next().await, Some(Frame::close(3003, "members only")));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_may_not_be_sent_is_an_error_and_the_connection_goes_on() {
    let (mut socket, peer) = open_default().await;
    let frame = CloseFrame { code: CloseCode::TLS_HANDSHAKE, reason: "bye".into() };
    assert!(matches!(socket.close_with(frame).await, Err(Error::InvalidClose(_))));
    socket.send("still here").await.unwrap();
    assert_eq!(peer.next().await, Some(Frame::text("still here")));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_may_not_be_sent_is_an_error_and_the_connection_goes_on() {
    let (mut socket, peer) = open_default().await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        assert!(matches!(socket.close(code, "").await, Err(Error::InvalidClose(_))), "{code}");
    }
    assert!(matches!(socket.close(1000, "x".repeat(124)).await, Err(Error::InvalidClose(_))));
    assert!(!socket.is_closed());
    socket.send("still here").await.unwrap();
    assert_eq!(peer.next().await, Some(Frame::text("still here")));
    assert!(socket.close(1000, "x".repeat(123)).now_or_never().is_none());
    assert_eq!(peer.next().await, Some(Frame::close(1000, &"x".repeat(123))));
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_is_answered_with_its_code() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&[Frame::text("last words"), Frame::close(4002, "tired")]);
    assert_eq!(received(&mut socket).await, ["last words"]);
    assert_eq!(socket.close_frame(), Some(CloseFrame::new(4002, "tired")));
    assert!(socket.is_closed());
    assert!(socket.send("too late").await.unwrap_err().is_closed());
    assert_eq!(socket.close(1000, "").await.unwrap(), Some(CloseFrame::new(4002, "tired")));

    assert_eq!(peer.rest().await, [Frame::close(4002, "tired")]);
    peer.end();
    let closed = soon(socket.closed()).await;
    assert_eq!((closed.by, closed.clean, closed.code()), (Side::Remote, true, CloseCode::from(4002)));
}

#[tokio::test(start_paused = true)]
async fn an_empty_close_is_answered_with_an_empty_one() {
    let (mut socket, peer) = open_default().await;
    peer.send(&Frame::empty_close());
    assert!(received(&mut socket).await.is_empty());
    assert_eq!(peer.rest().await, [Frame::empty_close()]);
    let closed = soon(socket.closed()).await;
    assert_eq!((closed.frame.clone(), closed.code()), (None, CloseCode::NO_STATUS_RECEIVED));
}

/// An echo that waits before each answer.
async fn slow_echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        let message = message?;
        sleep(Duration::from_millis(1)).await;
        socket.send(message).await?;
    }
    Ok(())
}

async fn answers_all<F, Fut>(handler: F)
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let peer = serve(&WebSocketLayer::new(), handler);
    let mut frames = numbers(500);
    frames.push(Frame::close(1000, "done"));
    peer.send_all(&frames);
    assert_eq!(peer.rest().await, frames);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_close_is_answered_before_it() {
    answers_all(echo).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_close_is_answered_before_it_by_a_slow_handler() {
    answers_all(slow_echo).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_receive_delays_the_answer_by_the_close_timeout() {
    let start = Instant::now();
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        sleep(HOUR).await;
        drop(socket);
    });
    peer.send_all(&[Frame::text("unread"), Frame::close(1000, "")]);
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_close_with_nothing_before_it_is_answered_while_the_handler_does_something_else() {
    let start = Instant::now();
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        sleep(HOUR).await;
        drop(socket);
    });
    peer.send(&Frame::close(1000, ""));
    assert_eq!(peer.rest().await, [Frame::close(1000, "")]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_received_in_time_can_be_received_after_the_end() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&numbers(3));
    peer.send(&Frame::close(1000, ""));
    peer.end();
    soon(socket.closed()).await;
    assert_eq!(received(&mut socket).await, ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_close_is_one_error() {
    for broken in [false, true] {
        let (mut socket, peer) = open_default().await;
        peer.send(&Frame::text("last words"));
        peer.end_with(broken.then_some(io::ErrorKind::ConnectionReset));
        assert_eq!(soon(socket.recv()).await.unwrap().unwrap().as_text(), Some("last words"));
        assert!(soon(socket.recv()).await.unwrap().unwrap_err().is_disconnected());
        assert!(soon(socket.recv()).await.is_none());
        assert!(soon(socket.recv()).await.is_none());
        let closed = soon(socket.closed()).await;
        assert_eq!(
            (closed.by, closed.clean, closed.code()),
            (Side::Remote, false, CloseCode::ABNORMAL_CLOSURE)
        );
        assert!(socket.send("too late").await.unwrap_err().is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_read_once() {
    let (mut socket, peer) = open_default().await;
    peer.end();
    assert_eq!(received(&mut socket).await.len(), 1);
    sleep(HOUR).await;
    assert_eq!(peer.state().ends_read, 1);
    assert!(peer.state().dropped);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_is_told_after_the_messages_before_it() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&numbers(2));
    peer.send_bytes(&Frame::text("unmasked").unmasked());
    assert_eq!(received(&mut socket).await, ["0", "1", "error: frame without a mask"]);
    assert_eq!(peer.rest().await, [Frame::close(1002, "frame without a mask")]);
    let closed = soon(socket.closed()).await;
    assert_eq!((closed.by, closed.clean, closed.code()), (Side::Local, false, CloseCode::PROTOCOL_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_our_close_is_left_at_the_close_timeout() {
    let (mut socket, peer) = open_default().await;
    let start = Instant::now();
    // later frames of the peer change nothing
    let flood = async {
        assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
        while !peer.state().dropped {
            peer.send_all(&[Frame::text("talk"), Frame::ping(b"")]);
            sleep(SECOND / 2).await;
        }
    };
    let (answer, ()) = soon(async { tokio::join!(socket.close(1000, ""), flood) }).await;
    assert!(answer.unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(peer.seen(), [], "nothing is sent behind a Close frame");
    let closed = socket.closed().await;
    assert_eq!((closed.by, closed.clean, closed.code()), (Side::Local, false, CloseCode::NORMAL_CLOSURE));
    assert!(socket.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn each_call_that_waits_for_the_closing_handshake_returns_why_it_failed() {
    let (socket, _peer) = open_default().await;
    let sender = socket.sender();
    let (first, second) = tokio::join!(sender.close(1000, ""), sender.close(1000, ""));
    assert!(first.unwrap_err().is_timeout());
    assert!(second.unwrap_err().is_timeout());
    assert!(sender.close(1000, "").await.unwrap_err().is_timeout());

    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    let (first, second, ()) = tokio::join!(sender.close(1000, ""), sender.close(1000, ""), async {
        settle().await;
        peer.end();
    });
    assert!(first.unwrap_err().is_disconnected());
    assert!(second.unwrap_err().is_disconnected());
}

#[tokio::test(start_paused = true)]
async fn both_sides_may_close_at_the_same_moment() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&[Frame::text("unheard"), Frame::close(4002, "theirs")]);
    let answer = soon(socket.close(4001, "ours")).await.unwrap();
    assert_eq!(answer, Some(CloseFrame::new(4002, "theirs")));
    assert_eq!(socket.close_frame(), Some(CloseFrame::new(4001, "ours")));
    assert_eq!(peer.rest().await, [Frame::close(4001, "ours")]);
    assert!(soon(socket.closed()).await.clean);
}

#[tokio::test(start_paused = true)]
async fn a_second_close_waits_for_the_end_of_the_first() {
    let (socket, peer) = open_default().await;
    let (sender, mut receiver) = socket.split();
    let other = sender.clone();
    let (first, second, end, ()) = soon(async {
        tokio::join!(sender.close(4001, ""), other.close(4002, ""), receiver.recv(), async {
            assert_eq!(peer.next().await, Some(Frame::close(4001, "")));
            peer.send(&Frame::close(4001, ""));
        })
    })
    .await;
    assert_eq!(first.unwrap(), Some(CloseFrame::new(4001, "")));
    assert_eq!(second.unwrap(), Some(CloseFrame::new(4001, "")));
    assert!(end.is_none());
    assert_eq!(peer.rest().await, []);
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_the_peers_close_counts() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&[Frame::close(1000, ""), Frame::text("too late"), Frame::ping(b"too late")]);
    peer.send_bytes(&[0xff; 1000]);
    assert!(received(&mut socket).await.is_empty());
    assert_eq!(peer.rest().await, [Frame::close(1000, "")]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_behind_the_close_frame_and_not_before() {
    let (mut socket, peer) = open_default().await;
    socket.send("first").await.unwrap();
    assert!(socket.close(1000, "").now_or_never().is_none());
    settle().await;
    assert_eq!(peer.state().shut_down_at, None, "the peer's Close frame is to come");
    peer.send(&Frame::close(1000, ""));
    settle().await;
    let state = peer.state();
    assert_eq!(state.shut_down_at, Some(state.written()));
    assert!(!state.dropped, "the peer's end of the stream is to come");
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_goes_on_to_send_is_read_for_a_moment_so_that_the_close_arrives() {
    let (socket, peer) = open_default().await;
    let start = Instant::now();
    peer.send(&Frame::close(1000, ""));
    while !peer.state().dropped {
        peer.send_bytes(&[0; 1000]);
        settle().await;
    }
    assert_eq!(start.elapsed().as_secs(), 1);
    let unread = peer.state().taken % 1000;
    assert_eq!(unread, Frame::close(1000, "").masked().len());
    assert!(socket.closed().await.clean);
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_the_server_to_end_the_stream() {
    let (transport, peer) = wire();
    let mut client = testing::client(transport);
    let (answer, ()) = tokio::join!(client.close(1000, ""), async {
        assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
        peer.send_bytes(&Frame::close(1000, "").unmasked());
    });
    answer.unwrap();
    settle().await;
    assert!(!peer.state().dropped);
    assert_eq!(peer.state().shut_down_at, None);
    peer.end();
    settle().await;
    assert!(peer.state().dropped);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_gets_all_that_was_sent_before_the_close() {
    let payload = vec![7; 100_000];
    let peer = serve(&WebSocketLayer::new(), {
        let payload = payload.clone();
        async |mut socket: WebSocket| socket.send(payload).await
    });
    for _ in 0..200 {
        peer.allow(1000);
        sleep(SECOND).await;
    }
    assert_eq!(peer.seen(), [Frame::binary(payload), Frame::close(1000, "")]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_left_at_the_close_timeout() {
    let start = Instant::now();
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| socket.send("never taken").await);
    peer.allow(0);
    peer.dropped().await;
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn garbage_in_place_of_the_peers_close_ends_the_connection() {
    let (mut socket, peer) = open_default().await;
    let (answer, ()) = tokio::join!(socket.close(1000, ""), async {
        assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
        peer.send_bytes(&[0xff; 100]);
    });
    assert!(answer.is_err());
    assert_eq!(peer.rest().await, [], "one Close frame is enough");
    assert!(!soon(socket.closed()).await.clean);
}

#[tokio::test(start_paused = true)]
async fn close_returns_an_error_if_the_stream_ends_in_place_of_the_peers_close() {
    let (mut socket, peer) = open_default().await;
    let (answer, ()) = tokio::join!(socket.close(1000, ""), async {
        peer.next().await.unwrap();
        peer.end();
    });
    assert!(answer.unwrap_err().is_disconnected());
    assert!(socket.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_wait_for_the_end_that_it_began() {
    let (peer, answer) = ask(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        let answer = socket.close(4001, "").await.unwrap();
        (answer, socket.closed().await)
    });
    assert_eq!(peer.next().await, Some(Frame::close(4001, "")));
    peer.send(&Frame::close(4001, ""));
    peer.end();
    let (frame, closed) = answer.get().await;
    assert_eq!(frame, closed.frame);
    assert!(closed.clean);
}

#[tokio::test(start_paused = true)]
async fn a_close_by_another_task_is_timed_though_the_driver_was_about_to_sleep() {
    let (socket, peer) = open(&WebSocketLayer::new().ping_interval(None).send_timeout(None)).await;
    let sender = socket.sender();
    // of the message the transport takes one byte, then it is flushed
    peer.allow(1);
    peer.on_flush({
        let sender = sender.clone();
        move || assert!(sender.close(1000, "").now_or_never().is_none())
    });
    sender.send("hello").await.unwrap();
    soon(sender.closed()).await;
}
