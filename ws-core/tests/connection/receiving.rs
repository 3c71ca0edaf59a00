//! `recv` and its kin: order, bounds, and what a handler that does not receive costs.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, interval, sleep};
use ws_core::{Message, WebSocket, WebSocketLayer};

use crate::support::{Frame, HOUR, ask, numbers, open, open_default, received, serve, settle, soon};

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
        // in two pieces, with a tick in between now and then
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
async fn a_message_that_drips_in_is_whole_at_last() {
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
