//! [`serve`]: a server for WebSockets and everything else, over HTTP/1.1 and HTTP/2.
//!
//! Differs from `axum::serve` in that clients that are slow, silent or gone are cut off, that one WebSocket of an HTTP/2
//! connection cannot take the share of another, that TLS is a parameter, and that a shutdown drains WebSockets, which HTTP's
//! own graceful shutdown does not know, and ends at a deadline.
//!
//! - `server`: the settings, and the loop that accepts.
//! - `connection`: what is done with one connection until it ends.
//! - `limits`: the limits of a connection, and what hyper is told of them.
//! - `streams`: the streams of an HTTP/2 connection, counted.

mod connection;
mod limits;
mod server;
mod streams;

pub use server::{Serve, serve};
