//! The behaviour suite: what a peer sees and what a handler sees, written once, and run on every adapter.
//!
//! A case is a function that is generic over the [`Server`](ws_tests::Server) and named for the behaviour it locks;
//! [`cases!`](ws_tests::cases) at the end of each file makes a test of it for each adapter.

mod abandoned;
mod answers;
mod closing;
mod draining;
mod endless;
mod floods;
mod frames;
mod handshake;
mod host;
mod http2;
#[path = "../../examples/axum_tls/listener.rs"]
mod listener;
mod middleware;
mod observing;
mod origin;
mod peer_addr;
mod peers;
mod routes;
mod serving;
#[path = "../examples/tls.rs"]
mod tls;
mod upgrade;
mod warp;
