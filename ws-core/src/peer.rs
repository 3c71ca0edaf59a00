//! [`PeerAddr`]: who is at the other end, told by whoever accepted the connection.

use std::net::SocketAddr;

/// The address of the other end of a connection, as an extension of a request.
///
/// `ws_hyper::serve` puts it into every request. With another server, over TLS or HTTP/2, a middleware in front of the
/// layer does: the socket below is out of reach there. A middleware may also replace it, for example by the address that a
/// trusted proxy tells.
///
/// The connection keeps it: see [`WebSocket::peer_addr`](crate::WebSocket::peer_addr).
///
/// ```
/// use http::Request;
/// use ws_core::PeerAddr;
///
/// fn log<B>(request: &Request<B>) {
///     if let Some(PeerAddr(address)) = request.extensions().get() {
///         println!("{address} asks for {}", request.uri());
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);
