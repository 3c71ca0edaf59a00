//! What is offered to a [`Mailbox`]: messages of the log, and messages for those who are there.

use std::sync::atomic::AtomicBool;
use std::task::Waker;

use ws_core::{CloseFrame, Message, PreparedMessage};

use crate::backplane::Acked;
use crate::close_code;
use crate::config::{Guarantee, Limits, Overflow, Rules};
use crate::log::Handover;
use crate::position::{MessageId, Position};

use super::state::{Hands, Item, Known, Mailbox, Offered, Phase, Source, Stuck};

/// A message of the log, as it is offered.
#[derive(Clone)]
pub(crate) enum Content {
    /// For one connection: it is prepared only if it has to wait.
    Once(Message),
    /// For several.
    Prepared(PreparedMessage),
}

impl Content {
    pub(crate) fn message(&self) -> &Message {
        match self {
            Self::Once(message) => message,
            Self::Prepared(prepared) => prepared.message(),
        }
    }

    pub(crate) fn prepared(&self) -> PreparedMessage {
        match self {
            Self::Once(message) => PreparedMessage::new(message.clone()),
            Self::Prepared(prepared) => prepared.clone(),
        }
    }
}

impl Mailbox {
    /// Offers a message that is in the log.
    pub(crate) fn offer_logged(
        &mut self,
        position: Position,
        previous: Option<MessageId>,
        content: &Content,
        hands: &Hands<'_>,
        wakes: &mut Vec<Waker>,
    ) -> Offered {
        if !matches!(self.phase, Phase::Open | Phase::Entering) {
            return Offered::Refused;
        }
        match &mut self.log.source {
            Source::Reading { has_missed } => {
                *has_missed = true;
                return Offered::Logged;
            }
            Source::Log => return self.crowded_or(Offered::Logged, wakes),
            Source::Offered => {}
        }
        if position.number <= self.log.last {
            return Offered::Logged;
        }
        let follows = self.log.last.checked_add(1) == Some(position.number)
            && (self.log.last_id == Known::Unknown || self.log.last_id == Known::Id(previous));
        if !follows {
            return self.fall_behind(wakes);
        }
        if let Some(offered) = self.send_now(position, content, hands, wakes) {
            return offered;
        }
        if !self.load().0.takes(content.message().len(), &hands.rules.limits) {
            self.log.source = Source::Log;
            return self.crowded_or(Offered::Logged, wakes);
        }
        self.queued(position);
        self.push(Item { message: content.prepared(), number: Some(position.number) });
        self.wake(wakes);
        Offered::Queued { dropped: 0 }
    }

    /// Whether the next message of the log can be acknowledged with its append, because it is then sent at once.
    pub(crate) fn handover(&mut self, rules: &Rules) -> Option<Handover> {
        let Known::Id(last_id) = self.log.last_id else { return None };
        let is_next = self.log.source == Source::Offered && self.log.acknowledged == self.log.last;
        if rules.guarantee != Guarantee::AtMostOnce
            || !is_next
            || !self.is_open()
            || self.queue.is_some()
            || self.room().is_err()
        {
            return None;
        }
        Some(Handover {
            login: self.login,
            start: self.log.start,
            last: (self.log.last, last_id),
            is_acknowledged: AtomicBool::new(false),
        })
    }

    /// A message was acknowledged with its append: it is sent now.
    pub(crate) fn handed_over(&mut self, number: u64, wakes: &mut Vec<Waker>) {
        self.log.claimed = self.log.claimed.max(number);
        self.acknowledged(self.log.start, number, Ok(Acked::Done), wakes);
    }

    /// Sends a message of the log at once, unless it has to be queued.
    fn send_now(
        &mut self,
        position: Position,
        content: &Content,
        hands: &Hands<'_>,
        wakes: &mut Vec<Waker>,
    ) -> Option<Offered> {
        let must_claim = self.must_claim(position.number, hands);
        if !self.is_open() || self.queue.is_some() || must_claim && self.room().is_err() {
            return None;
        }
        if must_claim && !self.claim(position.number, hands, wakes)? {
            // the login starts elsewhere, or is over
            return Some(Offered::Logged);
        }
        match content {
            Content::Once(message) => self.sender.try_send(message.clone()).ok()?,
            Content::Prepared(prepared) => self.try_send(prepared).ok()?,
        }
        hands.sent.set(hands.sent.get() + 1);
        self.queued(position);
        self.sent_logged(position.number, hands);
        if hands.rules.pings() || self.log.arrived > self.log.acknowledged {
            self.wake(wakes);
        }
        Some(Offered::Sent)
    }

    /// What comes has to be read.
    pub(super) fn fall_behind(&mut self, wakes: &mut Vec<Waker>) -> Offered {
        self.log.source = Source::Log;
        self.wake(wakes);
        Offered::Logged
    }

    /// `other`, unless the client may be one that reads, and only its task has not run.
    pub(super) fn crowded_or(&mut self, other: Offered, wakes: &mut Vec<Waker>) -> Offered {
        match self.stuck {
            Stuck::Yes => return other,
            Stuck::No if self.queue.is_none() => return other,
            Stuck::No => self.stuck = Stuck::Asked,
            Stuck::Asked | Stuck::Tried => {}
        }
        self.wake(wakes);
        Offered::Crowded
    }

    /// Whether it is not known yet whether the client reads.
    pub(crate) fn is_crowded(&self) -> bool {
        matches!(self.stuck, Stuck::Asked | Stuck::Tried) && !self.is_closing()
    }

    /// Offers a message that is for those who are there.
    pub(crate) fn offer(
        &mut self,
        message: &PreparedMessage,
        limits: &Limits,
        wakes: &mut Vec<Waker>,
    ) -> Offered {
        if self.phase != Phase::Open {
            return Offered::Refused;
        }
        if message.len() > limits.bytes {
            return Offered::TooLarge;
        }
        if self.queue.is_none() {
            match self.try_send(message) {
                Ok(()) => return Offered::Sent,
                Err(true) => {}
                Err(false) => return Offered::Refused,
            }
        }
        let mut dropped = 0;
        if !self.load().1.takes(message.len(), limits) {
            if self.crowded_or(Offered::Dropped, wakes) == Offered::Crowded {
                return Offered::Crowded;
            }
            match limits.overflow {
                Overflow::Disconnect => {
                    let frame =
                        CloseFrame::new(close_code::OVERFLOW, "messages come faster than they are read");
                    self.end(Phase::Closing(Box::new(frame)), wakes);
                    return Offered::Overflowed;
                }
                Overflow::DropNewest => return Offered::Dropped,
                Overflow::DropOldest => {
                    while !self.load().1.takes(message.len(), limits) {
                        self.drop_oldest();
                        dropped += 1;
                    }
                }
            }
        }
        self.push(Item { message: message.clone(), number: None });
        self.wake(wakes);
        Offered::Queued { dropped }
    }

    /// The oldest message goes that is not of the log.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(queue) = &mut self.queue
            && let Some(at) = queue.items.iter().position(|item| item.number.is_none())
        {
            queue.remove(at);
            self.drop_empty_queue();
        }
    }
}
