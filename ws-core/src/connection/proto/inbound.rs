//! Messages that have come in, who takes them, and what they are charged for.
//!
//! A queue that is empty holds no memory: it borrows the thread's, as a connection has something in it for a moment only.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::config::ConnectionConfig;
use crate::message::Message;
use crate::spare;

/// What a message costs besides its payload, in bytes: its place in the queue, and the allocation of its payload.
const MESSAGE_COST: usize = 64;

/// The most messages that there is room for in what is kept for the next queue.
const MAX_SPARE: usize = 64;

thread_local! {
    /// What a queue gave back.
    static SPARE: Cell<Option<Box<Messages>>> = const { Cell::new(None) };
}

/// The messages that are decoded and not received.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// `None` where there are none, as in nearly every connection.
    messages: Option<Box<Messages>>,
    /// Nobody takes messages any more.
    pub(super) is_receiver_gone: bool,
    /// A message was taken, and the next one not yet asked for: its answer may be under way.
    pub(super) is_in_hand: bool,
    /// Reading has stopped because the queue is full.
    pub(super) is_paused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Messages {
    queue: VecDeque<Message>,
    /// The length of all payloads.
    bytes: usize,
}

impl Inbound {
    /// Whether all that has come was taken, and dealt with.
    pub(super) fn is_taken(&self) -> bool {
        self.len() == 0 && !self.is_in_hand
    }

    /// Whether reading has to stop until a message is received.
    #[inline]
    pub(super) fn is_full(&self, config: &ConnectionConfig) -> bool {
        self.len() >= config.inbound_messages || self.cost() >= config.inbound_bytes
    }

    /// Nobody takes messages any more. Returns those that nobody took.
    pub(super) fn close(&mut self) -> Option<Box<Messages>> {
        self.is_receiver_gone = true;
        self.is_in_hand = false;
        self.messages.take()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.messages.as_ref().map_or(0, |messages| messages.queue.len())
    }

    /// What they cost, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.messages.as_ref().map_or(0, |messages| messages.bytes + messages.queue.len() * MESSAGE_COST)
    }

    pub(super) fn push(&mut self, message: Message) {
        let messages = self.messages.get_or_insert_with(|| spare::borrow(&SPARE).unwrap_or_default());
        messages.bytes += message.len();
        messages.queue.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let messages = self.messages.as_mut()?;
        let message = messages.queue.pop_front()?;
        messages.bytes -= message.len();
        Some(message)
    }

    /// Takes out the messages that `take` says.
    pub(super) fn extract(&mut self, mut take: impl FnMut(&Message) -> bool) -> Vec<Message> {
        let Some(messages) = self.messages.take() else { return Vec::new() };
        let (taken, left): (Vec<_>, Vec<_>) = messages.queue.into_iter().partition(|message| take(message));
        for message in left {
            self.push(message);
        }
        taken
    }

    pub(super) fn shrink(&mut self) {
        if self.len() == 0
            && let Some(messages) = self.messages.take()
            && messages.queue.capacity() <= MAX_SPARE
        {
            spare::give_back(&SPARE, Some(messages));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: &[&str]) -> Inbound {
        let mut queue = Inbound::default();
        for message in messages {
            queue.push(Message::from(*message));
        }
        queue
    }

    fn drain(mut queue: Inbound) -> Vec<String> {
        let messages =
            std::iter::from_fn(|| queue.pop()).map(|message| message.as_text().unwrap().to_owned()).collect();
        assert_eq!((queue.len(), queue.cost()), (0, 0));
        messages
    }

    #[test]
    fn messages_leave_in_the_order_in_which_they_came() {
        assert_eq!(drain(queue(&["one", "two", "three"])), ["one", "two", "three"]);
    }

    #[test]
    fn an_empty_message_is_charged_for_its_place() {
        assert!(queue(&["", ""]).cost() >= 2 * size_of::<Message>());
        assert_eq!(queue(&["12345"]).cost() - queue(&[""]).cost(), 5);
    }

    #[test]
    fn what_is_taken_out_is_not_charged_any_more() {
        let mut messages = queue(&["ping", "hello", "ping"]);
        assert_eq!(messages.extract(|message| message.as_text() == Some("ping")).len(), 2);
        assert_eq!((messages.len(), messages.cost()), (1, queue(&["hello"]).cost()));
    }

    #[test]
    fn an_empty_queue_holds_no_memory_once_it_is_shrunk() {
        let mut messages = queue(&["one"]);
        messages.shrink();
        assert_eq!(messages.len(), 1, "what is in it stays");
        messages.pop();
        messages.shrink();
        assert!(messages.messages.is_none());
    }
}
