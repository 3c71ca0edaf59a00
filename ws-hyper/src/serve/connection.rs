//! [`Connection`]: one connection, from TLS to its end.

use std::error::Error as StdError;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Extensions;
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::watch;
use tokio::time::timeout;
use ws_core::PeerAddr;

use super::limits::Limits;
use super::streams::Streams;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Puts what it makes of the peer's address into a request.
pub(super) type ConnectInfo = Arc<dyn Fn(SocketAddr, &mut Extensions) + Send + Sync>;

/// How long a client without a stream may take to answer the GOAWAY of HTTP/2, before the connection is dropped.
const GOODBYE: Duration = Duration::from_secs(5);

/// What all connections have in common; a clone for each.
#[derive(Clone)]
pub(super) struct Connection<A> {
    pub(super) acceptor: A,
    pub(super) limits: Limits,
    pub(super) connect_info: Option<ConnectInfo>,
    /// Closed when the server shuts down.
    pub(super) running: watch::Receiver<()>,
}

/// Prepares the requests of a connection for the service.
pub(super) struct Prepare {
    peer: SocketAddr,
    connect_info: Option<ConnectInfo>,
    /// Whether there was a request.
    has_begun: Arc<AtomicBool>,
}

impl Prepare {
    /// A request has come, with these extensions.
    pub(super) fn prepare(&self, extensions: &mut Extensions) {
        self.has_begun.store(true, Ordering::Relaxed);
        extensions.insert(PeerAddr(self.peer));
        if let Some(connect_info) = &self.connect_info {
            connect_info(self.peer, extensions);
        }
    }
}

/// The output of `future`; an error if it takes longer than `limit`.
async fn in_time<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Result<T, BoxError> {
    match limit {
        Some(limit) => Ok(timeout(limit, future).await?),
        None => Ok(future.await),
    }
}

impl<A, Accepting, Stream> Connection<A>
where
    A: Fn(TcpStream) -> Accepting,
    Accepting: Future<Output = io::Result<Stream>>,
{
    /// Serves `stream` until it ends. `http` makes the connection of HTTP.
    pub(super) async fn serve<C, F>(self, stream: TcpStream, peer: SocketAddr, http: F)
    where
        C: GracefulConnection<Error = BoxError>,
        F: FnOnce(Stream, Builder<Streams>, Prepare) -> C,
    {
        if let Err(error) = self.try_serve(stream, peer, http).await {
            tracing::debug!(error = error.as_ref() as &dyn StdError, %peer, "connection failed");
        }
    }

    async fn try_serve<C, F>(self, stream: TcpStream, peer: SocketAddr, http: F) -> Result<(), BoxError>
    where
        C: GracefulConnection<Error = BoxError>,
        F: FnOnce(Stream, Builder<Streams>, Prepare) -> C,
    {
        let Self { acceptor, limits, connect_info, mut running } = self;
        // what is sent is complete, also below TLS and over HTTP/2: waiting for more would only delay it
        stream.set_nodelay(true)?;
        let stream = select! {
            stream = in_time(limits.header_read_timeout, acceptor(stream)) => stream??,
            _ = running.changed() => return Ok(()),
        };

        // hyper's own timeout begins when it knows the version of HTTP, and a client may send nothing at all
        let begun = Arc::new(AtomicBool::new(false));
        let prepare = Prepare { peer, connect_info, has_begun: Arc::clone(&begun) };
        let streams = Streams::default();
        let connection = http(stream, limits.builder(streams.clone()), prepare);
        let has_begun = || begun.load(Ordering::Relaxed);
        supervise(pin!(connection), limits, streams, has_begun, running).await
    }
}

/// Drives a connection until it ends, or a limit ends it; and tells it to end when the server shuts down, or when it has been
/// idle for too long.
async fn supervise<C: GracefulConnection<Error = BoxError>>(
    mut connection: Pin<&mut C>,
    limits: Limits,
    streams: Streams,
    has_begun: impl Fn() -> bool,
    mut running: watch::Receiver<()>,
) -> Result<(), BoxError> {
    let mut first_request = pin!(in_time(limits.header_read_timeout, pending::<()>()));
    let mut is_first = true;
    let mut is_closing = false;
    loop {
        let idle = if is_closing { Some(GOODBYE) } else { limits.idle_timeout };
        select! {
            result = &mut connection => return result,
            _ = &mut first_request, if is_first => {
                if !has_begun() {
                    return Err("no request in time".into());
                }
                is_first = false;
                continue;
            }
            () = streams.idle_for(idle) => if is_closing {
                return Err("no answer to GOAWAY in time".into());
            },
            _ = running.changed(), if !is_closing => {}
        }
        is_closing = true;
        connection.as_mut().graceful_shutdown();
    }
}
