//! Messages for users who are away, in memory.

use std::time::Duration;

use ws_hub::{Delivery, DropReason, Hub, Login, MemoryLog};

use crate::support::{
    ANNA, BOB, SECOND, assert_silent, connect, login, numbered, rest, scripted, settle, text, texts,
};

#[tokio::test(start_paused = true)]
async fn stored_messages_come_first_and_live_ones_after_them_without_an_overflow() {
    let hub = Hub::new();
    for message in numbered("stored", 0..250) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Stored { evicted: 0 });
    }
    // it has not read anything when the others are sent
    let mut client = scripted(&hub, ANNA).await;
    for message in numbered("live", 0..100) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    for expected in numbered("stored", 0..250).into_iter().chain(numbered("live", 0..100)) {
        assert_eq!(client.text().await, expected);
    }
    assert_eq!((hub.stats().overflowed, hub.stats().sent), (0, 350));
}

#[tokio::test(start_paused = true)]
async fn more_than_the_queue_takes_while_it_catches_up_waits_in_the_log() {
    let hub = Hub::new();
    for message in numbered("stored", 0..80) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    let mut slow = scripted(&hub, ANNA).await;
    for message in numbered("live", 0..120) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    for expected in [numbered("stored", 0..80), numbered("live", 0..120)].concat() {
        assert_eq!(slow.text().await, expected);
    }
    assert_eq!(hub.stats().overflowed, 0);
}

#[tokio::test(start_paused = true)]
async fn each_connection_that_is_replaced_while_it_catches_up_hands_over_to_the_next() {
    let hub = Hub::new();
    for message in numbered("stored", 0..100) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    let mut all = Vec::new();
    let mut expected = numbered("stored", 0..100);
    for round in 0..10 {
        let slow = scripted(&hub, ANNA).await;
        assert!(hub.send(&ANNA, format!("live {round}")).await.is_accepted());
        expected.push(format!("live {round}"));
        let replacing = login(&hub, BOB).await;
        hub.disconnect(&ANNA, 4000, "").await.unwrap();
        all.extend(slow.rest().await.0);
        drop(replacing);
    }
    let mut last = login(&hub, ANNA).await;
    all.extend(texts(&mut last, expected.len() - all.len()).await);
    assert_eq!(all, expected);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_go_when_a_user_has_too_many() {
    let log = MemoryLog::new().per_user(10, 1024 * 1024);
    let hub = Hub::builder().log(log).build();
    for message in numbered("n", 0..10) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Stored { evicted: 0 });
    }
    for message in numbered("n", 10..15) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Stored { evicted: 1 });
    }
    assert_eq!(texts(&mut login(&hub, ANNA).await, 10).await, numbered("n", 5..15));
    assert_eq!((hub.stats().stored, hub.stats().evicted), (15, 5));
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_user_and_of_all_are_bounded() {
    // in all, a message counts as its length and 128 bytes, and a user as 256 bytes and twice the size of their id
    let log = MemoryLog::new().per_user(100, 236).in_all(2 * (256 + 16) + 2 * 128 + 236 + 136);
    let hub = Hub::builder().log(log).build();
    assert_eq!(hub.send(&ANNA, vec![0; 237]).await, Delivery::Dropped(DropReason::TooLarge));
    for (text, evicted) in [("a".repeat(118), 0), ("b".repeat(118), 0), ("c".repeat(236), 2)] {
        assert_eq!(hub.send(&ANNA, text).await, Delivery::Stored { evicted });
    }
    assert_eq!(hub.send(&BOB, "d".repeat(136)).await, Delivery::Stored { evicted: 0 });
    // the oldest of all is Anna's
    assert_eq!(hub.send(&BOB, "e").await, Delivery::Stored { evicted: 1 });
    assert_silent(&mut login(&hub, ANNA).await).await;
    assert_eq!(texts(&mut login(&hub, BOB).await, 2).await, ["d".repeat(136), "e".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_too_old_are_forgotten() {
    let log = MemoryLog::new().time_to_live(60 * SECOND);
    let hub = Hub::builder().log(log).build();
    assert!(hub.send(&ANNA, "old").await.is_accepted());
    tokio::time::sleep(40 * SECOND).await;
    assert!(hub.send(&ANNA, "new").await.is_accepted());
    tokio::time::sleep(30 * SECOND).await;
    let mut client = login(&hub, ANNA).await;
    assert_eq!(text(&mut client).await, "new");
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_store_nothing_is_kept() {
    let hub = Hub::builder().without_log().build();
    assert_eq!(hub.send(&ANNA, "gone").await, Delivery::Dropped(DropReason::Offline));
    assert_silent(&mut login(&hub, ANNA).await).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_had_not_taken_when_it_broke_is_stored() {
    let hub = Hub::new();
    let mut broken = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    assert_eq!(broken.text().await, "n 0");
    drop(broken);
    settle().await;
    assert!(!hub.is_online(&ANNA));
    let mut back = login(&hub, ANNA).await;
    let first = text(&mut back).await;
    // what was in the connection's own buffer is lost: at most once
    let start: usize = first.strip_prefix("n ").unwrap().parse().unwrap();
    assert!((1..=4).contains(&start), "{first}");
    assert_eq!(texts(&mut back, 19 - start).await, numbered("n", start + 1..20));
}

#[tokio::test(start_paused = true)]
async fn stored_messages_go_to_one_of_several_connections_and_live_ones_to_all() {
    let hub = Hub::builder().login(Login::AllowMany(3)).build();
    for message in numbered("stored", 0..3) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    let mut first = connect(&hub, ANNA);
    let mut second = connect(&hub, ANNA);
    settle().await;
    assert_eq!(hub.send(&ANNA, "live").await, Delivery::Sent(2));
    assert_eq!(texts(&mut first, 3).await, numbered("stored", 0..3));
    assert_eq!((text(&mut first).await, text(&mut second).await), ("live".into(), "live".into()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_while_it_catches_up_leaves_the_rest_to_another_one() {
    let hub = Hub::builder().login(Login::AllowMany(2)).build();
    for message in numbered("stored", 0..60) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    let slow = scripted(&hub, ANNA).await;
    let mut other = login(&hub, ANNA).await;
    assert_silent(&mut other).await;
    drop(slow);
    let got = text(&mut other).await;
    let start: usize = got.strip_prefix("stored ").unwrap().parse().unwrap();
    assert!(start < 8, "{got}");
    assert_eq!(texts(&mut other, 59 - start).await, numbered("stored", start + 1..60));
    assert_silent(&mut other).await;
}

#[tokio::test(start_paused = true)]
async fn what_only_a_dying_connection_had_goes_to_another_one() {
    {
        let hub = Hub::builder().login(Login::AllowMany(2)).build();
        let slow = scripted(&hub, ANNA).await;
        for message in numbered("early", 0..10) {
            assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
        }
        settle().await;
        let mut other = login(&hub, ANNA).await;
        assert_eq!(hub.send(&ANNA, "both").await, Delivery::Sent(2));
        assert_eq!(text(&mut other).await, "both");
        drop(slow);
        let first = text(&mut other).await;
        let start: usize = first.strip_prefix("early ").unwrap().parse().unwrap();
        assert_eq!(texts(&mut other, 9 - start).await, numbered("early", start + 1..10));
        // what both had does not come twice
        assert_silent(&mut other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_third_connection_leaves_behind_while_one_catches_up_comes_after() {
    let hub = Hub::builder().login(Login::AllowMany(3)).build();
    for message in numbered("stored", 0..40) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    // it catches up slowly
    let catching_up = scripted(&hub, ANNA).await;
    let dying = scripted(&hub, ANNA).await;
    for message in numbered("live", 0..5) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(2));
    }
    settle().await;
    // the first one ends with its copies, while the other one has most of them still
    drop(catching_up);
    settle().await;
    drop(dying);
    settle().await;
    let (mut all, mut back) = (Vec::new(), login(&hub, ANNA).await);
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SECOND, back.recv()).await {
        all.push(message.as_text().unwrap().to_owned());
    }
    let stored = all.iter().filter(|text| text.starts_with("stored")).count();
    let live = all.iter().filter(|text| text.starts_with("live")).count();
    // the few that are missing were in the buffers of the two
    assert!(stored >= 30 && live >= 1, "{all:?}");
    let mut sorted = all.clone();
    sorted.sort_by_key(|text| {
        (!text.starts_with("stored"), text.split(' ').nth(1).unwrap().parse::<u32>().unwrap())
    });
    sorted.dedup();
    assert_eq!(all, sorted);
}

#[tokio::test(start_paused = true)]
async fn a_message_sent_while_the_old_connection_closes_comes_after_what_waited() {
    let hub = Hub::new();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..10) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    settle().await;
    hub.disconnect(&ANNA, 4000, "").await.unwrap();
    // its closing handshake is not over
    for message in numbered("n", 10..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Stored { evicted: 0 });
    }
    let mut back = login(&hub, ANNA).await;
    let (mut all, _) = slow.rest().await;
    all.extend(texts(&mut back, 20 - all.len()).await);
    assert_eq!(all, numbered("n", 0..20));
    hub.disconnect(&ANNA, 4000, "").await.unwrap();
    assert_eq!(rest(back).await.0, Vec::<String>::new());
}

#[test]
fn bounds_of_nothing_are_refused_when_the_store_is_made() {
    for (messages, bytes) in [(0, 1), (1, 0)] {
        let result = std::panic::catch_unwind(|| MemoryLog::<u64>::new().per_user(messages, bytes));
        assert!(result.is_err());
    }
    assert!(std::panic::catch_unwind(|| MemoryLog::<u64>::new().in_all(0)).is_err());
    let log = MemoryLog::<u64>::new().time_to_live(Duration::from_secs(1));
    assert!(log.is_empty());
}
