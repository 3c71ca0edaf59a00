//! A connection's state machine alone, without a runtime: any sequence of events and times.
//!
//! Whatever that is, there is no panic, memory is bounded, the driver comes to rest, the timer moves on, and:
//!
//! - What is received is what the peer sent, from its beginning.
//! - What the peer sees are frames that keep the rules, and behind a Close frame nothing.
//! - When nobody says anything more, the connection ends.

#![no_main]

use std::io::ErrorKind;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ws_core::Message;
use ws_core::fuzzing::{Connection, Decoding};
use ws_fuzz::wire::frame;

/// The text that is answered in place of being received.
const HEARTBEAT: &str = "ab";
/// How much happens to a connection.
const MAX_STEPS: usize = 100;

#[derive(Arbitrary, Debug)]
struct Script {
    client: bool,
    deflate: bool,
    heartbeats: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Step {
    Frame { first: u8, length: u16 },
    Message { text: bool, length: u16 },
    Heartbeat,
    Pong { number: u8 },
    PeerCloses { code: u16 },
    Bytes(Vec<u8>),
    End { reset: bool },
    BreakOff,
    Allow { bytes: u8 },
    AllowAll,
    Pass { millis: u16 },
    Send { text: bool, length: u16 },
    Ping,
    Close { code: u16 },
    Receive { most: u8 },
    DropReceiver,
    HandlerReturns { fails: bool },
}

fn text(length: u16) -> String {
    ('a'..='z').cycle().take(length.into()).collect()
}

fn message(is_text: bool, length: u16) -> Message {
    if is_text { text(length).into() } else { text(length).into_bytes().into() }
}

fn run(script: Script) {
    let Script { client, deflate, heartbeats, steps } = script;
    let mut connection = Connection::new(client, deflate);
    let mut sent = Vec::new();
    if heartbeats {
        connection.answer_heartbeats();
    }
    for step in steps {
        let mut peer = |bytes: &[u8], connection: &mut Connection| {
            sent.extend_from_slice(bytes);
            connection.peer_sends(bytes);
        };
        let frame = |first: u8, payload: &[u8]| frame(first, payload, !client);
        match step {
            Step::Frame { first, length } => {
                peer(&frame(first, text(length % 2_000).as_bytes()), &mut connection);
            }
            Step::Message { text: is_text, length } => {
                let first = if is_text { 0x81 } else { 0x82 };
                peer(&frame(first, text(length % 2_000).as_bytes()), &mut connection);
            }
            Step::Heartbeat => peer(&frame(0x81, HEARTBEAT.as_bytes()), &mut connection),
            Step::Pong { number } => peer(&frame(0x8a, &u64::from(number).to_be_bytes()), &mut connection),
            Step::PeerCloses { code } => peer(&frame(0x88, &code.to_be_bytes()), &mut connection),
            Step::Bytes(bytes) => peer(&bytes, &mut connection),
            Step::End { reset } => connection.peer_ends(reset.then_some(ErrorKind::ConnectionReset)),
            Step::BreakOff => connection.break_off(ErrorKind::BrokenPipe),
            Step::Allow { bytes } => connection.allow(bytes.into()),
            Step::AllowAll => connection.allow(usize::MAX),
            Step::Pass { millis } => connection.pass(Duration::from_millis(millis.into())),
            Step::Send { text, length } => connection.try_send(message(text, length)),
            Step::Ping => connection.ping(),
            Step::Close { code } => connection.close(code),
            Step::Receive { most } => connection.receive(most.into()),
            Step::DropReceiver => connection.drop_receiver(),
            Step::HandlerReturns { fails } => connection.handler_returns(fails),
        }
    }
    let received = connection.finish();
    let decoding =
        Decoding { client, deflate, max_message_size: 40_000, max_frame_size: 30_000, max_fragments: 16 };
    let mut all = decoding.messages(&sent);
    all.retain(|message| !heartbeats || message.as_text() != Some(HEARTBEAT));
    assert!(all.starts_with(&received), "what was received is not what was sent");
}

fuzz_target!(|script: Script| {
    if script.steps.len() <= MAX_STEPS {
        run(script);
    }
});
