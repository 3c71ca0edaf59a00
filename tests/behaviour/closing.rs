//! The end of a connection, from either side: what the peer sees, and what the handler sees.

use std::time::Duration;

use tokio::sync::mpsc;
use ws_core::{CloseCode, Closed, Error, Side, TrySendError, WebSocket, WebSocketLayer};
use ws_tests::{BoxError, Client, Frame, Running, Server, Setup, within};

/// What a handler saw of the end.
#[derive(Debug)]
struct End {
    messages: usize,
    error: Option<Error>,
    closed: Closed,
    /// What `send` said afterwards.
    send: Result<(), Error>,
}

/// Receives to the end, answers every message, and checks that nothing comes after the end.
async fn see(mut socket: WebSocket) -> Result<End, Error> {
    let mut messages = 0;
    let mut end = None;
    while let Some(message) = socket.recv().await {
        match message {
            Ok(message) => socket.send(message).await?,
            Err(error) => {
                end = Some(error);
                break;
            }
        }
        messages += 1;
    }
    assert!(socket.recv().await.is_none(), "there is one error at most, then `None` for ever");
    assert!(socket.recv().await.is_none());
    assert!(socket.is_closed());
    let send = socket.send("too late").await;
    assert!(matches!(socket.try_send("too late"), Err(TrySendError::Closed(_))));
    let closed = socket.closed().await;
    assert_eq!(socket.close_frame(), closed.frame);
    Ok(End { messages, error: end, closed, send })
}

/// A server whose handlers report what they saw.
async fn watched<S: Server>(layer: WebSocketLayer) -> (Running, mpsc::UnboundedReceiver<End>) {
    let (report, reports) = mpsc::unbounded_channel();
    let setup = Setup::new(move |socket| {
        let report = report.clone();
        async move {
            report.send(see(socket).await?)?;
            Ok(())
        }
    });
    (S::start(setup.layer(layer)).await, reports)
}

async fn next(reports: &mut mpsc::UnboundedReceiver<End>) -> End {
    within("the handler to see the end", reports.recv()).await.expect("the server runs")
}

async fn when_the_handler_returns_all_that_was_sent_goes_out_then_1000<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        for number in 0..500 {
            socket.send(number.to_string()).await?;
        }
        socket.send(vec![7; 1024 * 1024]).await?;
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    for number in 0..500 {
        assert_eq!(client.frame().await, Frame::text(number.to_string()));
    }
    assert_eq!(client.frame().await, Frame::binary(vec![7; 1024 * 1024]));
    assert_eq!(client.frame().await, Frame::close(1000, ""));
    client.write(Frame::close(1000, "")).await;
    client.end().await;
    server.until_open(0).await;
}

async fn what_the_peer_sends_meanwhile_does_not_break_the_end<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        let _ = socket.recv().await;
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::binary(vec![1; 10_000]).masked().repeat(50)).await;
    assert_eq!(client.frame().await, Frame::close(1000, ""));
    client.write(Frame::text("on its way before the Close was read")).await;
    client.write(Frame::close(1000, "")).await;
    client.end().await;
}

async fn a_handler_that_fails_or_panics_ends_its_own_connection_only_with_1011<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        while let Some(message) = socket.recv().await {
            match message?.as_text() {
                Some("fail") => return Err(BoxError::from("the database is gone")),
                Some("panic") => panic!("a handler that panics, as it should"),
                _ => socket.send("fine").await?,
            }
        }
        Ok(())
    });
    let server = S::start(setup).await;
    let mut other = Client::open(&server).await;
    for how in ["fail", "panic"] {
        let mut client = Client::open(&server).await;
        assert_eq!(client.echo(Frame::text("well?")).await, Frame::text("fine"));
        client.write(Frame::text(how)).await;
        let frame = client.frame().await;
        assert_eq!(frame, Frame::close(1011, ""), "nothing of the error is told to the peer");
        client.write(frame).await;
        client.end().await;
        assert_eq!(other.echo(Frame::text("well?")).await, Frame::text("fine"));
    }
    other.close().await;
    server.until_open(0).await;
}

async fn a_handler_that_panics_before_it_waits_ends_with_1011<S: Server>() {
    let setup = Setup::new(|_socket| -> std::future::Ready<Result<(), BoxError>> {
        panic!("a handler that panics at once, as it should")
    });
    let server = S::start(setup).await;
    for _ in 0..3 {
        let mut client = Client::open(&server).await;
        let frame = client.frame().await;
        assert_eq!(frame.close_code(), Some(1011), "{frame:?}");
        client.write(frame).await;
        client.end().await;
    }
    server.until_open(0).await;
}

async fn close_sends_code_and_reason_and_returns_the_answer<S: Server>() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            socket.send("before").await?;
            let answer = socket.close(4001, "bye").await;
            report.send((answer, socket.closed().await, socket.recv().await.is_none()))?;
            Ok(())
        }
    });
    let server = S::start(setup).await;
    for (answer, expected) in [
        (Frame::close(4001, "bye"), Some(4001)),
        (Frame::close(1000, ""), Some(1000)),
        (Frame::empty_close(), None),
    ] {
        let mut client = Client::open(&server).await;
        assert_eq!(client.frame().await, Frame::text("before"));
        assert_eq!(client.frame().await, Frame::close(4001, "bye"));
        client.write(answer).await;
        client.end().await;
        let report = within("`close` to return", reports.recv()).await.expect("the handler reports");
        let (answered, closed, is_over) = report;
        let answered = answered.expect("the peer answers").map(|frame| u16::from(frame.code));
        assert_eq!(answered, expected);
        assert_eq!((closed.by, closed.code(), closed.clean), (Side::Local, CloseCode::from(4001), true));
        assert!(is_over);
    }
}

async fn a_code_or_a_reason_that_may_not_be_sent_is_an_error_and_the_connection_goes_on<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(matches!(socket.close(code, "").await, Err(Error::InvalidClose(_))), "{code}");
        }
        assert!(matches!(socket.close(1000, "x".repeat(124)).await, Err(Error::InvalidClose(_))));
        socket.send("still open").await?;
        socket.close(4000, "x".repeat(123)).await?;
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.frame().await, Frame::text("still open"));
    assert_eq!(client.echo(Frame::close(4000, "")).await, Frame::close(4000, "x".repeat(123)));
    client.end().await;
}

async fn the_handler_sees_who_closed_and_with_what<S: Server>() {
    let (server, mut reports) = watched::<S>(WebSocketLayer::new()).await;
    for (frame, code, reason) in [
        (Frame::close(4002, "done"), 4002, "done"),
        (Frame::close(1001, ""), 1001, ""),
        (Frame::empty_close(), 1005, ""),
    ] {
        let mut client = Client::open(&server).await;
        assert_eq!(client.echo(frame.clone()).await, frame);
        client.end().await;
        let end = next(&mut reports).await;
        assert!(end.error.is_none(), "{end:?}");
        assert_eq!((end.closed.by, end.closed.clean), (Side::Remote, true));
        assert_eq!((end.closed.code(), end.closed.reason()), (code.into(), reason));
        assert!(matches!(end.send, Err(Error::Closed)), "{end:?}");
    }
}

async fn what_came_before_a_close_is_delivered_and_answered_first<S: Server>() {
    let (server, mut reports) = watched::<S>(WebSocketLayer::new()).await;
    let mut client = Client::open(&server).await;
    let messages = (0..500).map(|number| Frame::text(number.to_string()));
    client
        .write(messages.chain([Frame::close(4000, "")]).flat_map(|frame| frame.masked()).collect::<Vec<_>>())
        .await;
    for number in 0..500 {
        assert_eq!(client.frame().await, Frame::text(number.to_string()));
    }
    assert_eq!(client.frame().await, Frame::close(4000, ""));
    client.end().await;
    let end = next(&mut reports).await;
    assert!(end.error.is_none() && end.messages == 500, "{end:?}");
}

async fn the_answer_to_the_last_message_goes_out_before_the_answer_to_a_close<S: Server>() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            while let Some(message) = socket.recv().await {
                let message = message?;
                report.send("at work")?;
                tokio::time::sleep(Duration::from_millis(200)).await;
                socket.send(message).await?;
            }
            Ok(())
        }
    });
    let server = S::start(setup).await;
    // the Close comes with the message, or while the handler works on it
    for meanwhile in [false, true] {
        let mut client = Client::open(&server).await;
        client.write(Frame::text("last")).await;
        if meanwhile {
            within("the handler to work", reports.recv()).await.expect("the handler reports");
        }
        client.write(Frame::close(4000, "")).await;
        assert_eq!(client.frame().await, Frame::text("last"));
        assert_eq!(client.frame().await, Frame::close(4000, ""));
        client.end().await;
        while reports.try_recv().is_ok() {}
    }
}

async fn senders_in_many_tasks_do_not_mix_up_their_messages<S: Server>() {
    const TASKS: usize = 8;
    const MESSAGES: usize = 500;
    let setup = Setup::new(|mut socket| async move {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let sender = socket.sender();
                tokio::spawn(async move {
                    for number in 0..MESSAGES {
                        // some are copied into the buffer, some go beside it
                        let padding = " ".repeat(if number % 10 == 0 { 10_000 } else { 10 });
                        sender.send(format!("{task}:{number}:{padding}")).await.expect("the peer reads");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await?;
        }
        socket.close(4000, "").await?;
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    let mut next = [0; TASKS];
    for _ in 0..TASKS * MESSAGES {
        let frame = client.frame().await;
        let text = str::from_utf8(frame.payload()).expect("the server sends text");
        let mut parts = text.split(':').map(str::parse::<usize>).map_while(Result::ok);
        let (task, number) = parts.next().zip(parts.next()).expect("two numbers");
        assert_eq!(number, next[task]);
        next[task] += 1;
    }
    client.closed_with_answer(4000).await;
}

async fn a_stream_that_ends_without_a_close_is_one_error_after_what_came_before<S: Server>() {
    let (server, mut reports) = watched::<S>(WebSocketLayer::new()).await;
    for message in [None, Some(Frame::text("last words"))] {
        for how in ["finish", "drop", "reset"] {
            let mut client = Client::open(&server).await;
            if let Some(message) = message.clone() {
                assert_eq!(client.echo(message.clone()).await, message);
            }
            match how {
                "finish" => {
                    client.finish().await;
                    client.end().await;
                }
                "reset" => client.reset(),
                _ => drop(client),
            }
            let end = next(&mut reports).await;
            assert!(end.error.as_ref().is_some_and(Error::is_disconnected), "{how}: {end:?}");
            assert_eq!(end.messages, usize::from(message.is_some()));
            assert_eq!((end.closed.by, end.closed.clean), (Side::Remote, false), "{how}");
            assert_eq!(end.closed.code(), CloseCode::ABNORMAL_CLOSURE, "{how}");
        }
    }
    server.until_open(0).await;
}

async fn messages_right_before_the_end_of_the_stream_are_delivered<S: Server>() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            while let Some(message) = socket.recv().await {
                report.send(message.map(|message| message.len()))?;
            }
            Ok(())
        }
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::text("a").masked().repeat(20)).await;
    client.finish().await;
    for _ in 0..20 {
        let message = within("a message", reports.recv()).await.expect("the handler reports");
        assert_eq!(message.expect("the message was whole"), 1);
    }
    let error = within("the error", reports.recv()).await.expect("the handler reports");
    assert!(error.is_err_and(|error| error.is_disconnected()));
    client.end().await;
    server.until_open(0).await;
}

async fn a_peer_that_breaks_the_protocol_is_one_error_after_what_came_before<S: Server>() {
    let (server, mut reports) = watched::<S>(WebSocketLayer::new()).await;
    let mut client = Client::open(&server).await;
    client.write([Frame::text("good").masked(), Frame::text(b"bad \xff").masked()].concat()).await;
    assert_eq!(client.frame().await, Frame::text("good"));
    client.closed_with(1007).await;
    let end = next(&mut reports).await;
    assert!(end.error.as_ref().is_some_and(Error::is_protocol), "{end:?}");
    assert_eq!((end.messages, end.closed.by, end.closed.clean), (1, Side::Local, false));
    assert_eq!(end.closed.code(), CloseCode::INVALID_FRAME_PAYLOAD_DATA);
}

async fn both_sides_may_close_at_once<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        let _ = socket.recv().await;
        let answer = socket.close(4001, "mine").await?;
        assert_eq!(answer.map(|frame| u16::from(frame.code)), Some(4002));
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    client.write([Frame::text("go").masked(), Frame::close(4002, "").masked()].concat()).await;
    let code = client.frame().await.close_code();
    assert!(matches!(code, Some(4001 | 4002)), "{code:?}");
    client.end().await;
    server.until_open(0).await;
}

async fn a_connection_without_messages_ends_at_the_idle_timeout_though_it_pings<S: Server>() {
    let idle = Duration::from_secs(1);
    let layer = WebSocketLayer::new().ping_interval(Duration::from_millis(200)).idle_timeout(idle);
    let (server, mut reports) = watched::<S>(layer).await;
    let mut client = Client::open(&server).await;
    let start = std::time::Instant::now();
    client.write(Frame::text("the last message")).await;
    assert_eq!(client.frame_but_ping().await, Frame::text("the last message"));
    let mut pings = 0;
    let end = loop {
        let frame = client.frame().await;
        if !frame.is_ping() {
            break frame;
        }
        pings += 1;
        client.write(Frame::pong(frame.payload())).await;
    };
    assert_eq!(end.close_code(), Some(1001), "{end:?}");
    assert!(pings > 0 && start.elapsed() >= idle, "{pings} pings, {:?}", start.elapsed());
    client.write(end).await;
    client.end().await;
    let end = next(&mut reports).await;
    assert!(end.error.is_none(), "{end:?}");
    assert_eq!((end.closed.by, end.closed.clean), (Side::Local, true));
}

async fn a_ping_of_the_handlers_returns_when_it_is_answered<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        let round_trip = socket.ping().await?;
        assert_eq!(socket.latency(), Some(round_trip));
        socket.send("answered").await?;
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    let ping = client.frame().await;
    assert!(ping.is_ping(), "{ping:?}");
    client.write(Frame::pong("something else")).await;
    assert_eq!(client.echo(Frame::pong(ping.payload())).await, Frame::text("answered"));
}

async fn a_receiver_that_moved_to_another_task_keeps_the_connection_open<S: Server>() {
    let setup = Setup::new(|socket| async move {
        let (sender, mut receiver) = socket.split();
        tokio::spawn(async move {
            while let Some(Ok(message)) = receiver.recv().await {
                if message.as_text() == Some("enough") || sender.send(message).await.is_err() {
                    break;
                }
            }
        });
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    for _ in 0..100 {
        assert_eq!(client.echo(Frame::text("from another task")).await, Frame::text("from another task"));
    }
    let close = client.echo(Frame::text("enough")).await;
    assert_eq!(close, Frame::close(1000, ""));
    client.write(close).await;
    client.end().await;
    server.until_open(0).await;
}

ws_tests::cases! {
    when_the_handler_returns_all_that_was_sent_goes_out_then_1000,
    what_the_peer_sends_meanwhile_does_not_break_the_end,
    a_handler_that_fails_or_panics_ends_its_own_connection_only_with_1011,
    a_handler_that_panics_before_it_waits_ends_with_1011,
    close_sends_code_and_reason_and_returns_the_answer,
    a_code_or_a_reason_that_may_not_be_sent_is_an_error_and_the_connection_goes_on,
    the_handler_sees_who_closed_and_with_what,
    what_came_before_a_close_is_delivered_and_answered_first,
    a_stream_that_ends_without_a_close_is_one_error_after_what_came_before,
    messages_right_before_the_end_of_the_stream_are_delivered,
    a_peer_that_breaks_the_protocol_is_one_error_after_what_came_before,
    both_sides_may_close_at_once,
    a_connection_without_messages_ends_at_the_idle_timeout_though_it_pings,
    a_ping_of_the_handlers_returns_when_it_is_answered,
    a_receiver_that_moved_to_another_task_keeps_the_connection_open,
    the_answer_to_the_last_message_goes_out_before_the_answer_to_a_close,
    senders_in_many_tasks_do_not_mix_up_their_messages,
}
