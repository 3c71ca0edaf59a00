//! The user's side of a [`Connection`]: receiving, sending, pings, the end.

use std::borrow::Cow;
use std::task::Poll;
use std::time::Duration;

use super::closing::{End, Step};
use super::state::{Connection, Heartbeat, Notice};
use crate::close::{CloseCode, CloseFrame, Closed};
#[cfg(feature = "deflate")]
use crate::config::Deflate;
use crate::error::Error;
use crate::message::Message;
use crate::prepared::PreparedMessage;
#[cfg(feature = "deflate")]
use crate::protocol::compress;
use crate::protocol::{Encoder, Frame};
use crate::utf8::Utf8Bytes;

/// What others wait for on a connection, besides bytes that are written. While it is the same, nobody has
/// what they wait for who had not before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Milestones {
    /// How many there were, counted modulo more than can come in one turn of the driver.
    pongs: u16,
    step: Step,
}

#[derive(Debug)]
pub(crate) enum Outgoing<'a> {
    Own(Message),
    /// Other connections send it, too.
    Prepared(&'a PreparedMessage),
}

impl Outgoing<'_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Own(message) => message.len(),
            Self::Prepared(prepared) => prepared.len(),
        }
    }

    pub(crate) fn into_message(self) -> Message {
        match self {
            Self::Own(message) => message,
            Self::Prepared(prepared) => prepared.message().clone(),
        }
    }

    #[inline]
    fn encode(&mut self, encoder: &mut Encoder) -> usize {
        match self {
            Self::Own(message) => encoder.message(message),
            Self::Prepared(prepared) => encoder.frame(Cow::Borrowed(prepared.frame())),
        }
    }
}

#[cfg(feature = "deflate")]
impl<'a> Outgoing<'a> {
    /// The frame of the compressed message, if that is shorter. That takes its time.
    pub(crate) fn compressed(&self, deflate: Deflate) -> Option<Cow<'a, Frame>> {
        match self {
            Self::Own(message) => compress(message, deflate.into()).map(Cow::Owned),
            Self::Prepared(prepared) => prepared.compressed(deflate.into()),
        }
    }
}

impl Connection {
    /// The next message: one that waits, or the next one in what was read. `None` is the end.
    #[inline]
    pub(crate) fn recv(&mut self) -> Poll<Option<Result<Message, Error>>> {
        if self.has_message() {
            self.inbound.is_in_hand = true;
            // the driver reads on
            self.attention |= self.is_full();
            return Poll::Ready(self.inbound.pop().map(Ok));
        }
        self.inbound.is_in_hand = true;
        if let Some(message) = self.decode() {
            return Poll::Ready(Some(Ok(message)));
        }
        self.inbound.is_in_hand = false;
        // what came before the end has been taken and answered
        self.settle_if_taken();
        match self.closing.end_mut() {
            Some(end) => Poll::Ready(end.error.take().map(Err)),
            None => Poll::Pending,
        }
    }

    /// Whether a message waits that was decoded before it was asked for.
    #[inline]
    pub(crate) fn has_message(&self) -> bool {
        self.inbound.len() > 0
    }

    /// Whether [`recv`](Self::recv) would have something to say, or something to look at.
    #[inline]
    pub(crate) fn is_receivable(&self) -> bool {
        self.has_message()
            || !self.input.is_empty() && self.budget > 0 && self.closing.is_receiving()
            || self.closing.has_end()
    }

    #[inline]
    pub(crate) fn is_sendable(&self) -> bool {
        self.closing.is_sendable()
    }

    /// Queues a message, whether there is room or not. What is left of it is to be dropped outside of the lock. The
    /// connection has to be [sendable](Self::is_sendable).
    #[inline]
    pub(crate) fn send(&mut self, message: &mut Outgoing<'_>) {
        self.timers.exchanged = true;
        self.push(|encoder| message.encode(encoder));
    }

    /// As [`send`](Self::send), for a message that was compressed.
    pub(crate) fn send_frame(&mut self, frame: Cow<'_, Frame>) {
        self.timers.exchanged = true;
        self.push(|encoder| encoder.frame(frame));
    }

    /// Bytes that were queued since the connection opened: where a flush that begins now is over.
    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }

    /// Whether the transport took the byte where a flush is over.
    pub(crate) fn poll_flushed(&self, end: u64) -> Poll<Result<(), Error>> {
        if self.written >= end {
            Poll::Ready(Ok(()))
        } else if self.is_over() {
            Poll::Ready(Err(Error::Closed))
        } else {
            Poll::Pending
        }
    }

    /// Queues a ping, and returns its number. While one is queued and not sent, another one would tell nothing more.
    pub(crate) fn ping(&mut self) -> Result<u64, Error> {
        if self.is_sendable() { Ok(self.queue_ping(1)) } else { Err(Error::Closed) }
    }

    /// Queues a ping for whose answer so many wait.
    pub(super) fn queue_ping(&mut self, awaited: u32) -> u64 {
        if let Some(id) = self.keepalive.share_unsent(awaited, self.written) {
            return id;
        }
        let id = self.keepalive.next;
        self.push(|encoder| encoder.ping(&id.to_be_bytes()));
        self.keepalive.queued(awaited, self.queued);
        id
    }

    /// The round trip of a ping, or that there will be none.
    pub(crate) fn poll_pong(&self, id: u64) -> Poll<Result<Duration, Error>> {
        match self.keepalive.round_trip(id) {
            Some(round_trip) => Poll::Ready(Ok(round_trip)),
            None if self.closing.end().is_some() => Poll::Ready(Err(Error::Closed)),
            None => Poll::Pending,
        }
    }

    pub(crate) fn forget_ping(&mut self, id: u64) {
        self.keepalive.forget(id);
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        self.keepalive.latency
    }

    /// From now on this text is answered in place of being received, those too that wait for the receiver.
    pub(crate) fn set_heartbeat(&mut self, text: Utf8Bytes, answer: PreparedMessage) {
        let heartbeat = Box::new(Heartbeat { text, answer });
        let heartbeats = self.inbound.extract(|message| heartbeat.is(message));
        let before = self.heartbeat.replace(heartbeat);
        self.drop_later(before);
        for _ in &heartbeats {
            self.answer_heartbeat();
        }
        self.drop_later(heartbeats);
        // they may have been all that came before the end
        self.settle_if_taken();
        self.attention = true;
    }

    /// Answers a heartbeat. To one who does not read the answers they must not pile up.
    pub(super) fn answer_heartbeat(&mut self) {
        if !self.is_sendable() || self.outbound_room() == 0 {
            return;
        }
        if let Some(heartbeat) = self.heartbeat.take() {
            self.push(|encoder| encoder.frame_once(heartbeat.answer.frame()));
            self.timers.exchanged = true;
            self.notice(Notice::Sent(heartbeat.answer.len()));
            self.heartbeat = Some(heartbeat);
        }
    }

    /// Nobody takes messages any more: they are dropped as they come.
    pub(crate) fn receiver_dropped(&mut self) {
        let unread = self.inbound.close();
        self.drop_later(unread);
        self.attention = true;
        self.settle_if_taken();
        self.close_if_unused();
    }

    /// The handler has returned, or there was none. The connection goes on for a receiver that has moved elsewhere.
    pub(crate) fn handler_done(&mut self) {
        self.handler_done = true;
        self.close_if_unused();
    }

    fn close_if_unused(&mut self) {
        if self.handler_done && self.inbound.is_receiver_gone {
            self.close(Some(CloseFrame::new(CloseCode::NORMAL_CLOSURE, "")));
        }
    }

    pub(crate) fn handler_failed(&mut self) {
        self.handler_done = true;
        self.close(Some(CloseFrame::new(CloseCode::INTERNAL_ERROR, "")));
    }

    /// Whether the end is not known yet.
    pub(crate) fn is_open(&self) -> bool {
        self.closing.is_open()
    }

    pub(crate) fn close_frame(&self) -> Option<CloseFrame> {
        self.closing.end().and_then(|end| end.closed.frame.clone())
    }

    /// What the peer answered to our Close frame, or why it did not.
    pub(crate) fn poll_close(&mut self) -> Poll<Result<Option<CloseFrame>, Error>> {
        let is_closed = self.closing.is_closed();
        match self.closing.end_mut() {
            Some(end) if end.is_answered() => Poll::Ready(Ok(end.peer_frame.clone())),
            Some(end) if is_closed => Poll::Ready(Err(end.close_error())),
            _ => Poll::Pending,
        }
    }

    /// How far the connection is with what others wait for.
    #[inline]
    pub(crate) fn milestones(&self) -> Milestones {
        Milestones { pongs: self.keepalive.pongs, step: self.closing.step }
    }

    /// Whether the peer's Close frame has come.
    pub(crate) fn is_answered(&self) -> bool {
        self.closing.end().is_some_and(End::is_answered)
    }

    /// Whether the connection is over, and all that it held is given back.
    pub(crate) fn is_over(&self) -> bool {
        self.closing.step == Step::Released
    }

    pub(crate) fn poll_closed(&self) -> Poll<Closed> {
        self.outcome().filter(|_| self.is_over()).cloned().map_or(Poll::Pending, Poll::Ready)
    }

    /// How many messages wait for the receiver, what they are charged, and how many bytes wait for the transport.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn waiting(&self) -> (usize, usize, u64) {
        (self.inbound.len(), self.inbound.cost(), self.buffered())
    }
}
