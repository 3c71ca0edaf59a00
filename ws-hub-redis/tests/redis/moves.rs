//! Partitions that move to other masters of a Redis Cluster while nodes use them.

use std::sync::Arc;

use ws_core::WebSocket;
use ws_hub::{Acked, Backplane as _, Delivery, Health, Hub, Signal};
use ws_hub_redis::{RedisBackplane, RedisBackplaneBuilder};

use crate::redis_cluster::RedisCluster;
use crate::support::{ANNA, Node, login, rest, text, until};

/// A cluster that a test may harm.
struct Cluster(Arc<RedisCluster>);

impl Cluster {
    fn start() -> Self {
        Self(Arc::new(tokio::task::block_in_place(RedisCluster::start)))
    }

    fn builder(&self) -> RedisBackplaneBuilder<u64> {
        RedisBackplane::cluster(self.0.urls())
    }

    async fn hubs<const N: usize>(&self) -> [Hub<u64>; N] {
        let mut hubs = Vec::new();
        for _ in 0..N {
            let backplane = self.builder().connect().await.unwrap();
            hubs.push(Hub::builder().backplane(backplane).build());
        }
        hubs.try_into().ok().unwrap()
    }

    /// Does something that takes a while, beside all else.
    async fn with<T: Send + 'static>(&self, act: impl FnOnce(&RedisCluster) -> T + Send + 'static) -> T {
        let cluster = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || act(&cluster)).await.unwrap()
    }

    /// The slot of the partition of a user who has logged in once.
    async fn slot_of(&self, user: u64) -> u16 {
        let pattern = [&b"ws:*:u:"[..], &user.to_be_bytes()].concat();
        self.with(move |cluster| {
            let masters = cluster.masters().into_iter();
            let keys = masters.flat_map(|master| cluster.tell(master, &[&b"KEYS"[..], &pattern]));
            let key = keys.last().expect("it is known");
            cluster.tell(0, &["CLUSTER", "KEYSLOT", &key])[0].parse().unwrap()
        })
        .await
    }
}

/// A master that does not have a slot.
fn another(cluster: &RedisCluster, slot: u16) -> usize {
    let owner = cluster.master_of(slot);
    cluster.masters().into_iter().find(|master| *master != owner).unwrap()
}

/// Sends until it is accepted, and has the client get it, as the next message.
async fn send_and_get(hub: &Hub<u64>, client: &mut WebSocket, message: &str) {
    send(hub, message).await;
    assert_eq!(text(client).await, message);
}

async fn send(hub: &Hub<u64>, message: &str) {
    let is_accepted = async || {
        let delivery = hub.send(&ANNA, message.to_owned()).await;
        assert_ne!(delivery, Delivery::Unknown, "nothing is lost when a partition moves");
        delivery.is_accepted()
    };
    until("a message is accepted", is_accepted).await;
}

async fn are_up(hubs: &[Hub<u64>]) {
    for hub in hubs {
        until("the hub is up", async || hub.health() == Health::Up).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_stay_connected_and_miss_nothing_when_their_partition_moves() {
    let cluster = Cluster::start();
    let hubs: [_; 2] = cluster.hubs().await;
    let [here, there] = &hubs;
    let mut anna = login(there, ANNA).await;
    send_and_get(here, &mut anna, "first").await;
    let slot = cluster.slot_of(ANNA).await;
    for round in 0..4 {
        cluster.with(move |cluster| cluster.move_slot(slot, another(cluster, slot))).await;
        for number in 0..5 {
            send_and_get(here, &mut anna, &format!("{round} {number}")).await;
            send_and_get(there, &mut anna, &format!("{round} {number} from there")).await;
        }
    }
    are_up(&hubs).await;
    assert_eq!(here.send(&ANNA, "last").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_while_a_partition_moves_arrives_when_it_is_there() {
    let cluster = Cluster::start();
    let [here, there] = cluster.hubs().await;
    let mut anna = login(&there, ANNA).await;
    send_and_get(&here, &mut anna, "first").await;
    let slot = cluster.slot_of(ANNA).await;
    let begun = cluster.with(move |cluster| {
        let to = another(cluster, slot);
        (cluster.begin_to_move(slot, to), to)
    });
    let (from, to) = begun.await;
    // all keys are where they were
    send_and_get(&here, &mut anna, "before the keys").await;
    cluster.with(move |cluster| cluster.move_keys(slot, from, to)).await;
    // all are at the other master, which does not have the slot yet
    send(&here, "after the keys").await;
    cluster.with(move |cluster| cluster.end_to_move(slot, from, to)).await;
    assert_eq!(text(&mut anna).await, "after the keys");
    send_and_get(&here, &mut anna, "last").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_move_with_their_partition() {
    let cluster = Cluster::start();
    let [here, there] = cluster.hubs().await;
    let mut anna = login(&there, ANNA).await;
    assert!(there.join(&ANNA, "lobby").await.unwrap());
    let reaches = async |message: &str, anna: &mut WebSocket| {
        let reach = async || here.room("lobby").send(message).await.others.is_ok_and(|nodes| nodes == 1);
        until("the room is reached", reach).await;
        assert_eq!(text(anna).await, message);
    };
    reaches("first", &mut anna).await;
    // nothing in a partition says where the room is but who subscribes to it
    let slot = cluster.with(|cluster| {
        let channels = |master| cluster.tell(master, &["PUBSUB", "SHARDCHANNELS", "ws:*:r:lobby"]);
        let channel = cluster.masters().into_iter().find_map(|master| channels(master).pop());
        let channel = channel.expect("somebody subscribes");
        cluster.tell(0, &["CLUSTER", "KEYSLOT", &channel])[0].parse().unwrap()
    });
    let slot = slot.await;
    for round in 0..3 {
        cluster.with(move |cluster| cluster.move_slot(slot, another(cluster, slot))).await;
        reaches(&format!("round {round}"), &mut anna).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_the_place_of_its_master_goes_on() {
    let cluster = Cluster::start();
    let hubs: [_; 2] = cluster.hubs().await;
    let [here, there] = &hubs;
    for round in 0..2 {
        let mut anna = login(there, ANNA).await;
        let first = format!("first of {round}");
        send(here, &first).await;
        // what was not confirmed comes again
        while text(&mut anna).await != first {}
        let slot = cluster.slot_of(ANNA).await;
        cluster.with(move |cluster| cluster.fail_over(cluster.master_of(slot))).await;
        send(here, &round.to_string()).await;
        while text(&mut anna).await != round.to_string() {}
    }
    are_up(&hubs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_go_on_when_a_master_is_killed_and_the_others_do_not_notice() {
    let cluster = Cluster::start();
    let hubs: [_; 2] = cluster.hubs().await;
    let [here, there] = &hubs;
    let mut anna = login(there, ANNA).await;
    send_and_get(here, &mut anna, "first").await;
    let slot = cluster.slot_of(ANNA).await;
    // a user whose partition has another master
    let mut other = None;
    for user in 2..100 {
        let client = login(there, user).await;
        let other_slot = cluster.slot_of(user).await;
        let is_elsewhere =
            cluster.with(move |cluster| cluster.master_of(slot) != cluster.master_of(other_slot)).await;
        if is_elsewhere {
            other = Some((user, client));
            break;
        }
    }
    let (other, mut client) = other.expect("there are users on all masters");
    let killing = cluster.with(move |cluster| cluster.kill_master(cluster.master_of(slot)));
    let meanwhile = async {
        for number in 0..100 {
            assert_eq!(here.send(&other, number.to_string()).await, Delivery::Sent(1));
            assert_eq!(text(&mut client).await, number.to_string());
        }
    };
    tokio::join!(killing, meanwhile);
    until("messages are accepted again", async || here.send(&ANNA, "again").await.is_accepted()).await;
    assert_eq!(text(&mut anna).await, "again");
    // what was lost might have had its number
    assert_eq!(rest(anna).await.1, Some(4100));
    let mut anna = login(there, ANNA).await;
    while text(&mut anna).await != "again" {}
    are_up(&hubs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_it_may_have_missed_something_when_a_partition_moves() {
    let cluster = Cluster::start();
    let mut node = Node::new(cluster.builder()).await;
    let login = node.login(ANNA, 1).await;
    node.append(ANNA, "first").await;
    assert_eq!(node.entry(ANNA).await, 1);
    let slot = cluster.slot_of(ANNA).await;
    cluster.with(move |cluster| cluster.move_slot(slot, another(cluster, slot))).await;
    node.heard(&Signal::Gap).await;
    until("it is up", async || node.backplane.health() == Health::Up).await;
    assert_eq!(node.append(ANNA, "second").await.0.number, 2);
    assert_eq!(node.entry(ANNA).await, 2);
    // its login is the same, since nothing was lost
    assert_eq!(node.acknowledge(ANNA, &login, 2).await.unwrap(), Acked::Done);
    assert_eq!(node.count(ANNA).await, 1);
}
