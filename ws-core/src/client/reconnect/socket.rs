//! [`ReconnectingWebSocket`] and [`ReconnectingSender`]: what the user holds of a connection that reconnects.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::sync::watch;

use super::error::SendError;
use super::queue::{Phase, Queue, Unflushed, Wait};
use super::state::{ReconnectState, States};
use crate::close::{CloseCode, CloseFrame, InvalidClose};
#[cfg(feature = "json")]
use crate::error::Error;
use crate::message::Message;
use crate::utf8::Utf8Bytes;

/// The state that the user and the task share.
pub(super) struct Shared {
    pub(super) inbound: Queue,
    pub(super) outbound: Queue,
    state: watch::Sender<ReconnectState>,
    /// The Close frame to send, after the user has asked to close.
    closing: watch::Sender<Option<CloseFrame>>,
}

impl Shared {
    pub(super) fn new(inbound: Queue, outbound: Queue) -> Arc<Self> {
        let state = watch::Sender::new(ReconnectState::Connecting { attempt: 1 });
        Arc::new(Self { inbound, outbound, state, closing: watch::Sender::new(None) })
    }

    pub(super) fn set_state(&self, state: ReconnectState) {
        self.state.send_replace(state);
    }

    /// Sets the last state. Only the first call sets it.
    pub(super) fn end(&self, state: ReconnectState) {
        self.outbound.set_phase(Phase::Ended);
        self.outbound.clear();
        self.state.send_if_modified(|known| {
            let is_new = !known.is_ended();
            if is_new {
                *known = state;
            }
            is_new
        });
        // last, so that the state is there when `recv` returns `None`
        self.inbound.set_phase(Phase::Ended);
    }

    /// Asks the task to close. Only the first call has an effect.
    fn close(&self, frame: CloseFrame) {
        // messages that are queued already may still be sent
        self.outbound.set_phase(Phase::Ended);
        self.closing.send_if_modified(|closing| {
            let is_first = closing.is_none();
            closing.get_or_insert(frame);
            is_first
        });
    }

    /// Waits until the user asks to close.
    pub(super) async fn asked_to_close(&self) -> CloseFrame {
        let mut closing = self.closing.subscribe();
        loop {
            if let Some(frame) = &*closing.borrow_and_update() {
                return frame.clone();
            }
            // it fails only without a sender, and `self` has one
            let _ = closing.changed().await;
        }
    }
}

/// A WebSocket to one server that connects again when its connection ends, made by
/// [`Reconnect::start`](super::Reconnect::start).
///
/// [`recv`](Self::recv) and [`send`](Self::send) work across its connections, and [`states`](Self::states) shows the changes.
/// It is a [`Stream`], and a [`Sink`] as its [`ReconnectingSender`] is. Its task ends after [`close`](Self::close), or closes with 1000 when the socket is dropped. A [`ReconnectingSender`] does
/// not keep it open.
///
/// ```no_run
/// use ws_core::client::Client;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut socket = Client::new().reconnecting("ws://localhost:3000/chat").start();
/// socket.send("hello").await?; // queued until there is a connection
/// while let Some(message) = socket.recv().await {
///     println!("{message:?}");
/// }
/// println!("ended: {:?}", socket.state());
/// # Ok(())
/// # }
/// ```
#[must_use = "it ends when it is dropped"]
pub struct ReconnectingWebSocket {
    sender: ReconnectingSender,
    receiving: Wait,
}

/// Sends over a [`ReconnectingWebSocket`]. Clone it for other tasks.
///
/// It is also a [`Sink`], which differs from [`send`](Self::send): if the queue is full, it waits for space also while there
/// is no connection. Flushing it waits until a connection has taken what it has queued, and fails with
/// [`SendError::Dropped`] if queued messages were dropped instead. Closing it closes the socket with 1000.
///
/// ```
/// use ws_core::client::{ReconnectingSender, ReconnectingWebSocket};
///
/// async fn report(sender: ReconnectingSender) {
///     while sender.send("still here").await.is_ok() {
///         tokio::time::sleep(std::time::Duration::from_secs(60)).await;
///     }
/// }
///
/// fn start(socket: &ReconnectingWebSocket) {
///     tokio::spawn(report(socket.sender()));
/// }
/// ```
pub struct ReconnectingSender {
    shared: Arc<Shared>,
    /// For its use as a `Sink`.
    unflushed: Option<Unflushed>,
    sending: Wait,
    closing: Wait,
}

impl ReconnectingSender {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, unflushed: None, sending: None, closing: None }
    }

    /// Queues a message for this connection or the next one.
    ///
    /// While there is a connection, it waits for space in the queue. While there is none, it fails if the queue is full.
    /// Queued messages go to a connection once, in order, after [`Reconnect::on_connect`](super::Reconnect::on_connect) has
    /// run. If the connection breaks, messages that it has taken may be lost, as on any connection: if that matters, let the
    /// other side acknowledge them.
    ///
    /// # Errors
    ///
    /// [`SendError`], which contains the message.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing was queued.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.outbound.push(message.into()).await
    }

    /// Queues a message as [`send`](Self::send) does, but never waits.
    ///
    /// # Errors
    ///
    /// [`SendError`], which contains the message. It is [`SendError::Full`] also while there is a connection.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.outbound.try_push(message.into())
    }

    /// Queues a value as JSON, in a text message, as [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::Json`] if the value cannot be written as JSON.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send): if the future is dropped before it is ready, nothing was queued.
    #[cfg(feature = "json")]
    pub async fn send_json<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        let message = Message::text(serde_json::to_string(value)?);
        self.send(message).await
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> ReconnectState {
        self.shared.state.borrow().clone()
    }

    /// The current state, and every later one.
    pub fn states(&self) -> States {
        States::new(self.shared.state.subscribe())
    }

    /// Closes it, also while it waits or connects, and waits until it has ended. It does not reconnect.
    ///
    /// If there is a connection, it sends the queued messages, for at most the close timeout, and then a Close frame with
    /// this code and reason. Without a connection, it drops them. Messages that were received before stay available.
    ///
    /// # Errors
    ///
    /// If the code or the reason may not be sent; then nothing is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the socket is closed nevertheless.
    pub async fn close(
        &self,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<(), InvalidClose> {
        self.close_with(CloseFrame::new(code, reason)).await
    }

    /// As [`close`](Self::close), with the code and the reason in one value.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// As [`close`](Self::close): if the future is dropped after its first poll, it ends all the same.
    pub async fn close_with(&self, frame: CloseFrame) -> Result<(), InvalidClose> {
        frame.check()?;
        self.shared.close(frame);
        let mut states = self.states();
        while states.changed().await.is_some_and(|state| !state.is_ended()) {}
        Ok(())
    }
}

impl ReconnectingWebSocket {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { sender: ReconnectingSender::new(shared), receiving: None }
    }

    /// Receives the next message, of any of its connections; `None` after it has ended. Why it has ended is in
    /// [`state`](Self::state).
    ///
    /// The client's [`inbound_queue`](crate::client::Client::inbound_queue) bounds the messages that are not yet received,
    /// here and in the connection. When it is full, reading pauses, and no new connection opens until there is space again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no message is lost. It works in `tokio::select!`.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Receives the next message as JSON, of a text or a binary message; `None` after it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if the message is not JSON of a `T`. The next call receives the next message.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv): if the future is dropped before it is ready, no message is lost.
    #[cfg(feature = "json")]
    pub async fn recv_json<T: serde::de::DeserializeOwned>(&mut self) -> Option<Result<T, Error>> {
        let message = self.recv().await?;
        Some(message.to_json())
    }

    /// A handle to send from other tasks. It does not keep the socket open.
    #[must_use]
    pub fn sender(&self) -> ReconnectingSender {
        self.sender.clone()
    }

    /// Queues a message: see [`ReconnectingSender::send`].
    ///
    /// # Errors
    ///
    /// [`SendError`], which contains the message.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing was queued.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// Queues a message without waiting: see [`ReconnectingSender::try_send`].
    ///
    /// # Errors
    ///
    /// [`SendError`], which contains the message.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// Queues a value as JSON: see [`ReconnectingSender::send_json`].
    ///
    /// # Errors
    ///
    /// As [`ReconnectingSender::send_json`].
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send): if the future is dropped before it is ready, nothing was queued.
    #[cfg(feature = "json")]
    pub async fn send_json<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        self.sender.send_json(value).await
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> ReconnectState {
        self.sender.state()
    }

    /// The current state, and every later one.
    pub fn states(&self) -> States {
        self.sender.states()
    }

    /// Closes it, and waits until it has ended: see [`ReconnectingSender::close`].
    ///
    /// # Errors
    ///
    /// If the code or the reason may not be sent; then nothing is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the socket is closed nevertheless.
    pub async fn close(
        &self,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<(), InvalidClose> {
        self.sender.close(code, reason).await
    }

    /// As [`ReconnectingSender::close_with`].
    ///
    /// # Errors
    ///
    /// As [`ReconnectingSender::close`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReconnectingSender::close`]: if the future is dropped after its first poll, it ends all the same.
    pub async fn close_with(&self, frame: CloseFrame) -> Result<(), InvalidClose> {
        self.sender.close_with(frame).await
    }
}

impl Drop for ReconnectingWebSocket {
    fn drop(&mut self) {
        self.sender.shared.close(CloseFrame::new(CloseCode::NORMAL_CLOSURE, ""));
    }
}

impl Stream for ReconnectingWebSocket {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let this = self.get_mut();
        this.sender.shared.inbound.poll_pop(cx, &mut this.receiving)
    }
}

impl Sink<Message> for ReconnectingWebSocket {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.get_mut().sender).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        Pin::new(&mut self.get_mut().sender).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.get_mut().sender).poll_close(cx)
    }
}

impl Clone for ReconnectingSender {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Sink<Message> for ReconnectingSender {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self.get_mut();
        this.shared.outbound.poll_space(cx, &mut this.sending).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        let this = self.get_mut();
        this.shared.outbound.push_unflushed(message, &mut this.unflushed)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self.get_mut();
        this.shared.outbound.poll_flush(cx, &mut this.sending, &mut this.unflushed)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let this = self.get_mut();
        this.shared.close(CloseFrame::new(CloseCode::NORMAL_CLOSURE, ""));
        // the queue of the receiver is the last to end
        ready!(this.shared.inbound.poll_end(cx, &mut this.closing));
        // everything is sent or dropped by now
        this.shared.outbound.poll_flush(cx, &mut this.sending, &mut this.unflushed)
    }
}

impl fmt::Debug for ReconnectingWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingWebSocket").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReconnectingSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingSender").field("state", &self.state()).finish_non_exhaustive()
    }
}
