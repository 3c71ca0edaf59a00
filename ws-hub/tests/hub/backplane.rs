//! Several hubs that act as one.

use ws_hub::{Delivery, Hub, HubBuilder, InProcess, Login};

use crate::support::{
    ANNA, BOB, CARL, Call, Mood, TestLog, assert_silent, connect, login, numbered, rest, scripted, settle,
    text, texts,
};

fn nodes(build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>) -> [Hub<u64>; 2] {
    nodes_over(InProcess::new(), build)
}

fn nodes_over(node: InProcess<u64>, build: impl Fn(HubBuilder<u64>) -> HubBuilder<u64>) -> [Hub<u64>; 2] {
    let other = node.another();
    [node, other].map(|node| build(Hub::builder().backplane(node)).build())
}

#[tokio::test(start_paused = true)]
async fn a_message_finds_a_user_on_another_node() {
    let [here, there] = nodes(|hub| hub);
    let mut anna = login(&there, ANNA).await;
    assert_eq!(here.send(&ANNA, "across").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "across");
    assert_eq!(there.send(&ANNA, "at home").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "at home");
    assert_eq!(here.send(&BOB, "away").await, Delivery::Stored { evicted: 0 });
    assert!(!here.is_online(&ANNA));
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users, [ANNA]);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_messages_is_kept_across_nodes() {
    let [here, there] = nodes(|hub| hub);
    let mut anna = login(&there, ANNA).await;
    for number in 0..80 {
        assert_eq!(here.send(&ANNA, number.to_string()).await, Delivery::Sent(1));
    }
    for number in 0..80 {
        assert_eq!(text(&mut anna).await, number.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn broadcasts_and_rooms_reach_all_nodes() {
    let [here, there] = nodes(|hub| hub);
    let (mut anna, mut bob, mut carl) =
        (login(&here, ANNA).await, login(&there, BOB).await, login(&there, CARL).await);
    assert_eq!(here.broadcast("to all").await.here, 1);
    for client in [&mut anna, &mut bob, &mut carl] {
        assert_eq!(text(client).await, "to all");
    }
    here.join(&ANNA, "lobby").await.unwrap();
    there.join(&BOB, "lobby").await.unwrap();
    there.join(&CARL, "lobby").await.unwrap();
    assert_eq!(here.room("lobby").except(&BOB).send("but bob").await.here, 1);
    assert_eq!((text(&mut anna).await, text(&mut carl).await), ("but bob".into(), "but bob".into()));
    assert_eq!(here.everyone().except(&ANNA).except(&CARL).send("bob").await.here, 0);
    assert_eq!(text(&mut bob).await, "bob");
    for client in [&mut anna, &mut bob, &mut carl] {
        assert_silent(client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_on_another_node_replaces() {
    let [here, there] = nodes(|hub| hub);
    let first = login(&here, ANNA).await;
    let mut second = login(&there, ANNA).await;
    assert_eq!(rest(first).await.1, Some((4001, "replaced by a newer connection".to_owned())));
    settle().await;
    assert!(!here.is_online(&ANNA));
    assert_eq!(here.send(&ANNA, "hello").await, Delivery::Sent(1));
    assert_eq!(text(&mut second).await, "hello");
    // and back again, many times
    let mut current = second;
    for round in 0..50 {
        let hub = if round % 2 == 0 { &here } else { &there };
        let newer = connect(hub, ANNA);
        settle().await;
        assert_eq!(rest(current).await.1.unwrap().0, 4001);
        current = newer;
        settle().await;
        assert!(here.send(&ANNA, format!("{round}")).await.is_accepted());
        assert_eq!(text(&mut current).await, format!("{round}"));
    }
    assert_eq!((here.is_online(&ANNA), there.is_online(&ANNA)), (false, true));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_connection_that_is_replaced_reaches_the_newer_one_on_another_node() {
    let log = TestLog::default();
    for (node, is_immediate) in [(InProcess::new(), true), (InProcess::over(log.clone()), false)] {
        let [here, there] = nodes_over(node, |hub| hub);
        let slow = scripted(&here, ANNA).await;
        assert_eq!(here.send(&ANNA, "x".repeat(100)).await, Delivery::Sent(1));
        settle().await;
        // that one is in the connection's own buffer
        for message in numbered("waits", 0..10) {
            assert_eq!(here.send(&ANNA, message).await, Delivery::Sent(1));
        }
        let mut newer = login(&there, ANNA).await;
        assert_eq!(
            slow.rest().await,
            (vec!["x".repeat(100)], Some((4001, "replaced by a newer connection".into())))
        );
        let mut got = texts(&mut newer, 10).await;
        if !is_immediate {
            // what the older one had acknowledged before it could send it comes a moment later
            got.sort();
        }
        assert_eq!(got, numbered("waits", 0..10));
        settle().await;
    }
    assert_eq!(log.texts(ANNA), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_one_node_delivers_another_does_not_store() {
    let log = TestLog::default();
    let first = InProcess::over(log.clone());
    let [second, third] = [first.another(), first.another()];
    let [first, second, third] = [first, second, third]
        .map(|node| Hub::builder().login(Login::AllowMany(2)).log(log.clone()).backplane(node).build());
    let (mut stays, leaves) = (login(&second, ANNA).await, login(&third, ANNA).await);
    // the signals are under way when they leave one of them
    assert_eq!(first.send(&ANNA, "once").await, Delivery::Sent(2));
    drop(leaves);
    third.disconnect(&BOB, 4000, "").await.unwrap();
    settle().await;
    assert_eq!(text(&mut stays).await, "once");
    assert_eq!(log.texts(ANNA), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn limits_hold_across_nodes() {
    let [here, there] = nodes(|hub| hub.login(Login::RejectNew));
    let first = login(&here, ANNA).await;
    assert_eq!(rest(connect(&there, ANNA)).await.1.unwrap().0, 4002);
    drop(first);
    settle().await;
    let _client = login(&there, ANNA).await;

    let [here, there] = nodes(|hub| hub.login(Login::AllowMany(2)));
    let (mut first, mut second) = (login(&here, ANNA).await, login(&there, ANNA).await);
    assert_eq!(rest(connect(&there, ANNA)).await.1.unwrap().0, 4002);
    assert_eq!(here.send(&ANNA, "to both").await, Delivery::Sent(2));
    assert_eq!((text(&mut first).await, text(&mut second).await), ("to both".into(), "to both".into()));
    assert_silent(&mut first).await;
    assert_silent(&mut second).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_takes_no_place_on_the_backplane() {
    let [here, there] = nodes(|hub| hub.login(Login::RejectNew).max_connections(1));
    let _bob = login(&here, BOB).await;
    assert_eq!(rest(connect(&here, ANNA)).await.1.unwrap().0, 1013);
    settle().await;
    assert_eq!(there.online_everywhere(None, 10).await.unwrap().users, [BOB]);
    let _client = login(&there, ANNA).await;
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_reaches_all_nodes() {
    let [here, there] = nodes(|hub| hub.login(Login::AllowMany(2)));
    let (first, second) = (login(&here, ANNA).await, login(&there, ANNA).await);
    assert_eq!(here.kick(&ANNA).await.unwrap(), 2);
    assert_eq!(rest(first).await.1.unwrap().0, 4003);
    assert_eq!(rest(second).await.1.unwrap().0, 4003);
    settle().await;
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_message_for_a_user_who_has_just_left_the_other_node_waits_for_their_next_login() {
    let log = TestLog::default();
    let [here, there] = nodes_over(InProcess::over(log.clone()), |hub| hub);
    let client = login(&there, ANNA).await;
    // the signal is under way when they leave
    assert_eq!(here.send(&ANNA, "late").await, Delivery::Sent(1));
    there.kick(&ANNA).await.unwrap();
    assert_eq!(here.send(&ANNA, "later").await, Delivery::Stored { evicted: 0 });
    let (mut got, _) = rest(client).await;
    settle().await;
    got.extend(log.texts(ANNA));
    assert_eq!(got, ["late", "later"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_has_no_users() {
    let [here, there] = nodes(|hub| hub);
    let client = login(&there, ANNA).await;
    drop(client);
    settle().await;
    drop(there);
    settle().await;
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
    assert_eq!(here.send(&ANNA, "stored").await, Delivery::Stored { evicted: 0 });
    assert_eq!(here.broadcast("to nobody").await.here, 0);
    assert_eq!(text(&mut login(&here, ANNA).await).await, "stored");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_does_not_make_a_node_deaf() {
    let log = TestLog::default();
    let [here, there] = nodes_over(InProcess::over(log.clone()), |hub| hub);
    let client = login(&there, ANNA).await;
    let mut bob = login(&there, BOB).await;
    log.feels(Call::Append, Mood::Panics);
    there.kick(&ANNA).await.unwrap();
    assert_eq!(here.send(&ANNA, "the log panics").await, Delivery::Unknown);
    log.feels(Call::Append, None);
    assert_eq!(here.send(&BOB, "hello").await, Delivery::Sent(1));
    assert_eq!(text(&mut bob).await, "hello");
    drop(client);
}
