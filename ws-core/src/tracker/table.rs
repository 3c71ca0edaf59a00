//! The tasks of the connections: how a drain reaches them, and what it has told them.

use std::sync::PoisonError;
#[cfg(not(all(test, shuttle)))]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

#[cfg(all(test, shuttle))]
use shuttle::sync::atomic::AtomicU32;
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard};
use slab::Slab;

use super::settings::Drain;
use crate::close::CloseFrame;

/// All tasks, and how many have ended.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Raised with every signal, so that a connection locks the table only when there may be a signal for it.
    epoch: AtomicU32,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    tasks: Slab<Task>,
    phase: Phase,
    counts: Counts,
}

/// What a task is told that comes now.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Open,
    /// A drain has begun, with these settings.
    Draining(Drain),
    /// The deadline of a drain is past.
    Aborted,
}

/// How many tasks have ended, since the layer was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Those that ended and were not aborted.
    pub(super) closed: usize,
    /// Those that were aborted, whether they are gone or not.
    pub(super) aborted: usize,
}

/// A connection's task.
#[derive(Debug, Default)]
struct Task {
    waker: Option<Waker>,
    told: Told,
}

/// What a drain has told a task.
#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    /// To close with this frame; the task has not taken it yet.
    Close(Box<CloseFrame>),
    /// To close, which the task has taken.
    CloseTaken,
    /// To end at once; the task has not taken it yet.
    Abort,
    /// To end at once, which the task has taken.
    AbortTaken,
}

/// What a drain asks of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// Close with this frame.
    Close(Box<CloseFrame>),
    /// End now; the handler's future is dropped.
    Abort,
}

impl Told {
    fn is_abort(&self) -> bool {
        matches!(self, Self::Abort | Self::AbortTaken)
    }

    /// The signal that the task has not taken yet.
    fn take(&mut self) -> Option<Signal> {
        match std::mem::take(self) {
            Self::Close(frame) => {
                *self = Self::CloseTaken;
                Some(Signal::Close(frame))
            }
            Self::Abort => {
                *self = Self::AbortTaken;
                Some(Signal::Abort)
            }
            unchanged => {
                *self = unchanged;
                None
            }
        }
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        // no code of the user runs while it is held: wakers are woken and dropped outside of it
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a drain's signals seen, which are in the table, and unlocks it. A task that leaves its waker after that looks
    /// for a signal, because of the epoch.
    fn raise(&self, entries: MutexGuard<'_, Entries>, wakers: Vec<Waker>) {
        self.epoch.fetch_add(1, Ordering::Release);
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Adds a task, which is told what the drain asks of all, if there is one. `with` is called in the same step.
    pub(super) fn insert<T>(&self, with: impl FnOnce() -> T) -> usize {
        let mut entries = self.lock();
        with();
        let told = match &entries.phase {
            Phase::Open => Told::Nothing,
            // it need not wait for a batch: handshakes come at moments of their own
            Phase::Draining(drain) => Told::Close(Box::new(drain.close_frame())),
            Phase::Aborted => Told::Abort,
        };
        entries.counts.aborted += usize::from(told.is_abort());
        entries.tasks.insert(Task { waker: None, told })
    }

    /// Removes a task; returns whether it was the last one.
    pub(super) fn remove(&self, key: usize) -> bool {
        let mut entries = self.lock();
        let task = entries.tasks.try_remove(key);
        entries.counts.closed += usize::from(task.as_ref().is_some_and(|task| !task.told.is_abort()));
        let was_last = entries.tasks.is_empty();
        drop(entries);
        drop(task);
        was_last
    }

    /// The signal that a task has not taken yet. `epoch` is that of the task's last call.
    pub(super) fn take_signal(&self, key: usize, epoch: &mut u32) -> Option<Signal> {
        let now = self.epoch.load(Ordering::Acquire);
        if now == *epoch {
            return None;
        }
        *epoch = now;
        self.lock().tasks.get_mut(key)?.told.take()
    }

    /// Ready when a task is to end at once. Until then `waker` is woken for each signal.
    pub(super) fn poll_aborted(&self, key: usize, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut entries = self.lock();
        let Some(task) = entries.tasks.get_mut(key) else { return Poll::Pending };
        let before = task.waker.replace(waker);
        let is_aborted = task.told.is_abort();
        drop(entries);
        drop(before);
        if is_aborted { Poll::Ready(()) } else { Poll::Pending }
    }

    /// From now on, tasks that come are told to close as `drain` says. Returns the counts so far.
    pub(super) fn begin(&self, drain: &Drain) -> Counts {
        let mut entries = self.lock();
        if !matches!(entries.phase, Phase::Aborted) {
            entries.phase = Phase::Draining(drain.clone());
        }
        let counts = entries.counts;
        // a new task has epoch 0, so it looks for what it was told when it came
        self.raise(entries, Vec::new());
        counts
    }

    /// Tells one batch to close; returns how many have not been told yet.
    pub(super) fn close_batch(&self, drain: &Drain) -> usize {
        let mut wakers = Vec::new();
        let mut left = 0;
        let mut entries = self.lock();
        let untold = entries.tasks.iter_mut().filter(|(_, task)| matches!(task.told, Told::Nothing));
        for (nth, (_, task)) in untold.enumerate() {
            if nth < drain.batch_size() {
                task.told = Told::Close(Box::new(drain.close_frame()));
                wakers.extend(task.waker.clone());
            } else {
                left += 1;
            }
        }
        self.raise(entries, wakers);
        left
    }

    /// Tells all to end now, and those that will still come.
    pub(super) fn abort(&self) {
        let mut guard = self.lock();
        let entries = &mut *guard;
        entries.phase = Phase::Aborted;
        let mut wakers = Vec::new();
        for (_, task) in entries.tasks.iter_mut().filter(|(_, task)| !task.told.is_abort()) {
            task.told = Told::Abort;
            wakers.extend(task.waker.clone());
            entries.counts.aborted += 1;
        }
        self.raise(guard, wakers);
    }

    /// How many tasks there are, and how many have ended. `with` is called in the same step.
    pub(super) fn look<T>(&self, with: impl FnOnce() -> T) -> (usize, Counts, T) {
        let entries = self.lock();
        (entries.tasks.len(), entries.counts, with())
    }
}
