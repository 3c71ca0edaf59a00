//! A second connection of the same user, limits, and codes.

use ws_core::{CloseCode, Drain, testing};
use ws_hub::{Delivery, DropReason, Error, Hub, Login, Refused};

use crate::support::{
    ANNA, BOB, CARL, TestLog, connect, connect_with, login, numbered, panics, rest, scripted, settle, soon,
    text, texts,
};

const REPLACED: (u16, &str) = (4001, "replaced by a newer connection");

fn frame((code, reason): (u16, &str)) -> (u16, String) {
    (code, reason.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_newer_login_replaces_the_older_one_and_is_the_one_that_is_sent_to() {
    let hub = Hub::new();
    let first = login(&hub, ANNA).await;
    let mut second = login(&hub, ANNA).await;
    assert_eq!(hub.stats().connections, 1);
    assert_eq!(hub.send(&ANNA, "to the newer one").await, Delivery::Sent(1));
    assert_eq!(rest(first).await, (vec![], Some(frame(REPLACED))));
    assert_eq!(text(&mut second).await, "to the newer one");
    assert_eq!((hub.stats().replaced, hub.online()), (1, vec![ANNA]));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_older_connection_does_not_end_the_newer_one() {
    let hub = Hub::new();
    // it does not read, so that its closing handshake is over long after the newer login
    let first = scripted(&hub, ANNA).await;
    let mut second = login(&hub, ANNA).await;
    hub.join(&ANNA, "lobby").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(hub.is_online(&ANNA));
    assert_eq!(hub.members("lobby"), [ANNA]);
    assert_eq!(hub.send(&ANNA, "hello").await, Delivery::Sent(1));
    assert_eq!(text(&mut second).await, "hello");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_replaced_connection_goes_to_the_newer_one_in_order() {
    for (hub, is_immediate) in [(Hub::new(), true), (Hub::builder().log(TestLog::default()).build(), false)] {
        let slow = scripted(&hub, ANNA).await;
        for message in numbered("waits", 0..50) {
            assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
        }
        let mut newer = login(&hub, ANNA).await;
        assert_eq!(hub.send(&ANNA, "newest").await, Delivery::Sent(1));

        let (mut all, close) = slow.rest().await;
        assert_eq!(close, Some(frame(REPLACED)));
        assert!(!all.is_empty() && all.len() < 50, "{all:?}");
        all.extend(texts(&mut newer, 51 - all.len()).await);
        let mut expected = numbered("waits", 0..50);
        expected.push("newest".to_owned());
        if !is_immediate {
            // what the older one had acknowledged before it could send it comes a moment later
            all.sort_by_key(|text| text.split(' ').nth(1).map_or(u32::MAX, |number| number.parse().unwrap()));
        }
        assert_eq!(all, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_be_refused_because_there_is_one() {
    let hub = Hub::builder().login(Login::RejectNew).build();
    let mut first = login(&hub, ANNA).await;
    assert_eq!(hub.check(&ANNA), Err(Refused::AlreadyConnected));
    let (server, client) = testing::pair();
    let (refused, (texts, close)) =
        soon(async { tokio::join!(hub.attach(ANNA, server), rest(client)) }).await;
    assert!(matches!(refused, Err(Error::Refused(Refused::AlreadyConnected))));
    assert_eq!((texts, close), (vec![], Some(frame((4002, "already connected")))));
    assert!(!CloseCode::from(4002).should_reconnect());
    assert_eq!(hub.stats().refused, 1);

    assert!(hub.send(&ANNA, "still here").await.is_accepted());
    assert_eq!(text(&mut first).await, "still here");
    first.close(1000, "").await.unwrap();
    settle().await;
    assert_eq!(hub.check(&ANNA), Ok(()));
    let _client = login(&hub, ANNA).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_may_have_some_connections_and_gets_each_message_on_all_of_them() {
    let hub = Hub::builder().login(Login::AllowMany(2)).build();
    let mut first = login(&hub, ANNA).await;
    let mut second = login(&hub, ANNA).await;
    let third = connect(&hub, ANNA);
    assert_eq!(rest(third).await.1, Some(frame((4002, "already connected"))));
    assert_eq!(hub.send(&ANNA, "to all").await, Delivery::Sent(2));
    assert_eq!((text(&mut first).await, text(&mut second).await), ("to all".into(), "to all".into()));
    second.close(1000, "").await.unwrap();
    settle().await;
    assert_eq!(hub.send(&ANNA, "to one").await, Delivery::Sent(1));
    assert_eq!(hub.check(&ANNA), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_a_user_can_replace_his_own_connection_and_nobody_else_is_let_in() {
    let hub = Hub::builder().max_connections(2).build();
    let first = login(&hub, ANNA).await;
    let _second = login(&hub, BOB).await;
    assert_eq!((hub.check(&ANNA), hub.check(&CARL)), (Ok(()), Err(Refused::Full)));
    let newer = login(&hub, ANNA).await;
    assert_eq!(rest(first).await.1, Some(frame(REPLACED)));
    assert_eq!(rest(connect(&hub, CARL)).await.1, Some(frame((1013, "too many connections"))));
    assert_eq!(hub.stats().connections, 2);
    drop(newer);
    settle().await;
    let _client = login(&hub, CARL).await;
}

#[tokio::test(start_paused = true)]
async fn the_handler_of_a_refused_connection_is_not_called() {
    let hub = Hub::builder().max_connections(0).build();
    let client = connect_with(&hub, ANNA, async |_| panics());
    assert_eq!(rest(client).await.1, Some(frame((1013, "too many connections"))));
    assert!(!hub.is_online(&ANNA));
}

#[tokio::test(start_paused = true)]
async fn each_code_says_whether_to_come_back() {
    let codes = |codes: &[u16]| codes.iter().all(|&code| CloseCode::from(code).should_reconnect());
    assert!(codes(&[1001, 1012, 1013, 4100, 1011]));
    for terminal in [1000, 4001, 4002, 4003] {
        assert!(!CloseCode::from(terminal).should_reconnect(), "{terminal}");
    }

    let hub = Hub::new();
    let kicked = login(&hub, ANNA).await;
    assert_eq!(hub.kick(&ANNA).await.unwrap(), 1);
    assert_eq!(rest(kicked).await.1, Some(frame((4003, "sent away by the application"))));
    assert_eq!(hub.kick(&ANNA).await.unwrap(), 0);

    let closed = login(&hub, ANNA).await;
    assert_eq!(hub.disconnect(&ANNA, 4321, "maintenance").await.unwrap(), 1);
    assert_eq!(rest(closed).await.1, Some(frame((4321, "maintenance"))));
    assert_eq!(hub.stats().disconnected, 2);
    assert_eq!(hub.send(&ANNA, "later").await, Delivery::Stored { evicted: 0 });

    let drained = login(&hub, ANNA).await;
    let ((_, close), _) = tokio::join!(rest(drained), hub.drain(Drain::new().code(1012)));
    assert_eq!(close.unwrap().0, 1012);
    assert_eq!(rest(connect(&hub, BOB)).await.1, Some(frame((1001, "going away"))));
    assert_eq!(hub.check(&BOB), Err(Refused::Draining));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_may_not_be_sent_closes_nothing() {
    let hub = Hub::new();
    let mut client = login(&hub, ANNA).await;
    assert!(hub.disconnect(&ANNA, 1006, "").await.is_err());
    assert!(hub.disconnect(&ANNA, 4000, "x".repeat(124)).await.is_err());
    assert!(hub.send(&ANNA, "still here").await.is_accepted());
    assert_eq!(text(&mut client).await, "still here");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_by_itself_is_the_users_no_more() {
    let hub = Hub::builder().without_log().build();
    let mut orderly = login(&hub, ANNA).await;
    orderly.close(1000, "").await.unwrap();
    settle().await;
    assert!(!hub.is_online(&ANNA));
    let rude = scripted(&hub, ANNA).await;
    assert!(hub.is_online(&ANNA));
    drop(rude);
    settle().await;
    assert!(!hub.is_online(&ANNA));
    assert_eq!(hub.send(&ANNA, "gone").await, Delivery::Dropped(DropReason::Offline));
}
