//! What is on its way to the peer.

use bytes::{Buf as _, Bytes};

use crate::protocol::{Encoder, Role};

/// The outbound buffer, and the answer to a ping that has no room in it.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) encoder: Encoder,
    /// Bytes that were queued, and that the transport took, since the connection opened. The difference is what waits, with
    /// what the driver is writing.
    pub(super) queued: u64,
    pub(super) written: u64,
    /// The newest ping that could not be answered, because the peer takes nothing. Those before it need no answer (RFC 6455
    /// section 5.5.3).
    pub(super) unanswered: Option<Box<Bytes>>,
}

impl Outbound {
    pub(super) fn new(role: Role) -> Self {
        Self { encoder: Encoder::new(role), queued: 0, written: 0, unanswered: None }
    }

    /// Bytes that were queued and that the transport has not taken.
    #[inline]
    pub(super) fn buffered(&self) -> u64 {
        self.queued - self.written
    }

    /// Queues what `encode` encodes, of which it returns the length.
    #[inline]
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Encoder) -> usize) {
        self.queued += encode(&mut self.encoder) as u64;
    }

    /// The transport took `written` bytes, and `rest` is what it did not take.
    pub(super) fn put_back(&mut self, rest: &mut Encoder, written: usize) {
        self.written += written as u64;
        if rest.has_remaining() {
            self.encoder.drain_into(rest);
            std::mem::swap(&mut self.encoder, rest);
        }
    }

    /// Nothing more leaves. Returns what was queued.
    pub(super) fn clear(&mut self) -> Encoder {
        self.unanswered = None;
        self.encoder.take_all()
    }
}
