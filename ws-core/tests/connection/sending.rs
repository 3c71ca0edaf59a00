//! `send` and similar methods: when messages leave, and when senders wait.

use std::future::{Future as _, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, Sink as _};
use tokio::time::{Instant, sleep, timeout};
use ws_core::{
    ConnectionId, Message, Observer, PreparedMessage, TrySendError, WebSocket, WebSocketLayer, testing,
};

use crate::support::{Frame, HOUR, SECOND, numbers, open, open_default, serve, settle, soon};

/// A layer whose `send` waits above 100 bytes.
fn narrow() -> WebSocketLayer {
    WebSocketLayer::new().outbound_buffer(100)
}

/// A text that is longer than the limit.
fn wide(letter: &str) -> Message {
    Message::from(letter.repeat(200))
}

#[tokio::test(start_paused = true)]
async fn ten_sends_of_one_turn_leave_in_one_write() {
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        for number in 0..10 {
            socket.send(number.to_string()).await.unwrap();
        }
        pending::<()>().await;
    });
    settle().await;
    assert_eq!(peer.seen(), numbers(10));
    assert_eq!(peer.state().writes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_send_leaves_before_the_handler_has_slept() {
    let start = Instant::now();
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        socket.send("now").await.unwrap();
        sleep(HOUR).await;
    });
    assert_eq!(peer.next().await, Some(Frame::text("now")));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_large_payload_leaves_by_one_vectored_write() {
    let (mut socket, peer) = open_default().await;
    let payload = vec![7; 1 << 20];
    socket.send(payload.clone()).await.unwrap();
    assert_eq!(peer.next().await, Some(Frame::binary(payload)));
    let state = peer.state();
    assert_eq!((state.writes, state.vectored_writes), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_send_waits_above_the_limit_and_goes_on_when_the_peer_reads() {
    let (mut socket, peer) = open(&narrow()).await;
    peer.allow(0);
    socket.send(wide("a")).await.unwrap();
    assert!(timeout(SECOND, socket.send("b")).await.is_err());

    let (sent, ()) = tokio::join!(socket.send("c"), async {
        sleep(SECOND).await;
        peer.allow_all();
    });
    sent.unwrap();
    settle().await;
    assert_eq!(peer.seen(), [Frame::text("a".repeat(200)), Frame::text("c")]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_send_has_queued_nothing() {
    let (mut socket, peer) = open(&narrow()).await;
    peer.allow(0);
    socket.send(wide("a")).await.unwrap();
    for _ in 0..100 {
        assert!(socket.send("cancelled").now_or_never().is_none());
    }
    peer.allow_all();
    settle().await;
    assert_eq!(peer.seen(), [Frame::text("a".repeat(200))]);
}

#[tokio::test(start_paused = true)]
async fn try_send_gives_the_message_back_when_full_and_when_closed() {
    let (mut socket, peer) = open(&narrow()).await;
    peer.allow(0);
    socket.try_send(wide("a")).unwrap();
    let error = socket.try_send("b").unwrap_err();
    assert!(matches!(error, TrySendError::Full(_)));
    assert_eq!(error.into_message(), Message::from("b"));

    peer.allow_all();
    settle().await;
    socket.try_send("c").unwrap();

    assert!(socket.close(1000, "").now_or_never().is_none());
    let error = socket.try_send("d").unwrap_err();
    assert!(matches!(error, TrySendError::Closed(_)));
    assert_eq!(error.into_message(), Message::from("d"));
}

#[tokio::test]
async fn a_prepared_message_arrives_on_each_connection_in_its_place() {
    for message in [Message::from(""), Message::from("grüße"), Message::from(vec![7; 1 << 20])] {
        let prepared = PreparedMessage::new(message.clone());
        for _ in 0..3 {
            let (mut server, mut client) = testing::pair();
            let handler = tokio::spawn({
                let prepared = prepared.clone();
                async move {
                    server.send("before").await.unwrap();
                    server.send_prepared(&prepared).await.unwrap();
                    server.send("between").await.unwrap();
                    server.send_prepared(&prepared).await.unwrap();
                    server.send("behind").await.unwrap();
                    server.recv().await.unwrap().unwrap()
                }
            });
            for expected in
                ["before".into(), message.clone(), "between".into(), message.clone(), "behind".into()]
            {
                assert!(client.recv().await.unwrap().unwrap() == expected);
            }
            // the client's role, which masks
            client.send_prepared(&prepared).await.unwrap();
            assert!(handler.await.unwrap() == message);
        }
        assert!(*prepared.message() == message);
    }
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn a_prepared_message_arrives_whether_compressed_or_not() {
    use ws_core::Compression;

    let layers = [
        WebSocketLayer::new(),
        WebSocketLayer::new().compression(Compression::new()),
        WebSocketLayer::new().compression(Compression::new().level(9)),
        WebSocketLayer::new().compression(Compression::new().threshold(usize::MAX)),
    ];
    let message = Message::from("grüße ".repeat(10_000));
    let prepared = PreparedMessage::new(message.clone());
    for layer in layers.iter().chain(&layers) {
        let mut client = testing::connect_with(layer, {
            let prepared = prepared.clone();
            async move |mut socket: WebSocket| {
                socket.send_prepared(&prepared).await?;
                let echo = socket.recv().await.unwrap()?;
                socket.send(echo).await
            }
        });
        assert!(client.recv().await.unwrap().unwrap() == message);
        client.send_prepared(&prepared).await.unwrap();
        assert!(client.recv().await.unwrap().unwrap() == message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepared_message_waits_for_room_and_if_cancelled_has_queued_nothing() {
    let (mut socket, peer) = open(&narrow()).await;
    peer.allow(0);
    let prepared = PreparedMessage::from(wide("a"));
    socket.send_prepared(&prepared).await.unwrap();
    for _ in 0..100 {
        assert!(socket.send_prepared(&prepared).now_or_never().is_none());
    }
    let (sent, ()) = tokio::join!(socket.send_prepared(&prepared), async {
        sleep(SECOND).await;
        peer.allow_all();
    });
    sent.unwrap();
    settle().await;
    assert_eq!(peer.seen(), [Frame::text("a".repeat(200)), Frame::text("a".repeat(200))]);
}

#[tokio::test(start_paused = true)]
async fn try_send_prepared_gives_the_message_back_when_full_and_when_closed() {
    let (mut socket, peer) = open(&narrow()).await;
    peer.allow(0);
    let prepared = PreparedMessage::from(wide("a"));
    socket.try_send_prepared(&prepared).unwrap();
    let error = socket.try_send_prepared(&prepared).unwrap_err();
    assert!(matches!(error, TrySendError::Full(_)));
    let message = error.into_message();
    assert_eq!(message.as_bytes().as_ptr(), prepared.message().as_bytes().as_ptr(), "not a copy");
    assert_eq!(message, wide("a"));

    peer.allow_all();
    settle().await;
    assert!(socket.close(1000, "").now_or_never().is_none());
    let error = socket.try_send_prepared(&prepared).unwrap_err();
    assert!(matches!(error, TrySendError::Closed(_)));
    assert!(socket.send_prepared(&prepared).await.unwrap_err().is_closed());
    settle().await;
    assert_eq!(peer.seen(), [Frame::text("a".repeat(200)), Frame::close(1000, "")]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_waits_for_room_sends_prepared_messages_without_refusal() {
    let (socket, peer) = open(&narrow()).await;
    let mut sender = socket.sender();
    let prepared = PreparedMessage::from(wide("a"));
    tokio::spawn(async move {
        for _ in 0..10 {
            poll_fn(|cx| Pin::new(&mut sender).poll_ready(cx)).await.unwrap();
            sender.try_send_prepared(&prepared).unwrap();
        }
    });
    // slower than it sends
    for _ in 0..100 {
        peer.allow(50);
        settle().await;
    }
    assert_eq!(peer.seen(), vec![Frame::text("a".repeat(200)); 10]);
}

#[derive(Clone, Default)]
struct SentBytes(Arc<AtomicUsize>);

impl Observer for SentBytes {
    fn on_message_sent(&self, _: ConnectionId, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_prepared_message_is_observed_with_its_length() {
    let sent = SentBytes::default();
    let (mut socket, _peer) = open(&WebSocketLayer::new().observer(sent.clone())).await;
    let prepared = PreparedMessage::new(vec![7; 1500]);
    assert_eq!((prepared.len(), prepared.is_empty()), (1500, false));
    socket.send_prepared(&prepared).await.unwrap();
    socket.try_send_prepared(&prepared).unwrap();
    assert_eq!(sent.0.load(Ordering::Relaxed), 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_senders_deliver_each_message_once_and_in_their_order() {
    const SENDERS: usize = 16;
    const EACH: usize = 500;
    let (server, mut client) = testing::pair();
    for number in 0..SENDERS {
        let sender = server.sender();
        tokio::spawn(async move {
            for count in 0..EACH {
                sender.send(format!("{number} {count}")).await.unwrap();
            }
        });
    }
    let mut next = [0; SENDERS];
    for _ in 0..SENDERS * EACH {
        let message = client.recv().await.unwrap().unwrap();
        let (number, count) = message.as_text().unwrap().split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        assert_eq!(count.parse(), Ok(next[number]));
        next[number] += 1;
    }
    assert_eq!(next, [EACH; SENDERS]);
}

struct CountedWakes(AtomicUsize);

impl Wake for CountedWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_waiting_futures_leave_nothing_behind() {
    let (socket, peer) = open(&narrow()).await;
    let sender = socket.sender();
    peer.allow(0);
    sender.send(wide("a")).await.unwrap();

    let counter = Arc::new(CountedWakes(AtomicUsize::new(0)));
    {
        let waker = Arc::clone(&counter).into();
        let mut cx = Context::from_waker(&waker);
        assert!(pin!(sender.send("b")).poll(&mut cx).is_pending());
        assert!(pin!(sender.flush()).poll(&mut cx).is_pending());
        assert!(pin!(sender.ping()).poll(&mut cx).is_pending());
        assert!(pin!(sender.closed()).poll(&mut cx).is_pending());
        assert!(pin!(sender.close(1000, "")).poll(&mut cx).is_pending());
    }
    assert_eq!(Arc::strong_count(&counter), 1, "no waker was kept");
    // no wake comes after the futures are dropped
    counter.0.store(0, Ordering::Relaxed);
    peer.allow_all();
    peer.send(&Frame::close(1000, ""));
    sender.closed().await;
    assert_eq!(counter.0.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn many_waiting_senders_all_go_on() {
    let (socket, peer) = open(&narrow()).await;
    peer.allow(0);
    let sender = socket.sender();
    sender.send(wide("a")).await.unwrap();
    let sends = join_all((0..200).map(|_| sender.send(wide("b"))));
    let (sent, ()) = soon(async { tokio::join!(sends, async { peer.allow_all() }) }).await;
    assert!(sent.iter().all(Result::is_ok));
    settle().await;
    assert_eq!(peer.seen().len(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_over_when_the_transport_took_all_that_was_sent_before() {
    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    sender.flush().await.unwrap();

    peer.allow(5);
    sender.send("hello").await.unwrap();
    let mut flush = pin!(sender.flush());
    settle().await;
    assert!(flush.as_mut().now_or_never().is_none());

    // what is sent later is not waited for
    sender.send("later").await.unwrap();
    peer.allow(2);
    assert!(soon(flush).await.is_ok());
    assert_eq!(peer.seen(), [Frame::text("hello")]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_fails_when_the_connection_ends_before() {
    let (mut socket, peer) = open_default().await;
    peer.allow(0);
    socket.send("hello").await.unwrap();
    let (flushed, ()) = tokio::join!(socket.flush(), async {
        settle().await;
        peer.end();
    });
    assert!(flushed.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_pong_finds_its_place_among_messages_without_end() {
    let peer = serve(&WebSocketLayer::new().outbound_buffer(1000), async |mut socket: WebSocket| {
        while socket.send("x".repeat(100)).await.is_ok() {}
    });
    peer.allow(0);
    settle().await;
    peer.send(&Frame::ping(b"there?"));
    settle().await;
    for _ in 0..50 {
        peer.allow(200);
        settle().await;
    }
    assert!(peer.seen().contains(&Frame::pong(b"there?")));
}
