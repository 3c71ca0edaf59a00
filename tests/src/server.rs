//! [`Server`]: what an adapter implements for the suite to run on it, and [`Setup`]: what a test asks of it.
//!
//! A server has two routes. `/ws` is for WebSockets only, and does what [`Answer`] says. `/plain` answers any request
//! with that request's body, and repeats in the header `X-Tag` the extension that a middleware in front of the layer
//! put into it. The first path segment behind `/ws` is ignored, so that a test can tell its connections apart.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use ws_core::{Connections, Drain, Error, WebSocket, WebSocketLayer};

use crate::wait::within;

/// Any error of a handler's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A handler, as all adapters take it.
pub type Handler = Arc<dyn Fn(WebSocket) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// An adapter's server, and where its framework forces a difference on it.
pub trait Server {
    /// The status of the answer to a handshake that is accepted.
    const OPENED: u16 = 101;

    /// Whether the service is asked about accepted handshakes only.
    const KEEPS_REFUSED_AWAY: bool = true;

    /// Whether a middleware can stand in front of the layer.
    const HAS_MIDDLEWARE: bool = true;

    /// Whether the layer sees the responses of the service.
    const SEES_RESPONSES: bool = true;

    /// Starts a server on a port of its own.
    fn start(setup: Setup) -> impl Future<Output = Running>;
}

/// The extension that a middleware in front of the layer puts into every request.
#[derive(Clone, Copy, Debug)]
pub struct Tag(pub &'static str);

/// What `X-Tag` says if the extension has come through.
pub const TAG: Tag = Tag("put in front of the layer");

/// What the service inside of the layer does with an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Upgrades, and serves the connection with the handler.
    Upgrade,
    /// Upgrades, after it chose the subprotocol again, from these; 500 if one of them is not a token.
    UpgradeWith(&'static [&'static str]),
    /// Upgrades, with this limit of a message.
    UpgradeUpTo(usize),
    /// Upgrades, and ends the connection if there is no message for this time.
    UpgradeUnlessIdleFor(Duration),
    /// Upgrades, and sends what the adapter's `WebSocketUpgrade` says of the request.
    Describe,
    /// Upgrades without a handler, and serves the socket on a task of its own.
    IntoParts,
    /// Makes the upgrade's response, and then never returns it.
    Withhold,
    /// Makes the upgrade's response, and then returns 401 in place of it.
    Replace,
    /// Keeps the upgrade, for [`Seen::use_kept`], and does something else.
    Keep(Instead),
    /// Upgrades without a handler, keeps the response and the socket, and does something else.
    KeepParts(Instead),
    /// Returns 401, with a challenge and a body.
    Unauthorized,
    /// Never returns.
    Never,
}

/// What a middleware makes of the head of a response.
pub type Change = fn(http::response::Parts) -> http::response::Parts;

/// For an adapter: the response, as the middleware leaves it.
pub fn changed<B>(change: Option<Change>, response: http::Response<B>) -> http::Response<B> {
    let Some(change) = change else { return response };
    let (parts, body) = response.into_parts();
    http::Response::from_parts(change(parts), body)
}

/// What a service does in place of an upgrade that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Returns 401, with a challenge and a body.
    Unauthorized,
    /// Never returns.
    Never,
}

/// What a server under test is to do.
#[must_use = "a setup does nothing before it is started"]
pub struct Setup {
    /// The layer under test; `None` for a server that forgot it.
    pub layer: Option<WebSocketLayer>,
    /// Another layer around that one.
    pub outer: Option<WebSocketLayer>,
    /// What `/ws` does.
    pub answer: Answer,
    /// What a middleware inside of the layer makes of the head of each response.
    pub change: Option<Change>,
    /// Whether a middleware around all keeps every response for itself.
    pub withhold: bool,
    /// Whether the HTTP server supports upgrades.
    pub upgrades: bool,
    /// Where it listens.
    pub address: SocketAddr,
    /// How the server shuts down.
    pub drain: Drain,
    /// What serves a connection.
    pub handler: Handler,
}

/// A listener on a free port of this machine, and its address.
pub async fn listen() -> (TcpListener, SocketAddr) {
    crate::runtime::allow_many_sockets();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    (listener, address)
}

/// A handler that returns every text. After a binary message it receives no more, and does not return.
///
/// # Errors
///
/// If the connection fails.
pub async fn until_binary(mut socket: WebSocket) -> Result<(), ws_core::Error> {
    while let Some(message) = socket.recv().await {
        let message = message?;
        if message.as_text().is_none() {
            std::future::pending::<()>().await;
        }
        socket.send(message).await?;
    }
    Ok(())
}

impl Setup {
    /// A server with the layer's defaults.
    pub fn new<F, Fut>(handler: F) -> Self
    where
        F: Fn(WebSocket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self {
            layer: Some(WebSocketLayer::new()),
            outer: None,
            answer: Answer::Upgrade,
            change: None,
            withhold: false,
            upgrades: true,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            drain: Drain::new(),
            handler: Arc::new(move |socket| Box::pin(handler(socket))),
        }
    }

    /// A server that returns every message.
    pub fn echo() -> Self {
        Self::new(|mut socket| async move {
            while let Some(message) = socket.recv().await {
                socket.send(message?).await?;
            }
            Ok(())
        })
    }

    /// A server whose handler is [`until_binary`].
    pub fn until_binary() -> Self {
        Self::new(|socket| async move { Ok(until_binary(socket).await?) })
    }

    /// A server whose handler holds the socket, and neither reads nor returns.
    pub fn idle() -> Self {
        Self::new(|socket| async move {
            std::future::pending::<()>().await;
            drop(socket);
            Ok(())
        })
    }

    /// With this layer.
    pub fn layer(mut self, layer: WebSocketLayer) -> Self {
        self.layer = Some(layer);
        self
    }

    /// With this layer around the other.
    pub fn outer(mut self, layer: WebSocketLayer) -> Self {
        self.outer = Some(layer);
        self
    }

    /// Without a layer.
    pub fn without_layer(mut self) -> Self {
        self.layer = None;
        self
    }

    /// With this answer to an upgrade.
    pub fn answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// With a middleware inside of the layer that changes the head of each response.
    pub fn changing_responses(mut self, change: Change) -> Self {
        self.change = Some(change);
        self
    }

    /// With a middleware that keeps every response for itself.
    pub fn withholding_responses(mut self) -> Self {
        self.withhold = true;
        self
    }

    /// With this drain when it shuts down.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// On another address than a free port of this machine's own.
    pub fn at(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// On an HTTP server that was not told to support upgrades.
    pub fn without_upgrades(mut self) -> Self {
        self.upgrades = false;
        self
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("layer", &self.layer)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

/// What the service inside of the layer has seen.
#[derive(Default)]
pub struct Seen {
    calls: AtomicUsize,
    returns: AtomicUsize,
    failed: Mutex<Vec<Error>>,
    kept: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Seen {
    /// How many requests have come to it, on any route.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many of them are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.calls() - self.returns.load(Ordering::SeqCst)
    }

    /// How many upgrades have failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The errors of the upgrades that have failed.
    #[must_use]
    pub fn take_failed(&self) -> Vec<Error> {
        std::mem::take(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many upgrades are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Uses the upgrades that are kept, and drops what comes of them.
    pub fn use_kept(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        for use_it in kept {
            use_it();
        }
    }

    /// For an adapter: keeps an upgrade, and what uses it.
    pub fn keep(&self, use_it: impl FnOnce() + Send + 'static) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(use_it));
    }

    /// For an adapter: what is given to `on_failed_upgrade`.
    pub fn on_failed(self: &Arc<Self>) -> impl FnOnce(Error) + Send + use<> {
        let seen = Arc::clone(self);
        move |error| seen.failed.lock().unwrap_or_else(PoisonError::into_inner).push(error)
    }

    /// For an adapter: a request has come; the guard is to be dropped with its future.
    pub fn call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Call(Arc::clone(self))
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("calls", &self.calls)
            .field("returns", &self.returns)
            .field("failed", &self.failed)
            .field("kept", &self.kept())
            .finish()
    }
}

/// A request under way.
#[derive(Debug)]
#[must_use = "the request is under way as long as this is held"]
pub struct Call(Arc<Seen>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.returns.fetch_add(1, Ordering::SeqCst);
    }
}

/// For an adapter: when and how its server is to shut down.
pub struct Shutdown {
    /// Ready when it is to.
    pub signal: BoxFuture<'static, ()>,
    /// What is to be drained first.
    pub connections: Connections,
    /// How.
    pub drain: Drain,
}

impl Shutdown {
    /// Ready when the HTTP server is to end, because the connections were drained.
    pub async fn drained(self) {
        self.signal.await;
        self.connections.drain(self.drain).await;
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("drain", &self.drain).finish_non_exhaustive()
    }
}

/// Where clients find a server, and how they are to speak to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether clients are to speak HTTP/2 to it.
    pub http2: bool,
}

impl From<&Running> for Endpoint {
    fn from(server: &Running) -> Self {
        Self { address: server.address, http2: server.http2 }
    }
}

/// A server that runs; it ends with the runtime of the test.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The connections of the layer under test.
    pub connections: Connections,
    /// What the service inside of the layer has seen.
    pub seen: Arc<Seen>,
    /// Whether clients are to speak HTTP/2 to it.
    pub http2: bool,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// For an adapter: binds a listener and runs `serve` on it.
    pub async fn spawn<F, Fut>(setup: Setup, serve: F) -> Self
    where
        F: FnOnce(Setup, Arc<Seen>, TcpListener, Shutdown) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(setup.address).await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let connections = setup.layer.as_ref().map(WebSocketLayer::connections).unwrap_or_default();
        let seen = Arc::<Seen>::default();
        let (stop, stopped) = oneshot::channel();
        let shutdown = Shutdown {
            signal: Box::pin(async {
                if stopped.await.is_err() {
                    // the test has ended, and so will the runtime
                    std::future::pending::<()>().await;
                }
            }),
            connections: connections.clone(),
            drain: setup.drain.clone(),
        };
        let task = tokio::spawn(serve(setup, Arc::clone(&seen), listener, shutdown));
        Self { address, connections, seen, http2: false, stop, task }
    }

    /// The same server, for clients that speak HTTP/2 to it.
    #[must_use]
    pub fn over_http2(self) -> Self {
        Self { http2: true, ..self }
    }

    /// Shuts down gracefully, as an application does: drains, then lets the HTTP server end, and waits for that.
    pub async fn stop(self) {
        self.stop.send(()).expect("the server runs");
        within("the server to end", self.task).await.expect("the server does not panic");
    }

    /// Waits until the layer counts this many connections.
    pub async fn until_open(&self, count: usize) {
        crate::until(format_args!("{count} connections"), || self.connections.len() == count).await;
    }
}
