//! The payload of compressed messages (RFC 7692 section 7.2): [`compress`] makes it, an [`Inflater`] takes it apart.
//!
//! Differs from most implementations in that a connection has no context of its own. Without context takeover, which is
//! always negotiated, each message stands for itself, so the contexts belong to the thread. A compressor is lent for the
//! length of one call. An [`Inflater`] is lent with the first byte of a message and given back with its last, so that one
//! that is whole in one read needs none beside the thread's.
//!
//! What is compressed ends with an empty block of which the last four bytes, [`TAIL`], are not sent.

use std::cell::Cell;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::encoder::{Frame, first_byte};
use super::header::COMPRESSED;
use crate::config::Deflate;
use crate::error::ProtocolError;
use crate::message::Message;
use crate::spare;

/// The end of each message, that is not sent.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The same, and an empty block that says that it is the last: the decompressor does not tell whether it is inside of
/// a block, but at the end of that one it does.
const TAIL_AND_LAST_BLOCK: [u8; 6] = [0x00, 0x00, 0xff, 0xff, 0x03, 0x00];

/// How much comes out of a context at once.
const CHUNK: usize = 16 * 1024;
/// Base-2 logarithm of the size of the largest window.
const MAX_WINDOW_BITS: u8 = 15;

thread_local! {
    // one of each is enough: they are lent for one call, or with a message that arrives in pieces
    static INFLATER: Cell<Option<Box<Inflater>>> = const { Cell::new(None) };
    static COMPRESSOR: Cell<Option<Box<Compressor>>> = const { Cell::new(None) };
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with a buffer for what comes out of a context.
fn with_output<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut output = spare::borrow(&OUTPUT);
    output.resize(CHUNK, 0);
    let result = work(&mut output);
    spare::give_back(&OUTPUT, output);
    result
}

/// How far a count went on, which cannot be further than the buffer that it counts is long.
fn advanced(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more is read or written than there is memory for")
}

#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    /// No byte has come since the beginning, or since a block that said that it was the last.
    fresh: bool,
}

impl Inflater {
    /// The thread's, or a new one.
    pub(super) fn borrow() -> Box<Self> {
        // whichever window the peer uses, the largest one holds it
        spare::borrow(&INFLATER)
            .unwrap_or_else(|| Box::new(Self { stream: Decompress::new(false), fresh: true }))
    }

    /// Takes the next bytes of the message, and hands what they become to `take`, in pieces. Returns how many it took: all
    /// of them, or those that spent `budget`, which is in bytes of what they become.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        budget: &mut u32,
        mut take: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<usize, ProtocolError> {
        with_output(|output| {
            let mut taken = 0;
            loop {
                let rest = &input[taken..];
                self.fresh &= rest.is_empty();
                let (read, written) = (self.stream.total_in(), self.stream.total_out());
                let status = self.stream.decompress(rest, output, FlushDecompress::None);
                let written = advanced(written, self.stream.total_out());
                *budget = budget.saturating_sub(u32::try_from(written).unwrap_or(u32::MAX));
                // also what came out before an error: it may have one of its own, and that is the first
                take(&output[..written])?;
                let status = status.map_err(|_| ProtocolError::InvalidDeflate)?;
                taken += advanced(read, self.stream.total_in());
                if status == Status::StreamEnd {
                    // it was the last block of a stream, not of the message: others may follow (section 7.2.3.4)
                    self.stream.reset(false);
                    self.fresh = true;
                } else if written < output.len() || *budget == 0 && taken < input.len() {
                    // with room left, only the end of the input stops it
                    return Ok(taken);
                }
            }
        })
    }

    /// The message is complete. Gives the context back if that is so.
    pub(super) fn finish(
        mut self: Box<Self>,
        take: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        if !self.fresh {
            // what is left is little: there is no budget for it
            let mut unlimited = u32::MAX;
            self.feed(&TAIL_AND_LAST_BLOCK, &mut unlimited, take)?;
        }
        if !self.fresh {
            // it ends inside of a block
            return Err(ProtocolError::InvalidDeflate);
        }
        spare::give_back(&INFLATER, Some(self));
        Ok(())
    }
}

/// What the compressed bytes of a message depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    level: u8,
    window_bits: u8,
}

impl From<Deflate> for Setting {
    fn from(deflate: Deflate) -> Self {
        Self { level: deflate.compression.level, window_bits: deflate.window_bits.unwrap_or(MAX_WINDOW_BITS) }
    }
}

/// Compresses `message`, if it becomes shorter by that.
pub(crate) fn compress(message: &Message, setting: Setting) -> Option<Frame> {
    let mut compressor =
        spare::borrow(&COMPRESSOR).filter(|spare| spare.setting == setting).unwrap_or_else(|| {
            let level = flate2::Compression::new(setting.level.into());
            Box::new(Compressor {
                stream: Compress::new_with_window_bits(level, false, setting.window_bits),
                setting,
            })
        });
    let payload = with_output(|output| compressor.run(message.as_bytes(), output));
    compressor.stream.reset();
    spare::give_back(&COMPRESSOR, Some(compressor));
    payload.map(|payload| Frame::new(COMPRESSED | first_byte(message), payload.into()))
}

#[derive(Debug)]
struct Compressor {
    stream: Compress,
    setting: Setting,
}

impl Compressor {
    /// All of `input`, without the tail; nothing if that is not shorter.
    fn run(&mut self, mut input: &[u8], output: &mut [u8]) -> Option<Vec<u8>> {
        let limit = input.len() + TAIL.len();
        let mut compressed = Vec::new();
        loop {
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            self.stream.compress(input, output, FlushCompress::Sync).ok()?;
            input = &input[advanced(read, self.stream.total_in())..];
            let written = advanced(written, self.stream.total_out());
            if compressed.len() + written >= limit {
                return None;
            }
            compressed.extend_from_slice(&output[..written]);
            // what is flushed is complete when there was room for more
            if written < output.len() {
                break;
            }
        }
        compressed.ends_with(&TAIL).then(|| {
            compressed.truncate(compressed.len() - TAIL.len());
            compressed
        })
    }
}
