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
    #[pin]
    sleep: Option<Sleep>,
    /// It has not fired since it was set, and the task's waker is the one it knows.
    is_armed: bool,
}

impl Alarm {
    /// Whether it has fired since the last call.
    pub(super) fn take_fired(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let fired = *this.is_armed && this.sleep.as_pin_mut().is_some_and(|sleep| sleep.is_elapsed());
        *this.is_armed &= !fired;
        fired
    }

    /// The task has a new waker, which the timer does not know.
    pub(super) fn disarm(self: Pin<&mut Self>) {
        *self.project().is_armed = false;
    }

    /// Makes sure that the task is woken at `at` or before. Returns whether that has passed already.
    pub(super) fn arm(self: Pin<&mut Self>, at: Instant, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        if *this.is_armed && this.sleep.as_ref().as_pin_ref().is_some_and(|sleep| sleep.deadline() <= at) {
            return false;
        }
        match this.sleep.as_mut().as_pin_mut() {
            Some(sleep) => sleep.reset(at),
            None => this.sleep.set(Some(sleep_until(at))),
        }
        *this.is_armed = true;
        match this.sleep.as_pin_mut() {
            // a task that has spent its budget would be told to come back, and the timer not be set
            Some(sleep) => pin!(unconstrained(sleep)).poll(cx).is_ready(),
            None => false,
        }
    }
}
