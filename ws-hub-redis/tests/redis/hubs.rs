//! Hubs that act as one, with clients.

use std::time::Duration;

use ws_core::Drain;
use ws_hub::{Delivery, Guarantee, Hub, HubBuilder, Login, RoomHistory};

use crate::server::{Server, shared};
use crate::support::{ANNA, BOB, login, rest, text, until};

pub(crate) async fn hubs_on(
    server: &Server,
    build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>,
) -> [Hub<u64>; 2] {
    let prefix = Server::prefix();
    let mut hubs = Vec::new();
    for _ in 0..2 {
        let backplane = server.builder().prefix(&prefix).connect().await.unwrap();
        hubs.push(build(Hub::builder().backplane(backplane)).build());
    }
    hubs.try_into().unwrap()
}

async fn hubs(build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>) -> [Hub<u64>; 2] {
    hubs_on(shared(), build).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_finds_a_user_on_another_node() {
    let [here, there] = hubs(|hub| hub).await;
    assert_eq!(here.send(&ANNA, "before").await, Delivery::Stored { evicted: 0 });
    let mut anna = login(&there, ANNA).await;
    assert_eq!(text(&mut anna).await, "before");
    assert_eq!(here.send(&ANNA, "across").await, Delivery::Sent(1));
    assert_eq!(there.send(&ANNA, "at home").await, Delivery::Sent(1));
    assert_eq!((text(&mut anna).await, text(&mut anna).await), ("across".into(), "at home".into()));
    assert!(!here.is_online(&ANNA));
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users, [ANNA]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_messages_is_kept_across_nodes() {
    let [here, there] = hubs(|hub| hub).await;
    let mut anna = login(&there, ANNA).await;
    for number in 0..500 {
        let hub = if number % 3 == 0 { &there } else { &here };
        assert!(hub.send(&ANNA, number.to_string()).await.is_accepted());
    }
    for number in 0..500 {
        assert_eq!(text(&mut anna).await, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_on_another_node_replaces() {
    // so that nothing comes twice
    let [here, there] = hubs(|hub| hub.guarantee(Guarantee::AtMostOnce)).await;
    let mut current = login(&here, ANNA).await;
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let mut newer = login(to, ANNA).await;
        assert_eq!(rest(current).await.1, Some(4001));
        until("the older one is gone", async || !from.is_online(&ANNA)).await;
        assert_eq!(from.send(&ANNA, round.to_string()).await, Delivery::Sent(1));
        assert_eq!(text(&mut newer).await, round.to_string());
        current = newer;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_kicks_hold_across_nodes() {
    let [here, there] = hubs(|hub| hub.login(Login::AllowMany(2))).await;
    let (first, second) = (login(&here, ANNA).await, login(&there, ANNA).await);
    assert_eq!(rest(crate::support::connect(&there, ANNA)).await.1, Some(4002));
    assert_eq!(here.kick(&ANNA).await.unwrap(), 2);
    assert_eq!((rest(first).await.1, rest(second).await.1), (Some(4003), Some(4003)));
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_broadcasts_reach_all_nodes() {
    let [here, there] = hubs(|hub| hub).await;
    let (mut anna, mut bob) = (login(&here, ANNA).await, login(&there, BOB).await);
    let reach = here.broadcast("to all").await;
    assert_eq!((reach.here, reach.others.unwrap()), (1, 1));
    assert_eq!((text(&mut anna).await, text(&mut bob).await), ("to all".into(), "to all".into()));
    // only nodes with a member of a room get its messages
    here.join(&ANNA, "lobby").await.unwrap();
    let reach = here.room("lobby").send("to the first").await;
    assert_eq!((reach.here, reach.others.unwrap()), (1, 0));
    there.join(&BOB, "lobby").await.unwrap();
    let reach = here.room("lobby").except(&BOB).send("but bob").await;
    assert_eq!((reach.here, reach.others.unwrap()), (1, 1));
    let reach = there.room("lobby").send("to both").await;
    assert_eq!((reach.here, reach.others.unwrap()), (1, 1));
    for expected in ["to the first", "but bob", "to both"] {
        assert_eq!(text(&mut anna).await, expected);
    }
    assert_eq!(text(&mut bob).await, "to both");
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_with_a_history_have_one_order_on_all_nodes() {
    let history = |_: &str| Some(RoomHistory::new(100, Duration::from_secs(300)));
    let [here, there] = hubs(|hub| hub.room_history(history)).await;
    let (mut anna, mut bob) = (login(&here, ANNA).await, login(&there, BOB).await);
    here.join(&ANNA, "lobby").await.unwrap();
    there.join(&BOB, "lobby").await.unwrap();
    let send = async |hub: &Hub<u64>, name: &str| {
        for number in 0..50 {
            let reach = hub.room("lobby").send(format!("{name} {number}")).await;
            assert_eq!(reach.others.unwrap(), 1);
        }
    };
    tokio::join!(send(&here, "here"), send(&there, "there"));
    let (mut by_anna, mut by_bob) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        by_anna.push(text(&mut anna).await);
        by_bob.push(text(&mut bob).await);
    }
    assert_eq!(by_anna, by_bob);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_a_hub_that_drains_are_offline_at_once() {
    let [here, there] = hubs(|hub| hub).await;
    let client = login(&there, ANNA).await;
    let drained = tokio::spawn(async move { there.drain(Drain::new()).await });
    assert_eq!(rest(client).await.1, Some(1001));
    assert_eq!(drained.await.unwrap().remaining, 0);
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
    assert_eq!(here.send(&ANNA, "later").await, Delivery::Stored { evicted: 0 });
    let reach = here.broadcast("to nobody").await;
    assert_eq!((reach.here, reach.others.unwrap()), (0, 0));
    assert_eq!(text(&mut login(&here, ANNA).await).await, "later");
}
