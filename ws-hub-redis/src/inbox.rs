//! What was pushed to this node, and waits for its hub: bounded, and never waited for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Pushes that may wait, and bytes of them. More are dropped, and the hub is told of a gap.
const MESSAGES: usize = 4_096;
const BYTES: usize = 8 * 1024 * 1024;

/// What the hub is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Push(Vec<u8>),
    Gap,
    GapIn(Vec<usize>),
    Down,
    Up,
}

#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Those of them that are pushes, and their bytes.
    messages: usize,
    bytes: usize,
    /// Some may have been missed.
    has_gap: bool,
    /// The same, of these partitions.
    gaps: BTreeSet<usize>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Inbox {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // each use leaves it whole
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a push, if there is room.
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        self.change(|state| {
            if state.messages == MESSAGES || state.bytes + bytes.len() > BYTES {
                if !state.has_gap {
                    tracing::warn!(
                        "messages come faster than the hub takes them: it reads them from the logs"
                    );
                }
                state.has_gap = true;
                return;
            }
            state.messages += 1;
            state.bytes += bytes.len();
            state.items.push_back(Item::Push(bytes));
        });
    }

    /// Some pushes may have been missed.
    pub(crate) fn gap(&self) {
        self.change(|state| state.has_gap = true);
    }

    /// The same, of a partition.
    pub(crate) fn gap_in(&self, partition: usize) {
        self.change(|state| {
            state.gaps.insert(partition);
        });
    }

    /// Whether the hub is still to be told of a gap.
    pub(crate) fn has_gap(&self) -> bool {
        let state = self.state();
        state.has_gap || !state.gaps.is_empty()
    }

    pub(crate) fn down(&self) {
        self.change(|state| state.items.push_back(Item::Down));
    }

    pub(crate) fn up(&self) {
        self.change(|state| state.items.push_back(Item::Up));
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Item>> {
        let mut state = self.state();
        let gaps = std::mem::take(&mut state.gaps);
        if std::mem::take(&mut state.has_gap) {
            return Poll::Ready(Some(Item::Gap));
        }
        if !gaps.is_empty() {
            return Poll::Ready(Some(Item::GapIn(gaps.into_iter().collect())));
        }
        match state.items.pop_front() {
            Some(item) => {
                if let Item::Push(bytes) = &item {
                    state.messages -= 1;
                    state.bytes -= bytes.len();
                }
                Poll::Ready(Some(item))
            }
            None if state.is_closed => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(inbox: &Inbox) -> Option<Item> {
        match inbox.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => panic!("nothing waits"),
        }
    }

    #[test]
    fn what_does_not_fit_is_a_gap() {
        for (length, fits) in [(1, MESSAGES), (BYTES / 2, 2)] {
            let inbox = Inbox::default();
            for _ in 0..=fits {
                inbox.push(vec![0; length]);
            }
            assert_eq!(next(&inbox), Some(Item::Gap));
            for _ in 0..fits {
                assert!(matches!(next(&inbox), Some(Item::Push(_))));
            }
            // and there is room again
            inbox.push(vec![0; length]);
            assert!(matches!(next(&inbox), Some(Item::Push(_))));
        }
    }

    #[test]
    fn one_gap_is_told_of_however_many_there_were() {
        let inbox = Inbox::default();
        inbox.gap();
        inbox.gap();
        inbox.down();
        inbox.up();
        inbox.close();
        assert_eq!(
            [next(&inbox), next(&inbox), next(&inbox)],
            [Some(Item::Gap), Some(Item::Down), Some(Item::Up)]
        );
        assert_eq!(next(&inbox), None);
    }

    #[test]
    fn gaps_in_partitions_are_told_of_together_and_not_beside_one_in_all() {
        let inbox = Inbox::default();
        for partition in [7, 3, 7] {
            inbox.gap_in(partition);
        }
        assert!(inbox.has_gap());
        assert_eq!(next(&inbox), Some(Item::GapIn(vec![3, 7])));
        assert!(!inbox.has_gap());
        inbox.gap_in(3);
        inbox.gap();
        inbox.close();
        assert_eq!([next(&inbox), next(&inbox)], [Some(Item::Gap), None]);
    }
}
