//! Nodes that were thought to be gone, and are back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use ws_hub::{Delivery, Guarantee, Hub, InProcess, Login, MemoryLog};

use crate::support::{ANNA, assert_silent, login, numbered, rest, settle, text, texts};

type Nodes = ([Hub<u64>; 2], [Arc<InProcess<u64>>; 2]);

fn nodes(log: MemoryLog<u64>, policy: Login, guarantee: Guarantee) -> Nodes {
    let first = InProcess::over(log);
    let nodes = [Arc::new(first.another()), Arc::new(first)];
    let hub =
        |node: &Arc<_>| Hub::builder().login(policy).guarantee(guarantee).backplane(Arc::clone(node)).build();
    (nodes.each_ref().map(hub), nodes)
}

#[tokio::test(start_paused = true)]
async fn a_login_is_not_put_back_when_a_newer_one_has_come_and_gone() {
    for policy in [Login::ReplaceOld, Login::RejectNew] {
        for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
            let (hubs, nodes) = nodes(MemoryLog::new(), policy, guarantee);
            let older = login(&hubs[0], ANNA).await;
            nodes[0].end_lease();
            let mut newer = login(&hubs[1], ANNA).await;
            assert_eq!(hubs[1].send(&ANNA, "one").await, Delivery::Sent(1));
            assert_eq!(text(&mut newer).await, "one");
            settle().await;
            drop(newer);
            settle().await;
            nodes[0].renew_lease();
            let (got, close) = rest(older).await;
            assert_eq!((got, close.unwrap().0), (Vec::<String>::new(), 4001));
            assert_eq!(hubs[1].are_online_anywhere(&[ANNA]).await.unwrap(), [false]);
            let mut next = login(&hubs[0], ANNA).await;
            assert_silent(&mut next).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_several_connections_that_is_put_back_gets_what_went_to_the_others_meanwhile() {
    let (hubs, nodes) = nodes(MemoryLog::new(), Login::AllowMany(2), Guarantee::AtLeastOnce);
    let mut away = login(&hubs[0], ANNA).await;
    nodes[0].end_lease();
    let mut other = login(&hubs[1], ANNA).await;
    assert_eq!(hubs[1].send(&ANNA, "one").await, Delivery::Sent(1));
    assert_eq!(text(&mut other).await, "one");
    settle().await;
    nodes[0].renew_lease();
    assert_eq!(text(&mut away).await, "one");
    assert_silent(&mut other).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_away_for_longer_than_the_log_keeps_its_user_gets_what_came_meanwhile() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        let log = MemoryLog::new().history(64, Duration::from_secs(60));
        let (hubs, nodes) = nodes(log, Login::ReplaceOld, guarantee);
        let mut client = login(&hubs[0], ANNA).await;
        for message in numbered("n", 0..5) {
            assert_eq!(hubs[1].send(&ANNA, message).await, Delivery::Sent(1));
        }
        assert_eq!(texts(&mut client, 5).await, numbered("n", 0..5));
        settle().await;
        nodes[0].end_lease();
        // the log has nothing more of them
        sleep(Duration::from_secs(300)).await;
        for message in numbered("later", 0..3) {
            assert_eq!(hubs[1].send(&ANNA, message).await, Delivery::Stored { evicted: 0 });
        }
        nodes[0].renew_lease();
        assert_eq!(texts(&mut client, 3).await, numbered("later", 0..3));
        assert_silent(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_kicked_while_their_node_is_away_is_told_so_when_it_is_back() {
    let (hubs, nodes) = nodes(MemoryLog::new(), Login::ReplaceOld, Guarantee::AtMostOnce);
    let away = login(&hubs[0], ANNA).await;
    nodes[0].end_lease();
    assert_eq!(hubs[1].kick(&ANNA).await.unwrap(), 0);
    nodes[0].renew_lease();
    assert_eq!(rest(away).await.1.unwrap().0, 4003);
    assert_eq!(hubs[1].are_online_anywhere(&[ANNA]).await.unwrap(), [false]);
}
