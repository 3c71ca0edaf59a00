//! [`Reconnect`]: the settings of a connection that reconnects.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backoff::Backoff;
use super::state::Interruption;
use crate::client::builder::Client;
use crate::client::error::ConnectError;
use crate::client::target::Target;
use crate::connection::{Stream, WebSocket};
use crate::error::expect_valid;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Hook<T> = Box<dyn FnMut(T) -> BoxFuture<Result<T, BoxError>> + Send>;
type Connector = Box<dyn FnMut() -> BoxFuture<io::Result<Box<dyn Stream>>> + Send>;
type Witness = Box<dyn FnMut(&Response<()>) + Send>;
type Judge = Box<dyn FnMut(&Interruption) -> bool + Send>;
type Place = Box<dyn FnMut() -> Option<String> + Send>;

/// The settings of a [`ReconnectingWebSocket`](super::ReconnectingWebSocket), made by [`Client::reconnecting`];
/// [`start`](Self::start) starts it.
///
/// | setting | default |
/// |---|---|
/// | [`backoff`](Self::backoff) | a random time up to 500 ms; each failure doubles that bound, up to 30 s |
/// | [`max_attempts`](Self::max_attempts) | no limit |
/// | [`reconnect_if`](Self::reconnect_if) | [`Interruption::should_reconnect`] |
/// | [`queue`](Self::queue) | 100 messages and 1 MiB |
/// | [`resume`](Self::resume) | the URL stays the same |
///
/// The server may ask for a longer wait, by the header `Retry-After` of a refusal, or by `retry-after=N` (seconds) in the
/// reason of a Close frame. Up to 5 minutes are accepted. It is never shorter than that, and a random time longer, so that
/// clients that were told the same time do not return together: see [`Backoff`].
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
    pub(super) client: Client,
    pub(super) target: Target,
    pub(super) backoff: Backoff,
    pub(super) max_attempts: Option<u32>,
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) keeps: bool,
    pub(super) judge: Judge,
    /// Where the client had stopped, and the parameter of the query that says it.
    pub(super) resume: Option<(String, Place)>,
    pub(super) on_attempt: Option<Hook<Client>>,
    pub(super) on_response: Option<Witness>,
    pub(super) on_connect: Option<Hook<WebSocket>>,
    /// Opens the streams instead of TCP.
    pub(super) connector: Option<Connector>,
}

impl Client {
    /// The settings of a connection to `url` that is opened again when it ends: see
    /// [`ReconnectingWebSocket`](super::ReconnectingWebSocket).
    ///
    /// # Panics
    ///
    /// If `url` is not the URL of a WebSocket. [`try_reconnecting`](Self::try_reconnecting) returns an error instead.
    #[track_caller]
    pub fn reconnecting(&self, url: impl AsRef<str>) -> Reconnect {
        expect_valid(self.try_reconnecting(url))
    }

    /// As [`reconnecting`](Self::reconnecting), for a URL that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`].
    pub fn try_reconnecting(&self, url: impl AsRef<str>) -> Result<Reconnect, ConnectError> {
        Ok(Reconnect::new(self.clone(), Target::parse(url.as_ref())?))
    }
}

impl Reconnect {
    fn new(client: Client, target: Target) -> Self {
        Self {
            client,
            target,
            backoff: Backoff::new(),
            max_attempts: None,
            max_messages: 100,
            max_bytes: 1024 * 1024,
            keeps: true,
            judge: Box::new(Interruption::should_reconnect),
            resume: None,
            on_attempt: None,
            on_response: None,
            on_connect: None,
            connector: None,
        }
    }

    /// How long to wait between attempts. Default [`Backoff::new`].
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// How many attempts may fail in a row before it ends. A connection that is shorter than [`Backoff::reset_after`] counts
    /// as a failed attempt. Default no limit.
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

    /// How many messages, and bytes, may wait while there is no connection. Further ones fail with
    /// [`SendError::Full`](super::SendError::Full), which returns the message. Default 100 messages and 1 MiB. An empty queue
    /// accepts a message of any size.
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

    /// While there is no connection, sending fails with [`SendError::NotConnected`](super::SendError::NotConnected). When a
    /// connection breaks, the messages that it has not taken are dropped, so that no message is sent late.
    pub fn without_queue(self) -> Self {
        Self { keeps: false, ..self }
    }

    /// Decides whether to reconnect, instead of [`Interruption::should_reconnect`], which it can call. It is called after
    /// each failed attempt and each end of a connection, unless [`max_attempts`](Self::max_attempts) is reached.
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

    /// Tells the server with each attempt where this client had stopped, in the query of the URL: `hook` returns the position
    /// of the last message, or `None` for no parameter. It is called before each attempt, the first one too, so that a
    /// program that keeps the position in a file goes on after a restart. Its name and its value are percent-encoded.
    ///
    /// The server sends what comes after the position, or says that it does not have all of it. Where the position is in a
    /// message is up to the two: here it is a line in front.
    ///
    /// ```no_run
    /// use std::sync::{Arc, Mutex};
    /// use ws_core::client::Client;
    ///
    /// # async fn run() {
    /// let position = Arc::new(Mutex::new(None));
    /// let mut socket = Client::new()
    ///     .reconnecting("ws://localhost:3000/news")
    ///     // ws://localhost:3000/news?after=17.9f3c5a0e2b7d4411
    ///     .resume("after", {
    ///         let position = Arc::clone(&position);
    ///         move || position.lock().unwrap().clone()
    ///     })
    ///     .start();
    ///
    /// while let Some(message) = socket.recv().await {
    ///     let text = message.as_text().unwrap_or_default();
    ///     let Some((place, news)) = text.split_once('\n') else { continue };
    ///     println!("{news}");
    ///     // after it is dealt with: a message whose position is known is not sent again
    ///     *position.lock().unwrap() = Some(place.to_owned());
    /// }
    /// # }
    /// ```
    ///
    /// Messages that have come and are not [received](super::ReconnectingWebSocket::recv) yet stay there when a connection
    /// ends. A server that is told the position of the last one that was received sends them again; so drop what is not after
    /// the last position. A hub of `ws-hub` writes positions that grow: the number before the dot.
    ///
    /// # Panics
    ///
    /// If the name is empty.
    #[track_caller]
    pub fn resume(
        self,
        name: impl Into<String>,
        hook: impl FnMut() -> Option<String> + Send + 'static,
    ) -> Self {
        let name = name.into();
        assert!(!name.is_empty(), "a parameter of a query without a name: use `after`, for example");
        Self { resume: Some((name, Box::new(hook))), ..self }
    }

    /// Changes the client before each attempt, for example to set a header with a new token. It gets the client that made
    /// this `Reconnect`. The URL stays the same: see [`resume`](Self::resume).
    ///
    /// An error counts as a failed attempt, and so does exceeding the client's `connect_timeout`.
    pub fn on_attempt<F, Fut, E>(self, mut hook: F) -> Self
    where
        F: FnMut(Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Client, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { on_attempt: Some(Box::new(move |client| boxed(hook(client)))), ..self }
    }

    /// Gets the server's answer to each handshake, with the status 101, before [`on_connect`](Self::on_connect) gets the
    /// connection: to keep a header, such as a cookie for the next attempt.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use ws_core::client::Client;
    ///
    /// let node = Arc::new(Mutex::new(None));
    /// let reconnect = Client::new().reconnecting("ws://localhost:3000/chat").on_response({
    ///     let node = Arc::clone(&node);
    ///     move |response| *node.lock().unwrap() = response.headers().get("x-node").cloned()
    /// });
    /// ```
    pub fn on_response(self, hook: impl FnMut(&Response<()>) + Send + 'static) -> Self {
        Self { on_response: Some(Box::new(hook)), ..self }
    }

    /// Gets each new connection before queued messages are sent, and returns it: to restore the state of the session, for
    /// example to sign in, to join rooms, to wait for an answer.
    ///
    /// An error counts as a failed attempt, and so does exceeding the client's `connect_timeout`. Messages that it receives
    /// are not returned by [`recv`](super::ReconnectingWebSocket::recv).
    pub fn on_connect<F, Fut, E>(self, mut hook: F) -> Self
    where
        F: FnMut(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = Result<WebSocket, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self { on_connect: Some(Box::new(move |socket| boxed(hook(socket)))), ..self }
    }

    /// Connects over the streams that `connector` opens, one for each attempt, instead of TCP: see
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

    pub(super) fn close_timeout(&self) -> Duration {
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
