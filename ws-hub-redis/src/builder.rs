//! The settings of a backplane.

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use tokio_rustls::rustls::ClientConfig;
use ws_hub::Key;

use crate::address::Address;
use crate::backplane::RedisBackplane;
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::config::{REMEMBERED, Settings, millis};
use crate::endpoint::{Endpoint, Options};
use crate::error::ConnectError;
use crate::router::Servers;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;
#[cfg(feature = "tls")]
use crate::tls::Tls;

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
    place: Place,
    options: Options,
    settings: Settings,
    user: PhantomData<fn() -> U>,
}

/// Where the server is, as the application says.
enum Place {
    Server(String),
    #[cfg(feature = "sentinel")]
    Master {
        sentinels: Vec<String>,
        name: String,
    },
    #[cfg(feature = "cluster")]
    Cluster(Vec<String>),
}

impl<U> fmt::Debug for RedisBackplaneBuilder<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the address may have a password
        f.debug_struct("RedisBackplaneBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<U> RedisBackplaneBuilder<U> {
    fn at(place: Place) -> Self {
        Self { place, options: Options::default(), settings: Settings::default(), user: PhantomData }
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

    /// The user and the password for the server, in place of those in its address. Who has only a password is the user
    /// `default`.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.options.credentials = Some((user.into(), password.into()));
        self
    }

    /// The number of the database on the server, in place of that in its address. Default 0.
    pub fn database(mut self, number: u16) -> Self {
        self.options.database = Some(number);
        self
    }

    /// How to speak TLS, with a server at a `rediss://` address: which roots are trusted, and the certificate of the client,
    /// if it has to have one. Default: the roots that the operating system trusts, without a certificate. Certificates of
    /// the server are checked for the host of the address.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    /// use tokio_rustls::rustls::pki_types::CertificateDer;
    /// use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    /// use ws_hub_redis::RedisBackplane;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut roots = RootCertStore::empty();
    /// roots.add(CertificateDer::from_pem_file("redis-ca.pem")?)?;
    /// let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    ///
    /// let backplane = RedisBackplane::<String>::builder("rediss://redis.internal:6380")
    ///     .tls_config(Arc::new(config))
    ///     .connect()
    ///     .await?;
    /// # drop(backplane);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.options.tls = Tls::new(config);
        self
    }

    /// How many replicas have to have a message to a user before it is said to be sent or stored. Default 0: a message that
    /// only the master had is lost when another server becomes the master.
    ///
    /// Replicas have a second to say that they have it; when too few did, it is
    /// [not known](ws_hub::Delivery::Unknown) whether the message will stay, and it may have come already. It costs the time
    /// that replicas take; messages that are sent meanwhile wait, and go together. It is as good as Redis gets: a replica that
    /// had none of it may become the master, if there are more than so many. Messages to rooms, acknowledgements and logins
    /// are not waited for.
    ///
    /// The server has to have so many replicas. It should have `min-replicas-to-write`, too: then a master that is cut off
    /// refuses messages.
    pub fn replicas(mut self, count: u32) -> Self {
        self.settings.replicas = count;
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
        let servers = match &self.place {
            Place::Server(url) => Servers::One(Address::Server(Endpoint::parse(url, &self.options)?)),
            #[cfg(feature = "sentinel")]
            Place::Master { sentinels, name } => {
                Servers::One(Address::Master(Sentinels::parse(sentinels, name, &self.options)?))
            }
            #[cfg(feature = "cluster")]
            Place::Cluster(urls) => Servers::Cluster(Cluster::parse(urls, &self.options)?),
        };
        RedisBackplane::start(servers, self.settings).await
    }
}

/// How to make one.
impl<U: Key> RedisBackplane<U> {
    /// The settings of a backplane over the Redis server at this address: `redis://host:port`,
    /// `redis://user:password@host:port/database`, or `unix:/path/to/socket`. With the feature `tls`, `rediss://` is the same
    /// over TLS.
    pub fn builder(url: impl Into<String>) -> RedisBackplaneBuilder<U> {
        RedisBackplaneBuilder::at(Place::Server(url.into()))
    }

    /// The settings of a backplane over the master of this name, which these Sentinels watch. They are asked for its address
    /// for each connection: after a failover all goes on with the new master.
    ///
    /// The addresses are those of Sentinels, such as `redis://host:26379`, with the user and the password for them, if they
    /// want some. For the master there are [`credentials`](RedisBackplaneBuilder::credentials) and
    /// [`database`](RedisBackplaneBuilder::database). It is reached over TLS if the Sentinel is, at a `rediss://` address,
    /// and its certificate is one for the address that the Sentinel names.
    ///
    /// ```no_run
    /// use ws_hub_redis::RedisBackplane;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ws_hub_redis::ConnectError> {
    /// let sentinels = ["redis://s1:26379", "redis://s2:26379", "redis://s3:26379"];
    /// let backplane = RedisBackplane::<String>::sentinel(sentinels, "mymaster")
    ///     .credentials("default", "password")
    ///     .replicas(1)
    ///     .connect()
    ///     .await?;
    /// # drop(backplane);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If there are no addresses.
    #[cfg(feature = "sentinel")]
    #[track_caller]
    pub fn sentinel<S: Into<String>>(
        sentinels: impl IntoIterator<Item = S>,
        master: impl Into<String>,
    ) -> RedisBackplaneBuilder<U> {
        let sentinels: Vec<_> = sentinels.into_iter().map(Into::into).collect();
        assert!(!sentinels.is_empty(), "there is no Sentinel to ask for the master");
        RedisBackplaneBuilder::at(Place::Master { sentinels, name: master.into() })
    }

    /// The settings of a backplane over a Redis Cluster, of which some servers are at these addresses, such as
    /// `redis://host:port` or `redis://user:password@host:port`. They say where the others are: one that answers is enough, and
    /// more are better, since one may be gone. All servers let in the user of the first address, and are reached over TLS if
    /// that one is, at a `rediss://` address.
    ///
    /// ```no_run
    /// use ws_hub_redis::RedisBackplane;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ws_hub_redis::ConnectError> {
    /// let servers = ["redis://r1:6379", "redis://r2:6379", "redis://r3:6379"];
    /// let backplane = RedisBackplane::<String>::cluster(servers)
    ///     .credentials("default", "password")
    ///     .prefix("chat")
    ///     .connect()
    ///     .await?;
    /// # drop(backplane);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If there are no addresses.
    #[cfg(feature = "cluster")]
    #[track_caller]
    pub fn cluster<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> RedisBackplaneBuilder<U> {
        let servers: Vec<_> = servers.into_iter().map(Into::into).collect();
        assert!(!servers.is_empty(), "there is no server to ask for the others");
        RedisBackplaneBuilder::at(Place::Cluster(servers))
    }
}
