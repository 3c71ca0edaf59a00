//! [`Decoder`]: bytes in, messages and control events out.
//!
//! There are three ways in. [`decode`](Decoder::decode) takes bytes from a buffer that belongs to the caller,
//! such as a worker thread's scratch buffer; a message that is whole in there is copied out once, into an
//! allocation of its size. [`direct`](Decoder::direct) and [`advance`](Decoder::advance) are for the rest of
//! a large frame, which is read to where it will stay. [`whole_message`] takes what needs no decoder.
//!
//! Invariants, for whoever changes this file:
//!
//! - `payload` holds the bytes of the message in `open`, unmasked and inflated; where there is none, it holds no
//!   memory.
//! - What has come of a text is validated, up to a code point that is not complete.
//! - In [`State::Data`] and [`State::Control`] bytes are missing, after each call: a frame that is complete
//!   has left its state.

use std::mem;

use bytes::Bytes;
use bytes::buf::Limit;

use super::Role;
#[cfg(feature = "deflate")]
use super::deflate::Inflater;
use super::header::{Coding, Control, Frame, Header, HeaderReader, Kind, Open, Plain, Rules, plain};
use super::mask::Mask;
use crate::close::{CloseCode, CloseFrame};
use crate::config::{Limits, Negotiated};
use crate::error::ProtocolError;
use crate::message::Message;
use crate::utf8::{InvalidUtf8, PayloadBuffer, Utf8Bytes};

/// How far memory may run ahead of the bytes that have come, where those are fewer: what one read of a busy
/// socket brings.
const AHEAD: usize = 16 * 1024;
/// The least memory for a message of several frames.
const LEAST_STEP: usize = 512;
/// The least room that is worth a read of its own.
const MIN_READ: usize = 4 * 1024;
/// The most that is read at once: what has come is unmasked while the processor has it at hand.
const MAX_READ: usize = 128 * 1024;
/// Unused memory that is not worth a reallocation.
const SMALL_SLACK: usize = 1024;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    /// The last event there is.
    Close(Option<CloseFrame>),
}

/// Turns the peer's bytes into [`Event`]s.
///
/// After an error, and after a Close frame, it is done: it takes all input and ignores it, and holds no
/// memory.
#[derive(Debug)]
pub(crate) struct Decoder {
    role: Role,
    limits: Limits,
    /// The message that has begun and is not complete.
    open: Option<Open>,
    payload: PayloadBuffer,
    state: State,
    /// Whether messages may be compressed.
    #[cfg(feature = "deflate")]
    deflate: bool,
    /// Where a compressed message has begun.
    #[cfg(feature = "deflate")]
    inflater: Option<Box<Inflater>>,
}

/// Where in a frame we are.
#[derive(Debug)]
enum State {
    Header(HeaderReader),
    Data(DataFrame),
    /// On the heap for as long as a frame is split, which is seldom, and not in every idle connection.
    Control(Box<ControlFrame>),
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Header(HeaderReader::default())
    }
}

#[derive(Clone, Copy, Debug)]
struct DataFrame {
    kind: Kind,
    coding: Coding,
    is_final: bool,
    missing: usize,
    mask: Mask,
}

/// A control frame may stand between the fragments of a message, so its payload has a place of its own.
#[derive(Debug)]
struct ControlFrame {
    control: Control,
    missing: usize,
    mask: Mask,
    payload: Vec<u8>,
}

/// How many bytes were taken. The event that they completed goes to a place of the caller's: returned, it
/// would be moved by each call on the way up, which is a tenth of the time that a small frame takes.
type Step = Result<usize, ProtocolError>;

impl Decoder {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        // no allocation can be larger; below it sums of two sizes do not overflow
        const MAX: usize = isize::MAX.cast_unsigned();
        let limits = Limits {
            max_message_size: limits.max_message_size.min(MAX),
            max_frame_size: limits.max_frame_size.min(MAX),
            ..limits
        };
        Self {
            role,
            limits,
            open: None,
            payload: PayloadBuffer::default(),
            state: State::default(),
            #[cfg(feature = "deflate")]
            deflate: false,
            #[cfg(feature = "deflate")]
            inflater: None,
        }
    }

    /// Lets the peer use what was negotiated.
    #[cfg(feature = "deflate")]
    pub(crate) fn with(self, negotiated: Negotiated) -> Self {
        Self { deflate: negotiated.deflate.is_some(), ..self }
    }

    #[cfg(not(feature = "deflate"))]
    pub(crate) fn with(self, _: Negotiated) -> Self {
        self
    }

    /// Takes bytes from the front of `input` and unmasks them in place. Returns how many, and the event that
    /// became complete: it returns at the first event, or with all of `input` taken.
    ///
    /// # Errors
    ///
    /// As soon as the peer has broken a rule or a limit; the decoder is done then.
    pub(crate) fn decode(&mut self, input: &mut [u8]) -> Result<(usize, Option<Event>), ProtocolError> {
        let mut taken = 0;
        let mut event = None;
        while taken < input.len() && event.is_none() {
            let input = &mut input[taken..];
            taken += match self.plain_frame(input, &mut event).inspect_err(|_| self.finish())? {
                0 => self.step(input, &mut event).inspect_err(|_| self.finish())?,
                size => size,
            };
        }
        Ok((taken, event))
    }

    /// Inside of a data frame with at least `threshold` bytes missing, which are not compressed: where to read them to.
    ///
    /// There is room for one byte at least and for no more than is missing. Memory that
    /// was not kept from an earlier message grows in steps, which never run further ahead of what has arrived than that is
    /// long itself, or 16 KiB.
    pub(crate) fn direct(&mut self, threshold: usize) -> Option<Limit<&mut Vec<u8>>> {
        let State::Data(frame) = &self.state else { return None };
        if frame.missing < threshold || frame.coding != Coding::Plain {
            return None;
        }
        make_room(
            &mut self.payload,
            frame.is_final,
            frame.missing,
            &self.limits,
            frame.missing.min(MIN_READ),
        );
        let spare = self.payload.capacity() - self.payload.len();
        Some(self.payload.append_limited(spare.min(frame.missing).min(MAX_READ)))
    }

    /// Takes the `n` bytes that were read to where [`direct`](Self::direct) said.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    ///
    /// # Panics
    ///
    /// If `n` is more than was read.
    pub(crate) fn advance(&mut self, n: usize) -> Result<Option<Event>, ProtocolError> {
        let State::Data(frame) = self.state else { return Ok(None) };
        self.state = State::default();
        self.appended(frame, n).inspect_err(|_| self.finish())
    }

    /// Whether a message, or a frame of any kind, has begun and is not complete.
    pub(crate) fn in_message(&self) -> bool {
        match &self.state {
            State::Header(header) => self.open.is_some() || !header.is_empty(),
            State::Data(_) | State::Control(_) => true,
            State::Done => false,
        }
    }

    /// How many bytes of heap memory are held.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        let control = match &self.state {
            State::Control(frame) => frame.payload.capacity() + size_of::<ControlFrame>(),
            _ => 0,
        };
        #[cfg(feature = "deflate")]
        let control = control + self.inflater.as_deref().map_or(0, size_of_val);
        self.payload.owned() + control
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.open = None;
        self.payload = PayloadBuffer::default();
        #[cfg(feature = "deflate")]
        {
            self.inflater = None;
        }
    }

    /// Takes a data frame which is not compressed, and all of which is in `input`, without a step for each part of it: the
    /// common case. Takes nothing if it is another one, or if a rule is broken but that text is text: `step` says which.
    #[inline]
    fn plain_frame(&mut self, input: &mut [u8], event: &mut Option<Event>) -> Step {
        match &self.state {
            State::Header(reader) if reader.is_empty() => {}
            _ => return Ok(0),
        }
        let Some((size, Plain { kind, is_final, length, mut mask })) = plain(input, self.role, &self.limits)
        else {
            return Ok(0);
        };
        let left = self.limits.max_message_size.saturating_sub(self.payload.len());
        let Some(payload) = input[size..].get_mut(..length).filter(|_| length <= left) else { return Ok(0) };
        let open = match (kind, self.open) {
            (Some(kind), None) if is_final => {
                mask.apply(payload);
                *event = Some(Event::Message(message(kind, payload)?));
                return Ok(size + length);
            }
            (Some(kind), None) => Open { kind, coding: Coding::Plain, frames: 1 },
            (None, Some(open))
                if open.coding == Coding::Plain && (open.frames as usize) < self.limits.max_fragments =>
            {
                Open { frames: open.frames.saturating_add(1), ..open }
            }
            _ => return Ok(0),
        };
        self.open = Some(open);
        mask.apply(payload);
        make_room(&mut self.payload, is_final, length, &self.limits, length);
        self.payload.extend_from_slice(payload);
        if open.kind == Kind::Text {
            self.payload.validate().map_err(not_utf8)?;
        }
        if is_final {
            *event = Some(self.complete(open.kind)?);
        }
        Ok(size + length)
    }

    fn step(&mut self, input: &mut [u8], event: &mut Option<Event>) -> Step {
        match self.state {
            State::Header(ref mut reader) => {
                let rules = Rules {
                    role: self.role,
                    limits: &self.limits,
                    open: self.open,
                    assembled: self.payload.len(),
                    #[cfg(feature = "deflate")]
                    deflate: self.deflate,
                };
                let (header_len, header) = reader.read(input, &rules)?;
                let Some(header) = header else { return Ok(header_len) };
                // also where no input is left: a frame without payload is complete
                Ok(header_len + self.begin(header, &mut input[header_len..], event)?)
            }
            State::Data(frame) => {
                self.state = State::default();
                self.data(frame, input, event)
            }
            State::Control(ref mut frame) => {
                let frame = ControlFrame { payload: mem::take(&mut frame.payload), ..**frame };
                self.state = State::default();
                self.control(frame, input, event)
            }
            State::Done => Ok(input.len()),
        }
    }

    fn begin(&mut self, header: Header, input: &mut [u8], event: &mut Option<Event>) -> Step {
        let Header { frame, is_final, length: missing, mask } = header;
        match frame {
            Frame::Data(open) => {
                self.open = Some(open);
                let Open { kind, coding, .. } = open;
                self.data(DataFrame { kind, coding, is_final, missing, mask }, input, event)
            }
            Frame::Control(control) => {
                self.control(ControlFrame { control, missing, mask, payload: Vec::new() }, input, event)
            }
        }
    }

    fn data(&mut self, mut frame: DataFrame, input: &mut [u8], event: &mut Option<Event>) -> Step {
        #[cfg(feature = "deflate")]
        if frame.coding == Coding::Deflate {
            return self.compressed(frame, input, event);
        }
        let n = frame.missing.min(input.len());
        let bytes = &mut input[..n];
        *event = if frame.is_final && n == frame.missing && self.payload.is_empty() {
            frame.mask.apply(bytes);
            Some(self.whole(frame.kind, bytes)?)
        } else {
            make_room(&mut self.payload, frame.is_final, frame.missing, &self.limits, n);
            self.payload.extend_from_slice(bytes);
            self.appended(frame, n)?
        };
        Ok(n)
    }

    /// A message whose payload is not in the buffer but here, whole.
    fn whole(&mut self, kind: Kind, payload: &[u8]) -> Result<Event, ProtocolError> {
        let message = message(kind, payload)?;
        self.open = None;
        // nothing is in it, but room may have been made
        self.payload = PayloadBuffer::default();
        Ok(Event::Message(message))
    }

    /// The last `n` bytes of the buffer came in, and nothing was done to them yet.
    fn appended(&mut self, mut frame: DataFrame, n: usize) -> Result<Option<Event>, ProtocolError> {
        assert!(n <= frame.missing && n <= self.payload.len(), "no more is taken than was read");
        frame.missing -= n;
        let start = self.payload.len() - n;
        frame.mask.apply(self.payload.unvalidated_mut(start));
        if frame.kind == Kind::Text {
            self.payload.validate().map_err(not_utf8)?;
        }
        if frame.missing > 0 {
            self.state = State::Data(frame);
            Ok(None)
        } else if frame.is_final {
            self.complete(frame.kind).map(Some)
        } else {
            Ok(None)
        }
    }

    #[cfg(feature = "deflate")]
    fn compressed(&mut self, mut frame: DataFrame, input: &mut [u8], event: &mut Option<Event>) -> Step {
        let n = frame.missing.min(input.len());
        let bytes = &mut input[..n];
        frame.mask.apply(bytes);
        frame.missing -= n;
        let is_complete = frame.is_final && frame.missing == 0;
        self.inflate(frame.kind, bytes, is_complete)?;
        if is_complete {
            *event = Some(self.complete(frame.kind)?);
        } else if frame.missing > 0 {
            self.state = State::Data(frame);
        }
        Ok(n)
    }

    /// Appends what `bytes` become. A message without any needs no decompressor, and is empty.
    #[cfg(feature = "deflate")]
    fn inflate(&mut self, kind: Kind, bytes: &[u8], is_complete: bool) -> Result<(), ProtocolError> {
        let Self { payload, limits, inflater, .. } = self;
        let mut take = |inflated: &[u8]| take_inflated(payload, kind, limits, inflated);
        if !bytes.is_empty() {
            inflater.get_or_insert_with(Inflater::borrow).feed(bytes, &mut take)?;
        }
        match inflater.take_if(|_| is_complete) {
            Some(inflater) => inflater.finish(take),
            None => Ok(()),
        }
    }

    /// The message in the buffer is complete.
    fn complete(&mut self, kind: Kind) -> Result<Event, ProtocolError> {
        self.open = None;
        let mut payload = mem::take(&mut self.payload);
        let slack = payload.capacity() - payload.len();
        if slack > SMALL_SLACK && slack > payload.len() / 4 {
            payload.shrink_to_fit();
        }
        Ok(Event::Message(match kind {
            Kind::Text => Message::Text(payload.into_text().map_err(not_utf8)?),
            Kind::Binary => Message::Binary(payload.into_bytes()),
        }))
    }

    fn control(&mut self, mut frame: ControlFrame, input: &mut [u8], event: &mut Option<Event>) -> Step {
        let n = frame.missing.min(input.len());
        let bytes = &mut input[..n];
        frame.mask.apply(bytes);
        frame.missing -= n;
        *event = if frame.missing > 0 {
            frame.payload.reserve_exact(n + frame.missing);
            frame.payload.extend_from_slice(bytes);
            self.state = State::Control(Box::new(frame));
            None
        } else if frame.payload.is_empty() {
            Some(self.control_event(frame.control, bytes)?)
        } else {
            frame.payload.extend_from_slice(bytes);
            Some(self.control_event(frame.control, &frame.payload)?)
        };
        Ok(n)
    }

    fn control_event(&mut self, control: Control, payload: &[u8]) -> Result<Event, ProtocolError> {
        match control {
            Control::Ping => Ok(Event::Ping(Bytes::copy_from_slice(payload))),
            Control::Pong => Ok(Event::Pong(Bytes::copy_from_slice(payload))),
            Control::Close => {
                let frame = close_frame(payload)?;
                self.finish();
                Ok(Event::Close(frame))
            }
        }
    }
}

/// Takes a message from the front of `input` that is whole in there, without a control frame inside of it, and not
/// compressed: the common case. Returns how many bytes it takes, too. `None` if it is anything else, or breaks a rule:
/// [`Decoder::decode`] says which.
///
/// It is for one who stands between two messages.
pub(crate) fn whole_message(input: &mut [u8], role: Role, limits: &Limits) -> Option<(usize, Message)> {
    let (size, Plain { kind, is_final, length, mask }) = plain(input, role, limits)?;
    let kind = kind?;
    if !is_final {
        return whole_fragments(kind, input, role, limits);
    }
    let payload = input[size..].get_mut(..length).filter(|_| length <= limits.max_message_size)?;
    mask.clone().apply(payload);
    let message = message(kind, payload).ok();
    if message.is_none() {
        // as it was, for the decoder to find
        mask.clone().apply(payload);
    }
    Some((size + length, message?))
}

/// A message of several frames.
fn whole_fragments(kind: Kind, input: &[u8], role: Role, limits: &Limits) -> Option<(usize, Message)> {
    let mut payload = Vec::with_capacity(input.len());
    let mut rest = input;
    for frames in 1..=limits.max_fragments {
        let (size, mut header) = plain(rest, role, limits)?;
        if header.kind.is_some() != (frames == 1) {
            return None;
        }
        let (part, behind) = rest[size..].split_at_checked(header.length)?;
        let start = payload.len();
        payload.extend_from_slice(part);
        header.mask.apply(&mut payload[start..]);
        rest = behind;
        if payload.len() > limits.max_message_size {
            return None;
        }
        if header.is_final {
            payload.shrink_to_fit();
            let payload = Bytes::from(payload);
            let message = match kind {
                Kind::Text => Message::Text(Utf8Bytes::try_from(payload).ok()?),
                Kind::Binary => Message::Binary(payload),
            };
            return Some((input.len() - rest.len(), message));
        }
    }
    None
}

/// A message with a payload of its own.
fn message(kind: Kind, payload: &[u8]) -> Result<Message, ProtocolError> {
    Ok(match kind {
        Kind::Text => Message::Text(Utf8Bytes::copy_from_slice(payload).map_err(not_utf8)?),
        Kind::Binary => Message::Binary(Bytes::copy_from_slice(payload)),
    })
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

/// Makes room for `least` of the `missing` bytes of a frame and, if memory is needed for that, for a step that is worth
/// it.
fn make_room(payload: &mut PayloadBuffer, is_final: bool, missing: usize, limits: &Limits, least: usize) {
    let arrived = payload.len();
    if arrived == 0 {
        payload.begin(missing);
    }
    if payload.capacity() - arrived >= least {
        return;
    }
    let announced = missing.min(arrived.max(AHEAD));
    let step = if is_final {
        announced
    } else {
        // more frames follow, of which nothing is known: doubling keeps many small ones linear
        announced.max(arrived).max(LEAST_STEP).min(limits.max_message_size - arrived)
    };
    payload.reserve_exact(step.max(least));
}

/// Appends the next piece of a compressed message, as far as the limit allows: a few bytes may become many.
#[cfg(feature = "deflate")]
fn take_inflated(
    payload: &mut PayloadBuffer,
    kind: Kind,
    limits: &Limits,
    piece: &[u8],
) -> Result<(), ProtocolError> {
    let limit = limits.max_message_size;
    let (arrived, left) = (payload.len(), limit - payload.len());
    let (fitting, over) = piece.split_at(piece.len().min(left));
    if payload.capacity() - arrived < fitting.len() {
        // nobody knows how much follows: doubling keeps many pieces linear
        payload.reserve_exact(arrived.min(left).max(fitting.len()));
    }
    payload.extend_from_slice(fitting);
    if kind == Kind::Text {
        payload.validate().map_err(not_utf8)?;
    }
    if over.is_empty() { Ok(()) } else { Err(ProtocolError::MessageTooBig { limit }) }
}

fn not_utf8(_: InvalidUtf8) -> ProtocolError {
    ProtocolError::InvalidUtf8
}
