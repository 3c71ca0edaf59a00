//! [`Mailbox`]: what the hub keeps for one connection. It is a window on the log of its user, and a queue of messages that
//! are for those who are there.
//!
//! It does no I/O and waits for nothing. Messages are offered to it; each goes straight to the connection while nothing
//! waits before it and the connection has room. The session, which runs in the task of the connection, asks it what to do
//! next, and tells it what came of that.
//!
//! The log is written before anything is offered. So a message of the log for which there is no room is simply not kept: the
//! mailbox is then *behind*, and reads the log when it has room. The next message that it may send is always the one after
//! `last`; a number that is greater tells that it has missed something.

mod advance;
mod change;
mod offer;
mod state;

pub(crate) use state::{Hands, Mailbox, Next, Offered};
