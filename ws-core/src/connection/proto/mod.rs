//! [`Connection`]: all that a connection is, in one state machine without I/O, clock, lock or waker.
//!
//! It has the shape of `quinn_proto::Connection` and of rustls' connections. Whoever drives it calls its two sides:
//!
//! - **The transport's side**, called by the driver. [`read_buffer`](Connection::read_buffer) says where to read to, and
//!   [`handle_read`](Connection::handle_read) and its kin take what was read. [`take_output`](Connection::take_output)
//!   gives what to write, and [`handle_written`](Connection::handle_written) takes back what is left of it.
//!   [`poll_timeout`](Connection::poll_timeout) and [`handle_timeout`](Connection::handle_timeout) are for the timer,
//!   [`poll_action`](Connection::poll_action) says what else to do.
//! - **The user's side**: [`recv`](Connection::recv), which decodes on demand, [`send`](Connection::send),
//!   [`close`](Connection::close), [`ping`](Connection::ping). It has no clock: what begins on this side has its time from
//!   when the driver next looks, which is at once, as [`needs_driver`](Connection::needs_driver) tells.
//!
//! What concerns others is not called from in here. It is left in [`Effects`], for the caller to do when it has let go of
//! the connection: payloads to drop, whose owners may run code of their own, and what an observer is told.

mod closing;
mod inbound;
mod input;
mod keepalive;
mod outbound;
mod queue;
mod timers;
mod transport;
mod user;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::closing::Closing;
use self::inbound::Inbound;
use self::input::Input;
use self::keepalive::Keepalive;
use self::outbound::Outbound;
use self::queue::Queue;
use self::timers::Timers;
pub(crate) use self::transport::Action;
pub(crate) use self::user::{Milestones, Outgoing};
use crate::config::{ConnectionConfig, Negotiated};
use crate::message::Message;
use crate::prepared::PreparedMessage;
use crate::protocol::{Decoder, Encoder, Role};
use crate::utf8::Utf8Bytes;

/// How much is read and decoded in one turn of the driver, in bytes. Each frame is charged
/// `FRAME_COST` besides, and a compressed one what it becomes. A runtime's thread looks at its
/// other connections only after some dozens of polls, so a flood that makes each of them long is felt by all.
const TURN: u32 = 64 * 1024;

/// A connection, without its transport.
#[derive(Debug)]
pub(crate) struct Connection {
    config: Arc<ConnectionConfig>,
    decoder: Decoder,
    input: Input,
    inbound: Inbound,
    outbound: Outbound,
    closing: Closing,
    keepalive: Keepalive,
    timers: Timers,
    kernel: Kernel,
    heartbeat: Option<Box<Heartbeat>>,
    /// What is left of [`TURN`].
    budget: u32,
    /// The handler has returned, or there was none.
    handler_done: bool,
    /// Something has happened that the driver has not seen.
    attention: bool,
    effects: Option<Box<Effects>>,
}

/// A text that is answered in place of being received, and the answer.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    text: Utf8Bytes,
    answer: PreparedMessage,
}

/// Whether the kernel watches over our pings. While reading is paused nobody would see the answer to a ping. What there is
/// to see is whether the peer's kernel acknowledges it, and only our kernel sees that.
#[derive(Clone, Copy, Debug, Default)]
struct Kernel {
    is_wanted: bool,
    is_watching: bool,
    /// The ping has had its time: what does the kernel say?
    is_asked: bool,
}

impl Kernel {
    /// Whether there is nothing to tell it or to ask it.
    fn is_quiet(self) -> bool {
        self.is_wanted == self.is_watching && !self.is_asked
    }
}

/// What is left to do when the connection is not locked any more.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) notices: Vec<Notice>,
    pub(crate) dropped: Vec<Dropped>,
}

/// What an observer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A message of this length has come in.
    Received(usize),
    /// A message of this length was queued.
    Sent(usize),
    /// A ping was answered after this time.
    Pong(Duration),
}

/// What nobody needs any more.
#[derive(Debug)]
#[expect(dead_code, reason = "it is there to be dropped")]
pub(crate) enum Dropped {
    Outbound(Encoder),
    Heartbeat(Box<Heartbeat>),
    Inbound(Queue),
    Messages(Vec<Message>),
}

impl Connection {
    /// A connection from which `read` was already read.
    pub(crate) fn new(
        role: Role,
        config: Arc<ConnectionConfig>,
        negotiated: Negotiated,
        read: &[u8],
        now: Instant,
    ) -> Self {
        Self {
            decoder: Decoder::new(role, config.limits).with(negotiated),
            input: Input::new(read),
            inbound: Inbound::default(),
            outbound: Outbound::new(role),
            closing: Closing::Open,
            keepalive: Keepalive::default(),
            timers: Timers::new(&config, now),
            kernel: Kernel::default(),
            heartbeat: None,
            budget: TURN,
            handler_done: false,
            attention: false,
            effects: None,
            config,
        }
    }

    /// Whether something has happened that the driver has not seen.
    #[inline]
    pub(crate) fn needs_driver(&self) -> bool {
        self.attention
    }

    /// Whether something is left to do outside of the lock.
    #[inline]
    pub(crate) fn has_effects(&self) -> bool {
        self.effects.is_some()
    }

    /// What is left to do outside of the lock.
    #[inline]
    pub(crate) fn take_effects(&mut self) -> Option<Box<Effects>> {
        self.effects.take()
    }

    fn effects(&mut self) -> &mut Effects {
        self.effects.get_or_insert_default()
    }

    #[inline]
    fn notice(&mut self, notice: Notice) {
        if self.config.observer.is_some() {
            self.effects().notices.push(notice);
        }
    }

    /// Queues what `encode` encodes.
    #[inline]
    fn push<T>(&mut self, encode: impl FnOnce(&mut Encoder) -> T) -> T {
        self.attention = true;
        self.outbound.push(encode)
    }

    /// How many more bytes may be queued by those who wait for it; none where nothing can be sent.
    #[inline]
    pub(crate) fn outbound_room(&self) -> u64 {
        (self.config.outbound_bytes as u64).saturating_sub(self.outbound.buffered())
    }
}
