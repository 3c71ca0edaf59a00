//! What [`WebSocket`](crate::WebSocket) and its halves have in common.

use std::future::poll_fn;
use std::task::Poll;

use super::proto::Connection;
use super::shared::Shared;
use super::waiters::{Event, Place};

/// A place among those who wait, left when the future that waits is dropped.
pub(super) struct Waiter<'a> {
    pub(super) shared: &'a Shared,
    pub(super) place: Option<Place>,
}

/// Waits until `poll` is ready, which `event` tells.
pub(super) async fn wait<T>(
    shared: &Shared,
    event: Event,
    mut poll: impl FnMut(&mut Connection) -> Poll<T>,
) -> T {
    let mut waiter = Waiter { shared, place: None };
    poll_fn(|cx| shared.poll_event(cx, &mut waiter.place, event, &mut poll)).await
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.shared.forget(&mut self.place);
    }
}

/// What does not depend on the direction, on all three types.
macro_rules! connection_methods {
    ($($shared:ident).+) => {
        /// The number of this connection, unique in the process; it is in the `tracing` span, too.
        #[must_use]
        pub fn id(&self) -> $crate::observer::ConnectionId {
            self.$($shared).+.info.id
        }

        /// The subprotocol that was negotiated.
        #[must_use]
        pub fn protocol(&self) -> Option<&str> {
            self.$($shared).+.info.protocol.as_deref()
        }

        /// The address of the other end of the TCP connection, which may be a proxy's, or the [`PeerAddr`] of the request.
        ///
        /// On a server over TLS or HTTP/2 it is `None` unless the request has a [`PeerAddr`].
        ///
        /// [`PeerAddr`]: crate::PeerAddr
        #[must_use]
        pub fn peer_addr(&self) -> Option<std::net::SocketAddr> {
            self.$($shared).+.info.peer
        }

        /// Whether nothing can be sent any more: the connection is over, or its closing handshake has begun.
        #[must_use]
        pub fn is_closed(&self) -> bool {
            !self.$($shared).+.with(|connection| connection.is_sendable())
        }

        /// The Close frame that ended the connection: the peer's if it was first, ours if we were. `None` while the
        /// connection is open, after an empty Close frame, and if there was none; [`closed`](Self::closed) tells these
        /// apart, and who was first.
        #[must_use]
        pub fn close_frame(&self) -> Option<$crate::close::CloseFrame> {
            self.$($shared).+.with(|connection| connection.close_frame())
        }

        /// Waits until the connection is over. Returns how it ended, and which side ended it.
        ///
        /// # Cancel safety
        ///
        /// It can be dropped and called again.
        pub async fn closed(&self) -> $crate::close::Closed {
            let event = $crate::connection::waiters::Event::End;
            $crate::connection::handle::wait(&self.$($shared).+, event, |connection| connection.poll_closed()).await
        }

        /// The round trip time that was measured last, by keepalive or by [`ping`](crate::Sender::ping).
        #[must_use]
        pub fn latency(&self) -> Option<std::time::Duration> {
            self.$($shared).+.with(|connection| connection.latency())
        }
    };
}
pub(super) use connection_methods;
