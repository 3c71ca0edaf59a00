//! [`Cluster`]: what the nodes share, the nodes, and the ways between them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use ws_tests::Random;

use crate::client::{ask_node, push_probe};
use crate::proxy::{Network, Proxy};
use crate::store::Store;
use crate::support::Example;
use crate::support::news::TOKEN;
use crate::world::Nodes;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// What the names of the keys of `news_push` begin with.
const PREFIX: &str = "news:{*}:";

/// How often something is asked again until it is as it has to be.
const LOOK: Duration = Duration::from_millis(50);

/// A node, and its way to Redis.
pub(crate) struct Node {
    /// `None` if it goes there by itself: the servers of a Redis Cluster say where they are.
    proxy: Option<Proxy>,
    redis_url: String,
    replicas: u32,
    /// `None` while it is down.
    example: RefCell<Option<Example>>,
}

/// Nodes, and what they share.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// Nodes that share a Redis.
    pub(crate) async fn start() -> Self {
        let store = Store::server().await;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let proxy = Proxy::to(store.redis().address()).await;
            let redis_url = proxy.url();
            nodes.push(Node { proxy: Some(proxy), redis_url, replicas: 0, example: RefCell::new(None) });
        }
        Self::start_nodes(store, nodes).await
    }

    /// Nodes that share a Redis Cluster, of which so many replicas have each message.
    pub(crate) async fn start_on_redis_cluster(replicas: u32) -> Self {
        // without replicas that have what is accepted, no master may be lost because the machine is busy
        let store = Store::cluster(replicas == 0).await;
        let node = || Node { proxy: None, redis_url: store.urls(), replicas, example: RefCell::new(None) };
        let nodes = (0..NODES).map(|_| node()).collect();
        Self::start_nodes(store, nodes).await
    }

    async fn start_nodes(store: Store, nodes: Vec<Node>) -> Self {
        for node in &nodes {
            node.start().await;
        }
        Self { store, nodes }
    }

    /// The addresses of the nodes that are up.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().filter_map(Node::address).collect()
    }

    /// Starts new nodes in the place of those that were killed, and waits until each node takes news.
    pub(crate) async fn is_well(&self) {
        for node in self.nodes.iter().filter(|node| node.address().is_none()) {
            node.start().await;
        }
        for node in &self.nodes {
            if let Some(proxy) = &node.proxy {
                proxy.has_settled().await;
            }
        }
        for address in self.addresses() {
            while !push_probe(&address).await {
                sleep(LOOK).await;
            }
        }
    }

    /// The nodes that Redis knows, in each of its partitions.
    async fn leases(&self) -> Vec<Vec<String>> {
        let mut leases = Vec::new();
        for key in self.store.ask(&format!("KEYS {PREFIX}n")).await {
            leases.push(self.store.ask(&format!("ZRANGE {key} 0 -1")).await);
        }
        leases
    }

    /// The names of the nodes that Redis knows.
    pub(crate) async fn names(&self) -> Vec<String> {
        self.leases().await.concat()
    }

    /// Waits until nothing in Redis tells of nodes with these names that are not there any more.
    pub(crate) async fn is_tidy(&self, names: &BTreeSet<String>) {
        loop {
            let leases = self.leases().await;
            let living: BTreeSet<_> = leases.concat().into_iter().collect();
            let gone: Vec<_> = names.difference(&living).collect();
            let mut texts = self.store.ask(&format!("KEYS {PREFIX}*")).await;
            for key in texts.clone() {
                if key.ends_with("}:s") || key.contains("}:u:") {
                    texts.extend(self.store.ask(&format!("HGETALL {key}")).await);
                }
            }
            let is_left = |text: &String| gone.iter().any(|name| text.contains(name.as_str()));
            if leases.iter().all(|nodes| nodes.len() == NODES) && !texts.iter().any(is_left) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until each node says that just these users are online.
    pub(crate) async fn until_online(&self, users: &[String]) {
        for address in self.addresses() {
            loop {
                let online = online(&address).await;
                if online.as_deref() == Some(users) {
                    break;
                }
                sleep(LOOK).await;
            }
        }
    }
}

impl Nodes for Cluster {
    fn any(&self, random: &mut Random) -> String {
        let addresses = self.addresses();
        addresses[random.below(addresses.len())].clone()
    }
}

/// Who is online, as a node says; `None` if it cannot.
pub(crate) async fn online(address: &str) -> Option<Vec<String>> {
    let (mut users, mut path) = (Vec::new(), "/users".to_owned());
    loop {
        let (status, answer) = ask_node(address, "GET", &path, None).await?;
        if status != 200 {
            return None;
        }
        let page = answer["online"].as_array().expect("a list");
        users.extend(page.iter().map(|user| user.as_str().expect("a name").to_owned()));
        match answer["next"].as_str() {
            Some(next) => path = format!("/users?after={next}"),
            None => break,
        }
    }
    users.sort_unstable();
    Some(users)
}

impl Node {
    /// Starts it, on a free port.
    pub(crate) async fn start(&self) {
        let (url, replicas) = (self.redis_url.clone(), self.replicas.to_string());
        let starting = spawn_blocking(move || {
            let key = "5e".repeat(64);
            let variables = [
                ("REDIS_URL", &*url),
                ("REDIS_REPLICAS", &replicas),
                ("SESSION_KEY", &key),
                ("EDITOR_TOKEN", TOKEN),
            ];
            Example::start_with("news_push", "127.0.0.1:0", &variables)
        });
        let example = starting.await.expect("it starts");
        self.example.replace(Some(example));
    }

    pub(crate) fn kill(&self) {
        if let Some(example) = self.example.take() {
            example.kill();
        }
    }

    /// Sends it a signal, if it runs.
    pub(crate) fn signal(&self, name: &str) {
        if let Some(example) = self.example.borrow().as_ref() {
            example.signal(name);
        }
    }

    pub(crate) fn set(&self, network: Network) {
        self.proxy.as_ref().expect("this fault is one of a single server").set(network);
    }

    fn address(&self) -> Option<String> {
        self.example.borrow().as_ref().map(Example::address)
    }
}
