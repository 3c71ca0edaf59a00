//! What a test runs on: a runtime of its own, which ends with it.

use tokio::runtime::Builder;

/// Runs a case on several threads, where the order of things is not the same twice.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the system gives threads to a runtime").block_on(case);
}

/// Runs a case on the thread of the test, where [`Trace`](crate::trace::Trace) can follow it, and its tasks count.
pub fn run_on_one_thread(case: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a timer and a poller to a runtime").block_on(case);
}

/// How many files and sockets this process may have open now.
#[must_use]
pub fn sockets() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Lets this process have as many sockets as the system allows, for the cases with a thousand connections.
pub fn allow_many_sockets() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // where it is not allowed, `accept` says so
    let _ = setrlimit(Resource::Nofile, limit);
}
