//! Messages that have come in, and who takes them.

use super::queue::Queue;
use crate::config::ConnectionConfig;

/// The messages that are decoded and not received.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) queue: Queue,
    /// Whether there is somebody to take messages.
    pub(super) has_receiver: bool,
    /// A message was taken, and the next one not yet asked for: its answer may be under way.
    pub(super) is_in_hand: bool,
    /// Reading has stopped because the queue is full.
    pub(super) is_paused: bool,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { queue: Queue::default(), has_receiver: true, is_in_hand: false, is_paused: false }
    }
}

impl Inbound {
    /// Whether all that has come was taken, and dealt with.
    pub(super) fn is_taken(&self) -> bool {
        self.queue.is_empty() && !self.is_in_hand
    }

    /// Whether reading has to stop until a message is received.
    #[inline]
    pub(super) fn is_full(&self, config: &ConnectionConfig) -> bool {
        self.queue.len() >= config.inbound_messages || self.queue.cost() >= config.inbound_bytes
    }

    /// Nobody takes messages any more. Returns those that nobody took.
    pub(super) fn close(&mut self) -> Queue {
        self.has_receiver = false;
        self.is_in_hand = false;
        std::mem::take(&mut self.queue)
    }
}
