//! A connection that comes back.

mod backoff;
mod queue;
mod socket;
mod state;
mod task;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use backoff::Backoff;
pub use socket::{ReconnectingSender, ReconnectingWebSocket, SendError};
pub use state::{Interruption, ReconnectState, States};

use super::Client;
use super::target::Target;
use crate::connection::{Stream, WebSocket};
use queue::Queue;
use socket::Shared;

/// The longest time that a server can ask to wait for: one that says more has most often said it wrong.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Hook<T> = Box<dyn FnMut(T) -> BoxFuture<Result<T, BoxError>> + Send>;
type Connector = Box<dyn FnMut() -> BoxFuture<io::Result<Box<dyn Stream>>> + Send>;
type Judge = Box<dyn FnMut(&Interruption) -> bool + Send>;

/// How a [`ReconnectingWebSocket`] goes about it, made by [`Client::reconnecting`]; [`start`](Self::start) starts it.
///
/// | knob | default |
/// |---|---|
/// | [`backoff`](Self::backoff) | a random time up to 500 ms, doubled with each failure up to 30 s |
/// | [`max_attempts`](Self::max_attempts) | no limit |
/// | [`reconnect_if`](Self::reconnect_if) | [`Interruption::should_reconnect`] |
/// | [`queue`](Self::queue) | 100 messages and 1 MiB |
///
/// A server may ask for a longer wait, in the header `Retry-After` of a refusal, or by `retry-after=N` in the reason of a
/// Close frame: that is honoured, up to 5 minutes.
///
/// ```no_run
/// use std::time::Duration;
/// use ws_core::client::{Backoff, Client};
/// use ws_core::{Error, WebSocket};
///
/// # async fn fresh_token() -> Result<String, std::io::Error> { Ok(String::new()) }
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut socket = Client::new()
///     .reconnecting("ws://localhost:3000/chat")
///     .backoff(Backoff::new().max(Duration::from_secs(60)))
///     .on_attempt(async |client: Client| {
///         let token = fresh_token().await?;
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(client.try_header("authorization", token)?)
///     })
///     .on_connect(async |mut socket: WebSocket| {
///         socket.send("join lobby").await?;
///         Ok::<_, Error>(socket)
///     })
///     .start();
///
/// while let Some(message) = socket.recv().await {
///     println!("{message:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "it does nothing until it is started"]
pub struct Reconnect {
    client: Client,
    target: Target,
    backoff: Backoff,
    max_attempts: Option<u32>,
    max_messages: usize,
    max_bytes: usize,
    keeps: bool,
    judge: Judge,
    on_attempt: Option<Hook<Client>>,
    on_connect: Option<Hook<WebSocket>>,
    /// In place of TCP.
    connector: Option<Connector>,
}

impl Reconnect {
    pub(super) fn new(client: Client, target: Target) -> Self {
        Self {
            client,
            target,
            backoff: Backoff::new(),
            max_attempts: None,
            max_messages: 100,
            max_bytes: 1024 * 1024,
            keeps: true,
            judge: Box::new(Interruption::should_reconnect),
            on_attempt: None,
            on_connect: None,
            connector: None,
        }
    }

    /// How long is waited between attempts. Default [`Backoff::new`].
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// How many attempts may fail in a row; then it is over. A connection that does not last, as
    /// [`Backoff::reset_after`] has it, counts as one that has failed. Default no limit.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn max_attempts(self, attempts: impl Into<Option<u32>>) -> Self {
        let max_attempts = attempts.into();
        assert!(max_attempts != Some(0), "max_attempts is 0, which never connects: use at least 1");
        Self { max_attempts, ..self }
    }

    /// How much may wait while there is no connection; more is refused with [`SendError::Full`], which gives the message
    /// back. Default 100 messages and 1 MiB. One that is larger is taken if none is before it.
    ///
    /// # Panics
    ///
    /// If one of them is 0: see [`without_queue`](Self::without_queue).
    #[track_caller]
    pub fn queue(self, messages: usize, bytes: usize) -> Self {
        assert!(
            messages > 0 && bytes > 0,
            "a queue of 0 never takes a message: use at least 1, or `without_queue`"
        );
        Self { max_messages: messages, max_bytes: bytes, keeps: true, ..self }
    }

    /// While there is no connection, sending is refused with [`SendError::NotConnected`]. What a connection that breaks
    /// has not yet taken is dropped, so that nothing is ever sent late.
    pub fn without_queue(self) -> Self {
        Self { keeps: false, ..self }
    }

    /// Decides whether to go on, in place of [`Interruption::should_reconnect`], which it can call for what it does not
    /// know. It is asked after each failure and each end, and not at all when the attempts are used up.
    ///
    /// ```
    /// use ws_core::client::{Client, Interruption};
    ///
    /// // also after an orderly close by the server
    /// let reconnect = Client::new().reconnecting("ws://localhost:3000/").reconnect_if(|why| {
    ///     matches!(why, Interruption::Closed(_)) || why.should_reconnect()
    /// });
    /// ```
    pub fn reconnect_if(self, judge: impl FnMut(&Interruption) -> bool + Send + 'static) -> Self {
        Self { judge: Box::new(judge), ..self }
    }

    /// Makes the client for each attempt, from the one that this was made of: for headers that change, such as a token.
    /// An error counts as an attempt that has failed, and so does more time than the client's `connect_timeout`.
    ///
    /// The URL stays.
    pub fn on_attempt<F, Fut, E>(self, mut hook: F) -> Self
    where
        F: FnMut(Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Client, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { on_attempt: Some(Box::new(move |client| boxed(hook(client)))), ..self }
    }

    /// Is given each new connection before anything that is queued is sent, to restore what the server knew: sign in,
    /// join rooms, wait for the answer; it gives the connection back. An error counts as an attempt that has failed, and
    /// so does more time than the client's `connect_timeout`.
    ///
    /// What it receives of the connection is its own, and is not seen by [`recv`](ReconnectingWebSocket::recv).
    pub fn on_connect<F, Fut, E>(self, mut hook: F) -> Self
    where
        F: FnMut(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = Result<WebSocket, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { on_connect: Some(Box::new(move |socket| boxed(hook(socket)))), ..self }
    }

    /// Connects over the streams that `connector` opens, one for each attempt, in place of TCP: see
    /// [`Client::connect_over`].
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # fn run() {
    /// use tokio::net::UnixStream;
    /// use ws_core::client::Client;
    ///
    /// let reconnect = Client::new()
    ///     .reconnecting("ws://localhost/chat")
    ///     .over(async || UnixStream::connect("/run/chat.sock").await);
    /// # }
    /// ```
    pub fn over<F, Fut, S>(self, mut connector: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connector = move || -> BoxFuture<io::Result<Box<dyn Stream>>> {
            let stream = connector();
            Box::pin(async { Ok(Box::new(stream.await?) as Box<dyn Stream>) })
        };
        Self { connector: Some(Box::new(connector)), ..self }
    }

    /// Starts it: its task is spawned, and begins to connect.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> ReconnectingWebSocket {
        let connection = &self.client.config.connection;
        let inbound = Queue::new(connection.inbound_messages, connection.inbound_bytes, true);
        let outbound = Queue::new(self.max_messages, self.max_bytes, self.keeps);
        let shared = Shared::new(inbound, outbound);
        let socket = ReconnectingWebSocket::new(shared.clone());
        tokio::spawn(task::run(self, shared));
        socket
    }

    fn close_timeout(&self) -> Duration {
        self.client.config.connection.close_timeout
    }
}

/// The future of a hook.
fn boxed<T, E: Into<BoxError>>(
    future: impl Future<Output = Result<T, E>> + Send + 'static,
) -> BoxFuture<Result<T, BoxError>> {
    Box::pin(async { future.await.map_err(Into::into) })
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("client", &self.client)
            .field("server", &self.target.authority)
            .field("backoff", &self.backoff)
            .field("max_attempts", &self.max_attempts)
            .field("max_messages", &self.max_messages)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
