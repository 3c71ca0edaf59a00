//! [`Queue`]: a bounded queue of messages between the user and the task.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::error::SendError;
use crate::message::Message;

/// Messages in order.
pub(super) struct Queue {
    max_messages: usize,
    max_bytes: usize,
    /// Whether it accepts messages while there is no connection.
    keeps: bool,
    state: Mutex<State>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    phase: Phase,
    /// How many messages have been queued, and how many of them are not in the queue any more.
    queued: u64,
    gone: u64,
    /// How often messages were dropped.
    drops: u64,
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

/// The wait of a stream or a sink for a change of the queue, between two polls.
pub(super) type Wait = Option<Pin<Box<OwnedNotified>>>;

/// What a sink has queued since it was flushed.
#[derive(Clone, Copy)]
pub(super) struct Unflushed {
    /// How many messages are gone from the queue when the last one of the sink is.
    last: u64,
    /// How often messages had been dropped before the first one of the sink was queued.
    drops: u64,
}

impl Queue {
    pub(super) fn new(max_messages: usize, max_bytes: usize, keeps: bool) -> Self {
        Self { max_messages, max_bytes, keeps, state: Mutex::default(), changed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // while it is held, only an allocation can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` returns `Some`.
    async fn find<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut wait = None;
        poll_fn(|cx| self.poll_find(cx, &mut wait, &mut look)).await
    }

    /// Waits until `look` returns `Some`.
    fn poll_find<T>(
        &self,
        cx: &mut Context<'_>,
        wait: &mut Wait,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Poll<T> {
        loop {
            if let Some(found) = look(&mut self.lock()) {
                *wait = None;
                return Poll::Ready(found);
            }
            match wait {
                // the next look is after this, so that no change is missed
                None => *wait = Some(Box::pin(Arc::clone(&self.changed).notified_owned())),
                Some(changed) => {
                    ready!(changed.as_mut().poll(cx));
                    *wait = None;
                }
            }
        }
    }

    /// Queues a message if there is space. An empty queue accepts a message of any size.
    pub(super) fn try_push(&self, message: Message) -> Result<(), SendError> {
        self.admit(message, |state, message| {
            state.messages.is_empty()
                || state.messages.len() < self.max_messages
                    && state.bytes.saturating_add(message.len()) <= self.max_bytes
        })?;
        Ok(())
    }

    /// Queues a message if messages can be queued and it has room. Returns what a flush of it waits for.
    fn admit(
        &self,
        message: Message,
        has_room: impl FnOnce(&State, &Message) -> bool,
    ) -> Result<Unflushed, SendError> {
        let mut state = self.lock();
        match state.phase {
            Phase::Ended => return Err(SendError::Ended(message)),
            Phase::Waiting if !self.keeps => return Err(SendError::NotConnected(message)),
            _ if !has_room(&state, &message) => return Err(SendError::Full(message)),
            Phase::Waiting | Phase::Connected => {}
        }
        state.push(message);
        let unflushed = Unflushed { last: state.queued, drops: state.drops };
        drop(state);
        self.changed.notify_waiters();
        Ok(unflushed)
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

    /// Waits for space for a message, also while there is no connection. Where no message can be queued, the next one is told
    /// so.
    pub(super) fn poll_space(&self, cx: &mut Context<'_>, wait: &mut Wait) -> Poll<()> {
        self.poll_find(cx, wait, |state| {
            let is_refused = state.phase == Phase::Ended || state.phase == Phase::Waiting && !self.keeps;
            let has_space = state.messages.is_empty()
                || state.messages.len() < self.max_messages && state.bytes < self.max_bytes;
            (is_refused || has_space).then_some(())
        })
    }

    /// Queues a message after [`poll_space`](Self::poll_space), also if there is no space any more.
    pub(super) fn push_unflushed(
        &self,
        message: Message,
        unflushed: &mut Option<Unflushed>,
    ) -> Result<(), SendError> {
        let Unflushed { last, drops } = self.admit(message, |_, _| true)?;
        let drops = unflushed.map_or(drops, |unflushed| unflushed.drops);
        *unflushed = Some(Unflushed { last, drops });
        Ok(())
    }

    /// Waits until connections have taken what a sink has queued. Fails if messages were dropped instead.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        wait: &mut Wait,
        unflushed: &mut Option<Unflushed>,
    ) -> Poll<Result<(), SendError>> {
        let Some(Unflushed { last, drops }) = *unflushed else { return Poll::Ready(Ok(())) };
        let result = ready!(self.poll_find(cx, wait, |state| {
            (state.gone >= last).then(|| if state.drops == drops { Ok(()) } else { Err(SendError::Dropped) })
        }));
        *unflushed = None;
        Poll::Ready(result)
    }

    /// Waits until no more messages can be queued.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>, wait: &mut Wait) -> Poll<()> {
        self.poll_find(cx, wait, |state| (state.phase == Phase::Ended).then_some(()))
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
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>, wait: &mut Wait) -> Poll<Option<Message>> {
        let message = ready!(self.poll_find(cx, wait, |state| match state.pop() {
            Some(message) => Some(Some(message)),
            None => (state.phase == Phase::Ended).then_some(None),
        }));
        self.changed.notify_waiters();
        Poll::Ready(message)
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
        self.queued += 1;
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.gone += 1;
        self.bytes -= message.len();
        if self.messages.is_empty() {
            // an idle queue holds no memory
            self.messages = VecDeque::new();
        }
        Some(message)
    }

    fn clear(&mut self) -> VecDeque<Message> {
        if !self.messages.is_empty() {
            self.drops += 1;
        }
        self.gone = self.queued;
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
