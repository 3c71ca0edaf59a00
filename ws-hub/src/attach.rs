//! [`Hub::attach`] and its variants: making a connection one of a user's.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::oneshot;
use ws_core::{Error as ConnectionError, Outcome, Sender, WebSocket};

use crate::error::Error;
use crate::hub::Hub;
use crate::log::Continuity;
use crate::member::Member;
use crate::position::{Position, Resumed};
use crate::session::{NotLetIn, Session};

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
    /// If the future is dropped, the connection is not the user's any more, and what it has not got waits for the next login.
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
    /// closes; what is still in the log stays there.
    ///
    /// ```
    /// use ws_core::WebSocket;
    /// use ws_hub::{Error, Hub, Member};
    ///
    /// async fn chat(hub: Hub<String>, user: String, socket: WebSocket) -> Result<(), Error> {
    ///     hub.attach_with(user, socket, async |mut member: Member<String>| {
    ///         member.join("lobby").await?;
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
        self.attach_after(user, socket, None, handler).await
    }

    /// As [`attach_with`](Self::attach_with), for a client that comes back and knows the position of the last message that it
    /// has got: it goes on from there. Everything up to that message counts as delivered.
    ///
    /// [`Member::resumed`] tells whether it missed something that is no longer in the log. A client learns positions if the
    /// hub [writes them](crate::HubBuilder::framed). It tells the last one in the query of its URL, or in its first message.
    /// It needs not be trusted: with a wrong one it only gets what anyone would who has logged in as this user.
    ///
    /// How long a client may be away is up to the log, such as [`MemoryLog::history`](crate::MemoryLog::history): when the log
    /// has forgotten the user, nobody knows whether something was missed, and the client is told that it may have.
    ///
    /// ```
    /// use ws_core::{Error, Message, WebSocket, testing};
    /// use ws_hub::{Hub, Member, Position, Resumed, framing};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let hub = Hub::<u64>::builder()
    ///     .framed(framing::prefix)
    ///     .greeting(|resumed| (*resumed == Resumed::Incomplete).then(|| Message::text("load the page again")))
    ///     .build();
    ///
    /// // on a server, `after` is what the client says: `query.after.and_then(|after| after.parse().ok())`
    /// let connect = |after: Option<Position>| {
    ///     let hub = hub.clone();
    ///     testing::connect(async move |socket: WebSocket| {
    ///         let handler = async |mut member: Member<u64>| {
    ///             while let Some(message) = member.recv().await {
    ///                 message?;
    ///             }
    ///             Ok::<_, Error>(())
    ///         };
    ///         hub.attach_after(7, socket, after, handler).await
    ///     })
    /// };
    /// for news in ["one", "two"] {
    ///     hub.send(&7, news).await;
    /// }
    /// let mut client = connect(None);
    /// let first = client.recv().await.unwrap()?;
    /// let (position, news) = first.as_text().unwrap().split_once('\n').unwrap();
    /// assert_eq!(news, "one");
    /// drop(client);
    ///
    /// // whatever the server believes that this client has got
    /// let mut client = connect(Some(position.parse().unwrap()));
    /// assert!(client.recv().await.unwrap()?.as_text().unwrap().ends_with("\ntwo"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`attach_with`](Self::attach_with).
    ///
    /// # Cancel safety
    ///
    /// As [`attach`](Self::attach).
    pub async fn attach_after<F, Fut>(
        &self,
        user: U,
        socket: WebSocket,
        after: Option<Position>,
        handler: F,
    ) -> Result<(), Error>
    where
        F: FnOnce(Member<U>) -> Fut,
        Fut: Future<Output: Outcome>,
    {
        let (sender, receiver) = socket.split();
        let mut session = Session::new(&self.inner, &user, &sender);
        // boxed, as all that is done once: a connection that is idle holds no room for it
        let resumed = match Box::pin(self.let_in(&session, &sender, after)).await {
            Ok(resumed) => resumed,
            Err(NotLetIn { refused, frame }) => {
                self.inner.counters.refused.add(1);
                session.leave().await;
                let _ = Box::pin(sender.close_with(frame)).await;
                return Err(refused.into());
            }
        };
        if let Some((heartbeat, answer)) = &self.inner.config.heartbeat {
            sender.answer_heartbeat(heartbeat.clone(), answer.clone());
        }
        let (alive, gone) = oneshot::channel();
        let member = Member::new(self.clone(), &session, sender.clone(), receiver, resumed, alive);
        let (user, connection) = (Arc::clone(&session.user), session.connection);
        let serving = async {
            let outcome = handler(member).await.into_result();
            if outcome.is_ok() {
                // it may have gone to another task
                tokio::select! {
                    _ = gone => {}
                    _ = sender.closed() => {}
                }
            }
            self.inner.finish(&user, connection);
            outcome
        };
        let pumping = async {
            let frame = session.pump(&sender).await;
            // a new login need not wait for the closing handshake
            session.leave().await;
            if let Some(frame) = frame {
                let _ = Box::pin(sender.close_with(frame)).await;
            }
        };
        let (outcome, ()) = tokio::join!(serving, pumping);
        outcome.map_err(Error::Handler)
    }

    async fn let_in(
        &self,
        session: &Session<U>,
        sender: &Sender,
        after: Option<Position>,
    ) -> Result<Resumed, NotLetIn> {
        let logged_in = session.log_in(after).await?;
        let read = &logged_in.read;
        let resumed = match (after, read.continuity) {
            (None, _) => Resumed::Fresh,
            (Some(_), Continuity::Complete) => {
                Resumed::Complete { missed: read.top.map_or(0, |top| top.number.saturating_sub(read.after)) }
            }
            (Some(_), Continuity::Incomplete) => Resumed::Incomplete,
        };
        if let Some(greeting) = self.inner.config.greeting.as_ref().and_then(|greeting| greeting(&resumed)) {
            // nothing was sent before it, so there is room
            let _ = sender.try_send(greeting);
        }
        session.enter(logged_in)?;
        Ok(resumed)
    }
}
