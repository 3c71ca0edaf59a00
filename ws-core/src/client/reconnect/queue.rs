//! [`Queue`]: a bounded queue of messages between the user and the task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::error::SendError;
use crate::message::Message;

/// Messages in order.
pub(super) struct Queue {
    max_messages: usize,
    max_bytes: usize,
    /// Whether it accepts messages while there is no connection.
    keeps: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    phase: Phase,
}

/// What happens to queued messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// They wait for the next connection.
    #[default]
    Waiting,
    /// A connection takes them.
    Connected,
    /// No more messages can be queued.
    Ended,
}

impl Queue {
    pub(super) fn new(max_messages: usize, max_bytes: usize, keeps: bool) -> Self {
        Self { max_messages, max_bytes, keeps, state: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // while it is held, only an allocation can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` returns `Some`.
    async fn find<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // made before the look, so that no change is missed
            let changed = self.changed.notified();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    /// Queues a message if there is space. An empty queue accepts a message of any size.
    pub(super) fn try_push(&self, message: Message) -> Result<(), SendError> {
        let mut state = self.lock();
        let fits = state.messages.len() < self.max_messages
            && state.bytes.saturating_add(message.len()) <= self.max_bytes;
        match state.phase {
            Phase::Ended => return Err(SendError::Ended(message)),
            Phase::Waiting if !self.keeps => return Err(SendError::NotConnected(message)),
            _ if !fits && !state.messages.is_empty() => return Err(SendError::Full(message)),
            Phase::Waiting | Phase::Connected => {}
        }
        state.push(message);
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Queues a message. While there is a connection, waits for space.
    pub(super) async fn push(&self, mut message: Message) -> Result<(), SendError> {
        loop {
            let changed = self.changed.notified();
            match self.try_push(message) {
                Err(SendError::Full(back)) if self.lock().phase == Phase::Connected => message = back,
                result => return result,
            }
            changed.await;
        }
    }

    /// Queues a message that was received, even if the queue is full: see [`within_bounds`](Self::within_bounds).
    pub(super) fn deliver(&self, message: Message) {
        self.lock().push(message);
        self.changed.notify_waiters();
    }

    /// Waits while the queue holds more than its bounds.
    pub(super) async fn within_bounds(&self) {
        self.find(|state| {
            (state.messages.len() <= self.max_messages && state.bytes <= self.max_bytes).then_some(())
        })
        .await;
    }

    /// Waits for the first message and takes it; `None` if the queue has ended and is empty.
    pub(super) async fn pop(&self) -> Option<Message> {
        let popped = self.find(|state| match state.pop() {
            Some(message) => Some(Some(message)),
            None => (state.phase == Phase::Ended).then_some(None),
        });
        let message = popped.await;
        self.changed.notify_waiters();
        message
    }

    /// A clone of the first message, which shares its payload.
    pub(super) fn first(&self) -> Option<Message> {
        self.lock().messages.front().cloned()
    }

    /// Waits for a first message, and returns a clone of it.
    pub(super) async fn wait_first(&self) -> Message {
        self.find(|state| state.messages.front().cloned()).await
    }

    /// Removes the first message.
    pub(super) fn remove_first(&self) {
        drop(self.lock().pop());
        self.changed.notify_waiters();
    }

    /// Sets the phase. It does not change after [`Phase::Ended`].
    pub(super) fn set_phase(&self, phase: Phase) {
        let mut state = self.lock();
        if state.phase != Phase::Ended {
            state.phase = phase;
        }
        let dropped = (phase == Phase::Waiting && !self.keeps).then(|| state.clear());
        drop(state);
        drop(dropped);
        self.changed.notify_waiters();
    }

    /// Drops all messages.
    pub(super) fn clear(&self) {
        let dropped = self.lock().clear();
        drop(dropped);
        self.changed.notify_waiters();
    }
}

impl State {
    fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        if self.messages.is_empty() {
            // an idle queue holds no memory
            self.messages = VecDeque::new();
        }
        Some(message)
    }

    fn clear(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
