//! [`Sender`]: the half of a connection that sends.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_sink::Sink;

use super::handle::{Waiter, connection_methods, wait};
use super::proto::{Connection, Outgoing};
use super::shared::Shared;
use super::waiters::{Event, Place};
use crate::close::{CloseCode, CloseFrame};
use crate::error::{Error, TrySendError};
use crate::message::Message;
use crate::prepared::PreparedMessage;
use crate::utf8::Utf8Bytes;

/// The half of a [`WebSocket`](crate::WebSocket) that sends: clone it, keep it in a registry, give it to other tasks.
///
/// A `Sender` does not keep the connection open; when the connection is over, sending fails with [`Error::Closed`].
///
/// ```
/// use std::time::Duration;
/// use ws_core::{Error, Sender, WebSocket};
///
/// async fn handler(socket: WebSocket) -> Result<(), Error> {
///     let (sender, mut receiver) = socket.split();
///     tokio::spawn(greet(sender.clone()));
///     while let Some(message) = receiver.recv().await {
///         sender.send(message?).await?;
///     }
///     Ok(())
/// }
///
/// async fn greet(sender: Sender) {
///     while sender.send("still here").await.is_ok() {
///         tokio::time::sleep(Duration::from_secs(2)).await;
///     }
/// }
/// ```
pub struct Sender {
    pub(super) shared: Arc<Shared>,
    /// The place in the queue of those who wait, when used as a `Sink`.
    waiter: Option<Place>,
    /// Where the flush that the `Sink` has begun is over.
    flush: Option<NonZeroU64>,
}

/// The future of [`Sender::send`] and [`Sender::send_prepared`], which tell what it does.
///
/// ```
/// use ws_core::{Error, WebSocket};
///
/// async fn greet(mut socket: WebSocket) -> Result<(), Error> {
///     let sending = socket.send("hello"); // nothing yet
///     sending.await
/// }
/// ```
// named, and not that of an `async fn`, which would hold the message twice: it is a part of every handler that sends
#[must_use = "nothing is sent until the future is awaited"]
pub struct Sending<'a> {
    waiter: Waiter<'a>,
    message: Option<Outgoing<'a>>,
}

impl<'a> Sending<'a> {
    fn new(shared: &'a Shared, message: Outgoing<'a>) -> Self {
        Self { waiter: Waiter { shared, place: None }, message: Some(message) }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self { waiter, message } = self.get_mut();
        waiter.shared.poll_send(cx, &mut waiter.place, message)
    }
}

impl fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sending").field(self.waiter.shared).finish()
    }
}

/// A ping whose answer is awaited, forgotten when the future that waits is dropped.
struct PendingPing<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for PendingPing<'_> {
    fn drop(&mut self) {
        self.shared.with(|connection| connection.forget_ping(self.id));
    }
}

impl Sender {
    connection_methods!(shared);

    /// Sends a message: waits until there is room in the outbound buffer, and queues the message there.
    ///
    /// All that a handler sends before it next waits leaves in one write; it is on its way as soon as the handler
    /// waits for anything.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is over, or its closing handshake has begun.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing was queued.
    pub fn send(&self, message: impl Into<Message>) -> Sending<'_> {
        Sending::new(&self.shared, Outgoing::Own(message.into()))
    }

    /// Queues a message if there is room in the outbound buffer now.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is no room, [`TrySendError::Closed`] if nothing can be sent any more. Both give
    /// the message back.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.shared.try_send(Outgoing::Own(message.into()))
    }

    /// As [`send`](Self::send), for a message that many connections send, which is compressed once for all of them: see
    /// [`PreparedMessage`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), which tells of cancel safety, too.
    pub fn send_prepared<'a>(&'a self, message: &'a PreparedMessage) -> Sending<'a> {
        Sending::new(&self.shared, Outgoing::Prepared(message))
    }

    /// As [`try_send`](Self::try_send), for a message that many connections send: see [`PreparedMessage`].
    ///
    /// A queue that feeds the connection waits for room with [`Sink::poll_ready`] first.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send); what is given back is a clone of the message, which shares the payload.
    pub fn try_send_prepared(&self, message: &PreparedMessage) -> Result<(), TrySendError> {
        self.shared.try_send(Outgoing::Prepared(message))
    }

    /// Sends a value as JSON, in a text message.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), which tells of cancel safety, too; [`Error::Json`] if the value cannot be JSON.
    #[cfg(feature = "json")]
    pub async fn send_json<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let message = Message::json(value)?;
        self.send(message).await
    }

    /// Waits until all that was sent before has been handed to the transport. Sending needs no flush.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection ended before.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn flush(&self) -> Result<(), Error> {
        let end = self.shared.with(|connection| connection.queued());
        wait(&self.shared, Event::Written(end), |connection| connection.poll_flushed(end)).await
    }

    /// Closes the connection: sends what is queued, then a Close frame with this code and reason, and waits for the
    /// peer's Close frame, at most for the close timeout. Returns what the peer answered; `None` for an empty frame.
    ///
    /// If the closing handshake has begun already, this waits for its end.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidClose`] if the code is not one that may be sent (1000–1003, 1007–1014, 3000–4999), or the reason
    /// has more than 123 bytes; the connection goes on. [`Error::Timeout`] or [`Error::Disconnected`] if the peer did
    /// not answer; [`Error::Closed`] if the connection had failed before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the connection closes all the same.
    pub async fn close(
        &self,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<Option<CloseFrame>, Error> {
        self.close_with(CloseFrame::new(code, reason)).await
    }

    /// As [`close`](Self::close), with the code and the reason in one value.
    ///
    /// ```
    /// use ws_core::{CloseFrame, Error, WebSocket};
    ///
    /// async fn refuse(mut socket: WebSocket) -> Result<(), Error> {
    ///     let frame = CloseFrame { code: 3003.into(), reason: "members only".into() };
    ///     socket.close_with(frame).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close), which tells of cancel safety, too.
    pub async fn close_with(&self, frame: CloseFrame) -> Result<Option<CloseFrame>, Error> {
        self.start_close(frame)?;
        wait(&self.shared, Event::Close, Connection::poll_close).await
    }

    /// From now on, answers a text message that is exactly `heartbeat` with `answer`, in place of receiving it, also while
    /// nobody receives: for clients in browsers, which cannot send pings. It counts as a message for the idle timeout and
    /// for an [`Observer`](crate::Observer).
    ///
    /// Of a client that does not read the answers, heartbeats are ignored while the outbound buffer is full.
    ///
    /// ```
    /// # use ws_core::{Error, WebSocket};
    /// async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    ///     socket.sender().answer_heartbeat("ping", "pong");
    ///     while let Some(message) = socket.recv().await {
    ///         socket.send(message?).await?; // never a `ping`
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn answer_heartbeat(&self, heartbeat: impl Into<Utf8Bytes>, answer: impl Into<Utf8Bytes>) {
        let answer = PreparedMessage::new(Message::Text(answer.into()));
        let heartbeat = heartbeat.into();
        self.shared.with(|connection| connection.set_heartbeat(heartbeat, answer));
    }

    /// Sends a ping, and waits for the pong; returns the round trip time. Keepalive needs no such calls.
    ///
    /// A peer that does not answer is given up after the pong timeout.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the connection is over or ends before the answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the ping may still be sent, and its answer is ignored.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let id = self.shared.with(Connection::ping)?;
        let _forgotten = PendingPing { shared: &self.shared, id };
        wait(&self.shared, Event::Pong(id), |connection| connection.poll_pong(id)).await
    }
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiter: None, flush: None }
    }

    /// Begins the closing handshake, if it has not begun.
    fn start_close(&self, frame: CloseFrame) -> Result<(), Error> {
        frame.check()?;
        self.shared.with(|connection| connection.close(Some(frame)));
        Ok(())
    }
}

#[cfg(fuzzing)]
impl Sender {
    /// How many messages wait for the receiver, and how many bytes for it and for the transport.
    pub(crate) fn queued(&self) -> (usize, usize, u64) {
        self.shared.with(|connection| connection.waiting())
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.forget(&mut self.waiter);
    }
}

impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.shared.poll_room(cx, &mut this.waiter)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.flush = None;
        self.shared.queue(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.flush =
            this.flush.or_else(|| NonZeroU64::new(this.shared.with(|connection| connection.queued())));
        let end = this.flush.map_or(0, NonZeroU64::get);
        let result =
            ready!(this.shared.poll_event(cx, &mut this.waiter, Event::Written(end), |connection| {
                connection.poll_flushed(end)
            }));
        this.flush = None;
        Poll::Ready(result)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.start_close(CloseFrame::new(CloseCode::NORMAL_CLOSURE, ""))?;
        this.shared.poll_event(cx, &mut this.waiter, Event::Close, Connection::poll_close).map_ok(drop)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.shared).finish()
    }
}
