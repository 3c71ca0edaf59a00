//! What a node has asked Redis for arrives there when nobody waits for it any more.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{sleep, timeout};
use ws_tests::Random;

use crate::cluster::Cluster;
use crate::proxy::Network;
use crate::storm::{USERS, healed, seed, sign_in};
use crate::world::{Nodes, World};

/// For so long the network is away: longer than a node waits for an answer, and than it believes in a connection.
const AWAY: Duration = Duration::from_secs(14);
/// How long it is between two logins.
const STEP: Duration = Duration::from_secs(1);

/// One node.
struct One(String);

impl Nodes for One {
    fn any(&self, _: &mut Random) -> String {
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_arrives_when_its_connection_is_over_leaves_nobody_online() {
    let seed = seed();
    let cluster = Cluster::start().await;
    let mut users = sign_in(&cluster.addresses()).await;
    let node = One(cluster.addresses().remove(0));
    let world = World::new(&node, USERS);
    cluster.nodes[0].set(Network::StallAndLag);
    // one after the other: before and after the node gives up the connection to Redis on which it has asked
    let staying = users.iter_mut().zip(0..).map(|(user, number)| {
        let world = &world;
        async move {
            sleep(STEP * number).await;
            user.stay(world, Random::new(seed, number.into())).await
        }
    });
    let staying = timeout(AWAY, join_all(staying));
    // they may be sent away before
    let _ = join(sleep(AWAY), staying).await;
    drop(users);
    cluster.nodes[0].set(Network::Pass);
    healed("the network to carry all that it held back", cluster.is_well()).await;
    healed("nobody to be online", cluster.until_online(&[])).await;
}
