//! Tasks of the hub's own: those of tokio, and in the tests of interleavings those of shuttle, which switches between them.

use std::future::Future;

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::future::{AbortHandle, spawn};
#[cfg(not(all(test, shuttle)))]
pub(crate) use tokio::{spawn, task::AbortHandle};

/// Spawns a task where there is a runtime for it: a destructor may run anywhere.
#[cfg(not(all(test, shuttle)))]
pub(crate) fn spawn_if_possible(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}

#[cfg(all(test, shuttle))]
pub(crate) fn spawn_if_possible(work: impl Future<Output = ()> + Send + 'static) {
    drop(spawn(work));
}
