//! [`WebSocket`]: a connection as a handler gets it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;

use super::handle::connection_methods;
use super::receiver::Receiver;
use super::sender::{Sender, Sending};
use super::shared::Shared;
use crate::close::{CloseCode, CloseFrame};
use crate::error::{Error, TrySendError};
use crate::message::Message;
use crate::prepared::PreparedMessage;
use crate::utf8::Utf8Bytes;

/// An open WebSocket, as a handler gets it.
///
/// Pings, pongs, the closing handshake and the time limits are taken care of behind it, also while the handler does
/// something else; what is left is [`recv`](Self::recv) and [`send`](Self::send). It is a [`Stream`] and a [`Sink`],
/// too. [`split`](Self::split) gives two halves that can go to different tasks.
///
/// The connection closes with 1000 when the handler has returned, unless the `WebSocket` or its [`Receiver`] was moved
/// elsewhere; then it closes when that is dropped. An `Err` from the handler, or a panic, closes it with 1011.
///
/// ```
/// use ws_core::{Error, WebSocket};
///
/// async fn echo(mut socket: WebSocket) -> Result<(), Error> {
///     while let Some(message) = socket.recv().await {
///         socket.send(message?).await?;
///     }
///     Ok(())
/// }
/// ```
#[must_use = "the connection closes when its `WebSocket` is dropped"]
pub struct WebSocket {
    sender: Sender,
    receiver: Receiver,
}

#[expect(clippy::missing_errors_doc, reason = "the halves tell the errors")]
impl WebSocket {
    connection_methods!(sender.shared);

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let sender = Sender::new(Arc::clone(&shared));
        Self { sender, receiver: Receiver { shared } }
    }

    /// Splits the socket into a half that sends and one that receives; both can move to other tasks.
    ///
    /// The connection closes when the handler has returned and the [`Receiver`] is dropped.
    #[must_use = "the connection closes when its `Receiver` is dropped"]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// A handle that sends, for other tasks; it does not keep the connection open.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// As [`Receiver::recv`], with its errors and its cancel safety.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        // as the receiver does, without a future around its future: it is a part of every handler
        poll_fn(|cx| Pin::new(&mut self.receiver).poll_next(cx)).await
    }

    /// As [`Receiver::recv_json`], with its errors and its cancel safety.
    #[cfg(feature = "json")]
    pub async fn recv_json<T: serde::de::DeserializeOwned>(&mut self) -> Option<Result<T, Error>> {
        self.receiver.recv_json().await
    }

    /// As [`Sender::send`], with its errors and its cancel safety.
    pub fn send(&mut self, message: impl Into<Message>) -> Sending<'_> {
        self.sender.send(message)
    }

    /// As [`Sender::try_send`], with its errors.
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<(), TrySendError> {
        self.sender.try_send(message)
    }

    /// As [`Sender::send_prepared`], with its errors and its cancel safety.
    pub fn send_prepared<'a>(&'a mut self, message: &'a PreparedMessage) -> Sending<'a> {
        self.sender.send_prepared(message)
    }

    /// As [`Sender::try_send_prepared`], with its errors.
    pub fn try_send_prepared(&mut self, message: &PreparedMessage) -> Result<(), TrySendError> {
        self.sender.try_send_prepared(message)
    }

    /// As [`Sender::send_json`], with its errors and its cancel safety.
    #[cfg(feature = "json")]
    pub async fn send_json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.sender.send_json(value).await
    }

    /// As [`Sender::flush`], with its errors and its cancel safety.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// As [`Sender::close`], with its errors and its cancel safety.
    pub async fn close(
        &mut self,
        code: impl Into<CloseCode>,
        reason: impl Into<Utf8Bytes>,
    ) -> Result<Option<CloseFrame>, Error> {
        self.sender.close(code, reason).await
    }

    /// As [`Sender::close_with`], with its errors and its cancel safety.
    pub async fn close_with(&mut self, frame: CloseFrame) -> Result<Option<CloseFrame>, Error> {
        self.sender.close_with(frame).await
    }

    /// As [`Sender::ping`], with its errors and its cancel safety.
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        self.sender.ping().await
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(cx)
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.get_mut().sender).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().sender).poll_close(cx)
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebSocket").field(&self.sender.shared).finish()
    }
}
