//! [`Serve`]: the settings of a server, and the loop that accepts connections.

use std::fmt;
use std::future::{IntoFuture, Ready, pending, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower_service::Service;
use ws_core::{Connections, Drain};

use super::connection::{BoxError, ConnectInfo, Connection};
use super::limits::{self, Limits};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An acceptor that takes the stream as it is.
type Plain = fn(TcpStream) -> Ready<io::Result<TcpStream>>;

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
        limits: Limits::default(),
        connect_info: None,
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
    limits: Limits,
    connect_info: Option<ConnectInfo>,
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
    /// Over HTTP/1.1 the time for the next head begins with the end of the last response, so it is also for how long a
    /// client may be silent between two requests. Over HTTP/2 it counts until the first request; then a client that does not
    /// end a head, or any other frame, cannot answer pings: see
    /// [`http2_keep_alive_interval`](Self::http2_keep_alive_interval).
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn header_read_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limits.header_read_timeout = limits::time("header_read_timeout", timeout);
        self
    }

    /// How long a connection may stay open without a request or a WebSocket. Default 75 s; `None` for no limit.
    ///
    /// A connection with an open WebSocket, or with a request that is not answered in full, is not idle. An HTTP/2 connection
    /// ends with GOAWAY (RFC 9113 section 6.8), and is dropped after 5 s without a stream if the client does not answer.
    /// Over HTTP/1.1 the shorter of this and [`header_read_timeout`](Self::header_read_timeout) counts.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limits.idle_timeout = limits::time("idle_timeout", timeout);
        self
    }

    /// After how long a silence of the client it is sent a PING of HTTP/2 (RFC 9113 section 6.7), whether it has open streams
    /// or not. Requests and data that the application has read are what breaks the silence. Default 20 s; `None` for no
    /// pings.
    ///
    /// The pings find clients that vanish, also while no handler reads, and those that stop within a frame, such as half the
    /// head of a request. They are besides the pings of each WebSocket.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn http2_keep_alive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.limits.keep_alive_interval = limits::time("http2_keep_alive_interval", interval);
        self
    }

    /// How long a client may take to answer such a PING. Then all its streams end, and so does the connection. Default 20 s;
    /// `None` for no limit.
    ///
    /// If the client does not even read, the connection is dropped when it has had no stream for the
    /// [`idle_timeout`](Self::idle_timeout).
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn http2_keep_alive_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limits.keep_alive_timeout = limits::time("http2_keep_alive_timeout", timeout);
        self
    }

    /// How many requests and WebSockets a client may have open at the same time on one HTTP/2 connection (RFC 9113 section
    /// 5.1.2). Default 200. More are refused, which clients know beforehand: they wait, or open another connection.
    ///
    /// # Panics
    ///
    /// If it is zero, or if its product with [`http2_stream_window`](Self::http2_stream_window) is larger than the largest
    /// window of a connection, 2<sup>31</sup> − 1 bytes.
    #[track_caller]
    pub fn http2_max_concurrent_streams(mut self, count: u32) -> Self {
        self.limits.set_max_streams(count);
        self
    }

    /// How many bytes a client may send on one stream of HTTP/2 ahead of what the application reads (RFC 9113 section 5.2).
    /// Default 64 KiB. More is faster for uploads over long ways: a stream carries one window in each round trip.
    ///
    /// The window of the connection is that of all streams together, so a WebSocket that nobody reads never takes the share
    /// of another. This is also what limits the memory of a connection: by default 200 streams × 64 KiB = 12.5 MiB of data
    /// that is not read. Besides, h2 keeps account of pieces of less than 256 bytes, with half as much memory again, and may
    /// keep a small piece in the buffer of 9 KiB that it was read into.
    ///
    /// # Panics
    ///
    /// If it is zero, or if its product with [`http2_max_concurrent_streams`](Self::http2_max_concurrent_streams) is larger
    /// than the largest window of a connection, 2<sup>31</sup> − 1 bytes.
    #[track_caller]
    pub fn http2_stream_window(mut self, bytes: u32) -> Self {
        self.limits.set_stream_window(bytes);
        self
    }

    /// Puts what `make` makes of the client's address into each request, as an extension. [`PeerAddr`](crate::PeerAddr) is
    /// always there; this is for code that looks for another type, such as the extractor `ConnectInfo` of axum:
    ///
    /// ```no_run
    /// # use std::net::SocketAddr;
    /// # #[derive(Clone)]
    /// # struct ConnectInfo(SocketAddr);
    /// # fn f<S>(listener: tokio::net::TcpListener, router: S) {
    /// // `ConnectInfo` is `axum::extract::ConnectInfo`, and `router` an axum `Router`
    /// let server = ws_hyper::serve(listener, router).connect_info(ConnectInfo);
    /// # }
    /// ```
    pub fn connect_info<T>(mut self, make: impl Fn(SocketAddr) -> T + Send + Sync + 'static) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.connect_info = Some(Arc::new(move |peer, extensions| {
            extensions.insert(make(peer));
        }));
        self
    }

    /// Turns each TCP stream into the stream to serve, as a TLS acceptor does. Default the TCP stream itself, which has
    /// `TCP_NODELAY` set.
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
        let Self { listener, service, limits, connect_info, shutdown, .. } = self;
        Serve { listener, service, acceptor, limits, connect_info, shutdown }
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
        let Self { listener, service, acceptor, limits, connect_info, shutdown } = self;
        let (run, running) = watch::channel(());
        let connection = Connection { acceptor, limits, connect_info, running };
        let serve = move |stream, peer| {
            let service = TowerToHyperService::new(service.clone());
            connection.clone().serve(stream, peer, |stream, builder, prepare| {
                let service = service_fn(move |mut request: Request<Incoming>| {
                    prepare.prepare(request.extensions_mut());
                    service.call(request)
                });
                builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned()
            })
        };
        Box::pin(async move {
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
                    (stream, peer) = accept(&listener) => {
                        connections.spawn(serve(stream, peer));
                    }
                    Some(_) = connections.join_next() => {}
                }
            };
            drop((listener, run));
            let over = async { while connections.join_next().await.is_some() {} };
            Drain::new().timeout(rest).in_time(over).await;
            // dropping the set aborts those that are left; waiting has their sockets closed before the server ends
            Drain::new().timeout(GRACE).in_time(connections.shutdown()).await;
            Ok(())
        })
    }
}

/// The next connection. An error is that of one connection, or a shortage that passes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
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
