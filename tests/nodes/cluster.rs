//! [`Cluster`]: a Redis, the nodes, and the ways between them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use ws_tests::Random;

use crate::client::{ask_node, push_probe};
use crate::proxy::{Network, Proxy};
use crate::support::news::TOKEN;
use crate::support::{Example, Redis};
use crate::world::Nodes;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// What the names of the keys of `news_push` begin with.
const PREFIX: &str = "news:{p0}:";

/// How often something is asked again until it is as it has to be.
const LOOK: Duration = Duration::from_millis(50);

/// A node, and its way to Redis.
pub(crate) struct Node {
    pub(crate) proxy: Proxy,
    /// `None` while it is down.
    example: RefCell<Option<Example>>,
}

/// A Redis, and nodes that share it.
pub(crate) struct Cluster {
    pub(crate) redis: Arc<Redis>,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let redis = spawn_blocking(Redis::start).await.expect("it starts");
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let proxy = Proxy::to(redis.address()).await;
            nodes.push(Node { proxy, example: RefCell::new(None) });
        }
        let cluster = Self { redis: Arc::new(redis), nodes };
        for node in &cluster.nodes {
            node.start().await;
        }
        cluster
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
            node.proxy.has_settled().await;
        }
        for address in self.addresses() {
            while !push_probe(&address).await {
                sleep(LOOK).await;
            }
        }
    }

    /// The names of the nodes that Redis knows.
    pub(crate) async fn names(&self) -> Vec<String> {
        self.redis.tell(&format!("ZRANGE {PREFIX}n 0 -1")).await
    }

    /// Waits until nothing in Redis tells of nodes with these names that are not there any more.
    pub(crate) async fn is_tidy(&self, names: &BTreeSet<String>) {
        loop {
            let living = self.names().await;
            let is_gone =
                |text: &str| names.iter().any(|name| !living.contains(name) && text.contains(name.as_str()));
            let mut texts = self.redis.tell("KEYS *").await;
            for key in texts.clone() {
                if key == format!("{PREFIX}s") || key.starts_with(&format!("{PREFIX}u:")) {
                    texts.extend(self.redis.tell(&format!("HGETALL {key}")).await);
                }
            }
            if living.len() == NODES && !texts.iter().any(|text| is_gone(text)) {
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
        let url = self.proxy.url();
        let starting = spawn_blocking(move || {
            let key = "5e".repeat(64);
            let variables = [("REDIS_URL", &*url), ("SESSION_KEY", &key), ("EDITOR_TOKEN", TOKEN)];
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
        self.proxy.set(network);
    }

    fn address(&self) -> Option<String> {
        self.example.borrow().as_ref().map(Example::address)
    }
}
