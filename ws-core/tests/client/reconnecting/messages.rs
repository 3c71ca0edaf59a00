//! Messages over several connections, and closing.

use std::future::pending;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use ws_core::client::{Backoff, Client, Reconnect, ReconnectState, SendError};
use ws_core::{CloseFrame, Error, Message, WebSocket};

use super::{opened, start, start_with, text, waiting};
use crate::support::{SECOND, accept, read_head};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn messages_go_on_over_several_connections() {
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    for round in 0..3 {
        let mut server = servers.accept().await;
        server.send(format!("hello {round}")).await.unwrap();
        assert_eq!(socket.recv().await, Some(format!("hello {round}").into()));
        socket.send(format!("answer {round}")).await.unwrap();
        assert_eq!(text(&mut server).await, format!("answer {round}"));
        server.send(format!("bye {round}")).await.unwrap();
        server.close(1001, "").await.unwrap();
        assert_eq!(socket.recv().await, Some(format!("bye {round}").into()));
    }
    socket.close(1000, "").await.unwrap();
    assert_eq!(socket.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_is_sent_once_in_order_and_after_the_hook() {
    let hook = async |mut socket: WebSocket| {
        socket.send("sign in").await?;
        assert_eq!(text(&mut socket).await, "welcome");
        Ok::<_, Error>(socket)
    };
    let (socket, mut servers) = start(|reconnect| reconnect.on_connect(hook));
    for number in 0..10 {
        socket.send(number.to_string()).await.unwrap();
    }
    drop(servers.next().await);
    let mut server = servers.accept().await;
    assert_eq!(text(&mut server).await, "sign in");
    // no message is sent before the hook is done
    assert!(timeout(SECOND, server.recv()).await.is_err());
    assert!(!socket.state().is_open());
    server.send("welcome").await.unwrap();
    for number in 0..10 {
        assert_eq!(text(&mut server).await, number.to_string());
    }
    server.close(1001, "").await.unwrap();

    socket.send("11").await.unwrap();
    let mut server = servers.accept().await;
    assert_eq!(text(&mut server).await, "sign in");
    server.send("welcome").await.unwrap();
    assert_eq!(text(&mut server).await, "11");
    assert!(timeout(SECOND, server.recv()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_gives_back_what_it_has_no_room_for() {
    let (socket, mut servers) = start(|reconnect| reconnect.queue(3, 100));
    for number in 0..3 {
        socket.send(number.to_string()).await.unwrap();
    }
    let Err(SendError::Full(message)) = socket.send("3").await else { panic!("there is no room") };
    assert_eq!(message, Message::from("3"));
    let mut server = servers.accept().await;
    for number in 0..3 {
        assert_eq!(text(&mut server).await, number.to_string());
    }

    // by bytes: one that is too large is taken if it is alone
    let (socket, mut servers) = start(|reconnect| reconnect.queue(100, 100));
    socket.send("x".repeat(60)).await.unwrap();
    assert!(matches!(socket.try_send("x".repeat(41)), Err(SendError::Full(_))));
    socket.try_send("y".repeat(40)).unwrap();
    let mut server = servers.accept().await;
    assert_eq!((text(&mut server).await.len(), text(&mut server).await.len()), (60, 40));
    drop(socket);
    let (socket, mut servers) = start(|reconnect| reconnect.queue(100, 100));
    socket.send("x".repeat(1000)).await.unwrap();
    assert!(matches!(socket.try_send("y"), Err(SendError::Full(_))));
    assert_eq!(text(&mut servers.accept().await).await.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_nothing_is_taken_while_there_is_no_connection() {
    let (socket, mut servers) = start(Reconnect::without_queue);
    let mut states = socket.states();
    let Err(SendError::NotConnected(message)) = socket.send("now").await else { panic!("not connected") };
    assert_eq!(message, Message::from("now"));
    let mut server = servers.accept().await;
    opened(&mut states).await;
    socket.send("then").await.unwrap();
    assert_eq!(text(&mut server).await, "then");
    server.close(1001, "").await.unwrap();
    waiting(&mut states).await;
    assert!(matches!(socket.try_send("now"), Err(SendError::NotConnected(_))));
}

#[tokio::test(start_paused = true)]
async fn sending_waits_for_a_server_that_is_slow_and_not_for_one_that_is_gone() {
    let (socket, mut servers) = start(|reconnect| reconnect.queue(2, 1 << 20));
    let mut states = socket.states();
    let mut stream = servers.next().await;
    accept(&mut stream).await;
    opened(&mut states).await;
    // more than the pipe, the connection and the queue hold
    let sending = tokio::spawn({
        let sender = socket.sender();
        async move {
            for _ in 0..10 {
                sender.send(vec![0; 60_000]).await?;
            }
            Ok::<_, SendError>(())
        }
    });
    sleep(SECOND).await;
    assert!(!sending.is_finished());
    drop(stream);
    let Err(SendError::Full(message)) = sending.await.unwrap() else { panic!("there is no room") };
    assert_eq!(message.len(), 60_000);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_closed_in_every_state() {
    // while it connects
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    let mut stream = servers.next().await;
    read_head(&mut stream).await;
    socket.close(4000, "").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(socket.recv().await, None);

    // while it waits
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    let begun = Instant::now();
    servers.answer("HTTP/1.1 503 X\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n").await;
    waiting(&mut states).await;
    socket.send("never sent").await.unwrap();
    socket.close(4000, "").await.unwrap();
    assert_eq!((socket.recv().await, begun.elapsed().as_secs()), (None, 0));
    assert!(servers.0.recv().await.is_none());

    // while its hook runs
    let (socket, mut servers) = start(|reconnect| {
        reconnect.on_connect(async |_socket: WebSocket| pending::<Result<WebSocket, Error>>().await)
    });
    let mut server = servers.accept().await;
    sleep(SECOND).await;
    socket.close(4000, "").await.unwrap();
    assert!(server.recv().await.is_none());

    // while it is open: what was queued goes first
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut server = servers.accept().await;
    for number in 0..50 {
        socket.try_send(number.to_string()).unwrap();
    }
    let server = tokio::spawn(async move {
        for number in 0..50 {
            assert_eq!(text(&mut server).await, number.to_string());
        }
        assert!(server.recv().await.is_none());
        server.close_frame()
    });
    socket.close(4000, "done").await.unwrap();
    assert_eq!(server.await.unwrap(), Some(CloseFrame::new(4000, "done")));
    assert!(matches!(socket.state(), ReconnectState::Ended { why: None, .. }));
    assert!(socket.try_send("late").unwrap_err().is_ended());
    // and again
    socket.close(1000, "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_that_may_not_be_sent_is_refused_and_it_goes_on() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut server = servers.accept().await;
    assert!(socket.close(1006, "").await.is_err());
    assert!(socket.close(1000, "x".repeat(124)).await.is_err());
    assert!(socket.close_with(CloseFrame::new(1006, "")).await.is_err());
    socket.send("still here").await.unwrap();
    assert_eq!(text(&mut server).await, "still here");
}

#[tokio::test(start_paused = true)]
async fn close_with_sends_the_given_frame() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut server = servers.accept().await;
    let frame = CloseFrame { code: 4000.into(), reason: "done".into() };
    let (closed, end) = tokio::join!(socket.close_with(frame.clone()), server.recv());
    assert_eq!((closed, end.is_none()), (Ok(()), true));
    assert_eq!(server.close_frame(), Some(frame));
}

#[tokio::test(start_paused = true)]
async fn dropping_it_closes_with_1000_whoever_still_has_a_sender() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let sender = socket.sender();
    let mut server = servers.accept().await;
    sleep(SECOND).await;
    drop(socket);
    assert!(server.recv().await.is_none());
    assert_eq!(server.close_frame().unwrap().code, 1000.into());
    assert!(sender.send("late").await.unwrap_err().is_ended());
    assert!(servers.0.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn receiving_can_be_given_up_and_loses_nothing() {
    let (mut socket, mut servers) = start(|reconnect| reconnect);
    let mut server = servers.accept().await;
    let sending = tokio::spawn(async move {
        for number in 0..100 {
            server.send(number.to_string()).await.unwrap();
            sleep(Duration::from_millis(7)).await;
        }
        server
    });
    let mut number = 0;
    while number < 100 {
        if let Ok(message) = timeout(Duration::from_millis(3), socket.recv()).await {
            assert_eq!(message, Some(number.to_string().into()));
            number += 1;
        }
    }
    drop(sending.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_received_are_bounded() {
    let (mut socket, mut servers) = start_with(&Client::new().inbound_queue(4, 1000), |reconnect| reconnect);
    for number in 0..4 {
        let mut server = servers.accept().await;
        server.send(number.to_string()).await.unwrap();
        server.close(1012, "").await.unwrap();
    }
    // the fifth does not fit: the client waits for the user, and does not connect again
    let mut server = servers.accept().await;
    server.send("4").await.unwrap();
    tokio::spawn(async move { server.close(1012, "").await });
    assert!(timeout(HOUR, servers.next()).await.is_err());
    for number in 0..5 {
        assert_eq!(socket.recv().await, Some(number.to_string().into()));
    }
    servers.accept().await.send("5").await.unwrap();
    assert_eq!(socket.recv().await, Some("5".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_again_and_again_gets_each_message_once_and_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backoff = Backoff::new().base(Duration::from_millis(1)).max(Duration::from_millis(1));
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let socket = Client::new().reconnecting(url).backoff(backoff).start();
    let sending = tokio::spawn(async move {
        let mut number: u32 = 0;
        loop {
            match socket.send(number.to_be_bytes().to_vec()).await {
                Ok(()) => number += 1,
                Err(SendError::Full(_)) => sleep(Duration::from_millis(1)).await,
                Err(error) => return error,
            }
        }
    });
    let mut last = None;
    for _ in 0..20 {
        let (mut stream, _) = listener.accept().await.unwrap();
        accept(&mut stream).await;
        for _ in 0..200 {
            let mut frame = [0; 10];
            stream.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[..2], [0x82, 0x84]);
            let number = u32::from_be_bytes(std::array::from_fn(|at| frame[6 + at] ^ frame[2 + at]));
            // messages that were under way when the last connection broke are lost
            assert!(last < Some(number), "{number} after {last:?}");
            last = Some(number);
        }
    }
    sending.abort();
}
