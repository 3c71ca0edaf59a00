//! The settings of a backplane.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use ws_hub::Key;

use crate::backplane::RedisBackplane;
use crate::config::{REMEMBERED, Settings, millis};
use crate::error::ConnectError;

/// The longest prefix, in bytes: it is in front of each key.
const PREFIX: usize = 64;

/// The settings of a [`RedisBackplane`], from [`RedisBackplane::builder`]. All nodes of a backplane have the same.
///
/// ```no_run
/// use std::time::Duration;
/// use ws_hub_redis::RedisBackplane;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ws_hub_redis::ConnectError> {
/// let backplane = RedisBackplane::<String>::builder("redis://user:password@localhost:6379/0")
///     .prefix("chat")
///     .per_user(10_000, 4 * 1024 * 1024)
///     .time_to_live(Duration::from_secs(30 * 24 * 3600))
///     .connect()
///     .await?;
/// # drop(backplane);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct RedisBackplaneBuilder<U> {
    url: String,
    settings: Settings,
    user: PhantomData<fn() -> U>,
}

impl<U> fmt::Debug for RedisBackplaneBuilder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the address may have a password
        f.debug_struct("RedisBackplaneBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<U: Key> RedisBackplaneBuilder<U> {
    /// What the names of all keys and channels begin with. Default `ws`. Two applications that share a server have two
    /// prefixes; with `chat`, an access list is `~chat:* &chat:*`.
    ///
    /// # Panics
    ///
    /// If it is empty, has more than 64 bytes, or has a brace: Redis Cluster reads those.
    #[track_caller]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        assert!(
            !prefix.is_empty() && prefix.len() <= PREFIX && !prefix.contains(['{', '}']),
            "a prefix has 1 to {PREFIX} bytes and no braces"
        );
        self.settings.prefix = prefix;
        self
    }

    /// How many messages, and bytes of them, are kept for one user. Default 1,000 and 1 MiB.
    ///
    /// # Panics
    ///
    /// If one of them is 0: a hub that keeps nothing is built `without_log`.
    #[track_caller]
    pub fn per_user(mut self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "a log that keeps nothing: use `without_log`");
        self.settings.bounds.user_messages = messages as u64;
        self.settings.bounds.user_bytes = bytes as u64;
        self
    }

    /// How long an undelivered message is kept. `None` keeps it until a bound is reached. Default 7 days.
    ///
    /// # Panics
    ///
    /// If it is zero: a hub that keeps nothing is built `without_log`.
    #[track_caller]
    pub fn time_to_live(mut self, time: impl Into<Option<Duration>>) -> Self {
        let time = time.into();
        assert!(time != Some(Duration::ZERO), "a log that keeps nothing: use `without_log`");
        self.settings.bounds.time_to_live = time.map_or(0, millis);
        self
    }

    /// How many messages are kept after they are delivered, and for how long after the last of them: for clients that come
    /// back and resume. Default 64 messages, which is also the least, and 60 seconds.
    pub fn history(mut self, messages: usize, time: Duration) -> Self {
        self.settings.bounds.history_messages = REMEMBERED.max(messages as u64);
        self.settings.bounds.history_time = millis(time);
        self
    }

    /// For how long others believe that this node is there when they do not hear of it. Default 15 seconds.
    ///
    /// It is said each third of that time that the node is there. When it was not said in time, the users of the node are
    /// offline for the others; two thirds of that time later what the node left behind is tidied up, and what its
    /// connections had not confirmed goes to others of the user.
    ///
    /// # Panics
    ///
    /// If it is shorter than a second.
    #[track_caller]
    pub fn lease(mut self, time: Duration) -> Self {
        assert!(time >= Duration::from_secs(1), "a lease that ends before it is renewed");
        self.settings.lease = time;
        self
    }

    /// Connects this node, and says to the others that it is there.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the address is none, nobody answers there, or not as is needed. It is not tried again.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime that has timers and I/O.
    pub async fn connect(self) -> Result<RedisBackplane<U>, ConnectError> {
        RedisBackplane::start(&self.url, self.settings).await
    }
}

/// How to make one.
impl<U: Key> RedisBackplane<U> {
    /// The settings of a backplane over the Redis server at this address: `redis://host:port`,
    /// `redis://user:password@host:port/database`, or `unix:/path/to/socket`.
    pub fn builder(url: impl Into<String>) -> RedisBackplaneBuilder<U> {
        RedisBackplaneBuilder { url: url.into(), settings: Settings::default(), user: PhantomData }
    }
}
