//! Waiting for something to happen: with a deadline, so that a test fails and says for what it waited, and never for
//! a fixed time, which is too short on a loaded machine and too long on all others.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long anything may take that is expected to happen.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What `future` gives; fails if that is not soon.
pub async fn within<F: Future>(what: impl Display, future: F) -> F::Output {
    let output = timeout(DEADLINE, future).await;
    output.unwrap_or_else(|_| panic!("waited {DEADLINE:?} for {what}"))
}

/// Waits until `condition` is true; fails if that is not soon.
pub async fn until(what: impl Display, condition: impl Fn() -> bool) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    within(what, async {
        while !condition() {
            looks.tick().await;
        }
    })
    .await;
}
