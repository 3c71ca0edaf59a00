//! What a [`Mailbox`] consists of, and how far it is.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::task::Waker;

use ws_core::{CloseFrame, PreparedMessage, Sender, TrySendError};

use crate::backplane::{Acked, Unsent};
use crate::config::{Confirm, Guarantee, Limits, Rules};
use crate::log::After;
use crate::position::{MessageId, Position};

/// Messages that are acknowledged at once before they are sent, at most: fewer than a log keeps of those that are acknowledged,
/// so that they can be given back.
pub(super) const CLAIMED: u64 = 32;

/// Ranges of messages that are remembered because they were sent, at most: others may be sent twice.
pub(super) const EARLIER: usize = 8;

/// What one connection has to get.
pub(crate) struct Mailbox {
    /// The number of the connection on this node.
    pub(crate) connection: u64,
    pub(crate) login: u64,
    pub(super) sender: Sender,
    /// The task of the session.
    pub(super) waker: Option<Waker>,
    pub(super) phase: Phase,
    /// What was said of logins before its own number was known: those up to this one are over; these start there.
    pub(super) over: Option<(u64, CloseFrame)>,
    pub(super) early: Vec<(u64, u64)>,
    pub(super) log: Window,
    pub(super) queue: VecDeque<Item>,
    pub(super) load: Load,
    pub(super) stuck: Stuck,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its login is not answered yet.
    Entering,
    Open,
    /// Its handler has returned: what is queued is sent, and nothing more is taken.
    Finishing,
    /// It is to be closed; nothing more is sent.
    Closing(CloseFrame),
}

/// How far the messages of the log have come. All are numbers of messages.
pub(super) struct Window {
    /// The login starts after this one.
    pub(super) start: u64,
    /// The last one that was queued or sent.
    pub(super) last: u64,
    pub(super) last_id: Known,
    pub(super) sent: u64,
    /// Those up to this one the client has got.
    pub(super) arrived: u64,
    /// Those up to this one are acknowledged.
    pub(super) acknowledged: u64,
    /// Those up to this one were acknowledged before they were sent, or may have been.
    pub(super) claimed: u64,
    /// An acknowledgement of some of these failed, and may have been done.
    pub(super) is_claim_doubtful: bool,
    /// A ping is on its way behind some of them.
    pub(super) is_pinging: bool,
    /// The login was told to start elsewhere since that ping was sent.
    pub(super) is_ping_old: bool,
    pub(super) source: Source,
    /// A call of the log is not answered yet.
    pub(super) is_calling: bool,
    /// Those that were sent before the login was told to start elsewhere: ranges with gaps between them, in order.
    pub(super) earlier: Vec<RangeInclusive<u64>>,
}

/// The id of a message, if the mailbox knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Id(Option<MessageId>),
    Unknown,
}

/// Where the next message of the log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It is offered.
    Offered,
    /// It has to be read.
    Log,
    /// It is being read. Others may have been offered meanwhile.
    Reading { has_missed: bool },
}

pub(super) struct Item {
    pub(super) message: PreparedMessage,
    /// Its number, if it is of the log.
    pub(super) number: Option<u64>,
}

/// How much is queued: of the log, and of the rest.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) logged: Amount,
    pub(super) other: Amount,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Amount {
    pub(super) fn add(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len;
    }

    pub(super) fn remove(&mut self, len: usize) {
        self.messages -= 1;
        self.bytes -= len;
    }

    pub(super) fn takes(&self, len: usize, limits: &Limits) -> bool {
        self.messages < limits.messages && self.bytes + len <= limits.bytes
    }
}

/// Whether the client is known not to read, or only its task has not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stuck {
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
    pub(super) fn keep_sent(&mut self) {
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

    pub(super) fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.waker.take());
    }

    pub(super) fn try_send(&self, message: &PreparedMessage, hands: &Hands<'_>) -> Result<(), bool> {
        match self.sender.try_send_prepared(message) {
            Ok(()) => {
                (hands.sent)();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(true),
            Err(_) => Err(false),
        }
    }

    pub(super) fn queued(&mut self, position: Position) {
        self.log.last = position.number;
        self.log.last_id = Known::Id(Some(position.id));
    }

    /// A message of the log is sent.
    pub(super) fn sent_logged(&mut self, number: u64, hands: &Hands<'_>) {
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

    pub(super) fn push(&mut self, item: Item) {
        self.load_of(&item).add(item.message.len());
        self.queue.push_back(item);
    }

    pub(super) fn pop(&mut self) {
        if let Some(item) = self.queue.pop_front() {
            self.load_of(&item).remove(item.message.len());
        }
        if self.queue.is_empty() {
            // an idle connection holds no memory for what it once had to send
            self.queue = VecDeque::new();
        }
    }

    pub(super) fn load_of(&mut self, item: &Item) -> &mut Amount {
        if item.number.is_some() { &mut self.load.logged } else { &mut self.load.other }
    }

    /// It takes nothing any more.
    pub(super) fn end(&mut self, phase: Phase, wakes: &mut Vec<Waker>) {
        if phase != Phase::Finishing {
            self.queue = VecDeque::new();
            self.load = Load::default();
        }
        self.phase = phase;
        self.wake(wakes);
    }
}

impl Rules {
    /// Whether pings tell what has arrived.
    pub(super) fn pings(&self) -> bool {
        self.guarantee == Guarantee::AtLeastOnce && self.confirm == Confirm::ByPing
    }
}
