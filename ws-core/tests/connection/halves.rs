//! The halves of a socket in other tasks, and as streams and sinks.

use std::future::poll_fn;
use std::pin::Pin;

use futures_util::{FutureExt as _, Sink, SinkExt, StreamExt as _, stream};
use tokio::time::sleep;
use ws_core::{Error, Message, WebSocket, WebSocketLayer, testing};

use crate::support::{
    Frame, HOUR, SECOND, ask, numbers, open, open_default, received, serve, settle, soon, wire,
};

#[tokio::test(start_paused = true)]
async fn a_receiver_in_another_task_keeps_the_connection_until_it_is_dropped() {
    let (socket, peer) = open(&WebSocketLayer::new().ping_interval(None)).await;
    let (sender, mut receiver) = socket.split();
    sleep(HOUR).await;
    peer.send(&Frame::text("hello"));
    assert_eq!(soon(receiver.recv()).await.unwrap().unwrap().as_text(), Some("hello"));
    drop(receiver);
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_sender_in_another_task_does_not_keep_the_connection() {
    let (peer, sender) = ask(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        socket.send("last words").await.unwrap();
        socket.sender()
    });
    let sender = sender.get().await;
    assert_eq!(peer.next().await, Some(Frame::text("last words")));
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
    assert!(sender.send("too late").await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_error_closes_though_the_receiver_is_in_another_task() {
    let (give, given) = tokio::sync::oneshot::channel();
    let peer = serve(&WebSocketLayer::new(), async move |socket: WebSocket| {
        let _ = give.send(socket);
        Err::<(), _>("a test")
    });
    assert_eq!(peer.next().await.unwrap().close_code(), 1011);
    assert!(received(&mut given.await.unwrap()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_halves_work_in_different_tasks() {
    let (socket, peer) = open_default().await;
    let (sender, mut receiver) = socket.split();
    let receiving = tokio::spawn(async move {
        let mut count = 0;
        while let Some(Ok(_)) = receiver.recv().await {
            count += 1;
        }
        count
    });
    let sending = tokio::spawn(async move {
        for number in 0..500 {
            sender.send(number.to_string()).await.unwrap();
        }
        sender.flush().await.unwrap();
    });
    peer.send_all(&numbers(500));
    soon(sending).await.unwrap();
    peer.send(&Frame::close(1000, ""));
    assert_eq!(soon(receiving).await.unwrap(), 500);
    let mut expected = numbers(500);
    expected.push(Frame::close(1000, ""));
    assert_eq!(peer.rest().await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_forwarded_to_its_sender_is_an_echo() {
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        let (sender, receiver) = socket.split();
        receiver.forward(sender).await
    });
    let mut frames = numbers(100);
    frames.push(Frame::close(1000, ""));
    peer.send_all(&frames);
    assert_eq!(peer.rest().await, frames);
}

#[tokio::test(start_paused = true)]
async fn send_all_waits_for_room_and_flushes() {
    let (mut socket, peer) = open(&WebSocketLayer::new().outbound_buffer(10)).await;
    peer.allow(0);
    let mut messages = stream::iter((0..100).map(|number: usize| Ok(Message::from(number.to_string()))));
    let (sent, ()) = tokio::join!(socket.send_all(&mut messages), async {
        for _ in 0..1000 {
            settle().await;
            peer.allow(1);
        }
    });
    sent.unwrap();
    assert_eq!(peer.seen(), numbers(100));
}

#[tokio::test(start_paused = true)]
async fn closing_the_sink_is_the_whole_closing_handshake() {
    let (mut socket, peer) = open_default().await;
    let (closed, ()) = tokio::join!(SinkExt::close(&mut socket), async {
        assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
        sleep(SECOND).await;
        peer.send(&Frame::close(1000, ""));
    });
    closed.unwrap();
    assert!(soon(socket.next()).await.is_none());
    assert!(matches!(SinkExt::send(&mut socket, Message::from("too late")).await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_the_sink_covers_what_was_sent_since_the_last_one_was_begun() {
    let (socket, peer) = open_default().await;
    let mut sender = socket.sender();
    peer.allow(3);
    sender.feed(Message::from("a")).await.unwrap();
    assert!(SinkExt::flush(&mut sender).now_or_never().is_none());
    sender.feed(Message::from("b")).await.unwrap();
    settle().await;
    assert!(SinkExt::flush(&mut sender).now_or_never().is_none(), "b has not been taken");
    peer.allow_all();
    soon(SinkExt::flush(&mut sender)).await.unwrap();
    assert_eq!(peer.seen(), [Frame::text("a"), Frame::text("b")]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_waited_for_room_is_woken_for_its_flush() {
    let (socket, peer) = open(&WebSocketLayer::new().outbound_buffer(10)).await;
    let (mut sender, mut other) = (socket.sender(), socket.sender());
    peer.allow(0);
    sender.send("0123456789").await.unwrap();
    let flushed = tokio::spawn(async move {
        let mut sink = Pin::new(&mut sender);
        poll_fn(|cx| {
            assert!(sink.as_mut().poll_ready(cx).is_pending());
            sink.as_mut().poll_flush(cx)
        })
        .await
    });
    settle().await;
    // above the limit, behind what is flushed
    Pin::new(&mut other).start_send(Message::from("0123456789")).unwrap();
    peer.allow(12);
    settle().await;
    assert!(flushed.is_finished());
}

#[tokio::test(start_paused = true)]
async fn poll_ready_of_a_closed_sink_is_an_error() {
    let (mut socket, peer) = open_default().await;
    peer.end();
    assert_eq!(received(&mut socket).await.len(), 1);
    let ready = poll_fn(|cx| Pin::new(&mut socket).poll_ready(cx)).now_or_never();
    assert!(matches!(ready, Some(Err(Error::Closed))));
    assert!(Sink::<Message>::start_send(Pin::new(&mut socket), "x".into()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_in_another_task_learns_that_the_driver_was_dropped() {
    let (transport, peer) = wire();
    let (give, given) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(testing::accept(&WebSocketLayer::new(), transport, async |socket: WebSocket| {
        let _ = give.send(socket);
    }));
    let mut socket = given.await.unwrap();
    task.abort();
    assert!(soon(socket.recv()).await.unwrap().unwrap_err().is_disconnected(), "it was no orderly end");
    assert!(soon(socket.recv()).await.is_none());
    assert!(!soon(socket.closed()).await.clean);
    assert!(socket.send("too late").await.is_err());
    assert!(peer.state().dropped);
}
