//! `recv` and similar methods: order, bounds, and handlers that do not receive.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, interval, sleep};
use ws_core::{ConnectionId, Message, Observer, WebSocket, WebSocketLayer};

use crate::support::{
    Answer, Frame, HOUR, KEY, Peer, SECOND, ask, numbers, open, open_default, received, serve, settle, soon,
};

#[tokio::test(start_paused = true)]
async fn a_recv_that_is_cancelled_by_select_loses_nothing() {
    let (peer, answer) = ask(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        let mut tick = interval(Duration::from_millis(3));
        let (mut texts, mut ticks) = (Vec::new(), 0);
        loop {
            tokio::select! {
                _ = tick.tick() => ticks += 1,
                message = socket.recv() => match message {
                    Some(message) => texts.push(message.unwrap().as_text().unwrap().to_owned()),
                    None => return (texts, ticks),
                },
            }
        }
    });
    for frame in numbers(200) {
        // in two pieces, sometimes with a tick between them
        let bytes = frame.masked();
        peer.send_bytes(&bytes[..3]);
        sleep(Duration::from_millis(1)).await;
        peer.send_bytes(&bytes[3..]);
    }
    peer.send(&Frame::close(1000, ""));
    let (texts, ticks) = answer.get().await;
    assert_eq!(texts, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(ticks > 20, "{ticks}");
}

#[tokio::test(start_paused = true)]
async fn a_ping_between_fragments_is_answered_before_the_message_is_whole() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&[Frame::new(0x01, "a"), Frame::ping(b"p"), Frame::new(0x00, "b")]);
    assert_eq!(peer.next().await, Some(Frame::pong(b"p")));
    assert!(socket.recv().now_or_never().is_none());
    peer.send(&Frame::new(0x80, "c"));
    assert_eq!(soon(socket.recv()).await.unwrap().unwrap(), Message::from("abc"));
}

#[tokio::test(start_paused = true)]
async fn reading_stops_at_the_bound_of_messages_and_goes_on_when_they_are_received() {
    let (mut socket, peer) = open(&WebSocketLayer::new().inbound_queue(4, usize::MAX)).await;
    let frames: Vec<_> = (0..10).map(|number| Frame::text(number.to_string().repeat(20_000))).collect();
    peer.send_all(&frames);
    peer.end();
    settle().await;
    // four messages, and no more than one read beyond
    let taken = peer.state().taken;
    assert!((80_000..100_000).contains(&taken), "{taken}");
    sleep(HOUR).await;
    assert_eq!(peer.state().taken, taken);

    soon(socket.recv()).await.unwrap().unwrap();
    settle().await;
    assert!(peer.state().taken > taken);
    let rest = received(&mut socket).await;
    assert_eq!(rest.len(), 10, "nine texts and the error of the end");
}

#[tokio::test(start_paused = true)]
async fn reading_stops_at_the_bound_of_bytes_and_nothing_is_lost() {
    let (mut socket, peer) = open(&WebSocketLayer::new().inbound_queue(usize::MAX, 10_000)).await;
    let frames: Vec<_> = (0..200).map(|number| Frame::text(format!("{number:01000}"))).collect();
    peer.send_all(&frames);
    peer.send(&Frame::close(1000, ""));
    settle().await;
    let taken = peer.state().taken;
    assert!(taken <= 10_000 + 16 * 1024 + 1_100, "{taken}");
    let texts = received(&mut socket).await;
    assert_eq!(texts, (0..200).map(|number| format!("{number:01000}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn without_a_receiver_messages_are_discarded_and_reading_goes_on() {
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        drop(socket);
        sleep(HOUR).await;
    });
    peer.send_all(&numbers(10_000));
    peer.send(&Frame::ping(b"still there?"));
    assert_eq!(peer.next().await, Some(Frame::pong(b"still there?")));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_dropped_at_the_bound_lets_reading_go_on() {
    let (socket, peer) = open_default().await;
    peer.send_all(&numbers(1_000));
    settle().await;
    let (sender, receiver) = socket.split();
    drop(receiver);
    assert!(soon(sender.closed()).now_or_never().is_none());
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_a_stream_of_its_messages() {
    let (socket, peer) = open_default().await;
    peer.send_all(&numbers(100));
    peer.send(&Frame::close(1000, ""));
    let texts: Vec<_> =
        soon(socket.map(|message| message.unwrap().as_text().unwrap().to_owned()).collect()).await;
    assert_eq!(texts, (0..100).map(|number: usize| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn malformed_json_names_its_place_and_the_connection_goes_on() {
    let (mut socket, peer) = open_default().await;
    peer.send_all(&[Frame::text("[1,\n2, }"), Frame::binary("[3]")]);
    let error = soon(socket.recv_json::<Vec<u8>>()).await.unwrap().unwrap_err();
    assert!(error.is_json());
    assert!(error.to_string().contains("line 2 column 4"), "{error}");
    assert_eq!(soon(socket.recv_json::<Vec<u8>>()).await.unwrap().unwrap(), [3]);

    socket.send_json(&["a", "b"]).await.unwrap();
    assert_eq!(peer.next().await, Some(Frame::text(r#"["a","b"]"#)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_byte_by_byte_is_received_whole() {
    let (mut socket, peer) = open_default().await;
    let start = Instant::now();
    for byte in Frame::text("drip").masked() {
        assert!(socket.recv().now_or_never().is_none());
        peer.send_bytes(&[byte]);
        settle().await;
    }
    assert_eq!(socket.recv().await.unwrap().unwrap(), Message::from("drip"));
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// As [`ask`], with a handler that has begun and waits.
async fn ask_waiting<F, Fut, T>(layer: &WebSocketLayer, handler: F) -> (Peer, Answer<T>)
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let asked = ask(layer, handler);
    settle().await;
    asked
}

#[tokio::test(start_paused = true)]
async fn what_came_at_once_is_received_in_order_whatever_stands_in_between() {
    let (peer, answer) =
        ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| received(&mut socket).await).await;
    peer.send_all(&[
        Frame::text("one"),
        Frame::text(""),
        Frame::new(0x01, "tw"),
        Frame::new(0x00, ""),
        Frame::new(0x80, "o"),
        Frame::ping(b"between messages"),
        Frame::text("three"),
        Frame::new(0x01, "fo"),
        Frame::ping(b"between fragments"),
        Frame::new(0x80, "ur"),
        Frame::text("five".repeat(10_000)),
        Frame::text("six"),
        Frame::close(1000, ""),
    ]);
    let five = "five".repeat(10_000);
    assert_eq!(answer.get().await, ["one", "", "two", "three", "four", &five, "six"]);
    let pongs = [Frame::pong(b"between messages"), Frame::pong(b"between fragments")];
    assert_eq!(peer.rest().await, [pongs.as_slice(), &[Frame::close(1000, "")]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_handler_receives_in_order_however_the_stream_is_cut() {
    for step in 1..=60 {
        let (peer, answer) =
            ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| received(&mut socket).await)
                .await;
        peer.state().step = step;
        peer.send_all(&numbers(10));
        peer.send_all(&[Frame::new(0x01, "a"), Frame::new(0x80, "b"), Frame::text("c")]);
        peer.send(&Frame::close(1000, ""));
        let texts = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "ab", "c"];
        assert_eq!(answer.get().await, texts, "reads of {step} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_looks_like_a_frame_is_a_payload() {
    let (peer, answer) = ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        socket.recv().await.unwrap().unwrap().into_bytes()
    })
    .await;
    // on the wire, behind the header of the frame that it is in
    let within = Frame::text("within").masked();
    let payload: Vec<u8> = within.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let frame = Frame::binary(payload.clone()).masked();
    let (header, rest) = frame.split_at(frame.len() - within.len());
    assert_eq!(rest, within);
    peer.send_bytes(header);
    settle().await;
    peer.send_bytes(rest);
    assert_eq!(answer.get().await, payload);
}

#[tokio::test(start_paused = true)]
async fn a_ping_behind_messages_is_answered_though_the_handler_has_taken_one_only() {
    let (peer, answer) = ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        socket.recv().await.unwrap().unwrap();
        sleep(HOUR).await;
        received(&mut socket).await
    })
    .await;
    peer.send_all(&numbers(3));
    peer.send(&Frame::ping(b"still there?"));
    settle().await;
    assert_eq!(peer.seen(), [Frame::pong(b"still there?")]);
    peer.send(&Frame::close(1000, ""));
    assert_eq!(answer.get().await, ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_came_at_once_is_received_by_a_task_that_takes_over() {
    let (peer, answer) = ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        let first = socket.recv().await.unwrap().unwrap();
        let rest = tokio::spawn(async move { received(&mut socket).await });
        (first, rest.await.unwrap())
    })
    .await;
    peer.send_all(&numbers(4));
    peer.send(&Frame::close(1000, ""));
    let (first, rest) = answer.get().await;
    assert_eq!((first.as_text(), rest), (Some("0"), ["1", "2", "3"].map(str::to_owned).to_vec()));
}

#[tokio::test(start_paused = true)]
async fn invalid_text_ends_the_connection_after_the_messages_before_it() {
    // the third is text as long as it is masked
    let masked: Vec<u8> = b"text".iter().zip(KEY).map(|(byte, key)| byte ^ key).collect();
    for broken in [
        vec![Frame::new(0x81, [0xff])],
        vec![Frame::new(0x01, "€".as_bytes()), Frame::new(0x80, [0xc3])],
        vec![Frame::new(0x81, masked)],
    ] {
        let (peer, answer) =
            ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| received(&mut socket).await)
                .await;
        peer.send_all(&numbers(2));
        peer.send_all(&broken);
        peer.send(&Frame::text("behind"));
        assert_eq!(answer.get().await, ["0", "1", "error: text is not UTF-8"]);
        assert_eq!(peer.next().await.map(|close| close.close_code()), Some(1007));
    }
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_what_came_at_once() {
    let layer = WebSocketLayer::new().max_message_size(10).max_frame_size(8).max_fragments(3);
    let fragments = |parts: &[&str]| -> Vec<Frame> {
        let last = parts.len() - 1;
        let first_byte = |index| u8::from(index == 0) | if index == last { 0x80 } else { 0 };
        parts.iter().enumerate().map(|(index, part)| Frame::new(first_byte(index), *part)).collect()
    };
    for (broken, error) in [
        (fragments(&["123456789"]), "frame over the limit of 8 bytes"),
        (fragments(&["12345", "67890", "1"]), "message over the limit of 10 bytes"),
        (fragments(&["1", "2", "3", "4"]), "message in more than 3 fragments"),
    ] {
        let (peer, answer) =
            ask_waiting(&layer, async |mut socket: WebSocket| received(&mut socket).await).await;
        peer.send_all(&fragments(&["12345", "67890"]));
        peer.send_all(&fragments(&["1", "2", "3"]));
        peer.send_all(&broken);
        assert_eq!(answer.get().await, ["1234567890", "123", &format!("error: {error}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_agreed_on_counts_for_what_came_with_it() {
    let (peer, answer) = ask_waiting(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        socket.recv().await.unwrap().unwrap();
        socket.sender().answer_heartbeat("ping", "pong");
        received(&mut socket).await
    })
    .await;
    peer.send_all(&[Frame::text("agree"), Frame::text("ping"), Frame::text("hello"), Frame::close(1000, "")]);
    assert_eq!(answer.get().await, ["hello"]);
    assert_eq!(peer.rest().await, [Frame::text("pong"), Frame::close(1000, "")]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_waiting_handler_takes_resets_the_idle_timeout() {
    let layer = WebSocketLayer::new().ping_interval(None).idle_timeout(100 * SECOND);
    let (peer, answer) = ask_waiting(&layer, async |mut socket: WebSocket| received(&mut socket).await).await;
    let start = Instant::now();
    for frame in numbers(3) {
        sleep(60 * SECOND).await;
        peer.send(&frame);
    }
    assert_eq!(answer.get().await, ["0", "1", "2"]);
    assert_eq!(start.elapsed().as_secs(), 280);
}

/// Counts messages.
struct Received(Arc<AtomicUsize>);

impl Observer for Received {
    fn on_message_received(&self, _: ConnectionId, bytes: usize) {
        self.0.fetch_add(1_000 + bytes, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_observed_once_whoever_takes_it() {
    let count = Arc::new(AtomicUsize::new(0));
    let layer = WebSocketLayer::new().observer(Received(Arc::clone(&count)));
    let (peer, answer) = ask_waiting(&layer, async |mut socket: WebSocket| received(&mut socket).await).await;
    peer.send_all(&[Frame::text("a"), Frame::text("b"), Frame::ping(b""), Frame::text("c")]);
    peer.send(&Frame::close(1000, ""));
    answer.get().await;
    assert_eq!(count.load(Ordering::Relaxed), 3_003);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_receives_without_end_lets_other_tasks_run() {
    let turns = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&turns);
    let (peer, answer) = ask_waiting(&WebSocketLayer::new(), async move |mut socket: WebSocket| {
        let mut in_turn = HashMap::new();
        while socket.recv().await.is_some() {
            *in_turn.entry(seen.load(Ordering::Relaxed)).or_insert(0) += 1;
        }
        in_turn.into_values().max()
    })
    .await;
    peer.send_all(&vec![Frame::binary(""); 20_000]);
    peer.send(&Frame::close(1000, ""));
    // another task, which has its turn whenever the connection's task lets go of the thread
    let others = tokio::spawn(poll_fn(move |cx| {
        turns.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    let most = answer.get().await.unwrap();
    others.abort();
    assert!(most < 2_000, "{most} messages were received in one turn");
}
