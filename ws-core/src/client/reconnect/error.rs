//! [`SendError`]: why a message was not queued.

use crate::message::Message;

/// Why a message was not queued. Contains the message, if there is one.
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
    /// There is no connection, and the queue is switched off: see
    /// [`Reconnect::without_queue`](super::Reconnect::without_queue).
    #[error("there is no connection")]
    NotConnected(Message),
    /// The socket has ended, and does not reconnect.
    #[error("the connection has ended for good")]
    Ended(Message),
    /// A [`Sink`](futures_sink::Sink) was flushed or closed, and queued messages have been dropped since its last flush,
    /// because the socket has ended, or without a queue, because a connection has.
    #[error("queued messages were dropped before a connection took them")]
    Dropped,
    /// The value cannot be written as JSON.
    #[cfg(feature = "json")]
    #[error("invalid JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl SendError {
    /// The message that was not sent. `None` for `Dropped` and `Json`.
    #[must_use]
    pub fn into_message(self) -> Option<Message> {
        match self {
            Self::Full(message) | Self::NotConnected(message) | Self::Ended(message) => Some(message),
            Self::Dropped => None,
            #[cfg(feature = "json")]
            Self::Json(_) => None,
        }
    }

    /// Whether the socket has ended, so that sending again fails, too.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}
