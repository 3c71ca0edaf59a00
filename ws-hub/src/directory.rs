//! Who is logged in where, and how far each login has brought the messages of its user: what nodes have to agree on.
//!
//! The cursor of a user moves with the logins that cover it: those that start at or before it. If the last one of these
//! ends, the newest of the others is told to start at the cursor; so what nobody confirmed reaches a connection.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use ws_core::CloseFrame;

use crate::position::Position;

/// Kicks that are remembered, for connections that have not heard of them.
const FENCES: usize = 1024;

/// A connection, by the number of its node and its own there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) node: usize,
    pub(crate) connection: u64,
}

pub(crate) struct Directory<U> {
    users: HashMap<U, Logins>,
    last_login: u64,
    fences: VecDeque<(U, u64, CloseFrame)>,
}

struct Logins {
    cursor: u64,
    /// The cursor has gone back: what was read of the log before is of the past.
    has_given_back: bool,
    /// The last message that was appended while somebody was logged in.
    known: Option<Position>,
    /// In the order of their numbers.
    logins: Vec<Login>,
}

#[derive(Clone, Copy, Debug)]
struct Login {
    number: u64,
    place: Place,
    /// `None` while its first messages are read.
    start: Option<u64>,
    confirmed: u64,
}

/// A login was let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    /// The nodes of the logins that went for it.
    pub(crate) replaced: Vec<usize>,
    /// Whether another login covers the cursor, so that this one starts at the end of the log.
    pub(crate) is_covered: bool,
}

/// The user has as many logins as they may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// A login starts elsewhere from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restock {
    pub(crate) node: usize,
    pub(crate) login: u64,
    pub(crate) from: u64,
}

/// What came of an acknowledgement, or of asking whether a login still is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The cursor is here.
    Cursor(u64),
    /// The login starts here, not where it said.
    StartsAt(u64),
    /// There is no such login any more. With the frame if the user was disconnected.
    Gone(Option<CloseFrame>),
}

impl Logins {
    fn find(&mut self, number: u64) -> Option<&mut Login> {
        self.logins.iter_mut().find(|login| login.number == number)
    }

    fn is_covered(&self) -> bool {
        self.logins.iter().any(|login| login.start.is_none_or(|start| start <= self.cursor))
    }

    /// Moves the cursor as far as the logins that cover it have come.
    fn advance(&mut self) {
        loop {
            let covering = self.logins.iter().filter(|it| it.start.is_some_and(|start| start <= self.cursor));
            match covering.map(|login| login.confirmed).max() {
                Some(confirmed) if confirmed > self.cursor => self.cursor = confirmed,
                _ => return,
            }
        }
    }

    /// Moves the cursor back, unless another login has brought what comes after it.
    fn give_back(&mut self, number: u64) -> bool {
        let has_other = |login: &Login| {
            login.start.is_some_and(|start| start <= number) && login.confirmed >= self.cursor
        };
        if self.cursor <= number || self.logins.iter().any(has_other) {
            return false;
        }
        self.cursor = number;
        self.has_given_back = true;
        true
    }

    /// If no login covers the cursor, the newest one starts there from now on.
    fn cover(&mut self) -> Option<Restock> {
        if self.is_covered() {
            return None;
        }
        let newest = self.logins.last_mut()?;
        newest.start = Some(self.cursor);
        newest.confirmed = self.cursor;
        Some(Restock { node: newest.place.node, login: newest.number, from: self.cursor })
    }
}

impl<U: Clone + Eq + Hash> Directory<U> {
    pub(crate) fn new() -> Self {
        Self { users: HashMap::new(), last_login: 0, fences: VecDeque::new() }
    }

    /// Lets a login in, in place of others if `replace` says so. Its first messages are to be read, and then
    /// [`start`](Self::start) called.
    pub(crate) fn begin(
        &mut self,
        user: &U,
        place: Place,
        limit: Option<usize>,
        replace: bool,
    ) -> Result<Begun, TooMany> {
        let entry = self.users.entry(user.clone()).or_insert_with(|| Logins {
            cursor: 0,
            has_given_back: false,
            known: None,
            logins: Vec::with_capacity(1),
        });
        if let Some(login) = entry.logins.iter().find(|login| login.place == place) {
            // the answer to an earlier call was lost
            let number = login.number;
            let is_covered = entry
                .logins
                .iter()
                .any(|it| it.number != number && it.start.is_some_and(|at| at <= entry.cursor));
            return Ok(Begun { number, replaced: Vec::new(), is_covered });
        }
        if limit.is_some_and(|limit| entry.logins.len() >= limit) {
            return Err(TooMany);
        }
        let mut replaced = Vec::new();
        if replace {
            replaced.extend(entry.logins.drain(..).map(|login| login.place.node));
        }
        let is_covered = !entry.logins.is_empty() && entry.is_covered();
        self.last_login += 1;
        let number = self.last_login;
        entry.logins.push(Login { number, place, start: None, confirmed: 0 });
        Ok(Begun { number, replaced, is_covered })
    }

    /// The first messages of a login are read: it starts after the message `start`, and the cursor is at least at `cursor`.
    /// Returns whether it still is one, and who starts elsewhere now.
    pub(crate) fn start(
        &mut self,
        user: &U,
        number: u64,
        start: u64,
        cursor: u64,
        top: Option<Position>,
    ) -> (bool, Option<Restock>) {
        let Some(entry) = self.users.get_mut(user) else { return (false, None) };
        if !entry.has_given_back {
            entry.cursor = entry.cursor.max(cursor);
        }
        entry.known = later(entry.known, top);
        let Some(login) = entry.find(number) else { return (false, None) };
        login.start = Some(start);
        login.confirmed = start;
        entry.advance();
        (true, entry.cover())
    }

    /// A login is over. If it has acknowledged messages after `unsent_after` that it did not send, and nobody else has brought
    /// them to the user, the cursor goes back. Returns whether it did, and who starts elsewhere now.
    pub(crate) fn end(
        &mut self,
        user: &U,
        place: Place,
        unsent_after: Option<u64>,
    ) -> (bool, Option<Restock>) {
        let Some(entry) = self.users.get_mut(user) else { return (unsent_after.is_some(), None) };
        let at = entry.logins.iter().position(|login| login.place == place);
        if let Some(at) = at {
            entry.logins.remove(at);
        }
        let gives_back = unsent_after.is_some_and(|number| entry.give_back(number));
        let restock = entry.cover();
        if entry.logins.is_empty() {
            self.users.remove(user);
        }
        (gives_back, restock)
    }

    /// All logins of a node are over, as when its process is gone.
    pub(crate) fn end_all_of(&mut self, node: usize) -> Vec<(U, Restock)> {
        let mut restocks = Vec::new();
        self.users.retain(|user, entry| {
            entry.logins.retain(|login| login.place.node != node);
            restocks.extend(entry.cover().map(|restock| (user.clone(), restock)));
            !entry.logins.is_empty()
        });
        restocks
    }

    /// All logins of a user are over, by order of the application. Returns the nodes where they were, each as often as it had
    /// any, and the number up to which logins are over.
    pub(crate) fn close(&mut self, user: &U, frame: &CloseFrame) -> (Vec<usize>, u64) {
        let Some(entry) = self.users.remove(user) else { return (Vec::new(), 0) };
        let upto = self.last_login;
        if self.fences.len() == FENCES {
            self.fences.pop_front();
        }
        self.fences.push_back((user.clone(), upto, frame.clone()));
        (entry.logins.iter().map(|login| login.place.node).collect(), upto)
    }

    fn gone(&self, user: &U, number: u64) -> Verdict {
        let fence = self.fences.iter().rev().find(|(of, upto, _)| of == user && *upto >= number);
        Verdict::Gone(fence.map(|(.., frame)| frame.clone()))
    }

    /// A login has brought everything up to a message to its user.
    pub(crate) fn acknowledge(&mut self, user: &U, number: u64, start: u64, upto: u64) -> Verdict {
        let Some(entry) = self.users.get_mut(user) else { return self.gone(user, number) };
        let Some(login) = entry.find(number) else { return self.gone(user, number) };
        match login.start {
            Some(at) if at != start => return Verdict::StartsAt(at),
            _ => login.confirmed = login.confirmed.max(upto),
        }
        entry.advance();
        Verdict::Cursor(entry.cursor)
    }

    /// A node holds this login, and may have missed something. Puts it back where it went only because the node was thought to
    /// be gone. Returns where it starts now, and who else starts elsewhere.
    pub(crate) fn reassert(
        &mut self,
        user: &U,
        number: u64,
        place: Place,
        confirmed: u64,
        limit: Option<usize>,
        replace: bool,
    ) -> (Verdict, Option<Restock>) {
        if let Some(start) = self.users.get_mut(user).and_then(|entry| entry.find(number)?.start) {
            return (Verdict::StartsAt(start), None);
        }
        if let Verdict::Gone(Some(frame)) = self.gone(user, number) {
            return (Verdict::Gone(Some(frame)), None);
        }
        let entry = self.users.entry(user.clone()).or_insert_with(|| Logins {
            cursor: confirmed,
            has_given_back: false,
            known: None,
            logins: Vec::with_capacity(1),
        });
        let is_outranked = replace && entry.logins.iter().any(|login| login.number > number);
        if is_outranked || limit.is_some_and(|limit| entry.logins.len() >= limit) {
            return (Verdict::Gone(None), None);
        }
        let at = entry.logins.partition_point(|login| login.number < number);
        entry.logins.insert(at, Login { number, place, start: Some(confirmed), confirmed });
        let restock = entry.cover();
        match restock {
            Some(restock) if restock.login == number => (Verdict::StartsAt(restock.from), None),
            other => (Verdict::StartsAt(confirmed), other),
        }
    }

    /// The last position that connections of the user know.
    pub(crate) fn known(&self, user: &U) -> Option<Position> {
        self.users.get(user)?.known
    }

    /// A message was appended. Returns the nodes with logins of the user, each as often as it has any.
    pub(crate) fn appended(
        &mut self,
        user: &U,
        position: Position,
    ) -> impl Iterator<Item = usize> + use<'_, U> {
        let entry = self.users.get_mut(user);
        let logins = entry.map(|entry| {
            entry.known = later(entry.known, Some(position));
            entry.logins.iter().map(|login| login.place.node)
        });
        logins.into_iter().flatten()
    }

    /// How many logins a user has.
    pub(crate) fn count(&self, user: &U) -> usize {
        self.users.get(user).map_or(0, |entry| entry.logins.len())
    }

    pub(crate) fn users(&self) -> impl Iterator<Item = &U> {
        self.users.keys()
    }
}

fn later(one: Option<Position>, other: Option<Position>) -> Option<Position> {
    if one.map_or(0, |position| position.number) >= other.map_or(0, |position| position.number) {
        one
    } else {
        other
    }
}
