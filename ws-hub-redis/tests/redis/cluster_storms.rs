//! Slots that move and masters that change or go while hubs on three nodes are used. What was accepted is received, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use ws_core::WebSocket;
use ws_hub::{Guarantee, Login, RoomHistory};

use crate::cluster::{PATIENT, USERS, act, hubs_on, start, start_with};
use crate::redis_cluster::RedisCluster;
use crate::storms;
use crate::support::{login, soon, text, until};

/// How often other servers become the masters: there and back. A third time at once, masters would not vote for it.
const CHANGES: usize = 2;

/// Moves each slot that has keys to another master.
pub(crate) fn move_used_slots(cluster: &RedisCluster) {
    for slot in cluster.used_slots() {
        let from = cluster.master_of(slot);
        let to = cluster.masters().into_iter().find(|it| *it != from).expect("there are several");
        cluster.move_slot(slot, to);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_slots_move() {
    let cluster = start_with(PATIENT).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        while !is_over() {
            act(&cluster, move_used_slots).await;
        }
    })
    .await;
}

/// The replica of each master takes its place.
pub(crate) fn fail_over_all(cluster: &RedisCluster) {
    for master in cluster.masters() {
        cluster.fail_over(master);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_replicas_take_the_place_of_their_masters() {
    let cluster = start_with(PATIENT).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        for _ in 0..CHANGES {
            act(&cluster, fail_over_all).await;
        }
        are_done(is_over).await;
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
        are_done(is_over).await;
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
        are_done(is_over).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_replicas_nothing_that_was_accepted_is_lost_when_replicas_do_not_ask_their_masters() {
    let cluster = start().await;
    let hubs = hubs_on(&cluster, 1, |hub| hub.login(Login::ReplaceOld)).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        for _ in 0..3 {
            for master in act(&cluster, RedisCluster::masters).await {
                act(&cluster, move |cluster| cluster.take_over(master)).await;
            }
        }
        are_done(is_over).await;
    })
    .await;
}

/// Waits for the senders, however long they take.
async fn are_done(is_over: &dyn Fn() -> bool) {
    while !is_over() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Until `what` is done, slots move, and in the first rounds other servers become the masters.
async fn beside<T>(cluster: &Arc<RedisCluster>, what: impl Future<Output = T>) -> T {
    let is_over = AtomicBool::new(false);
    let harming = async {
        for round in 0.. {
            if is_over.load(Ordering::Acquire) {
                break;
            }
            act(cluster, move_used_slots).await;
            if round < CHANGES {
                act(cluster, fail_over_all).await;
            }
        }
    };
    let doing = async {
        let done = what.await;
        is_over.store(true, Ordering::Release);
        done
    };
    tokio::join!(doing, harming).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_with_a_history_has_one_order_while_masters_change() {
    let cluster = start_with(PATIENT).await;
    let history = |_: &str| Some(RoomHistory::new(1_000, Duration::from_secs(300)));
    let hubs = hubs_on(&cluster, 0, |hub| hub.room_history(history)).await;
    let mut clients = Vec::new();
    for (user, hub) in (0..).zip(&hubs) {
        clients.push(login(hub, user).await);
        hub.join(&user, "lobby").await.unwrap();
    }
    let accepted = beside(&cluster, async {
        let mut accepted = Vec::new();
        for number in 0..300 {
            let message = number.to_string();
            // what fails may have been sent all the same
            if hubs[number % 3].room("lobby").send(message.clone()).await.others.is_ok() {
                accepted.push(message);
            }
            sleep(Duration::from_millis(10)).await;
        }
        accepted
    })
    .await;
    assert!(accepted.len() > 200, "{} of 300 are accepted", accepted.len());
    until("messages are accepted", async || hubs[0].room("lobby").send("last").await.others.is_ok()).await;
    let mut orders = Vec::new();
    for client in &mut clients {
        orders.push(until_last(client).await);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    let got: HashSet<_> = orders[0].iter().collect();
    assert_eq!(got.len(), orders[0].len(), "something came twice: {:?}", orders[0]);
    let lost: Vec<_> = accepted.iter().filter(|it| !got.contains(it)).collect();
    assert!(lost.is_empty(), "{lost:?} are lost");
}

/// What a client gets before a message that says that it is the last one.
async fn until_last(client: &mut WebSocket) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match text(client).await {
            last if last == "last" => return all,
            other => all.push(other),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_many_users_reach_all_of_them_while_masters_change() {
    let cluster = start_with(PATIENT).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub.guarantee(Guarantee::AtLeastOnce)).await;
    let users: Vec<_> = (0..USERS).collect();
    let rounds = beside(&cluster, async {
        let mut rounds = Vec::new();
        for round in 0..20 {
            rounds.push(soon(hubs[round % 3].send_all(&users, round.to_string())).await);
        }
        rounds
    })
    .await;
    for user in users {
        until("a message is accepted", async || hubs[0].send(&user, "last").await.is_accepted()).await;
        let hub = &hubs[usize::try_from(user % 3).unwrap()];
        let got = until_last(&mut login(hub, user).await).await;
        let once: HashSet<_> = got.iter().collect();
        assert_eq!(once.len(), got.len(), "something came twice: {got:?}");
        let numbers: Vec<usize> = got.iter().map(|it| it.parse().unwrap()).collect();
        let user = usize::try_from(user).unwrap();
        for (round, deliveries) in rounds.iter().enumerate() {
            let is_lost = deliveries[user].is_accepted() && !numbers.contains(&round);
            assert!(!is_lost, "{round} for {user} was {:?}, and is lost", deliveries[user]);
        }
        let is_accepted = |round: &&usize| rounds[**round][user].is_accepted();
        assert!(numbers.iter().filter(is_accepted).is_sorted(), "not in order: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_joined_while_masters_change() {
    let cluster = start_with(PATIENT).await;
    let hubs = hubs_on(&cluster, 0, |hub| hub).await;
    let mut clients = Vec::new();
    for (user, hub) in (0..).zip(&hubs) {
        clients.push(login(hub, user).await);
    }
    let rooms: Vec<_> = (0..100).map(|number| format!("room {number}")).collect();
    beside(&cluster, async {
        for room in &rooms {
            for (user, hub) in (0..).zip(&hubs) {
                let joins = async || hub.join(&user, room.as_str()).await.is_ok();
                until("the room is joined", joins).await;
            }
        }
    })
    .await;
    for room in &rooms {
        let reaches = async || hubs[0].room(room).send(room.as_str()).await.others.is_ok_and(|it| it == 2);
        until("the room is reached", reaches).await;
    }
    for client in &mut clients {
        let mut left: HashSet<_> = rooms.iter().cloned().collect();
        while !left.is_empty() {
            left.remove(&text(client).await);
        }
    }
}
