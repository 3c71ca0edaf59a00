//! The attacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::FlushCompress;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use ws_tests::outside::{Counters, Limits};
use ws_tests::{Client, Frame, Request, within};

use crate::neighbour::{self, Times};
use crate::scene::{Case, KIB, MIB, Scene};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Limits that nobody meets; each case shortens those that it is about.
const LONG: Duration = Duration::from_secs(60);
const PATIENT: Limits = Limits { ping: LONG, pong: LONG, message: LONG, send: LONG, close: LONG };

/// What is in the buffers of a connection at the most: 64 KiB each way, a message more, and what it takes to be there.
const BUFFERS: usize = 256 * KIB;

/// The HTTP servers differ in what is below the library; HTTP/2 is the same in all of them.
const ALL_ADAPTERS: &[&str] = &["axum", "hyper", "hyper_http2", "warp"];

/// What is decoded from the bytes is the same everywhere, and how they come differs by the version of HTTP.
const EACH_HTTP: &[&str] = &["axum", "hyper_http2"];

pub(crate) const ALL: &[Case] = &[
    Case {
        name: "vanishes",
        adapters: ALL_ADAPTERS,
        limits: Limits { ping: ms(300), pong: ms(300), ..PATIENT },
        attackers: 30,
        memory: BUFFERS,
        attack: vanishes,
    },
    Case {
        name: "floods_with_pings_and_never_reads",
        adapters: ALL_ADAPTERS,
        limits: PATIENT,
        attackers: 4,
        memory: BUFFERS,
        attack: floods_with_pings,
    },
    Case {
        name: "floods_with_pongs_and_never_reads",
        adapters: ALL_ADAPTERS,
        limits: PATIENT,
        attackers: 4,
        memory: BUFFERS,
        attack: floods_with_pongs,
    },
    Case {
        name: "drips_the_bytes_of_a_message",
        adapters: EACH_HTTP,
        limits: Limits { ping: ms(200), pong: ms(800), message: ms(1_500), ..PATIENT },
        attackers: 30,
        memory: 32 * KIB,
        attack: drips,
    },
    Case {
        name: "sends_fragments_for_ever_and_answers_pings",
        adapters: EACH_HTTP,
        limits: Limits { ping: ms(200), message: ms(1_500), ..PATIENT },
        attackers: 12,
        // two thirds of them stay far below the limit of a message, and vectors grow by doubling
        memory: MIB,
        attack: sends_fragments,
    },
    Case {
        name: "never_reads_what_the_handler_sends",
        adapters: ALL_ADAPTERS,
        limits: Limits { send: ms(1_000), ..PATIENT },
        attackers: 30,
        memory: BUFFERS,
        attack: never_reads,
    },
    Case {
        name: "floods_a_handler_that_does_not_read",
        adapters: ALL_ADAPTERS,
        limits: Limits { ping: ms(200), pong: ms(300), message: ms(500), ..PATIENT },
        attackers: 3,
        memory: BUFFERS,
        attack: floods_with_messages,
    },
    Case {
        name: "floods_with_compressed_messages",
        adapters: EACH_HTTP,
        limits: PATIENT,
        attackers: 4,
        // a message grows by doubling, while the handler has another; and the process keeps the memory of long ones
        memory: BUFFERS + 8 * MIB + 48 * MIB / 4,
        attack: neighbours_of_a_compressed_flood_feel_no_more_than_of_plain_bytes,
    },
    Case {
        name: "never_answers_our_close_or_goes_on_sending",
        adapters: ALL_ADAPTERS,
        limits: Limits { close: ms(500), ..PATIENT },
        attackers: 20,
        memory: BUFFERS,
        attack: never_answers_a_close,
    },
    Case {
        name: "opens_10000_connections_and_resets_each",
        adapters: ALL_ADAPTERS,
        limits: PATIENT,
        attackers: AT_ONCE,
        memory: 64 * KIB,
        attack: resets,
    },
    Case {
        name: "stops_reading_as_one_of_1000_receivers",
        // a room is the hub's, whatever the adapter
        adapters: &["axum"],
        limits: Limits { send: ms(1_000), close: ms(1_000), ..PATIENT },
        attackers: RECEIVERS,
        // an idle connection, and a message on its way
        memory: 24 * KIB,
        attack: stops_reading,
    },
];

/// Neither answers nor reads, as one whose cable was pulled: while the handler reads, while it does not, and behind a full
/// outbound buffer.
fn vanishes(scene: &mut Scene) -> BoxFuture<'_, String> {
    async {
        let start = Instant::now();
        let mut clients = Vec::new();
        for role in ["echo", "idle", "flood 65536"].iter().cycle().take(scene.attackers) {
            clients.push(scene.open(role).await);
        }
        let opened = start.elapsed();
        let Limits { ping, pong, .. } = scene.limits;
        // each connection has its interval up to a tenth longer or shorter
        let time = scene.over_between(start, ping * 9 / 10 + pong, opened + ping * 11 / 10 + pong).await;
        drop(clients);
        format!("given up after {time:.1?} (ping {ping:?} + pong {pong:?})")
    }
    .boxed()
}

fn floods_with_pings(scene: &mut Scene) -> BoxFuture<'_, String> {
    floods(scene, Frame::ping([b'p'; 125])).boxed()
}

fn floods_with_pongs(scene: &mut Scene) -> BoxFuture<'_, String> {
    floods(scene, Frame::pong([b'p'; 125])).boxed()
}

/// Sends for a while, and many times what a connection may hold.
async fn floods(scene: &mut Scene, frame: Frame) -> String {
    let clients = scene.open_all("echo").await;
    let thousand = frame.masked().repeat(1_000);
    let start = Instant::now();
    let floods = join_all(clients.into_iter().map(async |mut client| {
        let mut sent = 0;
        while sent < 8 * MIB || start.elapsed() < ms(1_000) {
            client.write(thousand.clone()).await;
            sent += thousand.len();
        }
        (client, sent)
    }))
    .await;
    let open = scene.server.counters().await.connections;
    assert_eq!(open, neighbour::COUNT + scene.attackers, "a flood was no reason to close");
    let mut taken = 0;
    for (client, sent) in floods {
        taken += sent;
        client.reset();
    }
    format!("{} MiB taken", taken / MIB)
}

/// A byte now and then of a message that would be as large as one may be; the bytes count as life.
fn drips(scene: &mut Scene) -> BoxFuture<'_, String> {
    async {
        let start = Instant::now();
        let clients = scene.open_all("echo").await;
        join_all(clients.into_iter().map(async |mut client| {
            client.write(Frame::header(0x82, MIB as u64)).await;
            let mut drips = interval(ms(100));
            drips.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let end = loop {
                tokio::select! {
                    frame = client.frame_but_ping() => break frame,
                    _ = drips.tick() => client.write([0]).await,
                }
            };
            assert_eq!(end.close_code(), Some(1008), "{end:?}");
            client.leave().await;
        }))
        .await;
        let time = start.elapsed();
        let limit = scene.limits.message;
        assert!(time >= limit, "over after {time:?}, and not {limit:?}");
        format!("1008 after {time:.1?} (message timeout {limit:?})")
    }
    .boxed()
}

/// Too many fragments, too large a message, or too slow a one.
fn sends_fragments(scene: &mut Scene) -> BoxFuture<'_, String> {
    async {
        let start = Instant::now();
        let clients = scene.open_all("echo").await;
        let attacks = clients.into_iter().enumerate().map(async |(number, mut client)| {
            // empty ones in bunches: h2 ends a connection with too many small DATA frames by itself
            let (size, bunch, pace, code) =
                [(0, 64, None, 1008), (4 * KIB, 1, None, 1009), (1, 1, Some(ms(50)), 1008)][number % 3];
            let fragments = Frame::continuation(vec![0; size]).not_final().masked().repeat(bunch);
            client.write(Frame::binary("").not_final()).await;
            let end = loop {
                tokio::select! {
                    frame = client.frame() => if frame.is_ping() { client.write(Frame::pong(frame.payload())).await } else { break frame },
                    () = async { if let Some(pace) = pace { sleep(pace).await } else { yield_now().await } } => {
                        client.write(fragments.clone()).await;
                    }
                }
            };
            assert_eq!(end.close_code(), Some(code), "{end:?}");
            client.leave().await;
        });
        join_all(attacks).await;
        assert!(start.elapsed() >= scene.limits.message, "{:?}", start.elapsed());
        "1008 (4,096 fragments), 1009 (1 MiB), 1008 (message timeout)".to_owned()
    }
    .boxed()
}

fn never_reads(scene: &mut Scene) -> BoxFuture<'_, String> {
    async {
        let start = Instant::now();
        let clients = scene.open_all("flood 65536").await;
        let opened = start.elapsed();
        let send = scene.limits.send;
        // the kernel's buffers have to be full first
        let time = scene.over_between(start, send, opened + send).await;
        drop(clients);
        format!("dropped after {time:.1?} (send timeout {send:?})")
    }
    .boxed()
}

/// More than the sockets take, to a handler that reads only in the end, and then finds all of it.
fn floods_with_messages(scene: &mut Scene) -> BoxFuture<'_, String> {
    const COUNT: u32 = 10_000;
    async {
        let clients = scene.open_all("late").await;
        let written = Arc::<AtomicUsize>::default();
        let all = COUNT as usize * clients.len();
        let floods = clients.into_iter().map(|mut client| {
            let written = Arc::clone(&written);
            tokio::spawn(async move {
                for number in 0..COUNT {
                    let mut message = u64::from(number).to_be_bytes().to_vec();
                    message.resize(KIB, 0);
                    // only as far as the server reads; pings are answered by the bytes
                    client.write(Frame::binary(message)).await;
                    written.fetch_add(1, Ordering::SeqCst);
                }
                client.write(Frame::text("end")).await;
                let end = client.frame_but_ping().await;
                assert_eq!(end, Frame::close(4000, COUNT.to_string()));
                client.write(end).await;
                client.end().await;
            })
        });
        let floods: Vec<_> = floods.collect();
        // until the peers are held back, and then for longer than one who is silent by himself is waited for
        let mut before = 0;
        let held = within("the floods to be held back", async {
            loop {
                sleep(ms(200)).await;
                let now = written.load(Ordering::SeqCst);
                if now == before {
                    break now;
                }
                before = now;
            }
        })
        .await;
        assert!(held < all, "nobody was held back");
        sleep(2 * (scene.limits.ping + scene.limits.pong)).await;
        let open = scene.server.counters().await.connections;
        assert_eq!(open, neighbour::COUNT + scene.attackers, "one was declared dead");
        scene.server.release().await;
        for flood in floods {
            flood.await.expect("nothing is lost");
        }
        format!("held back after {} KiB each, then all {COUNT} in order", held / scene.attackers)
    }
    .boxed()
}

/// The neighbours of a compressed flood feel no more than those of a flood of the same bytes that are not compressed.
fn neighbours_of_a_compressed_flood_feel_no_more_than_of_plain_bytes(
    scene: &mut Scene,
) -> BoxFuture<'_, String> {
    async {
        let plain = Frame::binary(deflated(&vec![0; MIB]));
        // the same frame, with the bit that says what it is (RFC 7692 section 6)
        let compressed = plain.clone().with_bits(0x40);
        // plain before and after, so that what else the machine does is in both
        let mut plain_felt = felt_of_messages(scene, &plain).await;
        let felt = felt_of_messages(scene, &compressed).await;
        plain_felt.append(&felt_of_messages(scene, &plain).await);
        let [plain_wait, wait] = [plain_felt, felt].map(|times| times.longest_half());
        assert!(wait <= 2 * plain_wait + ms(100), "{wait:?}, and {plain_wait:?} if they are not compressed");
        let size = plain.payload().len();
        format!("{size} bytes for 1 MiB; others wait {plain_wait:.1?} (plain) → {wait:.1?} (compressed)")
    }
    .boxed()
}

/// The payload of a compressed message (RFC 7692 section 7.2.1).
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(payload.len());
    let mut compressor = flate2::Compress::new(flate2::Compression::best(), false);
    compressor.compress_vec(payload, &mut deflated, FlushCompress::Sync).expect("there is room");
    // the tail of an empty block, which is not sent
    deflated.truncate(deflated.len() - 4);
    deflated
}

/// Has every attacker send a message many times, and returns how long the neighbours' echoes took meanwhile.
async fn felt_of_messages(scene: &Scene, message: &Frame) -> Times {
    const COUNT: usize = 4_000;
    let message = message.masked();
    let echoes = scene.neighbours.echoes();
    join_all((0..scene.attackers).map(async |_| {
        let offer = Request::upgrade().with("Sec-WebSocket-Extensions", "permessage-deflate");
        let mut client = Client::open_with(scene.server.endpoint(), offer).await;
        client.write(Frame::text("count")).await;
        for _ in 0..COUNT {
            client.write(&*message).await;
        }
        client.write(Frame::text("end")).await;
        assert_eq!(client.frame().await, Frame::close(4000, COUNT.to_string()));
        client.leave().await;
    }))
    .await;
    scene.neighbours.since(echoes)
}

fn never_answers_a_close(scene: &mut Scene) -> BoxFuture<'_, String> {
    async {
        let start = Instant::now();
        let mut silent = scene.open_all("close").await;
        let talking = silent.split_off(scene.attackers / 2);
        let opened = start.elapsed();
        let talk = tokio::spawn(join_all(talking.into_iter().map(async |mut client| {
            let message = Frame::text("and another thing").masked().repeat(100);
            while client.try_write(message.clone()).await.is_ok() {
                yield_now().await;
            }
        })));
        let close = scene.limits.close;
        let time = scene.over_between(start, close, opened + close).await;
        within("the talk to end", talk).await.expect("it ends with an error of the socket");
        drop(silent);
        format!("dropped after {time:.1?} (close timeout {close:?})")
    }
    .boxed()
}

/// How many connections are on their way at once.
const AT_ONCE: usize = 50;

/// Opens and resets in every state: after the handshake, with a message under way, in the middle of one.
fn resets(scene: &mut Scene) -> BoxFuture<'_, String> {
    async {
        let process = scene.server.process();
        let mut level = 0;
        for thousand in 0..10 {
            for _ in 0..1_000 / AT_ONCE {
                join_all((0..AT_ONCE).map(async |number| {
                    let mut client = Client::open(scene.server.endpoint()).await;
                    match number % 3 {
                        0 => {}
                        1 => client.write(Frame::text("echo")).await,
                        _ => client.write(Frame::header(0x81, 10_000)).await,
                    }
                    client.reset();
                }))
                .await;
            }
            scene.until_over().await;
            if thousand == 0 {
                level = process.memory();
            }
        }
        let grown = process.memory().saturating_sub(level);
        // 500 bytes of each
        assert!(grown <= 9_000 * 500, "{grown} bytes more than after the first thousand");
        format!("all gone; {} KiB more than after the first 1,000", grown / KIB)
    }
    .boxed()
}

const RECEIVERS: usize = 1_000;

/// Users in one room get messages, before one of them stops to read and after.
fn stops_reading(scene: &mut Scene) -> BoxFuture<'_, String> {
    const ROUNDS: usize = 30;
    async {
        let mut clients = join_all((0..RECEIVERS).map(async |number| {
            let mut client = scene.open(&format!("user {number}")).await;
            client.write(Frame::text("join all")).await;
            assert_eq!(client.frame().await.as_text(), Some("joined all"));
            client
        }))
        .await;
        let mut lazy = clients.pop().expect("there are many");
        lazy.write(Frame::text("join lazy")).await;
        assert_eq!(lazy.frame().await.as_text(), Some("joined lazy"));
        let mut speaker = scene.open("user speaker").await;
        let mut number = 0;
        let mut worst = [Duration::ZERO; 2];
        for (lazy_too, worst) in [false, true].into_iter().zip(&mut worst) {
            for _ in 0..ROUNDS {
                if lazy_too {
                    // more than the kernel's buffers and the hub's queue take, in the end
                    let much = Frame::text("say lazy 65536").masked().repeat(4);
                    speaker.write(much).await;
                }
                let start = Instant::now();
                speaker.write(Frame::text("say all 100")).await;
                join_all(clients.iter_mut().map(async |client| {
                    let frame = client.frame().await;
                    let text = frame.as_text().expect("a message of the room");
                    assert!(text.starts_with(&format!("r all {number} ")), "{text}");
                }))
                .await;
                *worst = start.elapsed().max(*worst);
                number += 1;
            }
        }
        let [before, during] = worst;
        assert!(during <= 10 * before + ms(500), "{during:?} to the others, and {before:?} before");
        let slow = |counters: Counters| counters.overflowed == 1;
        scene.server.until("the one who does not read to be disconnected", slow).await;
        // all others are there to the end
        join_all(clients.into_iter().map(Client::close)).await;
        speaker.close().await;
        scene.until_over().await;
        drop(lazy);
        format!("disconnected (4100); slowest delivery to 999: {before:.1?} → {during:.1?}")
    }
    .boxed()
}
