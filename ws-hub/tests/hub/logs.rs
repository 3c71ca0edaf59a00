//! Logs that are slow, fail, panic and hang, and senders that do not wait.

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};
use ws_core::testing;
use ws_hub::{Answer, Delivery, DropReason, Guarantee, Hub, InProcess, MessageId};

use crate::support::{
    ANNA, BOB, Call, Mood, SECOND, TestLog, assert_silent, connect, connect_with, login, narrow, numbered,
    rest, scripted, settle, text, texts,
};

#[tokio::test(start_paused = true)]
async fn a_slow_log_changes_no_order() {
    let log = TestLog::slow(SECOND);
    let hub = Hub::builder().log(log.clone()).build();
    let sender = {
        let hub = hub.clone();
        tokio::spawn(async move {
            for message in numbered("n", 0..200) {
                assert!(hub.send(&ANNA, message).await.is_accepted());
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
        // what was acknowledged and not sent is given back
        sleep(5 * SECOND).await;
    }
    sender.await.unwrap();
    let mut back = connect(&hub, ANNA);
    all.extend(texts(&mut back, 200 - all.len()).await);
    assert_eq!(all, numbered("n", 0..200));
    settle().await;
    assert_eq!(log.texts(ANNA), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_user_who_comes_while_their_message_is_written_gets_it() {
    let log = TestLog::slow(SECOND);
    let hub = Hub::builder().log(log).build();
    let stored = tokio::spawn({
        let hub = hub.clone();
        async move { hub.send(&ANNA, "first").await }
    });
    settle().await;
    let mut client = connect(&hub, ANNA);
    assert!(hub.send(&ANNA, "second").await.is_accepted());
    assert_eq!(texts(&mut client, 2).await, ["first", "second"]);
    assert!(stored.await.unwrap().is_accepted());
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_log_of_one_user_delays_no_other() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let mut bob = login(&hub, BOB).await;
    // nobody reads it, and it is asked for at each login of Anna
    log.feels(Call::Read, Mood::Slow(SECOND));
    let _anna = connect(&hub, ANNA);
    let before = Instant::now();
    assert_eq!(hub.send(&BOB, "at once").await, Delivery::Sent(1));
    assert_eq!(text(&mut bob).await, "at once");
    assert!(before.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_has_no_answer_is_unknown_and_can_be_tried_again_with_its_id() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    log.feels(Call::Append, Mood::Hangs);
    let id = MessageId::new(7);
    let before = Instant::now();
    assert_eq!(hub.message("paid").id(id).to(&ANNA).await, Delivery::Unknown);
    assert!(before.elapsed() >= 5 * SECOND);
    log.feels(Call::Append, None);
    assert_eq!(hub.message("paid").id(id).to(&ANNA).await, Delivery::Stored { evicted: 0 });
    let mut client = login(&hub, ANNA).await;
    assert_eq!(text(&mut client).await, "paid");
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_to_many_users_is_a_few_calls_of_the_log() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let mut anna = login(&hub, ANNA).await;
    let before = log.calls();
    let users: Vec<u64> = (ANNA..=ANNA + 299).collect();
    let deliveries = hub.send_all(&users, "to all of them").await;
    assert_eq!(deliveries[0], Delivery::Sent(1));
    assert_eq!(deliveries[1..], [Delivery::Stored { evicted: 0 }; 299]);
    assert_eq!(text(&mut anna).await, "to all of them");
    assert!(log.calls() - before < 10, "{} calls", log.calls() - before);
    assert_eq!(text(&mut login(&hub, ANNA + 299).await).await, "to all of them");
    for (mood, expected) in
        [(Mood::Fails, Delivery::Dropped(DropReason::Log)), (Mood::Hangs, Delivery::Unknown)]
    {
        log.feels(Call::Append, mood);
        assert_eq!(hub.send_all(&users, "to nobody").await, [expected; 300], "{mood:?}");
    }
    assert_eq!(hub.stats().dropped, 600);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_withholds_messages_is_not_asked_without_a_pause() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    log.put(ANNA, &numbered("n", 0..3));
    log.feels(Call::Read, Mood::Withholds);
    let mut anna = connect(&hub, ANNA);
    sleep(60 * SECOND).await;
    assert!(log.calls() < 50, "{} calls in a minute", log.calls());
    log.feels(Call::Read, None);
    assert_eq!(texts(&mut anna, 3).await, numbered("n", 0..3));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_has_no_answer_is_refused_and_leaves_nothing() {
    for mood in [Mood::Hangs, Mood::Fails, Mood::Panics] {
        let log = TestLog::default();
        let hub = Hub::builder().log(log.clone()).login(ws_hub::Login::RejectNew).build();
        log.put(ANNA, &numbered("n", 0..3));
        log.feels(Call::Read, mood);
        let client = connect(&hub, ANNA);
        assert_eq!(rest(client).await.1, Some((1013, "try again later".to_owned())), "{mood:?}");
        assert!(!hub.is_online(&ANNA));
        log.feels(Call::Read, None);
        assert_eq!(texts(&mut login(&hub, ANNA).await, 3).await, numbered("n", 0..3));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attached_future_that_is_dropped_while_it_logs_in_leaves_nothing() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).login(ws_hub::Login::RejectNew).build();
    log.feels(Call::Read, Mood::Hangs);
    let (server, client) = testing::pair();
    assert!(timeout(SECOND, hub.attach(ANNA, server)).await.is_err());
    drop(client);
    log.feels(Call::Read, None);
    assert_eq!(hub.send(&ANNA, "kept").await, Delivery::Stored { evicted: 0 });
    assert_eq!(text(&mut login(&hub, ANNA).await).await, "kept");
    assert_eq!(hub.online_everywhere(None, 10).await.unwrap().users, [ANNA]);
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_connection_ends_is_gone_though_the_log_does_not_answer() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let client = connect_with(&hub, ANNA, async |member| {
        sleep(24 * 3600 * SECOND).await;
        drop(member);
    });
    settle().await;
    log.feels(Call::Read, Mood::Hangs);
    log.feels(Call::Acknowledge, Mood::Hangs);
    for message in numbered("n", 0..4) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    drop(client);
    settle().await;
    assert!(!hub.is_online(&ANNA));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_refuses_messages_and_those_that_it_took_are_delivered() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let mut client = login(&hub, ANNA).await;
    for mood in [Mood::Fails, Mood::Panics] {
        log.feels(Call::Append, mood);
        let lost = hub.send(&ANNA, "lost").await;
        // nobody knows how far it came before it panicked
        let expected =
            if mood == Mood::Fails { Delivery::Dropped(DropReason::Log) } else { Delivery::Unknown };
        assert_eq!(lost, expected);
        log.feels(Call::Append, None);
        assert_eq!(hub.send(&ANNA, "kept").await, Delivery::Sent(1));
        assert_eq!(text(&mut client).await, "kept");
    }
    // what cannot be acknowledged is not sent: it could come twice
    log.feels(Call::Acknowledge, Mood::Fails);
    assert_eq!(hub.send(&ANNA, "later").await, Delivery::Sent(1));
    assert_silent(&mut client).await;
    log.feels(Call::Acknowledge, None);
    assert_eq!(text(&mut client).await, "later");
    assert!(hub.stats().failed >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_for_a_moment_is_read_later_and_not_all_the_time() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).queue(2, 1024).build();
    let mut client = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..50) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    log.feels(Call::Read, Mood::Fails);
    let before = log.calls();
    let mut all = Vec::new();
    while let Ok(message) = timeout(60 * SECOND, client.text()).await {
        all.push(message);
    }
    assert!(log.calls() - before < 40, "{} calls", log.calls() - before);
    log.feels(Call::Read, None);
    while all.len() < 50 {
        all.push(client.text().await);
    }
    assert_eq!(all, numbered("n", 0..50));
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_midway_leaves_the_order_and_the_next_ones_alone() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let mut client = login(&hub, ANNA).await;
    log.feels(Call::Append, Mood::Slow(SECOND));
    for message in numbered("n", 0..10) {
        if message.ends_with(['0', '3', '6', '9']) {
            // what has begun is done
            let _ = timeout(SECOND / 2, hub.send(&ANNA, message)).await;
            sleep(5 * SECOND).await;
        } else {
            assert!(hub.send(&ANNA, message.as_str()).await.is_accepted());
        }
    }
    assert_eq!(texts(&mut client, 10).await, numbered("n", 0..10));
    assert!(hub.send(&BOB, "never polled again").now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_attached_future_that_is_dropped_at_any_moment_loses_nothing() {
    for delay in 0..40 {
        let log = TestLog::default();
        let hub = Hub::builder().guarantee(Guarantee::AtLeastOnce).log(log.clone()).build();
        log.put(ANNA, &numbered("n", 0..10));
        for call in [Call::Append, Call::GiveBack, Call::Read, Call::Acknowledge] {
            log.feels(call, Mood::Slow(SECOND));
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
        assert_eq!(texts(&mut back, 10).await, numbered("n", 0..10), "after {delay}");
        assert_silent(&mut back).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_replaced_while_the_log_is_slow_hands_over() {
    for delay in 0..40 {
        let log = TestLog::slow(SECOND);
        let hub = Hub::builder().guarantee(Guarantee::AtLeastOnce).log(log.clone()).build();
        log.put(ANNA, &numbered("n", 0..5));
        let first = connect(&hub, ANNA);
        sleep(SECOND / 4 * delay + SECOND / 8).await;
        let sending = tokio::spawn({
            let hub = hub.clone();
            async move { hub.send(&ANNA, "n 5").await }
        });
        settle().await;
        let mut second = connect(&hub, ANNA);
        let (got, close) = rest(first).await;
        assert_eq!(close.unwrap().0, 4001);
        let mut all = Vec::new();
        while let Ok(Some(Ok(message))) = timeout(60 * SECOND, second.recv()).await {
            all.push(message.as_text().unwrap().to_owned());
        }
        assert!(sending.await.unwrap().is_accepted());
        // what the first one got and did not confirm comes again
        let start = 6 - all.len();
        assert!(start <= got.len(), "after {delay}: {got:?}, then {all:?}");
        assert_eq!(
            (got.clone(), all),
            (numbered("n", 0..got.len()), numbered("n", start..6)),
            "after {delay}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_queue_waits_in_the_log_and_the_connection_stays() {
    for log in [None, Some(TestLog::default())] {
        let builder = Hub::builder().queue(5, 1024);
        let hub = match log {
            Some(log) => builder.log(log).build(),
            None => builder.build(),
        };
        let mut slow = scripted(&hub, ANNA).await;
        for message in numbered("n", 0..300) {
            assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
        }
        for expected in numbered("n", 0..300) {
            assert_eq!(slow.text().await, expected);
        }
        assert_eq!((hub.stats().overflowed, hub.is_online(&ANNA)), (0, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_full_before_a_slow_client_read_it_ends_the_connection() {
    let hub = Hub::builder().log(ws_hub::MemoryLog::new().per_user(100, 1024 * 1024)).queue(5, 1024).build();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..300) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    assert!(hub.stats().evicted > 100);
    let (got, close) = slow.rest().await;
    assert_eq!(close, Some((4100, "messages were removed before they were read".to_owned())));
    assert_eq!(got, numbered("n", 0..got.len()), "what it got has no gaps");
    assert_eq!(texts(&mut login(&hub, ANNA).await, 100).await, numbered("n", 200..300));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_until_all_logins_are_over() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let slow = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    log.feels(Call::GiveBack, Mood::Slow(SECOND));
    let (drained, (mut got, close)) =
        tokio::join!(hub.drain(ws_core::Drain::new().timeout(60 * SECOND)), slow.rest());
    assert_eq!((drained.closed, drained.remaining, close.unwrap().0), (1, 0, 1001));
    got.extend(log.texts(ANNA));
    assert_eq!(got, numbered("n", 0..20));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_come_is_not_said_to_wait_though_its_user_is_gone_when_the_log_answers() {
    let engine = InProcess::new();
    engine.faults().on_call(|call| match call {
        ws_hub::Call::Append => Answer::Slow(SECOND),
        _ => Answer::Normal,
    });
    let hub = Hub::builder().backplane(engine).build();
    let mut client = login(&hub, ANNA).await;
    let sending = tokio::spawn({
        let hub = hub.clone();
        async move { (hub.send(&ANNA, "one").await, hub.send_all(&[ANNA], "two").await) }
    });
    assert_eq!(text(&mut client).await, "one");
    drop(client);
    let mut client = connect(&hub, ANNA);
    assert_eq!(text(&mut client).await, "two");
    drop(client);
    assert_eq!(sending.await.unwrap(), (Delivery::Sent(1), vec![Delivery::Sent(1)]));
}
