//! A Redis Cluster: hubs on three nodes, and slots and masters that change once.

use std::sync::{Arc, OnceLock};

use tokio::task::{JoinSet, block_in_place, spawn_blocking};
use ws_hub::{Backplane as _, Delivery, Guarantee, Health, Hub, HubBuilder, LoginRequest, Signal};
use ws_hub_redis::{ConnectError, RedisBackplane, RedisBackplaneBuilder};

use crate::cluster_storms::{fail_over_all, move_used_slots};
use crate::redis_cluster::RedisCluster;
use crate::server::Server;
use crate::support::{ALL, ANNA, Node, login, rest, soon, text, until};

/// As many as are in all partitions.
pub(crate) const USERS: u64 = 300;

/// So that no server is taken for down on a busy machine. For twice as long, masters do not vote a second time for a replica of
/// the same master.
pub(crate) const PATIENT: &[&str] = &["cluster-node-timeout", "15000"];

/// The cluster of all tests that do not harm it.
pub(crate) fn shared_cluster() -> &'static RedisCluster {
    static SHARED: OnceLock<RedisCluster> = OnceLock::new();
    SHARED.get_or_init(|| RedisCluster::start_with(PATIENT))
}

pub(crate) async fn start() -> Arc<RedisCluster> {
    start_with(&[]).await
}

pub(crate) async fn start_with(settings: &'static [&str]) -> Arc<RedisCluster> {
    Arc::new(spawn_blocking(|| RedisCluster::start_with(settings)).await.unwrap())
}

/// Does something to a cluster that takes some time.
pub(crate) async fn act<T: Send + 'static>(
    cluster: &Arc<RedisCluster>,
    act: impl FnOnce(&RedisCluster) -> T + Send + 'static,
) -> T {
    let cluster = Arc::clone(cluster);
    spawn_blocking(move || act(&cluster)).await.unwrap()
}

pub(crate) fn builder(cluster: &RedisCluster) -> RedisBackplaneBuilder<u64> {
    RedisBackplane::cluster(cluster.urls())
}

pub(crate) async fn hubs_on(
    cluster: &RedisCluster,
    replicas: u32,
    build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>,
) -> [Hub<u64>; 3] {
    hubs_with(cluster, &Server::prefix(), replicas, build).await
}

async fn hubs_with(
    cluster: &RedisCluster,
    prefix: &str,
    replicas: u32,
    build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>,
) -> [Hub<u64>; 3] {
    let mut hubs = Vec::new();
    for _ in 0..3 {
        let backplane = builder(cluster).prefix(prefix).replicas(replicas).connect().await.unwrap();
        hubs.push(build(Hub::builder().backplane(backplane)).build());
    }
    hubs.try_into().unwrap()
}

async fn hubs(build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>) -> [Hub<u64>; 3] {
    hubs_on(block_in_place(shared_cluster), 0, build).await
}

/// What each backplane has to do.
mod conformance {
    use super::{Server, builder, shared_cluster};

    /// So many nodes over data of their own. The cases make them outside of anything that waits.
    fn nodes(count: usize) -> Vec<ws_hub_redis::RedisBackplane<u64>> {
        tokio::task::block_in_place(|| {
            let cluster = shared_cluster();
            tokio::runtime::Handle::current().block_on(async {
                let prefix = Server::prefix();
                let mut nodes = Vec::new();
                for _ in 0..count {
                    nodes.push(builder(cluster).prefix(&prefix).connect().await.unwrap());
                }
                nodes
            })
        })
    }

    ws_hub::testing::backplane_suite!(crate::cluster::conformance::nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_all_partitions_are_reached_from_each_node() {
    // so that nothing comes twice
    let hubs = hubs(|hub| hub.guarantee(Guarantee::AtMostOnce)).await;
    let hub = |number: u64| &hubs[usize::try_from(number % 3).unwrap()];
    for user in 0..USERS {
        assert_eq!(hub(user).send(&user, "before").await, Delivery::Stored { evicted: 0 });
        let mut client = login(hub(user + 1), user).await;
        assert_eq!(text(&mut client).await, "before");
        for number in 0..3 {
            assert_eq!(hub(user + number).send(&user, number.to_string()).await, Delivery::Sent(1));
        }
        for number in 0..3 {
            assert_eq!(text(&mut client).await, number.to_string());
        }
        // another node takes over
        let mut newer = login(hub(user + 2), user).await;
        assert_eq!(rest(client).await.1, Some(4001));
        until("the older one is gone", async || !hub(user + 1).is_online(&user)).await;
        assert_eq!(hub(user).send(&user, "after").await, Delivery::Sent(1));
        assert_eq!(text(&mut newer).await, "after");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_many_users_reach_all_of_them() {
    let hubs = hubs(|hub| hub).await;
    let mut clients = Vec::new();
    for user in 0..USERS {
        clients.push(login(&hubs[usize::try_from(user % 3).unwrap()], user).await);
    }
    let users: Vec<_> = (0..USERS).collect();
    for (hub, expected) in hubs.iter().zip(["one", "two", "three"]) {
        let delivered = soon(hub.send_all(&users, expected)).await;
        assert!(delivered.iter().all(|it| *it == Delivery::Sent(1)), "{delivered:?}");
        for client in &mut clients {
            assert_eq!(text(client).await, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_broadcasts_reach_all_nodes_of_a_cluster() {
    let hubs = hubs(|hub| hub).await;
    let mut clients = Vec::new();
    for (user, hub) in (0..).zip(&hubs) {
        clients.push(login(hub, user).await);
    }
    for number in 0..100 {
        let (room, hub) = (format!("room {number}"), &hubs[number % 3]);
        for (user, hub) in (0..).zip(&hubs) {
            hub.join(&user, room.as_str()).await.unwrap();
        }
        let reach = hub.room(&room).send(room.as_str()).await;
        assert_eq!((reach.here, reach.others.unwrap()), (1, 2), "{room}");
        for client in &mut clients {
            assert_eq!(text(client).await, room);
        }
    }
    for (number, hub) in hubs.iter().enumerate() {
        let reach = hub.broadcast(number.to_string()).await;
        assert_eq!((reach.here, reach.others.unwrap()), (1, 2));
        for client in &mut clients {
            assert_eq!(text(client).await, number.to_string());
        }
    }
}

/// All who are online, read in pages of this size.
async fn online(hub: &Hub<u64>, size: usize) -> Vec<u64> {
    let (mut users, mut after) = (Vec::new(), None);
    loop {
        let page = soon(hub.online_everywhere(after.as_deref(), size)).await.unwrap();
        users.extend(page.users);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    users.sort_unstable();
    users
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_online_in_a_cluster_is_read_in_pages_of_any_size() {
    let hubs = hubs(|hub| hub).await;
    assert_eq!(online(&hubs[0], 10).await, Vec::<u64>::new());
    let mut clients = Vec::new();
    for user in 0..USERS {
        clients.push(login(&hubs[usize::try_from(user % 3).unwrap()], user).await);
    }
    let all: Vec<_> = (0..USERS).collect();
    for (hub, size) in hubs.iter().zip([7, 100, 1_000]) {
        assert_eq!(online(hub, size).await, all);
    }
    let drained = hubs[2].clone();
    let drained = tokio::spawn(async move { drained.drain(ws_core::Drain::new()).await });
    for client in clients.iter_mut().skip(2).step_by(3) {
        assert!(soon(client.recv()).await.is_none(), "it is closed");
    }
    assert_eq!(drained.await.unwrap().remaining, 0);
    let left: Vec<_> = all.into_iter().filter(|user| user % 3 != 2).collect();
    assert_eq!(online(&hubs[0], 50).await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_who_is_online_does_not_go_on_at_another_server() {
    let cluster = start_with(&["appendfsync", "no", "cluster-node-timeout", "15000"]).await;
    let node = Arc::new(builder(&cluster).connect().await.unwrap());
    // so many that those of a partition are not looked at in one go
    let users = 0..8_000;
    let mut logins = JoinSet::new();
    for some in 0..8 {
        let (node, users) = (Arc::clone(&node), users.clone());
        logins.spawn(async move {
            for user in users.skip(some).step_by(8) {
                let (connection, page) = (user, ALL);
                let login =
                    LoginRequest { user: &user, connection, limit: None, replace: false, after: None, page };
                soon(node.login(&login)).await.unwrap();
            }
        });
    }
    logins.join_all().await;
    let (mut found, mut next, mut refused) = (Vec::new(), None, 0);
    for round in 0.. {
        if let Ok(page) = soon(node.online(next.as_deref(), 950)).await {
            found.extend(page.users);
            next = page.next;
            if next.is_none() {
                break;
            }
        } else {
            refused += 1;
            found.clear();
            next = None;
        }
        if round % 2 == 0 && refused < 2 {
            act(&cluster, fail_over_all).await;
        }
    }
    // the first page ends amid those of a partition
    assert_eq!(refused, 2);
    found.sort_unstable();
    assert_eq!(found, users.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_room_are_heard_after_their_slots_have_moved() {
    let cluster = start_with(PATIENT).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub).await;
    let mut anna = login(&hubs[0], ANNA).await;
    hubs[0].join(&ANNA, "lobby").await.unwrap();
    act(&cluster, move_used_slots).await;
    assert!(hubs[1].send(&ANNA, "after").await.is_accepted());
    assert_eq!(text(&mut anna).await, "after");
    // messages to a room are not kept, so they are lost until it is subscribed to again
    let is_heard = async || hubs[2].room("lobby").send("to the room").await.others.is_ok_and(|it| it == 1);
    until("the room is heard again", is_heard).await;
    assert_eq!(text(&mut anna).await, "to the room");
    let is_heard = async || hubs[2].broadcast("to all").await.others.is_ok_and(|it| it == 2);
    until("all hear again", is_heard).await;
    while text(&mut anna).await != "to all" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_keys_have_moved_is_used_before_it_has() {
    half_moved(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_have_what_is_in_a_slot_whose_keys_have_moved_before_it_has() {
    half_moved(1).await;
}

/// All keys have moved, and the servers that have the slots know it.
async fn half_moved(replicas: u32) {
    let cluster = start_with(PATIENT).await;
    let prefix = Server::prefix();
    let hubs = hubs_with(&cluster, &prefix, replicas, |hub| hub).await;
    let mut anna = login(&hubs[0], ANNA).await;
    assert!(hubs[1].send(&ANNA, "before").await.is_accepted());
    assert_eq!(text(&mut anna).await, "before");
    let moving = act(&cluster, |cluster| {
        let begin = |slot| {
            let from = cluster.master_of(slot);
            let to = cluster.masters().into_iter().find(|it| *it != from).expect("there are several");
            cluster.begin_to_move(slot, to);
            cluster.move_keys(slot, from, to);
            (slot, from, to)
        };
        cluster.used_slots().into_iter().map(begin).collect::<Vec<_>>()
    })
    .await;
    for number in 0..10 {
        let delivery = hubs[number % 3].send(&ANNA, number.to_string()).await;
        assert!(delivery.is_accepted(), "{delivery:?}");
    }
    for number in 0..10 {
        assert_eq!(text(&mut anna).await, number.to_string());
    }
    let newcomer = builder(&cluster).prefix(&prefix).replicas(replicas).connect().await.unwrap();
    let newcomer = Hub::builder().backplane(newcomer).build();
    assert!(newcomer.send(&ANNA, "from somebody new").await.is_accepted());
    assert_eq!(text(&mut anna).await, "from somebody new");
    act(&cluster, |cluster| {
        for (slot, from, to) in moving {
            cluster.end_to_move(slot, from, to);
        }
    })
    .await;
    assert!(hubs[2].send(&ANNA, "after").await.is_accepted());
    assert_eq!(text(&mut anna).await, "after");
}

/// Sends a message to each user of all partitions until it is accepted, and reads it.
async fn all_are_reached(hubs: &[Hub<u64>]) {
    for user in 0..USERS {
        let (one, other) = (&hubs[0], &hubs[hubs.len() - 1]);
        until("a message is accepted", async || one.send(&user, "hello").await.is_accepted()).await;
        let mut client = login(other, user).await;
        assert_eq!(text(&mut client).await, "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_while_a_master_is_down_works_when_there_is_another_one() {
    let cluster = start().await;
    let master = act(&cluster, RedisCluster::masters).await[0];
    act(&cluster, move |cluster| cluster.kill(master)).await;
    let mut hubs = Vec::new();
    while hubs.len() < 2 {
        match soon(builder(&cluster).connect()).await {
            Ok(backplane) => hubs.push(Hub::builder().backplane(backplane).build()),
            Err(ConnectError::Unreachable { .. } | ConnectError::Failed { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    all_are_reached(&hubs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_other_masters_are_reached_while_one_is_down() {
    let cluster = start_with(&["cluster-require-full-coverage", "no"]).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub).await;
    let mut clients = Vec::new();
    for user in 0..USERS {
        clients.push(login(&hubs[0], user).await);
    }
    // for good: nobody takes its place
    act(&cluster, |cluster| {
        let master = cluster.masters()[0];
        cluster.kill(cluster.replica_of(master));
        cluster.kill(master);
    })
    .await;
    until("the others are reached", async || {
        let users: Vec<_> = (0..USERS).collect();
        let delivered = hubs[1].send_all(&users, "hello").await;
        delivered.iter().filter(|it| it.is_accepted()).count() > 100
    })
    .await;
    until("it is known that one is down", async || hubs[1].health() != Health::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_other_masters_are_reached_while_one_does_nothing() {
    let cluster = start_with(PATIENT).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub).await;
    let mut clients = Vec::new();
    for user in 0..100 {
        clients.push((user, login(&hubs[0], user).await));
    }
    act(&cluster, |cluster| cluster.stop(0)).await;
    let mut reached = 0;
    // a few at a time: each of those who are not reached takes some seconds
    let sends = clients.chunks_mut(50).map(|some| async {
        let users: Vec<_> = some.iter().map(|(user, _)| *user).collect();
        let mut count = 0;
        for (delivery, (_, client)) in hubs[1].send_all(&users, "hello").await.into_iter().zip(some) {
            if delivery == Delivery::Sent(1) {
                assert_eq!(text(client).await, "hello");
                count += 1;
            }
        }
        count
    });
    for send in sends {
        reached += soon(send).await;
    }
    assert!(reached > 50, "{reached} of 100 are reached");
    // who logs in is let in
    let mut others = 0;
    for user in 1_000..1_020 {
        let mut client = crate::support::connect(&hubs[2], user);
        if hubs[1].send(&user, "hello").await.is_accepted() {
            assert_eq!(text(&mut client).await, "hello");
            others += 1;
        }
    }
    assert!(others > 5, "{others} of 20 are let in");
    act(&cluster, |cluster| cluster.go_on(0)).await;
    until("all are reached", async || {
        let users: Vec<_> = (0..100).collect();
        hubs[1].send_all(&users, "again").await.iter().all(|it| it.is_accepted())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_it_may_have_missed_something_when_a_master_is_another_one() {
    let cluster = start_with(PATIENT).await;
    let mut node = Node::new(builder(&cluster)).await;
    node.login(ANNA, 1).await;
    node.append(ANNA, "first").await;
    assert_eq!(node.entry(ANNA).await, 1);
    act(&cluster, fail_over_all).await;
    node.signal(|signal| matches!(signal, Signal::GapIn(_)).then_some(())).await;
    assert_eq!(node.append(ANNA, "second").await.0.number, 2);
}
