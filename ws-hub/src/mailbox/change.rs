//! What happens to the login of a [`Mailbox`]: its beginning, its end, and where it starts.

use std::task::Waker;

use ws_core::CloseFrame;

use crate::backplane::LoggedIn;
use crate::log::Page;

use super::state::{Amount, Early, Known, Mailbox, Phase, Source};

impl Mailbox {
    /// Its login was answered. Returns whether messages go to it from now on: the login may be over already.
    pub(crate) fn enter(&mut self, logged_in: LoggedIn, page: Page, wakes: &mut Vec<Waker>) -> bool {
        self.login = logged_in.login;
        let Early { over, starts } = self.early.take().map(|early| *early).unwrap_or_default();
        if let Some((upto, frame)) = over
            && self.login <= upto
        {
            self.end(Phase::Closing(Box::new(frame)), wakes);
            return false;
        }
        if self.phase == Phase::Entering {
            self.phase = Phase::Open;
        }
        let start = logged_in.read.after;
        let window = &mut self.log;
        (window.start, window.last, window.sent) = (start, start, start);
        (window.arrived, window.acknowledged, window.claimed) = (start, start, start);
        window.last_id = match logged_in.read.top {
            Some(top) if top.number == start => Known::Id(Some(top.id)),
            None => Known::Id(None),
            Some(_) => Known::Unknown,
        };
        self.take_page(logged_in.read, page);
        for (login, from) in starts {
            if login == self.login {
                self.start_at(from, wakes);
            }
        }
        self.wake(wakes);
        self.is_open()
    }

    /// It is to be closed. Returns whether messages went to it until now.
    pub(crate) fn close(&mut self, frame: CloseFrame, wakes: &mut Vec<Waker>) -> bool {
        let was_open = self.is_open();
        if !self.is_closing() {
            self.end(Phase::Closing(Box::new(frame)), wakes);
        }
        was_open
    }

    /// Logins up to this number are over. Returns whether it is one of them, and messages went to it until now.
    pub(crate) fn close_upto(&mut self, upto: u64, frame: &CloseFrame, wakes: &mut Vec<Waker>) -> bool {
        if self.is_entering() {
            // its number is not known yet
            let over = &mut self.early.get_or_insert_default().over;
            if over.as_ref().is_none_or(|(earlier, _)| *earlier < upto) {
                *over = Some((upto, frame.clone()));
            }
            return false;
        }
        self.login <= upto && self.close(frame.clone(), wakes)
    }

    /// Its handler has returned. Returns whether messages went to it until now.
    pub(crate) fn finish(&mut self, wakes: &mut Vec<Waker>) -> bool {
        let was_open = self.is_open();
        if !self.is_closing() {
            self.end(Phase::Finishing, wakes);
        }
        was_open
    }

    /// A handler is given the [`Member`](crate::Member).
    pub(crate) fn give_member(&mut self) {
        self.has_member = true;
    }

    /// Whether messages go to it, and nobody has the member.
    pub(crate) fn is_left_open(&self) -> bool {
        self.is_open() && !self.has_member
    }

    /// Nobody has the member any more.
    pub(crate) fn member_gone(&mut self, wakes: &mut Vec<Waker>) {
        self.has_member = false;
        self.wake(wakes);
    }

    /// Signals may have been missed: it looks into the log.
    pub(crate) fn resync(&mut self, wakes: &mut Vec<Waker>) {
        match &mut self.log.source {
            Source::Reading { has_missed } => *has_missed = true,
            source => *source = Source::Log,
        }
        self.wake(wakes);
    }

    /// A login starts after this message now; it may be this one.
    pub(crate) fn restock(&mut self, login: u64, from: u64, wakes: &mut Vec<Waker>) {
        if self.is_entering() {
            self.early.get_or_insert_default().starts.push((login, from));
        } else if login == self.login {
            self.start_at(from, wakes);
        }
    }

    /// The backplane says that the login starts after this message, of which the mailbox thought that it starts after `asked`.
    pub(crate) fn starts_at(&mut self, asked: u64, start: u64, wakes: &mut Vec<Waker>) {
        // it may have been told to start elsewhere since it asked
        if asked == self.log.start {
            self.start_at(start, wakes);
        }
    }

    /// As [`starts_at`](Self::starts_at), by a backplane that may have forgotten what was acknowledged: it is told once more.
    pub(crate) fn asserted(&mut self, asked: u64, start: u64, wakes: &mut Vec<Waker>) {
        self.starts_at(asked, start, wakes);
        if asked == start && start == self.log.start {
            self.log.acknowledged = start;
            self.wake(wakes);
        }
    }

    /// The login starts after this message now.
    pub(super) fn start_at(&mut self, start: u64, wakes: &mut Vec<Waker>) {
        if start == self.log.start {
            return;
        }
        let window = &mut self.log;
        window.keep_sent();
        (window.start, window.last, window.sent) = (start, start, start);
        (window.arrived, window.acknowledged, window.claimed) = (start, start, start);
        (window.is_claim_doubtful, window.last_id) = (false, Known::Unknown);
        // the ping says nothing of what is sent behind it
        window.is_ping_old = window.is_pinging;
        if let Some(queue) = &mut self.queue {
            queue.items.retain(|item| item.number.is_none());
            queue.logged = Amount::default();
            self.drop_empty_queue();
        }
        self.resync(wakes);
    }
}
