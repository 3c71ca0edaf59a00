//! [`Hub`]: the registry of users, and what can be sent to them.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{sleep, timeout};
use ws_core::{CloseCode, CloseFrame, Drain, Message, PreparedMessage, Utf8Bytes};

use crate::audience::Audience;
use crate::backplane::{Health, Online};
use crate::calls::{DEADLINE, ask};
use crate::close_code;
use crate::delivery::{Delivery, Reach};
use crate::error::{DisconnectError, JoinError, Refused};
use crate::event::Events;
use crate::log::LogError;
use crate::mailbox::Content;
use crate::outgoing::Outgoing;
use crate::rooms::Joining;
use crate::shared::Inner;
use crate::stats::Stats;

/// Who is connected, and messages to them: a handle, cheap to clone.
///
/// [The crate's page](crate) tells how the parts go together.
///
/// ```
/// use ws_core::WebSocketUpgrade;
/// use ws_hub::{Delivery, Hub};
///
/// # type Response = http::Response<ws_core::Body>;
/// /// `user` is who the application's authentication says it is.
/// fn connect(hub: Hub<String>, user: String, upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async move |socket| hub.attach(user, socket).await)
/// }
///
/// async fn news(hub: Hub<String>, user: String, text: String) -> &'static str {
///     match hub.send(&user, text).await {
///         Delivery::Sent(_) => "on its way",
///         Delivery::Stored { .. } => "waits for the next login",
///         Delivery::Unknown => "perhaps",
///         _ => "lost",
///     }
/// }
/// ```
pub struct Hub<U> {
    pub(crate) inner: Arc<Inner<U>>,
}

/// What [`Hub::drain`] did.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let drained = ws_hub::Hub::<u64>::new().drain(ws_core::Drain::new()).await;
/// assert_eq!((drained.closed, drained.remaining), (0, 0));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that are over.
    pub closed: usize,
    /// Connections that were not over when the timeout was. [`Connections::drain`](ws_core::Connections::drain) drops such.
    pub remaining: usize,
}

impl<U> Clone for Hub<U> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<U> Hub<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Sends a message to a user: writes it to their log, and sends it on all their connections. If they have none, it waits
    /// for their next login.
    ///
    /// It waits for the log, and for no client: what a client does not read waits in the log. If a connection is full, it
    /// waits until the task of that connection has run once.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message may have been sent or not.
    pub async fn send(&self, user: &U, message: impl Into<Message>) -> Delivery {
        self.inner.send(user, None, Content::Once(message.into())).await
    }

    /// A message, to send to users: with an id of the application's, for instance.
    pub fn message(&self, message: impl Into<Message>) -> Outgoing<'_, U> {
        Outgoing::new(&self.inner, message.into())
    }

    /// Sends a message to each of these users, as [`send`](Self::send); the answers are in their order. It is encoded once,
    /// unless positions are [written](crate::HubBuilder::framed), and a log that takes waiting is asked for 128 of them at a
    /// time, or as many for each partition.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, each of them may have got the message or not.
    pub async fn send_all(&self, users: &[U], message: impl Into<Message>) -> Vec<Delivery> {
        self.inner.send_all(users, &PreparedMessage::new(message)).await
    }

    /// Sends a message to all who are connected; returns how far it went.
    ///
    /// It is encoded once, and its bytes are shared by all connections. It is not kept for those who are away.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, some may not get the message.
    pub async fn broadcast(&self, message: impl Into<Message>) -> Reach {
        self.everyone().send(message).await
    }

    /// Everyone who is connected, to send to, perhaps with exceptions.
    pub fn everyone(&self) -> Audience<'_, U> {
        Audience::new(&self.inner, None)
    }

    /// The users in a room, to send to, perhaps with exceptions.
    pub fn room<'a>(&'a self, name: &'a str) -> Audience<'a, U> {
        Audience::new(&self.inner, Some(name))
    }

    /// Puts a user into a room, with all the connections that they have and will have while they are online. Returns whether
    /// they were not in it before. A room exists as long as somebody is in it. A user is in it until they leave or their last
    /// connection ends; a login that replaces another one does not change that.
    ///
    /// Of a room with a [history](crate::HubBuilder::room_history), only the connections that they have now get messages: later
    /// ones [join](crate::Member::join_after) themselves.
    ///
    /// With a backplane, it is ready when messages of other nodes come.
    ///
    /// # Errors
    ///
    /// If the user is not connected to this hub, or is in too many rooms, or if the backplane failed. Then the user is not in
    /// the room.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the user may be in the room, and messages of other nodes may not come.
    pub async fn join(&self, user: &U, room: &str) -> Result<bool, JoinError> {
        let inner = &self.inner;
        if inner.history_of(room).is_some() {
            return Ok(inner.enter_room(user, room, Joining::All).await?.is_new);
        }
        let is_new = inner.write().join(user, room, inner.config.max_rooms)?;
        if is_new && inner.config.is_shared {
            let engine = &inner.config.engine;
            if let Err(error) = ask(async || engine.watch(room).await).await {
                inner.failed(&error);
                self.leave(user, room);
                return Err(JoinError::Backplane);
            }
        }
        Ok(is_new)
    }

    /// Takes a user out of a room. Returns whether they were in it.
    pub fn leave(&self, user: &U, room: &str) -> bool {
        self.inner.leave_room(user, room)
    }

    /// Who is in a room, of this hub's users; in no order.
    #[must_use]
    pub fn members(&self, room: &str) -> Vec<U> {
        self.inner.read().members(room).cloned().collect()
    }

    /// The rooms with somebody in them; in no order.
    #[must_use]
    pub fn rooms(&self) -> Vec<String> {
        self.inner.read().rooms().map(str::to_owned).collect()
    }

    /// The rooms that a user is in; in no order.
    #[must_use]
    pub fn rooms_of(&self, user: &U) -> Vec<String> {
        self.inner.read().rooms_of(user).map(str::to_owned).collect()
    }

    /// Who is connected to this hub; in no order. [`online_everywhere`](Self::online_everywhere) asks the other nodes, too.
    #[must_use]
    pub fn online(&self) -> Vec<U> {
        self.inner.read().online().cloned().collect()
    }

    /// Whether the user is connected to this hub.
    #[must_use]
    pub fn is_online(&self, user: &U) -> bool {
        self.inner.read().connections_of(user) > 0
    }

    /// Who is connected to this hub or to another node: a page of at most `limit` users, each once, in no order. The first
    /// page is after `None`, the next one after what [`Online::next`] says.
    ///
    /// # Errors
    ///
    /// If the backplane fails, or cannot go on there any more, such as in a Redis Cluster when another server has become the
    /// master: then begin with the first page.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn online_everywhere(&self, after: Option<&str>, limit: usize) -> Result<Online<U>, LogError> {
        let engine = &self.inner.config.engine;
        ask(async || engine.online(after, limit).await).await
    }

    /// Which of these users are connected, to this hub or to another node; in their order.
    ///
    /// # Errors
    ///
    /// If the backplane fails.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn are_online_anywhere(&self, users: &[U]) -> Result<Vec<bool>, LogError> {
        let engine = &self.inner.config.engine;
        let connections = ask(async || engine.connections(users).await).await?;
        Ok(connections.into_iter().map(|count| count > 0).collect())
    }

    /// How the backplane is, and whether all logins here are asserted after signals may have been missed. Without a backplane,
    /// it is always up.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.inner.config.engine.health() {
            Health::Up if self.inner.syncing.load(Ordering::Relaxed) > 0 => Health::Syncing,
            health => health,
        }
    }

    /// Who comes and who goes on this hub, from now on.
    #[must_use]
    pub fn events(&self) -> Events<U> {
        self.inner.read().events()
    }

    /// How the hub is, and what it has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (users, connections, rooms) = self.inner.read().counts();
        self.inner.counters.stats(users, connections, rooms)
    }

    /// Whether a connection of the user would be let in now: for an answer by HTTP in place of a connection that is
    /// closed at once. [`attach`](Self::attach) checks again. A backplane is not asked.
    ///
    /// # Errors
    ///
    /// Why it would not.
    pub fn check(&self, user: &U) -> Result<(), Refused> {
        let registry = self.inner.read();
        let replaced = self.inner.config.login.admit(registry.connections_of(user))?;
        registry.check(replaced, self.inner.config.max_connections)
    }

    /// Closes the connections of a user, on all nodes, with this code and reason; returns how many there were. Nothing more is
    /// sent on them; what waits for the user is in the log. One that is just logging in is closed, too, and may still replace
    /// one that comes after the call.
    ///
    /// # Errors
    ///
    /// If the code or the reason may not be sent: then nothing is closed. If the backplane fails: then the connections of this
    /// hub are closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, connections on other nodes may go on.
    pub async fn disconnect(
        &self,
        user: &U,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<usize, DisconnectError> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        let closed = self.inner.disconnect(user, &frame, None);
        let engine = &self.inner.config.engine;
        let closing = ask(async || engine.close(user, &frame).await);
        let elsewhere = closing.await.inspect_err(|error| self.inner.failed(error))?;
        Ok(closed + elsewhere)
    }

    /// Closes the connections of a user with [`close_code::KICKED`], which tells a client not to come back; returns how many
    /// there were.
    ///
    /// # Errors
    ///
    /// If the backplane fails: then the connections of this hub are closed.
    ///
    /// # Cancel safety
    ///
    /// As [`disconnect`](Self::disconnect).
    pub async fn kick(&self, user: &U) -> Result<usize, DisconnectError> {
        self.disconnect(user, close_code::KICKED, "sent away by the application").await
    }

    /// Lets nobody in any more, closes all connections in batches, and waits until they and their logins are over, at most for
    /// the timeout of `drain`. There is no way back.
    ///
    /// A deploy awaits this and [`Connections::drain`](ws_core::Connections::drain), which also refuses handshakes, and
    /// drops what is left when its timeout is over.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nobody is let in, what was told to close closes, and a further call goes on with the rest.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let inner = &self.inner;
        inner.write().drain();
        let (users, attached) = (inner.read().everyone(), inner.attached.load(Ordering::SeqCst));
        let close_in_batches = async {
            for batch in users.chunks(drain.batch_size()) {
                for user in batch {
                    let frame = drain.close_frame();
                    inner.change(user, |mailboxes, wakes| {
                        for mailbox in mailboxes.iter_mut() {
                            mailbox.close(frame.clone(), wakes);
                        }
                    });
                    user.moved.notify_waiters();
                }
                sleep(drain.batch_interval()).await;
            }
            pending::<Infallible>().await
        };
        let all_left = async {
            loop {
                let left = inner.left.notified();
                if inner.attached.load(Ordering::SeqCst) == 0 {
                    break;
                }
                left.await;
            }
        };
        let in_time = drain
            .in_time(async {
                tokio::select! {
                    biased;
                    never = close_in_batches => match never {},
                    () = all_left => {}
                }
            })
            .await;
        // one that comes later is refused, and may be there still
        let remaining = in_time.map_or_else(|| inner.attached.load(Ordering::SeqCst), |()| 0);
        // nothing is left to be done for logins whose node is gone
        if timeout(DEADLINE, inner.config.engine.leave()).await.is_err() {
            inner.failed(&LogError::unknown("no answer"));
        }
        Drained { closed: attached.saturating_sub(remaining), remaining }
    }
}

impl<U> fmt::Debug for Hub<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("counters", &self.inner.counters).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ws_core::testing;

    use super::*;
    use crate::room::RoomHistory;

    /// Lets all tasks run until they wait.
    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_users_who_are_gone() {
        let history = RoomHistory::new(10, Duration::from_secs(1));
        let hub = Hub::<u64>::builder()
            .max_connections(20)
            .room_history(move |room| (room == "kept").then_some(history))
            .build();
        for round in 0..3 {
            let mut clients = Vec::new();
            for user in 0..30 {
                let attaching = hub.clone();
                clients.push(testing::connect(async move |socket| attaching.attach(user % 25, socket).await));
                settle().await;
                let _ = hub.join(&user, "room").await;
                let _ = hub.join(&user, "kept").await;
                let _ = hub.room("kept").send("message").await;
                let _ = hub.send(&user, "message").await;
                let _ = hub.send(&(1000 + user), "to nobody").await;
            }
            hub.kick(&0).await.unwrap();
            clients.truncate(if round == 2 { 0 } else { 15 });
            settle().await;
            hub.broadcast("message").await;
            drop(clients);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(hub.inner.read().everyone().len(), 0);
            assert_eq!((hub.inner.read().counts(), hub.rooms()), ((0, 0, 0), vec![]));
            assert_eq!(hub.inner.feeds.all().len(), 0);
            assert_eq!(hub.inner.attached.load(Ordering::SeqCst), 0);
            assert_eq!(Arc::strong_count(&hub.inner), 1);
        }
    }
}
