//! The behaviour suite: what a peer sees and what a handler sees, written once, and run on every adapter.
//!
//! A case is a function that is generic over the [`Server`](ws_tests::Server) and named for the behaviour it locks;
//! [`cases!`](ws_tests::cases) at the end of each file makes a test of it for each adapter.

mod abandoned;
mod answers;
mod closing;
mod draining;
mod endless;
mod frames;
mod handshake;
mod http2;
mod middleware;
mod observing;
mod origin;
mod peers;
mod routes;
mod serving;
mod upgrade;
mod warp;
