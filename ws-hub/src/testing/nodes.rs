//! What the cases do to the nodes of a backplane.

use std::future::{Future, poll_fn};
use std::time::Duration;

use futures_core::stream::BoxStream;
use tokio::time::timeout;
use ws_core::{CloseFrame, Message};

use crate::backplane::{
    Ack, Acked, Backplane, Held, LoggedIn, LoginError, LoginRequest, Logout, Sent, Signal, Standing, Unsent,
};
use crate::log::{After, Append, Appended, Page};
use crate::position::{MessageId, Position};

/// How long an answer or a signal may take.
const SOON: Duration = Duration::from_secs(20);

/// All that there is.
const ALL: Page = Page { messages: usize::MAX, bytes: usize::MAX };

/// How many logins of a user there may be.
#[derive(Clone, Copy)]
pub(super) enum Policy {
    Replace,
    Limit(usize),
    NoLimit,
}

impl Policy {
    fn limit(self) -> Option<usize> {
        if let Self::Limit(limit) = self { Some(limit) } else { None }
    }

    fn replaces(self) -> bool {
        matches!(self, Self::Replace)
    }
}

/// A node, as its hub uses it.
pub(super) struct Node<B> {
    pub(super) backplane: B,
    signals: BoxStream<'static, Signal<u64>>,
}

pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(SOON, future).await.expect("nothing happens any more")
}

pub(super) fn nodes<B: Backplane<u64>>(backplanes: Vec<B>) -> Vec<Node<B>> {
    assert_eq!(backplanes.len(), 3, "as many nodes as were asked for");
    backplanes.into_iter().map(|backplane| Node { signals: backplane.signals(), backplane }).collect()
}

impl<B: Backplane<u64>> Node<B> {
    /// The first signal, from now on, for which `choose` returns something.
    pub(super) async fn signal<T>(&mut self, choose: impl Fn(Signal<u64>) -> Option<T>) -> T {
        soon(async {
            loop {
                let signal = poll_fn(|cx| self.signals.as_mut().poll_next(cx)).await.expect("it goes on");
                if let Some(chosen) = choose(signal) {
                    return chosen;
                }
            }
        })
        .await
    }

    /// The number of the next message that is signalled for a user.
    pub(super) async fn entry(&mut self, user: u64) -> u64 {
        self.signal(|signal| match signal {
            Signal::Entry { user: of, entry } if of == user => Some(entry.position.number),
            _ => None,
        })
        .await
    }

    /// After which message a login starts from now on.
    pub(super) async fn restock(&mut self, user: u64, number: u64) -> u64 {
        self.signal(|signal| match signal {
            Signal::Restock { user: of, login, from } if of == user && login == number => Some(from),
            _ => None,
        })
        .await
    }

    pub(super) async fn try_login(
        &self,
        user: u64,
        connection: u64,
        policy: Policy,
        after: Option<Position>,
    ) -> Result<LoggedIn, LoginError> {
        let (limit, replace) = (policy.limit(), policy.replaces());
        let login = LoginRequest { user: &user, connection, limit, replace, after, page: ALL };
        soon(self.backplane.login(&login)).await
    }

    pub(super) async fn login(&self, user: u64, connection: u64, policy: Policy) -> LoggedIn {
        self.try_login(user, connection, policy, None).await.expect("it is let in")
    }

    pub(super) async fn logout(&self, user: u64, connection: u64, unsent: Option<Unsent>) {
        let logout = [Logout { user: &user, connection, unsent }];
        soon(self.backplane.logout(&logout)).await.expect("the backplane works");
    }

    /// Appends one message. Returns where it is, and how many connections there are elsewhere.
    pub(super) async fn append(&self, user: u64, text: &str) -> (Position, usize) {
        let message = Message::text(text);
        let batch = [Append::new(&user, MessageId::random(), &message)];
        let sent = soon(self.backplane.append(&batch)).await.remove(0).expect("the backplane works");
        let Sent { appended: Appended::Logged { position, .. }, elsewhere } = sent else {
            panic!("a message of some bytes is too large")
        };
        (position, elsewhere)
    }

    /// Appends as many messages, one after the other.
    pub(super) async fn append_some(&self, user: u64, count: usize) -> Vec<Position> {
        let mut positions = Vec::new();
        for number in 0..count {
            positions.push(self.append(user, &format!("message {number}")).await.0);
        }
        positions
    }

    pub(super) async fn acknowledge(&self, user: u64, login: u64, start: u64, upto: u64) -> Acked {
        let batch = [Ack { user: &user, login, start, upto }];
        soon(self.backplane.acknowledge(&batch)).await.remove(0).expect("the backplane works")
    }

    pub(super) async fn reassert(
        &self,
        user: u64,
        connection: u64,
        login: u64,
        confirmed: u64,
        policy: Policy,
    ) -> Standing {
        let (limit, replace) = (policy.limit(), policy.replaces());
        let held = [Held { user: &user, connection, login, confirmed, limit, replace }];
        soon(self.backplane.reassert(&held)).await.expect("the backplane works").remove(0)
    }

    pub(super) async fn close(&self, user: u64, frame: &CloseFrame) -> usize {
        soon(self.backplane.close(&user, frame)).await.expect("the backplane works")
    }

    pub(super) async fn count(&self, user: u64) -> usize {
        soon(self.backplane.connections(&[user])).await.expect("the backplane works")[0]
    }

    pub(super) async fn cursor(&self, user: u64) -> u64 {
        soon(self.backplane.read(&user, After::Cursor, ALL)).await.expect("the backplane works").cursor
    }
}

/// The numbers of the messages that a login gets first.
pub(super) fn numbers(logged_in: &LoggedIn) -> Vec<u64> {
    logged_in.read.entries.iter().map(|entry| entry.position.number).collect()
}
