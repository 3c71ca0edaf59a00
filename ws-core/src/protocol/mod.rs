//! The WebSocket protocol (RFC 6455) without I/O: bytes become messages and control events in the
//! [`Decoder`], messages and control frames become bytes in the [`Encoder`].
//!
//! It differs from tungstenite's `WebSocketContext` in these points:
//!
//! - It owns no stream and no read buffer. The bytes come from whoever has them, in any pieces, and an idle
//!   decoder or encoder holds no heap memory.
//! - One call gives at most one event and has a budget: a peer cannot keep a caller inside of one call with empty
//!   fragments, or with few bytes that inflate to many.
//! - Rules are judged at the byte that breaks them: a header before it is complete, text before its frame is.
//! - A received payload has an allocation of its own, of its own size. It is never a slice of a read buffer,
//!   which one kept message would pin.
//! - Nothing is answered here: pongs, Close frames and their order are the connection's task.
//!
//! What holds throughout:
//!
//! - No input can cause a panic, and memory held is bounded by what has arrived (see [`Decoder::take_payload`]) and
//!   by [`Limits`](crate::config::Limits), not by what was announced, except for what [`pool`](crate::pool) lends.
//!   What has arrived compressed is counted as what it becomes, and needs a decompressor until its message is
//!   complete.
//! - How a stream is cut into pieces changes nothing: the events and the error are the same.
//! - Each limit is enforced in one place: the size of frames and of plain messages and the number of fragments where a
//!   header is judged, the size of a compressed message where it is inflated.
//!
//! Modules: `header` judges what a frame announces, `mask` is the XOR, `decoder` takes frames apart, `assembly` is the
//! message that they make up, `encoder` queues; `deflate` does the work of permessage-deflate; `properties` are what tests
//! and fuzzers check.

mod assembly;
mod decoder;
#[cfg(feature = "deflate")]
mod deflate;
mod encoder;
mod header;
mod mask;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;

pub(crate) use decoder::{Decoder, Event};
#[cfg(feature = "deflate")]
pub(crate) use deflate::{Setting, compress};
pub(crate) use encoder::{Encoder, Frame};
pub(crate) use header::Role;

/// Masks or unmasks a whole payload.
#[cfg(benchmarking)]
pub(crate) fn apply_mask(key: [u8; 4], bytes: &mut [u8]) {
    mask::Mask::new(key).apply(bytes);
}
