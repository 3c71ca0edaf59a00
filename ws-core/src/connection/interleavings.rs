//! Interleavings of threads, by shuttle: no wake-up is lost between the task of a connection, other threads that use the
//! connection, and a drain. If one were lost, all threads would wait, and shuttle would report a deadlock.
//!
//! `scripts/interleavings` runs these tests. shuttle switches threads at the locks and atomics of this crate, and not at
//! those of tokio.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use shuttle::future::block_on;
use shuttle::sync::{Mutex, mpsc};
use shuttle::{check_random, thread};
use tokio::io::{DuplexStream, duplex};
use tracing::Span;

use super::{Driver, Link, Shared, Transport, WebSocket};
use crate::config::{ConnectionConfig, Negotiated};
use crate::message::Message;
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::protocol::Role;
use crate::tracker::{Connections, Drain, Registration};

/// How many interleavings are tried.
const ORDERS: usize = 2_000;

fn link(role: Role, stream: DuplexStream, registration: Option<Registration>) -> Link {
    // a small buffer, so that senders wait
    let config = ConnectionConfig { ping_interval: None, outbound_bytes: 4, ..ConnectionConfig::default() };
    let info = ConnectionInfo { id: ConnectionId::next(), peer: None, protocol: None };
    let shared = Shared::new(role, info, Arc::new(config), Negotiated::default(), &[]);
    Link::new(shared, Transport::Other(Box::new(stream)), registration, Span::none())
}

/// A connection whose task has a thread of its own.
fn connect(
    role: Role,
    stream: DuplexStream,
    registration: Option<Registration>,
) -> (WebSocket, thread::JoinHandle<()>) {
    let (driver, socket) = Driver::without_handler(link(role, stream, registration));
    (socket, thread::spawn(move || block_on(driver)))
}

/// As [`connect`], of a server whose handler sends back what it receives.
fn echo(stream: DuplexStream) -> thread::JoinHandle<()> {
    let driver = Driver::new(link(Role::Server, stream, None), async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    });
    thread::spawn(move || block_on(driver))
}

/// Tries `scenario` in many orders, with timers that never fire.
fn in_any_order(scenario: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    check_random(scenario, ORDERS);
}

#[test]
fn what_two_threads_send_wakes_the_connection_and_then_the_receiver() {
    in_any_order(|| {
        let (server, client) = duplex(16);
        let ((server, serving), (mut client, using)) =
            (connect(Role::Server, server, None), connect(Role::Client, client, None));
        let (sender, receiver) = server.split();
        let senders = ["a", "b"].map(|text| {
            let sender = sender.clone();
            thread::spawn(move || block_on(async { sender.send(text.repeat(8)).await.unwrap() }))
        });
        let mut received: Vec<_> =
            (0..2).map(|_| block_on(client.recv()).unwrap().unwrap().as_text().unwrap().to_owned()).collect();
        received.sort();
        assert_eq!(received, ["aaaaaaaa", "bbbbbbbb"]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        drop((receiver, sender));
        assert!(block_on(client.recv()).is_none());
        drop(client);
        serving.join().unwrap();
        using.join().unwrap();
    });
}

#[test]
fn a_handler_is_woken_for_what_comes_however_it_is_cut() {
    in_any_order(|| {
        let (server, client) = duplex(16);
        let serving = echo(server);
        let (mut client, using) = connect(Role::Client, client, None);
        let sender = client.sender();
        let texts = ["a", "bb", "a longer one", "d"];
        let sending = thread::spawn(move || {
            for text in texts {
                block_on(sender.send(text)).unwrap();
            }
            drop(sender);
        });
        for text in texts {
            assert_eq!(block_on(client.recv()).unwrap().unwrap(), Message::from(text));
        }
        sending.join().unwrap();
        block_on(client.close(1000, "")).unwrap();
        drop(client);
        serving.join().unwrap();
        using.join().unwrap();
    });
}

/// Wakes the handler for each number, as one who has put something where the handler looks for it.
#[test]
fn a_handler_is_polled_for_each_wake_however_busy_its_connection_is() {
    const LAST: usize = 3;
    in_any_order(|| {
        let (server, client) = duplex(16);
        let (mut client, using) = connect(Role::Client, client, None);
        let mailbox = Arc::new(Mutex::new((0, None::<Waker>)));
        let (give, given) = mpsc::channel();
        let driver = Driver::new(link(Role::Server, server, None), {
            let mailbox = Arc::clone(&mailbox);
            async move |mut socket: WebSocket| {
                give.send(socket.sender()).unwrap();
                for expected in 1..=LAST {
                    poll_fn(|cx| {
                        let (number, waker) = &mut *mailbox.lock().unwrap();
                        *waker = Some(cx.waker().clone());
                        if *number >= expected { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                }
                socket.send(Message::from("last")).await.unwrap();
            }
        });
        let serving = thread::spawn(move || block_on(driver));
        let sender = given.recv().unwrap();
        let sending = thread::spawn(move || while block_on(sender.send("news")).is_ok() {});
        let waking = thread::spawn(move || {
            for number in 1..=LAST {
                let waker = {
                    let (shown, waker) = &mut *mailbox.lock().unwrap();
                    *shown = number;
                    waker.take()
                };
                waker.into_iter().for_each(Waker::wake);
            }
        });
        while let Some(Ok(message)) = block_on(client.recv()) {
            assert!(message == Message::from("news") || message == Message::from("last"));
        }
        drop(client);
        for thread in [sending, waking, serving, using] {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_sender_learns_that_the_peer_has_closed() {
    in_any_order(|| {
        let (server, client) = duplex(64);
        let ((mut server, serving), (mut client, using)) =
            (connect(Role::Server, server, None), connect(Role::Client, client, None));
        let closing = thread::spawn(move || block_on(async { server.close(4000, "").await.unwrap() }));
        let sending = thread::spawn(move || {
            // one of them fails when the connection is over
            while block_on(client.send(Message::from("x"))).is_ok() {}
            assert!(block_on(client.recv()).is_none());
        });
        closing.join().unwrap();
        sending.join().unwrap();
        serving.join().unwrap();
        using.join().unwrap();
    });
}

#[test]
fn a_drain_finds_a_connection_however_early_or_late_it_comes() {
    in_any_order(|| {
        let connections = Connections::default();
        let (server, client) = duplex(64);
        let opening = thread::spawn({
            let connections = connections.clone();
            move || {
                let Ok(slot) = connections.acquire() else { return };
                let (socket, serving) = connect(Role::Server, server, Some(slot.register()));
                assert!(block_on(socket.closed()).clean);
                drop(socket);
                serving.join().unwrap();
            }
        });
        let (mut socket, using) = connect(Role::Client, client, None);
        let draining = thread::spawn({
            let connections = connections.clone();
            move || assert_eq!(block_on(connections.drain(Drain::new())).aborted, 0)
        });
        // without a Close frame if it was refused
        while let Some(Ok(_)) = block_on(socket.recv()) {}
        drop(socket);
        opening.join().unwrap();
        draining.join().unwrap();
        using.join().unwrap();
        assert!(connections.is_empty());
    });
}
