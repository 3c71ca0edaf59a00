//! A connection without a runtime, and properties that hold for every sequence of events and times. The tests and the
//! fuzzer generate the sequences.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _};

use super::state::Connection;
use super::transport::Action;
use super::user::Outgoing;
use crate::close::{CloseFrame, Closed};
use crate::config::{ConnectionConfig, Limits, Negotiated};
use crate::error::Error;
use crate::message::Message;
use crate::prepared::PreparedMessage;
use crate::protocol::{Decoder, Event, Role};

/// The text that the connection answers and does not deliver.
pub(crate) const HEARTBEAT: &str = "ab";
/// The longest header and control frame: what may be queued beyond the limit besides a message.
const BEYOND: usize = 14 + 3 * (14 + 125);

/// How the peer's stream ends: in order, or with an error.
#[derive(Clone, Copy, Debug)]
struct StreamEnd(Option<io::ErrorKind>);

/// A connection, the time, and the bytes of both directions.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) connection: Connection,
    role: Role,
    config: Arc<ConnectionConfig>,
    negotiated: Negotiated,
    pub(crate) now: Instant,
    /// Bytes that the peer has sent and that were not read.
    unread: Vec<u8>,
    /// How the peer's stream ends, behind what it has sent.
    end: Option<StreamEnd>,
    /// How many more bytes the transport takes, or why it takes none any more.
    room: Result<usize, io::ErrorKind>,
    /// Bytes that the transport took.
    pub(crate) written: Vec<u8>,
    pub(crate) received: Vec<Message>,
    /// What `recv` has said at the end: an error, then nothing.
    pub(crate) errors: Vec<Error>,
    pub(crate) is_ended: bool,
    pub(crate) is_shut_down: bool,
    /// The longest message that was sent.
    longest: usize,
}

impl Driven {
    pub(crate) fn new(role: Role, config: ConnectionConfig, negotiated: Negotiated) -> Self {
        let config = Arc::new(config);
        let now = Instant::now();
        Self {
            connection: Connection::new(role, Arc::clone(&config), negotiated, &[], now),
            role,
            config,
            negotiated,
            now,
            unread: Vec::new(),
            end: None,
            room: Ok(usize::MAX),
            written: Vec::new(),
            received: Vec::new(),
            errors: Vec::new(),
            is_ended: false,
            is_shut_down: false,
            longest: 0,
        }
    }

    /// The peer sends bytes.
    pub(crate) fn peer_sends(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.turn();
    }

    /// The peer's stream ends behind what it has sent, with an error if there is one.
    pub(crate) fn peer_ends(&mut self, error: Option<io::ErrorKind>) {
        self.end.get_or_insert(StreamEnd(error));
        self.turn();
    }

    /// The transport takes this many more bytes.
    pub(crate) fn allow(&mut self, bytes: usize) {
        if self.room.is_ok() {
            self.room = Ok(bytes);
        }
        self.turn();
    }

    /// The transport takes nothing any more.
    pub(crate) fn break_off(&mut self, error: io::ErrorKind) {
        self.room = Err(error);
        self.turn();
    }

    /// Time passes, in steps of the connection's timer.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.connection.poll_timeout().filter(|at| *at <= until) {
            assert!(
                steps < if at >= self.now { 100 } else { 3 },
                "the timer does not move on: {:?}",
                self.connection
            );
            steps = if at > self.now { 0 } else { steps + 1 };
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.now);
            self.turn();
        }
        self.now = until;
    }

    /// The user sends a message, if there is room.
    pub(crate) fn try_send(&mut self, message: Message) -> bool {
        let can_send = self.connection.is_sendable() && self.connection.outbound_room() > 0;
        if can_send {
            self.longest = self.longest.max(message.len());
            self.connection.send(&mut Outgoing::Own(message));
        }
        self.turn();
        can_send
    }

    /// The user pings, and waits for no answer.
    pub(crate) fn ping(&mut self) {
        let _ = self.connection.ping();
        self.turn();
    }

    /// The user closes.
    pub(crate) fn close(&mut self, code: u16) {
        self.connection.close(Some(CloseFrame::new(code, "")));
        self.turn();
    }

    /// The user has heartbeats answered.
    pub(crate) fn answer_heartbeats(&mut self) {
        self.connection.set_heartbeat(HEARTBEAT.into(), PreparedMessage::new("still here"));
        self.turn();
    }

    /// The user receives up to this many messages.
    pub(crate) fn receive(&mut self, most: usize) {
        for _ in 0..most {
            match self.connection.recv() {
                std::task::Poll::Pending => break,
                std::task::Poll::Ready(Some(Ok(message))) => {
                    assert!(!self.is_ended && self.errors.is_empty(), "a message came behind the end");
                    self.received.push(message);
                }
                std::task::Poll::Ready(Some(Err(error))) => self.errors.push(error),
                std::task::Poll::Ready(None) => {
                    self.is_ended = true;
                    break;
                }
            }
            assert!(self.errors.len() <= 1, "more than one error came");
        }
        self.turn();
    }

    /// Nothing more is sent by either side, and the user receives all messages. A timeout has to end the connection.
    pub(crate) fn finish(&mut self) {
        self.receive(100_000);
        self.pass(Duration::from_secs(600));
        self.receive(100_000);
        assert!(self.outcome().is_some(), "it does not end: {:?}", self.connection);
        assert!(self.is_ended, "it does not end for the receiver");
        let (messages, cost, _) = self.connection.waiting();
        assert_eq!((messages, cost), (0, 0), "messages are held behind the end");
        self.check_written();
    }

    /// The output is valid frames, and a Close frame is the last one.
    fn check_written(&self) {
        let role = if self.role == Role::Server { Role::Client } else { Role::Server };
        let unlimited = Limits { max_message_size: usize::MAX, max_frame_size: usize::MAX, max_fragments: 1 };
        let mut decoder = Decoder::new(role, unlimited).with(self.negotiated);
        let mut written = self.written.clone();
        let mut rest = written.as_mut_slice();
        while !rest.is_empty() {
            let (taken, event) = decoder.decode(rest, true, &mut { u32::MAX });
            rest = &mut rest[taken..];
            match event {
                Some(Event::Error(error)) => panic!("the peer sees an error: {error}"),
                Some(Event::Close(_)) => assert!(rest.is_empty(), "a Close frame is not the last"),
                _ => {}
            }
        }
    }

    /// How the connection ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Closed> {
        self.connection.outcome()
    }

    /// The driver has its turn, as often as it wants to.
    pub(crate) fn turn(&mut self) {
        let mut is_readable = true;
        for round in 0.. {
            assert!(round < 10_000, "the driver goes round without end: {:?}", self.connection);
            self.connection.begin_turn();
            self.read(&mut is_readable);
            self.write();
            self.act();
            drop(self.connection.take_effects());
            let wants_read = is_readable && self.connection.wants_read();
            if !wants_read && !self.connection.wants_decoding() && !self.connection.needs_driver() {
                break;
            }
        }
        self.connection.shrink();
        self.check();
    }

    /// Reads as much as the connection wants.
    fn read(&mut self, is_readable: &mut bool) {
        self.connection.decode_ahead();
        while *is_readable && let Some(mut buffer) = self.connection.read_buffer(self.now) {
            let mut room = buffer.room();
            let n = self.unread.len().min(room.remaining_mut());
            room.put_slice(&self.unread[..n]);
            let is_full = !room.has_remaining_mut();
            self.unread.drain(..n);
            self.connection.handle_read(buffer, n, self.now);
            match self.end {
                _ if is_full => {}
                Some(StreamEnd(error)) => self.connection.handle_end(error.map(io::Error::from)),
                None => {
                    *is_readable = false;
                    self.connection.handle_drained();
                }
            }
            self.connection.decode_ahead();
        }
    }

    fn write(&mut self) {
        let Some(mut output) = self.connection.take_output(true, self.now) else {
            if self.connection.waiting().2 == 0 {
                self.connection.handle_flushed(self.now);
            }
            return;
        };
        assert!(!self.is_shut_down, "something is written behind the end");
        match self.room {
            Ok(room) => {
                let n = room.min(output.remaining());
                self.written.extend_from_slice(&output.copy_to_bytes(n));
                if room != usize::MAX {
                    self.room = Ok(room - n);
                }
                let is_blocked = output.has_remaining();
                self.connection.handle_written(&mut output, n, is_blocked, self.now);
                if !is_blocked {
                    self.connection.handle_flushed(self.now);
                }
            }
            Err(error) => {
                self.connection.handle_written(&mut output, 0, false, self.now);
                self.connection.handle_broken(error.into());
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.connection.poll_action() {
            match action {
                Action::WatchKernel(limit) => self.connection.handle_kernel_watch(limit.is_some()),
                Action::AskKernel => self.connection.handle_kernel_error(None),
                Action::ShutDown => {
                    self.is_shut_down = true;
                    self.connection.handle_shutdown();
                }
                Action::Release => self.connection.handle_released(),
            }
        }
    }

    /// Memory is bounded, whatever has happened.
    fn check(&self) {
        let (messages, cost, outbound) = self.connection.waiting();
        let limits = &self.config.limits;
        // what came before the end is decoded whether there is room or not; that is one read
        if self.connection.is_open() {
            assert!(messages <= self.config.inbound_messages, "{messages} messages wait");
            let most = self.config.inbound_bytes.saturating_add(limits.max_message_size).saturating_add(64);
            assert!(cost < most, "{cost} bytes wait for the receiver");
        }
        let most = self.config.outbound_bytes.saturating_add(self.longest).saturating_add(BEYOND);
        assert!(outbound <= most as u64, "{outbound} bytes wait for the transport");
    }
}
