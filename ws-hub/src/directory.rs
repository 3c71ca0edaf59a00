//! Who is logged in where, and how far each login has brought the messages of its user: what nodes have to agree on.
//!
//! The cursor of a user moves with the logins that cover it: those that start at or before it. If the last one of these
//! ends, the newest of the others is told to start at the cursor; so what nobody confirmed reaches a connection.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::Ordering::Relaxed;

use ws_core::CloseFrame;

use crate::backplane::Unsent;
use crate::log::{Appended, Handover};
use crate::position::Position;

/// Kicks that are remembered, for connections that have not heard of them.
const FENCES: usize = 1024;

/// Logouts that gave messages back and are remembered, in case that they are repeated.
const GIVEN_BACK: usize = 1024;

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
    /// Connections that have given back what they did not send.
    given_back: VecDeque<Place>,
    away: HashMap<U, Away>,
}

/// The logins of a user that are over without their connections having ended: their nodes are thought to be gone, or have not
/// heard of it.
#[derive(Default)]
struct Away {
    /// The last position that they know.
    known: Option<Position>,
    logins: Vec<(Place, u64)>,
    /// Those up to this one stay over: a newer one has come, and gets what is to be sent.
    outranked: u64,
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

/// What was read for a login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    /// What was read comes after this message.
    pub(crate) after: u64,
    /// Up to where all is delivered, as the log says.
    pub(crate) cursor: u64,
    pub(crate) top: Option<Position>,
    /// Whether the client has got everything up to `after`, it says.
    pub(crate) goes_on: bool,
}

/// A login gets messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// It starts after this one.
    pub(crate) start: u64,
    /// Another login that starts elsewhere now.
    pub(crate) restock: Option<Restock>,
}

/// A login is over. With the frame if the user was disconnected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over(pub(crate) Option<CloseFrame>);

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

/// A login that a node holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asserted {
    pub(crate) number: u64,
    pub(crate) place: Place,
    /// Up to where it has acknowledged.
    pub(crate) confirmed: u64,
    /// Up to where all is delivered, as the log says.
    pub(crate) cursor: u64,
    pub(crate) limit: Option<usize>,
    pub(crate) replace: bool,
}

/// How it is with a login that a node holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reasserted {
    pub(crate) verdict: Verdict,
    /// Another login that starts elsewhere now.
    pub(crate) restock: Option<Restock>,
    /// The nodes of the logins that went for it.
    pub(crate) replaced: Vec<usize>,
}

impl Reasserted {
    fn only(verdict: Verdict) -> Self {
        Self { verdict, restock: None, replaced: Vec::new() }
    }
}

impl Logins {
    fn new(cursor: u64) -> Self {
        Self { cursor, has_given_back: false, known: None, logins: Vec::with_capacity(1) }
    }

    fn find(&mut self, number: u64) -> Option<&mut Login> {
        self.logins.iter_mut().find(|login| login.number == number)
    }

    fn is_covered(&self) -> bool {
        self.logins.iter().any(|login| login.start.is_none_or(|start| start <= self.cursor))
    }

    /// Moves the cursor as far as the logins that cover it have come.
    fn advance(&mut self) {
        if let [only] = &*self.logins {
            // as nearly always
            if only.start.is_some_and(|start| start <= self.cursor) {
                self.cursor = self.cursor.max(only.confirmed);
            }
            return;
        }
        loop {
            let covering = self.logins.iter().filter(|it| it.start.is_some_and(|start| start <= self.cursor));
            match covering.map(|login| login.confirmed).max() {
                Some(confirmed) if confirmed > self.cursor => self.cursor = confirmed,
                _ => return,
            }
        }
    }

    /// Moves the cursor back to what was not sent, unless another login has brought that. What came after it must be known to
    /// those who are there: else they would get it twice.
    fn give_back(&mut self, unsent: Unsent) -> bool {
        let Unsent { after, upto, .. } = unsent;
        let has_brought = |from: u64| {
            let mut logins = self.logins.iter();
            logins.any(|it| it.start.is_some_and(|start| start <= from) && it.confirmed >= self.cursor)
        };
        if self.cursor <= after || has_brought(after) || (self.cursor > upto && !has_brought(upto)) {
            return false;
        }
        self.cursor = after;
        self.has_given_back = true;
        true
    }

    /// Whether a login covers the cursor, and has brought all before it.
    fn may_hand_to(&self, handover: &Handover) -> bool {
        let Handover { login, start, last: (last, _), .. } = *handover;
        let mut logins = self.logins.iter().filter(|it| it.number == login);
        self.cursor == last && start <= last && logins.any(|it| it.start == Some(start))
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
        Self {
            users: HashMap::new(),
            last_login: 0,
            fences: VecDeque::new(),
            given_back: VecDeque::new(),
            away: HashMap::new(),
        }
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
        let entry = self.users.entry(user.clone()).or_insert_with(|| Logins::new(0));
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
            for login in entry.logins.drain(..) {
                self.away.entry(user.clone()).or_default().logins.push((login.place, login.number));
                replaced.push(login.place.node);
            }
        }
        if (replace || limit == Some(1))
            && let Some(away) = self.away.get_mut(user)
        {
            away.outranked = self.last_login;
            entry.known = later(entry.known, away.known);
        }
        let is_covered = !entry.logins.is_empty() && entry.is_covered();
        self.last_login += 1;
        let number = self.last_login;
        if entry.logins.capacity() == 0 {
            // most users have one login, and a vector that grows by itself has room for four
            entry.logins.reserve_exact(1);
        }
        entry.logins.push(Login { number, place, start: None, confirmed: 0 });
        Ok(Begun { number, replaced, is_covered })
    }

    /// The first messages of a login were read. Returns where it starts, and who else starts elsewhere now.
    pub(crate) fn start(&mut self, user: &U, number: u64, first: &First) -> Result<Started, Over> {
        let over = self.over(user, number);
        let Some(entry) = self.users.get_mut(user) else { return Err(over) };
        // what a client says that it has got is never given back
        if !entry.has_given_back || first.goes_on {
            entry.cursor = entry.cursor.max(first.cursor);
        }
        entry.known = later(entry.known, first.top);
        let cursor = entry.cursor;
        let Some(login) = entry.find(number) else { return Err(over) };
        // what others have acknowledged may have been under way to the log when it was read
        let start = if first.goes_on { first.after } else { first.after.max(cursor) };
        login.start = Some(start);
        login.confirmed = start;
        entry.advance();
        Ok(match entry.cover() {
            Some(restock) if restock.login == number => Started { start: restock.from, restock: None },
            restock => Started { start, restock },
        })
    }

    /// A login is over. If it has acknowledged messages that it did not send, and nobody else has brought them to the user, the
    /// cursor goes back; `cursor` is where the log has it. Returns whether it did, and who starts elsewhere now. If it did, the
    /// log is to be told, and then [`given_back`](Self::given_back) called.
    pub(crate) fn end(
        &mut self,
        user: &U,
        place: Place,
        unsent: Option<Unsent>,
        cursor: u64,
    ) -> (bool, Option<Restock>) {
        self.take_away(user, place);
        let unsent = unsent.filter(|_| !self.given_back.contains(&place));
        if !self.users.contains_key(user) {
            // its login went before; nobody has got anything since, if the cursor is still where it was
            let is_there = |it: &Unsent| it.after < cursor && (it.acknowledged..=it.upto).contains(&cursor);
            let Some(Unsent { after, .. }) = unsent.filter(is_there) else { return (false, None) };
            let entry = Logins { has_given_back: true, ..Logins::new(after) };
            self.users.insert(user.clone(), entry);
            return (true, None);
        }
        let Some(entry) = self.users.get_mut(user) else { return (false, None) };
        entry.logins.retain(|login| login.place != place);
        let gives_back = unsent.is_some_and(|unsent| {
            // a logout that failed when the log was told is repeated
            entry.cursor == unsent.after && entry.has_given_back || entry.give_back(unsent)
        });
        let restock = entry.cover();
        if entry.logins.is_empty() && !gives_back {
            self.users.remove(user);
        }
        (gives_back, restock)
    }

    /// The log has what a login gave back. Returns where the cursor is now, which may have moved since.
    pub(crate) fn given_back(&mut self, user: &U, place: Place) -> Option<u64> {
        if self.given_back.len() == GIVEN_BACK {
            self.given_back.pop_front();
        }
        self.given_back.push_back(place);
        let cursor = self.users.get(user)?.cursor;
        if self.users[user].logins.is_empty() {
            self.users.remove(user);
        }
        Some(cursor)
    }

    /// All logins of a node are over: for good, or until it [reasserts](Self::reassert) them.
    pub(crate) fn end_all_of(&mut self, node: usize, for_good: bool) -> Vec<(U, Restock)> {
        let away = &mut self.away;
        if for_good {
            away.retain(|_, away| {
                away.logins.retain(|(place, _)| place.node != node);
                !away.logins.is_empty()
            });
        }
        let mut restocks = Vec::new();
        self.users.retain(|user, entry| {
            for login in entry.logins.extract_if(.., |login| login.place.node == node) {
                if !for_good {
                    let away = away.entry(user.clone()).or_default();
                    away.known = later(away.known, entry.known);
                    away.logins.push((login.place, login.number));
                }
            }
            restocks.extend(entry.cover().map(|restock| (user.clone(), restock)));
            !entry.logins.is_empty()
        });
        restocks
    }

    /// All logins of a user are over, by order of the application. Returns the nodes where they were, each as often as it had
    /// any, and the number up to which logins are over.
    pub(crate) fn close(&mut self, user: &U, frame: &CloseFrame) -> (Vec<usize>, u64) {
        let is_away = self.away.remove(user).is_some();
        let logins = self.users.remove(user).map(|entry| entry.logins);
        if logins.is_none() && !is_away {
            return (Vec::new(), 0);
        }
        let upto = self.last_login;
        if self.fences.len() == FENCES {
            self.fences.pop_front();
        }
        self.fences.push_back((user.clone(), upto, frame.clone()));
        (logins.into_iter().flatten().map(|login| login.place.node).collect(), upto)
    }

    /// With what a login ended that there is no more.
    fn over(&self, user: &U, number: u64) -> Over {
        let fence = self.fences.iter().rev().find(|(of, upto, _)| of == user && *upto >= number);
        Over(fence.map(|(.., frame)| frame.clone()))
    }

    fn gone(&self, user: &U, number: u64) -> Verdict {
        Verdict::Gone(self.over(user, number).0)
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

    /// Has a message appended by `append`, which is told the last position that connections of the user know, and passed the
    /// handover on if the message may be acknowledged with that: if the login covers the cursor, and has brought all before
    /// it. Returns besides the nodes with logins of the user, each as often as it has any.
    pub(crate) fn append<'h, F>(
        &mut self,
        user: &U,
        handover: Option<&'h Handover>,
        append: F,
    ) -> Option<(Appended, impl Iterator<Item = usize> + use<'_, 'h, U, F>)>
    where
        F: FnOnce(Option<Position>, Option<&'h Handover>) -> Option<Appended>,
    {
        let mut entry = self.users.get_mut(user);
        let known = entry.as_ref().and_then(|entry| entry.known);
        let handover = handover.filter(|it| entry.as_ref().is_some_and(|entry| entry.may_hand_to(it)));
        let appended = append(known, handover)?;
        if let (Some(entry), Appended::Logged { position, .. }) = (&mut entry, appended) {
            entry.known = later(entry.known, Some(position));
            if let Some(handover) = handover.filter(|it| it.is_acknowledged.load(Relaxed))
                && let Some(login) = entry.find(handover.login)
            {
                login.confirmed = login.confirmed.max(position.number);
                entry.advance();
            }
        }
        let is_logged = matches!(appended, Appended::Logged { .. });
        let logins = entry.filter(|_| is_logged).into_iter().flat_map(|entry| &entry.logins);
        Some((appended, logins.map(|login| login.place.node)))
    }

    /// A node holds this login, and may have missed something. Puts it back where it went only because the node was thought to
    /// be gone: older ones go for it if `replace` says so.
    pub(crate) fn reassert(&mut self, user: &U, asserted: &Asserted) -> Reasserted {
        let &Asserted { number, place, confirmed, cursor, limit, replace } = asserted;
        if let Some(start) = self.users.get_mut(user).and_then(|entry| entry.find(number)?.start) {
            return Reasserted::only(Verdict::StartsAt(start));
        }
        if let Verdict::Gone(Some(frame)) = self.gone(user, number) {
            return Reasserted::only(Verdict::Gone(Some(frame)));
        }
        if self.away.get(user).is_some_and(|away| number <= away.outranked) {
            return Reasserted::only(Verdict::Gone(None));
        }
        let known = self.known(user);
        let entry = self.users.entry(user.clone()).or_insert_with(|| Logins::new(cursor));
        let is_outranked = replace && entry.logins.iter().any(|login| login.number > number);
        if is_outranked || limit.is_some_and(|limit| entry.logins.len() >= limit) {
            return Reasserted::only(Verdict::Gone(None));
        }
        entry.known = known;
        let mut replaced = Vec::new();
        if replace {
            // older ones that were put back before this one
            replaced.extend(entry.logins.drain(..).map(|login| login.place.node));
        }
        let at = entry.logins.partition_point(|login| login.number < number);
        entry.logins.insert(at, Login { number, place, start: Some(confirmed), confirmed });
        let restock = entry.cover();
        self.take_away(user, place);
        match restock {
            Some(restock) if restock.login == number => {
                Reasserted { verdict: Verdict::StartsAt(restock.from), restock: None, replaced }
            }
            restock => Reasserted { verdict: Verdict::StartsAt(confirmed), restock, replaced },
        }
    }

    /// The connection at this place is not away any more.
    fn take_away(&mut self, user: &U, place: Place) {
        if let Some(away) = self.away.get_mut(user) {
            away.logins.retain(|(of, _)| *of != place);
            if away.logins.is_empty() {
                self.away.remove(user);
            }
        }
    }

    /// The last position that connections of the user know, also those that are away: their log goes on from there.
    pub(crate) fn known(&self, user: &U) -> Option<Position> {
        let here = self.users.get(user).and_then(|entry| entry.known);
        later(here, self.away.get(user).and_then(|away| away.known))
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
        self.users.iter().filter(|(_, entry)| !entry.logins.is_empty()).map(|(user, _)| user)
    }
}

fn later(one: Option<Position>, other: Option<Position>) -> Option<Position> {
    if one.map_or(0, |position| position.number) >= other.map_or(0, |position| position.number) {
        one
    } else {
        other
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::position::MessageId;

    const PLACE: Place = Place { node: 1, connection: 1 };

    /// A log that acknowledges whatever it is handed. Returns whether it was handed something.
    fn append(directory: &mut Directory<u8>, handover: &Handover, number: u64) -> bool {
        let appended = directory.append(&7, Some(handover), |_, handover| {
            if let Some(handover) = handover {
                handover.is_acknowledged.store(true, Relaxed);
            }
            let position = Position::new(number, MessageId::new(number));
            Some(Appended::Logged { position, previous: None, evicted: 0 })
        });
        assert_eq!(appended.map(|(_, nodes)| nodes.count()), Some(1));
        handover.is_acknowledged.load(Relaxed)
    }

    fn handover(login: u64, start: u64, last: u64) -> Handover {
        Handover { login, start, last: (last, None), is_acknowledged: AtomicBool::new(false) }
    }

    fn log_in(directory: &mut Directory<u8>, place: Place) -> u64 {
        let number = directory.begin(&7, place, None, true).unwrap().number;
        let cursor = directory.users[&7].cursor;
        let first = First { after: cursor, cursor, top: None, goes_on: false };
        assert_eq!(directory.start(&7, number, &first).unwrap().start, cursor);
        number
    }

    #[test]
    fn a_message_is_acknowledged_with_its_append_if_the_login_has_brought_all_before_it() {
        let mut directory = Directory::new();
        let login = log_in(&mut directory, PLACE);
        for number in 1..=3 {
            assert!(append(&mut directory, &handover(login, 0, number - 1), number));
        }
        assert_eq!(directory.acknowledge(&7, login, 0, 0), Verdict::Cursor(3));

        // the fourth goes another way, and nobody has confirmed it yet
        assert!(!append(&mut directory, &handover(login, 0, 4), 5));
        assert_eq!(directory.acknowledge(&7, login, 0, 0), Verdict::Cursor(3));
    }

    #[test]
    fn a_message_is_not_acknowledged_with_its_append_for_a_login_that_is_over_or_starts_elsewhere() {
        let mut directory = Directory::new();
        let earlier = log_in(&mut directory, PLACE);
        assert!(!append(&mut directory, &handover(earlier, 1, 1), 1), "it starts at 0");
        let login = log_in(&mut directory, Place { connection: 2, ..PLACE });
        assert!(!append(&mut directory, &handover(earlier, 0, 0), 1), "it was replaced");
        assert!(append(&mut directory, &handover(login, 0, 0), 1));
    }
}
