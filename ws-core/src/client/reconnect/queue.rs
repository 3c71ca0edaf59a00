//! A bounded queue of messages, between the user and the task that has the connections.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::SendError;
use crate::message::Message;

/// Messages that wait to be taken, in their order.
pub(super) struct Queue {
    max_messages: usize,
    max_bytes: usize,
    /// Takes messages also while there is no connection.
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

/// What becomes of what is queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for the next connection.
    #[default]
    Waiting,
    /// It is taken as fast as the connection goes.
    Connected,
    /// Nothing can be queued any more.
    Ended,
}

impl Queue {
    pub(super) fn new(max_messages: usize, max_bytes: usize, keeps: bool) -> Self {
        Self { max_messages, max_bytes, keeps, state: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no code that may panic runs while the lock is held, but for allocation
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something.
    async fn find<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // from here on no change is missed
            let changed = self.changed.notified();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    /// Queues a message if there is room. An empty queue has room for any.
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

    /// Queues a message. Waits for room while there is a connection that makes some.
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

    /// Queues a message of a connection, whether there is room or not: see [`within_bounds`](Self::within_bounds).
    pub(super) fn deliver(&self, message: Message) {
        self.lock().push(message);
        self.changed.notify_waiters();
    }

    /// Waits while there is more than there may be.
    pub(super) async fn within_bounds(&self) {
        self.find(|state| {
            (state.messages.len() <= self.max_messages && state.bytes <= self.max_bytes).then_some(())
        })
        .await;
    }

    /// Takes the first message; `None` if there will be none any more.
    pub(super) async fn pop(&self) -> Option<Message> {
        let popped = self.find(|state| match state.pop() {
            Some(message) => Some(Some(message)),
            None => (state.phase == Phase::Ended).then_some(None),
        });
        let message = popped.await;
        self.changed.notify_waiters();
        message
    }

    /// The first message, which stays where it is. A clone of a message shares its payload.
    pub(super) fn first(&self) -> Option<Message> {
        self.lock().messages.front().cloned()
    }

    /// Waits for a first message, which stays where it is.
    pub(super) async fn wait_first(&self) -> Message {
        self.find(|state| state.messages.front().cloned()).await
    }

    /// Takes the first message, which was seen before.
    pub(super) fn remove_first(&self) {
        drop(self.lock().pop());
        self.changed.notify_waiters();
    }

    /// What becomes of messages from now on. The end is for good.
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

    /// Drops what is queued.
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
            // one that is idle holds nothing
            self.messages = VecDeque::new();
        }
        Some(message)
    }

    fn clear(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
