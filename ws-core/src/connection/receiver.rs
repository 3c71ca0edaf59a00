//! [`Receiver`]: the half of a connection that receives.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::handle::connection_methods;
use super::shared::Shared;
use crate::error::Error;
use crate::message::Message;

/// The half of a [`WebSocket`](crate::WebSocket) that receives.
///
/// ```
/// use ws_core::{Receiver, WebSocket};
///
/// async fn handler(socket: WebSocket) {
///     let (_sender, receiver) = socket.split();
///     count(receiver).await;
/// }
///
/// async fn count(mut receiver: Receiver) -> usize {
///     let mut count = 0;
///     while let Some(Ok(_)) = receiver.recv().await {
///         count += 1;
///     }
///     count
/// }
/// ```
#[derive(Debug)]
#[must_use = "messages that come in are dropped when nobody can receive them"]
pub struct Receiver {
    pub(super) shared: Arc<Shared>,
}

impl Receiver {
    connection_methods!(shared);

    /// Receives the next message; `None` after an orderly close by either side.
    ///
    /// A connection that ends in any other way yields what came before, then one error, then `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`] if the transport ended without a Close frame, [`Error::Protocol`] if the peer broke the
    /// protocol or a limit, [`Error::Timeout`] if it took too long. The connection is over then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no message is lost: it is good in `tokio::select!`.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.shared.poll_recv(cx)).await
    }

    /// Receives the next message, text or binary, and reads it as JSON.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); [`Error::Json`], which names line and column, if the message is not the JSON of a `T`.
    /// The connection goes on after such an error ([`Error::is_json`]).
    ///
    /// Cancel safety is that of [`recv`](Self::recv).
    #[cfg(feature = "json")]
    pub async fn recv_json<T: serde::de::DeserializeOwned>(&mut self) -> Option<Result<T, Error>> {
        let message = self.recv().await?;
        Some(message.and_then(|message| message.to_json()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.receiver_dropped();
    }
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.shared.poll_recv(cx)
    }
}
