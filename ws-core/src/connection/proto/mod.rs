//! [`Connection`]: all that a connection is, in one state machine without I/O, clock, lock or waker.
//!
//! It has the shape of `quinn_proto::Connection` and of rustls' connections. Whoever drives it calls its two sides:
//!
//! - **The transport's side**, called by the driver. [`read_buffer`](Connection::read_buffer) says where to read to, and
//!   [`handle_read`](Connection::handle_read) and its kin take what was read. [`take_output`](Connection::take_output)
//!   gives what to write, and [`handle_written`](Connection::handle_written) takes back what is left of it.
//!   [`poll_timeout`](Connection::poll_timeout) and [`handle_timeout`](Connection::handle_timeout) are for the timer,
//!   [`poll_action`](Connection::poll_action) says what else to do.
//! - **The user's side**: [`recv`](Connection::recv), which decodes on demand, [`send`](Connection::send),
//!   [`close`](Connection::close), [`ping`](Connection::ping). It has no clock: what begins on this side has its time from
//!   when the driver next looks, which is at once, as [`needs_driver`](Connection::needs_driver) tells.
//!
//! What concerns others is not called from in here. It is left in [`Effects`], for the caller to do when it has let go of
//! the connection: payloads to drop, whose owners may run code of their own, and what an observer and the log are told.

mod closing;
mod ending;
mod inbound;
mod input;
mod keepalive;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod transport;
mod user;

pub(crate) use self::state::{Connection, Effects, Notice};
pub(crate) use self::transport::Action;
pub(crate) use self::user::{Milestones, Outgoing};
