//! A text that the connection answers and does not deliver.

use futures_util::FutureExt as _;
use ws_core::{Message, WebSocketLayer};

use crate::support::{Frame, SECOND, numbers, open, open_default, received, serve, settle, soon};

fn ping() -> Frame {
    Frame::text("ping")
}

fn pong() -> Frame {
    Frame::text("pong")
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_answered_while_nobody_receives_and_not_delivered() {
    let (mut socket, peer) = open_default().await;
    socket.sender().answer_heartbeat("ping", "pong");
    peer.send_all(&[Frame::text("first"), ping(), Frame::text("ping?"), ping()]);
    assert_eq!((peer.next().await, peer.next().await), (Some(pong()), Some(pong())));
    for text in ["first", "ping?"] {
        assert_eq!(soon(socket.recv()).await.unwrap().unwrap(), Message::from(text));
    }
    assert!(socket.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_a_text_and_may_have_fragments() {
    let (mut socket, peer) = open_default().await;
    socket.sender().answer_heartbeat("ping", "pong");
    peer.send(&Frame::binary("ping"));
    peer.send_all(&[Frame::new(0x01, "pi"), Frame::new(0x80, "ng")]);
    assert_eq!(peer.next().await, Some(pong()), "a text is one however it was sent");
    assert_eq!(soon(socket.recv()).await.unwrap().unwrap(), Message::from(b"ping".to_vec()));
    assert!(socket.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_came_before_are_answered() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&[ping(), Frame::text("between"), ping()]);
    settle().await;
    socket.sender().answer_heartbeat("ping", "pong");
    assert_eq!((peer.next().await, peer.next().await), (Some(pong()), Some(pong())));
    assert_eq!(soon(socket.recv()).await.unwrap().unwrap(), Message::from("between"));
    assert!(socket.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_close_behind_heartbeats_that_came_before_is_answered_at_once() {
    let (socket, peer) = open_default().await;
    peer.send_all(&[ping(), Frame::close(1000, "")]);
    settle().await;
    assert_eq!(peer.seen(), []);
    socket.sender().answer_heartbeat("ping", "pong");
    settle().await;
    assert_eq!(peer.seen(), [pong(), Frame::close(1000, "")]);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_fill_the_inbound_queue_make_room_when_they_are_answered() {
    let (mut socket, peer) = open(&WebSocketLayer::new().inbound_queue(4, 1024)).await;
    peer.send_all(&[ping(), ping(), ping(), ping(), ping(), Frame::text("behind")]);
    settle().await;
    socket.sender().answer_heartbeat("ping", "pong");
    for _ in 0..5 {
        assert_eq!(peer.next().await, Some(pong()));
    }
    assert_eq!(received_one(&mut socket).await, Message::from("behind"));
}

async fn received_one(socket: &mut ws_core::WebSocket) -> Message {
    soon(socket.recv()).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn answers_do_not_pile_up_for_a_peer_that_does_not_read() {
    let layer = WebSocketLayer::new().outbound_buffer(60).send_timeout(None).ping_interval(None);
    let (mut socket, peer) = open(&layer).await;
    socket.sender().answer_heartbeat("ping", "pong");
    peer.allow(0);
    for _ in 0..1000 {
        peer.send(&ping());
    }
    peer.send(&Frame::text("they were read"));
    assert_eq!(received_one(&mut socket).await, Message::from("they were read"));
    peer.allow_all();
    settle().await;
    // of 6 bytes each
    assert_eq!(peer.seen().len(), 10);
    peer.send(&ping());
    assert_eq!(peer.next().await, Some(pong()));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_answered_when_there_is_no_receiver() {
    let peer = serve(&WebSocketLayer::new(), async |socket| {
        let (sender, receiver) = socket.split();
        sender.answer_heartbeat("ping", "pong");
        drop(receiver);
        sender.closed().await;
    });
    peer.send_all(&numbers(100));
    peer.send(&ping());
    assert_eq!(peer.next().await, Some(pong()));
    peer.send(&Frame::close(1000, ""));
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_a_message_for_the_idle_timeout() {
    let (mut socket, peer) = open(&WebSocketLayer::new().idle_timeout(60 * SECOND).ping_interval(None)).await;
    socket.sender().answer_heartbeat("ping", "pong");
    for _ in 0..10 {
        tokio::time::sleep(50 * SECOND).await;
        peer.send(&ping());
        assert_eq!(peer.next().await, Some(pong()));
    }
    assert_eq!(received(&mut socket).await, Vec::<String>::new());
    assert_eq!(peer.next().await.unwrap().close_code(), 1001);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_behind_our_own_close_has_no_answer() {
    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    sender.answer_heartbeat("ping", "pong");
    assert!(sender.close(1000, "").now_or_never().is_none());
    peer.send(&ping());
    peer.send(&Frame::close(1000, ""));
    assert_eq!(peer.rest().await, [Frame::close(1000, "")]);
}
