//! Clients that read too slowly.

use futures_util::future::join_all;
use ws_hub::{Delivery, DropReason, Hub, Login, Overflow};

use crate::support::{ANNA, BOB, login, numbered, scripted, settle, text, texts};

#[tokio::test(start_paused = true)]
async fn a_queue_of_100_disconnects_at_the_message_after_and_the_next_login_has_all_of_them() {
    let hub = Hub::new();
    let slow = scripted(&hub, ANNA).await;
    assert!(hub.send(&ANNA, "x".repeat(100)).await.is_accepted());
    settle().await;
    // that one is in the connection's own buffer
    for message in numbered("waits", 0..100) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    settle().await;
    assert_eq!(hub.stats().overflowed, 0);
    assert_eq!(hub.send(&ANNA, "waits 100").await, Delivery::Stored { evicted: 0 });
    assert!(!hub.is_online(&ANNA));
    assert_eq!((hub.stats().overflowed, hub.stats().stored), (1, 101));

    // no gaps: what it has got is a prefix
    let (got, close) = slow.rest().await;
    assert_eq!(got, ["x".repeat(100)]);
    assert_eq!(close, Some((4100, "messages come faster than they are read".to_owned())));
    let mut back = login(&hub, ANNA).await;
    assert_eq!(texts(&mut back, 101).await, numbered("waits", 0..101));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_or_the_newest_can_go_instead() {
    for (overflow, kept) in [(Overflow::DropOldest, 5..15), (Overflow::DropNewest, 0..10)] {
        let hub = Hub::builder().queue(10, 1024).overflow(overflow).build();
        let mut slow = scripted(&hub, ANNA).await;
        assert!(hub.send(&ANNA, "x".repeat(100)).await.is_accepted());
        settle().await;
        let mut sent = 0;
        for message in numbered("waits", 0..15) {
            match hub.send(&ANNA, message).await {
                Delivery::Sent(1) => sent += 1,
                Delivery::Dropped(DropReason::Overflow) => assert_eq!(overflow, Overflow::DropNewest),
                other => panic!("{other:?}"),
            }
        }
        let stats = hub.stats();
        match overflow {
            Overflow::DropOldest => assert_eq!((sent, stats.evicted, stats.dropped), (15, 5, 0)),
            _ => assert_eq!((sent, stats.evicted, stats.dropped), (10, 0, 5)),
        }
        assert_eq!(slow.text().await, "x".repeat(100));
        for expected in numbered("waits", kept) {
            assert_eq!(slow.text().await, expected);
        }
        assert!(hub.is_online(&ANNA));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_counts_its_bytes() {
    const MIB: usize = 1024 * 1024;
    let hub = Hub::builder().without_offline_store().build();
    let slow = scripted(&hub, ANNA).await;
    assert_eq!(hub.send(&ANNA, vec![0; MIB + 1]).await, Delivery::Dropped(DropReason::TooLarge));
    assert_eq!(hub.send(&ANNA, "x".repeat(100)).await, Delivery::Sent(1));
    settle().await;
    assert_eq!(hub.send(&ANNA, vec![0; MIB]).await, Delivery::Sent(1));
    assert_eq!(hub.send(&ANNA, "").await, Delivery::Sent(1));
    assert_eq!(hub.send(&ANNA, "1").await, Delivery::Dropped(DropReason::Overflow));
    assert_eq!(slow.rest().await.1.unwrap().0, 4100);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_for_one_queue_leaves_the_connection_alone() {
    let hub = Hub::builder().queue(10, 10).build();
    let mut client = login(&hub, ANNA).await;
    assert_eq!(hub.send(&ANNA, "01234567890").await, Delivery::Dropped(DropReason::TooLarge));
    assert_eq!(hub.broadcast("01234567890").await, 0);
    assert_eq!(hub.send(&ANNA, "0123456789").await, Delivery::Sent(1));
    assert_eq!(text(&mut client).await, "0123456789");
    assert_eq!(hub.stats().dropped, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_sent_after_the_decision_to_disconnect() {
    let hub = Hub::builder().without_offline_store().build();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("waits", 0..20) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    settle().await;
    assert_eq!(hub.kick(&ANNA).await, 1);
    assert_eq!(hub.send(&ANNA, "too late").await, Delivery::Dropped(DropReason::Offline));
    let (got, close) = slow.rest().await;
    // what its connection had taken: a prefix
    assert_eq!(got, numbered("waits", 0..got.len()));
    assert!(got.len() < 20);
    assert_eq!(close.unwrap().0, 4003);
}

#[tokio::test(start_paused = true)]
async fn one_of_a_thousand_who_does_not_read_delays_nobody() {
    let hub = Hub::builder().queue(100, 64 * 1024).build();
    let mut clients = Vec::new();
    for user in 0..999 {
        clients.push(login(&hub, user).await);
    }
    let stalled = scripted(&hub, 1000).await;
    let before = tokio::time::Instant::now();
    for message in numbered("news", 0..120) {
        hub.broadcast(message).await;
        // those who read do
        settle().await;
        for client in &mut clients {
            let next = client.recv().await.unwrap().unwrap();
            assert!(next.as_text().unwrap().starts_with("news"));
        }
    }
    assert!(before.elapsed() < std::time::Duration::from_secs(1), "the clock moves when somebody waits");
    assert_eq!((hub.stats().overflowed, hub.stats().connections), (1, 999));
    let (got, close) = stalled.rest().await;
    assert_eq!((got.clone(), close.unwrap().0), (numbered("news", 0..got.len()), 4100));
}

#[tokio::test(start_paused = true)]
async fn of_several_connections_only_the_one_that_overflows_is_closed() {
    let hub = Hub::builder().login(Login::AllowMany(2)).queue(5, 1024).build();
    let mut fast = login(&hub, ANNA).await;
    let slow = scripted(&hub, ANNA).await;
    let mut other = login(&hub, BOB).await;
    for message in numbered("n", 0..20) {
        assert!(matches!(hub.send(&ANNA, message).await, Delivery::Sent(1 | 2)));
        settle().await;
    }
    assert_eq!(texts(&mut fast, 20).await, numbered("n", 0..20));
    assert_eq!(slow.rest().await.1.unwrap().0, 4100);
    settle().await;
    assert_eq!(hub.stats().overflowed, 1);
    // what the slow one missed the other one had: nothing waits
    fast.close(1000, "").await.unwrap();
    settle().await;
    let mut back = login(&hub, ANNA).await;
    crate::support::assert_silent(&mut back).await;
    crate::support::assert_silent(&mut other).await;
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_that_overflows_is_not_stored_and_what_waited_for_the_user_is() {
    let hub = Hub::builder().queue(3, 1024).build();
    let slow = scripted(&hub, ANNA).await;
    assert!(hub.send(&ANNA, "x".repeat(100)).await.is_accepted());
    settle().await;
    assert!(hub.send(&ANNA, "for anna").await.is_accepted());
    for message in numbered("for all", 0..3) {
        hub.broadcast(message).await;
    }
    assert_eq!(slow.rest().await.1.unwrap().0, 4100);
    let mut back = login(&hub, ANNA).await;
    assert_eq!(text(&mut back).await, "for anna");
    crate::support::assert_silent(&mut back).await;
}

#[tokio::test(start_paused = true)]
async fn many_senders_to_one_slow_client_wait_for_nothing() {
    let hub = Hub::builder().overflow(Overflow::DropOldest).queue(10, 1024).build();
    let slow = scripted(&hub, ANNA).await;
    let before = tokio::time::Instant::now();
    join_all((0..100).map(|number| hub.send(&ANNA, format!("{number}")))).await;
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    hub.kick(&ANNA).await;
    drop(slow);
}
