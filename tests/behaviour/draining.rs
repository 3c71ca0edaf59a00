//! A deploy: what open connections, new handshakes, handlers and the HTTP server see of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::mpsc;
use ws_core::{CloseCode, Drain, WebSocketLayer};
use ws_tests::{Answer, Client, Frame, Request, Running, Server, Setup, until, within};

/// A number of clients with a connection each.
async fn clients(server: &Running, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::open(server).await);
    }
    server.until_open(count).await;
    clients
}

async fn every_connection_is_closed_and_its_handler_sees_an_orderly_end<S: Server>() {
    for (drain, code) in [(Drain::new(), 1001), (Drain::new().code(CloseCode::SERVICE_RESTART), 1012)] {
        let (report, mut reports) = mpsc::unbounded_channel();
        let setup = Setup::new(move |mut socket| {
            let report = report.clone();
            async move {
                let received = socket.recv().await;
                report.send((received.is_none(), socket.closed().await))?;
                Ok(())
            }
        });
        let server = S::start(setup).await;
        let mut clients = clients(&server, 20).await;
        let (drained, ()) = tokio::join!(server.connections.drain(drain), async {
            join_all(clients.iter_mut().map(|client| client.closed_with_answer(code))).await;
        });
        assert_eq!((drained.closed, drained.aborted, server.connections.len()), (20, 0, 0));
        for _ in 0..20 {
            let (is_none, closed) = within("a report", reports.recv()).await.expect("the handler reports");
            assert!(is_none && closed.clean && closed.code() == code.into(), "{closed:?}");
        }
    }
}

async fn what_was_sent_before_a_drain_goes_out_before_its_close<S: Server>() {
    let setup = Setup::new(|mut socket| async move {
        socket.send("much to come").await?;
        socket.send(vec![1; 512 * 1024]).await?;
        while socket.recv().await.is_some() {}
        Ok(())
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.frame().await, Frame::text("much to come"));
    let (drained, ()) = tokio::join!(server.connections.drain(Drain::new()), async {
        assert_eq!(client.frame().await, Frame::binary(vec![1; 512 * 1024]));
        client.closed_with_answer(1001).await;
    });
    assert_eq!((drained.closed, drained.aborted), (1, 0));
}

async fn connections_are_told_in_batches<S: Server>() {
    let interval = Duration::from_millis(500);
    let server = S::start(Setup::echo()).await;
    let mut clients = clients(&server, 9).await;
    let start = Instant::now();
    let (drained, mut told) = tokio::join!(
        server.connections.drain(Drain::new().batches(3, interval)),
        join_all(clients.iter_mut().map(|client| async {
            client.closed_with_answer(1001).await;
            start.elapsed()
        }))
    );
    assert_eq!((drained.closed, drained.aborted), (9, 0));
    told.sort();
    for (batch, times) in (0..).zip(told.chunks(3)) {
        assert!(times[0] >= interval * batch, "{told:?}");
    }
}

async fn new_handshakes_are_refused_with_503_and_told_when_to_come_back<S: Server>() {
    let server = S::start(Setup::idle()).await;
    let mut client = Client::open(&server).await;
    let drain = tokio::spawn({
        let connections = server.connections.clone();
        let drain = Drain::new().reconnect_within(Duration::from_secs(30)).timeout(Duration::from_secs(60));
        async move { connections.drain(drain).await }
    });
    let close = client.frame().await;
    assert_eq!(close.close_code(), Some(1001), "{close:?}");
    let hint =
        str::from_utf8(&close.payload()[2..]).ok().and_then(|reason| reason.strip_prefix("retry-after="));
    let response = Client::refusal(&server, Request::upgrade()).await;
    assert_eq!(response.status, 503);
    for seconds in [hint, response.header("retry-after")] {
        let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect("a number of seconds");
        assert!((1..=30).contains(&seconds), "{seconds}");
    }
    // the drain waits for a handler that does not return; what is no upgrade passes as ever
    assert_eq!(Client::ask(&server, Request::new("GET", "/plain")).await.status, 200);
    assert!(!drain.is_finished());
    drain.abort();
}

async fn at_the_deadline_what_is_left_is_dropped_with_its_handlers<S: Server>() {
    struct Dropped(Arc<Mutex<Vec<Instant>>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.lock().expect("no handler panics").push(Instant::now());
        }
    }

    let dropped = Arc::<Mutex<Vec<Instant>>>::default();
    let setup = Setup::new({
        let dropped = Arc::clone(&dropped);
        move |socket| {
            let guard = Dropped(Arc::clone(&dropped));
            async move {
                std::future::pending::<()>().await;
                drop((socket, guard));
                Ok(())
            }
        }
    });
    let server = S::start(setup).await;
    // some answer the Close, some do not, and no handler returns
    let mut clients = clients(&server, 4).await;
    let deadline = Duration::from_millis(500);
    let start = Instant::now();
    let (drained, ()) = tokio::join!(server.connections.drain(Drain::new().timeout(deadline)), async {
        for client in &mut clients[..2] {
            client.closed_with_answer(1001).await;
        }
    });
    assert_eq!((drained.aborted, server.connections.len()), (4, 0));
    let dropped = dropped.lock().expect("no handler panics");
    assert_eq!(dropped.len(), 4, "`drain` returns when the handlers are gone");
    assert!(dropped.iter().all(|time| *time >= start + deadline));
}

async fn messages_that_nobody_takes_are_not_in_the_way_of_a_drain<S: Server>() {
    let setup = Setup::new(|socket| async move {
        socket.closed().await;
        Ok(())
    });
    let server = S::start(setup.layer(WebSocketLayer::new().inbound_queue(1, 1_000))).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::binary(vec![0; 500]).masked().repeat(1_000)).await;
    let (drained, ()) = tokio::join!(server.connections.drain(Drain::new()), client.closed_with_answer(1001));
    assert_eq!((drained.closed, drained.aborted), (1, 0));
}

async fn a_handshake_under_way_is_drained_too<S: Server>() {
    let layer = WebSocketLayer::new().handshake_timeout(Duration::from_secs(60));
    let server = S::start(Setup::echo().layer(layer).answer(Answer::Withhold)).await;
    let mut client = Client::to(&server).await;
    client.request(Request::upgrade()).await;
    until("the handshake", || server.seen.under_way() == 1).await;
    let drain = Drain::new().timeout(Duration::from_millis(200));
    let drained = within("the drain", server.connections.drain(drain)).await;
    assert_eq!(drained.aborted, 1);
    until("the upgrade to fail", || server.seen.failed() == 1).await;
}

async fn a_server_without_connections_is_drained_at_once<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let drain = Drain::new().timeout(Duration::from_secs(3600));
    let drained = within("the drain", server.connections.drain(drain)).await;
    assert_eq!((drained.closed, drained.aborted), (0, 0));
    assert_eq!(Client::refusal(&server, Request::upgrade()).await.status, 503);
}

async fn a_graceful_shutdown_that_awaits_the_drain_ends_with_it<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut clients = clients(&server, 5).await;
    let connections = server.connections.clone();
    tokio::join!(server.stop(), async {
        join_all(clients.iter_mut().map(|client| client.closed_with_answer(1001))).await;
    });
    assert!(connections.is_empty());
}

async fn a_graceful_shutdown_ends_at_the_drains_deadline_whatever_peers_and_handlers_do<S: Server>() {
    let drain = Drain::new().timeout(Duration::from_millis(200));
    let server = S::start(Setup::idle().drain(drain)).await;
    let clients = clients(&server, 5).await;
    let connections = server.connections.clone();
    server.stop().await;
    assert!(connections.is_empty());
    drop(clients);
}

ws_tests::cases! {
    every_connection_is_closed_and_its_handler_sees_an_orderly_end,
    what_was_sent_before_a_drain_goes_out_before_its_close,
    connections_are_told_in_batches,
    new_handshakes_are_refused_with_503_and_told_when_to_come_back,
    at_the_deadline_what_is_left_is_dropped_with_its_handlers,
    a_handshake_under_way_is_drained_too,
    a_server_without_connections_is_drained_at_once,
    a_graceful_shutdown_that_awaits_the_drain_ends_with_it,
    a_graceful_shutdown_ends_at_the_drains_deadline_whatever_peers_and_handlers_do,
    messages_that_nobody_takes_are_not_in_the_way_of_a_drain,
}
