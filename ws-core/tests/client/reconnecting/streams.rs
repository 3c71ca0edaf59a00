//! As a `Stream` and a `Sink`, and with values as JSON.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt as _, future, stream};
use tokio::time::timeout;
use ws_core::client::{Reconnect, ReconnectState, SendError};
use ws_core::{CloseFrame, Message};

use super::{opened, start, text, waiting};
use crate::support::SECOND;

#[tokio::test(start_paused = true)]
async fn it_is_a_stream_over_all_of_its_connections() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let received = tokio::spawn(socket.take(3).collect::<Vec<_>>());
    for number in 0..3 {
        let mut server = servers.accept().await;
        server.send(number.to_string()).await.unwrap();
        server.close(1012, "").await.unwrap();
    }
    assert_eq!(received.await.unwrap(), ["0", "1", "2"].map(Message::from));
}

#[tokio::test(start_paused = true)]
async fn the_stream_is_over_when_it_has_ended() {
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    let mut server = servers.accept().await;
    // waited for once, and then received in the other way
    assert!(timeout(SECOND, socket.next()).await.is_err());
    server.send("last").await.unwrap();
    assert_eq!(socket.recv().await, Some("last".into()));
    server.close(1000, "").await.unwrap();
    assert_eq!(socket.next().await, None);
    assert_eq!(socket.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_sink_waits_for_space_also_while_there_is_no_connection() {
    let (socket, mut servers) = start(|reconnect| reconnect.queue(2, 100));
    let mut sender = socket.sender();
    for number in 0..2 {
        sender.feed(Message::from(number.to_string())).await.unwrap();
    }
    assert!(timeout(SECOND, sender.feed("2".into())).await.is_err());
    let mut rest = stream::iter(2..10).map(|number: i32| Ok(Message::from(number.to_string())));
    let forwarding = tokio::spawn(async move { sender.send_all(&mut rest).await });
    drop(servers.next().await);
    let mut server = servers.accept().await;
    for number in 0..10 {
        assert_eq!(text(&mut server).await, number.to_string());
    }
    forwarding.await.unwrap().unwrap();
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_a_connection_has_taken_the_messages() {
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    // there is nothing to wait for
    SinkExt::<Message>::flush(&mut socket).await.unwrap();
    socket.feed("hello".into()).await.unwrap();
    assert!(timeout(SECOND, SinkExt::<Message>::flush(&mut socket)).await.is_err());
    let mut server = servers.accept().await;
    SinkExt::<Message>::flush(&mut socket).await.unwrap();
    assert_eq!(text(&mut server).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_flush_fails_if_messages_were_dropped() {
    let (socket, _servers) = start(|reconnect| reconnect);
    let mut sender = socket.sender();
    sender.feed("hello".into()).await.unwrap();
    let (flushed, closed) =
        future::join(SinkExt::<Message>::flush(&mut sender), socket.close(1000, "")).await;
    assert!(matches!(flushed, Err(SendError::Dropped)), "{flushed:?}");
    closed.unwrap();
    let Err(SendError::Ended(message)) = sender.feed("late".into()).await else { panic!("it has ended") };
    assert_eq!(message, Message::from("late"));
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_a_sink_fails_while_there_is_no_connection() {
    let (mut socket, mut servers) = start(Reconnect::without_queue);
    let mut states = socket.states();
    let Err(SendError::NotConnected(message)) = socket.feed("now".into()).await else {
        panic!("not connected")
    };
    assert_eq!(message, Message::from("now"));
    let mut server = servers.accept().await;
    opened(&mut states).await;
    SinkExt::send(&mut socket, "then".into()).await.unwrap();
    assert_eq!(text(&mut server).await, "then");
    server.close(1012, "").await.unwrap();
    waiting(&mut states).await;
    assert!(matches!(socket.feed("now".into()).await, Err(SendError::NotConnected(_))));
}

#[tokio::test(start_paused = true)]
async fn closing_the_sink_sends_what_is_queued_and_ends_it() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    let mut server = servers.accept().await;
    opened(&mut states).await;
    let (mut sink, stream) = socket.split();
    let receiving = tokio::spawn(async move {
        for number in 0..20 {
            assert_eq!(text(&mut server).await, number.to_string());
        }
        assert!(server.recv().await.is_none());
        server.close_frame()
    });
    for number in 0..20 {
        sink.feed(number.to_string().into()).await.unwrap();
    }
    sink.close().await.unwrap();
    assert_eq!(receiving.await.unwrap(), Some(CloseFrame::new(1000, "")));
    let socket = sink.reunite(stream).unwrap();
    assert!(matches!(socket.state(), ReconnectState::Ended { why: None, .. }));
}

#[tokio::test(start_paused = true)]
async fn two_senders_that_wait_for_space_both_get_it() {
    let (socket, mut servers) = start(|reconnect| reconnect.queue(1, 100));
    socket.send("0").await.unwrap();
    let senders = [socket.sender(), socket.sender()];
    let sending = senders.map(|mut sender| {
        tokio::spawn(async move { SinkExt::send(&mut sender, Message::from("next")).await })
    });
    let mut server = servers.accept().await;
    for expected in ["0", "next", "next"] {
        assert_eq!(timeout(Duration::from_secs(60), text(&mut server)).await.unwrap(), expected);
    }
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
}

#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn values_are_sent_and_received_as_json() {
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    socket.send_json(&["a", "b"]).await.unwrap();
    socket.sender().send_json("c").await.unwrap();
    let mut server = servers.accept().await;
    assert_eq!(text(&mut server).await, r#"["a","b"]"#);
    assert_eq!(text(&mut server).await, r#""c""#);
    for message in ["[1, 2]", "[1, ", "[3]"] {
        server.send(message).await.unwrap();
    }
    assert_eq!(socket.recv_json::<Vec<u8>>().await.unwrap().unwrap(), [1, 2]);
    assert!(socket.recv_json::<Vec<u8>>().await.unwrap().unwrap_err().is_json());
    assert_eq!(socket.recv_json::<Vec<u8>>().await.unwrap().unwrap(), [3]);
    server.close(1000, "").await.unwrap();
    assert!(socket.recv_json::<Vec<u8>>().await.is_none());

    // a value that JSON cannot have, and one that comes too late
    let error = socket.send_json(&std::collections::HashMap::from([(Some(vec![1]), 2)])).await.unwrap_err();
    assert!(matches!(error, SendError::Json(_)) && error.into_message().is_none());
    let error = socket.send_json("late").await.unwrap_err();
    assert_eq!(error.into_message(), Some(r#""late""#.into()));
}
