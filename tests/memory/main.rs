//! What connections cost, at rest and under attack: the bounds that the documentation promises, in bytes of heap.
//!
//! A binary of its own, because it counts all allocations of the process; so its tests run one at a time.

mod heap;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use ws_core::{PreparedMessage, WebSocketLayer};
use ws_tests::adapters::Hyper;
use ws_tests::raw_http2::{Kind, RawFrame, RawHttp2, code};
use ws_tests::wait::DEADLINE;
use ws_tests::{Client, Frame, Running, Server, Setup, until};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Runs a case while no other one runs, and on one thread: each thread keeps buffers to lend to its connections.
fn alone(case: impl Future<Output = ()>) {
    static HEAP: Mutex<()> = Mutex::new(());
    // one that failed leaves nothing behind: its runtime is gone
    let _guard = HEAP.lock().unwrap_or_else(PoisonError::into_inner);
    ws_tests::runtime::run_on_one_thread(case);
}

/// Waits until `measure` is at most `limit`; what is dropped may be dropped on another thread, a moment later.
async fn settles(what: &str, limit: usize, measure: impl Fn() -> usize) {
    let start = Instant::now();
    while measure() > limit {
        assert!(start.elapsed() < DEADLINE, "{what}: {} bytes, and {limit} are allowed", measure());
        sleep(Duration::from_millis(5)).await;
    }
}

/// A layer without any limit of time.
fn patient() -> WebSocketLayer {
    WebSocketLayer::new().ping_interval(None).message_timeout(None).send_timeout(None)
}

/// Opens a connection for each of the numbers, lets some messages through, and keeps nothing but the sockets.
async fn idle_sockets(server: &Running, count: usize) -> Vec<std::net::TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Client::open(server).await;
        for frame in [Frame::text("small"), Frame::binary(vec![1; 100 * KIB]), Frame::ping("ping")] {
            client.write(frame.clone()).await;
            assert_eq!(client.frame().await.payload(), frame.payload());
        }
        sockets.push(client.into_socket());
    }
    sockets
}

async fn an_idle_connection_holds_no_buffer<S: Server>() {
    const COUNT: usize = 400;
    ws_tests::runtime::allow_many_sockets();
    let server = S::start(Setup::echo()).await;
    let _warm = idle_sockets(&server, 100).await;
    let before = heap::live();
    let _sockets = idle_sockets(&server, COUNT).await;
    let each = || heap::live().saturating_sub(before) / COUNT;
    // the smallest buffer there is for I/O is larger than all of it
    settles("heap of an idle connection", 3 * KIB, each).await;
    assert_eq!(server.connections.len(), 100 + COUNT);
}

async fn ten_thousand_connections_leave_nothing_behind<S: Server>() {
    const AT_ONCE: usize = 50;
    let server = S::start(Setup::echo()).await;
    let connect = async |reset: bool| {
        let mut client = Client::open(&server).await;
        if reset {
            return client.reset();
        }
        client.write(Frame::close(1000, "")).await;
        client.closed_with(1000).await;
    };
    let thousand = async || {
        for _ in 0..1_000 / AT_ONCE {
            join_all((0..AT_ONCE).map(|number| connect(number % 2 == 0))).await;
        }
        server.until_open(0).await;
    };
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let tasks_before = tasks();
    thousand().await;
    until("the tasks of the first thousand to end", || tasks() <= tasks_before + 1).await;
    let level = heap::live();
    for _ in 0..9 {
        thousand().await;
    }
    until("all tasks to end", || tasks() <= tasks_before + 1).await;
    settles("heap", level + level / 10, heap::live).await;
}

/// Checks that the heap does not grow by more than this while `attack` goes on.
async fn bounded(limit: usize, attack: impl Future<Output = ()>) {
    heap::reset_growth();
    attack.await;
    let grown = heap::growth();
    assert!(grown <= limit, "the heap grew by {grown} bytes, and {limit} are allowed");
}

/// What stands in the buffers of both ends of a transport, beside what the library may hold: nothing for a socket, whose
/// are the kernel's, and two windows for HTTP/2.
fn in_transit<S: Server>() -> usize {
    if S::OPENED == 101 { 0 } else { 8 * MIB }
}

async fn floods_of_pings_and_pongs_from_one_who_does_not_read_are_bounded<S: Server>() {
    for frame in [Frame::ping([b'p'; 125]), Frame::pong([b'p'; 125])] {
        let server = S::start(Setup::idle().layer(patient())).await;
        let mut client = Client::open(&server).await;
        bounded(MIB, async {
            for _ in 0..200 {
                client.write(frame.masked().repeat(1_000)).await;
            }
        })
        .await;
    }
}

async fn what_is_sent_to_one_who_does_not_read_is_bounded<S: Server>() {
    static PAYLOAD: [u8; 2 * KIB] = [0; 2 * KIB];
    let setup = Setup::new(|mut socket| async move {
        loop {
            socket.send(Bytes::from_static(&PAYLOAD)).await?;
        }
    });
    let server = S::start(setup.layer(patient().send_timeout(Duration::from_millis(500)))).await;
    bounded(MIB + in_transit::<S>(), async {
        let client = Client::open(&server).await;
        server.until_open(1).await;
        // the send timeout says that the buffers are full
        server.until_open(0).await;
        drop(client);
    })
    .await;
}

async fn a_prepared_message_is_held_once_by_all_who_do_not_read<S: Server>() {
    const COUNT: usize = 100;
    let (queued, flushed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let setup = Setup::new({
        let (queued, flushed) = (Arc::clone(&queued), Arc::clone(&flushed));
        let prepared = PreparedMessage::new(vec![7; MIB]);
        move |mut socket| {
            let (queued, flushed) = (Arc::clone(&queued), Arc::clone(&flushed));
            let prepared = prepared.clone();
            async move {
                socket.recv().await;
                // more than the buffers of a socket take
                for _ in 0..16 {
                    socket.send_prepared(&prepared).await?;
                }
                queued.fetch_add(1, Ordering::Relaxed);
                socket.flush().await?;
                flushed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    });
    let server = S::start(setup.layer(patient().outbound_buffer(64 * MIB))).await;
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        clients.push(Client::open(&server).await);
    }
    // beside the copy that there is already
    bounded(COUNT * 4 * KIB, async {
        for client in &mut clients {
            client.write(Frame::text("go").masked()).await;
        }
        until("each to have queued it", || queued.load(Ordering::Relaxed) == COUNT).await;
    })
    .await;
    assert_eq!(flushed.load(Ordering::Relaxed), 0, "all of it is in the buffers of a socket");
}

async fn what_waits_for_a_handler_that_does_not_read_is_bounded<S: Server>() {
    let messages = Frame::binary(vec![0; KIB]).masked().repeat(100);
    let server = S::start(Setup::idle().layer(patient())).await;
    let mut client = Client::open(&server).await;
    bounded(MIB + in_transit::<S>(), async {
        // until the sockets are full, too
        while timeout(Duration::from_millis(500), client.try_write(messages.clone())).await.is_ok() {}
    })
    .await;
}

/// The streams that a client may have by default, of which each has 64 KiB for what is not read.
const STREAMS: u32 = 200;
const WINDOW: usize = 64 * KIB;

/// A server of `ws_hyper::serve`, whose handlers do not read, and a connection with all WebSockets that there may be.
async fn all_streams() -> RawHttp2 {
    let server = Hyper::start(Setup::idle().layer(patient())).await;
    let mut client = RawHttp2::open(server.address).await;
    for number in 0..STREAMS {
        client.send(RawFrame::upgrade(2 * number + 1)).await;
    }
    server.until_open(STREAMS as usize).await;
    client
}

#[test]
fn what_nobody_reads_on_a_connection_of_http_2_is_bounded() {
    alone(async {
        let mut client = all_streams().await;
        // the window of each stream, the queue of its handler, and a read; messages of 4 KiB
        bounded(STREAMS as usize * (WINDOW + 64 * KIB + 16 * KIB) + 4 * MIB, async {
            let message = Frame::binary(vec![0; 4_000]).masked();
            let mut windows = vec![65_535; STREAMS as usize];
            let mut open: Vec<_> = (0..STREAMS).collect();
            while !open.is_empty() {
                for &number in &open {
                    let window = &mut windows[number as usize];
                    while *window >= message.len() {
                        *window -= message.len();
                        client.send(RawFrame::new(Kind::Data, 0, 2 * number + 1, message.clone())).await;
                    }
                }
                open.clear();
                // until the server takes no more
                while let Ok(frame) = timeout(Duration::from_millis(500), client.frame()).await {
                    let frame = frame.expect("the connection stays open");
                    if frame.is(Kind::WindowUpdate) && frame.stream > 0 {
                        let more = u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes"));
                        let number = (frame.stream - 1) / 2;
                        windows[number as usize] += more as usize;
                        open.push(number);
                    }
                }
            }
        })
        .await;
    });
}

#[test]
fn what_pieces_of_a_byte_take_on_a_connection_of_http_2_is_bounded() {
    alone(async {
        let mut client = all_streams().await;
        bounded(STREAMS as usize * WINDOW, async {
            for number in 0..STREAMS {
                let piece = RawFrame::new(Kind::Data, 0, 2 * number + 1, &b"\x82"[..]).bytes();
                // all that the window takes
                if client.try_write(&piece.repeat(WINDOW - 1)).await.is_err() {
                    break;
                }
            }
            assert_eq!(client.goodbye().await.0, code::ENHANCE_YOUR_CALM);
        })
        .await;
    });
}

async fn a_long_message_takes_its_own_length<S: Server>() {
    const LENGTH: usize = 16 * MIB;
    let layer = patient().max_message_size(LENGTH).max_frame_size(LENGTH);
    let setup = Setup::new(|mut socket| async move {
        while let Some(message) = socket.recv().await {
            let length = message?.len();
            socket.send(length.to_string()).await?;
        }
        Ok(())
    });
    let server = S::start(setup.layer(layer)).await;
    let mut client = Client::open(&server).await;
    let message = Frame::binary(vec![0; LENGTH]).masked();
    bounded(LENGTH + MIB + in_transit::<S>(), async {
        client.write(message).await;
        assert_eq!(client.frame().await, Frame::text(LENGTH.to_string()));
    })
    .await;
}

async fn an_announced_length_is_not_allocated_before_its_bytes_come<S: Server>() {
    const COUNT: usize = 100;
    let layer = patient().message_timeout(Duration::from_secs(1));
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        clients.push(Client::open(&server).await);
    }
    bounded(COUNT * 32 * KIB, async {
        for client in &mut clients {
            client.write([Frame::header(0x82, MIB as u64), vec![0; 16]].concat()).await;
        }
        // the timeout says that the beginning of the message was read
        for client in &mut clients {
            client.closed_with(1008).await;
        }
    })
    .await;
}

ws_tests::cases! {
    on crate::alone:
    what_is_sent_to_one_who_does_not_read_is_bounded,
    what_waits_for_a_handler_that_does_not_read_is_bounded,
    a_long_message_takes_its_own_length,

    [not http2: "the streams of HTTP/2 have buffers of the HTTP library's"]
    an_idle_connection_holds_no_buffer,
    ten_thousand_connections_leave_nothing_behind,
    floods_of_pings_and_pongs_from_one_who_does_not_read_are_bounded,
    an_announced_length_is_not_allocated_before_its_bytes_come,
    a_prepared_message_is_held_once_by_all_who_do_not_read,
}
