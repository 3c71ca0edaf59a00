//! Nodes that share a Redis or a Redis Cluster, and storms: nodes and Redis are killed and stopped, the network between them is
//! disturbed, and Redis is told to do all that it can do to its clients. Users read and editors push meanwhile, through any node. After the
//! storm, an account says what became of each message: nothing that was accepted is lost, nothing comes twice or in another
//! order, and those are online who are.
//!
//! The nodes are processes: the example `news_push`. It needs `redis-server`, which `scripts/test` installs.
//!
//! `NODES_SECONDS` is how long all storms take together, 60 by default; healing comes on top of it. `NODES_SEED` is the seed of
//! another run, which it has printed: the same faults at the same times, as far as the machine allows it.
//! `scripts/soak --nodes` runs them for long.

#![cfg(unix)]

mod blind;
mod client;
mod cluster;
mod fault;
mod late;
mod proxy;
mod store;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod world;

use fault::Fault;
use storm::{storm, storm_on_redis_cluster, storm_with_losses};

/// A test for each storm.
macro_rules! storms {
    ($($name:ident: $faults:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            storm($faults).await;
        }
    )*};
}

storms! {
    nodes_are_killed_and_new_ones_take_their_place: &[Fault::KillNode];
    redis_is_killed_and_comes_back: &[Fault::KillRedis];
    nodes_stop_for_a_moment: &[Fault::StopNode];
    a_node_stops_until_it_is_believed_to_be_gone: &[Fault::StopNodeBeyondLease];
    redis_stops_for_a_moment: &[Fault::StopRedis];
    the_network_is_cut: &[Fault::Cut];
    the_network_stalls: &[Fault::Stall];
    the_network_stalls_and_what_it_held_back_comes_later: &[Fault::StallAndLag];
    the_network_is_slow: &[Fault::Delay];
    what_redis_answers_is_lost: &[Fault::SwallowReplies];
    what_redis_pushes_is_lost: &[Fault::SwallowPushes];
    redis_ends_subscriptions: &[Fault::KillPubsub];
    redis_forgets_the_scripts: &[Fault::FlushScripts];
    redis_ends_connections_that_are_pushed_much: &[Fault::LimitOutput];
    redis_has_no_memory_left: &[Fault::LimitMemory];
    redis_does_nothing_for_three_seconds: &[Fault::Sleep];
    everything_goes_wrong_one_or_two_at_a_time: Fault::MIXED;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_loses_everything_and_all_go_on() {
    storm_with_losses().await;
}

/// A test for each storm of nodes that share a Redis Cluster.
macro_rules! storms_on_redis_cluster {
    ($($name:ident: $faults:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            storm_on_redis_cluster($faults).await;
        }
    )*};
}

storms_on_redis_cluster! {
    replicas_take_the_place_of_their_masters_as_operators_have_it: &[Fault::FailOver];
    slots_move_to_other_masters: &[Fault::MoveSlots];
    nodes_of_a_redis_cluster_are_killed: &[Fault::KillNode];
    masters_are_killed: &[Fault::KillMaster];
    masters_stop_until_others_have_taken_their_place: &[Fault::StopMaster];
    everything_goes_wrong_in_a_redis_cluster: Fault::MIXED_IN_CLUSTER;
}
