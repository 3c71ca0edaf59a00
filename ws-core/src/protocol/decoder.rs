//! [`Decoder`]: bytes in, messages and control events out.
//!
//! There are two ways in. [`decode`](Decoder::decode) takes bytes from a buffer of the caller's; a message that is whole
//! in there, in one frame or in several, is copied into one allocation of its own size. [`take_payload`](Decoder::take_payload) and
//! [`put_payload`](Decoder::put_payload) are for the rest of a large frame, which is read to where it will stay.
//!
//! Invariants, for whoever changes this file:
//!
//! - Between two calls all text that has come is validated, up to a code point that is not complete.
//! - In [`State::Control`] bytes of the frame are missing between two calls.
//! - When an error is returned, `state` tells how much of the broken frame is still to come.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::assembly::{Assembly, not_utf8};
use super::header::{Control, Cursor, Frame, Header, HeaderReader, Kind, Role, Rules, charged};
use crate::close::{CloseCode, CloseFrame};
use crate::config::{Limits, Negotiated};
use crate::error::ProtocolError;
use crate::message::Message;
use crate::utf8::{InvalidUtf8, PayloadBuffer, Utf8Bytes};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    /// The last event there is.
    Close(Option<CloseFrame>),
    /// The peer broke a rule or a limit. The only event after it is the peer's Close frame, without its payload.
    Error(ProtocolError),
}

/// Turns the peer's bytes into [`Event`]s.
///
/// After an error it skips frames and looks for the peer's Close frame only. After a Close frame it is done: it takes all
/// input and ignores it. In both states it holds no memory.
#[derive(Debug)]
pub(crate) struct Decoder {
    rules: Rules,
    state: State,
    /// On the heap for as long as a message has begun and is not complete.
    assembly: Option<Box<Assembly>>,
}

#[derive(Debug)]
enum State {
    /// In the header of a frame, or in a frame of the message in `assembly`, which knows how much of it is missing.
    Header(HeaderReader),
    /// On the heap for as long as a control frame is split, which is rare: an idle connection does not pay for it.
    Control(Box<ControlFrame>),
    /// Behind an error. The peer may go on to send for a while before it sees our Close frame. Its frames are not judged any
    /// more, only followed from header to header: how much is left of the current one, and what has come of the next header.
    Skipping {
        missing: u64,
        header: HeaderReader,
    },
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Header(HeaderReader::default())
    }
}

/// A control frame may stand between the fragments of a message, so its payload has a place of its own.
#[derive(Debug)]
struct ControlFrame {
    control: Control,
    header: Header,
    /// What has come of it, masked.
    payload: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new(role: Role, limits: impl Into<Arc<Limits>>) -> Self {
        // no allocation can be larger; below it sums of two sizes do not overflow
        const MAX: usize = isize::MAX.cast_unsigned();
        let mut limits = limits.into();
        if limits.max_message_size.max(limits.max_frame_size) > MAX {
            let limits = Arc::make_mut(&mut limits);
            limits.max_message_size = limits.max_message_size.min(MAX);
            limits.max_frame_size = limits.max_frame_size.min(MAX);
        }
        let rules = Rules {
            role,
            limits,
            #[cfg(feature = "deflate")]
            deflate: false,
        };
        Self { rules, state: State::default(), assembly: None }
    }

    /// Lets the peer use what was negotiated.
    #[cfg(feature = "deflate")]
    pub(crate) fn with(mut self, negotiated: Negotiated) -> Self {
        self.rules.deflate = negotiated.deflate.is_some();
        self
    }

    #[cfg(not(feature = "deflate"))]
    pub(crate) fn with(self, _: Negotiated) -> Self {
        self
    }

    /// Takes bytes from the front of `input` and unmasks them in place. Returns how many, and the event that
    /// became complete. It returns at the first event, when all of `input` is taken, or when `budget` is spent.
    ///
    /// `budget` is in bytes: each frame takes `FRAME_COST` of it, and compressed payloads what they become. The bytes of
    /// `input` are not charged, as they were when they were read. If messages are not `heard`, because nobody receives them,
    /// compressed ones are skipped and not inflated.
    #[inline]
    pub(crate) fn decode(
        &mut self,
        input: &mut [u8],
        heard: bool,
        budget: &mut u32,
    ) -> (usize, Option<Event>) {
        match self.whole_message(input, budget) {
            Some((taken, message)) => (taken, Some(Event::Message(message))),
            None => self.decode_parts(Cursor { rest: input, heard, budget }),
        }
    }

    /// The fast path: a message that is one frame, not compressed and whole in `input`. `None` if it is anything else,
    /// or breaks a rule of frames: `decode_parts` says which.
    #[expect(clippy::inline_always, reason = "the compiler decides otherwise when unrelated code changes")]
    #[inline(always)]
    fn whole_message(&self, input: &mut [u8], budget: &mut u32) -> Option<(usize, Message)> {
        if self.assembly.is_some() || !self.is_between_frames() || *budget == 0 {
            return None;
        }
        let (open, header) = self.rules.plain(input, None).filter(|(_, header)| header.is_final())?;
        let payload = input[header.size..].get_mut(..header.length())?;
        let apply = |payload: &mut [u8]| header.mask.clone().apply(payload);
        apply(payload);
        let Ok(message) = message(open.kind, payload) else {
            apply(payload);
            return None;
        };
        *budget = charged(*budget);
        Some((header.size + payload.len(), message))
    }

    /// Goes through the parts of frames: headers, then payloads.
    fn decode_parts(&mut self, mut cursor: Cursor<'_>) -> (usize, Option<Event>) {
        let length = cursor.rest.len();
        let mut result = Ok(None);
        while matches!(result, Ok(None)) && !cursor.rest.is_empty() && *cursor.budget > 0 {
            result = self.step(&mut cursor);
        }
        (length - cursor.rest.len(), self.event(result))
    }

    /// What came of a piece of the stream. Text in several frames is validated once for all of them, and an error in it was
    /// there before what came behind it.
    fn event(&mut self, result: Result<Option<Event>, ProtocolError>) -> Option<Event> {
        self.validate().and(result).unwrap_or_else(|error| {
            self.abandon();
            Some(Event::Error(error))
        })
    }

    /// Inside of a data frame with at least `threshold` bytes missing, which are not compressed: lends the buffer of the
    /// message, and says how many bytes may be appended to it, at least one and no more than are missing.
    ///
    /// Memory that was not kept from an earlier message grows in steps, which never run further ahead of what has arrived
    /// than that is long itself, or 16 KiB.
    pub(crate) fn take_payload(&mut self, threshold: usize) -> Option<(PayloadBuffer, usize)> {
        self.assembly.as_mut()?.lend(&self.rules.limits, threshold)
    }

    /// Takes the buffer back from [`take_payload`](Self::take_payload), with `n` more bytes in it. Returns the event that
    /// these completed.
    ///
    /// # Panics
    ///
    /// If `n` is more than the buffer was lent for.
    pub(crate) fn put_payload(&mut self, payload: PayloadBuffer, n: usize) -> Option<Event> {
        let assembly = self.assembly.as_mut()?;
        assembly.payload = payload;
        assembly.appended(n);
        let result = self.advanced();
        self.event(result)
    }

    /// Whether a message, or a frame of any kind, has begun and is not complete.
    #[inline]
    pub(crate) fn in_message(&self) -> bool {
        match &self.state {
            State::Header(header) => self.assembly.is_some() || !header.is_empty(),
            State::Control(_) => true,
            State::Skipping { .. } | State::Done => false,
        }
    }

    /// Whether the peer's Close frame has come, a broken one too.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        let control = match &self.state {
            State::Control(frame) => frame.payload.capacity() + size_of::<ControlFrame>(),
            _ => 0,
        };
        let Some(assembly) = self.assembly.as_deref() else { return control };
        #[cfg(feature = "deflate")]
        let control = control + assembly.inflater.as_deref().map_or(0, size_of_val);
        assembly.payload.owned() + control
    }

    pub(crate) fn stop(&mut self) {
        self.end(State::Done);
    }

    /// From here on only the peer's Close frame counts.
    #[cold]
    pub(crate) fn abandon(&mut self) {
        let state = match mem::take(&mut self.state) {
            State::Header(header) => State::Skipping { missing: self.missing() as u64, header },
            State::Control(_) => State::Done,
            state => state,
        };
        self.end(state);
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.assembly = None;
    }

    /// How much of a data frame is still to come.
    fn missing(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.missing)
    }

    #[inline]
    fn is_between_frames(&self) -> bool {
        matches!(&self.state, State::Header(reader) if reader.is_empty()) && self.missing() == 0
    }

    /// The fast path for messages of several frames: takes those that follow each other, are whole in the input and not
    /// compressed. `None` if the next frame is anything else, or breaks a rule or a limit: the reader of headers says which.
    fn whole_frames(&mut self, cursor: &mut Cursor<'_>) -> Option<Result<Option<Event>, ProtocolError>> {
        let mut open = self.assembly.as_ref().map(|assembly| assembly.open);
        let assembled = self.assembly.as_ref().map_or(0, |assembly| assembly.payload.len());
        let (mut taken, mut length, mut is_final) = (0, 0, false);
        while !is_final
            && *cursor.budget > 0
            && let Some((next, mut header)) =
                self.rules.plain(&cursor.rest[taken..], open.map(|open| (open, assembled + length)))
            && let start = taken + header.size
            && let Some(payload) = cursor.rest[start..].get_mut(..header.length())
        {
            header.mask.apply(payload);
            let end = start + payload.len();
            // the payloads come to stand together, at the front of what is taken
            cursor.rest.copy_within(start..end, length);
            *cursor.budget = charged(*cursor.budget);
            (taken, length, is_final, open) = (end, length + end - start, header.is_final(), Some(next));
        }
        let open = open.filter(|_| taken > 0)?;
        let payload = &cursor.take(taken)[..length];
        if is_final && self.assembly.is_none() {
            return Some(message(open.kind, payload).map_err(not_utf8).map(Event::Message).map(Some));
        }
        let assembly = self.assembly.get_or_insert_with(|| Box::new(Assembly::new(open)));
        assembly.append(open, is_final, payload, &self.rules.limits, cursor.rest.len());
        Some(self.advanced())
    }

    /// Takes a header and what there is of its payload, or only the next part of a payload.
    fn step(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Event>, ProtocolError> {
        if self.is_between_frames()
            && let Some(result) = self.whole_frames(cursor)
        {
            return result;
        }
        let is_in_data = self.missing() > 0;
        let Self { rules, state, assembly } = self;
        if let State::Header(reader) = state
            && !is_in_data
        {
            let open = assembly.as_ref().map(|assembly| (assembly.open, assembly.payload.len()));
            let Some((frame, mut header)) = reader.read(cursor, |bytes| rules.judge(bytes, open))? else {
                return Ok(None);
            };
            let length = header.length();
            match frame {
                Frame::Data(open) => {
                    let assembly = assembly.get_or_insert_with(|| Box::new(Assembly::new(open)));
                    assembly.begin_frame(open, &header);
                }
                Frame::Control(control) if length <= cursor.rest.len() => {
                    // most often it is whole
                    let payload = cursor.take(length);
                    header.mask.apply(payload);
                    return self.control(control, payload).map(Some);
                }
                Frame::Control(control) => {
                    let payload = Vec::with_capacity(length);
                    *state = State::Control(Box::new(ControlFrame { control, header, payload }));
                }
            }
        }
        self.payload(cursor)
    }

    /// Takes what there is of the current frame's payload.
    fn payload(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Event>, ProtocolError> {
        match &mut self.state {
            State::Header(_) => {
                let Some(assembly) = &mut self.assembly else { return Ok(None) };
                assembly.take(cursor, &self.rules.limits)?;
                self.advanced()
            }
            State::Control(frame) => {
                let length = frame.header.length();
                frame.payload.extend_from_slice(cursor.take(length - frame.payload.len()));
                if frame.payload.len() < length {
                    return Ok(None);
                }
                let (control, mut payload) = (frame.control, mem::take(&mut frame.payload));
                frame.header.mask.apply(&mut payload);
                self.state = State::default();
                self.control(control, &payload).map(Some)
            }
            State::Skipping { missing, header } => {
                *missing -= cursor.take(usize::try_from(*missing).unwrap_or(usize::MAX)).len() as u64;
                if cursor.rest.is_empty() {
                    return Ok(None);
                }
                let parse = |bytes: &[u8]| Ok(Header::parse(bytes).map(|header| ((), header)));
                let Some(((), header)) = header.read(cursor, parse)? else { return Ok(None) };
                *missing = header.length;
                if header.is_close() {
                    self.state = State::Done;
                    return Ok(Some(Event::Close(None)));
                }
                Ok(None)
            }
            State::Done => {
                cursor.take(usize::MAX);
                Ok(None)
            }
        }
    }

    /// A piece of a data frame has come.
    fn advanced(&mut self) -> Result<Option<Event>, ProtocolError> {
        let is_complete = |assembly: &mut Box<Assembly>| assembly.is_final && assembly.missing == 0;
        let Some(assembly) = self.assembly.take_if(is_complete) else { return Ok(None) };
        Ok(assembly.complete()?.map(Event::Message))
    }

    /// Validates what has come of a text that is not complete.
    #[inline]
    fn validate(&mut self) -> Result<(), ProtocolError> {
        self.assembly.as_mut().map_or(Ok(()), |assembly| assembly.validate())
    }

    fn control(&mut self, control: Control, payload: &[u8]) -> Result<Event, ProtocolError> {
        Ok(match control {
            Control::Ping => Event::Ping(Bytes::copy_from_slice(payload)),
            Control::Pong => Event::Pong(Bytes::copy_from_slice(payload)),
            Control::Close => {
                let text_before = self.validate();
                self.end(State::Done);
                text_before?;
                Event::Close(close_frame(payload)?)
            }
        })
    }
}

/// A message with a payload of its own.
#[inline]
fn message(kind: Kind, payload: &[u8]) -> Result<Message, InvalidUtf8> {
    match kind {
        Kind::Text => Utf8Bytes::copy_from_slice(payload).map(Message::Text),
        Kind::Binary => Ok(Message::Binary(Bytes::copy_from_slice(payload))),
    }
}

fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
            if !code.is_sendable() {
                return Err(ProtocolError::CloseCode(code));
            }
            Ok(Some(CloseFrame::new(code, Utf8Bytes::copy_from_slice(reason).map_err(not_utf8)?)))
        }
    }
}
