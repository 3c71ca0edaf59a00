//! Several hubs that act as one: [`Backplane`], and [`InProcess`], which joins the hubs of one process.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use tokio::sync::mpsc;
use ws_core::{CloseFrame, Message};

/// The error of a [`Backplane`].
pub type BackplaneError = Box<dyn std::error::Error + Send + Sync>;

/// The name of a node, which its backplane gives it.
///
/// ```
/// assert_eq!(ws_hub::NodeId::new("node-3").to_string(), "node-3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A node of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// To whom a [`Packet`] goes.
///
/// ```
/// use ws_hub::{NodeId, Target};
///
/// let target = Target::Node(NodeId::new("node-3"));
/// assert_ne!(target, Target::Others);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// This node.
    Node(NodeId),
    /// All nodes but the one that publishes.
    Others,
}

/// What one node tells another.
///
/// ```
/// use ws_hub::Packet;
///
/// let packet = Packet::ToUser { user: 7, message: "hello".into(), store: true };
/// # let _ = packet;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<U> {
    /// A message for a user who is connected there.
    ToUser {
        /// For whom.
        user: U,
        /// What.
        message: Message,
        /// Whether the node stores it if the user is no longer there. `false` if other nodes get it, too.
        store: bool,
    },
    /// What an ended connection of the user did not send is in the store now. If the user is connected there, that node
    /// sends it.
    Stored {
        /// Whose.
        user: U,
    },
    /// A message for the members of a room.
    ToRoom {
        /// Which room.
        room: String,
        /// Who does not get it.
        except: Vec<U>,
        /// What.
        message: Message,
    },
    /// A message for everyone.
    ToEveryone {
        /// Who does not get it.
        except: Vec<U>,
        /// What.
        message: Message,
    },
    /// The user's connections are to be closed.
    Disconnect {
        /// Whose.
        user: U,
        /// With what.
        frame: CloseFrame,
    },
    /// The user has logged in on another node, and their earlier connections are replaced.
    Replaced {
        /// Who.
        user: U,
        /// The number of the new login: those with a smaller one go.
        login: u64,
    },
}

/// Why a login was not registered.
///
/// ```
/// assert_eq!(ws_hub::LoginError::TooMany.to_string(), "the user has as many connections as they may have");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The user has as many connections, on all nodes, as they may have.
    #[error("the user has as many connections as they may have")]
    TooMany,
    /// The backplane failed.
    #[error("the backplane failed")]
    Failed(#[from] BackplaneError),
}

/// Joins the hubs of several nodes, so that they act as one.
///
/// A hub alone needs none. With a backplane, each hub is a node. A message for a user who is connected to another node, for a
/// room, or for everyone, is published to the other nodes. A user who logs in on one node replaces their connection on
/// another. [`Hub::online_everywhere`](crate::Hub::online_everywhere) returns the users of all nodes.
///
/// # What an implementation over a broker does
///
/// In Redis, [`publish`](Self::publish) is `PUBLISH` on one channel for each node and one for all nodes, and
/// [`subscribe`](Self::subscribe) is `SUBSCRIBE` to both. Presence is a hash for each user, from the node to the number of
/// its newest login, which `INCR` of a counter gives. The entries of a node that is gone must expire, so a node renews its
/// own. All nodes share an [`OfflineStore`](crate::OfflineStore): a message that arrives at a node that the user has just
/// left is stored there. So is what waits for a connection that is replaced on another node; the new connection fetches it.
///
/// What the broker loses or repeats is lost or repeated for users on other nodes:
/// [`Delivery::Published`](crate::Delivery::Published) only says that the broker has the message. The order of messages for
/// one user is kept if the broker keeps the order of one channel. While a login replaces a connection on another node, both
/// connections may get a message.
///
/// Each node has a value of its own. A future may be dropped before it is ready. What it began may then be done or not.
pub trait Backplane<U>: Send + Sync + 'static {
    /// The name of this node, different from those of all others.
    fn node(&self) -> NodeId;

    /// Sends a packet to other nodes. Ready when the broker has it; it waits where the broker is slow.
    fn publish(&self, target: Target, packet: Packet<U>) -> BoxFuture<'_, Result<(), BackplaneError>>;

    /// The packets that other nodes publish to this one, from the call on. Called once, by the hub.
    fn subscribe(&self) -> BoxStream<'static, Packet<U>>;

    /// Registers a connection of the user on this node, and returns its number, which is greater than that of each
    /// earlier login of the user on any node. With a limit, fails if the user has that many connections on all nodes;
    /// two that come at the same time do not both get the last place.
    fn login<'a>(&'a self, user: &'a U, limit: Option<usize>) -> BoxFuture<'a, Result<u64, LoginError>>;

    /// The connection with this number is over, or has been replaced.
    fn logout<'a>(&'a self, user: &'a U, login: u64) -> BoxFuture<'a, Result<(), BackplaneError>>;

    /// The nodes where the user has connections, this one too.
    fn locate<'a>(&'a self, user: &'a U) -> BoxFuture<'a, Result<Vec<NodeId>, BackplaneError>>;

    /// Who has connections, on any node; each user once.
    fn online(&self) -> BoxFuture<'_, Result<Vec<U>, BackplaneError>>;
}

/// Packets that may wait for one node. Who publishes more than it takes waits.
const INBOX: usize = 1024;

/// A backplane for hubs of one process: a node of it.
///
/// It is for tests of what several nodes do, and for programs with several hubs over the same users. It fails never.
///
/// ```
/// use ws_hub::{Hub, InProcess};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let node = InProcess::new();
/// let other = node.another();
/// let [first, second] = [node, other].map(|node| Hub::<u64>::builder().backplane(node).build());
/// assert_eq!(first.broadcast("to all users of both").await, 0);
/// # drop(second);
/// # }
/// ```
pub struct InProcess<U> {
    bus: Arc<Mutex<Bus<U>>>,
    node: NodeId,
    inbox: Mutex<Option<mpsc::Receiver<Packet<U>>>>,
}

struct Bus<U> {
    nodes: HashMap<NodeId, mpsc::Sender<Packet<U>>>,
    /// Whose connections are where.
    logins: HashMap<U, Vec<(u64, NodeId)>>,
    created: u64,
    last_login: u64,
}

impl<U: Clone + Eq + Hash> InProcess<U> {
    /// The first node of a backplane.
    #[must_use]
    pub fn new() -> Self {
        let bus = Bus { nodes: HashMap::new(), logins: HashMap::new(), created: 0, last_login: 0 };
        Self::on(Arc::new(Mutex::new(bus)))
    }

    /// Another node of the same backplane.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::on(Arc::clone(&self.bus))
    }

    fn on(bus: Arc<Mutex<Bus<U>>>) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut locked = lock(&bus);
        locked.created += 1;
        let node = NodeId::new(locked.created.to_string());
        locked.nodes.insert(node.clone(), sender);
        drop(locked);
        Self { bus, node, inbox: Mutex::new(Some(inbox)) }
    }
}

impl<U: Clone + Eq + Hash> Default for InProcess<U> {
    fn default() -> Self {
        Self::new()
    }
}

impl<U> Drop for InProcess<U> {
    fn drop(&mut self) {
        let mut bus = lock(&self.bus);
        bus.nodes.remove(&self.node);
        bus.logins.retain(|_, logins| {
            logins.retain(|(_, node)| *node != self.node);
            !logins.is_empty()
        });
    }
}

impl<U> fmt::Debug for InProcess<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The packets for a node, as a stream.
struct Inbox<U>(Option<mpsc::Receiver<Packet<U>>>);

impl<U> Stream for Inbox<U> {
    type Item = Packet<U>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Packet<U>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |inbox| inbox.poll_recv(cx))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // each use leaves it whole
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Backplane<U> for InProcess<U> {
    fn node(&self) -> NodeId {
        self.node.clone()
    }

    fn publish(&self, target: Target, packet: Packet<U>) -> BoxFuture<'_, Result<(), BackplaneError>> {
        let bus = lock(&self.bus);
        let inboxes: Vec<_> = match target {
            Target::Node(node) => bus.nodes.get(&node).into_iter().cloned().collect(),
            Target::Others => bus
                .nodes
                .iter()
                .filter(|(node, _)| **node != self.node)
                .map(|(_, inbox)| inbox.clone())
                .collect(),
        };
        drop(bus);
        Box::pin(async move {
            for inbox in inboxes {
                // a node that is gone needs no packets
                let _ = inbox.send(packet.clone()).await;
            }
            Ok(())
        })
    }

    fn subscribe(&self) -> BoxStream<'static, Packet<U>> {
        Box::pin(Inbox(lock(&self.inbox).take()))
    }

    fn login<'a>(&'a self, user: &'a U, limit: Option<usize>) -> BoxFuture<'a, Result<u64, LoginError>> {
        Box::pin(async move {
            let mut bus = lock(&self.bus);
            if limit.is_some_and(|limit| bus.logins.get(user).map_or(0, Vec::len) >= limit) {
                return Err(LoginError::TooMany);
            }
            bus.last_login += 1;
            let login = bus.last_login;
            bus.logins.entry(user.clone()).or_default().push((login, self.node.clone()));
            Ok(login)
        })
    }

    fn logout<'a>(&'a self, user: &'a U, login: u64) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            let mut bus = lock(&self.bus);
            if let Some(logins) = bus.logins.get_mut(user) {
                logins.retain(|(number, _)| *number != login);
                if logins.is_empty() {
                    bus.logins.remove(user);
                }
            }
            Ok(())
        })
    }

    fn locate<'a>(&'a self, user: &'a U) -> BoxFuture<'a, Result<Vec<NodeId>, BackplaneError>> {
        Box::pin(async move {
            let bus = lock(&self.bus);
            let mut nodes = Vec::new();
            for (_, node) in bus.logins.get(user).into_iter().flatten() {
                if !nodes.contains(node) {
                    nodes.push(node.clone());
                }
            }
            Ok(nodes)
        })
    }

    fn online(&self) -> BoxFuture<'_, Result<Vec<U>, BackplaneError>> {
        Box::pin(async move { Ok(lock(&self.bus).logins.keys().cloned().collect()) })
    }
}
