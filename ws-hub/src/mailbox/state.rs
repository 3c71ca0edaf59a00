//! What a [`Mailbox`] consists of, and how far it is.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_sink::Sink as _;
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
    /// Whether somebody has the [`Member`](crate::Member).
    pub(super) has_member: bool,
    pub(super) early: Option<Box<Early>>,
    pub(super) log: Window,
    /// What waits: there is nothing that holds nothing.
    pub(super) queue: Option<Box<Queue>>,
    pub(super) stuck: Stuck,
}

/// What was said of logins before its own number was known.
#[derive(Default)]
pub(super) struct Early {
    /// Those up to this one are over.
    pub(super) over: Option<(u64, CloseFrame)>,
    /// These start there.
    pub(super) starts: Vec<(u64, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its login is not answered yet.
    Entering,
    Open,
    /// Its handler has returned: what is queued is sent, and nothing more is taken.
    Finishing,
    /// It is to be closed; nothing more is sent.
    Closing(Box<CloseFrame>),
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

/// What waits for the connection, and how much that is: of the log, and of the rest.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<Item>,
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
    /// Nothing more comes, and everything is sent.
    Done,
    /// Nothing more can be sent.
    Broken,
}

/// How a mailbox gets at what is outside of it.
pub(crate) struct Hands<'a> {
    pub(crate) rules: &'a Rules,
    /// Whether the log can acknowledge at once.
    pub(crate) is_immediate: &'a dyn Fn() -> bool,
    /// Acknowledges at once (login, start, upto), where the log can.
    pub(crate) acknowledge: &'a dyn Fn(u64, u64, u64) -> Option<Acked>,
    /// Counts messages that were handed to connections.
    pub(crate) sent: &'a Cell<usize>,
}

impl Queue {
    fn load_of(&mut self, item: &Item) -> &mut Amount {
        if item.number.is_some() { &mut self.logged } else { &mut self.other }
    }

    /// Removes the message in this place.
    pub(super) fn remove(&mut self, at: usize) {
        if let Some(item) = self.items.remove(at) {
            self.load_of(&item).remove(item.message.len());
        }
    }
}

impl Window {
    /// Remembers what was sent since the start: it is not sent once more.
    pub(super) fn keep_sent(&mut self) {
        let (mut first, mut last) = (self.start.saturating_add(1), self.sent);
        if first > last {
            return;
        }
        let earlier = &mut self.earlier;
        earlier.retain(|range| {
            let touches = *range.start() <= last.saturating_add(1) && first <= range.end().saturating_add(1);
            if touches {
                first = first.min(*range.start());
                last = last.max(*range.end());
            }
            !touches
        });
        let at = earlier.partition_point(|range| *range.start() < first);
        earlier.insert(at, first..=last);
        if earlier.len() > EARLIER {
            earlier.remove(0);
        }
    }

    /// Whether a message was sent before the login was told to start elsewhere.
    pub(super) fn was_sent_earlier(&self, number: u64) -> bool {
        self.earlier.iter().any(|range| range.contains(&number))
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
            has_member: false,
            early: None,
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
            queue: None,
            stuck: Stuck::No,
        }
    }

    /// Whether it is one that messages go to.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
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
        if let Phase::Closing(frame) = &self.phase { Some((**frame).clone()) } else { None }
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

    /// Fails with whether that is because the connection is full.
    pub(super) fn try_send(&self, message: &PreparedMessage) -> Result<(), bool> {
        let result = self.sender.try_send_prepared(message);
        result.map_err(|error| matches!(error, TrySendError::Full(_)))
    }

    /// Whether the connection takes a message now; fails as [`try_send`](Self::try_send).
    pub(super) fn room(&mut self) -> Result<(), bool> {
        match Pin::new(&mut self.sender).poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(_)) => Err(false),
            Poll::Pending => {
                // it must not wait for that: the place in the line goes with the one that has it
                self.sender = self.sender.clone();
                Err(true)
            }
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
        let queue = self.queue.get_or_insert_default();
        queue.load_of(&item).add(item.message.len());
        queue.items.push_back(item);
    }

    pub(super) fn pop(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        queue.remove(0);
        self.drop_empty_queue();
    }

    /// An idle connection holds no memory for what it once had to send.
    pub(super) fn drop_empty_queue(&mut self) {
        self.queue.take_if(|queue| queue.items.is_empty());
    }

    /// How much waits: of the log, and of the rest.
    pub(super) fn load(&self) -> (Amount, Amount) {
        self.queue.as_ref().map_or_else(Default::default, |queue| (queue.logged, queue.other))
    }

    /// It takes nothing any more.
    pub(super) fn end(&mut self, phase: Phase, wakes: &mut Vec<Waker>) {
        if phase != Phase::Finishing {
            self.queue = None;
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
