//! [`World`]: where users and editors are while a storm goes on.

use std::cell::Cell;
use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use ws_tests::Random;

use crate::support::news::Scene;

/// How many news a user is pushed in a round: so few that in two of them, the last one is among the 64 in which the log looks
/// for what is pushed again.
const NEWS: usize = 25;

/// About how many of them come one right after the other.
const BURST: usize = 4;

/// A client stays for at most so many news, then comes back: some leave before they confirm anything.
const STAY: (usize, usize) = (5, 40);

/// How long a client waits for a server that says nothing, and then tries another one: this long, and up to this much more, so
/// that some wait for answers that say that nobody knows.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));
/// How long it is when nothing is wrong any more: then something comes, on a machine however busy.
const CALM: Duration = Duration::from_secs(30);

/// About how long users and editors wait before they come back.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the nodes are.
pub(crate) trait Nodes {
    /// The address of one of them.
    fn any(&self, random: &mut Random) -> String;
}

/// Nodes, and how much may be pushed to them now.
pub(crate) struct World<'a, N> {
    nodes: &'a N,
    /// How many news may still be pushed to each user in this round.
    left: Vec<Cell<usize>>,
    /// News of which it is not known yet what becomes of them.
    open: Cell<usize>,
    /// About how long an editor takes for one news.
    pace: Cell<Duration>,
    is_over: Cell<bool>,
    is_calm: Cell<bool>,
    changed: Notify,
}

impl<'a, N: Nodes> World<'a, N> {
    pub(crate) fn new(nodes: &'a N, users: usize) -> Self {
        Self {
            nodes,
            left: vec![Cell::new(0); users],
            open: Cell::new(0),
            pace: Cell::new(Duration::ZERO),
            is_over: Cell::new(false),
            is_calm: Cell::new(false),
            changed: Notify::new(),
        }
    }

    /// Lets each user be pushed some news, in about this time by so many editors.
    pub(crate) fn begin_round(&self, time: Duration, editors: usize) {
        let news = u32::try_from(NEWS / editors).expect("it is small");
        self.pace.set(time / news.max(1));
        for left in &self.left {
            left.set(NEWS);
        }
        self.changed.notify_waiters();
    }

    /// Waits until all that may be pushed in this round is, and it is known what became of it.
    pub(crate) async fn round_is_over(&self) {
        while self.open.get() > 0 || self.left.iter().any(|left| left.get() > 0) {
            self.changed.notified().await;
        }
    }

    /// Nothing more may be pushed, and nobody connects any more.
    pub(crate) fn end(&self) {
        self.is_over.set(true);
        self.changed.notify_waiters();
    }

    /// Everybody is there again.
    pub(crate) fn begin_again(&self) {
        self.is_over.set(false);
    }

    /// Nothing is wrong any more.
    pub(crate) fn calm_down(&self) {
        self.is_calm.set(true);
    }
}

impl<N: Nodes> Scene for World<'_, N> {
    fn address(&self, random: &mut Random) -> String {
        self.nodes.any(random)
    }

    fn is_over(&self) -> bool {
        self.is_over.get()
    }

    fn patience(&self, random: &mut Random) -> Duration {
        let (least, more) = PATIENCE;
        if self.is_calm.get() { CALM } else { least + random.around(more / 2) }
    }

    fn stay(&self, random: &mut Random) -> usize {
        let (short, long) = STAY;
        let most = if random.one_in(2) { short } else { long };
        random.below(most)
    }

    async fn may_push(&self, user: usize, again: bool, random: &mut Random) -> bool {
        if again {
            self.pause(random).await;
            return !self.is_over();
        }
        while !self.is_over() {
            let left = &self.left[user];
            if left.get() > 0 {
                left.set(left.get() - 1);
                self.open.set(self.open.get() + 1);
                // some at once, and then none for a while
                if random.one_in(BURST) {
                    let burst = u32::try_from(BURST).expect("it is small");
                    sleep(random.around(burst * self.pace.get())).await;
                }
                return true;
            }
            self.changed.notified().await;
        }
        false
    }

    fn settled(&self) {
        self.open.set(self.open.get() - 1);
        self.changed.notify_waiters();
    }

    fn failed(&self, _: &str, _: &dyn Debug) {}

    async fn pause(&self, random: &mut Random) {
        sleep(random.around(PAUSE)).await;
    }
}
