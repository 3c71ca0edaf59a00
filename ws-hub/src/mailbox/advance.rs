//! What the session of a [`Mailbox`] is to do next, and what came of it.

use std::ops::ControlFlow;
use std::task::{Context, Waker};

use ws_core::{CloseFrame, PreparedMessage};

use crate::backplane::Acked;
use crate::close_code;
use crate::config::{Guarantee, Rules};
use crate::log::{After, Continuity, Page, Read};
use crate::position::Position;

use super::state::{CLAIMED, Hands, Item, Known, Mailbox, Next, Phase, Source, Stuck};

impl Mailbox {
    /// Whether the session is still to be woken by this waker: nothing has happened since it asked what to do next.
    pub(crate) fn is_quiet(&self, waker: &Waker) -> bool {
        self.waker.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// What the session is to do next. Sends what can be sent.
    pub(crate) fn next(&mut self, hands: &Hands<'_>, cx: &Context<'_>) -> Next {
        if let Phase::Closing(frame) = &self.phase {
            return Next::Close((**frame).clone());
        }
        let is_full = match self.send_queued(hands) {
            Ok(is_full) => is_full,
            Err(next) => return next,
        };
        if let Phase::Closing(frame) = &self.phase {
            return Next::Close((**frame).clone());
        }
        if !self.is_quiet(cx.waker()) {
            self.waker = Some(cx.waker().clone());
        }
        self.say_whether_stuck(is_full, cx);
        if let Some(next) = self.next_call(hands.rules) {
            return next;
        }
        if self.log.sent > self.log.arrived && !self.log.is_pinging && hands.rules.pings() {
            self.log.is_pinging = true;
            return Next::Ping(self.log.sent);
        }
        if self.phase == Phase::Finishing && self.queue.is_none() && self.is_settled(hands.rules) {
            return Next::Done;
        }
        Next::Wait { wants_room: is_full }
    }

    /// Sends what is queued; returns whether the connection is full.
    pub(super) fn send_queued(&mut self, hands: &Hands<'_>) -> Result<bool, Next> {
        let mut has_sent = false;
        let result = loop {
            let Some(item) = self.queue.as_ref().and_then(|queue| queue.items.front()) else {
                break Ok(false);
            };
            let (message, number) = (item.message.clone(), item.number);
            if let Some(number) = number {
                if self.log.was_sent_earlier(number) {
                    self.pop();
                    self.sent_logged(number, hands);
                    continue;
                }
                match self.claim_next(number, hands) {
                    ControlFlow::Continue(true) => {}
                    ControlFlow::Continue(false) => continue,
                    ControlFlow::Break(result) => break result,
                }
            }
            match self.try_send(&message) {
                Ok(()) => hands.sent.set(hands.sent.get() + 1),
                Err(true) => break Ok(true),
                Err(false) => break Err(Next::Broken),
            }
            self.pop();
            has_sent = true;
            if let Some(number) = number {
                self.sent_logged(number, hands);
            }
            if self.is_closing() {
                // what was acknowledged with it said so
                break Ok(false);
            }
        };
        if has_sent {
            self.stuck = Stuck::No;
        }
        result
    }

    /// Acknowledges the first message of the queue, if it has to be. Returns whether it may be sent, or that nothing can be
    /// sent now.
    fn claim_next(&mut self, number: u64, hands: &Hands<'_>) -> ControlFlow<Result<bool, Next>, bool> {
        if self.must_claim(number, hands) && (hands.is_immediate)() {
            // what is acknowledged and not sent would come later than the next ones, if another login begins
            match self.room() {
                Ok(()) => {}
                Err(true) => return ControlFlow::Break(Ok(true)),
                Err(false) => return ControlFlow::Break(Err(Next::Broken)),
            }
        }
        match self.claim(number, hands, &mut Vec::new()) {
            // if it may not, what was queued of the log is gone, or everything is
            Some(false) if self.is_closing() => ControlFlow::Break(Ok(false)),
            Some(claimed) => ControlFlow::Continue(claimed),
            None if self.log.is_calling => ControlFlow::Break(Ok(false)),
            None => {
                self.log.is_calling = true;
                self.log.claimed = self.log.last.min(number.saturating_add(CLAIMED - 1));
                let (start, upto) = (self.log.start, self.log.claimed);
                ControlFlow::Break(Err(Next::Acknowledge { start, upto }))
            }
        }
    }

    /// Whether a message has to be acknowledged before it is sent.
    pub(super) fn must_claim(&self, number: u64, hands: &Hands<'_>) -> bool {
        hands.rules.guarantee == Guarantee::AtMostOnce && number > self.log.acknowledged
    }

    /// Acknowledges a message before it is sent, if it has to be: another login may have begun, which gets it otherwise.
    /// Returns whether it may be sent; `None` if the log does not acknowledge at once.
    pub(super) fn claim(&mut self, number: u64, hands: &Hands<'_>, wakes: &mut Vec<Waker>) -> Option<bool> {
        if !self.must_claim(number, hands) {
            return Some(true);
        }
        if !(hands.is_immediate)() {
            return None;
        }
        let start = self.log.start;
        let acked = (hands.acknowledge)(self.login, start, number)?;
        if acked == Acked::Done {
            self.log.claimed = self.log.claimed.max(number);
        }
        self.acknowledged(start, number, Ok(acked), wakes);
        Some(self.log.start == start && self.log.acknowledged >= number)
    }

    /// Those who wait are told whether the client reads, as soon as that is known: when something was sent, or when the
    /// connection is full still after it was written, which it is between two turns of its handler.
    pub(super) fn say_whether_stuck(&mut self, is_full: bool, cx: &Context<'_>) {
        self.stuck = match self.stuck {
            Stuck::Asked | Stuck::Tried if !is_full => Stuck::No,
            Stuck::Asked => {
                cx.waker().wake_by_ref();
                Stuck::Tried
            }
            Stuck::Tried | Stuck::Yes if is_full => Stuck::Yes,
            stuck => stuck,
        };
    }

    /// What to ask the log.
    pub(super) fn next_call(&mut self, rules: &Rules) -> Option<Next> {
        if self.log.is_calling {
            return None;
        }
        if self.log.arrived > self.log.acknowledged {
            self.log.is_calling = true;
            return Some(Next::Acknowledge { start: self.log.start, upto: self.log.arrived });
        }
        if self.log.source == Source::Log
            && self.phase == Phase::Open
            && self.load().0.messages == 0
            && rules.has_log
        {
            self.log.is_calling = true;
            self.log.source = Source::Reading { has_missed: false };
            let after = match self.log.last_id {
                Known::Id(Some(id)) => After::Position(Position::new(self.log.last, id)),
                _ => After::Number(self.log.last),
            };
            return Some(Next::Read(after));
        }
        None
    }

    /// Whether everything that was sent is acknowledged, or never will be.
    pub(super) fn is_settled(&self, rules: &Rules) -> bool {
        !rules.pings() || self.log.acknowledged >= self.log.sent
    }

    /// A page of the log was read.
    pub(crate) fn read(&mut self, asked: After, read: Option<Read>, page: Page, wakes: &mut Vec<Waker>) {
        self.log.is_calling = false;
        let Source::Reading { .. } = self.log.source else { return };
        let is_current = match asked {
            After::Position(position) => position.number == self.log.last,
            After::Number(number) => number == self.log.last,
            After::Cursor => false,
        };
        match read {
            Some(read) if is_current => {
                if read.continuity == Continuity::Incomplete {
                    let frame =
                        CloseFrame::new(close_code::OVERFLOW, "messages were removed before they were read");
                    return self.end(Phase::Closing(Box::new(frame)), wakes);
                }
                self.take_page(read, page);
            }
            _ => self.log.source = Source::Log,
        }
    }

    /// Queues what was read. It goes on reading if that may not be all.
    pub(super) fn take_page(&mut self, read: Read, page: Page) {
        let has_missed = matches!(self.log.source, Source::Reading { has_missed: true });
        let count = read.entries.len();
        for entry in read.entries {
            self.queued(entry.position);
            self.push(Item {
                message: PreparedMessage::new(entry.message),
                number: Some(entry.position.number),
            });
        }
        let is_more = read.top.is_some_and(|top| top.number > self.log.last);
        self.log.source =
            if has_missed || is_more || count >= page.messages { Source::Log } else { Source::Offered };
    }

    /// The log has answered an acknowledgement of messages after `start`, or failed.
    pub(crate) fn acknowledged(
        &mut self,
        start: u64,
        upto: u64,
        answer: Result<Acked, ()>,
        wakes: &mut Vec<Waker>,
    ) {
        match answer {
            // what was asked before the login was told to start elsewhere says nothing
            Ok(Acked::Done) if start != self.log.start => {}
            Ok(Acked::Done) => {
                self.log.acknowledged = self.log.acknowledged.max(upto);
                self.log.is_claim_doubtful = false;
            }
            Ok(Acked::StartsAt(actual)) => self.starts_at(start, actual, wakes),
            Ok(Acked::Gone(frame)) => {
                if !self.log.is_claim_doubtful {
                    self.log.claimed = self.log.acknowledged;
                }
                let replaced = || CloseFrame::new(close_code::REPLACED, "replaced by a newer connection");
                self.close(frame.unwrap_or_else(replaced), wakes);
            }
            Err(()) => self.log.is_claim_doubtful = true,
        }
    }

    /// A call that was returned by [`next`](Self::next) is over.
    pub(crate) fn call_over(&mut self) {
        self.log.is_calling = false;
    }

    /// The client has got everything up to this message.
    pub(crate) fn ponged(&mut self, upto: u64) {
        self.log.is_pinging = false;
        if !std::mem::take(&mut self.log.is_ping_old) {
            self.arrived(upto);
        }
    }

    pub(super) fn arrived(&mut self, upto: u64) {
        self.log.arrived = self.log.arrived.max(upto.min(self.log.sent));
    }

    /// The application says that the client has got everything up to this message.
    pub(crate) fn confirm(&mut self, upto: u64, wakes: &mut Vec<Waker>) {
        self.arrived(upto);
        self.wake(wakes);
    }
}
