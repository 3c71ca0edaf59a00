//! [`Hub`]: the registry of users, and what can be sent to them.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::sleep;
use ws_core::{CloseCode, CloseFrame, Drain, InvalidClose, Message, PreparedMessage, Utf8Bytes};

use crate::audience::Audience;
use crate::backplane::{BackplaneError, Packet, Target};
use crate::close_code;
use crate::delivery::{Delivery, DropReason};
use crate::error::{JoinError, Refused};
use crate::event::Events;
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
///         Delivery::Sent(_) | Delivery::Published => "on its way",
///         Delivery::Stored { .. } => "waits for the next login",
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
    /// Sends a message to a user, on all their connections. If they have none, it is stored for their next login.
    ///
    /// It waits only for the offline store and the backplane. A client that reads slowly does not delay it: that client's
    /// queue overflows.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message may have been sent or not.
    pub async fn send(&self, user: &U, message: impl Into<Message>) -> Delivery {
        let message = PreparedMessage::new(message);
        let delivery = match self.inner.publish_to(user, &message).await {
            Ok(published) => match self.inner.offer_or_store(user, &message, published).await {
                Delivery::Sent(sent) => Delivery::Sent(sent),
                _ if published => Delivery::Published,
                other => other,
            },
            Err(()) => match self.inner.offer(user, &message).queued {
                0 => Delivery::Dropped(DropReason::Backplane),
                sent => Delivery::Sent(sent),
            },
        };
        if !delivery.is_accepted() {
            self.inner.counters.dropped.add(1);
        }
        delivery
    }

    /// Sends a message to all who are connected; returns how many connections of this hub it is queued on.
    ///
    /// It is encoded once, and its bytes are shared by all connections. It is not stored.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the users of other nodes may not get the message.
    pub async fn broadcast(&self, message: impl Into<Message>) -> usize {
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
    /// # Errors
    ///
    /// If the user is not connected to this hub, or is in too many rooms.
    pub fn join(&self, user: &U, room: &str) -> Result<bool, JoinError> {
        self.inner.write().join(user, room, self.inner.config.max_rooms)
    }

    /// Takes a user out of a room. Returns whether they were in it.
    pub fn leave(&self, user: &U, room: &str) -> bool {
        self.inner.write().leave(user, room)
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

    /// Who is connected to this hub or to another node; in no order.
    ///
    /// # Errors
    ///
    /// If the backplane fails.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn online_everywhere(&self) -> Result<Vec<U>, BackplaneError> {
        match &self.inner.config.backplane {
            Some(backplane) => backplane.online().await,
            None => Ok(self.online()),
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

    /// Closes the connections of a user, on all nodes, with this code and reason; returns how many there were on this one.
    /// Nothing more is sent on them; what waits for the user goes to the offline store.
    ///
    /// # Errors
    ///
    /// If the code or the reason may not be sent; then nothing is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, connections on other nodes may go on.
    pub async fn disconnect(
        &self,
        user: &U,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<usize, InvalidClose> {
        let frame = CloseFrame::new(code, reason);
        frame.check()?;
        let closed = self.inner.disconnect(user, &frame);
        self.inner.publish(Target::Others, || Packet::Disconnect { user: user.clone(), frame }).await;
        Ok(closed)
    }

    /// Closes the connections of a user with [`close_code::KICKED`], which tells a client not to come back; returns how many
    /// there were on this hub.
    ///
    /// # Cancel safety
    ///
    /// As [`disconnect`](Self::disconnect).
    pub async fn kick(&self, user: &U) -> usize {
        // the code and the reason are ones that may be sent
        self.disconnect(user, close_code::KICKED, "sent away by the application").await.unwrap_or(0)
    }

    /// Lets nobody in any more, closes all connections in batches, and waits until they are over and what they did not
    /// send is in the offline store, at most for the timeout of `drain`. There is no way back.
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
                    inner.change(user, |state, wakes| {
                        state.end_all(&frame, &inner.config.rules, wakes, |_| true)
                    });
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
        drain
            .in_time(async {
                tokio::select! {
                    biased;
                    never = close_in_batches => match never {},
                    () = all_left => {}
                }
            })
            .await;
        let remaining = inner.attached.load(Ordering::SeqCst);
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

    /// Lets all tasks run until they wait.
    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_users_who_are_gone() {
        let hub = Hub::<u64>::builder().max_connections(20).build();
        for round in 0..3 {
            let mut clients = Vec::new();
            for user in 0..30 {
                let attaching = hub.clone();
                clients.push(testing::connect(async move |socket| attaching.attach(user % 25, socket).await));
                settle().await;
                let _ = hub.join(&user, "room");
                let _ = hub.send(&user, "message").await;
                let _ = hub.send(&(1000 + user), "to nobody").await;
            }
            hub.kick(&0).await;
            clients.truncate(if round == 2 { 0 } else { 15 });
            settle().await;
            hub.broadcast("message").await;
            drop(clients);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(hub.inner.read().everyone().len(), 0);
            assert_eq!((hub.inner.read().counts(), hub.rooms()), ((0, 0, 0), vec![]));
            assert_eq!(hub.inner.attached.load(Ordering::SeqCst), 0);
            assert_eq!(Arc::strong_count(&hub.inner), 1);
        }
    }
}
