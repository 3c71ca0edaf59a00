//! [`Ear`]: takes what is pushed on one connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::codec::{PROBE, decode_head};
use crate::inbox::Inbox;

/// Sees whether a push is missing, and keeps probes for the supervisor; all others wait for the hub.
pub(crate) struct Ear {
    inbox: Arc<Inbox>,
    /// Of this node.
    channels: Mutex<HashMap<Vec<u8>, Channel>>,
    /// Channels of this node that the server has ended.
    ended: Mutex<Vec<Vec<u8>>>,
    has_ended: Notify,
}

struct Channel {
    /// The number of the last push; `None` if it is not known.
    last: Option<u64>,
    probes: watch::Sender<u64>,
}

impl Channel {
    /// Sees whether pushes before the one with this number are missing.
    fn note(&mut self, number: u64, inbox: &Inbox) {
        if self.last.is_some_and(|last| number != last + 1) {
            inbox.gap();
        }
        self.last = Some(number);
    }
}

impl Ear {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, channels: Mutex::default(), ended: Mutex::default(), has_ended: Notify::new() }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Channel>> {
        // each use leaves it whole
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to take what is pushed on a channel of this node. `is_new` says that nothing was pushed there yet.
    pub(crate) fn begin(&self, channel: Vec<u8>, is_new: bool) {
        let channel_of = Channel { last: is_new.then_some(0), probes: watch::Sender::new(0) };
        self.channels().insert(channel, channel_of);
    }

    /// The channel is none of this node any more.
    pub(crate) fn end(&self, channel: &[u8]) {
        self.channels().remove(channel);
    }

    /// The number of the last probe on a channel.
    pub(crate) fn probes(&self, channel: &[u8]) -> Option<watch::Receiver<u64>> {
        self.channels().get(channel).map(|it| it.probes.subscribe())
    }

    /// Waits until the server has ended channels.
    pub(crate) async fn ended(&self) {
        self.has_ended.notified().await;
    }

    /// Channels of this node that the server has ended.
    pub(crate) fn take_ended(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a push, or that there are no more on a channel.
    pub(crate) fn hear(&self, channel: Vec<u8>, payload: Option<Vec<u8>>) {
        let Some(payload) = payload else { return self.note_end(channel) };
        let Ok((kind, number)) = decode_head(&payload) else {
            tracing::debug!("a node of another version pushes what this one does not understand");
            return self.inbox.gap();
        };
        if let Some(channel) = self.channels().get_mut(&channel) {
            channel.note(number, &self.inbox);
            if kind == PROBE {
                channel.probes.send_replace(number);
            }
        }
        if kind != PROBE {
            self.inbox.push(payload);
        }
    }

    /// A push with this number is the last one on a channel, and was not heard.
    pub(crate) fn note_unheard(&self, channel: &[u8], number: u64) {
        if let Some(channel) = self.channels().get_mut(channel) {
            channel.note(number, &self.inbox);
        }
    }

    fn note_end(&self, channel: Vec<u8>) {
        if self.channels().contains_key(&channel) {
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
            self.has_ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::inbox::Item;

    fn push(kind: u8, number: u64) -> Vec<u8> {
        [&[1, kind][..], &number.to_be_bytes()].concat()
    }

    fn heard(inbox: &Inbox) -> Vec<Item> {
        let mut items = Vec::new();
        while let Poll::Ready(Some(item)) = inbox.poll_next(&Context::from_waker(Waker::noop())) {
            items.push(item);
        }
        items
    }

    /// One with a channel.
    fn ear(is_new: bool) -> (Arc<Inbox>, Ear) {
        let inbox = Arc::<Inbox>::default();
        let ear = Ear::new(Arc::clone(&inbox));
        ear.begin(b"node".to_vec(), is_new);
        (inbox, ear)
    }

    impl Ear {
        fn hear_push(&self, channel: &str, payload: Vec<u8>) {
            self.hear(channel.as_bytes().to_vec(), Some(payload));
        }
    }

    #[test]
    fn a_number_that_is_missing_is_a_gap() {
        let (inbox, ear) = ear(true);
        let probes = ear.probes(b"node").unwrap();
        ear.hear_push("node", push(1, 1));
        // others have no numbers
        ear.hear_push("room", push(5, 0));
        ear.hear_push("node", push(PROBE, 2));
        assert_eq!(heard(&inbox), [Item::Push(push(1, 1)), Item::Push(push(5, 0))]);
        assert_eq!(*probes.borrow(), 2);
        ear.hear_push("node", push(1, 4));
        assert_eq!(heard(&inbox), [Item::Gap, Item::Push(push(1, 4))]);
        // the server has lost its data
        ear.hear_push("node", push(1, 1));
        assert_eq!(heard(&inbox)[0], Item::Gap);
    }

    #[test]
    fn each_channel_has_its_own_numbers() {
        let (inbox, ear) = ear(true);
        ear.begin(b"other".to_vec(), true);
        for number in 1..=2 {
            ear.hear_push("node", push(1, number));
            ear.hear_push("other", push(1, number));
        }
        assert!(heard(&inbox).iter().all(|item| matches!(item, Item::Push(_))));
    }

    #[test]
    fn the_first_number_is_not_known_of_a_node_that_connects_again() {
        let (inbox, known) = ear(false);
        known.hear_push("node", push(1, 17));
        assert_eq!(heard(&inbox), [Item::Push(push(1, 17))]);
        let (inbox, new) = ear(true);
        new.hear_push("node", push(1, 17));
        assert_eq!(heard(&inbox)[0], Item::Gap);
    }

    #[test]
    fn what_is_not_understood_is_a_gap() {
        let (inbox, ear) = ear(true);
        ear.hear_push("node", b"?".to_vec());
        assert_eq!(heard(&inbox), [Item::Gap]);
    }

    #[tokio::test]
    async fn a_channel_that_the_server_ends_is_told_of_unless_it_is_none_any_more() {
        let (_inbox, ear) = ear(true);
        ear.hear(b"room".to_vec(), None);
        ear.hear(b"node".to_vec(), None);
        ear.ended().await;
        assert_eq!(ear.take_ended(), [b"node".to_vec()]);
        ear.end(b"node");
        ear.hear(b"node".to_vec(), None);
        assert!(ear.take_ended().is_empty());
    }
}
