//! A line in which tasks wait. Each step costs the same however long the line is, also to leave from the middle.

use std::task::Waker;

use slab::Slab;

/// Tasks that wait, in the order in which they came, and those that were called and have not left yet.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// All of them, by their keys.
    tasks: Slab<Task>,
    /// The ends of the line of those that wait.
    first: Option<u32>,
    last: Option<u32>,
}

#[derive(Debug)]
struct Task {
    /// `None` when it was called: it does not wait any more.
    waker: Option<Waker>,
    /// How much room it waits for.
    size: u64,
    /// Its neighbours among those that wait.
    previous: Option<u32>,
    next: Option<u32>,
}

/// The key of an entry of a slab, in half of its size, because futures hold it.
pub(super) fn key(key: usize) -> u32 {
    u32::try_from(key).expect("memory for fewer tasks than that")
}

impl Line {
    /// Whether nobody waits, and all that were called have left.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    #[inline]
    pub(super) fn is_anyone_waiting(&self) -> bool {
        self.first.is_some()
    }

    /// A task comes to the end of the line. Returns its key, which is valid until it [leaves](Self::leave).
    pub(super) fn join(&mut self, waker: Waker, size: u64) -> u32 {
        let task = Task { waker: Some(waker), size, previous: self.last, next: None };
        let key = key(self.tasks.insert(task));
        *self.next_of(self.last) = Some(key);
        self.last = Some(key);
        key
    }

    /// Whether the task was called. If not, it is to be called by this waker from now on; the one before is put into
    /// `retired`.
    #[inline]
    pub(super) fn poll(&mut self, key: u32, waker: &Waker, retired: &mut Vec<Waker>) -> bool {
        match &mut self.tasks[key as usize].waker {
            None => true,
            Some(known) => {
                if !known.will_wake(waker) {
                    retired.push(std::mem::replace(known, waker.clone()));
                }
                false
            }
        }
    }

    /// The task goes. Returns how much room it waited for, and its waker if it was not called.
    #[inline]
    pub(super) fn leave(&mut self, key: u32) -> (u64, Option<Waker>) {
        let Task { waker, size, previous, next } = self.tasks.remove(key as usize);
        if waker.is_some() {
            self.unlink(previous, next);
        }
        (size, waker)
    }

    /// Calls the first of those that wait. Returns how much room it waits for, and its waker.
    #[inline]
    pub(super) fn call_first(&mut self) -> Option<(u64, Waker)> {
        let task = &mut self.tasks[self.first? as usize];
        let (size, waker) = (task.size, task.waker.take()?);
        let (previous, next) = (task.previous, task.next);
        self.unlink(previous, next);
        Some((size, waker))
    }

    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// The task between these does not wait any more.
    fn unlink(&mut self, previous: Option<u32>, next: Option<u32>) {
        *self.next_of(previous) = next;
        *self.previous_of(next) = previous;
    }

    /// What follows this task, or is first if it is none.
    fn next_of(&mut self, key: Option<u32>) -> &mut Option<u32> {
        match key {
            Some(key) => &mut self.tasks[key as usize].next,
            None => &mut self.first,
        }
    }

    /// What this task follows, or is last if it is none.
    fn previous_of(&mut self, key: Option<u32>) -> &mut Option<u32> {
        match key {
            Some(key) => &mut self.tasks[key as usize].previous,
            None => &mut self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Other;

    impl Wake for Other {
        fn wake(self: Arc<Self>) {}
    }

    /// A line of that many tasks, each of which waits for its number.
    fn line(tasks: u64) -> (Line, Vec<u32>) {
        let mut line = Line::default();
        let keys = (0..tasks).map(|number| line.join(Waker::noop().clone(), number)).collect();
        (line, keys)
    }

    fn call_all(line: &mut Line) -> Vec<u64> {
        std::iter::from_fn(|| line.call_first()).map(|(number, _)| number).collect()
    }

    #[test]
    fn tasks_are_called_in_the_order_in_which_they_came() {
        let (mut line, keys) = line(3);
        assert_eq!(line.call_first().unwrap().0, 0);
        // the memory of the first one is used again, at the other end
        line.leave(keys[0]);
        line.join(Waker::noop().clone(), 3);
        assert_eq!(call_all(&mut line), [1, 2, 3]);
    }

    #[test]
    fn a_task_leaves_from_wherever_it_stands() {
        for gone in 0..3u64 {
            let (mut line, keys) = line(3);
            let (number, waker) = line.leave(keys[usize::try_from(gone).unwrap()]);
            assert_eq!((number, waker.is_some()), (gone, true));
            line.join(Waker::noop().clone(), 3);
            let others: Vec<_> = (0..4).filter(|number| *number != gone).collect();
            assert_eq!(call_all(&mut line), others);
        }
    }

    #[test]
    fn a_task_that_was_called_stays_until_it_leaves() {
        let (mut line, keys) = line(2);
        let mut retired = Vec::new();
        assert!(!line.poll(keys[0], Waker::noop(), &mut retired));
        call_all(&mut line);
        assert!(line.poll(keys[0], Waker::noop(), &mut retired));
        assert!(!line.is_anyone_waiting() && !line.is_empty());
        for key in keys {
            assert!(line.leave(key).1.is_none(), "its waker was handed out");
        }
        assert!(line.is_empty());
    }

    #[test]
    fn a_task_is_called_by_the_waker_it_was_last_polled_with() {
        let (mut line, keys) = line(1);
        let (other, mut retired) = (Waker::from(Arc::new(Other)), Vec::new());
        for _ in 0..2 {
            assert!(!line.poll(keys[0], &other, &mut retired));
        }
        assert_eq!(retired.len(), 1, "the first waker is not needed any more");
        assert!(line.call_first().unwrap().1.will_wake(&other));
    }

    #[test]
    fn an_empty_line_holds_no_memory_once_it_is_shrunk() {
        let (mut line, keys) = line(100);
        line.leave(keys[0]);
        line.shrink();
        assert_eq!(call_all(&mut line).len(), 99, "those that are left stay");
        for key in &keys[1..] {
            line.shrink();
            line.leave(*key);
        }
        line.shrink();
        assert_eq!(line.tasks.capacity(), 0);
    }
}
