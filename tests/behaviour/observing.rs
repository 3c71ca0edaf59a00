//! What an operator gets to see: events, spans, counts, and tasks that end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::Level;
use ws_core::{
    Closed, ConnectionId, ConnectionInfo, Error, Observer, OriginPolicy, Rejection, WebSocketLayer,
};
use ws_tests::trace::Trace;
use ws_tests::{Answer, BoxError, Client, Frame, Request, Server, Setup, until};

async fn every_refusal_is_one_event_with_its_reason_and_a_target_of_its_own<S: Server>() {
    let trace = Trace::record();
    let layer = WebSocketLayer::new()
        .origin(OriginPolicy::same_origin().allowed_hosts(["example.com"]))
        .protocols(["a"])
        .require_protocol()
        .max_connections(0);
    let server = S::start(Setup::echo().layer(layer)).await;
    let offered = Request::upgrade().with("Sec-WebSocket-Protocol", "a");
    let table = [
        (offered.clone().method("POST"), 405, "method"),
        (offered.clone().version("HTTP/1.0"), 505, "HTTP/1.1"),
        (offered.clone().with("Content-Length", "1").followed_by("x"), 400, "no body"),
        (offered.clone().lines("Connection", &[]), 400, "`Connection`"),
        (offered.clone().lines("Sec-WebSocket-Version", &["8"]), 426, "`Sec-WebSocket-Version`"),
        (offered.clone().lines("Sec-WebSocket-Key", &[]), 400, "`Sec-WebSocket-Key`"),
        (offered.clone().with("Origin", "https://evil.com"), 403, "https://evil.com"),
        (offered.clone().with("Origin", "null"), 403, "null"),
        (offered.clone().lines("Host", &["evil.com"]), 421, "the host evil.com"),
        (offered.clone().lines("Sec-WebSocket-Protocol", &["a b"]), 400, "`Sec-WebSocket-Protocol`"),
        (offered.clone().with("Sec-WebSocket-Extensions", ";"), 400, "`Sec-WebSocket-Extensions`"),
        (Request::upgrade(), 400, "subprotocol"),
        (offered, 503, "too many connections"),
    ];
    for (number, (request, status, reason)) in table.into_iter().enumerate() {
        let response = Client::refusal(&server, request).await;
        assert_eq!(response.status, status, "{response:?}");
        let events = trace.events("handshake refused");
        assert_eq!(events.len(), number + 1, "one event each: {events:#?}");
        let event = &events[number];
        assert_eq!((event.target.as_str(), event.level), ("ws_core::rejection", Level::DEBUG));
        assert!(event.text.contains(reason) && event.text.contains(&status.to_string()), "{event:?}");
        if status != 405 && status != 505 {
            assert!(response.body.contains(reason), "{response:?}");
        }
    }
}

async fn a_refused_origin_is_a_warning_once_in_a_while_that_names_the_setting<S: Server>() {
    let trace = Trace::record();
    let server = S::start(Setup::echo()).await;
    for (origin, warnings) in [
        ("http://localhost:5173", 1),
        ("http://localhost:5173", 1),
        ("http://LOCALHOST:5173", 1),
        ("http://localhost:3001", 2),
        ("garbage", 3),
        ("rubbish", 3),
        ("http://localhost:5173", 3),
    ] {
        Client::refusal(&server, Request::upgrade().with("Origin", origin)).await;
        assert_eq!(trace.events("OriginPolicy::localhost()").len(), warnings, "{origin}");
    }
    for number in 0..100 {
        let origin = format!("https://{number}.evil.com");
        Client::refusal(&server, Request::upgrade().with("Origin", origin)).await;
    }
    let warnings = trace.events("OriginPolicy::localhost()");
    assert_eq!(warnings.len(), 16, "a flood of origins is no flood of warnings");
    assert!(warnings[0].text.contains("the origin http://localhost:5173 is not allowed"), "{warnings:?}");
    // the filter of axum's examples shows what begins so
    assert!(warnings.iter().all(|it| it.level == Level::WARN && it.target.starts_with("tower_http::")));
    // each refusal is an event all the same
    assert_eq!(trace.events("handshake refused").len(), 107);
}

async fn a_forgotten_layer_is_an_error_event_that_names_the_line_to_add<S: Server>() {
    let trace = Trace::record();
    let server = S::start(Setup::echo().without_layer()).await;
    assert_eq!(Client::ask(&server, Request::upgrade()).await.status, 500);
    let event = trace.event("`.layer(WebSocketLayer::new())`");
    assert_eq!(event.level, Level::ERROR);
}

async fn a_server_that_does_not_upgrade_is_an_error_event_that_names_the_option<S: Server>() {
    let trace = Trace::record();
    let server = S::start(Setup::echo().without_upgrades()).await;
    let mut client = Client::connect(server.address).await;
    client.write(Request::upgrade()).await;
    until("the upgrade to fail", || server.seen.failed() == 1).await;
    let event = trace.event("with_upgrades");
    assert_eq!(event.level, Level::ERROR);
}

async fn a_handshake_timeout_is_a_warning<S: Server>() {
    let trace = Trace::record();
    let layer = WebSocketLayer::new().handshake_timeout(Duration::from_millis(100));
    let server = S::start(Setup::echo().layer(layer).answer(Answer::Never)).await;
    assert_eq!(Client::refusal(&server, Request::upgrade()).await.status, 408);
    assert_eq!(trace.event("handshake timeout").level, Level::WARN);
}

async fn what_a_handler_logs_is_in_a_span_that_tells_the_connection<S: Server>() {
    let trace = Trace::record();
    let setup = Setup::new(|mut socket| async move {
        tracing::info!(id = %socket.id(), "before it waits");
        let _ = socket.recv().await;
        tracing::info!("after it waited");
        Err(BoxError::from("the database is gone"))
    });
    let server = S::start(setup.layer(WebSocketLayer::new().protocols(["chat"]))).await;
    let request = Request::upgrade().path("/ws/room?token=secret").with("Sec-WebSocket-Protocol", "chat");
    let mut client = Client::open_with(&server, request).await;
    client.write(Frame::text("go on")).await;
    client.closed_with_answer(1011).await;
    server.until_open(0).await;

    let first = trace.event("before it waits");
    let id = first.text.split("id=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
    for text in ["before it waits", "after it waited", "handler failed"] {
        let event = trace.event(text);
        let span = event.spans.first().expect("a span");
        let peer = if server.http2 { "" } else { "peer=127.0.0.1:" };
        for field in ["path=\"/ws/room\"", "protocol=\"chat\"", peer, &format!("connection={id} ")] {
            assert!(span.starts_with("websocket ") && span.contains(field), "{field}: {event:?}");
        }
        assert!(!span.contains("secret"), "the query is not logged: {event:?}");
    }
    let failed = trace.event("handler failed");
    assert!(failed.text.contains("the database is gone") && failed.level == Level::ERROR, "{failed:?}");
}

async fn a_handlers_panic_is_an_error_event_in_its_connections_span<S: Server>() {
    let trace = Trace::record();
    let setup = Setup::new(|mut socket| async move {
        let _ = socket.recv().await;
        panic!("a handler that panics, as it should")
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::text("go on")).await;
    client.closed_with_answer(1011).await;
    let event = trace.event("handler panicked");
    assert_eq!(event.level, Level::ERROR);
    assert!(event.text.contains("as it should") && event.spans[0].starts_with("websocket "), "{event:?}");
}

async fn no_task_is_left_of_a_connection_however_it_ended<S: Server>() {
    let server = S::start(Setup::echo()).await;
    // on one thread all that is ready has had its turn after that
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let at_rest = tasks();
    for _ in 0..20 {
        Client::open(&server).await.close().await;
        Client::open(&server).await.reset();
        drop(Client::open(&server).await);
        let mut wrong = Client::open(&server).await;
        wrong.write(Frame::text("unmasked").unmasked()).await;
        wrong.closed_with(1002).await;
        let mut gone = Client::connect(server.address).await;
        gone.write(Request::upgrade()).await;
        gone.reset();
        Client::refusal(&server, Request::upgrade().method("POST")).await;
    }
    until("all tasks to end", || tasks() == at_rest).await;
    assert!(server.connections.is_empty());
}

/// Counts what it is told.
#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    with_peer: AtomicUsize,
    closed: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
    pongs: AtomicUsize,
    received: AtomicUsize,
    received_bytes: AtomicUsize,
    sent: AtomicUsize,
    sent_bytes: AtomicUsize,
    codes: Mutex<Vec<u16>>,
}

/// The layer's end of [`Counts`].
struct Counter(Arc<Counts>);

fn add(counter: &AtomicUsize, count: usize) {
    counter.fetch_add(count, Ordering::SeqCst);
}

impl Observer for Counter {
    fn on_open(&self, connection: &ConnectionInfo) {
        add(&self.0.opened, 1);
        add(&self.0.with_peer, usize::from(connection.peer.is_some()));
    }

    fn on_close(&self, _: &ConnectionInfo, closed: &Closed) {
        self.0.codes.lock().expect("no test fails in here").push(closed.code().into());
        add(&self.0.closed, 1);
    }

    fn on_refused(&self, _: &Rejection) {
        add(&self.0.refused, 1);
    }

    fn on_failed_upgrade(&self, _: &Error) {
        add(&self.0.failed, 1);
    }

    fn on_pong(&self, _: ConnectionId, _: Duration) {
        add(&self.0.pongs, 1);
    }

    fn on_message_received(&self, _: ConnectionId, bytes: usize) {
        add(&self.0.received, 1);
        add(&self.0.received_bytes, bytes);
    }

    fn on_message_sent(&self, _: ConnectionId, bytes: usize) {
        add(&self.0.sent, 1);
        add(&self.0.sent_bytes, bytes);
    }
}

async fn what_an_observer_is_told_adds_up<S: Server>() {
    let counts = Arc::<Counts>::default();
    let layer = WebSocketLayer::new()
        .ping_interval(Duration::from_millis(200))
        .observer(Counter(Arc::clone(&counts)));
    let server = S::start(Setup::echo().layer(layer)).await;
    let of = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);

    let mut client = Client::open(&server).await;
    for _ in 0..10 {
        client.write(Frame::text("five!").not_final()).await;
        client.write(Frame::continuation("+ five")).await;
        assert_eq!(client.frame_but_ping().await, Frame::text("five!+ five"));
    }
    let ping = client.frame().await;
    assert!(ping.is_ping(), "{ping:?}");
    client.write(Frame::pong(ping.payload())).await;
    client.write(Frame::pong("nobody asked")).await;
    client.write(Frame::close(4000, "")).await;
    client.closed_with(4000).await;
    Client::open(&server).await.reset();
    let mut wrong = Client::open(&server).await;
    wrong.write(Frame::continuation("")).await;
    wrong.closed_with(1002).await;
    Client::refusal(&server, Request::upgrade().lines("Sec-WebSocket-Version", &[])).await;
    Client::refusal(&server, Request::upgrade().with("Origin", "https://evil.com")).await;

    until("three ends", || of(&counts.closed) == 3).await;
    assert_eq!((of(&counts.opened), of(&counts.refused), of(&counts.failed)), (3, 2, 0));
    assert_eq!(of(&counts.with_peer), 3);
    assert_eq!((of(&counts.received), of(&counts.received_bytes)), (10, 110));
    assert_eq!((of(&counts.sent), of(&counts.sent_bytes)), (10, 110));
    assert_eq!(of(&counts.pongs), 1);
    let mut codes = counts.codes.lock().expect("no test fails in there").clone();
    codes.sort_unstable();
    assert_eq!(codes, [1002, 1006, 4000]);
}

async fn an_observer_is_told_of_upgrades_that_fail_and_of_timeouts<S: Server>() {
    let counts = Arc::<Counts>::default();
    let layer = WebSocketLayer::new()
        .handshake_timeout(Duration::from_millis(100))
        .observer(Counter(Arc::clone(&counts)));
    let server = S::start(Setup::echo().layer(layer).answer(Answer::Withhold)).await;
    assert_eq!(Client::refusal(&server, Request::upgrade()).await.status, 408);
    until("the upgrade to fail", || counts.failed.load(Ordering::SeqCst) == 1).await;
    assert_eq!(counts.refused.load(Ordering::SeqCst), 1);
    assert_eq!((counts.opened.load(Ordering::SeqCst), counts.closed.load(Ordering::SeqCst)), (0, 0));
}

/// Panics whenever it is told something.
struct Panics;

impl Observer for Panics {
    fn on_open(&self, _: &ConnectionInfo) {
        panic!("an observer that panics, as it should");
    }

    fn on_message_received(&self, _: ConnectionId, _: usize) {
        panic!("an observer that panics, as it should");
    }
}

async fn an_observer_that_panics_breaks_nothing<S: Server>() {
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().observer(Panics))).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.echo(Frame::text("hi")).await, Frame::text("hi"));
    client.close().await;
}

ws_tests::cases! {
    on ws_tests::runtime::run_on_one_thread:
    what_a_handler_logs_is_in_a_span_that_tells_the_connection,
    a_handlers_panic_is_an_error_event_in_its_connections_span,
    what_an_observer_is_told_adds_up,
    a_refused_origin_is_a_warning_once_in_a_while_that_names_the_setting,
    an_observer_that_panics_breaks_nothing,

    [not http2: "most of its requests are of HTTP/1.1 only"]
    every_refusal_is_one_event_with_its_reason_and_a_target_of_its_own,

    [not http2: "the tasks of the HTTP/2 connections count, too"]
    no_task_is_left_of_a_connection_however_it_ended,

    [not http2: "hyper upgrades the streams of HTTP/2 unasked"]
    a_server_that_does_not_upgrade_is_an_error_event_that_names_the_option,

    [not warp: "the filter is the layer: it cannot be forgotten"]
    a_forgotten_layer_is_an_error_event_that_names_the_line_to_add,

    [not warp: "a filter cannot cut off the route behind it"]
    a_handshake_timeout_is_a_warning,
    an_observer_is_told_of_upgrades_that_fail_and_of_timeouts,
}
