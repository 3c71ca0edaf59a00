//! [`Compression`]: whether messages are compressed, and how (permessage-deflate, RFC 7692).
//!
//! Off unless [`WebSocketLayer::compression`](crate::WebSocketLayer::compression) is called; then messages are compressed
//! with every peer that offers it, as browsers do, and each message by itself.
//!
//! ```
//! use ws_core::{Compression, WebSocketLayer};
//!
//! let layer = WebSocketLayer::new().compression(Compression::new());
//! ```
//!
//! # What must not be compressed
//!
//! A secret together with what an attacker chooses. How long the compressed message is tells whether they are alike, so
//! one who sees the length on the network, and can have his own text put into the same message, guesses the secret piece by
//! piece; encryption does not hide it (the attacks are known as CRIME and BREACH). A message here never refers to an
//! earlier one, so it is one message that must not hold both: not, for example, a session token beside a name that the
//! other side chose. Where that cannot be ruled out, leave compression off.
//!
//! # What it costs
//!
//! Many servers keep a compressor and a decompressor for each connection, some 300 KB of memory by zlib's defaults, so that
//! a message can refer to those before it (*context takeover*). Here both sides are told not to
//! (`server_no_context_takeover`, `client_no_context_takeover`), and the two belong to the thread, which lends them for
//! the length of one message:
//!
//! - An idle connection holds nothing for compression. One with a compressed message that is not complete holds a
//!   decompressor, 48 KB, until the message is, or `message_timeout` is over.
//! - A thread that has sent and received compressed messages keeps 450 KB.
//! - Messages are compressed where they are sent: 1 MB of JSON takes some milliseconds of that thread's time.
//! - Many small messages that are alike compress worse than they would with a context of their own. If those are most of the
//!   traffic, put several into one message.
//!
//! A message sent to many connections is compressed for each of them.

/// How messages are compressed; the [module](self) tells what that costs, and what must not be.
///
/// ```
/// use ws_core::{Compression, WebSocketLayer};
///
/// // large documents over slow networks: time for bytes
/// let layer = WebSocketLayer::new().compression(Compression::new().level(6).threshold(4096));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "compression does nothing until a layer is told to use it"]
pub struct Compression {
    pub(crate) level: u8,
    pub(crate) threshold: usize,
}

impl Compression {
    /// Level 2, for messages of at least 1,024 bytes.
    pub const fn new() -> Self {
        // of 16 KB of JSON level 1 leaves 25 % in 28 µs, level 2 18 % in 66 µs, level 6 15 % in 156 µs
        Self { level: 2, threshold: 1024 }
    }

    /// How much time is spent to save bytes: from 1, the fastest, to 9, the smallest. Default 2.
    ///
    /// # Panics
    ///
    /// If it is not one of these.
    pub const fn level(self, level: u8) -> Self {
        assert!(1 <= level && level <= 9, "the levels of compression are 1 to 9");
        Self { level, ..self }
    }

    /// From how many bytes on a message is compressed. Default 1,024: what is shorter most often leaves in one packet
    /// either way.
    ///
    /// A message that does not become shorter is sent as it is.
    pub const fn threshold(self, bytes: usize) -> Self {
        Self { threshold: bytes, ..self }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the levels of compression are 1 to 9")]
    fn a_level_that_is_none_is_refused_when_it_is_set() {
        let _ = Compression::new().level(10);
    }
}
