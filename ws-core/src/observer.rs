//! [`Observer`]: reports to metrics what happens on connections.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::close::Closed;
use crate::error::Error;
use crate::rejection::Rejection;

/// The number of a connection, unique in the process.
///
/// ```
/// # async fn handler(socket: ws_core::WebSocket) {
/// println!("this is connection {}", socket.id());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The next number.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<ConnectionId> for u64 {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

/// What a connection knows about itself when it opens.
///
/// ```
/// # fn on_open(connection: &ws_core::ConnectionInfo) {
/// println!("{} from {:?} speaks {:?}", connection.id, connection.peer, connection.protocol);
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// The address of the other end: see [`WebSocket::peer_addr`](crate::WebSocket::peer_addr).
    pub peer: Option<SocketAddr>,
    /// The subprotocol that was negotiated.
    pub protocol: Option<Arc<str>>,
}

/// Receives the events of all connections of a [`WebSocketLayer`](crate::WebSocketLayer) or of a client. A client never
/// calls [`on_refused`](Self::on_refused) and [`on_failed_upgrade`](Self::on_failed_upgrade).
///
/// In contrast to `tracing` events, these are typed and complete: for each call of [`on_open`](Self::on_open) there is one
/// of [`on_close`](Self::on_close), and each message is reported.
///
/// By default, each method does nothing. The task of the connection calls them; those about messages are called by the
/// task that sends or receives. They must not block. If a method panics, the panic is logged and the connection goes on.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use ws_core::{Closed, ConnectionInfo, Observer, WebSocketLayer};
///
/// #[derive(Default)]
/// struct Metrics {
///     opened: AtomicU64,
///     closed: AtomicU64,
/// }
///
/// impl Observer for Metrics {
///     fn on_open(&self, _: &ConnectionInfo) {
///         self.opened.fetch_add(1, Ordering::Relaxed);
///     }
///     fn on_close(&self, _: &ConnectionInfo, _: &Closed) {
///         self.closed.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let layer = WebSocketLayer::new().observer(Metrics::default());
/// ```
pub trait Observer: Send + Sync + 'static {
    /// A connection is open.
    fn on_open(&self, connection: &ConnectionInfo) {
        let _ = connection;
    }

    /// A connection that was open is over.
    fn on_close(&self, connection: &ConnectionInfo, closed: &Closed) {
        let _ = (connection, closed);
    }

    /// A handshake was refused.
    fn on_refused(&self, rejection: &Rejection) {
        let _ = rejection;
    }

    /// The handler accepted a handshake, but the connection did not open: the peer disconnected, or the handshake timeout
    /// passed.
    fn on_failed_upgrade(&self, error: &Error) {
        let _ = error;
    }

    /// The peer answered a ping after `round_trip`.
    fn on_pong(&self, connection: ConnectionId, round_trip: Duration) {
        let _ = (connection, round_trip);
    }

    /// A message with a payload of `bytes` bytes was received.
    fn on_message_received(&self, connection: ConnectionId, bytes: usize) {
        let _ = (connection, bytes);
    }

    /// A message with a payload of `bytes` bytes was queued to be sent.
    fn on_message_sent(&self, connection: ConnectionId, bytes: usize) {
        let _ = (connection, bytes);
    }
}
