//! What a thread keeps for later: a connection that has something to do for a moment borrows it, and idle connections hold
//! none.

use std::cell::Cell;
use std::thread::LocalKey;

/// Takes what the thread keeps, if it does, and is not about to end.
pub(crate) fn borrow<T: Default>(spare: &'static LocalKey<Cell<T>>) -> T {
    spare.try_with(Cell::take).unwrap_or_default()
}

/// Keeps a value, unless the thread is about to end.
pub(crate) fn give_back<T>(spare: &'static LocalKey<Cell<T>>, value: T) {
    let _ = spare.try_with(|spare| spare.set(value));
}
