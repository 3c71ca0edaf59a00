//! The connection: the driver that does the I/O, and what the user holds of it.
//!
//! One connection is one task. The handler's future runs inside of the driver, so that all that a turn of the handler
//! sends leaves in one write, and so that keepalive, pongs, the closing handshake and a drain go on while the handler
//! does something else.

mod driver;
mod handle;
#[cfg(all(test, shuttle))]
mod interleavings;
mod line;
mod link;
mod proto;
mod receiver;
mod sender;
mod shared;
mod socket;
mod transport;
mod waiters;

pub(crate) use driver::Driver;
pub(crate) use link::Link;
#[cfg(fuzzing)]
pub(crate) use proto::properties::Driven;
pub use receiver::Receiver;
pub use sender::{Sender, Sending};
pub(crate) use shared::Shared;
pub use socket::WebSocket;
#[cfg(feature = "client")]
pub(crate) use transport::Stream;
pub(crate) use transport::Transport;
