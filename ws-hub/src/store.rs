//! Messages for users who are not connected: [`OfflineStore`], and [`MemoryStore`], which is the default.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::time::Instant;
use ws_core::Message;

/// The error of an [`OfflineStore`].
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// What the store answers. A panic in it is one more way to fail: messages that others wait to store must not go with it.
pub(crate) async fn ask<T>(call: impl AsyncFnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut call = pin!(async { call().await });
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err("the store panicked".into())))
    })
    .await
}

/// When a stored message counts as delivered, and is removed from the store.
///
/// ```
/// use ws_hub::{Guarantee, Hub};
///
/// let hub = Hub::<u64>::builder().guarantee(Guarantee::AtLeastOnce).build();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// When it is handed to the connection, which sends it as soon as the network takes it. Nothing comes twice; what was
    /// on its way when the peer vanished is lost. The default.
    #[default]
    AtMostOnce,
    /// When the peer has answered a ping that was sent behind it. What was on its way when the connection ended is sent
    /// again at the next login, and may come twice: messages need an id of the application's. That holds for all messages
    /// to the user, also those that were not stored before, and takes a ping for each batch.
    AtLeastOnce,
}

/// A message in a store.
///
/// ```
/// let stored = ws_hub::Stored::new(17, "hello");
/// assert_eq!(stored.message.as_text(), Some("hello"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// What the store knows it by.
    pub id: u128,
    /// What the user is to get.
    pub message: Message,
}

impl Stored {
    /// A message that the store knows by `id`.
    #[must_use]
    pub fn new(id: u128, message: impl Into<Message>) -> Self {
        Self { id, message: message.into() }
    }
}

/// What became of a message that a store was given.
///
/// ```
/// assert_ne!(ws_hub::Pushed::Stored { evicted: 0 }, ws_hub::Pushed::TooLarge);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pushed {
    /// It is stored, and this many older ones, of this user or others, went for it.
    Stored {
        /// How many went.
        evicted: usize,
    },
    /// It is larger than the store takes.
    TooLarge,
}

/// Keeps messages for users who are not connected.
///
/// If the hubs of several nodes share a store, a message reaches a user who logs in on another node.
///
/// # What an implementation does
///
/// The messages of one user are a queue: [`push`](Self::push) appends to it, [`peek`](Self::peek) reads from its front,
/// [`remove`](Self::remove) removes what was read, and [`restore`](Self::restore) puts back in front what was removed and
/// could not be sent. In Redis that is a list: `RPUSH`, `LRANGE`, `LTRIM`, `LPUSH`.
///
/// One hub never makes two calls for the same user at the same time. The hubs of several nodes that share a store do. So
/// `remove` must remove what `peek` returned, and nothing else.
///
/// # Examples
///
/// A store that keeps the newest message of each user only:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use futures_core::future::BoxFuture;
/// use ws_core::Message;
/// use ws_hub::{Hub, OfflineStore, Pushed, StoreError, Stored};
///
/// #[derive(Default)]
/// struct Newest(Mutex<HashMap<u64, Message>>);
///
/// impl OfflineStore<u64> for Newest {
///     fn push<'a>(&'a self, user: &'a u64, message: Message) -> BoxFuture<'a, Result<Pushed, StoreError>> {
///         Box::pin(async move {
///             let older = self.0.lock().unwrap().insert(*user, message);
///             Ok(Pushed::Stored { evicted: usize::from(older.is_some()) })
///         })
///     }
///
///     fn restore<'a>(
///         &'a self,
///         user: &'a u64,
///         messages: Vec<Stored>,
///     ) -> BoxFuture<'a, Result<(), StoreError>> {
///         Box::pin(async move {
///             if let Some(newest) = messages.into_iter().last() {
///                 self.0.lock().unwrap().entry(*user).or_insert(newest.message);
///             }
///             Ok(())
///         })
///     }
///
///     fn peek<'a>(
///         &'a self,
///         user: &'a u64,
///         _messages: usize,
///         _bytes: usize,
///     ) -> BoxFuture<'a, Result<Vec<Stored>, StoreError>> {
///         Box::pin(async move {
///             let stored = self.0.lock().unwrap().get(user).cloned();
///             Ok(stored.into_iter().map(|message| Stored::new(0, message)).collect())
///         })
///     }
///
///     fn remove<'a>(&'a self, user: &'a u64, _ids: &'a [u128]) -> BoxFuture<'a, Result<(), StoreError>> {
///         Box::pin(async move {
///             self.0.lock().unwrap().remove(user);
///             Ok(())
///         })
///     }
/// }
///
/// let hub = Hub::builder().offline_store(Newest::default()).build();
/// # let _: Hub<u64> = hub;
/// ```
pub trait OfflineStore<U>: Send + Sync + 'static {
    /// Appends a message to those of the user.
    fn push<'a>(&'a self, user: &'a U, message: Message) -> BoxFuture<'a, Result<Pushed, StoreError>>;

    /// Puts messages, oldest first, in front of those of the user: they were peeked at and removed, and could not be sent
    /// after all.
    fn restore<'a>(&'a self, user: &'a U, messages: Vec<Stored>) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The oldest messages of the user, oldest first: at most `messages` of them, and not more than `bytes` bytes in all
    /// unless the first one alone has more. None if there are none.
    fn peek<'a>(
        &'a self,
        user: &'a U,
        messages: usize,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Stored>, StoreError>>;

    /// Removes these messages of the user, where they are still there.
    fn remove<'a>(&'a self, user: &'a U, ids: &'a [u128]) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Keeps messages in the memory of this process, within bounds: a restart loses them.
///
/// | bound | default |
/// |---|---|
/// | [`per_user`](Self::per_user) | 1,000 messages, 1 MiB |
/// | [`in_all`](Self::in_all) | 64 MiB |
/// | [`time_to_live`](Self::time_to_live) | 7 days |
///
/// When a bound is reached, the oldest messages are removed: those of the user for the bound of one user, and those of all
/// users for the bound of all. For the latter a message counts as its length and 64 bytes more.
///
/// ```
/// use std::time::Duration;
/// use ws_hub::{Hub, MemoryStore};
///
/// let store = MemoryStore::new().per_user(100, 256 * 1024).time_to_live(Duration::from_secs(3600));
/// let hub = Hub::<String>::builder().offline_store(store).build();
/// ```
pub struct MemoryStore<U> {
    user_messages: usize,
    user_bytes: usize,
    all_bytes: usize,
    time_to_live: Option<Duration>,
    epoch: Instant,
    contents: Mutex<Contents<U>>,
}

/// What a message takes besides its length.
const OVERHEAD: usize = 64;

struct Contents<U> {
    users: HashMap<U, Mailbox>,
    /// Whose message each is, in the order in which they came.
    order: BTreeMap<u128, U>,
    bytes: usize,
    next: u64,
}

/// The messages of one user, in the order in which they came.
#[derive(Default)]
struct Mailbox {
    messages: BTreeMap<u128, Message>,
    bytes: usize,
}

fn cost(message: &Message) -> usize {
    message.len() + OVERHEAD
}

impl<U> Default for MemoryStore<U> {
    fn default() -> Self {
        Self {
            user_messages: 1_000,
            user_bytes: 1024 * 1024,
            all_bytes: 64 * 1024 * 1024,
            time_to_live: Some(Duration::from_secs(7 * 24 * 3600)),
            epoch: Instant::now(),
            contents: Mutex::new(Contents {
                users: HashMap::new(),
                order: BTreeMap::new(),
                bytes: 0,
                next: 0,
            }),
        }
    }
}

impl<U: Clone + Eq + Hash> MemoryStore<U> {
    /// An empty store with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many messages, and bytes of them, are kept for one user. Default 1,000 and 1 MiB.
    ///
    /// # Panics
    ///
    /// If one of them is 0: a store that keeps nothing is `without_offline_store`.
    #[must_use]
    #[track_caller]
    pub fn per_user(mut self, messages: usize, bytes: usize) -> Self {
        assert!(messages > 0 && bytes > 0, "a store that keeps nothing: use `without_offline_store`");
        self.user_messages = messages;
        self.user_bytes = bytes;
        self
    }

    /// How many bytes are kept for all users. Default 64 MiB.
    ///
    /// # Panics
    ///
    /// If it is 0: a store that keeps nothing is `without_offline_store`.
    #[must_use]
    #[track_caller]
    pub fn in_all(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a store that keeps nothing: use `without_offline_store`");
        self.all_bytes = bytes;
        self
    }

    /// How long a message is kept; `None` for as long as there is room. Default 7 days.
    ///
    /// # Panics
    ///
    /// If it is zero: a store that keeps nothing is `without_offline_store`.
    #[must_use]
    #[track_caller]
    pub fn time_to_live(mut self, time: impl Into<Option<Duration>>) -> Self {
        let time = time.into();
        assert!(time != Some(Duration::ZERO), "a store that keeps nothing: use `without_offline_store`");
        self.time_to_live = time;
        self
    }

    /// How many messages there are, for all users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents().order.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is stored, without what is too old.
    fn contents(&self) -> MutexGuard<'_, Contents<U>> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(time_to_live) = self.time_to_live {
            let expired = self.epoch.elapsed().checked_sub(time_to_live).map(|time| time.as_millis() << 64);
            while expired
                .is_some_and(|expired| contents.order.first_key_value().is_some_and(|(id, _)| *id < expired))
            {
                contents.evict();
            }
        }
        contents
    }

    fn push_now(&self, user: &U, message: Message) -> Pushed {
        if message.len() > self.user_bytes || cost(&message) > self.all_bytes {
            return Pushed::TooLarge;
        }
        let mut contents = self.contents();
        // when it came, and a number: in this order they go
        let id = self.epoch.elapsed().as_millis() << 64 | u128::from(contents.next);
        contents.next += 1;
        contents.insert(user, Stored { id, message });
        Pushed::Stored { evicted: self.fit(&mut contents, user) }
    }

    /// Makes what is stored fit the bounds; returns how many messages went for that.
    fn fit(&self, contents: &mut Contents<U>, user: &U) -> usize {
        let before = contents.order.len();
        while let Some(mailbox) = contents.users.get(user)
            && (mailbox.messages.len() > self.user_messages || mailbox.bytes > self.user_bytes)
            && let Some((&oldest, _)) = mailbox.messages.first_key_value()
        {
            contents.remove(user, oldest);
        }
        while contents.bytes > self.all_bytes {
            contents.evict();
        }
        before - contents.order.len()
    }
}

impl<U: Clone + Eq + Hash> Contents<U> {
    fn insert(&mut self, user: &U, Stored { id, message }: Stored) {
        let (len, cost) = (message.len(), cost(&message));
        let mailbox = self.users.entry(user.clone()).or_default();
        if mailbox.messages.insert(id, message).is_none() {
            mailbox.bytes += len;
            self.bytes += cost;
            self.order.insert(id, user.clone());
        }
    }

    fn remove(&mut self, user: &U, id: u128) {
        let Some(mailbox) = self.users.get_mut(user) else { return };
        if let Some(message) = mailbox.messages.remove(&id) {
            mailbox.bytes -= message.len();
            self.bytes -= cost(&message);
            self.order.remove(&id);
        }
        if mailbox.messages.is_empty() {
            self.users.remove(user);
        }
    }

    /// Removes the oldest message of all.
    fn evict(&mut self) {
        if let Some((&id, user)) = self.order.first_key_value() {
            let user = user.clone();
            self.remove(&user, id);
        }
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> OfflineStore<U> for MemoryStore<U> {
    fn push<'a>(&'a self, user: &'a U, message: Message) -> BoxFuture<'a, Result<Pushed, StoreError>> {
        Box::pin(async move { Ok(self.push_now(user, message)) })
    }

    fn restore<'a>(&'a self, user: &'a U, messages: Vec<Stored>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut contents = self.contents();
            for stored in messages {
                contents.insert(user, stored);
            }
            self.fit(&mut contents, user);
            Ok(())
        })
    }

    fn peek<'a>(
        &'a self,
        user: &'a U,
        messages: usize,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Stored>, StoreError>> {
        Box::pin(async move {
            let contents = self.contents();
            let mut left = bytes;
            let mailbox = contents.users.get(user).into_iter().flat_map(|mailbox| &mailbox.messages);
            let fitting = mailbox.take(messages).enumerate().map_while(|(n, (&id, message))| {
                let fits = left.checked_sub(message.len());
                left = fits.unwrap_or(0);
                (n == 0 || fits.is_some()).then(|| Stored { id, message: message.clone() })
            });
            Ok(fitting.collect())
        })
    }

    fn remove<'a>(&'a self, user: &'a U, ids: &'a [u128]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut contents = self.contents();
            for &id in ids {
                contents.remove(user, id);
            }
            Ok(())
        })
    }
}

impl<U> fmt::Debug for MemoryStore<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("user_messages", &self.user_messages)
            .field("user_bytes", &self.user_bytes)
            .field("all_bytes", &self.all_bytes)
            .field("time_to_live", &self.time_to_live)
            .finish_non_exhaustive()
    }
}
