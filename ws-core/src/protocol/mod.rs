//! The WebSocket protocol (RFC 6455) without I/O: bytes become messages and control events in the
//! [`Decoder`], messages and control frames become bytes in the [`Encoder`].
//!
//! It differs from tungstenite's `WebSocketContext` in these points:
//!
//! - It owns no stream and no read buffer. The bytes come from whoever has them, in any pieces, and an idle
//!   decoder or encoder holds no heap memory.
//! - One call gives at most one event, and the frames of one message are counted: a peer cannot keep a caller
//!   inside of one call with empty fragments.
//! - Rules are judged at the byte that breaks them: a header before it is complete, text before its frame is.
//! - A received payload has an allocation of its own, of its own size; it is never a slice of a read buffer,
//!   which one kept message would pin.
//! - Nothing is answered on its own: pongs, Close frames and the order of all that is the connection's
//!   business.
//!
//! What holds throughout:
//!
//! - No input can cause a panic, and memory held is bounded by what has arrived (see [`Decoder::direct`]) and
//!   by [`Limits`](crate::config::Limits), not by what was announced, but for what [`pool`](crate::pool) lends.
//!   What has arrived compressed is counted as what it becomes, and needs a decompressor until its message is
//!   complete.
//! - How a stream is cut into pieces changes nothing: the events and the error are the same.
//! - Each byte of payload is unmasked once, and before it is looked at. What [`whole_message`] finds to be wrong
//!   it leaves as it was.
//!
//! Modules: `header` judges what a frame announces, `mask` is the XOR, `decoder` assembles, `encoder` queues; `deflate`
//! does the work of permessage-deflate; `properties` are what tests and fuzzers check.

mod decoder;
#[cfg(feature = "deflate")]
mod deflate;
mod encoder;
mod header;
mod mask;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod role;
#[cfg(test)]
mod tests;

pub(crate) use decoder::{Decoder, Event, whole_message};
#[cfg(feature = "deflate")]
pub(crate) use deflate::{Setting, compress};
pub(crate) use encoder::{Encoder, Frame};
pub(crate) use role::Role;

/// Masks or unmasks a whole payload.
#[cfg(benchmarking)]
pub(crate) fn apply_mask(key: [u8; 4], bytes: &mut [u8]) {
    mask::Mask::new(key).apply(bytes);
}
