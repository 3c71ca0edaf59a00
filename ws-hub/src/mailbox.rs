//! [`Mailbox`]: what the hub keeps for one connection. It is a window on the log of its user, and a queue of messages that
//! are for those who are there.
//!
//! It does no I/O and waits for nothing. Messages are offered to it; each goes straight to the connection while nothing
//! waits before it and the connection has room. The session, which runs in the task of the connection, asks it what to do
//! next, and tells it what came of that.
//!
//! The log is written before anything is offered. So a message of the log for which there is no room is simply not kept: the
//! mailbox is then *behind*, and reads the log when it has room. The next message that it may send is always the one after
//! `last`; a number that is greater tells that it has missed something.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::task::{Context, Waker};

use ws_core::{CloseFrame, PreparedMessage, Sender, TrySendError};

use crate::backplane::{Acked, LoggedIn, Unsent};
use crate::close_code;
use crate::config::{Confirm, Guarantee, Limits, Overflow, Rules};
use crate::log::{After, Continuity, Page, Read};
use crate::position::{MessageId, Position};

/// Messages that are acknowledged at once before they are sent, at most: fewer than a log keeps of those that are acknowledged,
/// so that they can be given back.
const CLAIMED: u64 = 32;

/// Ranges of messages that are remembered because they were sent, at most: others may be sent twice.
const EARLIER: usize = 8;

/// What one connection has to get.
pub(crate) struct Mailbox {
    /// The number of the connection on this node.
    pub(crate) connection: u64,
    pub(crate) login: u64,
    sender: Sender,
    /// The task of the session.
    waker: Option<Waker>,
    phase: Phase,
    /// What was said of logins before its own number was known: those up to this one are over; these start there.
    over: Option<(u64, CloseFrame)>,
    early: Vec<(u64, u64)>,
    log: Window,
    queue: VecDeque<Item>,
    load: Load,
    stuck: Stuck,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Its login is not answered yet.
    Entering,
    Open,
    /// Its handler has returned: what is queued is sent, and nothing more is taken.
    Finishing,
    /// It is to be closed; nothing more is sent.
    Closing(CloseFrame),
}

/// How far the messages of the log have come. All are numbers of messages.
struct Window {
    /// The login starts after this one.
    start: u64,
    /// The last one that was queued or sent.
    last: u64,
    last_id: Known,
    sent: u64,
    /// Those up to this one the client has got.
    arrived: u64,
    /// Those up to this one are acknowledged.
    acknowledged: u64,
    /// Those up to this one were acknowledged before they were sent, or may have been.
    claimed: u64,
    /// An acknowledgement of some of these failed, and may have been done.
    is_claim_doubtful: bool,
    /// A ping is on its way behind some of them.
    is_pinging: bool,
    /// The login was told to start elsewhere since that ping was sent.
    is_ping_old: bool,
    source: Source,
    /// A call of the log is not answered yet.
    is_calling: bool,
    /// Those that were sent before the login was told to start elsewhere: ranges with gaps between them, in order.
    earlier: Vec<RangeInclusive<u64>>,
}

/// The id of a message, if the mailbox knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Id(Option<MessageId>),
    Unknown,
}

/// Where the next message of the log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// It is offered.
    Offered,
    /// It has to be read.
    Log,
    /// It is being read. Others may have been offered meanwhile.
    Reading { has_missed: bool },
}

struct Item {
    message: PreparedMessage,
    /// Its number, if it is of the log.
    number: Option<u64>,
}

/// How much is queued: of the log, and of the rest.
#[derive(Debug, Default)]
struct Load {
    logged: Amount,
    other: Amount,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    messages: usize,
    bytes: usize,
}

impl Amount {
    fn add(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len;
    }

    fn remove(&mut self, len: usize) {
        self.messages -= 1;
        self.bytes -= len;
    }

    fn takes(&self, len: usize, limits: &Limits) -> bool {
        self.messages < limits.messages && self.bytes + len <= limits.bytes
    }
}

/// Whether the client is known not to read, or only its task has not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    No,
    /// The queue is full. The task of the connection is to say whether the connection takes any of it.
    Asked,
    /// The connection is full, and has not been written since.
    Tried,
    /// The connection is still full after it was written.
    Yes,
}

/// What became of a message that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// The connection has it.
    Sent,
    /// It waits. So many older ones went for it.
    Queued { dropped: usize },
    /// It is in the log, and will be read there, or was sent before.
    Logged,
    /// The queue is full, and it is not known yet whether the client reads.
    Crowded,
    /// There is no room for it, and the policy says that it goes.
    Dropped,
    /// It is larger than the queue.
    TooLarge,
    /// The connection is closed because of it.
    Overflowed,
    /// The connection takes nothing any more, or not yet.
    Refused,
}

/// What the session is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait to be woken. If `wants_room`, also for room in the connection.
    Wait { wants_room: bool },
    /// Read the log, then call [`Mailbox::read`].
    Read(After),
    /// Acknowledge up to this message, then call [`Mailbox::acknowledged`].
    Acknowledge { start: u64, upto: u64 },
    /// Send a ping, and call [`Mailbox::ponged`] when it is answered.
    Ping(u64),
    /// Close.
    Close(CloseFrame),
    /// Nothing more comes, or can be sent.
    Done,
}

/// How a mailbox gets at what is outside of it.
pub(crate) struct Hands<'a> {
    pub(crate) rules: &'a Rules,
    /// Whether the log can acknowledge at once.
    pub(crate) is_immediate: bool,
    /// Acknowledges at once (login, start, upto), where the log can.
    pub(crate) acknowledge: &'a dyn Fn(u64, u64, u64) -> Option<Acked>,
    /// Counts a message that was handed to the connection.
    pub(crate) sent: &'a dyn Fn(),
}

impl Window {
    /// Remembers what was sent since the start: it is not sent once more.
    fn keep_sent(&mut self) {
        let (mut first, mut last) = (self.start + 1, self.sent);
        if first > last {
            return;
        }
        self.earlier.retain(|range| {
            let touches = *range.start() <= last + 1 && first <= *range.end() + 1;
            if touches {
                first = first.min(*range.start());
                last = last.max(*range.end());
            }
            !touches
        });
        let at = self.earlier.partition_point(|range| *range.start() < first);
        self.earlier.insert(at, first..=last);
        if self.earlier.len() > EARLIER {
            self.earlier.remove(0);
        }
    }
}

impl Mailbox {
    pub(crate) fn new(connection: u64, sender: Sender) -> Self {
        Self {
            connection,
            login: 0,
            sender,
            waker: None,
            phase: Phase::Entering,
            over: None,
            early: Vec::new(),
            log: Window {
                start: 0,
                last: 0,
                last_id: Known::Unknown,
                sent: 0,
                arrived: 0,
                acknowledged: 0,
                claimed: 0,
                is_claim_doubtful: false,
                is_pinging: false,
                is_ping_old: false,
                source: Source::Reading { has_missed: false },
                is_calling: false,
                earlier: Vec::new(),
            },
            queue: VecDeque::new(),
            load: Load::default(),
            stuck: Stuck::No,
        }
    }

    /// Whether it is one that messages go to.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether its login is not answered yet.
    pub(crate) fn is_entering(&self) -> bool {
        self.phase == Phase::Entering
    }

    /// Whether it is to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// What it is to be closed with.
    pub(crate) fn close_frame(&self) -> Option<CloseFrame> {
        if let Phase::Closing(frame) = &self.phase { Some(frame.clone()) } else { None }
    }

    /// After which message its login starts.
    pub(crate) fn start(&self) -> u64 {
        self.log.start
    }

    /// Up to where its messages are acknowledged, and sent.
    pub(crate) fn confirmed(&self) -> u64 {
        self.log.acknowledged.min(self.log.sent)
    }

    /// What is acknowledged already, or may be, and was not sent.
    pub(crate) fn unsent(&self) -> Option<Unsent> {
        let Window { sent, acknowledged, claimed, .. } = self.log;
        (claimed > sent).then_some(Unsent { after: sent, acknowledged, upto: claimed })
    }

    /// What has arrived and is not acknowledged, as start and last message.
    pub(crate) fn unacknowledged(&self) -> Option<(u64, u64)> {
        (self.log.arrived > self.log.acknowledged).then_some((self.log.start, self.log.arrived))
    }

    fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.waker.take());
    }

    /// Its login was answered. Returns whether messages go to it from now on: the login may be over already.
    pub(crate) fn enter(&mut self, logged_in: LoggedIn, page: Page, wakes: &mut Vec<Waker>) -> bool {
        self.login = logged_in.login;
        if let Some((upto, frame)) = self.over.take()
            && self.login <= upto
        {
            self.end(Phase::Closing(frame), wakes);
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
        for (login, from) in std::mem::take(&mut self.early) {
            if login == self.login {
                self.start_at(from, wakes);
            }
        }
        self.wake(wakes);
        self.is_open()
    }

    /// Offers a message that is in the log.
    pub(crate) fn offer_logged(
        &mut self,
        position: Position,
        previous: Option<MessageId>,
        message: &PreparedMessage,
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
        let follows = position.number == self.log.last + 1
            && (self.log.last_id == Known::Unknown || self.log.last_id == Known::Id(previous));
        if !follows {
            return self.fall_behind(wakes);
        }
        if self.can_send_now(hands) && self.try_send(message, hands) == Ok(()) {
            self.queued(position);
            self.sent_logged(position.number, hands);
            if hands.rules.pings() || self.log.arrived > self.log.acknowledged {
                self.wake(wakes);
            }
            return Offered::Sent;
        }
        if !self.load.logged.takes(message.len(), &hands.rules.limits) {
            self.log.source = Source::Log;
            return self.crowded_or(Offered::Logged, wakes);
        }
        self.queued(position);
        self.push(Item { message: message.clone(), number: Some(position.number) });
        self.wake(wakes);
        Offered::Queued { dropped: 0 }
    }

    /// What comes has to be read.
    fn fall_behind(&mut self, wakes: &mut Vec<Waker>) -> Offered {
        self.log.source = Source::Log;
        self.wake(wakes);
        Offered::Logged
    }

    /// Whether a message of the log need not be queued first.
    fn can_send_now(&self, hands: &Hands<'_>) -> bool {
        self.phase == Phase::Open
            && self.queue.is_empty()
            && (hands.rules.guarantee == Guarantee::AtLeastOnce || hands.is_immediate)
    }

    fn try_send(&self, message: &PreparedMessage, hands: &Hands<'_>) -> Result<(), bool> {
        match self.sender.try_send_prepared(message) {
            Ok(()) => {
                (hands.sent)();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(true),
            Err(_) => Err(false),
        }
    }

    fn queued(&mut self, position: Position) {
        self.log.last = position.number;
        self.log.last_id = Known::Id(Some(position.id));
    }

    /// A message of the log is sent.
    fn sent_logged(&mut self, number: u64, hands: &Hands<'_>) {
        self.log.sent = self.log.sent.max(number);
        if hands.rules.guarantee == Guarantee::AtMostOnce {
            self.log.arrived = self.log.arrived.max(number);
            if number > self.log.acknowledged
                && let Some(acked) = (hands.acknowledge)(self.login, self.log.start, number)
            {
                self.acknowledged(self.log.start, number, Ok(acked), &mut Vec::new());
            }
        }
    }

    /// `other`, unless the client may be one that reads, and only its task has not run.
    fn crowded_or(&mut self, other: Offered, wakes: &mut Vec<Waker>) -> Offered {
        match self.stuck {
            Stuck::Yes => return other,
            Stuck::No if self.queue.is_empty() => return other,
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
        hands: &Hands<'_>,
        wakes: &mut Vec<Waker>,
    ) -> Offered {
        if self.phase != Phase::Open {
            return Offered::Refused;
        }
        let limits = &hands.rules.limits;
        if message.len() > limits.bytes {
            return Offered::TooLarge;
        }
        if self.queue.is_empty() {
            match self.try_send(message, hands) {
                Ok(()) => return Offered::Sent,
                Err(true) => {}
                Err(false) => return Offered::Refused,
            }
        }
        let mut dropped = 0;
        if !self.load.other.takes(message.len(), limits) {
            if self.crowded_or(Offered::Dropped, wakes) == Offered::Crowded {
                return Offered::Crowded;
            }
            match limits.overflow {
                Overflow::Disconnect => {
                    let frame =
                        CloseFrame::new(close_code::OVERFLOW, "messages come faster than they are read");
                    self.end(Phase::Closing(frame), wakes);
                    return Offered::Overflowed;
                }
                Overflow::DropNewest => return Offered::Dropped,
                Overflow::DropOldest => {
                    while !self.load.other.takes(message.len(), limits) {
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

    fn push(&mut self, item: Item) {
        self.load_of(&item).add(item.message.len());
        self.queue.push_back(item);
    }

    fn pop(&mut self) {
        if let Some(item) = self.queue.pop_front() {
            self.load_of(&item).remove(item.message.len());
        }
        if self.queue.is_empty() {
            // an idle connection holds no memory for what it once had to send
            self.queue = VecDeque::new();
        }
    }

    fn load_of(&mut self, item: &Item) -> &mut Amount {
        if item.number.is_some() { &mut self.load.logged } else { &mut self.load.other }
    }

    /// The oldest message goes that is not of the log.
    fn drop_oldest(&mut self) {
        if let Some(at) = self.queue.iter().position(|item| item.number.is_none())
            && let Some(item) = self.queue.remove(at)
        {
            self.load.other.remove(item.message.len());
        }
    }

    /// It takes nothing any more.
    fn end(&mut self, phase: Phase, wakes: &mut Vec<Waker>) {
        if phase != Phase::Finishing {
            self.queue = VecDeque::new();
            self.load = Load::default();
        }
        self.phase = phase;
        self.wake(wakes);
    }

    /// It is to be closed. Returns whether messages went to it until now.
    pub(crate) fn close(&mut self, frame: CloseFrame, wakes: &mut Vec<Waker>) -> bool {
        let was_open = self.is_open();
        if !self.is_closing() {
            self.end(Phase::Closing(frame), wakes);
        }
        was_open
    }

    /// Logins up to this number are over. Returns whether it is one of them, and messages went to it until now.
    pub(crate) fn close_upto(&mut self, upto: u64, frame: &CloseFrame, wakes: &mut Vec<Waker>) -> bool {
        if self.is_entering() {
            // its number is not known yet
            if self.over.as_ref().is_none_or(|(earlier, _)| *earlier < upto) {
                self.over = Some((upto, frame.clone()));
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
            self.early.push((login, from));
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
    fn start_at(&mut self, start: u64, wakes: &mut Vec<Waker>) {
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
        self.queue.retain(|item| item.number.is_none());
        self.load.logged = Amount::default();
        self.resync(wakes);
    }

    /// What the session is to do next. Sends what can be sent.
    pub(crate) fn next(&mut self, hands: &Hands<'_>, cx: &Context<'_>) -> Next {
        if let Phase::Closing(frame) = &self.phase {
            return Next::Close(frame.clone());
        }
        let is_full = match self.send_queued(hands) {
            Ok(is_full) => is_full,
            Err(next) => return next,
        };
        if let Phase::Closing(frame) = &self.phase {
            return Next::Close(frame.clone());
        }
        self.waker = Some(cx.waker().clone());
        self.say_whether_stuck(is_full, cx);
        if let Some(next) = self.next_call(hands.rules) {
            return next;
        }
        if self.log.sent > self.log.arrived && !self.log.is_pinging && hands.rules.pings() {
            self.log.is_pinging = true;
            return Next::Ping(self.log.sent);
        }
        if self.phase == Phase::Finishing && self.queue.is_empty() && self.is_settled(hands.rules) {
            return Next::Done;
        }
        Next::Wait { wants_room: is_full }
    }

    /// Sends what is queued; returns whether the connection is full.
    fn send_queued(&mut self, hands: &Hands<'_>) -> Result<bool, Next> {
        let mut has_sent = false;
        let result = loop {
            let Some(item) = self.queue.front() else { break Ok(false) };
            if let Some(number) = item.number {
                if self.log.earlier.iter().any(|range| range.contains(&number)) {
                    self.pop();
                    self.sent_logged(number, hands);
                    continue;
                }
                if self.must_claim(number, hands) {
                    if self.log.is_calling {
                        break Ok(false);
                    }
                    self.log.is_calling = true;
                    self.log.claimed = self.log.last.min(number + CLAIMED - 1);
                    return Err(Next::Acknowledge { start: self.log.start, upto: self.log.claimed });
                }
            }
            let (message, number) = (item.message.clone(), item.number);
            match self.try_send(&message, hands) {
                Ok(()) => {}
                Err(true) => break Ok(true),
                Err(false) => break Err(Next::Done),
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

    /// Whether a message has to be acknowledged before it is sent.
    fn must_claim(&self, number: u64, hands: &Hands<'_>) -> bool {
        hands.rules.guarantee == Guarantee::AtMostOnce
            && !hands.is_immediate
            && number > self.log.acknowledged
    }

    /// Those who wait are told whether the client reads, as soon as that is known: when something was sent, or when the
    /// connection is full still after it was written, which it is between two turns of its handler.
    fn say_whether_stuck(&mut self, is_full: bool, cx: &Context<'_>) {
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
    fn next_call(&mut self, rules: &Rules) -> Option<Next> {
        if self.log.is_calling {
            return None;
        }
        if self.log.arrived > self.log.acknowledged {
            self.log.is_calling = true;
            return Some(Next::Acknowledge { start: self.log.start, upto: self.log.arrived });
        }
        if self.log.source == Source::Log
            && self.phase == Phase::Open
            && self.load.logged.messages == 0
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
    fn is_settled(&self, rules: &Rules) -> bool {
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
                    return self.end(Phase::Closing(frame), wakes);
                }
                self.take_page(read, page);
            }
            _ => self.log.source = Source::Log,
        }
    }

    /// Queues what was read. It goes on reading if that may not be all.
    fn take_page(&mut self, read: Read, page: Page) {
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

    fn arrived(&mut self, upto: u64) {
        self.log.arrived = self.log.arrived.max(upto.min(self.log.sent));
    }

    /// The application says that the client has got everything up to this message.
    pub(crate) fn confirm(&mut self, upto: u64, wakes: &mut Vec<Waker>) {
        self.arrived(upto);
        self.wake(wakes);
    }
}

impl Rules {
    /// Whether pings tell what has arrived.
    fn pings(&self) -> bool {
        self.guarantee == Guarantee::AtLeastOnce && self.confirm == Confirm::ByPing
    }
}
