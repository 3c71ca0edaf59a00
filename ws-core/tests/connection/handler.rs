//! How a handler's result ends the connection, and what ends a handler.

use std::future::{pending, poll_fn};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use ws_core::{CloseCode, Drain, WebSocket, WebSocketLayer, testing};

use crate::support::{Frame, HOUR, SECOND, ask, echo, numbers, open, received, serve, settle, soon, wire};

#[tokio::test(start_paused = true)]
async fn a_return_sends_all_and_closes_with_1000() {
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        for number in 0..3 {
            socket.send(number.to_string()).await.unwrap();
        }
    });
    let mut expected = numbers(3);
    expected.push(Frame::close(1000, ""));
    for frame in expected {
        assert_eq!(peer.next().await, Some(frame));
    }
    peer.send(&Frame::close(1000, ""));
    assert_eq!(peer.rest().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_error_closes_with_1011_after_all_that_was_sent() {
    let peer = serve(&WebSocketLayer::new(), async |mut socket: WebSocket| {
        socket.send("sent").await.unwrap();
        Err::<(), _>(io::Error::other("a test"))
    });
    assert_eq!(peer.next().await, Some(Frame::text("sent")));
    assert_eq!(peer.next().await.unwrap().close_code(), 1011);
}

/// Panics, unless it is dropped by a panic.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a test");
    }
}

/// An error that panics when it is boxed.
struct Fuse;

impl From<Fuse> for Box<dyn std::error::Error + Send + Sync> {
    fn from(_: Fuse) -> Self {
        panic!("a test, in an error")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_with_1011_wherever_it_happens() {
    let layer = WebSocketLayer::new();
    let start = Instant::now();
    let peers = [
        serve(&layer, |_: WebSocket| -> std::future::Ready<()> { panic!("a test, before the future") }),
        serve(&layer, |_: WebSocket| poll_fn(|_| -> Poll<()> { panic!("a test, in the first turn") })),
        serve(&layer, async move |_: WebSocket| {
            sleep(SECOND).await;
            assert!(start.elapsed() < SECOND, "a test, in a later turn");
        }),
        serve(&layer, async |_: WebSocket| Err::<(), _>(Fuse)),
        serve(&layer, |_: WebSocket| {
            let bomb = Bomb;
            // dropped with the future, not at the end of its body
            poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(())
            })
        }),
    ];
    for peer in peers {
        assert_eq!(peer.next().await.unwrap().close_code(), 1011);
        peer.send(&Frame::close(1011, ""));
        assert_eq!(peer.rest().await, []);
        peer.end();
        peer.dropped().await;
    }
    assert!(layer.connections().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_drops_its_socket_goes_on_and_so_does_the_connection() {
    let start = Instant::now();
    let peer = serve(&WebSocketLayer::new(), async |socket: WebSocket| {
        drop(socket);
        sleep(10 * SECOND).await;
    });
    peer.send_all(&[Frame::text("to nobody"), Frame::ping(b"there?")]);
    assert_eq!(peer.next().await, Some(Frame::pong(b"there?")));
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_task_is_done_when_the_connection_is_over_and_the_handler_has_returned() {
    let (transport, peer) = wire();
    let layer = WebSocketLayer::new();
    let task = tokio::spawn(testing::accept(&layer, transport, async |mut socket: WebSocket| {
        while socket.recv().await.is_some() {}
        sleep(HOUR).await;
    }));
    let start = Instant::now();
    peer.end();
    peer.dropped().await;
    settle().await;
    assert!(layer.connections().is_empty(), "the slot is free while the handler runs");
    assert!(!task.is_finished());
    soon(task).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3600);
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_and_the_handler_receives_none() {
    let layer = WebSocketLayer::new();
    let (peer, texts) = ask(&layer, async |mut socket: WebSocket| received(&mut socket).await);
    settle().await;
    let connections = layer.connections();
    let (drained, ()) = tokio::join!(connections.drain(Drain::new()), async {
        assert_eq!(peer.next().await, Some(Frame::close(1001, "")));
        peer.send(&Frame::close(1001, ""));
        peer.end();
    });
    assert_eq!((drained.closed, drained.aborted), (1, 0));
    assert!(texts.get().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_drops_the_handlers_future_at_its_deadline() {
    let layer = WebSocketLayer::new();
    let flag = Arc::new(AtomicBool::new(false));
    let dropped = Dropped(Arc::clone(&flag));
    let peer = serve(&layer, async move |socket: WebSocket| {
        pending::<()>().await;
        drop((socket, dropped));
    });
    let start = Instant::now();
    let drained = soon(layer.connections().drain(Drain::new().timeout(7 * SECOND))).await;
    assert_eq!((drained.closed, drained.aborted), (0, 1));
    assert!(flag.load(Ordering::Relaxed));
    assert!(peer.state().dropped);
    assert_eq!(start.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_connection_that_was_never_polled() {
    let layer = WebSocketLayer::new();
    let flag = Arc::new(AtomicBool::new(false));
    let dropped = Dropped(Arc::clone(&flag));
    let (transport, peer) = wire();
    let task = testing::accept(&layer, transport, async move |_: WebSocket| drop(dropped));
    let drain = tokio::spawn(async move { layer.connections().drain(Drain::new().timeout(SECOND)).await });
    sleep(2 * SECOND).await;
    soon(task).await;
    assert_eq!(soon(drain).await.unwrap().aborted, 1);
    assert!(flag.load(Ordering::Relaxed));
    assert!(peer.state().dropped);
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_a_deadline_waits() {
    let layer = WebSocketLayer::new();
    let peer = serve(&layer, echo);
    settle().await;
    let connections = layer.connections();
    let (drained, ()) =
        tokio::join!(connections.drain(Drain::new().timeout(std::time::Duration::MAX)), async {
            assert_eq!(peer.next().await.unwrap().close_code(), 1001);
            peer.send(&Frame::close(1001, ""));
            peer.end();
        });
    assert_eq!((drained.closed, drained.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_cancelled_goes_on_with_the_next_call() {
    let layer = WebSocketLayer::new();
    let (mut socket, peer) = open(&layer).await;
    let connections = layer.connections();
    assert!(connections.drain(Drain::new()).now_or_never().is_none());
    assert!(connections.is_draining());
    assert!(soon(socket.recv()).await.is_none());
    assert_eq!(socket.close_frame().unwrap().code, CloseCode::GOING_AWAY);
    peer.end();
    drop(socket);
    assert_eq!(soon(connections.drain(Drain::new())).await.aborted, 0);
    assert!(connections.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_connections_span_is_entered_while_the_handler_runs() {
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
    let names = Arc::new(Mutex::new(Vec::new()));
    let peer = serve(&WebSocketLayer::new(), {
        let names = Arc::clone(&names);
        async move |_: WebSocket| {
            for _ in 0..2 {
                let name = tracing::Span::current().metadata().map(tracing::Metadata::name);
                names.lock().unwrap().push(name);
                sleep(SECOND).await;
            }
        }
    });
    peer.next().await;
    assert_eq!(*names.lock().unwrap(), [Some("websocket"); 2]);
}
