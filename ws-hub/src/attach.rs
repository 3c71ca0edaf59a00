//! A connection of a user: letting it in, sending what is queued for it, and its end.
//!
//! Both the handler and the pump, which sends what the hub queues, run inside of the connection's own task: what a turn of
//! either sends leaves in one write, and a message to an idle connection wakes one task once.

use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use futures_sink::Sink as _;
use tokio::sync::{OwnedMutexGuard, oneshot};
use ws_core::{Error as ConnectionError, Outcome, PreparedMessage, Sender, TrySendError, WebSocket};

use crate::backplane::{LoginError, Packet, Target};
use crate::config::Login;
use crate::error::{Error, Refused};
use crate::hub::Hub;
use crate::member::Member;
use crate::shared::{Inner, Lease};
use crate::store::{Guarantee, OfflineStore, StoreError, Stored, ask};
use crate::user::{Ending, Next, State};

/// Messages, and bytes of them, that are fetched from the store at a time.
const BATCH: (usize, usize) = (32, 256 * 1024);

impl<U> Hub<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Makes a connection one of the user's, and runs until it is over: for users who only get messages. What the client
    /// sends is dropped, but for the heartbeat, which is answered.
    ///
    /// The user is who the application's authentication says it is.
    ///
    /// # Errors
    ///
    /// If the connection was not let in, and then it is closed; or if it did not end in order.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is not the user's any more, and what waits for it goes to the offline store.
    pub async fn attach(&self, user: U, socket: WebSocket) -> Result<(), Error> {
        self.attach_with(user, socket, async |mut member: Member<U>| {
            while let Some(message) = member.recv().await {
                message?;
            }
            Ok::<_, ConnectionError>(())
        })
        .await
        .map_err(|error| match error {
            Error::Handler(error) => match error.downcast() {
                Ok(error) => Error::Connection(*error),
                Err(error) => Error::Handler(error),
            },
            other => other,
        })
    }

    /// Makes a connection one of the user's, and runs `handler` with it until both are over.
    ///
    /// The handler receives what the client sends, and returns when [`Member::recv`] does; what it returns means what it
    /// does without a hub. Messages of the hub are sent meanwhile, whatever the handler does. When the handler has returned,
    /// and the [`Member`] is dropped if that was moved elsewhere, what is queued for the connection is sent, and then it
    /// closes; what is still in the offline store stays there.
    ///
    /// ```
    /// use ws_core::WebSocket;
    /// use ws_hub::{Error, Hub, Member};
    ///
    /// async fn chat(hub: Hub<String>, user: String, socket: WebSocket) -> Result<(), Error> {
    ///     hub.attach_with(user, socket, async |mut member: Member<String>| {
    ///         member.join("lobby")?;
    ///         while let Some(message) = member.recv().await {
    ///             let text = format!("{}: {}", member.user(), message?.as_text().unwrap_or_default());
    ///             member.hub().room("lobby").except(member.user()).send(text).await;
    ///         }
    ///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    ///     })
    ///     .await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the connection was not let in, and then it is closed, and the handler not called; or the error of the handler.
    ///
    /// # Cancel safety
    ///
    /// As [`attach`](Self::attach).
    pub async fn attach_with<F, Fut>(&self, user: U, socket: WebSocket, handler: F) -> Result<(), Error>
    where
        F: FnOnce(Member<U>) -> Fut,
        Fut: Future<Output: Outcome>,
    {
        let (sender, receiver) = socket.split();
        let attached = match self.inner.let_in(&user).await {
            Ok(attached) => attached,
            Err(refused) => {
                self.inner.counters.refused.add(1);
                let _ = sender.close(refused.close_code(), refused.to_string()).await;
                return Err(refused.into());
            }
        };
        if let Some((heartbeat, answer)) = &self.inner.config.heartbeat {
            sender.answer_heartbeat(heartbeat.clone(), answer.clone());
        }
        let login = attached.login;
        if self.inner.config.login == Login::ReplaceOld && self.inner.config.backplane.is_some() {
            let (hub, user) = (self.clone(), user.clone());
            // a slow broker does not hold up the connection
            tokio::spawn(async move {
                hub.inner.publish(Target::Others, || Packet::Replaced { user, login }).await;
            });
        }

        let lease = attached.lease.clone();
        let (alive, gone) = oneshot::channel();
        let member = Member::new(self.clone(), user, sender.clone(), receiver, alive);
        let serving = async {
            let outcome = handler(member).await.into_result();
            if outcome.is_ok() {
                // it may have gone to another task
                tokio::select! {
                    _ = gone => {}
                    _ = sender.closed() => {}
                }
            }
            lease.change(|state, rules, wakes| state.end(login, Ending::Finish, rules, wakes));
            outcome
        };
        let pumping = async {
            attached.pump(&sender).await;
            attached.leave().await;
        };
        let (outcome, ()) = tokio::join!(serving, pumping);
        outcome.map_err(Error::Handler)
    }
}

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Lets a connection in, in place of others if the policy says so.
    async fn let_in(self: &Arc<Self>, id: &U) -> Result<Attached<U>, Refused> {
        let lease = Lease::new(self, id);
        let mut announced = None;
        if let Some(backplane) = &self.config.backplane {
            announced = match backplane.login(id, self.config.login.limit()).await {
                Ok(login) => Some(login),
                Err(LoginError::TooMany) => return Err(Refused::AlreadyConnected),
                Err(LoginError::Failed(error)) => {
                    self.backplane_failed(&*error);
                    return Err(Refused::Backplane);
                }
            };
        }
        self.attached.fetch_add(1, Ordering::SeqCst);
        let mut attached = Attached { lease, login: announced.unwrap_or(0), is_over: false };
        let user = Arc::clone(&attached.lease.user);
        let rules = &self.config.rules;
        let replaced = self.change(&user, |state, wakes| {
            let mut registry = self.write();
            let replaced = self.config.login.admit(state.live())?;
            registry.check(replaced, self.config.max_connections)?;
            attached.login = announced.unwrap_or_else(|| registry.next_login());
            let replaced = if self.config.login == Login::ReplaceOld {
                state.replace(attached.login, rules, wakes)
            } else {
                state.enter(attached.login, rules);
                0
            };
            // while the lock is held under which there was room
            registry.set_connections(id, state.live());
            Ok(replaced)
        })?;
        self.counters.replaced.add(replaced);
        attached.lease.user.came.notify_waiters();
        Ok(attached)
    }
}

/// A connection that was let in, until it is over and what it did not send is in the store.
struct Attached<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    lease: Lease<U>,
    login: u64,
    is_over: bool,
}

impl<U> Attached<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Sends what is queued and what is stored, until the connection is over.
    async fn pump(&self, sender: &Sender) {
        let user = &self.lease.user;
        let rules = &self.lease.inner.config.rules;
        let mut over = pin!(sender.closed());
        let mut room = Room(sender.clone());
        loop {
            let next = poll_fn(|cx| {
                if over.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Done);
                }
                loop {
                    let next =
                        user.lock().advance(self.login, rules, cx, |message| self.send(sender, message));
                    match next {
                        Next::Idle => return Poll::Pending,
                        Next::WaitForRoom => match room.poll(cx) {
                            Poll::Ready(true) => {}
                            Poll::Ready(false) => return Poll::Ready(Next::Done),
                            Poll::Pending => return Poll::Pending,
                        },
                        next => return Poll::Ready(next),
                    }
                }
            });
            match next.await {
                Next::CatchUp => self.catch_up(sender, &mut room).await,
                Next::Confirm(until) => match self.unless_closing(sender, sender.ping()).await {
                    Some(Ok(_)) => user.lock().confirm(self.login, until),
                    Some(Err(_)) => return,
                    None => {}
                },
                Next::Close(frame) => {
                    let _ = sender.close_with(frame).await;
                    return;
                }
                Next::Idle | Next::WaitForRoom | Next::Done => return,
            }
        }
    }

    fn send(&self, sender: &Sender, message: &PreparedMessage) -> Result<(), TrySendError> {
        sender.try_send_prepared(message)?;
        self.lease.inner.counters.sent.add(1);
        Ok(())
    }

    /// Sends what is stored for the user, before what is queued.
    async fn catch_up(&self, sender: &Sender, room: &mut Room) {
        let Lease { inner, user } = &self.lease;
        let Some(store) = &inner.config.store else { return };
        let Some(mut gate) = self.unless_ending(sender, self.lease.pass_gate()).await else { return };
        // what another connection leaves behind meanwhile has to be stored first
        while user.lock().looks(self.login) {
            let peeking = ask(async || store.peek(&user.id, BATCH.0, BATCH.1).await);
            let batch = match self.unless_ending(sender, peeking).await {
                None => return,
                Some(Ok(batch)) if batch.is_empty() => {
                    user.lock().mark_caught_up(self.login);
                    return;
                }
                Some(Ok(batch)) => batch,
                Some(Err(error)) => return self.give_up(&*error),
            };
            let mut unsent = None;
            if inner.config.rules.guarantee == Guarantee::AtMostOnce {
                let taken;
                match self.take(store, &batch, gate).await {
                    Some(result) => (gate, taken) = result,
                    None => return,
                }
                match taken {
                    Ok(taken) => unsent = Some(taken),
                    Err(error) => return self.give_up(&*error),
                }
            }
            let ids: Vec<_> = batch.iter().map(|stored| stored.id).collect();
            for stored in batch {
                let message = PreparedMessage::new(stored.message);
                if !self.send_stored(sender, room, &message).await {
                    return;
                }
                if let Some(unsent) = &mut unsent {
                    unsent.messages.pop();
                }
            }
            if inner.config.rules.guarantee == Guarantee::AtLeastOnce {
                match self.unless_ending(sender, sender.ping()).await {
                    Some(Ok(_)) => {}
                    _ => return,
                }
                if let Err(error) = ask(async || store.remove(&user.id, &ids).await).await {
                    return self.give_up(&*error);
                }
            }
        }
    }

    /// Removes messages from the store, to send them. What the store has begun is ended even if nobody waits for it any
    /// more: then they go back. `None` if there is no runtime for that any more.
    async fn take(
        &self,
        store: &Arc<dyn OfflineStore<U>>,
        batch: &[Stored],
        gate: OwnedMutexGuard<()>,
    ) -> Option<(OwnedMutexGuard<()>, Result<Unsent<U>, StoreError>)> {
        let (lease, messages) = (self.lease.clone(), batch.iter().rev().cloned().collect::<Vec<_>>());
        let removing = Arc::clone(store);
        let mut taking = Box::pin(async move {
            let ids: Vec<_> = messages.iter().map(|stored| stored.id).collect();
            let removed = ask(async || removing.remove(&lease.user.id, &ids).await).await;
            (gate, removed.map(|()| Unsent { lease, messages }))
        });
        // a store in memory has done it now
        if let Poll::Ready(taken) = poll_fn(|cx| Poll::Ready(taking.as_mut().poll(cx))).await {
            return Some(taken);
        }
        let (store, lease) = (Arc::clone(store), self.lease.clone());
        let place = Place::new(&lease.inner);
        let (answer, taken) = oneshot::channel();
        tokio::spawn(async move {
            let _place = place;
            if let Err((_gate, taken)) = answer.send(taking.await) {
                drop(taken);
                lease.settle(&*store).await;
            }
        });
        taken.await.ok()
    }

    /// The store failed: what is in it stays there until the next login, and messages come without it.
    fn give_up(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.lease.inner.store_failed(error);
        self.lease.user.lock().gives_up(self.login);
    }

    /// Waits until the connection takes a message of the store; returns whether it did.
    async fn send_stored(&self, sender: &Sender, room: &mut Room, message: &PreparedMessage) -> bool {
        poll_fn(|cx| {
            loop {
                let sent = self.lease.user.lock().send_stored(self.login, cx, || self.send(sender, message));
                match sent {
                    Ok(()) => return Poll::Ready(true),
                    Err(Next::WaitForRoom) => match room.poll(cx) {
                        Poll::Ready(true) => {}
                        Poll::Ready(false) => return Poll::Ready(false),
                        Poll::Pending => return Poll::Pending,
                    },
                    Err(_) => return Poll::Ready(false),
                }
            }
        })
        .await
    }

    /// The output of `future`, unless the connection is over or is to end before.
    async fn unless_ending<F: Future>(&self, sender: &Sender, future: F) -> Option<F::Output> {
        self.unless(sender, State::poll_ending, future).await
    }

    /// The output of `future`, unless the connection is over or is to be closed before. That its handler has returned is no reason.
    async fn unless_closing<F: Future>(&self, sender: &Sender, future: F) -> Option<F::Output> {
        self.unless(sender, State::poll_closing, future).await
    }

    async fn unless<F: Future>(
        &self,
        sender: &Sender,
        poll_off: fn(&mut State, u64, &Context<'_>) -> Poll<()>,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut over = pin!(sender.closed());
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            poll_off(&mut self.lease.user.lock(), self.login, cx).map(|()| None)
        })
        .await
    }

    /// The connection is over. Ready when what it did not send is in the store.
    async fn leave(mut self) {
        self.finish().await;
    }

    /// Takes the connection away from the user at once; the future does the rest.
    fn finish(&mut self) -> BoxFuture<'static, ()> {
        self.is_over = true;
        let login = self.login;
        self.lease.change(|state, rules, wakes| state.leave(login, rules, wakes));
        let lease = self.lease.clone();
        let place = Place(Arc::clone(&lease.inner));
        Box::pin(async move {
            let _place = place;
            if lease.user.lock().is_unsettled() {
                drop(lease.pass_gate().await);
                // the user may be connected to another node by now
                let user = || lease.user.id.clone();
                lease.inner.publish(Target::Others, || Packet::Stored { user: user() }).await;
            }
            if let Some(backplane) = &lease.inner.config.backplane
                && let Err(error) = backplane.logout(&lease.user.id, login).await
            {
                lease.inner.backplane_failed(&*error);
            }
        })
    }
}

impl<U> Drop for Attached<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.is_over {
            let rest = self.finish();
            // without a runtime there is nothing that could wait for the store
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(rest);
            }
        }
    }
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

/// What was taken out of the store and has not been sent, newest first; it goes back if it is not sent.
struct Unsent<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    lease: Lease<U>,
    messages: Vec<Stored>,
}

impl<U> Drop for Unsent<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    fn drop(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        if !messages.is_empty() {
            messages.reverse();
            self.lease.change(|state, rules, wakes| state.give_back(messages, rules, wakes));
        }
    }
}

/// Waits for room in the outbound buffer of a connection.
struct Room(Sender);

impl Room {
    /// Ready when there is room, or, with `false`, when there never will be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll_ready(cx).map(|result| result.is_ok())
    }
}
