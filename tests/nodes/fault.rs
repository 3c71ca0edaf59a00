//! [`Fault`]: what a storm does to nodes, to Redis, and to the network between them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use ws_tests::Random;

use crate::cluster::{Cluster, NODES};
use crate::proxy::Network;
use crate::store::Store;

/// About how long a fault lasts.
const FAULT: Duration = Duration::from_millis(1500);
/// Longer than a node is believed to live without a sign of it.
const BEYOND_LEASE: Duration = Duration::from_secs(17);
/// How much of what is pushed may wait for a client: next to nothing, and as much as by default.
const TIGHT: &str = "CONFIG SET client-output-buffer-limit \"pubsub 1kb 0 0\"";
const WIDE: &str = "CONFIG SET client-output-buffer-limit \"pubsub 32mb 8mb 60\"";
/// About how long it is between two times that something is done again and again.
const GAP: Duration = Duration::from_millis(150);
/// How often.
const TIMES: usize = 10;

/// What goes wrong, and is put right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a node, which gets a new one in its place.
    KillNode,
    /// `kill -9` of Redis, which comes back after 0.2 to 5 seconds.
    KillRedis,
    /// A node stops for a moment, and goes on.
    StopNode,
    /// A node stops until the others believe that it is gone, and goes on.
    StopNodeBeyondLease,
    /// Redis stops for a moment, and goes on.
    StopRedis,
    /// The network of one node or more is cut.
    Cut,
    /// Nothing moves between one node or more and Redis.
    Stall,
    /// The same, and what was held back arrives later than what comes then.
    StallAndLag,
    /// Everything takes longer.
    Delay,
    /// What Redis answers to some nodes is lost.
    SwallowReplies,
    /// What Redis pushes to some nodes is lost.
    SwallowPushes,
    /// Redis ends all connections that have subscribed to something.
    KillPubsub,
    /// Redis forgets all scripts.
    FlushScripts,
    /// Redis ends connections that have subscribed to something and are pushed much at once.
    LimitOutput,
    /// Redis has no memory left, and then it has.
    LimitMemory,
    /// Redis does nothing for three seconds.
    Sleep,
    /// Redis forgets everything.
    Flush,
    /// A replica in a Redis Cluster takes the place of its master, as an operator has it.
    FailOver,
    /// The same, without the consent of the master, which goes on until it hears of it.
    TakeOver,
    /// `kill -9` of a master in a Redis Cluster, whose replica takes its place.
    KillMaster,
    /// A master in a Redis Cluster stops until its replica has taken its place, and goes on.
    StopMaster,
    /// Slots of a Redis Cluster move to other masters.
    MoveSlots,
}

impl Fault {
    /// Every one that does not take long.
    pub(crate) const MIXED: &[Self] = &[
        Self::KillNode,
        Self::KillRedis,
        Self::StopNode,
        Self::StopRedis,
        Self::Cut,
        Self::Stall,
        Self::StallAndLag,
        Self::Delay,
        Self::SwallowReplies,
        Self::SwallowPushes,
        Self::KillPubsub,
        Self::FlushScripts,
        Self::LimitOutput,
        Self::LimitMemory,
        Self::Sleep,
    ];

    /// The same, with a Redis Cluster.
    pub(crate) const MIXED_IN_CLUSTER: &[Self] = &[
        Self::KillNode,
        Self::StopNode,
        Self::FailOver,
        Self::TakeOver,
        Self::KillMaster,
        Self::StopMaster,
        Self::MoveSlots,
        Self::KillPubsub,
        Self::FlushScripts,
    ];

    /// About how long it lasts.
    pub(crate) fn time(self) -> Duration {
        match self {
            Self::StopNodeBeyondLease => BEYOND_LEASE,
            Self::KillRedis | Self::Sleep => 2 * FAULT,
            // until a cluster takes a master for down, and has another one
            Self::KillMaster | Self::StopMaster => 5 * FAULT,
            // up to twice as long: longer than a call may take
            Self::Stall | Self::StallAndLag | Self::SwallowReplies | Self::SwallowPushes => 3 * FAULT,
            _ => FAULT,
        }
    }

    /// Whether what a master has accepted, and no replica has yet, is lost.
    pub(crate) fn loses_tail(self) -> bool {
        matches!(self, Self::TakeOver | Self::KillMaster | Self::StopMaster)
    }

    /// Goes wrong, and is put right again; but nodes that were killed are started when nothing else is wrong any more.
    pub(crate) async fn strike(self, cluster: &Cluster, random: &mut Random) {
        let time = random.around(self.time());
        let node = &cluster.nodes[random.below(NODES)];
        match self {
            Self::KillNode => {
                node.kill();
                sleep(time).await;
            }
            Self::KillRedis => {
                cluster.store.redis().kill();
                let moment = Duration::from_millis(200);
                sleep(time.clamp(moment, Duration::from_secs(5))).await;
                cluster.start_redis().await;
            }
            Self::StopNode | Self::StopNodeBeyondLease => {
                node.signal("STOP");
                sleep(if self == Self::StopNode { time } else { BEYOND_LEASE }).await;
                node.signal("CONT");
            }
            Self::StopRedis => {
                cluster.store.redis().signal("STOP");
                sleep(time).await;
                cluster.store.redis().signal("CONT");
            }
            Self::Cut => cluster.disturb(Network::Cut, time, random).await,
            Self::Stall => cluster.disturb(Network::Stall, time, random).await,
            Self::StallAndLag => cluster.disturb(Network::StallAndLag, time, random).await,
            Self::Delay => {
                let delay = random.around(Duration::from_millis(100));
                cluster.disturb(Network::Delay(delay), time, random).await;
            }
            Self::SwallowReplies => cluster.disturb(Network::SwallowReplies, time, random).await,
            Self::SwallowPushes => cluster.disturb(Network::SwallowPushes, time, random).await,
            Self::KillPubsub => cluster.tell_often("CLIENT KILL TYPE pubsub", random).await,
            Self::FlushScripts => cluster.tell_often("SCRIPT FLUSH", random).await,
            Self::LimitOutput => cluster.with(TIGHT, WIDE, time).await,
            Self::LimitMemory => {
                // there is more than that in use
                cluster.with("CONFIG SET maxmemory 1kb", "CONFIG SET maxmemory 0", time).await;
            }
            Self::Sleep => cluster.tell("DEBUG SLEEP 3").await,
            Self::Flush => cluster.tell("FLUSHALL").await,
            Self::FailOver | Self::TakeOver | Self::KillMaster | Self::StopMaster | Self::MoveSlots => {
                self.strike_store(&cluster.store, random).await;
            }
        }
    }

    async fn strike_store(self, store: &Store, random: &mut Random) {
        match self {
            Self::FailOver => store.fail_over(random).await,
            Self::TakeOver => store.take_over(random).await,
            Self::KillMaster => store.kill_master(random).await,
            Self::StopMaster => store.stop_master(random).await,
            Self::MoveSlots => store.move_slots(random).await,
            _ => unreachable!("it is no fault of a Redis Cluster"),
        }
    }
}

impl Cluster {
    /// Starts Redis after a kill.
    async fn start_redis(&self) {
        let redis = Arc::clone(self.store.redis());
        spawn_blocking(move || redis.start_again()).await.expect("it starts");
    }

    /// The network of one node or more is like this for some time.
    async fn disturb(&self, network: Network, time: Duration, random: &mut Random) {
        let (first, count) = (random.below(NODES), 1 + random.below(NODES));
        let disturbed = (first..first + count).map(|node| &self.nodes[node % NODES]);
        disturbed.clone().for_each(|node| node.set(network));
        sleep(time).await;
        disturbed.for_each(|node| node.set(Network::Pass));
    }

    async fn tell_often(&self, command: &str, random: &mut Random) {
        for _ in 0..TIMES {
            self.tell(command).await;
            sleep(random.around(GAP)).await;
        }
    }

    /// Tells Redis something, and some time later something else.
    async fn with(&self, first: &str, then: &str, time: Duration) {
        self.tell(first).await;
        sleep(time).await;
        self.tell(then).await;
    }

    /// Tells Redis something, if it is there: another fault may be that it is not.
    async fn tell(&self, command: &str) {
        self.store.ask(command).await;
    }
}
