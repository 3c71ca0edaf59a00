//! [`Ear`]: takes what is pushed on one connection.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::codec::{PROBE, decode_head};
use crate::inbox::Inbox;

/// Sees whether a push is missing, and keeps probes for the supervisor; all others wait for the hub.
pub(crate) struct Ear {
    /// Of the node.
    channel: Vec<u8>,
    inbox: Arc<Inbox>,
    /// The number of the last push on that channel; `None` if it is not known.
    last: Mutex<Option<u64>>,
    probes: watch::Sender<u64>,
}

impl Ear {
    /// `is_new` says that nothing was pushed on the channel yet.
    pub(crate) fn new(channel: Vec<u8>, is_new: bool, inbox: Arc<Inbox>) -> Self {
        Self { channel, inbox, last: Mutex::new(is_new.then_some(0)), probes: watch::Sender::new(0) }
    }

    /// The number of the last probe.
    pub(crate) fn probes(&self) -> watch::Receiver<u64> {
        self.probes.subscribe()
    }

    pub(crate) fn hear(&self, channel: &[u8], payload: Vec<u8>) {
        let Ok((kind, number)) = decode_head(&payload) else {
            tracing::debug!("a node of another version pushes what this one does not understand");
            return self.inbox.gap();
        };
        if channel == self.channel {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| number != last + 1) {
                self.inbox.gap();
            }
            *last = Some(number);
        }
        if kind == PROBE {
            self.probes.send_replace(number);
        } else {
            self.inbox.push(payload);
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

    #[test]
    fn a_number_that_is_missing_is_a_gap() {
        let inbox = Arc::<Inbox>::default();
        let ear = Ear::new(b"node".to_vec(), true, Arc::clone(&inbox));
        ear.hear(b"node", push(1, 1));
        // others have no numbers
        ear.hear(b"room", push(5, 0));
        ear.hear(b"node", push(PROBE, 2));
        assert_eq!(heard(&inbox), [Item::Push(push(1, 1)), Item::Push(push(5, 0))]);
        assert_eq!(*ear.probes().borrow(), 2);
        ear.hear(b"node", push(1, 4));
        assert_eq!(heard(&inbox), [Item::Gap, Item::Push(push(1, 4))]);
        // the server has lost its data
        ear.hear(b"node", push(1, 1));
        assert_eq!(heard(&inbox)[0], Item::Gap);
    }

    #[test]
    fn the_first_number_is_not_known_of_a_node_that_connects_again() {
        let inbox = Arc::<Inbox>::default();
        let ear = Ear::new(b"node".to_vec(), false, Arc::clone(&inbox));
        ear.hear(b"node", push(1, 17));
        assert_eq!(heard(&inbox), [Item::Push(push(1, 17))]);
        let ear = Ear::new(b"node".to_vec(), true, Arc::clone(&inbox));
        ear.hear(b"node", push(1, 17));
        assert_eq!(heard(&inbox)[0], Item::Gap);
    }

    #[test]
    fn what_is_not_understood_is_a_gap() {
        let inbox = Arc::<Inbox>::default();
        let ear = Ear::new(b"node".to_vec(), true, Arc::clone(&inbox));
        ear.hear(b"node", b"?".to_vec());
        assert_eq!(heard(&inbox), [Item::Gap]);
    }
}
