//! Stores that are slow, fail and panic, and senders that do not wait.

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use ws_core::testing;
use ws_hub::{Delivery, DropReason, Hub, Login, Overflow};

use crate::support::{
    ANNA, BOB, Call, Frame, Mood, SECOND, TestStore, assert_silent, connect, connect_with, login, narrow,
    numbered, rest, scripted, settle, text, texts,
};

#[tokio::test(start_paused = true)]
async fn a_slow_store_changes_no_order() {
    let store = TestStore::slow(SECOND);
    let hub = Hub::builder().offline_store(store.clone()).build();
    let sender = {
        let hub = hub.clone();
        tokio::spawn(async move {
            for message in numbered("n", 0..200) {
                assert!(hub.send(&ANNA, message).await.is_accepted());
                sleep(SECOND / 10).await;
            }
        })
    };
    let mut all = Vec::new();
    for round in 0..6 {
        sleep(7 * SECOND + SECOND / 3 * round).await;
        let client = scripted(&hub, ANNA).await;
        sleep(9 * SECOND).await;
        hub.disconnect(&ANNA, 4000, "").await.unwrap();
        all.extend(client.rest().await.0);
    }
    sender.await.unwrap();
    let mut back = connect(&hub, ANNA);
    all.extend(texts(&mut back, 200 - all.len()).await);
    assert_eq!(all, numbered("n", 0..200));
    assert_eq!(store.texts(ANNA), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_user_who_comes_while_his_message_is_being_stored_gets_it_first() {
    let store = TestStore::slow(SECOND);
    let hub = Hub::builder().offline_store(store).build();
    let stored = tokio::spawn({
        let hub = hub.clone();
        async move { hub.send(&ANNA, "first").await }
    });
    settle().await;
    let mut client = login(&hub, ANNA).await;
    assert_eq!(hub.send(&ANNA, "second").await, Delivery::Sent(1));
    assert_eq!(texts(&mut client, 2).await, ["first", "second"]);
    assert_eq!(stored.await.unwrap(), Delivery::Stored { evicted: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_for_the_store_goes_to_a_user_who_comes_meanwhile() {
    let store = TestStore::slow(60 * SECOND);
    let hub = Hub::builder().offline_store(store).build();
    let send = |text: &'static str| {
        let hub = hub.clone();
        tokio::spawn(async move { hub.send(&ANNA, text).await })
    };
    let being_stored = send("being stored");
    settle().await;
    let waiting = send("waits to be");
    settle().await;
    let mut client = login(&hub, ANNA).await;
    let start = Instant::now();
    assert_eq!(waiting.await.unwrap(), Delivery::Sent(1));
    assert!(start.elapsed() < SECOND);
    assert_eq!(texts(&mut client, 2).await, ["being stored", "waits to be"]);
    assert_eq!(being_stored.await.unwrap(), Delivery::Stored { evicted: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_of_one_user_delays_no_other() {
    let store = TestStore::slow(60 * SECOND);
    let hub = Hub::builder().offline_store(store).build();
    let mut bob = connect(&hub, BOB);
    sleep(200 * SECOND).await;
    let before = Instant::now();
    tokio::spawn({
        let hub = hub.clone();
        async move { hub.send(&ANNA, "stored slowly").await }
    });
    settle().await;
    assert_eq!(hub.send(&BOB, "at once").await, Delivery::Sent(1));
    assert_eq!(text(&mut bob).await, "at once");
    assert!(before.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_connection_ends_is_gone_though_the_store_does_not_answer() {
    let store = TestStore::default();
    let hub = Hub::builder().offline_store(store.clone()).build();
    store.put(ANNA, &numbered("n", 0..3));
    store.feels(Call::Peek, Mood::Slow(3600 * SECOND));
    // its handler does not look, either
    let client = connect_with(&hub, ANNA, async |member| {
        sleep(24 * 3600 * SECOND).await;
        drop(member);
    });
    settle().await;
    assert_eq!(hub.send(&ANNA, "n 3").await, Delivery::Sent(1));
    drop(client);
    settle().await;
    assert!(!hub.is_online(&ANNA));
    store.feels(Call::Peek, None);
    assert_eq!(texts(&mut login(&hub, ANNA).await, 4).await, numbered("n", 0..4));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_drops_messages_and_says_so_and_live_ones_go_on() {
    let store = TestStore::default();
    let hub = Hub::builder().offline_store(store.clone()).build();
    for mood in [Mood::Fails, Mood::Panics] {
        store.feels(Call::Push, mood);
        assert_eq!(hub.send(&ANNA, "lost").await, Delivery::Dropped(DropReason::Store));
        store.feels(Call::Push, None);
        assert_eq!(hub.send(&ANNA, "kept").await, Delivery::Stored { evicted: 0 });

        store.feels(Call::Peek, mood);
        let mut client = login(&hub, ANNA).await;
        assert_eq!(hub.send(&ANNA, "live").await, Delivery::Sent(1));
        assert_eq!(text(&mut client).await, "live");
        client.close(1000, "").await.unwrap();
        settle().await;

        store.feels(Call::Peek, None);
        store.feels(Call::Remove, mood);
        let mut client = login(&hub, ANNA).await;
        assert_eq!(hub.send(&ANNA, "live").await, Delivery::Sent(1));
        assert_eq!(text(&mut client).await, "live");
        client.close(1000, "").await.unwrap();
        settle().await;

        store.feels(Call::Remove, None);
        let mut client = login(&hub, ANNA).await;
        assert_eq!(text(&mut client).await, "kept", "it has stayed where it was");
        client.close(1000, "").await.unwrap();
        settle().await;
    }
    assert_eq!(hub.stats().failed, 6);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_once_loses_one_message_and_the_others_come_in_order() {
    let store = TestStore::default();
    let hub = Hub::builder().offline_store(store.clone()).build();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    store.feels(Call::Push, Mood::Slow(SECOND));
    hub.disconnect(&ANNA, 4000, "").await.unwrap();
    drop(slow);
    settle().await;
    // the one that is being stored is; the next one is not
    store.feels(Call::Push, Mood::Panics);
    sleep(2 * SECOND).await;
    store.feels(Call::Push, None);
    assert_eq!(hub.send(&ANNA, "n 20").await, Delivery::Stored { evicted: 0 });
    let stored = store.texts(ANNA);
    let mut sorted = stored.clone();
    sorted.sort_by_key(|text| text.split(' ').nth(1).unwrap().parse::<u32>().unwrap());
    assert_eq!(stored, sorted);
    assert_eq!(stored.last().unwrap(), "n 20");
    assert_silent(&mut login(&hub, BOB).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_midway_leaves_the_order_and_the_next_ones_alone() {
    let store = TestStore::default();
    let hub = Hub::builder().offline_store(store.clone()).build();
    store.feels(Call::Push, Mood::Slow(SECOND));
    let mut sent = Vec::new();
    for message in numbered("n", 0..10) {
        // it is dropped before the store has it, or after
        if message.ends_with(['0', '3', '6', '9']) {
            let _ = tokio::time::timeout(SECOND / 2, hub.send(&ANNA, message)).await;
        } else {
            assert!(hub.send(&ANNA, message.as_str()).await.is_accepted());
            sent.push(message);
        }
    }
    assert_eq!(store.texts(ANNA), sent);
    assert!(hub.send(&BOB, "never polled on").now_or_never().is_none());
    settle().await;
    assert_eq!(store.texts(BOB), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_attached_future_that_is_dropped_while_messages_are_taken_out_loses_none() {
    for delay in 0..40 {
        let store = TestStore::default();
        let hub = Hub::builder().offline_store(store.clone()).build();
        store.put(ANNA, &numbered("n", 0..10));
        for call in [Call::Push, Call::Restore, Call::Peek, Call::Remove] {
            store.feels(call, Mood::Slow(SECOND));
        }
        let (stream, client) = tokio::io::duplex(16);
        let task = tokio::spawn(testing::accept(&narrow(), stream, {
            let hub = hub.clone();
            async move |socket| hub.attach(ANNA, socket).await
        }));
        sleep(SECOND / 4 * delay + SECOND / 8).await;
        task.abort();
        let _ = task.await;
        drop(client);
        let mut back = connect(&hub, ANNA);
        // the first few were in the connection's own buffer, if it came as far as that
        let first = text(&mut back).await;
        let start: usize = first.strip_prefix("n ").unwrap().parse().unwrap();
        assert!(start == 0 || delay >= 16 && start <= 4, "{first} after {delay}");
        assert_eq!(texts(&mut back, 9 - start).await, numbered("n", start + 1..10), "after {delay}");
        assert_silent(&mut back).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_replaced_while_the_store_is_slow_hands_over() {
    for delay in 0..40 {
        let store = TestStore::slow(SECOND);
        let hub = Hub::builder().offline_store(store.clone()).build();
        store.put(ANNA, &numbered("n", 0..5));
        let first = connect(&hub, ANNA);
        sleep(SECOND / 4 * delay + SECOND / 8).await;
        assert!(hub.send(&ANNA, "n 5").await.is_accepted());
        let mut second = connect(&hub, ANNA);
        let (mut all, close) = rest(first).await;
        assert_eq!(close.unwrap().0, 4001);
        all.extend(texts(&mut second, 6 - all.len()).await);
        assert_eq!(all, numbered("n", 0..6), "after {delay}");
        assert_silent(&mut second).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_connection_leaves_while_one_takes_a_batch_is_not_left_in_the_store() {
    let store = TestStore::default();
    let hub = Hub::builder()
        .login(Login::AllowMany(3))
        .queue(5, 1024)
        .overflow(Overflow::DropNewest)
        .offline_store(store.clone())
        .build();
    // none of them reads, and each gets what there is no room for in the queues of those before
    let mut clients = Vec::new();
    for prefix in ["first", "second", "third"] {
        clients.push(scripted(&hub, ANNA).await);
        // the first message is in the connection's own buffer
        for message in [vec!["x".repeat(100)], numbered(prefix, 0..5)].concat() {
            assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
            settle().await;
        }
    }
    let (third, second) = (clients.pop().unwrap(), clients.pop().unwrap());
    drop(second);
    settle().await;
    // the first one is taking what the second one left when the third one goes
    drop(third);
    settle().await;
    let mut got = Vec::new();
    let mut first = clients.pop().unwrap();
    while let Ok(Some(Frame::Text(text))) = tokio::time::timeout(SECOND, first.next()).await {
        got.push(text);
    }
    assert_eq!(store.texts(ANNA), Vec::<String>::new());
    assert_eq!(got[1..], ["second", "third", "first"].map(|prefix| numbered(prefix, 0..5)).concat());
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_until_the_store_has_what_was_not_sent() {
    let store = TestStore::default();
    let hub = Hub::builder().offline_store(store.clone()).build();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    store.feels(Call::Push, Mood::Slow(SECOND));
    let (drained, (mut got, close)) =
        tokio::join!(hub.drain(ws_core::Drain::new().timeout(60 * SECOND)), slow.rest());
    assert_eq!((drained.closed, drained.remaining, close.unwrap().0), (1, 0, 1001));
    got.extend(store.texts(ANNA));
    assert_eq!(got, numbered("n", 0..20));
}
