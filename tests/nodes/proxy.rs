//! [`Proxy`]: the network between a node and Redis, and what may go wrong with it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// All is well.
    Pass,
    /// Connections end, and there are no new ones.
    Cut,
    /// Nothing moves, until it all does.
    Stall,
    /// Nothing moves; then what was held back moves some time later than what comes then on new connections, as TCP sends again
    /// after a pause that has grown.
    StallAndLag,
    /// Everything takes longer.
    Delay(Duration),
    /// What Redis says is lost, and what it is told is not.
    SwallowReplies,
    /// The same, for connections that have subscribed to something.
    SwallowPushes,
}

impl Network {
    fn swallows(self, wire: &Wire) -> bool {
        match self {
            Self::SwallowReplies => true,
            Self::SwallowPushes => wire.has_subscribed.load(Ordering::Relaxed),
            _ => false,
        }
    }
}

/// How much later what was held back arrives.
const LAG: Duration = Duration::from_secs(2);

/// A way from a node to Redis. It is gone when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// How many pieces are held back.
    held: watch::Sender<usize>,
    task: AbortHandle,
}

/// What the network does to a connection.
#[derive(Clone)]
struct Path {
    network: watch::Receiver<Network>,
    held: watch::Sender<usize>,
    /// It was opened while nothing moved, so it is one of those that come first.
    is_new: bool,
}

/// What is known of a connection.
#[derive(Default)]
struct Wire {
    has_subscribed: AtomicBool,
    /// Something is missing: the connection cannot go on when all is well again.
    has_hole: AtomicBool,
}

impl Proxy {
    /// Lays a way to this address.
    pub(crate) async fn to(redis: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (network, state) = watch::channel(Network::Pass);
        let held = watch::Sender::new(0);
        let path = Path { network: state, held: held.clone(), is_new: false };
        let task = tokio::spawn(async move {
            loop {
                let (node, _) = listener.accept().await.expect("the listener works");
                tokio::spawn(carry(node, redis.clone(), path.clone()));
            }
        });
        Self { address, network, held, task: task.abort_handle() }
    }

    /// Its address, for a client of Redis.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Waits until everything that was held back has arrived, or never will.
    pub(crate) async fn has_settled(&self) {
        // this end of it is open
        let _ = self.held.subscribe().wait_for(|held| *held == 0).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Network::Cut);
    }
}

/// Carries one connection, until one end or the network has had enough.
async fn carry(node: TcpStream, redis: String, mut path: Path) {
    match *path.network.borrow() {
        Network::Cut => return,
        Network::StallAndLag => path.is_new = true,
        _ => {}
    }
    // where Redis is not there, neither is the proxy
    let Ok(redis) = TcpStream::connect(redis).await else { return };
    for socket in [&node, &redis] {
        let _ = socket.set_nodelay(true);
    }
    let wire = Wire::default();
    let (from_node, to_node) = node.into_split();
    let (from_redis, to_redis) = redis.into_split();
    // what a node has sent arrives, whether it waits for the answer or not
    let both =
        join(ask(from_node, to_redis, path.clone(), &wire), answer(from_redis, to_node, path.clone(), &wire));
    tokio::select! {
        _ = both => {}
        () = end(path.network, &wire) => {}
    }
}

/// Waits until the network ends the connection.
async fn end(mut network: watch::Receiver<Network>, wire: &Wire) {
    let ends = |network: &Network| {
        let has_hole = wire.has_hole.load(Ordering::Relaxed);
        *network == Network::Cut || has_hole && !network.swallows(wire)
    };
    // an error is the end, too
    let _ = network.wait_for(ends).await;
}

/// Counts a piece that is held back.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Path {
    /// Waits for as long as the network makes what goes through it wait.
    async fn pass(&mut self) -> Network {
        let before = *self.network.borrow();
        if matches!(before, Network::Stall | Network::StallAndLag) {
            let _held = Held::new(&self.held);
            let moves = |state: &Network| !matches!(state, Network::Stall | Network::StallAndLag);
            if self.network.wait_for(moves).await.is_err() {
                return Network::Cut;
            }
            if before == Network::StallAndLag && !self.is_new {
                sleep(LAG).await;
            }
        }
        let now = *self.network.borrow();
        if let Network::Delay(time) = now {
            sleep(time).await;
        }
        now
    }
}

async fn ask(
    mut node: OwnedReadHalf,
    mut redis: OwnedWriteHalf,
    mut path: Path,
    wire: &Wire,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = node.read(&mut bytes).await?;
        if count == 0 {
            return redis.shutdown().await;
        }
        if bytes[..count].windows(9).any(|word| word.eq_ignore_ascii_case(b"subscribe")) {
            wire.has_subscribed.store(true, Ordering::Relaxed);
        }
        path.pass().await;
        redis.write_all(&bytes[..count]).await?;
    }
}

async fn answer(
    mut redis: OwnedReadHalf,
    node: OwnedWriteHalf,
    mut path: Path,
    wire: &Wire,
) -> io::Result<()> {
    let mut node = Some(node);
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = redis.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        if path.pass().await.swallows(wire) {
            wire.has_hole.store(true, Ordering::Relaxed);
        } else if wire.has_hole.load(Ordering::Relaxed) {
            return Ok(());
        } else if let Some(open) = &mut node
            && open.write_all(&bytes[..count]).await.is_err()
        {
            node = None;
        }
    }
}
