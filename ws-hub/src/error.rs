//! Why the hub refuses something, and how a connection ended: [`Refused`], [`JoinError`], [`DisconnectError`], [`Error`].

use ws_core::{CloseCode, Error as ConnectionError, InvalidClose};

use crate::close_code;
use crate::log::LogError;

/// Why a connection was not let in.
///
/// ```
/// use ws_core::CloseCode;
/// use ws_hub::Refused;
///
/// assert_eq!(Refused::Full.close_code(), CloseCode::TRY_AGAIN_LATER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The user has as many connections as the [`Login`](crate::Login) policy allows.
    #[error("already connected")]
    AlreadyConnected,
    /// The hub has as many connections as it may have.
    #[error("too many connections")]
    Full,
    /// The hub drains.
    #[error("going away")]
    Draining,
    /// The log, or the backplane, could not say what the user gets, or whether they may connect. The program's log has the
    /// error.
    #[error("try again later")]
    Log,
    /// While it was let in, the user has logged in once more, or was disconnected.
    #[error("replaced by a newer connection")]
    Gone,
}

impl Refused {
    /// The code of the Close frame that the client gets: 4002, 1013, 1001, 1013, 4001.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::AlreadyConnected => close_code::ALREADY_CONNECTED,
            Self::Full | Self::Log => CloseCode::TRY_AGAIN_LATER,
            Self::Gone => close_code::REPLACED,
            Self::Draining => CloseCode::GOING_AWAY,
        }
    }
}

/// Why a user is not in a room.
///
/// ```
/// let error = ws_hub::JoinError::TooManyRooms { limit: 100 };
/// assert_eq!(error.to_string(), "the user is in 100 rooms, which is the limit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The user is not connected to this hub.
    #[error("the user is not connected")]
    Offline,
    /// The user is in as many rooms as allowed.
    #[error("the user is in {limit} rooms, which is the limit")]
    TooManyRooms {
        /// The limit.
        limit: usize,
    },
    /// The backplane failed: messages of other nodes would not come. The program's log has the error.
    #[error("the backplane failed")]
    Backplane,
}

/// Why a user was not disconnected, or not everywhere.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error = ws_hub::Hub::<u64>::new().disconnect(&7, 1006, "").await.unwrap_err();
/// assert!(matches!(error, ws_hub::DisconnectError::Frame(_)));
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectError {
    /// The code or the reason may not be sent. Nothing was closed.
    #[error(transparent)]
    Frame(#[from] InvalidClose),
    /// The connections on this node are closed. The backplane failed, and those on others may go on.
    #[error("connections on other nodes may go on: {0}")]
    Backplane(#[from] LogError),
}

/// Why a connection was not attached, or how it ended other than in order.
///
/// ```
/// use ws_hub::{Error, Refused};
///
/// let error = Error::from(Refused::AlreadyConnected);
/// assert!(error.is_refused());
/// assert_eq!(error.to_string(), "connection refused: already connected");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection was not let in; the client was told so in a Close frame.
    #[error("connection refused: {0}")]
    Refused(#[from] Refused),
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The handler failed.
    #[error("{0}")]
    Handler(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Whether the connection was not let in.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
