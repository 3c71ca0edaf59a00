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
    pub(super) queue: Queue,
    /// Nobody takes messages any more.
    pub(super) is_receiver_gone: bool,
    /// A message was taken, and the next one not yet asked for: its answer may be under way.
    pub(super) is_in_hand: bool,
    /// Reading has stopped because the queue is full.
    pub(super) is_paused: bool,
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
        self.is_receiver_gone = true;
        self.is_in_hand = false;
        std::mem::take(&mut self.queue)
    }
}

/// One pointer, as nearly every connection has an empty one.
#[derive(Debug, Default)]
pub(super) struct Queue(Option<Box<Messages>>);

#[derive(Debug, Default)]
struct Messages {
    queue: VecDeque<Message>,
    /// The length of all payloads.
    bytes: usize,
}

impl Queue {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |messages| messages.queue.len())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the messages cost, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.0.as_ref().map_or(0, |messages| messages.bytes + messages.queue.len() * MESSAGE_COST)
    }

    pub(super) fn push(&mut self, message: Message) {
        let messages = self.0.get_or_insert_with(|| spare::borrow(&SPARE).unwrap_or_default());
        messages.bytes += message.len();
        messages.queue.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let messages = self.0.as_mut()?;
        let message = messages.queue.pop_front()?;
        messages.bytes -= message.len();
        Some(message)
    }

    /// Takes out the messages that `take` says.
    pub(super) fn extract(&mut self, mut take: impl FnMut(&Message) -> bool) -> Vec<Message> {
        let Some(messages) = self.0.take() else { return Vec::new() };
        let (taken, left): (Vec<_>, Vec<_>) = messages.queue.into_iter().partition(|message| take(message));
        for message in left {
            self.push(message);
        }
        taken
    }

    /// Gives back the memory, if there is nothing in it.
    pub(super) fn shrink(&mut self) {
        if self.is_empty()
            && let Some(messages) = self.0.take()
            && messages.queue.capacity() <= MAX_SPARE
        {
            spare::give_back(&SPARE, Some(messages));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for message in messages {
            queue.push(Message::from(*message));
        }
        queue
    }

    fn drain(mut queue: Queue) -> Vec<String> {
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
        assert!(messages.0.is_none());
    }
}
