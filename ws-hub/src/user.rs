//! What a hub keeps for one user: the queues of their connections, and messages on the way from these to the store.
//!
//! Everything about one user is under one lock, which is held for moments: it is never held over I/O, over a call of the
//! store, or while a waker is called.
//!
//! Messages do not overtake each other on the way through the store. Whoever moves any holds the user's gate, and first
//! puts away what is in limbo: what was taken out of the queue of a connection that is ending.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use ws_core::{CloseFrame, PreparedMessage, TrySendError};

use crate::close_code;
use crate::config::Rules;
use crate::queue::{Keep, NotQueued, Queue, Queued};
use crate::store::{Guarantee, Stored};

/// A user who has connections, or messages on their way to the store.
pub(crate) struct User<U> {
    pub(crate) id: U,
    state: Mutex<State>,
    /// Held while messages of this user move into the store or out of it.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
    /// Raised when a connection is there: who waits for the gate to store a message can send it.
    pub(crate) came: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// In the order of their logins.
    sessions: Vec<Session>,
    /// What was taken out of the store and could not be sent.
    pub(crate) to_restore: Vec<Stored>,
    /// What was queued for a connection that is ending.
    pub(crate) to_store: VecDeque<PreparedMessage>,
}

/// One connection of the user.
#[derive(Debug)]
struct Session {
    login: u64,
    queue: Queue,
    /// The task that sends what is queued.
    waker: Option<Waker>,
    ending: Option<Ending>,
    stored: Stock,
}

/// Whether there are messages in the store for a connection, which it is to send before those that are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stock {
    None,
    /// Its task is looking, and has seen all there was before.
    Looking,
    Some,
}

/// Why a connection takes no more messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is to be closed like this; nothing more is sent.
    Close(CloseFrame),
    /// Its handler has returned; what is queued is sent.
    Finish,
}

/// What a connection's task is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing, until it is woken.
    Idle,
    /// Look into the store.
    CatchUp,
    /// Wait until the connection takes more.
    WaitForRoom,
    /// Make sure that all that was sent has arrived, and then confirm it.
    Confirm(u64),
    /// Close.
    Close(CloseFrame),
    /// All is sent, and no more will come; or nothing more can be sent.
    Done,
}

/// What became of a message that was offered to the connections of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// On how many it was queued.
    pub(crate) queued: usize,
    /// Why it was not queued on one of them.
    pub(crate) refused: Option<NotQueued>,
    /// How many older messages went for it.
    pub(crate) dropped: usize,
    /// How many connections are closed because of it.
    pub(crate) overflowed: usize,
}

/// Wakers to call when the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Wakes(Vec<Waker>);

impl Wakes {
    fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }

    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl Session {
    fn is_live(&self) -> bool {
        self.ending.is_none()
    }
}

impl<U> User<U> {
    pub(crate) fn new(id: U) -> Self {
        Self { id, state: Mutex::default(), gate: Arc::default(), came: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // what runs while it is held does not panic, but for allocation
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many connections there are that take messages.
    pub(crate) fn live(&self) -> usize {
        self.sessions.iter().filter(|session| session.is_live()).count()
    }

    /// Whether messages wait to be put into the store.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.to_store.is_empty() || !self.to_restore.is_empty()
    }

    fn session(&mut self, login: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.login == login)
    }

    fn live_session(&mut self) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.is_live())
    }

    /// A connection is there. It looks into the store first, unless another one has done that.
    pub(crate) fn enter(&mut self, login: u64, rules: &Rules) {
        let at = self.sessions.partition_point(|session| session.login < login);
        let stored = if rules.has_store && self.live() == 0 { Stock::Some } else { Stock::None };
        self.sessions
            .insert(at, Session { login, queue: Queue::default(), waker: None, ending: None, stored });
    }

    /// A connection is there, and is to be the only one: the newest login stays. Returns how many go.
    pub(crate) fn replace(&mut self, login: u64, rules: &Rules, wakes: &mut Wakes) -> usize {
        self.enter(login, rules);
        let newest = self.sessions.iter().map(|session| session.login).max().unwrap_or(login);
        let replaced = self.end_before(newest, rules, wakes);
        if rules.has_store
            && let Some(session) = self.session(newest)
        {
            session.stored = Stock::Some;
        }
        replaced
    }

    /// The connections of earlier logins are replaced. Returns how many that are.
    pub(crate) fn end_before(&mut self, login: u64, rules: &Rules, wakes: &mut Wakes) -> usize {
        let frame = CloseFrame::new(close_code::REPLACED, "replaced by a newer connection");
        self.end_all(&frame, rules, wakes, |of| of < login)
    }

    /// Connections take no more messages, and are closed. Returns how many that are.
    pub(crate) fn end_all(
        &mut self,
        frame: &CloseFrame,
        rules: &Rules,
        wakes: &mut Wakes,
        which: impl Fn(u64) -> bool,
    ) -> usize {
        let ending = Ending::Close(frame.clone());
        let logins: Vec<_> =
            self.sessions.iter().map(|session| session.login).filter(|&it| which(it)).collect();
        logins.into_iter().filter(|&login| self.end(login, ending.clone(), rules, wakes)).count()
    }

    /// The connection of this login takes no more messages. Returns whether it did until now.
    pub(crate) fn end(&mut self, login: u64, ending: Ending, rules: &Rules, wakes: &mut Wakes) -> bool {
        let Some(session) = self.session(login) else { return false };
        if matches!(session.ending, Some(Ending::Close(_))) {
            return false;
        }
        let was_live = session.is_live();
        let left = match ending {
            Ending::Close(_) => session.queue.take(),
            // what is stored comes before it, and is not sent any more
            Ending::Finish if session.stored != Stock::None => session.queue.take(),
            Ending::Finish => VecDeque::new(),
        };
        session.ending = Some(ending);
        wakes.add(session.waker.take());
        self.rescue(left, rules, wakes);
        was_live
    }

    /// The connection of this login is over. Removes this one, and no other.
    pub(crate) fn leave(&mut self, login: u64, rules: &Rules, wakes: &mut Wakes) {
        if let Some(at) = self.sessions.iter().position(|session| session.login == login) {
            let mut session = self.sessions.remove(at);
            self.rescue(session.queue.take(), rules, wakes);
            if session.stored != Stock::None {
                self.restock(wakes);
            }
        }
    }

    /// What a connection could not send is kept for the user: another connection of theirs fetches it from the store, or,
    /// where there is none, has it queued.
    fn rescue(&mut self, left: VecDeque<Queued>, rules: &Rules, wakes: &mut Wakes) {
        // one at a time: whether a copy is the last one depends on those before it being gone
        for item in left {
            if item.is_last_hope() {
                self.to_store.push_back(item.message);
            }
        }
        if !self.is_unsettled() {
            return;
        }
        if rules.has_store {
            return self.restock(wakes);
        }
        let messages = std::mem::take(&mut self.to_store);
        if let Some(session) = self.live_session() {
            for message in messages {
                session.queue.append(Queued { message, keep: Keep::Store });
            }
            wakes.add(session.waker.take());
        }
    }

    /// There are messages in the store that one of the user's connections is to send.
    pub(crate) fn restock(&mut self, wakes: &mut Wakes) {
        if let Some(session) = self.live_session() {
            session.stored = Stock::Some;
            wakes.add(session.waker.take());
        }
    }

    /// What was taken from the store could not be sent: it goes back, in front.
    pub(crate) fn give_back(&mut self, mut unsent: Vec<Stored>, rules: &Rules, wakes: &mut Wakes) {
        unsent.append(&mut self.to_restore);
        self.to_restore = unsent;
        self.rescue(VecDeque::new(), rules, wakes);
    }

    /// Queues a message on the connections of the user. If it is to be kept, it is stored where it cannot be sent.
    ///
    /// It must not be stored before what still waits for a connection whose handler has returned: so that is stored, too.
    pub(crate) fn offer(
        &mut self,
        message: &PreparedMessage,
        kept: bool,
        rules: &Rules,
        wakes: &mut Wakes,
    ) -> Offered {
        let keep = match (kept, self.live()) {
            (false, _) => Keep::Drop,
            (true, 0 | 1) => Keep::Store,
            (true, _) => Keep::Shared(Arc::new(AtomicBool::new(false))),
        };
        if kept && rules.has_store && self.live() == 0 {
            let left = self.sessions.iter_mut().flat_map(|session| session.queue.take()).collect();
            self.rescue(left, rules, wakes);
        }
        let mut offered = Offered::default();
        let mut overflowed = Vec::new();
        for session in self.sessions.iter_mut().filter(|session| session.is_live()) {
            let item = Queued { message: message.clone(), keep: keep.clone() };
            match session.queue.push(item, &rules.limits) {
                Ok(dropped) => {
                    offered.queued += 1;
                    offered.dropped += dropped;
                    wakes.add(session.waker.take());
                }
                Err(reason) => {
                    offered.refused = Some(reason);
                    if rules.limits.disconnects(reason) {
                        overflowed.push(session.login);
                    }
                }
            }
        }
        drop(keep);
        offered.overflowed = overflowed.len();
        for login in overflowed {
            let frame = CloseFrame::new(close_code::OVERFLOW, "messages come faster than they are read");
            self.end(login, Ending::Close(frame), rules, wakes);
        }
        offered
    }

    /// Sends what is queued for the connection of this login, and says what its task is to do then.
    pub(crate) fn advance(
        &mut self,
        login: u64,
        rules: &Rules,
        cx: &Context<'_>,
        send: impl Fn(&PreparedMessage) -> Result<(), TrySendError>,
    ) -> Next {
        let Some(session) = self.session(login) else { return Next::Done };
        match (&session.ending, session.stored) {
            (Some(Ending::Close(frame)), _) => return Next::Close(frame.clone()),
            (_, Stock::None) => {}
            // what is queued comes after what is stored, so it is not sent before
            (Some(Ending::Finish), _) => return Next::Done,
            (None, _) => return Next::CatchUp,
        }
        let mut is_full = false;
        while let Some(item) = session.queue.unsent() {
            match send(&item.message) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    is_full = true;
                    break;
                }
                Err(_) => return Next::Done,
            }
            session.queue.mark_sent();
            if rules.guarantee == Guarantee::AtMostOnce
                && let Some(until) = session.queue.unconfirmed()
            {
                session.queue.confirm(until);
            }
        }
        // while it waits for room or for an answer, it is to learn that it ends
        session.waker = Some(cx.waker().clone());
        match (session.queue.unconfirmed(), is_full, &session.ending) {
            (Some(until), ..) => Next::Confirm(until),
            (None, true, _) => Next::WaitForRoom,
            (None, false, Some(_)) => Next::Done,
            (None, false, None) => Next::Idle,
        }
    }

    /// Sends a message of the store on the connection of this login, and says what its task is to do if it could not be.
    pub(crate) fn send_stored(
        &mut self,
        login: u64,
        cx: &Context<'_>,
        send: impl FnOnce() -> Result<(), TrySendError>,
    ) -> Result<(), Next> {
        let Some(session) = self.session(login) else { return Err(Next::Done) };
        if session.ending.is_some() {
            return Err(Next::Done);
        }
        session.waker = Some(cx.waker().clone());
        match send() {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Next::WaitForRoom),
            Err(_) => Err(Next::Done),
        }
    }

    /// The connection of this login is about to look into the store. Not if there are messages that have to be stored
    /// before: returns whether it may.
    pub(crate) fn looks(&mut self, login: u64) -> bool {
        if self.is_unsettled() {
            return false;
        }
        if let Some(session) = self.session(login) {
            session.stored = Stock::Looking;
        }
        true
    }

    /// There was nothing in the store when its task looked.
    pub(crate) fn mark_caught_up(&mut self, login: u64) {
        if let Some(session) = self.session(login)
            && session.stored == Stock::Looking
        {
            session.stored = Stock::None;
        }
    }

    /// What is stored cannot be had: the connection goes on without it.
    pub(crate) fn gives_up(&mut self, login: u64) {
        if let Some(session) = self.session(login) {
            session.stored = Stock::None;
        }
    }

    /// Ready when the connection of this login takes no more messages. Until then its task is woken when that changes.
    pub(crate) fn poll_ending(&mut self, login: u64, cx: &Context<'_>) -> Poll<()> {
        match self.session(login) {
            Some(session) if session.is_live() => {
                session.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Ready when the connection of this login is to be closed. Until then its task is woken when that changes.
    pub(crate) fn poll_closing(&mut self, login: u64, cx: &Context<'_>) -> Poll<()> {
        match self.session(login) {
            Some(session) if !matches!(session.ending, Some(Ending::Close(_))) => {
                session.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// What was sent on the connection of this login until then has arrived.
    pub(crate) fn confirm(&mut self, login: u64, until: u64) {
        if let Some(session) = self.session(login) {
            session.queue.confirm(until);
        }
    }
}

#[cfg(test)]
mod tests;
