//! [`Store`]: what the nodes share, a Redis or a Redis Cluster.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use ws_tests::Random;

use crate::support::{Redis, RedisCluster};

/// How many slots move at once.
const MOVED: usize = 4;

/// Which of them.
pub(crate) enum Store {
    Server(Arc<Redis>),
    /// What is done to it is done one after the other.
    Cluster(Arc<RedisCluster>, Mutex<()>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "a Redis",
            Self::Cluster(..) => "a Redis Cluster",
        })
    }
}

impl Store {
    pub(crate) async fn server() -> Self {
        Self::Server(Arc::new(spawn_blocking(Redis::start).await.expect("it starts")))
    }

    /// One in which another server takes the place of a master that does nothing, or for a long time none does.
    pub(crate) async fn cluster(is_patient: bool) -> Self {
        let settings: &[_] = if is_patient { &["cluster-node-timeout", "15000"] } else { &[] };
        let cluster = spawn_blocking(move || RedisCluster::start_with(settings)).await.expect("it starts");
        Self::Cluster(Arc::new(cluster), Mutex::default())
    }

    /// The server, if it is one.
    pub(crate) fn redis(&self) -> &Arc<Redis> {
        match self {
            Self::Server(redis) => redis,
            Self::Cluster(..) => panic!("this fault is one of a single server"),
        }
    }

    /// Where it is: one address, or those of all servers, with commas between them.
    pub(crate) fn urls(&self) -> String {
        match self {
            Self::Server(redis) => redis.url(),
            Self::Cluster(cluster, _) => cluster.urls().join(","),
        }
    }

    /// Does something to a cluster, which takes some time.
    async fn with_cluster<T: Send + 'static>(
        &self,
        act: impl FnOnce(&RedisCluster) -> T + Send + 'static,
    ) -> T {
        let Self::Cluster(cluster, turn) = self else { panic!("this fault is one of a cluster") };
        let _turn = turn.lock().await;
        let cluster = Arc::clone(cluster);
        spawn_blocking(move || act(&cluster)).await.expect("it is done")
    }

    /// A replica takes the place of its master, as an operator has it.
    pub(crate) async fn fail_over(&self, random: &mut Random) {
        let mut random = random.branch(1);
        self.with_cluster(move |cluster| cluster.fail_over(one_of(&cluster.masters(), &mut random))).await;
    }

    /// The same, without the consent of the master.
    pub(crate) async fn take_over(&self, random: &mut Random) {
        let mut random = random.branch(1);
        self.with_cluster(move |cluster| cluster.take_over(one_of(&cluster.masters(), &mut random))).await;
    }

    /// `kill -9` of a master, whose replica takes its place; it is started again as a replica.
    pub(crate) async fn kill_master(&self, random: &mut Random) {
        let mut random = random.branch(1);
        let kill = move |cluster: &RedisCluster| {
            let master = one_of(&cluster.masters(), &mut random);
            cluster.kill_master(master);
            cluster.restart(master);
        };
        self.with_cluster(kill).await;
    }

    /// A master stops until its replica has taken its place, and goes on.
    pub(crate) async fn stop_master(&self, random: &mut Random) {
        let mut random = random.branch(1);
        self.with_cluster(move |cluster| cluster.stop_master(one_of(&cluster.masters(), &mut random))).await;
    }

    /// Some slots that have keys move to other masters.
    pub(crate) async fn move_slots(&self, random: &mut Random) {
        let mut random = random.branch(1);
        let moving = move |cluster: &RedisCluster| {
            let slots = cluster.used_slots();
            for _ in 0..MOVED {
                let slot = one_of(&slots, &mut random);
                let from = cluster.master_of(slot);
                let others: Vec<_> = cluster.masters().into_iter().filter(|it| *it != from).collect();
                cluster.move_slot(slot, one_of(&others, &mut random));
            }
        };
        self.with_cluster(moving).await;
    }

    /// What all servers that have data answer to a command, without those that answer with an error: such as that a key is at
    /// another one.
    pub(crate) async fn ask(&self, command: &str) -> Vec<String> {
        match self {
            Self::Server(redis) => redis.ask(command).await.unwrap_or_default(),
            Self::Cluster(..) => {
                let command = command.to_owned();
                let ask = move |cluster: &RedisCluster| {
                    let command: Vec<_> = command.split(' ').collect();
                    let answers = cluster.masters().into_iter().map(|it| cluster.ask(it, &command));
                    answers.flat_map(Result::unwrap_or_default).collect()
                };
                self.with_cluster(ask).await
            }
        }
    }
}

fn one_of<T: Copy>(all: &[T], random: &mut Random) -> T {
    all[random.below(all.len())]
}
