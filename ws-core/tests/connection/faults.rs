//! Neighbours, peers, payloads and transports that misbehave.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use ws_core::{Message, Sender, WebSocket, WebSocketLayer, testing};

use crate::support::{Frame, HOUR, SECOND, numbers, open, open_default, received, serve, settle, soon, wire};

/// A payload whose owner runs code when it is dropped.
struct Owner<F: FnMut() + Send>(Vec<u8>, F);

impl<F: FnMut() + Send> AsRef<[u8]> for Owner<F> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<F: FnMut() + Send> Drop for Owner<F> {
    fn drop(&mut self) {
        (self.1)();
    }
}

/// Lengths of payloads: one is copied to the outbound buffer, one is not.
const LENGTHS: [usize; 3] = [10, 5_000, 200_000];

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_payload_may_panic_when_it_is_dropped() {
    for length in LENGTHS {
        let (socket, peer) = open_default().await;
        let sender = socket.sender();
        let owner = Owner(vec![7; length], || panic!("a test, in the owner of a payload"));
        let message = Message::Binary(Bytes::from_owner(owner));
        // a payload that is copied is dropped by the task that sends it
        let _ = tokio::spawn(async move { sender.send(message).await }).await;
        for _ in 0..100 {
            soon(socket.sender().send(vec![8; 10_000])).await.unwrap();
        }
        assert_eq!(peer.next().await, Some(Frame::binary(vec![7; length])));
        for _ in 0..100 {
            assert_eq!(peer.next().await, Some(Frame::binary(vec![8; 10_000])));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_payload_may_use_the_connection_when_it_is_dropped() {
    for length in LENGTHS {
        let (socket, peer) = open_default().await;
        let sender = socket.sender();
        let owner = Owner(vec![7; length], move || drop(sender.try_send("dropped")));
        soon(socket.sender().send(Message::Binary(Bytes::from_owner(owner)))).await.unwrap();
        assert_eq!(peer.next().await, Some(Frame::binary(vec![7; length])));
        assert_eq!(peer.next().await, Some(Frame::text("dropped")));
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_an_unsent_payload_may_use_the_connection_when_that_ends() {
    let (socket, peer) = open_default().await;
    peer.allow(0);
    let sender = socket.sender();
    let owner = Owner(vec![7; 5_000], move || assert!(sender.is_closed()));
    soon(socket.sender().send(Message::Binary(Bytes::from_owner(owner)))).await.unwrap();
    settle().await;
    peer.end();
    peer.dropped().await;
    assert!(!soon(socket.closed()).await.clean);
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_heartbeats_answer_may_use_the_connection_when_it_is_replaced() {
    let (socket, peer) = open_default().await;
    let sender = socket.sender();
    let owner = Owner(b"pong".to_vec(), {
        let sender = sender.clone();
        move || drop(sender.try_send("dropped"))
    });
    sender.answer_heartbeat("ping", ws_core::Utf8Bytes::try_from(Bytes::from_owner(owner)).unwrap());
    sender.answer_heartbeat("ping", "another");
    assert_eq!(peer.next().await, Some(Frame::text("dropped")));
}

#[tokio::test(start_paused = true)]
async fn pings_to_a_peer_that_does_not_read_are_bounded() {
    let (socket, peer) = open(&WebSocketLayer::new().ping_interval(None).send_timeout(None)).await;
    let sender = socket.sender();
    peer.allow(0);
    let pings: Vec<_> = (0..200_000).map(|_| sender.clone()).collect();
    let mut pings: Vec<_> = pings.iter().map(|sender| Box::pin(sender.ping())).collect();
    for ping in &mut pings {
        assert!(ping.now_or_never().is_none());
    }
    peer.allow_all();
    settle().await;
    let seen = peer.seen();
    let bytes: usize = seen.iter().map(|ping| ping.payload.len()).sum();
    assert!(!seen.is_empty() && bytes <= 64 * 1024, "{} pings were queued", seen.len());
    peer.send(&Frame::pong(&seen.last().unwrap().payload));
    for pong in soon(join_all(pings)).await {
        pong.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_takes_its_part_of_the_inbound_queue() {
    let (mut socket, peer) = open(&WebSocketLayer::new().inbound_queue(1_000_000, 64 * 1024)).await;
    let empty = vec![Frame::binary(""); 100_000];
    peer.send_all(&empty);
    peer.send(&Frame::close(1000, ""));
    sleep(HOUR).await;
    let taken = peer.state().taken / empty[0].masked().len();
    assert!(taken < 4_000, "{taken} messages wait in 64 KiB");
    for _ in &empty {
        assert!(soon(socket.recv()).await.unwrap().unwrap().is_empty());
    }
    assert!(soon(socket.recv()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_transport_failed_is_received_before_the_error() {
    let (mut socket, peer) = open(&WebSocketLayer::new().inbound_queue(4, 64 * 1024)).await;
    peer.send_all(&numbers(1_000));
    settle().await;
    peer.break_off(io::ErrorKind::BrokenPipe);
    socket.send("into the void").await.unwrap();
    settle().await;
    let texts = received(&mut socket).await;
    let expected: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    assert_eq!(texts.len(), 1_001, "and the error: {:?}", texts.last());
    assert_eq!(texts[..1_000], expected);
    assert!(texts[1_000].starts_with("error: the peer disconnected"));
    assert!(socket.send("too late").await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_takes_nothing_any_more_is_left_at_the_close_timeout_if_nobody_receives() {
    let (socket, peer) = open(&WebSocketLayer::new().inbound_queue(1, 64 * 1024)).await;
    peer.send_all(&numbers(10_000));
    settle().await;
    let start = Instant::now();
    peer.break_off(io::ErrorKind::BrokenPipe);
    socket.sender().send("into the void").await.unwrap();
    peer.dropped().await;
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_slow_and_steady_upload_arrives() {
    // 1 MiB at 16 KiB/s
    let (mut socket, peer) = open_default().await;
    let upload = async {
        for piece in Frame::binary(vec![7; 1 << 20]).masked().chunks(16 * 1024) {
            peer.send_bytes(piece);
            sleep(SECOND).await;
        }
    };
    let (message, ()) = tokio::join!(socket.recv(), upload);
    assert_eq!(message.unwrap().unwrap().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_large_upload_arrives_at_a_megabyte_a_second() {
    const LENGTH: usize = 64 << 20;
    let layer = WebSocketLayer::new().max_message_size(LENGTH).max_frame_size(LENGTH);
    let (mut socket, peer) = open(&layer).await;
    let upload = async {
        for piece in Frame::binary(vec![7; LENGTH]).masked().chunks(1_000_000) {
            peer.send_bytes(piece);
            sleep(SECOND).await;
        }
    };
    let (message, ()) = tokio::join!(socket.recv(), upload);
    assert_eq!(message.unwrap().unwrap().len(), LENGTH);
}

#[tokio::test(start_paused = true)]
async fn the_lowest_rate_is_what_the_layer_says() {
    let layer = WebSocketLayer::new().message_timeout(10 * SECOND).min_message_rate(100).ping_interval(None);
    for (bytes_per_second, arrives) in [(200, true), (50, false)] {
        let (mut socket, peer) = open(&layer).await;
        let upload = async {
            for piece in Frame::binary(vec![7; 4_000]).masked().chunks(bytes_per_second) {
                peer.send_bytes(piece);
                sleep(SECOND).await;
            }
        };
        let (message, ()) = tokio::join!(socket.recv(), upload);
        assert_eq!(message.unwrap().is_ok(), arrives, "{bytes_per_second} bytes a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_to_send_has_the_time_to_see_why_it_is_refused() {
    let too_big = Frame::binary(vec![7; 2 << 20]).masked();
    let reserved = Frame::new(0x83, "").masked();
    for (broken, code) in [(&too_big[..20], 1009), (&reserved[..], 1002)] {
        let (mut socket, peer) = open_default().await;
        peer.send_bytes(broken);
        // what was on its way already, through a proxy for example
        peer.send_bytes(&too_big[20..]);
        assert_eq!(peer.next().await.unwrap().close_code(), code);
        for _ in 0..40 {
            peer.send(&Frame::binary(vec![7; 10_000]));
            sleep(SECOND / 10).await;
        }
        assert_eq!(peer.state().shut_down_at, None, "the peer has not seen the Close frame");
        let before = peer.state().taken;
        peer.send(&Frame::close(code, ""));
        peer.send(&Frame::binary(vec![7; 10_000]));
        assert_eq!(peer.rest().await, []);
        assert!(peer.state().taken > before, "nothing is left unread");
        assert_eq!(received(&mut socket).await.len(), 1, "the error");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_refused_and_sends_for_ever_is_left_at_the_close_timeout() {
    let (socket, peer) = open_default().await;
    let start = Instant::now();
    peer.send(&Frame::new(0x83, ""));
    while !peer.state().dropped {
        peer.send(&Frame::binary(vec![7; 1_000]));
        sleep(SECOND / 10).await;
    }
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(!soon(socket.closed()).await.clean);
}

/// Sends until the connection is over. Returns how many messages it sent.
async fn send_for_ever(sender: Sender, count: Arc<AtomicUsize>) {
    while sender.send(vec![7; 1_000]).await.is_ok() {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_send_in_a_loop_have_equal_shares() {
    let (socket, peer) = open_default().await;
    peer.allow(0);
    let counts: Vec<_> = (0..10).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for count in &counts {
        tokio::spawn(send_for_ever(socket.sender(), Arc::clone(count)));
    }
    for _ in 0..500 {
        peer.allow(20_000);
        settle().await;
    }
    let counts: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    // except for the first one, which found the buffer empty
    assert!(*least > 900 && most - least <= 66, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn senders_that_wait_are_served_in_their_order() {
    let (socket, peer) = open(&WebSocketLayer::new().outbound_buffer(100)).await;
    peer.allow(0);
    socket.sender().send("x".repeat(200)).await.unwrap();
    for number in 0..50 {
        let sender = socket.sender();
        tokio::spawn(async move { sender.send(number.to_string()).await });
        settle().await;
    }
    let late = socket.sender();
    assert!(late.try_send("late").is_err(), "there is no room for one who has not waited");
    for _ in 0..1_000 {
        peer.allow(7);
        settle().await;
    }
    peer.allow_all();
    settle().await;
    assert_eq!(peer.seen()[1..], numbers(50));
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_gives_up_its_turn_lets_the_next_one_have_it() {
    let (socket, peer) = open(&WebSocketLayer::new().outbound_buffer(10)).await;
    peer.allow(0);
    let sender = socket.sender();
    sender.send("0123456789").await.unwrap();
    let mut first = Box::pin(sender.send("the first one"));
    assert!((&mut first).now_or_never().is_none());
    let second = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send("second").await }
    });
    settle().await;
    peer.allow_all();
    settle().await;
    assert!(!second.is_finished(), "it is the first one's turn, which is not polled");
    drop(first);
    soon(second).await.unwrap().unwrap();
    settle().await;
    assert_eq!(peer.seen(), [Frame::text("0123456789"), Frame::text("second")]);
}

#[tokio::test(start_paused = true)]
async fn only_as_many_senders_are_woken_as_there_is_room_for() {
    let polls = Arc::new(AtomicUsize::new(0));
    let (socket, peer) = open(&WebSocketLayer::new().outbound_buffer(10_000)).await;
    peer.allow(0);
    socket.sender().send(vec![7; 20_000]).await.unwrap();
    for _ in 0..1_000 {
        let (sender, polls) = (socket.sender(), Arc::clone(&polls));
        tokio::spawn(async move {
            let mut send = Box::pin(sender.send(vec![7; 1_000]));
            std::future::poll_fn(|cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                send.as_mut().poll_unpin(cx)
            })
            .await
        });
    }
    settle().await;
    peer.allow_all();
    soon(async {
        while peer.state().written() < 1_000 * 1_000 {
            settle().await;
        }
    })
    .await;
    // two polls each: one waits, one sends
    assert_eq!(polls.load(Ordering::Relaxed), 2_000);
}

#[tokio::test(start_paused = true)]
async fn all_senders_that_wait_learn_of_the_end() {
    let (socket, peer) = open(&WebSocketLayer::new().outbound_buffer(100)).await;
    peer.allow(0);
    let sender = socket.sender();
    sender.send("x".repeat(200)).await.unwrap();
    let sends = join_all((0..100).map(|_| sender.send("y")));
    let (sent, ()) = soon(async {
        tokio::join!(sends, async {
            settle().await;
            peer.end();
        })
    })
    .await;
    assert!(sent.into_iter().all(|sent| sent.unwrap_err().is_closed()));
}

#[cfg(feature = "deflate")]
mod deflate {
    use super::*;
    use ws_core::Compression;

    fn compressing() -> WebSocketLayer {
        WebSocketLayer::new().compression(Compression::new()).ping_interval(None)
    }

    /// A message that becomes a thousand times as long, as a client sends it.
    async fn bomb(length: usize) -> Vec<u8> {
        let (transport, peer) = wire();
        let client = testing::client_with(&compressing(), transport);
        client.sender().send(vec![0; length]).await.unwrap();
        settle().await;
        let state = peer.state();
        state.all_written().to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_when_much_was_inflated() {
        let bomb = bomb(1 << 20).await;
        let layer = compressing().inbound_queue(1_000, usize::MAX);
        let (transport, peer) = wire();
        let polls = Arc::new(AtomicUsize::new(0));
        let messages = Arc::new(AtomicUsize::new(0));
        let mut task = Box::pin(testing::accept(&layer, transport, {
            let messages = Arc::clone(&messages);
            async move |mut socket: WebSocket| {
                while let Some(Ok(message)) = socket.recv().await {
                    assert_eq!(message.len(), 1 << 20);
                    messages.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        let count = Arc::clone(&polls);
        tokio::spawn(std::future::poll_fn(move |cx| {
            count.fetch_add(1, Ordering::Relaxed);
            task.poll_unpin(cx)
        }));
        settle().await;
        peer.send_bytes(&bomb.repeat(15));
        settle().await;
        assert_eq!(messages.load(Ordering::Relaxed), 15);
        // 64 KiB in a turn, and one step of the decompressor more
        let polls = polls.load(Ordering::Relaxed);
        assert!(polls > 15 * 8, "{polls} turns for 15 MiB");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_receiver_nothing_is_inflated() {
        // invalid data ends a connection if there is a receiver
        let broken = Frame::new(0xc2, [0xff; 100]);
        let (mut socket, peer) = open(&compressing()).await;
        peer.send(&broken);
        assert_eq!(received(&mut socket).await.len(), 1);
        assert_eq!(peer.next().await.unwrap().close_code(), 1007);

        let peer = serve(&compressing(), async |socket: WebSocket| {
            drop(socket);
            pending::<()>().await;
        });
        settle().await;
        let in_fragments = [Frame::new(0x42, [0xff; 10]), Frame::new(0x00, [0xff; 10]), Frame::new(0x80, "")];
        peer.send(&broken);
        peer.send_all(&in_fragments);
        peer.send_all(&[broken.clone(), Frame::ping(b"still there?")]);
        assert_eq!(peer.next().await, Some(Frame::pong(b"still there?")));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(peer.seen(), []);
    }
}
