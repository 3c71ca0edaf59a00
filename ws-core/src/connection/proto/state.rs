//! What a [`Connection`] consists of.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::closing::Closing;
use super::inbound::Inbound;
use super::input::Input;
use super::keepalive::Keepalive;
use super::timers::Timers;
use crate::config::{ConnectionConfig, Negotiated};
use crate::error::Error;
use crate::message::Message;
use crate::prepared::PreparedMessage;
use crate::protocol::{Decoder, Encoder, Role};
use crate::utf8::Utf8Bytes;

/// How much is read and decoded in one turn of the driver, in bytes. Each frame is charged
/// `FRAME_COST` besides, and a compressed one what it becomes. A runtime's thread looks at its
/// other connections only after some dozens of polls, so a flood that makes each of them long is felt by all.
pub(super) const TURN: u32 = 64 * 1024;

/// A connection, without its transport.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) config: Arc<ConnectionConfig>,
    pub(super) decoder: Decoder,
    pub(super) input: Input,
    pub(super) inbound: Inbound,
    /// The outbound buffer, without what the driver is writing.
    pub(super) encoder: Encoder,
    /// Bytes that were queued, and that the transport took, since the connection opened.
    pub(super) queued: u64,
    pub(super) written: u64,
    /// The newest ping that could not be answered, because the peer takes nothing. Those before it need no answer (RFC 6455
    /// section 5.5.3).
    pub(super) unanswered: Option<Box<Bytes>>,
    pub(super) closing: Closing,
    pub(super) keepalive: Keepalive,
    pub(super) timers: Timers,
    pub(super) kernel: Kernel,
    pub(super) heartbeat: Option<Box<Heartbeat>>,
    /// What is left of [`TURN`].
    pub(super) budget: u32,
    /// The handler has returned, or there was none.
    pub(super) handler_done: bool,
    /// Something has happened that the driver has not seen.
    pub(super) attention: bool,
    pub(super) effects: Option<Box<Effects>>,
}

/// A text that is answered in place of being received, and the answer.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(super) text: Utf8Bytes,
    pub(super) answer: PreparedMessage,
}

impl Heartbeat {
    /// Whether a message is this text.
    pub(super) fn is(&self, message: &Message) -> bool {
        message.as_text() == Some(&*self.text)
    }
}

/// Whether the kernel watches over our pings. While reading is paused nobody would see the answer to a ping. What there is
/// to see is whether the peer's kernel acknowledges it, and only our kernel sees that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kernel {
    pub(super) is_wanted: bool,
    pub(super) is_watching: bool,
    /// The ping has had its time: what does the kernel say?
    pub(super) is_asked: bool,
}

/// What is left to do when the connection is not locked any more.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) notices: Vec<Notice>,
    /// Why the connection fails, for the log.
    pub(crate) failures: Vec<Error>,
    /// What nobody needs any more.
    pub(crate) dropped: Vec<Box<dyn Debug + Send>>,
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
            decoder: Decoder::new(role, Arc::clone(&config.limits)).with(negotiated),
            input: Input::new(read),
            inbound: Inbound::default(),
            encoder: Encoder::new(role),
            queued: 0,
            written: 0,
            unanswered: None,
            closing: Closing::default(),
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

    pub(crate) fn take_effects(&mut self) -> Effects {
        *self.effects.take().unwrap_or_default()
    }

    #[inline]
    pub(super) fn notice(&mut self, notice: Notice) {
        if self.config.observer.is_some() {
            self.effects.get_or_insert_default().notices.push(notice);
        }
    }

    /// Has a value dropped outside of the lock, as its owner may run code of their own then.
    pub(super) fn drop_later(&mut self, value: impl Debug + Send + 'static) {
        self.effects.get_or_insert_default().dropped.push(Box::new(value));
    }

    /// Queues what `encode` encodes, of which it returns the length.
    #[inline]
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Encoder) -> usize) {
        self.attention = true;
        self.queued += encode(&mut self.encoder) as u64;
    }

    /// Bytes that were queued and that the transport has not taken.
    #[inline]
    pub(super) fn buffered(&self) -> u64 {
        self.queued - self.written
    }

    /// How many more bytes may be queued by those who wait for it; none where nothing can be sent.
    #[inline]
    pub(crate) fn outbound_room(&self) -> u64 {
        (self.config.outbound_bytes as u64).saturating_sub(self.buffered())
    }
}
