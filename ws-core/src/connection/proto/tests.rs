//! Sequences of events and times with their results, in tables, and random ones.

use std::io::ErrorKind;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::properties::{Driven, HEARTBEAT};
use crate::close::Side;
use crate::config::{ConnectionConfig, Limits, Negotiated};
use crate::error::{Error, Timeout};
use crate::message::Message;
use crate::protocol::Role;

const SECOND: Duration = Duration::from_secs(1);

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// A frame of the peer's, with the first byte of its header.
    Frame(u8, Vec<u8>),
    Bytes(Vec<u8>),
    End,
    Reset,
    BreakOff,
    /// The transport takes this many more bytes.
    Allow(usize),
    Pass(Duration),
    Send(usize),
    Ping,
    Close(u16),
    Heartbeats,
    /// The user receives up to this many messages.
    Receive(usize),
    DropReceiver,
    HandlerReturns,
    HandlerFails,
}

use Step::{
    Allow, BreakOff, Close, DropReceiver, End, Frame, HandlerFails, HandlerReturns, Pass, Receive, Reset,
    Send,
};

fn text(text: &str) -> Step {
    Frame(0x81, text.into())
}

fn close(code: u16) -> Step {
    Frame(0x88, code.to_be_bytes().into())
}

/// A frame with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0xfe);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

impl Step {
    fn run(self, driven: &mut Driven) {
        match self {
            Self::Frame(first, payload) => driven.peer_sends(&frame(first, &payload)),
            Self::Bytes(bytes) => driven.peer_sends(&bytes),
            Self::End => driven.peer_ends(None),
            Self::Reset => driven.peer_ends(Some(ErrorKind::ConnectionReset)),
            Self::BreakOff => driven.break_off(ErrorKind::BrokenPipe),
            Self::Allow(bytes) => driven.allow(bytes),
            Self::Pass(time) => driven.pass(time),
            Self::Send(length) => drop(driven.try_send(Message::from(vec![7; length]))),
            Self::Ping => driven.ping(),
            Self::Close(code) => driven.close(code),
            Self::Heartbeats => driven.answer_heartbeats(),
            Self::Receive(most) => driven.receive(most),
            Self::DropReceiver => driven.connection.receiver_dropped(),
            Self::HandlerReturns => driven.connection.handler_done(),
            Self::HandlerFails => driven.connection.handler_failed(),
        }
        driven.turn();
    }
}

/// The first bytes of the frames that a server has written, and the code of its Close frame.
fn frames(mut written: &[u8]) -> (Vec<u8>, Option<u16>) {
    let (mut firsts, mut code) = (Vec::new(), None);
    while let [first, length, rest @ ..] = written {
        let (length, rest) = match (length & 0x7f, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (127, rest) => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                (usize::try_from(u64::from_be_bytes(*length)).unwrap(), rest)
            }
            (length, rest) => (usize::from(length), rest),
        };
        firsts.push(*first);
        // the last one may be on its way
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if *first == 0x88 {
            code = Some(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)));
        }
        written = rest;
    }
    (firsts, code)
}

/// How a connection ended, as the tables write it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ended {
    /// The code of our Close frame.
    close: Option<u16>,
    by: Side,
    clean: bool,
    received: usize,
    /// What `recv` said before `None`.
    error: Option<&'static str>,
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Disconnected(_) => "disconnected",
        Error::Protocol(_) => "protocol",
        Error::Timeout(Timeout::Keepalive) => "keepalive",
        Error::Timeout(Timeout::Send) => "send",
        Error::Timeout(Timeout::Message) => "message",
        _ => "another",
    }
}

/// Runs the steps on a server's connection. If it is over, receives all messages and returns how it ended.
fn run(config: ConnectionConfig, steps: impl IntoIterator<Item = Step>) -> Option<Ended> {
    let mut driven = Driven::new(Role::Server, config, Negotiated::default());
    for step in steps {
        step.run(&mut driven);
    }
    let closed = driven.outcome()?.clone();
    driven.receive(100_000);
    // a handler may live on, and its task is not to be woken for nothing
    assert_eq!(driven.connection.poll_timeout(), None, "what is over has a timer");
    let (firsts, close) = frames(&driven.written);
    assert!(
        firsts.iter().rev().skip(1).all(|first| *first != 0x88),
        "a Close frame is the last: {firsts:x?}"
    );
    Some(Ended {
        close,
        by: closed.by,
        clean: closed.clean,
        received: driven.received.len(),
        error: driven.errors.first().map(kind),
    })
}

fn ended(close: impl Into<Option<u16>>, by: Side, clean: bool, received: usize) -> Ended {
    Ended { close: close.into(), by, clean, received, error: None }
}

fn with_error(error: &'static str, ended: Ended) -> Ended {
    Ended { error: Some(error), ..ended }
}

#[test]
fn every_end_in_order_is_what_the_table_says() {
    use Side::{Local, Remote};
    let pass = |seconds| Pass(seconds * SECOND);
    let table: Vec<(&str, Vec<Step>, Ended)> = vec![
        ("the peer closes", vec![close(1000), End], ended(1000, Remote, true, 0)),
        (
            "the peer closes, and never ends its stream",
            vec![close(1000), pass(1)],
            ended(1000, Remote, true, 0),
        ),
        ("we close", vec![Close(4001), close(4001), End], ended(4001, Local, true, 0)),
        ("we close, and the peer never answers", vec![Close(4001), pass(5)], ended(4001, Local, false, 0)),
        ("we close, and the peer goes", vec![Close(4001), End], ended(4001, Local, false, 0)),
        ("both close at once", vec![Close(4001), close(4002), End], ended(4001, Local, true, 0)),
        (
            "what came before is received, then answered",
            vec![text("a"), text("b"), close(1000), Receive(3), End],
            ended(1000, Remote, true, 2),
        ),
        (
            "what came before is not received in time",
            vec![text("a"), close(1000), pass(5), End],
            ended(1000, Remote, true, 1),
        ),
        (
            "the handler returns",
            vec![DropReceiver, HandlerReturns, close(1000), End],
            ended(1000, Local, true, 0),
        ),
        (
            "the handler returns, and the socket is dropped later",
            vec![HandlerReturns, DropReceiver, close(1000), End],
            ended(1000, Local, true, 0),
        ),
        ("the handler fails", vec![HandlerFails, close(1011), End], ended(1011, Local, true, 0)),
        (
            "we close, and the Close frame does not leave",
            vec![Allow(0), Close(1000), pass(5)],
            ended(None, Local, false, 0),
        ),
    ];
    check(table);
}

#[test]
fn every_failure_is_what_the_table_says() {
    use Side::{Local, Remote};
    let pass = |seconds| Pass(seconds * SECOND);
    let table: Vec<(&str, Vec<Step>, Ended)> = vec![
        ("the peer goes", vec![text("a"), End], with_error("disconnected", ended(None, Remote, false, 1))),
        (
            "the peer resets",
            vec![text("a"), Reset],
            with_error("disconnected", ended(None, Remote, false, 1)),
        ),
        (
            "the transport takes nothing any more",
            vec![text("a"), BreakOff, Send(1)],
            with_error("disconnected", ended(None, Remote, false, 1)),
        ),
        (
            "the peer breaks a rule, and answers our Close frame",
            vec![text("a"), Frame(0x83, vec![]), Receive(2), close(1002), End],
            with_error("protocol", ended(1002, Local, true, 1)),
        ),
        (
            "the peer breaks a rule, and says nothing more",
            vec![Frame(0x83, vec![]), pass(5)],
            with_error("protocol", ended(1002, Local, false, 0)),
        ),
        (
            "the peer's Close frame is a broken one",
            vec![close(999), End],
            with_error("protocol", ended(1002, Local, false, 0)),
        ),
        (
            "our Close frame is answered with a broken one",
            vec![Close(1000), close(999), End],
            ended(1000, Local, false, 0),
        ),
        (
            "our Close frame is answered with a broken one, and more behind it",
            vec![Close(1000), Step::Bytes([frame(0x88, &[0, 1]), frame(0x81, b"more")].concat()), End],
            ended(1000, Local, false, 0),
        ),
        (
            "the peer's Close frame is a broken one, and there is more behind it",
            vec![Step::Bytes([frame(0x88, &[0, 1]), frame(0x81, b"more")].concat()), End],
            with_error("protocol", ended(1002, Local, false, 0)),
        ),
        (
            "the transport breaks while more has come than is taken, and the user closes",
            vec![text("x").clone(); 200]
                .into_iter()
                .chain([BreakOff, Send(10), Close(1000), pass(10)])
                .collect(),
            with_error("disconnected", ended(None, Remote, false, 32)),
        ),
        ("the peer is silent", vec![pass(50)], with_error("keepalive", ended(1011, Local, false, 0))),
        (
            "the peer takes nothing",
            vec![Allow(0), Send(10), pass(31)],
            with_error("send", ended(None, Local, false, 0)),
        ),
        (
            "half a message, and nothing more",
            vec![
                Frame(0x01, vec![7]),
                pass(15),
                Frame(0x8a, vec![]),
                pass(15),
                Frame(0x8a, vec![]),
                pass(15),
                Frame(0x8a, vec![]),
                pass(16),
                pass(6),
            ],
            with_error("message", ended(1008, Local, false, 0)),
        ),
    ];
    check(table);
}

/// Each row: what it is, what happens, and how the connection ends.
fn check(table: Vec<(&str, Vec<Step>, Ended)>) {
    for (name, steps, expected) in table {
        assert_eq!(run(ConnectionConfig::default(), steps), Some(expected), "{name}");
    }
}

#[test]
fn a_connection_is_open_as_long_as_nothing_ends_it() {
    for (name, steps) in [
        ("pongs come", vec![Pass(19 * SECOND), Frame(0x8a, vec![]), Pass(19 * SECOND), Frame(0x8a, vec![])]),
        ("half a message has its time", vec![Frame(0x01, vec![7]), Pass(37 * SECOND)]),
        (
            "reading is paused",
            vec![text("x").clone(); 100].into_iter().chain([Pass(3_600 * SECOND)]).collect(),
        ),
        ("the receiver is elsewhere", vec![HandlerReturns, Pass(SECOND)]),
        ("the handler does not receive", vec![DropReceiver, text("to nobody"), Pass(SECOND)]),
    ] {
        assert_eq!(run(ConnectionConfig::default(), steps), None, "{name}");
    }
}

#[test]
fn a_client_that_closes_in_order_waits_for_the_server_to_end_the_stream() {
    let mut driven = Driven::new(Role::Client, ConnectionConfig::default(), Negotiated::default());
    driven.close(1000);
    driven.peer_sends(&[0x88, 2, 0x03, 0xe8]);
    assert!(driven.outcome().is_none() && !driven.is_shut_down);
    driven.peer_ends(None);
    assert!(driven.outcome().is_some_and(|closed| closed.clean) && !driven.is_shut_down);
}

#[test]
fn a_turn_is_charged_for_each_frame() {
    let mut driven = Driven::new(Role::Server, ConnectionConfig::default(), Negotiated::default());
    driven.connection.begin_turn();
    let flood = frame(0x8a, &[]).repeat(10_000);
    let mut fed = 0;
    while let Some(mut buffer) = driven.connection.read_buffer(driven.now) {
        use bytes::BufMut as _;
        let mut room = buffer.room();
        let n = (flood.len() - fed).min(room.remaining_mut());
        room.put_slice(&flood[fed..fed + n]);
        driven.connection.handle_read(buffer, n, driven.now);
        driven.connection.decode_ahead();
        fed += n;
    }
    assert!(driven.connection.is_turn_over());
    assert!(fed < 20 * 1024, "{fed} bytes of empty frames were read in one turn");
}

fn config() -> ConnectionConfig {
    ConnectionConfig {
        limits: Limits { max_message_size: 2_000, max_frame_size: 1_000, max_fragments: 8 }.into(),
        inbound_messages: 4,
        inbound_bytes: 1_000,
        outbound_bytes: 1_000,
        idle_timeout: Some(120 * SECOND),
        ..ConnectionConfig::default()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let payload = || vec(any::<u8>(), 0..200);
    prop_oneof![
        6 => (prop_oneof![Just(0x81), Just(0x82), Just(0x01), Just(0x00), Just(0x80), Just(0x89), Just(0x8a)],
              "[a-z]{0,40}").prop_map(|(first, payload): (u8, String)| Frame(first, payload.into())),
        1 => Just(text(HEARTBEAT)),
        1 => (any::<u8>(), payload()).prop_map(|(first, payload)| Frame(first, payload)),
        1 => (0..20u64).prop_map(|number| Frame(0x8a, number.to_be_bytes().into())),
        1 => payload().prop_map(Step::Bytes),
        1 => prop_oneof![Just(1000), 990..1020u16, 2990..5010u16].prop_map(close),
        1 => prop_oneof![Just(End), Just(Reset), Just(BreakOff)],
        3 => prop_oneof![0..300usize, Just(usize::MAX)].prop_map(Allow),
        3 => (0..70_000u64).prop_map(|millis| Pass(Duration::from_millis(millis))),
        4 => prop_oneof![0..200usize, 0..10_000usize].prop_map(Send),
        2 => Just(Step::Ping),
        1 => prop_oneof![Just(1000), 4000..4010u16].prop_map(Close),
        1 => Just(Step::Heartbeats),
        4 => (1..6usize).prop_map(Receive),
        1 => prop_oneof![Just(DropReceiver), Just(HandlerReturns), Just(HandlerFails)],
    ]
}

proptest! {
    #[test]
    fn whatever_happens_memory_is_bounded_and_the_end_comes(steps in vec(step(), 0..60)) {
        let mut driven = Driven::new(Role::Server, config(), Negotiated::default());
        for step in steps {
            step.run(&mut driven);
        }
        driven.finish();
    }

    #[test]
    fn what_the_peer_sends_is_received_however_the_user_and_the_transport_behave(
        count in 1..60usize,
        steps in vec(prop_oneof![(0..300usize).prop_map(Allow), (1..6usize).prop_map(Receive), (0..200usize).prop_map(Send)], 0..60),
    ) {
        let mut driven = Driven::new(Role::Server, config(), Negotiated::default());
        let mut steps = steps.into_iter();
        for number in 0..count {
            text(&number.to_string()).run(&mut driven);
            if let Some(step) = steps.next() {
                step.run(&mut driven);
            }
        }
        close(1000).run(&mut driven);
        Allow(usize::MAX).run(&mut driven);
        for _ in 0..=count {
            driven.receive(10);
        }
        End.run(&mut driven);
        driven.receive(10_000);
        let received: Vec<_> = driven.received.iter().map(|text| text.as_text().unwrap().to_owned()).collect();
        prop_assert_eq!(received, (0..count).map(|number| number.to_string()).collect::<Vec<_>>());
        prop_assert!(driven.outcome().is_some_and(|closed| closed.clean));
    }
}
