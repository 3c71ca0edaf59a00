//! The peers: each one has a connection, and another one after it, until the time is over.
//!
//! A peer panics at the first thing that is not as it must be. What must be: all that comes is in order and nothing comes
//! twice, whatever happens; and where both sides keep to the protocol until the end, nothing is missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use ws_tests::{Client, Frame, Random};

use crate::world::{SEND_TIMEOUT, Tally, World};

const KIB: usize = 1024;

/// The longest pause of a peer, so that the end is not far when it has come.
const PAUSE: Duration = Duration::from_millis(1_500);

/// The server's code for a handler that has sent all, the one of a drain, and the hub's.
const DONE: u16 = 4000;
const DRAINED: u16 = 1001;
const REPLACED: u16 = 4001;
const KICKED: u16 = 4003;
/// A client's.
const BYE: u16 = 4010;

/// Six of ten are echoed, two are pushed to, two are users of the hub.
pub(crate) fn spawn(peers: &mut JoinSet<()>, world: &Arc<World>, number: usize) {
    let world = Arc::clone(world);
    let random = Random::new(world.seed, number as u64);
    match number % 10 {
        0..=5 => peers.spawn(async move { over_and_over(&world, random, Kind::Echo).await }),
        6 | 7 => peers.spawn(async move { over_and_over(&world, random, Kind::Pushed).await }),
        _ => peers.spawn(async move { User::new(&world, random, number).live().await }),
    };
}

enum Kind {
    Echo,
    Pushed,
}

async fn over_and_over(world: &World, mut random: Random, kind: Kind) {
    while !world.is_over() {
        match kind {
            Kind::Echo => echo(world, &mut random).await,
            Kind::Pushed => pushed(world, &mut random).await,
        }
    }
}

/// A connection that does what a peer has to do by itself: it answers pings, and remembers pongs.
struct Peer<'a> {
    world: &'a World,
    client: Client,
    pong: Option<Frame>,
    /// Has said that it closes.
    is_closing: bool,
}

impl<'a> Peer<'a> {
    async fn open(world: &'a World, role: &str) -> Self {
        Self { world, client: world.open(role).await, pong: None, is_closing: false }
    }

    /// The next frame of a message, or of the end.
    async fn frame(&mut self) -> Frame {
        loop {
            let frame = self.client.frame().await;
            if let Some(frame) = self.control(frame).await {
                return frame;
            }
        }
    }

    /// As [`frame`](Self::frame), if it comes before `until`.
    async fn frame_before(&mut self, until: Instant) -> Option<Frame> {
        loop {
            // what is cancelled here has lost nothing
            let frame = tokio::select! {
                frame = self.client.frame() => frame,
                () = sleep_until(until) => return None,
            };
            if let Some(frame) = self.control(frame).await {
                return Some(frame);
            }
        }
    }

    /// Says that it closes.
    async fn close(&mut self) {
        self.is_closing = true;
        self.client.write(Frame::close(BYE, "")).await;
    }

    async fn control(&mut self, frame: Frame) -> Option<Frame> {
        if frame.is_ping() {
            // behind a Close frame nothing is sent, and the server may be gone already
            if self.is_closing {
                return None;
            }
            self.client.write(Frame::pong(frame.payload())).await;
            None
        } else if frame.is_pong() {
            self.pong = Some(frame);
            None
        } else {
            Some(frame)
        }
    }

    /// The server has said that it closes: answers, and expects the end. Returns the code.
    async fn farewell(mut self, close: Frame) -> u16 {
        let code = close.close_code().unwrap_or_else(|| panic!("a message, or the end, and not {close:?}"));
        let tally = &self.world.tally;
        Tally::add(match code {
            DRAINED => &tally.drained,
            REPLACED => &tally.replaced,
            KICKED => &tally.kicked,
            BYE => &tally.closed_here,
            DONE => &tally.closed_there,
            _ => panic!("closed with {close:?}"),
        });
        if !self.is_closing {
            self.client.write(close).await;
        }
        self.client.end().await;
        code
    }
}

/// A message that says which one it is, if it is long enough for that.
fn message(random: &mut Random, number: usize) -> Frame {
    let size = match random.below(64) {
        0..8 => 0,
        8..32 => random.below(126),
        32..60 => random.below(2 * KIB),
        60..63 => random.below(16 * KIB),
        _ => random.below(64 * KIB + 1),
    };
    let mut payload = number.to_string().into_bytes();
    payload.resize(size, b'a' + u8::try_from(number % 26).expect("a letter"));
    if random.one_in(2) { Frame::text(payload) } else { Frame::binary(payload) }
}

/// As it goes over the wire: in one frame, or in some, with a ping between them.
fn wire(random: &mut Random, message: &Frame, bytes: &mut Vec<u8>) {
    if !random.one_in(6) {
        return bytes.extend(message.masked());
    }
    let payload = message.payload();
    let (first, rest) = payload.split_at(random.below(payload.len() + 1));
    let (second, third) = rest.split_at(random.below(rest.len() + 1));
    let head = if message.as_text().is_some() { Frame::text(first) } else { Frame::binary(first) };
    bytes.extend(head.not_final().masked());
    bytes.extend(Frame::continuation(second).not_final().masked());
    bytes.extend(Frame::ping("between").masked());
    bytes.extend(Frame::continuation(third).masked());
}

/// Sends messages, in bursts now and then, and gets them back.
async fn echo(world: &World, random: &mut Random) {
    let mut peer = Peer::open(world, "echo").await;
    let until = Instant::now() + random.around(world.lifetime);
    let mut number = 0;
    loop {
        let count = if random.one_in(10) { 1 + random.below(20) } else { 1 };
        let messages: Vec<_> = (number..number + count).map(|number| message(random, number)).collect();
        number += count;
        let mut bytes = Vec::new();
        for message in &messages {
            wire(random, message, &mut bytes);
        }
        let is_last = world.is_over() || Instant::now() >= until;
        let end = if is_last { random.below(4) } else { 4 };
        let ping = Frame::ping(number.to_string());
        match end {
            // in one packet with what is before it
            0 => {
                bytes.extend(Frame::close(BYE, "").masked());
                peer.is_closing = true;
            }
            1 => bytes.extend(Frame::text("end").masked()),
            2 => {
                // the server is in the middle of it
                peer.client.write(bytes).await;
                Tally::add(&world.tally.reset);
                return peer.client.reset();
            }
            _ => bytes.extend(ping.masked()),
        }
        peer.client.write(bytes).await;

        for message in messages {
            let frame = peer.frame().await;
            if frame.is_close() {
                // the server may leave out what it had not read when it said so, and nothing else may
                assert_eq!(peer.farewell(frame).await, DRAINED);
                return;
            }
            assert_eq!(frame, message);
            Tally::add(&world.tally.echoed);
        }
        match end {
            0 | 1 => {
                let close = peer.frame().await;
                let all = close == Frame::close(BYE, "") || close == Frame::close(DONE, number.to_string());
                assert!(all || close.close_code() == Some(DRAINED), "{close:?} after {number} messages");
                peer.farewell(close).await;
                return;
            }
            3 => {
                // without a Close frame
                peer.client.finish().await;
                peer.client.until_gone().await;
                Tally::add(&world.tally.ended);
                return;
            }
            _ => {}
        }
        // of several pings the newest is answered
        let next = Instant::now() + random.around(PAUSE);
        let answer = Frame::pong(ping.payload());
        let mut close = None;
        while close.is_none() && peer.pong.as_ref() != Some(&answer) {
            // the pong is not returned, so this is over at the latest when the next ping of the server's has come
            close = peer.frame_before(Instant::now() + Duration::from_millis(1)).await;
        }
        if close.is_none() {
            close = peer.frame_before(next).await;
        }
        if let Some(close) = close {
            assert_eq!(peer.farewell(close).await, DRAINED);
            return;
        }
    }
}

/// Gets numbered messages, and now and then reads too slowly for them, or not at all.
async fn pushed(world: &World, random: &mut Random) {
    let is_fast = random.one_in(3);
    let stalls = is_fast && random.one_in(8);
    let (count, size, pace) = if stalls {
        (100_000, 16 * KIB, 0)
    } else if is_fast {
        (100 + random.below(1_000), random.below(4 * KIB), 0)
    } else {
        (1 + random.below(100), random.below(4 * KIB), 50 + random.below(1_000))
    };
    let mut peer = Peer::open(world, &format!("numbers {count} {size} {pace}")).await;
    if stalls {
        // the server has given it up by now, unless it was late itself; to read would let it go on
        sleep(2 * SEND_TIMEOUT).await;
        Tally::add(&world.tally.stalled);
        return peer.client.reset();
    }
    let until = Instant::now() + random.around(world.lifetime);
    let mut next = 0_u64;
    // what is still in the buffers when the server closes has to be read within its close timeout
    let mut pauses = if is_fast { 4 } else { 0 };
    loop {
        if !peer.is_closing && (world.is_over() || Instant::now() >= until) {
            peer.close().await;
        }
        let Some(frame) = peer.frame_before(Instant::now() + PAUSE).await else { continue };
        if let Some(code) = frame.close_code() {
            let all = frame == Frame::close(DONE, count.to_string());
            assert!(code != DONE || all && next == count as u64, "{frame:?} after {next} of {count}");
            peer.farewell(frame).await;
            return;
        }
        assert_eq!(frame.payload()[..8], next.to_be_bytes(), "number {next} was to come");
        next += 1;
        Tally::add(&world.tally.numbered);
        if pauses > 0 && random.one_in(100) {
            pauses -= 1;
            sleep(random.around(PAUSE / 2)).await;
        }
    }
}

/// A user of the hub.
struct User<'a> {
    world: &'a World,
    random: Random,
    role: String,
    /// Whether he breaks his connections off; then what was on its way to him is lost.
    is_rude: bool,
    /// The number of the next message to him.
    next: u64,
    /// Whether some before the next one may be lost.
    may_miss: bool,
    /// The number of the next message in each room.
    rooms: HashMap<String, u64>,
}

/// What a connection of a user has seen: in which rooms there was a message.
type Heard = Vec<String>;

impl<'a> User<'a> {
    fn new(world: &'a World, random: Random, number: usize) -> Self {
        let role = format!("user {number}");
        let is_rude = number.is_multiple_of(3);
        Self { world, random, role, is_rude, next: 0, may_miss: false, rooms: HashMap::new() }
    }

    async fn live(mut self) {
        while !self.world.is_over() {
            self.session().await;
            // messages are stored meanwhile
            sleep(self.random.around(PAUSE / 2)).await;
        }
        let mut quiet = self.world.quiet.subscribe();
        quiet.wait_for(|quiet| *quiet).await.expect("the world is there");

        let mut peer = Peer::open(self.world, &self.role).await;
        peer.client.write(Frame::text("total")).await;
        let mut heard = Heard::new();
        let total = loop {
            let frame = peer.frame().await;
            match frame.as_text().and_then(|text| text.strip_prefix("total ")) {
                Some(total) => break total.parse::<u64>().expect("a number"),
                None => self.received(&frame, &mut heard),
            }
        };
        let complete = self.next == total || self.may_miss && self.next < total;
        assert!(complete, "{}: {} of {total} messages", self.role, self.next);
        peer.close().await;
        self.read_to_the_end(peer, &mut heard).await;
    }

    /// One connection, or some that replace each other.
    async fn session(&mut self) {
        let mut peer = Peer::open(self.world, &self.role).await;
        let mut heard = Heard::new();
        let mut until = Instant::now() + self.random.around(self.world.lifetime);
        loop {
            let room = format!("room-{}", self.random.below(self.world.rooms));
            let command = match self.random.below(8) {
                0..2 => format!("join {room}"),
                // one of those that he is in, and perhaps of others who are in it
                2 => format!("say {room} {}", self.random.below(KIB)),
                _ => String::new(),
            };
            if !command.is_empty() {
                peer.client.write(Frame::text(command)).await;
            }
            let pause = Instant::now() + self.random.around(PAUSE);
            while let Some(frame) = peer.frame_before(pause).await {
                if frame.is_close() {
                    assert_eq!(peer.farewell(frame).await, DRAINED);
                    return;
                }
                self.received(&frame, &mut heard);
            }
            if !self.world.is_over() && Instant::now() < until {
                continue;
            }
            match self.random.below(if self.is_rude { 4 } else { 3 }) {
                0 => peer.close().await,
                1 => peer.client.write(Frame::text("kick")).await,
                2 => {
                    let newer = Peer::open(self.world, &self.role).await;
                    self.read_to_the_end(peer, &mut heard).await;
                    heard.clear();
                    peer = newer;
                    until = Instant::now() + self.random.around(self.world.lifetime);
                    if self.world.is_over() {
                        peer.close().await;
                    } else {
                        continue;
                    }
                }
                _ => {
                    self.may_miss = true;
                    Tally::add(&self.world.tally.reset);
                    return peer.client.reset();
                }
            }
            return self.read_to_the_end(peer, &mut heard).await;
        }
    }

    async fn read_to_the_end(&mut self, mut peer: Peer<'_>, heard: &mut Heard) {
        loop {
            let frame = peer.frame().await;
            if frame.is_close() {
                peer.farewell(frame).await;
                return;
            }
            self.received(&frame, heard);
        }
    }

    /// Checks the number of a message.
    fn received(&mut self, frame: &Frame, heard: &mut Heard) {
        let text = frame.as_text().unwrap_or_else(|| panic!("{}: {frame:?}", self.role));
        let words: Vec<_> = text.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().expect("a number");
        match words[..] {
            ["u", it, _] => {
                let it = number(it);
                let fits = it == self.next || self.may_miss && it > self.next;
                assert!(fits, "{}: message {it}, and {} was to come", self.role, self.next);
                self.next = it + 1;
                self.may_miss = false;
                Tally::add(&self.world.tally.to_users);
            }
            ["r", room, it, _] => {
                let it = number(it);
                let next = self.rooms.entry(room.to_owned()).or_default();
                let is_first = !heard.iter().any(|heard| heard == room);
                // he was not there all the time, but for that of a connection
                let fits = if is_first { it >= *next } else { it == *next };
                assert!(fits, "{}: message {it} in {room}, and {next} was to come", self.role);
                *next = it + 1;
                if is_first {
                    heard.push(room.to_owned());
                }
                Tally::add(&self.world.tally.to_rooms);
            }
            ["joined", _] => {}
            _ => panic!("{}: {text:?}", self.role),
        }
    }
}
