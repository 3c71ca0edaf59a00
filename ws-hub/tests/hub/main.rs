//! A hub and connections in memory: the real connections on the hub's side, clients of the library or ones that are
//! scripted frame by frame on the other.
//!
//! The clock is tokio's paused one: it moves only when all tasks wait. Races run on several threads, with a real clock.

mod backplane;
mod endings;
mod engines;
mod events;
mod faults;
mod guarantees;
mod handlers;
mod heartbeat;
mod leases;
mod logins;
mod logs;
mod offline;
mod overflow;
mod races;
mod recovery;
mod room_history;
mod rooms;
mod support;
mod takeovers;
