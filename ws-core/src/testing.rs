//! Tests of handlers: connections in memory, without a server, a handshake or a network.
//!
//! Both ends are real connections with real timers. Under tokio's paused clock (`#[tokio::test(start_paused = true)]`)
//! timeouts of hours pass in no time.
//!
//! ```
//! use ws_core::{Error, Message, WebSocket, testing};
//!
//! async fn echo(mut socket: WebSocket) -> Result<(), Error> {
//!     while let Some(message) = socket.recv().await {
//!         socket.send(message?).await?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let mut client = testing::connect(echo);
//! client.send("hello").await?;
//! assert_eq!(client.recv().await.unwrap()?, Message::from("hello"));
//! client.close(1000, "").await?;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tracing::Span;

use crate::config::{ConnectionConfig, Negotiated};
use crate::connection::{Driver, Link, Shared, Transport, WebSocket};
use crate::layer::WebSocketLayer;
use crate::observer::{ConnectionId, ConnectionInfo};
use crate::outcome::Outcome;
use crate::protocol::Role;

/// The size of the pipe between the two ends in bytes, in each direction. When it is full, the writer waits.
const PIPE: usize = 64 * 1024;

/// Runs `handler` on a connection in memory, with the defaults of the layer, and returns the client's end.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn connect<F, Fut>(handler: F) -> WebSocket
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    connect_with(&WebSocketLayer::new(), handler)
}

/// As [`connect`], with the limits, timeouts, observer and compression of `layer`. The connection counts as one of the
/// layer's.
///
/// # Panics
///
/// Outside of a tokio runtime. If the layer has no slot for one more connection.
pub fn connect_with<F, Fut>(layer: &WebSocketLayer, handler: F) -> WebSocket
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    let (server, client) = duplex(PIPE);
    tokio::spawn(accept(layer, server, handler));
    client_with(layer, client)
}

/// Returns the two ends of a connection in memory: the server's, then the client's.
///
/// # Panics
///
/// Outside of a tokio runtime.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ws_core::Error> {
/// let (mut server, mut client) = ws_core::testing::pair();
/// server.send("hello").await?;
/// assert_eq!(client.recv().await.unwrap()?.as_text(), Some("hello"));
/// # Ok(())
/// # }
/// ```
pub fn pair() -> (WebSocket, WebSocket) {
    let (server, client) = duplex(PIPE);
    let config = Arc::new(ConnectionConfig::default());
    (spawn(Role::Server, server, config, Negotiated::default()), self::client(client))
}

/// Returns the task of a server's connection over `stream`, for example a transport of a test that counts, fails or delays.
/// There is no handshake. If the layer compresses messages, the peer has to do so as well: see [`client_with`].
///
/// # Panics
///
/// If the layer has no slot for one more connection.
pub fn accept<T, F, Fut>(layer: &WebSocketLayer, stream: T, handler: F) -> Task
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    let slot = layer.connections().acquire().expect("a slot for one more connection");
    let shared = Shared::new(Role::Server, info(), layer.connection_config(), layer.negotiated(), &[]);
    let transport = Transport::Other(Box::new(stream));
    let link = Link::new(shared, transport, Some(slot.register()), span());
    Task { driver: Box::pin(Driver::new(link, handler)) }
}

/// Spawns the task of a client's connection over `stream`, and returns its socket. There is no handshake.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn client<T>(stream: T) -> WebSocket
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    spawn(Role::Client, stream, Arc::new(ConnectionConfig::default()), Negotiated::default())
}

/// As [`client`], for a server with `layer`: the client compresses messages if the layer does.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn client_with<T>(layer: &WebSocketLayer, stream: T) -> WebSocket
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    spawn(Role::Client, stream, Arc::new(ConnectionConfig::default()), layer.negotiated())
}

/// The task of a connection, from [`accept`]. It is ready when the connection is over and its handler has returned.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use ws_core::{WebSocketLayer, testing};
///
/// let (server, client) = tokio::io::duplex(1024);
/// let task = testing::accept(&WebSocketLayer::new(), server, async |mut socket| socket.send("hi").await);
/// let mut client = testing::client(client);
/// let (_, received) = tokio::join!(task, async move { client.recv().await });
/// assert_eq!(received.unwrap().unwrap().as_text(), Some("hi"));
/// # }
/// ```
#[must_use = "the connection does nothing unless its task is polled or spawned"]
pub struct Task {
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().driver.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// Spawns a connection without a handler.
fn spawn<T>(role: Role, stream: T, config: Arc<ConnectionConfig>, negotiated: Negotiated) -> WebSocket
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Shared::new(role, info(), config, negotiated, &[]);
    let link = Link::new(shared, Transport::Other(Box::new(stream)), None, span());
    let (driver, socket) = Driver::without_handler(link);
    tokio::spawn(driver);
    socket
}

fn info() -> ConnectionInfo {
    ConnectionInfo { id: ConnectionId::next(), peer: None, protocol: None }
}

fn span() -> Span {
    tracing::info_span!(parent: None, "websocket")
}
