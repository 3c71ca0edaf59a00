//! When the client connects again, and how long it waits.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use ws_core::client::{Backoff, Client, Interruption, ReconnectState};
use ws_core::{Error, WebSocket, WebSocketLayer};

use super::{ended, opened, opened_attempt, refused, start, start_with, waiting};
use crate::support::{SECOND, accept, opening, read_head};

#[tokio::test(start_paused = true)]
async fn the_states_are_told_in_order() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    assert!(matches!(states.changed().await, Some(ReconnectState::Connecting { attempt: 1, .. })));
    let mut server = servers.accept().await;
    assert!(matches!(states.changed().await, Some(ReconnectState::Open)));
    server.close(1012, "deploy").await.unwrap();
    let (attempt, _, why) = waiting(&mut states).await;
    assert_eq!((attempt, why.to_string().as_str()), (2, "the connection ended: 1012 service restart"));
    assert!(matches!(states.changed().await, Some(ReconnectState::Connecting { attempt: 2, .. })));
    let _server = servers.accept().await;
    assert!(matches!(states.changed().await, Some(ReconnectState::Open)));
    socket.close(1000, "").await.unwrap();
    assert!(matches!(states.changed().await, Some(ReconnectState::Ended { why: None, .. })));
    assert!(states.changed().await.is_none());
    assert!(socket.state().is_ended());
    // a late subscriber sees only the end
    let mut late = socket.states();
    assert!(late.changed().await.unwrap().is_ended());
    assert!(late.changed().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_random_below_a_bound_that_doubles() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    let mut delays = Vec::new();
    for bound in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000] {
        let begun = Instant::now();
        drop(servers.next().await);
        let (_, delay, why) = waiting(&mut states).await;
        assert!(matches!(why, Interruption::Connect(_)), "{why}");
        assert!(delay <= Duration::from_millis(bound), "{delay:?} {bound}");
        opened_attempt(&mut states).await;
        // the clock of tests goes in whole milliseconds
        assert!(begun.elapsed() + Duration::from_millis(1) >= delay, "{:?} {delay:?}", begun.elapsed());
        delays.push(delay.as_secs_f64() / Duration::from_millis(bound).as_secs_f64());
    }
    // without jitter all waits would be the same fraction of their bounds
    assert!(delays.iter().any(|part| (part - delays[0]).abs() > 0.001), "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_lasts_begins_anew_and_one_that_does_not_goes_on() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    for attempt in 2..7 {
        drop(servers.next().await);
        assert_eq!(waiting(&mut states).await.0, attempt);
    }
    for attempt in 7..10 {
        // accepts, and closes at once
        servers.accept().await.close(1001, "").await.unwrap();
        assert_eq!(waiting(&mut states).await.0, attempt);
    }
    let mut server = servers.accept().await;
    opened(&mut states).await;
    sleep(11 * SECOND).await;
    server.close(1001, "").await.unwrap();
    let (attempt, delay, _) = waiting(&mut states).await;
    assert!(attempt == 1 && delay <= Duration::from_millis(500), "{attempt} {delay:?}");
}

#[tokio::test(start_paused = true)]
async fn it_comes_back_after_the_codes_that_ask_for_it() {
    for (code, comes_back) in [
        (1000, false),
        (1001, true),
        (1002, false),
        (1007, false),
        (1008, false),
        (1009, false),
        (1011, true),
        (1012, true),
        (1013, true),
        (1014, true),
        (3000, false),
        (3100, true),
        (4000, false),
        (4001, false),
        (4099, false),
        (4100, true),
        (4199, true),
        (4200, false),
    ] {
        let (socket, mut servers) = start(|reconnect| reconnect);
        let mut states = socket.states();
        let mut server = servers.accept().await;
        opened(&mut states).await;
        server.close(code, "").await.unwrap();
        let state = states.changed().await.unwrap();
        assert_eq!(!state.is_ended(), comes_back, "{code}: {state:?}");
        if let ReconnectState::Ended { why, .. } = state {
            let Some(Interruption::Closed(closed)) = why else { panic!("{why:?}") };
            assert_eq!(closed.code(), code.into());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_comes_back_after_the_loss_of_a_connection() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    let mut stream = servers.next().await;
    accept(&mut stream).await;
    opened(&mut states).await;
    drop(stream);
    let why = waiting(&mut states).await.2;
    assert_eq!(why.to_string(), "the connection ended: 1006 abnormal closure");
}

#[tokio::test(start_paused = true)]
async fn a_predicate_decides_in_place_of_the_table() {
    let (socket, mut servers) = start(|reconnect| {
        reconnect
            .reconnect_if(|why| matches!(why, Interruption::Closed(closed) if closed.code() == 4001.into()))
    });
    let mut states = socket.states();
    servers.accept().await.close(4001, "").await.unwrap();
    waiting(&mut states).await;
    servers.accept().await.close(1012, "").await.unwrap();
    assert!(ended(&mut states).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn refusals_that_may_pass_are_tried_again_and_others_are_not() {
    let response = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nLocation: /\r\n\r\n");
    for (response, comes_back) in [
        (response(408), true),
        (response(425), true),
        (response(429), true),
        (response(500), true),
        (response(503), true),
        (response(302), false),
        (response(400), false),
        (response(401), false),
        (response(404), false),
        (response(200), false),
        (response(101), false),
        ("what?\r\n\r\n".to_owned(), false),
    ] {
        let (socket, mut servers) = start(|reconnect| reconnect);
        let mut states = socket.states();
        servers.answer(&response).await;
        opened_attempt(&mut states).await;
        let state = states.changed().await.unwrap();
        assert_eq!(matches!(state, ReconnectState::Waiting { .. }), comes_back, "{response}: {state:?}");
    }
}

/// Whether the wait is as long as the server asked for, and at most a quarter longer.
fn is_asked_for(delay: Duration, seconds: u32) -> bool {
    (seconds * SECOND..=seconds * SECOND * 5 / 4).contains(&delay)
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_as_long_as_the_server_asks_for_but_not_absurd() {
    let (socket, mut servers) = start(|reconnect| reconnect);
    let mut states = socket.states();
    for (seconds, expected) in [("7", 7), ("120", 120), ("999999999", 300)] {
        servers.answer(&refused(seconds)).await;
        let delay = waiting(&mut states).await.1;
        assert!(is_asked_for(delay, expected), "{seconds}: {delay:?}");
    }
    for (seconds, expected) in [(60, 60), (1_000_000, 300)] {
        servers.accept().await.close(1012, format!("retry-after={seconds}")).await.unwrap();
        let delay = waiting(&mut states).await.1;
        assert!(is_asked_for(delay, expected), "{seconds}: {delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_told_the_same_time_do_not_come_back_together() {
    let in_a_minute = SystemTime::now() + 60 * SECOND;
    for (value, earliest) in
        [("30".to_owned(), None), (httpdate::fmt_http_date(in_a_minute), Some(in_a_minute))]
    {
        let mut delays = Vec::new();
        for _ in 0..20 {
            let (socket, mut servers) = start(|reconnect| reconnect);
            let mut states = socket.states();
            servers.answer(&refused(&value)).await;
            let (_, delay, _) = waiting(&mut states).await;
            let is_in_time = match earliest {
                None => is_asked_for(delay, 30),
                // a date has whole seconds
                Some(earliest) => SystemTime::now() + delay > earliest - SECOND && delay <= 75 * SECOND,
            };
            assert!(is_in_time, "{value}: {delay:?}");
            delays.push(delay);
        }
        let (first, last) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        // that twenty random times are within a tenth of their range has a chance of less than 10⁻¹⁶
        assert!(*last > *first + Duration::from_millis(750), "{value}: {delays:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_each_handshake_is_seen_before_the_connection_is() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let to_hook = sender.clone();
    let (socket, mut servers) = start(|reconnect| {
        let reconnect = reconnect.on_response(move |response| {
            sender.send(response.headers()["x-node"].to_str().unwrap().to_owned()).unwrap();
        });
        reconnect.on_connect(move |socket: WebSocket| {
            to_hook.send("connected".to_owned()).unwrap();
            async { Ok::<_, Error>(socket) }
        })
    });
    for node in ["a", "b"] {
        let mut stream = servers.next().await;
        let head = read_head(&mut stream).await;
        stream.write_all(opening(&head, &format!("X-Node: {node}\r\n")).as_bytes()).await.unwrap();
        assert_eq!(seen.recv().await.as_deref(), Some(node));
        assert_eq!(seen.recv().await.as_deref(), Some("connected"));
    }
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn attempts_in_a_row_can_be_bounded() {
    let (mut socket, mut servers) = start(|reconnect| reconnect.max_attempts(3));
    let mut states = socket.states();
    drop(servers.next().await);
    drop(servers.next().await);
    // a connection that lasts resets the count
    let mut server = servers.accept().await;
    sleep(11 * SECOND).await;
    server.close(1001, "").await.unwrap();
    for _ in 0..3 {
        drop(servers.next().await);
    }
    let why = ended(&mut states).await;
    assert!(matches!(why, Some(Interruption::Connect(_))), "{why:?}");
    assert!(servers.0.recv().await.is_none());
    assert_eq!(socket.recv().await, None);
    assert!(socket.send("too late").await.unwrap_err().is_ended());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_hook_is_an_attempt_that_failed() {
    let calls = Arc::new(AtomicUsize::new(0));
    let hook = {
        let calls = Arc::clone(&calls);
        move |socket: WebSocket| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                match call {
                    0 => Err("no rooms"),
                    1 => pending().await,
                    _ => Ok(socket),
                }
            }
        }
    };
    let (socket, mut servers) = start(|reconnect| reconnect.on_connect(hook));
    let mut states = socket.states();
    let mut server = servers.accept().await;
    let why = waiting(&mut states).await.2;
    assert_eq!(why.to_string(), "a hook failed: no rooms");
    assert!(server.recv().await.is_none());
    // one that takes too long
    let mut server = servers.accept().await;
    let why = waiting(&mut states).await.2;
    assert!(matches!(&why, Interruption::Connect(error) if error.is_timeout()), "{why}");
    assert!(server.recv().await.is_none());
    let _server = servers.accept().await;
    opened(&mut states).await;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_hook_ends_it() {
    async fn panics(_: WebSocket) -> Result<WebSocket, Error> {
        panic!("what a hook should not do")
    }
    let (mut socket, mut servers) = start(|reconnect| reconnect.on_connect(panics));
    let _server = servers.accept().await;
    assert_eq!(socket.recv().await, None);
    assert!(socket.state().is_ended());
}

#[tokio::test(start_paused = true)]
async fn each_attempt_can_have_a_request_of_its_own() {
    let mut attempt = 0;
    let fresh = move |client: Client| {
        attempt += 1;
        async move {
            match attempt {
                2 => Err(Box::<dyn std::error::Error + Send + Sync>::from("no token")),
                _ => Ok(client.header("x-token", attempt.to_string())),
            }
        }
    };
    let (socket, mut servers) = start(|reconnect| reconnect.on_attempt(fresh));
    let mut states = socket.states();
    let (head, mut server) = servers.accept_by(&WebSocketLayer::new()).await;
    assert!(head.contains("\r\nx-token: 1\r\n"), "{head}");
    server.close(1001, "").await.unwrap();
    waiting(&mut states).await;
    assert_eq!(waiting(&mut states).await.2.to_string(), "a hook failed: no token");
    let (head, _server) = servers.accept_by(&WebSocketLayer::new()).await;
    assert!(head.contains("\r\nx-token: 3\r\n"), "{head}");
}

#[tokio::test]
async fn a_server_that_dies_and_returns_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let backoff = Backoff::new().base(Duration::from_millis(5)).max(Duration::from_millis(20));
    let client = Client::new().reconnecting(format!("ws://{address}/")).backoff(backoff);
    let mut socket = client.start();
    let mut states = socket.states();

    let (mut stream, _) = listener.accept().await.unwrap();
    accept(&mut stream).await;
    stream.write_all(b"\x81\x01a").await.unwrap();
    assert_eq!(socket.recv().await, Some("a".into()));
    drop((stream, listener));
    // the port is closed: several attempts fail
    loop {
        if let (4.., _, Interruption::Connect(_)) = waiting(&mut states).await {
            break;
        }
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = timeout(20 * SECOND, listener.accept()).await.unwrap().unwrap();
    accept(&mut stream).await;
    stream.write_all(b"\x81\x01b").await.unwrap();
    assert_eq!(socket.recv().await, Some("b".into()));
}

/// Whether it has ended, and not because the user or the server wanted it.
fn is_aborted(state: &ReconnectState) -> bool {
    matches!(state, ReconnectState::Ended { why: Some(Interruption::Aborted), .. })
}

#[tokio::test]
async fn a_runtime_that_shuts_down_is_no_orderly_end() {
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut socket, mut servers) = {
        let _entered = other.enter();
        start_with(&Client::new(), |reconnect| reconnect)
    };
    let _server = servers.accept().await;
    let mut states = socket.states();
    while !states.changed().await.unwrap().is_open() {}
    let sender = socket.sender();
    other.shutdown_background();
    assert!(socket.recv().await.is_none());
    assert!(is_aborted(&socket.state()), "{:?}", socket.state());
    assert!(sender.send("late").await.unwrap_err().is_ended());
    assert!(is_aborted(&states.changed().await.unwrap()));
    socket.close(1000, "").await.unwrap();
}

#[tokio::test]
async fn a_runtime_that_never_ran_the_task_is_an_end() {
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut socket, _servers) = {
        let _entered = other.enter();
        start_with(&Client::new(), |reconnect| reconnect)
    };
    other.shutdown_background();
    assert!(socket.recv().await.is_none());
    assert!(is_aborted(&socket.state()), "{:?}", socket.state());
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_is_no_orderly_end() {
    let (mut socket, _servers) = start_with(&Client::new(), |reconnect| {
        reconnect.on_attempt(async |_| -> Result<Client, Error> { panic!("a test") })
    });
    assert!(socket.recv().await.is_none());
    assert!(is_aborted(&socket.state()), "{:?}", socket.state());
}
