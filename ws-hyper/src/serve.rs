//! [`serve`]: a server for WebSockets and everything else, over HTTP/1.1 and HTTP/2.
//!
//! Differs from `axum::serve` in that a client that is slow to send its headers is cut off, that TLS is a parameter, and
//! that a shutdown drains WebSockets, which HTTP's own graceful shutdown does not know, and ends at a deadline.

use std::error::Error as StdError;
use std::fmt;
use std::future::{IntoFuture, Ready, pending, ready};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;
use ws_core::{Connections, Drain};

type BoxError = Box<dyn StdError + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An acceptor that takes the stream as it is.
type Plain = fn(TcpStream) -> Ready<io::Result<TcpStream>>;

/// From which time on a limit counts as none: 100 years. hyper adds its limit to the time of the clock, which can
/// overflow.
const NO_LIMIT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How long a shutdown waits, after its deadline, for connections that it has aborted. It is what a busy scheduler needs
/// to drop them.
const GRACE: Duration = Duration::from_millis(250);

/// Serves the connections of `listener` with `service`, a tower service such as a
/// [`WebSocketLayer`](crate::WebSocketLayer) around a router, over HTTP/1.1 and HTTP/2 with prior knowledge or ALPN.
///
/// It goes on until its shutdown, if it has one. An error of one connection, or in accepting one, does not end it.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_layer::Layer;
/// use ws_hyper::{Drain, WebSocketLayer, service};
///
/// # async fn run() -> std::io::Result<()> {
/// let layer = WebSocketLayer::new();
/// let app = layer.layer(service(async |mut socket: ws_hyper::WebSocket| socket.send("hello").await));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
///
/// ws_hyper::serve(listener, app)
///     .header_read_timeout(Duration::from_secs(5))
///     .with_graceful_shutdown(ctrl_c, layer.connections(), Drain::new())
///     .await
/// # }
/// ```
pub fn serve<S>(listener: TcpListener, service: S) -> Serve<S> {
    Serve {
        listener,
        service,
        acceptor: |stream| ready(Ok(stream)),
        header_read_timeout: Some(Duration::from_secs(10)),
        shutdown: None,
    }
}

/// A server, made by [`serve`]; it runs when it is awaited.
///
/// ```no_run
/// # async fn run<S>(listener: tokio::net::TcpListener, app: S) -> std::io::Result<()>
/// # where
/// #     S: tower_service::Service<http::Request<hyper::body::Incoming>, Response = http::Response<ws_hyper::Body>>
/// #         + Clone + Send + 'static,
/// #     S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
/// #     S::Future: Send,
/// # {
/// ws_hyper::serve(listener, app).header_read_timeout(std::time::Duration::from_secs(5)).await
/// # }
/// ```
#[must_use = "a server does nothing unless it is awaited"]
pub struct Serve<S, A = Plain> {
    listener: TcpListener,
    service: S,
    acceptor: A,
    header_read_timeout: Option<Duration>,
    shutdown: Option<Shutdown>,
}

struct Shutdown {
    signal: BoxFuture<()>,
    connections: Connections,
    drain: Drain,
}

impl<S, A> Serve<S, A> {
    /// How long a client may take for the head of a request, for TLS, and until its first request. Default 10 s; `None`
    /// for no limit.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn header_read_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        assert!(
            timeout != Some(Duration::ZERO),
            "header_read_timeout is zero, which no client can meet: use a longer time"
        );
        self.header_read_timeout = timeout.filter(|timeout| *timeout < NO_LIMIT);
        self
    }

    /// Turns each TCP stream into the stream to serve, as a TLS acceptor does. Default the TCP stream itself.
    ///
    /// For HTTP/2 let the acceptor offer `h2` and `http/1.1` by ALPN.
    ///
    /// ```no_run
    /// # use std::io;
    /// # use tokio::net::TcpStream;
    /// # #[derive(Clone)]
    /// # struct TlsAcceptor;
    /// # impl TlsAcceptor {
    /// #     async fn accept(&self, stream: TcpStream) -> io::Result<TcpStream> { Ok(stream) }
    /// # }
    /// # fn f<S>(listener: tokio::net::TcpListener, app: S, tls: TlsAcceptor) {
    /// // `tls` is a `tokio_rustls::TlsAcceptor`
    /// let server = ws_hyper::serve(listener, app).acceptor(move |stream| {
    ///     let tls = tls.clone();
    ///     async move { tls.accept(stream).await }
    /// });
    /// # }
    /// ```
    pub fn acceptor<F>(self, acceptor: F) -> Serve<S, F> {
        let Self { listener, service, header_read_timeout, shutdown, .. } = self;
        Serve { listener, service, acceptor, header_read_timeout, shutdown }
    }

    /// Shuts down when `signal` is ready: drains the WebSockets of `connections` as `drain` says, while new handshakes
    /// are refused with 503; then stops accepting, and lets requests under way finish. WebSockets and requests that are
    /// not over at the deadline of `drain` are dropped.
    ///
    /// The server ends within two seconds after the deadline, also if a handler or a service blocks its thread and cannot
    /// be dropped. How many WebSockets are left then is logged: see [`Drained::remaining`](crate::Drained::remaining),
    /// also for how to end the process.
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
        connections: Connections,
        drain: Drain,
    ) -> Self {
        self.shutdown = Some(Shutdown { signal: Box::pin(signal), connections, drain });
        self
    }
}

impl Shutdown {
    /// Waits for the signal and for the end of the WebSockets; returns how much time is left for requests.
    async fn drained(self) -> Duration {
        self.signal.await;
        let begun = Instant::now();
        let limit = self.drain.get_timeout();
        self.connections.drain(self.drain).await;
        limit.saturating_sub(begun.elapsed())
    }
}

/// The output of `future`; an error if it takes longer than `limit`.
async fn in_time<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Result<T, BoxError> {
    match limit {
        Some(limit) => Ok(timeout(limit, future).await?),
        None => Ok(future.await),
    }
}

/// What serves one connection.
#[derive(Clone)]
struct Connection<S, A> {
    service: S,
    acceptor: A,
    header_read_timeout: Option<Duration>,
}

impl<S, A, Accepting, Stream, B> Connection<S, A>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    A: Fn(TcpStream) -> Accepting + Clone + Send + Sync + 'static,
    Accepting: Future<Output = io::Result<Stream>> + Send + 'static,
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn serve(self, stream: TcpStream, watcher: Watcher) {
        if let Err(error) = self.try_serve(stream, watcher).await {
            tracing::debug!(error = error.as_ref() as &dyn StdError, "connection failed");
        }
    }

    async fn try_serve(self, stream: TcpStream, watcher: Watcher) -> Result<(), BoxError> {
        let Self { service, acceptor, header_read_timeout } = self;
        stream.set_nodelay(true)?;
        let stream = in_time(header_read_timeout, acceptor(stream)).await??;

        // hyper's own timeout begins when it knows the version of HTTP, and a client may send nothing at all
        let begun = Arc::new(AtomicBool::new(false));
        let service = TowerToHyperService::new(service);
        let service = service_fn({
            let begun = Arc::clone(&begun);
            move |request| {
                begun.store(true, Ordering::Relaxed);
                service.call(request)
            }
        });

        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(header_read_timeout);
        builder.http2().timer(TokioTimer::new()).enable_connect_protocol();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let mut connection = pin!(watcher.watch(connection));
        if let Ok(result) = in_time(header_read_timeout, &mut connection).await {
            return result;
        }
        if begun.load(Ordering::Relaxed) { connection.await } else { Err("no request in time".into()) }
    }
}

impl<S, A, Accepting, Stream, B> IntoFuture for Serve<S, A>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    A: Fn(TcpStream) -> Accepting + Clone + Send + Sync + 'static,
    Accepting: Future<Output = io::Result<Stream>> + Send + 'static,
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = io::Result<()>;
    type IntoFuture = BoxFuture<io::Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { listener, service, acceptor, header_read_timeout, shutdown } = self;
        let connection = Connection { service, acceptor, header_read_timeout };
        Box::pin(async move {
            let graceful = GracefulShutdown::new();
            let mut connections = JoinSet::new();
            let mut drained = pin!(async {
                match shutdown {
                    Some(shutdown) => shutdown.drained().await,
                    None => pending().await,
                }
            });
            let rest = loop {
                select! {
                    rest = &mut drained => break rest,
                    stream = accept(&listener) => {
                        connections.spawn(connection.clone().serve(stream, graceful.watcher()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            };
            drop(listener);
            Drain::new().timeout(rest).in_time(graceful.shutdown()).await;
            // dropping the set aborts those that are left; waiting has their sockets closed before the server ends
            Drain::new().timeout(GRACE).in_time(connections.shutdown()).await;
            Ok(())
        })
    }
}

/// The next connection. An error is that of one connection, or a shortage that passes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                let of_one_connection = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                );
                if !of_one_connection {
                    // most often too many open files: to try again at once would spin
                    tracing::error!(%error, "accept failed");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl<S, A> fmt::Debug for Serve<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}
