//! Interleavings of threads, by shuttle: what is sent to a user while connections of theirs come, go, and replace one another,
//! and to a room while they join and leave it. If a wake-up were lost, all threads would wait, and shuttle would report a
//! deadlock.
//!
//! `scripts/interleavings` runs these tests. shuttle switches threads at the locks of this crate, those of the log in memory
//! and of the backplane in memory included, and not at those of connections or of tokio. Tasks that are spawned never run: no
//! signals of other nodes are handled, and there are no rooms with a history, no timers, and no log that has to wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};
use shuttle::{check_random, sync::Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use ws_core::{WebSocketLayer, testing};

use crate::config::{Guarantee, Login};
use crate::hub::Hub;
use crate::log::{After, Log as _, Page};
use crate::memory::MemoryLog;

/// How many interleavings are tried.
const ORDERS: usize = 2_000;

const USER: u64 = 7;

/// Where a client writes, until it is gone.
type Writer = Mutex<Option<WriteHalf<DuplexStream>>>;

/// What a client has got, frame by frame.
type Texts = Vec<String>;

/// How a client ends its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// It reads until the server has closed.
    Polite,
    /// It is gone after its first message.
    Vanishes,
}

/// A connection of the user: its task and its client have a thread each.
struct Client {
    writer: Arc<Writer>,
    serving: JoinHandle<()>,
    reading: JoinHandle<Texts>,
}

impl Client {
    /// One whose pipe takes so many bytes.
    fn connect(hub: &Hub<u64>, pipe: usize, manners: Manners) -> Self {
        let (server, client) = duplex(pipe);
        let hub = hub.clone();
        let layer = WebSocketLayer::new().outbound_buffer(pipe).ping_interval(None).send_timeout(None);
        let task = testing::accept(&layer, server, async move |socket| hub.attach(USER, socket).await);
        let serving = thread::spawn(move || block_on(task));
        let (reader, writer) = split(client);
        let writer = Arc::new(Mutex::new(Some(writer)));
        let reading = {
            let writer = Arc::clone(&writer);
            thread::spawn(move || {
                let texts = block_on(read(reader, &writer, manners));
                *writer.lock().unwrap() = None;
                texts
            })
        };
        Self { writer, serving, reading }
    }

    /// Ends the connection, and returns what came.
    fn close(self) -> Texts {
        block_on(write(&self.writer, 0x88, &1000_u16.to_be_bytes()));
        self.serving.join().unwrap();
        self.reading.join().unwrap()
    }
}

async fn write(writer: &Writer, head: u8, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap();
    // a key of zeros leaves the payload as it is
    let frame = [&[head, 0x80 | length, 0, 0, 0, 0][..], payload].concat();
    if let Some(writer) = &mut *writer.lock().unwrap() {
        // the server may be gone
        let _ = writer.write_all(&frame).await;
    }
}

/// Reads texts, and answers pings, until the end of the stream.
async fn read(mut reader: ReadHalf<DuplexStream>, writer: &Writer, manners: Manners) -> Texts {
    let mut texts = Vec::new();
    loop {
        let mut head = [0; 2];
        if reader.read_exact(&mut head).await.is_err() {
            return texts;
        }
        let mut payload = vec![0; usize::from(head[1])];
        if reader.read_exact(&mut payload).await.is_err() {
            return texts;
        }
        match head[0] {
            0x81 => texts.push(String::from_utf8(payload).unwrap()),
            0x88 => write(writer, 0x88, &payload).await,
            0x89 => write(writer, 0x8a, &payload).await,
            other => panic!("a frame with the head {other:#x}"),
        }
        if manners == Manners::Vanishes && head[0] == 0x81 {
            return texts;
        }
    }
}

/// Sends messages to the user from a thread. Returns those that were accepted.
fn send(hub: &Hub<u64>, texts: [&'static str; 2]) -> JoinHandle<Texts> {
    let hub = hub.clone();
    thread::spawn(move || {
        let accepted = texts.into_iter().filter(|text| block_on(hub.send(&USER, *text)).is_accepted());
        accepted.map(str::to_owned).collect()
    })
}

fn kick(hub: &Hub<u64>) -> JoinHandle<()> {
    let hub = hub.clone();
    thread::spawn(move || {
        block_on(hub.kick(&USER)).unwrap();
    })
}

/// A hub, and its log.
fn hub(guarantee: Guarantee, login: Login) -> (Hub<u64>, Arc<MemoryLog<u64>>) {
    let log = Arc::new(MemoryLog::new());
    let hub = Hub::builder().guarantee(guarantee).login(login).log(Arc::clone(&log)).build();
    (hub, log)
}

fn waiting(log: &MemoryLog<u64>) -> Texts {
    let page = Page { messages: usize::MAX, bytes: usize::MAX };
    let read = block_on(log.read(&USER, After::Cursor, page)).unwrap();
    read.entries.iter().map(|entry| entry.message.as_text().unwrap().to_owned()).collect()
}

/// Nobody is left, and nothing of them.
fn assert_empty(hub: &Hub<u64>) {
    let inner = &hub.inner;
    assert_eq!(inner.attached.load(Ordering::SeqCst), 0);
    assert_eq!((inner.read().counts(), inner.read().everyone().len()), ((0, 0, 0), 0));
    assert_eq!(block_on(hub.are_online_anywhere(&[USER])).unwrap(), [false]);
}

/// Tries `scenario` in many orders, with timers that never fire.
fn in_any_order(scenario: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    check_random(scenario, ORDERS);
}

/// Sends from two threads, while connections with a pipe of so many bytes come, replace one another, and are kicked.
fn each_message_is_delivered_or_waits(guarantee: Guarantee, login: Login, pipe: usize, second: Manners) {
    in_any_order(move || {
        let (hub, log) = hub(guarantee, login);
        let first = Client::connect(&hub, pipe, Manners::Polite);
        let senders = [send(&hub, ["a", "b"]), send(&hub, ["c", "d"])];
        let second = Client::connect(&hub, pipe, second);
        let kicking = kick(&hub);
        let first = first.close();
        let accepted: Texts = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        assert_eq!(accepted.len(), 4);
        kicking.join().unwrap();
        let second = second.close();
        assert_empty(&hub);
        let delivered: Texts = first.into_iter().chain(second).collect();
        let (waiting, is_once) = (waiting(&log), guarantee == Guarantee::AtMostOnce);
        for text in &accepted {
            let count = delivered.iter().filter(|it| *it == text).count();
            let waits = waiting.contains(text);
            assert!(count > 0 || waits, "{text} is lost: {delivered:?} {waiting:?}");
            assert!(!is_once || count + usize::from(waits) == 1, "{text} twice: {delivered:?} {waiting:?}");
        }
    });
}

#[test]
fn what_is_sent_while_connections_replace_one_another_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Login::ReplaceOld, 64, Manners::Polite);
}

#[test]
fn what_does_not_fit_into_a_connection_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Login::ReplaceOld, 3, Manners::Polite);
}

#[test]
fn what_a_client_that_vanishes_has_not_confirmed_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtLeastOnce, Login::ReplaceOld, 64, Manners::Vanishes);
}

#[test]
fn what_is_sent_while_a_second_connection_is_refused_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Login::RejectNew, 64, Manners::Polite);
}

#[test]
fn what_a_room_is_said_to_have_got_comes_while_a_user_joins_leaves_and_goes() {
    in_any_order(|| {
        let (hub, _log) = hub(Guarantee::AtMostOnce, Login::ReplaceOld);
        let client = Client::connect(&hub, 64, Manners::Polite);
        let moving = {
            let hub = hub.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let has_joined = block_on(hub.join(&USER, "room")).is_ok();
                    // they may have gone meanwhile
                    assert!(!hub.leave(&USER, "room") || has_joined);
                }
                let _ = block_on(hub.join(&USER, "room"));
            })
        };
        let sending = ["a", "b"].map(|text| {
            let hub = hub.clone();
            thread::spawn(move || {
                let sent = (0..2).map(|_| block_on(hub.room("room").send(text)).here);
                sent.sum::<usize>()
            })
        });
        let kicking = kick(&hub);
        let came = client.close();
        moving.join().unwrap();
        let sent: usize = sending.into_iter().map(|sending| sending.join().unwrap()).sum();
        kicking.join().unwrap();
        assert_eq!(came.len(), sent);
        assert!(came.iter().collect::<HashSet<_>>().len() <= 2);
        assert_empty(&hub);
    });
}
