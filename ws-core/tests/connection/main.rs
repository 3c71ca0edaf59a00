//! Connections in memory: the real driver on one end, a peer that is scripted byte by byte on the other.
//!
//! The clock is tokio's paused one: it moves only when all tasks wait, so that hours pass in no time, and each test
//! can tell exactly when something happened.

mod closing;
mod faults;
mod flooding;
mod halves;
mod handler;
mod heartbeat;
mod pinging;
mod receiving;
mod sending;
mod support;
mod timers;
mod transport;
mod waking;
