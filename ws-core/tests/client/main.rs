//! The client, against servers that are scripted byte by byte, in memory where it can be.
//!
//! The clock is tokio's paused one: it moves only when all tasks wait, so that hours pass in no time.

mod connecting;
mod proxy;
mod reconnecting;
mod support;
#[cfg(feature = "rustls")]
mod tls;
