//! WebSocket middleware for tower.

pub mod close;
pub mod config;
pub mod error;
pub mod handshake;
pub mod message;
pub mod observer;
pub mod origin;
mod protocol;
pub mod utf8;
pub use close::*;
pub use error::*;
pub use handshake::Rejection;
pub use message::*;
pub use observer::*;
pub use origin::{InvalidOrigin, Origin, OriginPolicy};
pub use utf8::*;
