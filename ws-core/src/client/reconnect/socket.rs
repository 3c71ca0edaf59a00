//! What the user holds of a connection that comes back.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::queue::{Phase, Queue};
use super::state::{ReconnectState, States};
use crate::close::{CloseCode, CloseFrame, InvalidClose};
use crate::message::Message;
use crate::utf8::Utf8Bytes;

/// What the user and the task share.
pub(super) struct Shared {
    pub(super) inbound: Queue,
    pub(super) outbound: Queue,
    state: watch::Sender<ReconnectState>,
    /// What to close with, when it has been asked for.
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

    /// It is over for good, unless that is known already.
    pub(super) fn end(&self, state: ReconnectState) {
        self.outbound.set_phase(Phase::Ended);
        self.outbound.clear();
        self.inbound.set_phase(Phase::Ended);
        self.state.send_if_modified(|known| {
            let is_new = !known.is_ended();
            if is_new {
                *known = state;
            }
            is_new
        });
    }

    /// Asks for the end, if nobody has.
    fn close(&self, frame: CloseFrame) {
        // what was queued before may still be sent
        self.outbound.set_phase(Phase::Ended);
        self.closing.send_if_modified(|closing| {
            let is_first = closing.is_none();
            closing.get_or_insert(frame);
            is_first
        });
    }

    /// Waits until the end has been asked for.
    pub(super) async fn asked_to_close(&self) -> CloseFrame {
        let mut closing = self.closing.subscribe();
        loop {
            if let Some(frame) = &*closing.borrow_and_update() {
                return frame.clone();
            }
            // it fails only if there is no sender, which is here
            let _ = closing.changed().await;
        }
    }
}

/// A WebSocket to one server that is opened anew when it ends, made by [`Reconnect::start`](super::Reconnect::start).
///
/// [`recv`](Self::recv) and [`send`](Self::send) go on over all its connections; what happens between them is told by
/// [`states`](Self::states). It has a task of its own, and ends with [`close`](Self::close), or with 1000 when it is
/// dropped; a [`ReconnectingSender`] does not keep it.
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
/// println!("over for good: {:?}", socket.state());
/// # Ok(())
/// # }
/// ```
#[must_use = "it ends when it is dropped"]
pub struct ReconnectingWebSocket {
    sender: ReconnectingSender,
}

/// Sends over a [`ReconnectingWebSocket`]: clone it, give it to other tasks.
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
#[derive(Clone)]
pub struct ReconnectingSender {
    shared: Arc<Shared>,
}

impl ReconnectingSender {
    /// Queues a message, to be sent by this connection or by the next one.
    ///
    /// While there is a connection, this waits until there is room in the queue; while there is none, it does not: see
    /// [`SendError`]. What was queued is handed to a connection once, in order, after the hook of
    /// [`Reconnect::on_connect`](super::Reconnect::on_connect) has run. What was handed to a connection that then breaks
    /// may be lost, as on any connection: where that matters, have the other side acknowledge.
    ///
    /// # Errors
    ///
    /// [`SendError`], which gives the message back.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, nothing was queued.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.outbound.push(message.into()).await
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::Full`] also while there is a connection.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.outbound.try_push(message.into())
    }

    /// What it is doing now.
    #[must_use]
    pub fn state(&self) -> ReconnectState {
        self.shared.state.borrow().clone()
    }

    /// What it is doing now, and from now on.
    pub fn states(&self) -> States {
        States::new(self.shared.state.subscribe())
    }

    /// Ends it for good, also while it waits or connects, and waits until that is done.
    ///
    /// If there is a connection, what is queued is sent, for at most the close timeout, and the connection is closed with
    /// this code and reason. If there is none, what is queued is dropped. What has come in before can still be received.
    ///
    /// # Errors
    ///
    /// If the code or the reason may not be sent; it goes on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, it ends all the same.
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
        Self { sender: ReconnectingSender { shared } }
    }

    /// Receives the next message, of whichever connection; `None` when it is over for good.
    ///
    /// Messages that nobody takes are bounded by the [`inbound_queue`](crate::client::Client::inbound_queue) of the client,
    /// here and in the connection. When that is full, reading pauses, and no other connection is opened before there is
    /// room again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no message is lost: it is good in `tokio::select!`.
    pub async fn recv(&mut self) -> Option<Message> {
        self.sender.shared.inbound.pop().await
    }

    /// A handle that sends, for other tasks; it does not keep this from ending.
    #[must_use]
    pub fn sender(&self) -> ReconnectingSender {
        self.sender.clone()
    }

    /// As [`ReconnectingSender::send`].
    ///
    /// # Errors
    ///
    /// As [`ReconnectingSender::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReconnectingSender::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// As [`ReconnectingSender::try_send`].
    ///
    /// # Errors
    ///
    /// As [`ReconnectingSender::try_send`].
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// As [`ReconnectingSender::state`].
    #[must_use]
    pub fn state(&self) -> ReconnectState {
        self.sender.state()
    }

    /// As [`ReconnectingSender::states`].
    pub fn states(&self) -> States {
        self.sender.states()
    }

    /// As [`ReconnectingSender::close`].
    ///
    /// # Errors
    ///
    /// As [`ReconnectingSender::close`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReconnectingSender::close`].
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

/// Why a message was not queued; it gives the message back.
///
/// ```
/// use ws_core::client::{ReconnectingWebSocket, SendError};
///
/// async fn send(socket: &ReconnectingWebSocket, text: &str) {
///     match socket.send(text).await {
///         Ok(()) => {}
///         Err(SendError::Ended(_)) => println!("signed out"),
///         Err(error) => println!("offline, keep for later: {:?}", error.into_message()),
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection, and the queue has no room for the message.
    #[error("there is no connection, and the queue is full")]
    Full(Message),
    /// There is no connection, and nothing is queued without one: see
    /// [`Reconnect::without_queue`](super::Reconnect::without_queue).
    #[error("there is no connection")]
    NotConnected(Message),
    /// It is over for good.
    #[error("the connection has ended for good")]
    Ended(Message),
}

impl SendError {
    /// The message that was not sent.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message) | Self::NotConnected(message) | Self::Ended(message) => message,
        }
    }

    /// Whether it is over for good: sending again will fail, too.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}
