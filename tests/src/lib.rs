//! What the behaviour suite is written against: a server of any adapter, and a client that can misbehave.
//!
//! The two sides have nothing in common: the server is a real one on a real socket, the client is written from the
//! RFCs and knows nothing of the library's code, so that a mistake there is not made here, too.
//!
//! - [`server`]: what a server under test is told to do ([`Setup`]), and what adapters implement ([`Server`]).
//! - [`adapters`]: the servers, a file each.
//! - [`cases!`]: makes tests of cases, for each adapter.
//! - [`client`], [`request`], [`frame`]: a client that writes any bytes, and reads with a deadline.
//! - [`http2`]: connections of HTTP/2, whose streams the client takes where a case runs over it.
//! - [`raw_http2`]: the same, frame by frame, right or wrong.
//! - [`path`]: a way through the network that is long, loses packets, or carries one byte at a time.
//! - [`wait`]: conditions with a deadline, in place of sleeps.
//! - [`outside`]: a server in a process of its own, measured from outside.
//! - [`random`]: what is random, and the same again by its seed.
//! - [`trace`]: the events and spans of a test.
//! - [`runtime`]: what a test runs on.

#![allow(
    clippy::missing_panics_doc,
    reason = "a test fails by a panic, wherever in the harness it is found out"
)]

pub mod adapters;
mod cases;
pub mod client;
pub mod frame;
pub mod http2;
pub mod outside;
pub mod path;
pub mod random;
pub mod raw_http2;
pub mod request;
pub mod runtime;
pub mod server;
pub mod trace;
pub mod wait;

pub use client::Client;
pub use frame::Frame;
pub use outside::Outside;
pub use path::Path;
pub use random::Random;
pub use raw_http2::RawHttp2;
pub use request::{Request, Response};
pub use server::{Answer, BoxError, Endpoint, Instead, Running, Server, Setup};
pub use wait::{until, within};
