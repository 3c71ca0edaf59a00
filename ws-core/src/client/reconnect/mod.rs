//! A connection that reconnects: `builder` has its settings, `socket` is what the user holds, and `task` connects and carries
//! messages between the two.

mod backoff;
mod builder;
mod error;
mod queue;
mod socket;
mod state;
mod task;

pub use backoff::Backoff;
pub use builder::Reconnect;
pub use error::SendError;
pub use socket::{ReconnectingSender, ReconnectingWebSocket};
pub use state::{Interruption, ReconnectState, States};
