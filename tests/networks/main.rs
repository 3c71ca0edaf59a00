//! Networks that break, and real proxies in front of the server.
//!
//! Cables are pulled between two network namespaces, which the tests make and remove: that needs root, and `ip` of
//! iproute2. The proxies are nginx, haproxy and Caddy, on this machine's own address only. `scripts/test` sees to all of it.
//!
//! Where namespaces may not be made, the tests that need them say so and do nothing; with `CI=true` that is an error,
//! unless `WS_TESTS_WITHOUT_NAMESPACES` is set.

#![cfg(target_os = "linux")]

mod cable;
mod conversation;
mod long_way;
mod network;
mod proxies;
mod proxy;
