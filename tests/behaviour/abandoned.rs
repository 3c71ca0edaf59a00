//! Sockets that nobody awaits, upgrades that nobody uses, and handlers that block their thread: a drain and a shutdown
//! end in time all the same, and tell how many connections are left.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ::hyper::body::Incoming;
use ::hyper::server::conn::http1;
use ::hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::Layer as _;
use ws_core::Connections;
use ws_hyper::{Body, Drain, Error, FutureWebSocket, Rejection, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_tests::server::listen;
use ws_tests::wait::DEADLINE;
use ws_tests::{Answer, Client, Endpoint, Frame, Instead, Request, Server, Setup, until, within};

/// The time of a drain that does not wait for what is left.
const SHORT: Duration = Duration::from_millis(300);

/// Keeps a value for as long as a test wants it.
type Kept<T> = Arc<Mutex<Vec<T>>>;

fn keep<T>(kept: &Kept<T>, value: T) {
    kept.lock().expect("no test panics with it").push(value);
}

/// What blocks a thread.
struct Blocked(Mutex<mpsc::Receiver<()>>);

/// What unblocks the thread when it is dropped, and what blocks it.
fn blocked() -> (mpsc::Sender<()>, Arc<Blocked>) {
    let (unblock, blocked) = mpsc::channel();
    (unblock, Arc::new(Blocked(Mutex::new(blocked))))
}

impl Blocked {
    fn block(&self) {
        // an error once the sender is dropped; in time, as the test's own timers may need this thread to fail
        let _ = self.0.lock().expect("one thread has it").recv_timeout(DEADLINE);
    }
}

/// A server of `ws_hyper::serve`.
struct Running {
    address: SocketAddr,
    connections: Connections,
    shut_down: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start<F, Fut>(layer: WebSocketLayer, drain: Drain, respond: F) -> Self
    where
        F: Fn(http::Request<Incoming>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = http::Response<Body>> + Send + 'static,
    {
        let (listener, address) = listen().await;
        let connections = layer.connections();
        let app = layer.layer(tower::service_fn(move |request| {
            let response = respond(request);
            async { Ok::<_, Infallible>(response.await) }
        }));
        let (shut_down, signal) = oneshot::channel();
        let signal = async { drop(signal.await) };
        let server =
            ws_hyper::serve(listener, app).with_graceful_shutdown(signal, connections.clone(), drain);
        Self { address, connections, shut_down, server: tokio::spawn(server.into_future()) }
    }

    /// Shuts it down; fails if it does not end before a thread that blocks does.
    async fn stop(self) {
        self.shut_down.send(()).expect("the server runs");
        // `tokio::time::timeout` needs a thread of the runtime, which may be blocked
        let in_time = Drain::new().timeout(DEADLINE / 2).in_time(self.server).await;
        let ended = in_time.expect("the server ends in time");
        ended.expect("the server does not panic").expect("the listener works");
    }
}

impl From<&Running> for Endpoint {
    fn from(server: &Running) -> Self {
        Self { address: server.address, http2: false }
    }
}

fn upgrade(request: http::Request<Incoming>) -> WebSocketUpgrade {
    WebSocketUpgrade::from_parts(&mut request.into_parts().0).expect("an upgrade")
}

/// A server that keeps the socket of every connection, and never awaits it.
async fn never_awaiting(drain: Drain) -> (Running, Kept<FutureWebSocket>) {
    let sockets = Kept::default();
    let keeping = Arc::clone(&sockets);
    let server = Running::start(WebSocketLayer::new(), drain, move |request| {
        let (response, socket) = upgrade(request).into_parts();
        keep(&keeping, socket);
        ready(response)
    });
    (server.await, sockets)
}

#[test]
fn a_connection_whose_socket_nobody_awaits_is_served_and_drained() {
    ws_tests::runtime::run(async {
        let (server, sockets) = never_awaiting(Drain::new()).await;
        let mut client = Client::open(&server).await;
        client.write(Frame::ping(b"there?").masked()).await;
        assert_eq!(client.frame().await, Frame::pong(b"there?"));
        let connections = server.connections.clone();
        tokio::join!(server.stop(), client.closed_with_answer(1001));
        assert!(connections.is_empty());
        drop(sockets);
    });
}

#[test]
fn a_connection_whose_socket_nobody_awaits_is_dropped_at_the_deadline() {
    ws_tests::runtime::run(async {
        let (server, sockets) = never_awaiting(Drain::new().timeout(SHORT)).await;
        let mut client = Client::open(&server).await;
        let connections = server.connections.clone();
        let (drained, ()) = tokio::join!(connections.drain(Drain::new().timeout(SHORT)), async {
            assert_eq!(client.frame().await.close_code(), Some(1001));
            // it does not answer
            client.until_gone().await;
        });
        assert_eq!((drained.closed, drained.aborted, drained.remaining), (0, 1, 0));
        server.stop().await;
        drop(sockets);
    });
}

#[test]
fn a_socket_that_is_dropped_before_it_is_awaited_gives_the_connection_up() {
    ws_tests::runtime::run(async {
        let (server, sockets) = never_awaiting(Drain::new()).await;
        let mut client = Client::open(&server).await;
        drop(std::mem::take(&mut *sockets.lock().expect("no test panics with it")));
        client.closed_with_answer(1000).await;
        until("the connection to end", || server.connections.is_empty()).await;
        server.stop().await;
    });
}

#[test]
fn a_socket_that_nobody_awaits_is_bound_by_the_handshake_timeout() {
    ws_tests::runtime::run(async {
        let layer = WebSocketLayer::new().handshake_timeout(SHORT);
        let connections = layer.connections();
        let sockets = Kept::default();
        let (listener, address) = listen().await;
        // there is no service of the layer's around it, whose clock would end the handshake
        let keeping: Kept<FutureWebSocket> = Arc::clone(&sockets);
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let (response, socket) =
                ws_hyper::upgrade(&mut request, &layer).expect("an upgrade").into_parts();
            keep(&keeping, socket);
            async move {
                pending::<()>().await;
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await
        });
        let mut client = Client::connect(address).await;
        client.request(Request::upgrade()).await;
        until("the handshake", || sockets.lock().is_ok_and(|sockets| !sockets.is_empty())).await;
        until("its end", || connections.is_empty()).await;
        let socket = sockets.lock().expect("no test panics with it").pop().expect("a socket");
        assert!(matches!(within("the socket", socket).await, Err(error) if error.is_timeout()));
    });
}

#[test]
fn a_socket_whose_runtime_is_gone_fails() {
    ws_tests::runtime::run(async {
        let (give, given) = oneshot::channel();
        let other = std::thread::spawn(|| {
            let runtime = Runtime::new().expect("the system gives threads to a runtime");
            runtime.block_on(async {
                let (server, sockets) = never_answering().await;
                let mut client = Client::connect(server.address).await;
                client.request(Request::upgrade()).await;
                until("the handshake", || sockets.lock().is_ok_and(|sockets| !sockets.is_empty())).await;
                let socket = sockets.lock().expect("no test panics with it").pop().expect("a socket");
                assert!(give.send(socket).is_ok(), "the test waits for it");
            });
        });
        let socket = within("the socket", given).await.expect("the other thread gives it");
        let error = within("its end", socket).await.expect_err("there is no connection");
        assert!(matches!(error, Error::Upgrade { .. }), "{error:?}");
        other.join().expect("it does not panic");
    });
}

/// A server that keeps the socket of every connection, and does not return the response.
async fn never_answering() -> (Running, Kept<FutureWebSocket>) {
    let sockets = Kept::default();
    let keeping = Arc::clone(&sockets);
    let layer = WebSocketLayer::new().handshake_timeout(None);
    let server = Running::start(layer, Drain::new(), move |request| {
        let (_, socket) = upgrade(request).into_parts();
        keep(&keeping, socket);
        pending()
    });
    (server.await, sockets)
}

#[test]
fn a_handshake_whose_service_never_answers_does_not_hold_up_a_shutdown() {
    ws_tests::runtime::run(async {
        let layer = WebSocketLayer::new().handshake_timeout(None);
        let drain = Drain::new().timeout(SHORT);
        let server = Running::start(layer, drain.clone(), |_| pending()).await;
        let mut client = Client::connect(server.address).await;
        client.request(Request::upgrade()).await;
        server.connections.set_max_connections(1);
        until("the handshake", || server.connections.len() == 1).await;
        let drained = within("the drain", server.connections.drain(drain)).await;
        assert_eq!((drained.closed, drained.aborted, drained.remaining), (0, 0, 1));
        let connections = server.connections.clone();
        server.stop().await;
        until("the service to be dropped", || connections.is_empty()).await;
    });
}

#[test]
fn an_upgrade_that_is_kept_does_not_hold_up_a_shutdown() {
    ws_tests::runtime::run(async {
        let upgrades = Kept::default();
        let keeping = Arc::clone(&upgrades);
        let drain = Drain::new().timeout(SHORT);
        let server = Running::start(WebSocketLayer::new(), drain, move |request| {
            keep(&keeping, upgrade(request));
            pending()
        });
        let server = server.await;
        let mut client = Client::connect(server.address).await;
        client.request(Request::upgrade()).await;
        until("the handshake", || upgrades.lock().is_ok_and(|upgrades| !upgrades.is_empty())).await;
        server.stop().await;
        drop(upgrades);
    });
}

#[test]
fn the_response_of_another_request_opens_nothing() {
    ws_tests::runtime::run(async {
        for http2 in [false, true] {
            let first = Kept::default();
            let responses: Kept<http::Response<Body>> = Arc::clone(&first);
            let layer = WebSocketLayer::new().handshake_timeout(None);
            let server = Running::start(layer, Drain::new(), move |request| {
                let made = upgrade(request).on_upgrade(async |socket: WebSocket| {
                    pending::<()>().await;
                    drop(socket);
                });
                let other = responses.lock().expect("no test panics with it").pop();
                if other.is_none() {
                    keep(&responses, made);
                }
                async { if let Some(other) = other { other } else { pending().await } }
            });
            let server = server.await;
            let endpoint = Endpoint { address: server.address, http2 };
            let mut client = Client::to(endpoint).await;
            client.request(Request::upgrade()).await;
            until("the first response", || first.lock().is_ok_and(|first| !first.is_empty())).await;
            let mut other = Client::to(endpoint).await;
            let key = ["AAAAAAAAAAAAAAAAAAAAAA=="];
            let response = other.answer_to(Request::upgrade().lines("Sec-WebSocket-Key", &key)).await;
            assert_eq!(response.status, if http2 { 200 } else { 101 });
            until("the second handshake to end", || server.connections.len() == 1).await;
            drop(client);
            until("the first handshake to end", || server.connections.is_empty()).await;
        }
    });
}

#[test]
fn a_handler_that_blocks_its_thread_does_not_hold_up_a_shutdown() {
    ws_tests::runtime::run(async {
        let (unblock, blocked) = blocked();
        let (report, mut reports) = unbounded_channel();
        let drain = Drain::new().timeout(SHORT);
        let server = Running::start(WebSocketLayer::new(), drain, move |request| {
            let (blocked, report) = (Arc::clone(&blocked), report.clone());
            ready(upgrade(request).on_upgrade(async move |mut socket: WebSocket| {
                socket.recv().await;
                report.send(()).expect("the test waits for it");
                blocked.block();
                drop(socket);
            }))
        });
        let server = server.await;
        let mut client = Client::open(&server).await;
        client.write(Frame::text("block now").masked()).await;
        reports.recv().await.expect("the handler runs");
        server.stop().await;
        drop((unblock, client));
    });
}

#[test]
fn a_handler_that_blocks_when_its_connection_is_over_does_not_hold_up_a_shutdown() {
    ws_tests::runtime::run(async {
        let (unblock, blocked) = blocked();
        let drain = Drain::new().timeout(SHORT);
        let server = Running::start(WebSocketLayer::new(), drain, move |request| {
            let blocked = Arc::clone(&blocked);
            ready(upgrade(request).on_upgrade(async move |mut socket: WebSocket| {
                while socket.recv().await.is_some() {}
                blocked.block();
            }))
        });
        let server = server.await;
        let client = Client::open(&server).await;
        server.stop().await;
        drop((unblock, client));
    });
}

#[test]
fn a_request_whose_service_blocks_its_thread_does_not_hold_up_a_shutdown() {
    ws_tests::runtime::run(async {
        let (unblock, blocked) = blocked();
        let (report, mut reports) = unbounded_channel();
        let drain = Drain::new().timeout(SHORT);
        let server = Running::start(WebSocketLayer::new(), drain, move |_| {
            let (blocked, report) = (Arc::clone(&blocked), report.clone());
            async move {
                report.send(()).expect("the test waits for it");
                blocked.block();
                Rejection::NotAnUpgrade.into_response(http::Version::HTTP_11)
            }
        });
        let server = server.await;
        let mut client = Client::connect(server.address).await;
        client.request(Request::new("GET", "/plain")).await;
        reports.recv().await.expect("the service runs");
        server.stop().await;
        drop((unblock, client));
    });
}

async fn a_drain_tells_of_a_handler_that_blocks_its_thread<S: Server>() {
    let (unblock, blocked) = blocked();
    let (report, mut reports) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let (blocked, report) = (Arc::clone(&blocked), report.clone());
        async move {
            socket.recv().await;
            report.send(())?;
            blocked.block();
            drop(socket);
            Ok(())
        }
    });
    let server = S::start(setup).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::text("block now").masked()).await;
    reports.recv().await.expect("the handler runs");
    let drained = server.connections.drain(Drain::new().timeout(SHORT)).await;
    assert_eq!((drained.closed, drained.aborted, drained.remaining), (0, 1, 1));
    drop(unblock);
    until("the handler to be dropped", || server.connections.is_empty()).await;
    drop(client);
}

/// The upgrade, or what was made of it.
const KEPT: [fn(Instead) -> Answer; 2] = [Answer::Keep, Answer::KeepParts];

async fn an_upgrade_that_is_kept_behind_another_answer_frees_its_slot<S: Server>() {
    // where nobody sees the response, nobody sees that it is not the one that was made
    let kept = if S::SEES_RESPONSES { &KEPT[..] } else { &KEPT[..1] };
    for keep in kept {
        let layer = WebSocketLayer::new().max_connections(1).handshake_timeout(None);
        let server = S::start(Setup::echo().layer(layer).answer(keep(Instead::Unauthorized))).await;
        for kept in 1..=3 {
            assert_eq!(Client::ask(&server, Request::upgrade()).await.status, 401);
            server.until_open(0).await;
            assert_eq!(server.seen.kept(), kept);
        }
        // to use them is an error, and opens nothing
        server.seen.use_kept();
        until("the upgrades to fail", || server.seen.failed() == 3).await;
        assert!(server.seen.take_failed().iter().all(|error| matches!(error, Error::Upgrade { .. })));
        assert!(server.connections.is_empty());
    }
}

async fn an_upgrade_that_is_kept_does_not_keep_the_http_connection<S: Server>() {
    for keep in KEPT {
        let server = S::start(Setup::echo().answer(keep(Instead::Unauthorized))).await;
        let mut client = Client::to(&server).await;
        assert_eq!(client.answer_to(Request::upgrade()).await.status, 401);
        client.end().await;
        assert_eq!(server.seen.kept(), 1);
    }
}

async fn an_upgrade_that_is_kept_frees_its_slot_at_the_handshake_timeout<S: Server>() {
    for keep in KEPT {
        let layer = WebSocketLayer::new().max_connections(1).handshake_timeout(SHORT);
        let server = S::start(Setup::echo().layer(layer).answer(keep(Instead::Never))).await;
        let mut clients = Vec::new();
        for kept in 1..=2 {
            let mut client = Client::to(&server).await;
            client.request(Request::upgrade()).await;
            clients.push(client);
            until("the upgrade to be kept", || server.seen.kept() == kept).await;
            server.until_open(0).await;
        }
        server.seen.use_kept();
        assert!(server.connections.is_empty());
    }
}

async fn an_upgrade_that_is_kept_frees_its_slot_when_its_peer_goes<S: Server>() {
    for keep in KEPT {
        let layer = WebSocketLayer::new().handshake_timeout(None);
        let server = S::start(Setup::echo().layer(layer).answer(keep(Instead::Never))).await;
        for go in [|client: Client| drop(client), Client::reset] {
            let mut client = Client::to(&server).await;
            client.request(Request::upgrade()).await;
            server.until_open(1).await;
            go(client);
            server.until_open(0).await;
        }
        until("the upgrades to be kept", || server.seen.kept() == 2).await;
        let drained = server.connections.drain(Drain::new()).await;
        assert_eq!((drained.aborted, drained.remaining), (0, 0));
        server.seen.use_kept();
        until("the upgrades to fail", || server.seen.failed() == 2).await;
        assert!(server.connections.is_empty());
    }
}

ws_tests::cases! {
    an_upgrade_that_is_kept_behind_another_answer_frees_its_slot,
    an_upgrade_that_is_kept_frees_its_slot_at_the_handshake_timeout,
    an_upgrade_that_is_kept_frees_its_slot_when_its_peer_goes,
    a_drain_tells_of_a_handler_that_blocks_its_thread,

    [not http2: "its connection goes on with other streams", not warp: "a filter does not see the response, to close behind it"]
    an_upgrade_that_is_kept_does_not_keep_the_http_connection,
}
