//! [`RedisBackplane`]: the handle.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use ws_core::CloseFrame;
use ws_hub::{
    Ack, Acked, After, Append, Backplane, Durability, Health, Held, Key, LogError, LoggedIn, LoginError,
    LoginRequest, Logout, NodeId, Online, Packet, Page, Position, Read, RoomAppend, RoomRead, RoomSent, Sent,
    Signal, Standing,
};

use crate::appender::Lines;
use crate::codec::{decode_push, encode_user};
use crate::config::{PROBE, Settings};
use crate::confirmations::Confirmations;
use crate::error::{ConnectError, Failure};
use crate::inbox::Item;
use crate::join::join_all;
use crate::presence;
use crate::reaper::end_all_of;
use crate::rooms;
use crate::router::{Router, Servers};
use crate::script::Call;
use crate::shared::Shared;
use crate::site::Site;
use crate::users::{self, Confirmed};

/// Joins the hubs of several nodes over Redis, so that they act as one, and keeps the messages of their users there.
///
/// Each node connects by itself, to the same server or cluster with the same [prefix](crate::RedisBackplaneBuilder::prefix) and
/// the same bounds. See the [documentation of this crate](crate) for what is kept, what it survives, and how to set the server up.
///
/// # When the server is away
///
/// Calls wait for it and are tried again, for 4.5 seconds in all; after 5 seconds without it they fail at once. What fails
/// says whether it may have happened. Connections to users stay. The backplane connects again for ever; then the hub is told
/// that it may have missed something, asserts its logins, and reads what was missed.
///
/// # When it is dropped
///
/// It ends as if the process were killed: others believe that this node is there until its lease ends. [`Hub::drain`] says to
/// them that it leaves.
///
/// ```no_run
/// use ws_hub::Hub;
/// use ws_hub_redis::RedisBackplane;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ws_hub_redis::ConnectError> {
/// let backplane = RedisBackplane::<String>::builder("redis://localhost:6379").connect().await?;
/// let hub = Hub::builder().backplane(backplane).build();
/// # drop(hub);
/// # Ok(())
/// # }
/// ```
///
/// [`Hub::drain`]: ws_hub::Hub::drain
pub struct RedisBackplane<U> {
    shared: Arc<Shared>,
    address: String,
    router: Mutex<Option<JoinHandle<()>>>,
    confirmations: Confirmations,
    has_given_signals: AtomicBool,
    user: PhantomData<fn() -> U>,
}

impl<U: Key> RedisBackplane<U> {
    pub(crate) async fn start(servers: Servers, settings: Settings) -> Result<Self, ConnectError> {
        let partitions = servers.partitions();
        let address = servers.shown().to_owned();
        let shared = Arc::new(Shared::new(settings, partitions));
        let router = Router::start(Arc::clone(&shared), servers).await?;
        let confirmations = Confirmations::start(Arc::clone(&shared));
        Ok(Self {
            shared,
            address,
            router: Mutex::new(Some(tokio::spawn(router.run()))),
            confirmations,
            has_given_signals: AtomicBool::new(false),
            user: PhantomData,
        })
    }

    /// Its logins are over, and others know it.
    async fn say_goodbye(&self) -> Result<(), Failure> {
        self.shared.has_left.send_replace(true);
        let router = self.router.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut router) = router else { return Ok(()) };
        if timeout(PROBE, &mut router).await.is_err() {
            router.abort();
        }
        let table = self.shared.routes.table();
        let partings = self.shared.routes.sites().into_iter().map(|site| {
            let mine = table.iter().enumerate().filter(|(_, it)| Arc::ptr_eq(it, &site));
            let partitions: Vec<_> = mine.map(|(partition, _)| partition).collect();
            let parting: BoxFuture<'_, _> = Box::pin(self.leave_site(site, partitions));
            parting
        });
        join_all(partings.collect()).await.into_iter().collect()
    }

    async fn leave_site(&self, site: Arc<Site>, partitions: Vec<usize>) -> Result<(), Failure> {
        let Some(Lines { link, .. }) = site.state.borrow().lines.clone() else { return Ok(()) };
        let partitions: Vec<_> = partitions.into_iter().map(|it| self.shared.partitions.at(it)).collect();
        let ends = partitions.iter().map(|partition| {
            Call::plain("ZADD", partition.keys.leases()).number(0).bytes(partition.name().as_bytes())
        });
        let answers = link.call(&ends.collect::<Vec<_>>()).await;
        let (mut nodes, mut result) = (Vec::new(), Ok(()));
        for (partition, answer) in partitions.into_iter().zip(answers) {
            match answer {
                Ok(_) => nodes.push((partition.number, partition.name().to_string())),
                Err(failure) => result = Err(failure),
            }
        }
        end_all_of(&self.shared, &link, nodes, 0).await.and(result)
    }
}

impl<U> Drop for RedisBackplane<U> {
    fn drop(&mut self) {
        if let Some(router) = self.router.lock().unwrap_or_else(PoisonError::into_inner).take() {
            router.abort();
        }
        self.shared.inbox.close();
    }
}

impl<U> fmt::Debug for RedisBackplane<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackplane")
            .field("node", &self.shared.partitions.at(0).name())
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What was pushed, as the hub understands it.
struct Signals<U> {
    shared: Arc<Shared>,
    /// They are taken once.
    is_over: bool,
    user: PhantomData<fn() -> U>,
}

impl<U: Key> Stream for Signals<U> {
    type Item = Signal<U>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal<U>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        loop {
            let bytes = match ready!(self.shared.inbox.poll_next(cx)) {
                Some(Item::Push(bytes)) => bytes,
                Some(Item::GapIn(partitions)) if self.shared.partitions.are_many() => {
                    return Poll::Ready(Some(Signal::GapIn(partitions)));
                }
                Some(Item::Gap | Item::GapIn(_)) => return Poll::Ready(Some(Signal::Gap)),
                Some(Item::Down) => return Poll::Ready(Some(Signal::Down)),
                Some(Item::Up) => return Poll::Ready(Some(Signal::Up)),
                None => return Poll::Ready(None),
            };
            match decode_push(&bytes, self.shared.partitions.origin()) {
                Ok(Some(signal)) => return Poll::Ready(Some(signal)),
                // what this node has published itself
                Ok(None) => {}
                // a message, perhaps, of another version
                Err(_) => return Poll::Ready(Some(Signal::Gap)),
            }
        }
    }
}

impl<U: Key> Backplane<U> for RedisBackplane<U> {
    fn node(&self) -> NodeId {
        NodeId::new(self.shared.partitions.at(0).name())
    }

    fn durability(&self) -> Durability {
        Durability::Disk
    }

    fn signals(&self) -> BoxStream<'static, Signal<U>> {
        let is_over = self.has_given_signals.swap(true, Ordering::AcqRel);
        Box::pin(Signals { shared: Arc::clone(&self.shared), is_over, user: PhantomData })
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Sent, LogError>>> {
        Box::pin(users::append(&self.shared, batch))
    }

    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        Box::pin(async move { Ok(users::read(&self.shared, user, after, page).await?) })
    }

    fn acknowledge<'a>(&'a self, batch: &'a [Ack<'a, U>]) -> BoxFuture<'a, Vec<Result<Acked, LogError>>> {
        Box::pin(self.confirmations.send(batch.iter().map(Confirmed::new)))
    }

    fn login<'a>(&'a self, login: &'a LoginRequest<'a, U>) -> BoxFuture<'a, Result<LoggedIn, LoginError>> {
        Box::pin(users::login(&self.shared, login))
    }

    fn logout<'a>(&'a self, batch: &'a [Logout<'a, U>]) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(users::logout(&self.shared, batch))
    }

    fn reassert<'a>(&'a self, held: &'a [Held<'a, U>]) -> BoxFuture<'a, Result<Vec<Standing>, LogError>> {
        Box::pin(users::reassert(&self.shared, held))
    }

    fn close<'a>(&'a self, user: &'a U, frame: &'a CloseFrame) -> BoxFuture<'a, Result<usize, LogError>> {
        Box::pin(async move { Ok(users::close(&self.shared, user, frame).await?) })
    }

    fn publish(&self, packet: Packet<U>) -> BoxFuture<'_, Result<usize, LogError>> {
        Box::pin(async move { Ok(rooms::publish(&self.shared, &packet).await?) })
    }

    fn watch<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move { Ok(rooms::watch(&self.shared, room).await?) })
    }

    fn unwatch(&self, room: &str) {
        rooms::unwatch(&self.shared, room);
    }

    fn append_to_room<'a>(
        &'a self,
        append: &'a RoomAppend<'a, U>,
    ) -> BoxFuture<'a, Result<RoomSent<U>, LogError>> {
        Box::pin(async move { Ok(rooms::append(&self.shared, append).await?) })
    }

    fn read_room<'a>(
        &'a self,
        room: &'a str,
        after: Option<Position>,
        page: Page,
    ) -> BoxFuture<'a, Result<RoomRead<U>, LogError>> {
        Box::pin(async move { Ok(rooms::read(&self.shared, room, after, page).await?) })
    }

    fn connections<'a>(&'a self, users: &'a [U]) -> BoxFuture<'a, Result<Vec<usize>, LogError>> {
        Box::pin(async move {
            let users: Vec<_> = users.iter().map(encode_user).collect();
            let counts = users::count(&self.shared, &users).await?;
            Ok(counts.into_iter().map(|(connections, _)| connections).collect())
        })
    }

    fn online<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Online<U>, LogError>> {
        Box::pin(presence::online(&self.shared, after, limit))
    }

    fn health(&self) -> Health {
        let has_gap = || self.has_given_signals.load(Ordering::Acquire) && self.shared.inbox.has_gap();
        match self.shared.routes.health() {
            // the hub does not know it yet
            Health::Up if has_gap() => Health::Syncing,
            health => health,
        }
    }

    fn partitions(&self) -> usize {
        self.shared.partitions.all().len()
    }

    fn partition(&self, user: &U) -> usize {
        self.shared.partitions.of(&encode_user(user)).number
    }

    fn partition_of_room(&self, room: &str) -> usize {
        self.shared.partitions.of(room.as_bytes()).number
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let goodbye = timeout(PROBE, self.say_goodbye()).await;
            if let Err(failure) = goodbye.unwrap_or_else(|_| Err(Failure::lost("no answer"))) {
                tracing::warn!(
                    error = &failure as &dyn std::error::Error,
                    "others believe that this node is there until its lease ends"
                );
            }
        })
    }
}
