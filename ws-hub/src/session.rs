//! A connection of a user: letting it in, what its mailbox asks of the log, and its end.

use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::sleep;
use ws_core::{CloseFrame, Sender};

use crate::backplane::{Ack, Acked, LoggedIn, LoginError, LoginRequest, Logout};
use crate::calls::ask;
use crate::error::Refused;
use crate::log::{After, Continuity, LogError, Page, Read};
use crate::mailbox::{Mailbox, Next};
use crate::position::Position;
use crate::shared::Inner;
use crate::task::spawn_if_possible;
use crate::user::{User, find};

/// A connection, from before its login until it is over everywhere.
pub(crate) struct Session<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    place: Place<U>,
    pub(crate) user: Arc<User<U>>,
    pub(crate) connection: u64,
    /// Whether the connection was taken away from the user.
    is_over: AtomicBool,
}

/// One of the connections that a drain waits for.
struct Place<U>(Arc<Inner<U>>);

impl<U> Drop for Place<U> {
    fn drop(&mut self) {
        self.0.attached.fetch_sub(1, Ordering::SeqCst);
        self.0.left.notify_waiters();
    }
}

impl<U> Place<U> {
    fn new(inner: &Arc<Inner<U>>) -> Self {
        inner.attached.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(inner))
    }
}

/// Why a connection was not let in, and what to close it with.
pub(crate) struct NotLetIn {
    pub(crate) refused: Refused,
    pub(crate) frame: CloseFrame,
}

impl From<Refused> for NotLetIn {
    fn from(refused: Refused) -> Self {
        Self { refused, frame: CloseFrame::new(refused.close_code(), refused.to_string()) }
    }
}

/// What the log has answered.
pub(crate) enum Answer {
    Read(After, Option<Read>),
    /// Of messages after the first number, up to the second.
    Acknowledged(u64, u64, Result<Acked, ()>),
}

impl Answer {
    /// Whether the call has failed.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Read(_, None) | Self::Acknowledged(.., Err(())))
    }
}

impl<U> Session<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// A connection that is to be let in.
    pub(crate) fn new(inner: &Arc<Inner<U>>, id: &U, sender: &Sender) -> Self {
        let user = inner.write().lease(id);
        let connection = inner.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        let mut mailboxes = user.lock();
        // most users have one connection, and a vector that grows by itself has room for four
        mailboxes.reserve_exact(1);
        mailboxes.push(Mailbox::new(connection, sender.clone()));
        drop(mailboxes);
        Self { place: Place::new(inner), user, connection, is_over: AtomicBool::new(false) }
    }

    fn inner(&self) -> &Arc<Inner<U>> {
        &self.place.0
    }

    /// A handler is given the member of the connection.
    pub(crate) fn give_member(&self) {
        self.with_mailbox(|mailbox, _| mailbox.give_member());
    }

    /// Whether it is open, and nobody has its member.
    pub(crate) fn is_left_open(&self) -> bool {
        find(&mut self.user.lock(), self.connection).is_some_and(|mailbox| mailbox.is_left_open())
    }

    /// The connection takes no more messages; what is queued is sent.
    pub(crate) fn finish(&self) {
        self.inner().finish(&self.user, self.connection);
    }

    /// Asks for the login, and reads the first messages.
    pub(crate) async fn log_in(&self, after: Option<Position>) -> Result<LoggedIn, NotLetIn> {
        // nobody is let in while the hub drains
        let inner = self.inner();
        inner.read().check(0, None)?;
        inner.listen();
        let config = &inner.config;
        let login = LoginRequest {
            user: &self.user.id,
            connection: self.connection,
            limit: config.login.limit(),
            replace: config.login.replaces(),
            after,
            page: Page::default(),
        };
        let answer = match ask(async || Ok(config.engine.login(&login).await)).await {
            Ok(answer) => answer,
            Err(error) => Err(error.into()),
        };
        answer.map_err(|error| match error {
            LoginError::TooMany => Refused::AlreadyConnected.into(),
            LoginError::Gone(None) => Refused::Gone.into(),
            LoginError::Gone(Some(frame)) => NotLetIn { refused: Refused::Gone, frame },
            LoginError::Failed(error) => {
                inner.failed(&error);
                Refused::Log.into()
            }
        })
    }

    /// Lets the connection in, in place of others if the policy says so. From here on it gets messages.
    pub(crate) fn enter(&self, logged_in: LoggedIn) -> Result<(), NotLetIn> {
        let (inner, user) = (self.inner(), &self.user);
        let login = logged_in.login;
        let logged_in = LoggedIn { read: inner.framed_all(logged_in.read), ..logged_in };
        let frame = CloseFrame::new(Refused::Gone.close_code(), Refused::Gone.to_string());
        let (replaced, result) = inner.change(user, |mailboxes, wakes| {
            let mut registry = inner.write();
            let earlier =
                |it: &&mut Mailbox| inner.config.login.replaces() && it.is_open() && it.login < login;
            let leaving = mailboxes.iter_mut().filter(earlier).count();
            if let Err(refused) = registry.check(leaving, inner.config.max_connections) {
                return (0, Err(refused.into()));
            }
            // a newer login may have been answered before
            let is_outranked =
                inner.config.login.replaces() && mailboxes.iter().any(|it| it.is_open() && it.login > login);
            let mut replaced = 0;
            for mailbox in mailboxes.iter_mut().filter(earlier) {
                replaced += usize::from(mailbox.close(frame.clone(), wakes));
            }
            let Some(mailbox) = find(mailboxes, self.connection) else {
                return (replaced, Err(Refused::Gone.into()));
            };
            let is_in = !is_outranked && mailbox.enter(logged_in, Page::default(), wakes);
            let closed_with = mailbox.close_frame().unwrap_or_else(|| frame.clone());
            // while the lock is held under which there was room
            registry.set_connections(&user.id, crate::user::open(mailboxes));
            let result =
                if is_in { Ok(()) } else { Err(NotLetIn { refused: Refused::Gone, frame: closed_with }) };
            (replaced, result)
        });
        inner.counters.replaced.add(replaced);
        user.moved.notify_waiters();
        result
    }

    /// Whether nothing has happened for the connection since this task asked what is to be done.
    pub(crate) fn is_quiet(&self, cx: &Context<'_>) -> bool {
        find(&mut self.user.lock(), self.connection).is_some_and(|mailbox| mailbox.is_quiet(cx.waker()))
    }

    /// What is to be done for the connection. Sends what can be sent.
    pub(crate) fn next(&self, cx: &Context<'_>) -> Next {
        let inner = self.inner();
        let (next, has_moved) = inner.with_hands(&self.user.id, |hands| {
            inner.change(&self.user, |mailboxes, _| {
                let Some(mailbox) = find(mailboxes, self.connection) else { return (Next::Broken, false) };
                let was_crowded = mailbox.is_crowded();
                let next = mailbox.next(hands, cx);
                (next, was_crowded && !mailbox.is_crowded())
            })
        });
        if has_moved {
            self.user.moved.notify_waiters();
        }
        next
    }

    pub(crate) fn with_mailbox<T>(
        &self,
        change: impl FnOnce(&mut Mailbox, &mut Vec<Waker>) -> T,
    ) -> Option<T> {
        self.inner().change(&self.user, |mailboxes, wakes| {
            find(mailboxes, self.connection).map(|mailbox| change(mailbox, wakes))
        })
    }

    /// The log has answered.
    pub(crate) fn answered(&self, answer: Answer) {
        self.with_mailbox(|mailbox, wakes| match answer {
            Answer::Read(after, read) => {
                let read = read.map(|read| self.inner().framed_all(read));
                mailbox.read(after, read, Page::default(), wakes);
            }
            Answer::Acknowledged(start, upto, answer) => {
                mailbox.call_over();
                mailbox.acknowledged(start, upto, answer, wakes);
            }
        });
    }

    /// Reads the log. If that fails, the answer comes after a while, so that it is not tried again at once.
    pub(crate) async fn read(&self, after: After, backoff: Duration) -> Answer {
        let engine = &self.inner().config.engine;
        let read = ask(async || {
            let read = engine.read(&self.user.id, after, Page::default()).await?;
            let is_more = read.top.is_some_and(|top| top.number > read.after);
            if is_more && read.entries.is_empty() && read.continuity == Continuity::Complete {
                // it would be asked again at once
                return Err(LogError::refused("it says that there are messages, and gives none"));
            }
            Ok(read)
        });
        Answer::Read(after, self.in_time(read, backoff).await)
    }

    pub(crate) async fn acknowledge(&self, start: u64, upto: u64, backoff: Duration) -> Answer {
        let answer = self.in_time(self.acknowledge_once(start, upto), backoff).await;
        Answer::Acknowledged(start, upto, answer.ok_or(()))
    }

    async fn acknowledge_once(&self, start: u64, upto: u64) -> Result<Acked, LogError> {
        let login = self.with_mailbox(|mailbox, _| mailbox.login).unwrap_or_default();
        let batch = [Ack { user: &self.user.id, login, start, upto }];
        let engine = &self.inner().config.engine;
        ask(async || {
            let mut answers = engine.acknowledge(&batch).await;
            answers.pop().unwrap_or_else(|| Err(LogError::unknown("no answer")))
        })
        .await
    }

    /// What a call answers. If it fails, that is known after a while.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, LogError>>,
        backoff: Duration,
    ) -> Option<T> {
        match call.await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.inner().failed(&error);
                sleep(backoff).await;
                None
            }
        }
    }

    /// The connection is the user's no more. Ready when its login is over. If the future is dropped before, that goes on.
    pub(crate) async fn leave(&self) {
        if let Some(ending) = self.take_away() {
            ending.await;
        }
    }

    /// Takes the connection away from the user at once, if that was not done; the future ends its login.
    fn take_away(&self) -> Option<Ending> {
        if self.is_over.swap(true, Ordering::Relaxed) {
            return None;
        }
        let connection = self.connection;
        let left = self.inner().change(&self.user, |mailboxes, _| {
            let at = mailboxes.iter().position(|mailbox| mailbox.connection == connection)?;
            let mailbox = mailboxes.remove(at);
            Some((mailbox.login, mailbox.unacknowledged(), mailbox.unsent()))
        });
        self.user.moved.notify_waiters();
        self.inner().write().release(&self.user.id);
        let (inner, user) = (Arc::clone(self.inner()), Arc::clone(&self.user));
        let place = Place::new(&inner);
        Some(Ending(Some(Box::pin(async move {
            let _place = place;
            let Some((login, unacknowledged, unsent)) = left else { return };
            let (engine, user) = (&inner.config.engine, &user.id);
            if let Some((start, upto)) = unacknowledged {
                let batch = [Ack { user, login, start, upto }];
                // if it fails, the messages come once more
                let _ = ask(async || Ok(engine.acknowledge(&batch).await)).await;
            }
            let batch = [Logout { user, connection, unsent }];
            inner.log_out(&batch).await;
        }))))
    }
}

impl<U> Drop for Session<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn drop(&mut self) {
        drop(self.take_away());
    }
}

/// Ends a login. If it is dropped before that is done, it goes on in a task of its own.
struct Ending(Option<BoxFuture<'static, ()>>);

impl Future for Ending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rest) = &mut self.0 else { return Poll::Ready(()) };
        let poll = rest.as_mut().poll(cx);
        if poll.is_ready() {
            self.0 = None;
        }
        poll
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(mut rest) = self.0.take() else { return };
        // a log in memory does it now
        if rest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            spawn_if_possible(rest);
        }
    }
}
