//! [`Hub::attach`] and its variants: making a connection one of a user's.

use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use ws_core::{Error as ConnectionError, Outcome, Sender, WebSocket};

use crate::error::Error;
use crate::hub::Hub;
use crate::log::Continuity;
use crate::member::Member;
use crate::position::{Position, Resumed};
use crate::pump::{End, Pump};
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
    pub fn attach(&self, user: U, socket: WebSocket) -> impl Future<Output = Result<(), Error>> {
        self.attached(user, socket, None, Silent, |error| match error.downcast() {
            Ok(error) => Error::Connection(*error),
            Err(error) => Error::Handler(error),
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
    pub fn attach_with<F, Fut>(
        &self,
        user: U,
        socket: WebSocket,
        handler: F,
    ) -> impl Future<Output = Result<(), Error>>
    where
        F: FnOnce(Member<U>) -> Fut,
        Fut: Future<Output: Outcome>,
    {
        self.attached(user, socket, None, handler, Error::Handler)
    }

    /// As [`attach_with`](Self::attach_with), for a client that comes back and knows the position of the last message that it
    /// has got: it goes on from there. Everything up to that message counts as delivered: another connection of the user goes on
    /// with what it has, but if it ends before it has sent that, nobody else gets it. (At most once over a log that takes
    /// waiting, what that one [gives back](crate::Guarantee::AtMostOnce) may come again.)
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
    pub fn attach_after<F, Fut>(
        &self,
        user: U,
        socket: WebSocket,
        after: Option<Position>,
        handler: F,
    ) -> impl Future<Output = Result<(), Error>>
    where
        F: FnOnce(Member<U>) -> Fut,
        Fut: Future<Output: Outcome>,
    {
        self.attached(user, socket, after, handler, Error::Handler)
    }

    /// Lets a connection in, and runs the handler and the pump until both are over.
    // not an `async fn`, which would hold what it was called with as long as it runs, once more than what it makes of that
    fn attached<F, Fut>(
        &self,
        user: U,
        socket: WebSocket,
        after: Option<Position>,
        handler: F,
        failed: fn(Box<dyn std::error::Error + Send + Sync>) -> Error,
    ) -> impl Future<Output = Result<(), Error>>
    where
        F: FnOnce(Member<U>) -> Fut,
        Fut: Future<Output: Outcome>,
    {
        // boxed, as all that is done once: a connection that is idle holds no room for it
        let letting_in = Box::pin(self.let_in(user, socket, after, handler));
        async move {
            let (session, sender, serving) = letting_in.await?;
            let (mut serving, mut closed) = (pin!(Some(serving)), pin!(Some(sender.closed())));
            let mut pump = Pump::new(&session, &sender);
            let mut outcome = None;
            poll_fn(|cx| {
                if let Some(handler) = serving.as_mut().as_pin_mut()
                    && let Poll::Ready(result) = handler.poll(cx)
                {
                    serving.set(None);
                    let result = result.into_result();
                    if result.is_err() {
                        session.finish();
                    }
                    outcome = Some(result);
                }
                if outcome.is_none() && closed.is_some() && pump.is_quiet(cx) && !sender.is_closed() {
                    // as after most turns of the handler. The task was to be woken for the end when it was to be for the pump
                    return Poll::Pending;
                }
                if closed.as_mut().as_pin_mut().is_some_and(|closed| closed.poll(cx).is_ready()) {
                    closed.set(None);
                }
                let end = pump.poll(closed.is_none(), cx);
                match &outcome {
                    None => return Poll::Pending,
                    // it may have gone to another task. Looked at when the pump can be woken for it
                    Some(Ok(())) if end.is_pending() && session.is_left_open() => session.finish(),
                    Some(_) => {}
                }
                let end = ready!(end);
                if end == End::Broken && closed.is_some() && matches!(outcome, Some(Ok(()))) {
                    return Poll::Pending;
                }
                outcome.take().map_or(Poll::Pending, Poll::Ready)
            })
            .await
            .map_err(failed)
        }
    }

    /// Lets a connection in, and calls the handler.
    async fn let_in<F, Fut>(
        &self,
        user: U,
        socket: WebSocket,
        after: Option<Position>,
        handler: F,
    ) -> Result<(Session<U>, Sender, Fut), Error>
    where
        F: FnOnce(Member<U>) -> Fut,
    {
        let (sender, receiver) = socket.split();
        let session = Session::new(&self.inner, &user, &sender);
        let resumed = match self.log_in(&session, &sender, after).await {
            Ok(resumed) => resumed,
            Err(NotLetIn { refused, frame }) => {
                self.inner.counters.refused.add(1);
                let _ = tokio::join!(session.leave(), sender.close_with(frame));
                return Err(refused.into());
            }
        };
        if let Some((heartbeat, answer)) = &self.inner.config.heartbeat {
            sender.answer_heartbeat(heartbeat.clone(), answer.clone());
        }
        session.give_member();
        let member = Member::new(self.clone(), &session, sender.clone(), receiver, resumed);
        Ok((session, sender, handler(member)))
    }

    async fn log_in(
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

/// The handler of a user who only gets messages: drops what the client sends.
struct Silent<U>(Member<U>);

impl<U> Future for Silent<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some(message) = ready!(self.0.poll_recv(cx)) {
            message?;
        }
        Poll::Ready(Ok(()))
    }
}
