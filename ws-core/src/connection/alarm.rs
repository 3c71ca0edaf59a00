//! The one timer of a connection.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::Context;

use pin_project::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set only when something waits for it, and set anew only when it fires or is needed earlier: traffic does
/// not touch it.
#[pin_project]
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// `None` when it has fired, and when the task's waker is not the one that it knows.
    #[pin]
    sleep: Option<Sleep>,
}

impl Alarm {
    /// Whether it has fired since the last call.
    pub(super) fn take_fired(self: Pin<&mut Self>) -> bool {
        let fired = self.sleep.as_ref().is_some_and(Sleep::is_elapsed);
        if fired {
            self.disarm();
        }
        fired
    }

    /// It is to be set anew.
    pub(super) fn disarm(self: Pin<&mut Self>) {
        self.project().sleep.set(None);
    }

    /// Makes sure that the task is woken at `at` or before. Returns whether that has passed already.
    pub(super) fn arm(self: Pin<&mut Self>, at: Instant, cx: &mut Context<'_>) -> bool {
        if self.sleep.as_ref().is_some_and(|sleep| sleep.deadline() <= at) {
            return false;
        }
        let mut sleep = self.project().sleep;
        sleep.set(Some(sleep_until(at)));
        // a task that has spent its budget would be told to come back, and the timer not be set
        sleep.as_pin_mut().is_some_and(|sleep| pin!(unconstrained(sleep)).poll(cx).is_ready())
    }
}
