//! Messages on their way to the receiver, and the memory that they lie in.
//!
//! A queue that is empty holds no memory: it borrows the thread's, as a connection has something in it for a moment only.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;

use crate::message::Message;

thread_local! {
    /// What a queue gave back.
    static SPARE: Cell<Option<VecDeque<Message>>> = const { Cell::new(None) };
}

/// The most messages that there is room for in what is kept for the next queue.
const MAX_SPARE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: Option<VecDeque<Message>>,
    bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.messages.as_ref().map_or(0, VecDeque::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of all payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages
            .get_or_insert_with(|| SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default())
            .push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.as_mut()?.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Appends all of `other`.
    pub(super) fn append(&mut self, other: Self) {
        if self.is_empty() {
            mem::replace(self, other).rest();
            return;
        }
        self.bytes += other.bytes;
        if let (Some(messages), Some(mut more)) = (&mut self.messages, other.messages) {
            messages.append(&mut more);
            give_back(more);
        }
    }

    /// Keeps what `keep` says.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Message) -> bool) {
        if let Some(messages) = &mut self.messages {
            messages.retain(keep);
            self.bytes = messages.iter().map(Message::len).sum();
        }
    }

    /// Gives back the memory, if there is nothing in it.
    pub(super) fn rest(&mut self) {
        if self.is_empty()
            && let Some(messages) = self.messages.take()
        {
            give_back(messages);
        }
    }
}

/// Keeps the memory of an empty queue for the next one.
fn give_back(messages: VecDeque<Message>) {
    if messages.capacity() <= MAX_SPARE {
        // there is none to keep it where the thread is about to end
        let _ = SPARE.try_with(|spare| spare.set(Some(messages)));
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
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        messages
    }

    #[test]
    fn messages_leave_in_the_order_in_which_they_came() {
        let mut messages = queue(&["one", "two"]);
        messages.append(queue(&[]));
        messages.append(queue(&["three"]));
        assert_eq!((messages.len(), messages.bytes()), (3, 11));
        assert_eq!(drain(messages), ["one", "two", "three"]);
    }

    #[test]
    fn what_is_appended_to_nothing_is_all_there_is() {
        let mut messages = queue(&[]);
        messages.append(queue(&["one"]));
        assert_eq!(drain(messages), ["one"]);
    }

    #[test]
    fn what_is_not_kept_is_not_counted() {
        let mut messages = queue(&["ping", "hello", "ping"]);
        messages.retain(|message| message.as_text() != Some("ping"));
        assert_eq!((messages.len(), messages.bytes()), (1, 5));
    }

    #[test]
    fn an_empty_queue_holds_no_memory_once_it_rests() {
        let mut messages = queue(&["one"]);
        messages.rest();
        assert_eq!(messages.len(), 1, "what is in it stays");
        messages.pop();
        messages.rest();
        assert!(messages.messages.is_none());
    }
}
