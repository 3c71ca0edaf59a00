//! The open connections of a layer: how many there may be, and how they end at a deploy.
//!
//! `connections` has the handle of the user, and `drain` ends the connections. `slot` is what a handshake and then a
//! connection hold, `table` has the tasks that a drain signals, and `settings` says how it drains.

mod connections;
mod drain;
mod settings;
mod slot;
mod table;

pub use connections::Connections;
pub use drain::Drained;
pub use settings::Drain;
pub(crate) use slot::{NoSlot, Registration, Slot};
pub(crate) use table::Signal;
