//! A Redis Cluster: hubs on three nodes, slots that move, masters that go.

use std::sync::{Arc, OnceLock};

use tokio::task::{block_in_place, spawn_blocking};
use ws_hub::{Backplane as _, Delivery, Guarantee, Health, Hub, HubBuilder, Login, Signal};
use ws_hub_redis::{ConnectError, RedisBackplane, RedisBackplaneBuilder};

use crate::redis_cluster::RedisCluster;
use crate::server::{Server, free_port, shared};
use crate::storms;
use crate::support::{ANNA, Node, login, rest, soon, text, until};

/// As many as are in all partitions.
const USERS: u64 = 300;

/// The cluster of all tests that do not harm it.
fn shared_cluster() -> &'static RedisCluster {
    static SHARED: OnceLock<RedisCluster> = OnceLock::new();
    // no server is taken for down on a busy machine
    SHARED.get_or_init(|| RedisCluster::start_with(&["cluster-node-timeout", "60000"]))
}

async fn start() -> Arc<RedisCluster> {
    start_with(&[]).await
}

async fn start_with(settings: &'static [&str]) -> Arc<RedisCluster> {
    Arc::new(spawn_blocking(|| RedisCluster::start_with(settings)).await.unwrap())
}

/// Does something to a cluster that takes some time.
async fn act<T: Send + 'static>(
    cluster: &Arc<RedisCluster>,
    act: impl FnOnce(&RedisCluster) -> T + Send + 'static,
) -> T {
    let cluster = Arc::clone(cluster);
    spawn_blocking(move || act(&cluster)).await.unwrap()
}

fn builder(cluster: &RedisCluster) -> RedisBackplaneBuilder<u64> {
    RedisBackplane::cluster(cluster.urls())
}

async fn hubs_on(
    cluster: &RedisCluster,
    replicas: u32,
    build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>,
) -> [Hub<u64>; 3] {
    let prefix = Server::prefix();
    let mut hubs = Vec::new();
    for _ in 0..3 {
        let backplane = builder(cluster).prefix(&prefix).replicas(replicas).connect().await.unwrap();
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
    assert_eq!(online(&hubs[0], 10).await, []);
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
    for client in clients.into_iter().skip(2).step_by(3) {
        rest(client).await;
    }
    assert_eq!(drained.await.unwrap().remaining, 0);
    let left: Vec<_> = all.into_iter().filter(|user| user % 3 != 2).collect();
    assert_eq!(online(&hubs[0], 50).await, left);
}

/// Moves each slot that has keys to another master.
fn move_used_slots(cluster: &RedisCluster) {
    for slot in cluster.used_slots() {
        let from = cluster.master_of(slot);
        let to = cluster.masters().into_iter().find(|it| *it != from).expect("there are several");
        cluster.move_slot(slot, to);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_room_are_heard_after_their_slots_have_moved() {
    let cluster = start().await;
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
    let cluster = start().await;
    let hubs = hubs_on(&cluster, 0, |hub| hub).await;
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
    // the servers that have the slots know that others have the keys
    for number in 0..10 {
        let delivery = hubs[number % 3].send(&ANNA, number.to_string()).await;
        assert!(delivery.is_accepted(), "{delivery:?}");
    }
    for number in 0..10 {
        assert_eq!(text(&mut anna).await, number.to_string());
    }
    act(&cluster, |cluster| {
        for (slot, from, to) in moving {
            cluster.end_to_move(slot, from, to);
        }
    })
    .await;
    assert!(hubs[2].send(&ANNA, "after").await.is_accepted());
    assert_eq!(text(&mut anna).await, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_slots_move() {
    let cluster = start().await;
    let hubs = hubs_on(&cluster, 0, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        while !is_over() {
            act(&cluster, move_used_slots).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_replicas_take_the_place_of_their_masters() {
    let cluster = start().await;
    let hubs = hubs_on(&cluster, 0, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        while !is_over() {
            act(&cluster, |cluster| cluster.masters().into_iter().for_each(|it| drop(cluster.fail_over(it))))
                .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_replicas_nothing_that_was_accepted_is_lost_when_masters_are_killed() {
    let cluster = start().await;
    let hubs = hubs_on(&cluster, 1, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        for master in act(&cluster, RedisCluster::masters).await {
            act(&cluster, move |cluster| {
                cluster.kill_master(master);
                // what is accepted has to be on two servers
                cluster.restart(master);
            })
            .await;
        }
        until("all are done", async || is_over()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_replicas_nothing_that_was_accepted_is_lost_when_a_master_stops_and_goes_on() {
    let cluster = start().await;
    let hubs = hubs_on(&cluster, 1, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        for master in act(&cluster, RedisCluster::masters).await {
            act(&cluster, move |cluster| cluster.stop_master(master)).await;
        }
        until("all are done", async || is_over()).await;
    })
    .await;
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
async fn servers_that_are_gone_are_passed_over() {
    let cluster = block_in_place(shared_cluster);
    let gone = format!("redis://127.0.0.1:{}", free_port());
    let servers = [gone.clone(), cluster.url(5)];
    let backplane = RedisBackplane::<u64>::cluster(servers).prefix(Server::prefix()).connect().await.unwrap();
    assert_eq!(backplane.health(), Health::Up);
    let error = soon(RedisBackplane::<u64>::cluster([gone.clone()]).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(
        gone.ends_with(&error.to_string().split(' ').find(|it| it.starts_with("127.")).unwrap()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_one_of_a_cluster_is_said_so() {
    let port = free_port();
    let _server = Server::start(&["--port", &port]);
    let error = RedisBackplane::<u64>::cluster([format!("redis://127.0.0.1:{port}")]).connect().await;
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::NotCluster { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_one_of_a_cluster_is_said_so() {
    let cluster = block_in_place(shared_cluster);
    for server in [0, 5] {
        let error = RedisBackplane::<u64>::builder(cluster.url(server)).connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::IsCluster { .. }), "{error:?}");
        assert!(cluster.url(server).contains(error.to_string().split(' ').nth(5).unwrap()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_with_another_number_of_partitions_are_not_touched() {
    let (cluster, prefix) = (block_in_place(shared_cluster), Server::prefix());
    let key = |tag: &str| format!("{prefix}:{{{tag}}}:v");
    drop(builder(cluster).prefix(&prefix).connect().await.unwrap());
    let set = |value: &str| {
        // it is on one of them
        let set = |master| cluster.ask(master, &["SET", &key("021"), value, "XX"]).is_ok();
        assert!(cluster.masters().into_iter().any(set), "nobody has it");
    };
    block_in_place(|| set("1:16"));
    let error = builder(cluster).prefix(&prefix).connect().await.unwrap_err();
    let ConnectError::OtherVersion { found, expected, .. } = error else { panic!("{error:?}") };
    assert_eq!((found.as_str(), expected.as_str()), ("1:16", "1:64"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_it_may_have_missed_something_when_a_master_is_another_one() {
    let cluster = start().await;
    let mut node = Node::new(builder(&cluster)).await;
    node.login(ANNA, 1).await;
    node.append(ANNA, "first").await;
    assert_eq!(node.entry(ANNA).await, 1);
    act(&cluster, |cluster| cluster.masters().into_iter().for_each(|it| drop(cluster.fail_over(it)))).await;
    node.heard(&Signal::Gap).await;
    assert_eq!(node.append(ANNA, "second").await.0.number, 2);
}

#[test]
#[should_panic(expected = "there is no server to ask for the others")]
fn without_servers_there_is_nothing_to_ask() {
    let _ = RedisBackplane::<u64>::cluster(Vec::<String>::new());
}
