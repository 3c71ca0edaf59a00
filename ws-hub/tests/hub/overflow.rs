//! Clients that read too slowly.

use futures_util::future::join_all;
use ws_hub::{Delivery, DropReason, Hub, Login, Overflow};

use crate::support::{ANNA, BOB, login, numbered, scripted, settle, soon, text, texts};

#[tokio::test(start_paused = true)]
async fn a_queue_of_100_disconnects_at_the_message_after() {
    let hub = Hub::new();
    let slow = scripted(&hub, ANNA).await;
    assert!(hub.send(&ANNA, "x".repeat(100)).await.is_accepted());
    settle().await;
    // that one is in the connection's own buffer
    for message in numbered("waits", 0..100) {
        assert_eq!(hub.broadcast(message).await.here, 1);
    }
    settle().await;
    assert_eq!(hub.stats().overflowed, 0);
    assert_eq!(hub.broadcast("waits 100").await.here, 0);
    assert!(!hub.is_online(&ANNA));
    assert_eq!((hub.stats().overflowed, hub.stats().dropped), (1, 1));
    assert_eq!(hub.send(&ANNA, "for the next login").await, Delivery::Stored { evicted: 0 });

    // no gaps: what it has got is a prefix
    let (got, close) = slow.rest().await;
    assert_eq!(got, ["x".repeat(100)]);
    assert_eq!(close, Some((4100, "messages come faster than they are read".to_owned())));
    assert_eq!(text(&mut login(&hub, ANNA).await).await, "for the next login");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_is_never_too_slow_however_many_messages_are_sent_at_once() {
    const COUNT: usize = 5_000;
    for hub in [Hub::new(), Hub::builder().without_log().build()] {
        let mut client = login(&hub, ANNA).await;
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            while got.len() < 3 * COUNT {
                got.push(text(&mut client).await);
            }
            got
        });
        hub.join(&ANNA, "lobby").await.unwrap();
        // each loop is one that other tasks of the thread have no turn in, but for what the hub leaves them
        for number in 0..COUNT {
            assert_eq!(hub.broadcast(format!("all {number} {}", "x".repeat(100))).await.here, 1);
        }
        for number in 0..COUNT {
            assert_eq!(hub.room("lobby").send(format!("room {number} {}", "x".repeat(100))).await.here, 1);
        }
        for number in 0..COUNT {
            let text = format!("user {number} {}", "x".repeat(100));
            assert_eq!(hub.send(&ANNA, text).await, Delivery::Sent(1));
        }
        let mut got = soon(reading).await.unwrap().into_iter();
        for what in ["all", "room", "user"] {
            for number in 0..COUNT {
                assert!(got.next().unwrap().starts_with(&format!("{what} {number} ")));
            }
        }
        let stats = hub.stats();
        assert_eq!((stats.overflowed, stats.evicted, stats.dropped), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_or_the_newest_can_go_instead() {
    for (overflow, kept) in [(Overflow::DropOldest, 5..15), (Overflow::DropNewest, 0..10)] {
        let hub = Hub::builder().queue(10, 1024).overflow(overflow).without_log().build();
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
    let hub = Hub::builder().without_log().build();
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
    let hub = Hub::builder().queue(10, 10).without_log().build();
    let mut client = login(&hub, ANNA).await;
    assert_eq!(hub.send(&ANNA, "01234567890").await, Delivery::Dropped(DropReason::TooLarge));
    assert_eq!(hub.broadcast("01234567890").await.here, 0);
    assert_eq!(hub.send(&ANNA, "0123456789").await, Delivery::Sent(1));
    assert_eq!(text(&mut client).await, "0123456789");
    assert_eq!(hub.stats().dropped, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_sent_after_the_decision_to_disconnect() {
    let hub = Hub::builder().without_log().build();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("waits", 0..20) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    settle().await;
    assert_eq!(hub.kick(&ANNA).await.unwrap(), 1);
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
    let hub = Hub::builder().login(Login::AllowMany(2)).queue(5, 1024).without_log().build();
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
    for message in numbered("for all", 0..4) {
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
    hub.kick(&ANNA).await.unwrap();
    drop(slow);
}
