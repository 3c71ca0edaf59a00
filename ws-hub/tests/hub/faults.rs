//! Bursts, late and lost answers, logs and backplanes that fail: what must not happen then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use ws_core::{Error, WebSocketLayer, testing};
use ws_hub::{
    Answer, Call, Delivery, Event, Guarantee, Health, Hub, HubBuilder, InProcess, Login, MemoryLog, Overflow,
    Push, Signal,
};

use crate::support::{
    ANNA, BOB, Call as LogCall, Mood, SECOND, TestLog, assert_silent, connect, connect_with, login, narrow,
    numbered, rest, scripted, scripted_with, settle, soon, text, texts,
};

type Built = fn(HubBuilder<u64>) -> HubBuilder<u64>;

/// Two hubs over one log, and a third node, which nobody uses, to tell what is to go wrong.
fn nodes_over(log: &TestLog, build: Built) -> ([Hub<u64>; 2], InProcess<u64>) {
    let controls = InProcess::over(log.clone());
    let nodes = [controls.another(), controls.another()];
    (nodes.map(|node| build(Hub::builder().backplane(node)).build()), controls)
}

fn nodes(build: Built) -> ([Hub<u64>; 2], InProcess<u64>) {
    nodes_over(&TestLog::default(), build)
}

fn replacing(hub: HubBuilder<u64>) -> HubBuilder<u64> {
    hub
}

fn rejecting(hub: HubBuilder<u64>) -> HubBuilder<u64> {
    hub.login(Login::RejectNew)
}

fn two_each(hub: HubBuilder<u64>) -> HubBuilder<u64> {
    hub.login(Login::AllowMany(2))
}

#[tokio::test(start_paused = true)]
async fn a_burst_to_a_client_that_reads_arrives_as_a_whole_whatever_an_overflow_would_do() {
    for overflow in [Overflow::Disconnect, Overflow::DropOldest, Overflow::DropNewest] {
        let hub = Hub::builder().overflow(overflow).build();
        let mut client = login(&hub, ANNA).await;
        for message in numbered("all", 0..150) {
            assert_eq!(hub.broadcast(message).await.here, 1, "{overflow:?}");
        }
        for message in numbered("anna", 0..150) {
            assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1), "{overflow:?}");
        }
        assert_eq!(texts(&mut client, 150).await, numbered("all", 0..150));
        assert_eq!(texts(&mut client, 150).await, numbered("anna", 0..150));
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_chat_who_sends_150_messages_at_once_throws_nobody_out() {
    let hub = Hub::new();
    let mut clients = Vec::new();
    for user in 0..11 {
        clients.push(connect_with(&hub, user, async |mut member| {
            member.join("lobby").await.unwrap();
            while let Some(message) = member.recv().await {
                let message = message?;
                member.hub().room("lobby").except(member.user()).send(message).await;
            }
            Ok::<_, Error>(())
        }));
    }
    settle().await;
    let mut author = clients.remove(0);
    for message in numbered("n", 0..150) {
        author.send(message).await.unwrap();
    }
    for client in &mut clients {
        assert_eq!(texts(client, 150).await, numbered("n", 0..150));
    }
    assert_eq!((hub.stats().connections, hub.stats().overflowed), (11, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_sends_its_own_user_150_messages_at_login_is_not_closed() {
    for builder in [Hub::builder(), Hub::builder().without_log()] {
        let hub = builder.build();
        let mut client = connect_with(&hub, ANNA, async |mut member| {
            for message in numbered("missed", 0..150) {
                assert_eq!(member.hub().send(member.user(), message).await, Delivery::Sent(1));
            }
            while let Some(Ok(_)) = member.recv().await {}
        });
        assert_eq!(texts(&mut client, 150).await, numbered("missed", 0..150));
        assert_eq!((hub.stats().overflowed, hub.is_online(&ANNA)), (0, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_tells_all_who_comes_and_goes_closes_nobody_when_150_come_at_once() {
    const CLIENTS: u64 = 150;
    let hub = Hub::new();
    let (mut events, telling) = (hub.events(), hub.clone());
    let teller = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::Online(user) | Event::Offline(user) = event {
                telling.broadcast(format!("{user} comes or goes")).await;
            }
        }
    });
    let mut readers = JoinSet::new();
    for user in 0..CLIENTS {
        let mut client = connect(&hub, user);
        readers.spawn(async move { while let Some(Ok(_)) = client.recv().await {} });
    }
    settle().await;
    for user in 0..CLIENTS / 2 {
        hub.kick(&user).await.unwrap();
    }
    settle().await;
    let stats = hub.stats();
    assert_eq!((stats.connections as u64, stats.overflowed), (CLIENTS - CLIENTS / 2, 0));
    teller.abort();
}

#[tokio::test(start_paused = true)]
async fn an_attached_future_that_is_dropped_in_the_midst_of_its_login_locks_nobody_out() {
    for answer in [Answer::Hang, Answer::Slow(SECOND), Answer::Forget] {
        let ([here, there], controls) = nodes(rejecting);
        controls.faults().on_call(move |call| if call == Call::Login { answer } else { Answer::Normal });
        let (stream, client) = tokio::io::duplex(1024);
        let task = tokio::spawn(testing::accept(&WebSocketLayer::new(), stream, {
            let here = here.clone();
            async move |socket| here.attach(ANNA, socket).await
        }));
        sleep(SECOND * 3 / 2).await;
        task.abort();
        drop(client);
        let _ = task.await;
        controls.faults().clear();
        sleep(SECOND).await;
        assert_eq!(there.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new(), "{answer:?}");
        assert_eq!(here.send(&ANNA, "stored").await, Delivery::Stored { evicted: 0 });
        assert_eq!(text(&mut login(&there, ANNA).await).await, "stored");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attached_future_that_is_dropped_in_the_midst_of_its_logout_locks_nobody_out() {
    let ([here, there], controls) = nodes(rejecting);
    controls.faults().on_call(|call| match call {
        Call::Logout => Answer::Slow(SECOND),
        _ => Answer::Normal,
    });
    let (stream, client) = tokio::io::duplex(1024);
    let task = tokio::spawn(testing::accept(&WebSocketLayer::new(), stream, {
        let here = here.clone();
        async move |socket| here.attach(ANNA, socket).await
    }));
    settle().await;
    assert!(here.is_online(&ANNA));
    drop(client);
    sleep(SECOND / 2).await;
    task.abort();
    let _ = task.await;
    sleep(10 * SECOND).await;
    assert_eq!(there.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_given_up_while_the_log_is_slow_and_the_peer_is_gone_leaves_nobody_online() {
    let log = TestLog::slow(10 * SECOND);
    let ([here, there], _controls) = nodes_over(&log, rejecting);
    let (server, client) = testing::pair();
    drop(client);
    assert!(timeout(3 * SECOND, here.attach(ANNA, server)).await.is_err());
    sleep(60 * SECOND).await;
    assert_eq!(there.online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_backplane_that_panics_in_a_call_leaves_everything_as_if_it_had_failed() {
    let calls = [
        Call::Append,
        Call::Read,
        Call::Acknowledge,
        Call::Login,
        Call::Logout,
        Call::Reassert,
        Call::Close,
        Call::Publish,
        Call::Connections,
        Call::Online,
    ];
    for panics in calls {
        let ([here, there], controls) = nodes(replacing);
        let (bob, mut carl) = (login(&here, BOB).await, login(&there, 3).await);
        controls.faults().on_call(move |call| if call == panics { Answer::Panic } else { Answer::Normal });
        let client = connect(&here, ANNA);
        settle().await;
        let _ = here.send(&BOB, "perhaps").await;
        here.broadcast("perhaps").await;
        let _ = here.kick(&BOB).await;
        let _ = here.online_everywhere(None, 10).await;
        let _ = here.are_online_anywhere(&[ANNA]).await;
        drop((client, bob));
        settle().await;
        controls.faults().clear();
        sleep(60 * SECOND).await;
        assert_eq!(there.online_everywhere(None, 10).await.unwrap().users, [3], "{panics:?}");
        let mut anna = login(&here, ANNA).await;
        assert!(here.send(&ANNA, "after").await.is_accepted());
        assert_eq!(text(&mut anna).await, "after", "{panics:?}");
        assert_eq!(here.broadcast("after").await.here, 1);
        while text(&mut carl).await != "after" {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends() {
    let ([here, _there], controls) = nodes(replacing);
    controls.faults().on_call(|_| Answer::Hang);
    assert!(soon(here.kick(&ANNA)).await.is_err());
    assert!(soon(here.online_everywhere(None, 10)).await.is_err());
    assert!(soon(here.are_online_anywhere(&[ANNA])).await.is_err());
    assert!(soon(here.broadcast("hello")).await.others.is_err());
    assert_eq!(soon(here.send(&ANNA, "hello")).await, Delivery::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_closed_in_time_though_its_logout_has_no_answer() {
    let begun = Instant::now();
    let ([here, _there], controls) = nodes(replacing);
    let (anna, bob) = (login(&here, ANNA).await, login(&here, BOB).await);
    controls.faults().on_call(|_| Answer::Hang);
    let refused = connect(&here, 3);
    let kicks = tokio::join!(here.kick(&ANNA), here.kick(&BOB));
    assert!(kicks.0.is_err() && kicks.1.is_err());
    let codes = tokio::join!(rest(anna), rest(bob), rest(refused));
    let codes = [codes.0.1, codes.1.1, codes.2.1].map(|frame| frame.map(|(code, _)| code));
    assert_eq!(codes, [Some(4003), Some(4003), Some(1013)]);
    // a call has five seconds, and a logout is tried ten times
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_login_elsewhere_while_a_message_is_written_gets_it_and_in_order() {
    let log = TestLog::default();
    let ([here, there], _controls) = nodes_over(&log, replacing);
    log.feels(LogCall::Append, Mood::Slow(SECOND));
    let sending = tokio::spawn({
        let here = here.clone();
        async move { here.send(&ANNA, "first").await }
    });
    settle().await;
    let mut anna = login(&there, ANNA).await;
    assert_eq!(text(&mut anna).await, "first");
    assert_eq!(sending.await.unwrap(), Delivery::Sent(1));
    assert_eq!(here.send(&ANNA, "second").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "second");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_replaced_before_it_is_answered_does_not_stay() {
    let ([here, there], controls) = nodes(replacing);
    let logins = AtomicUsize::new(0);
    controls.faults().on_call(move |call| {
        // it is done after a second, and answered after two
        let is_first = call == Call::Login && logins.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first { Answer::Slow(SECOND) } else { Answer::Normal }
    });
    let first = connect(&here, ANNA);
    sleep(SECOND * 3 / 2).await;
    let mut second = login(&there, ANNA).await;
    assert_eq!(rest(first).await.1.unwrap().0, 4001);
    assert!(!here.is_online(&ANNA));
    assert_eq!(here.send(&ANNA, "to one").await, Delivery::Sent(1));
    assert_eq!(text(&mut second).await, "to one");
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_kicked_while_they_log_in_is_told_so() {
    let ([here, there], controls) = nodes(replacing);
    controls.faults().on_call(|call| match call {
        Call::Login => Answer::Slow(SECOND),
        _ => Answer::Normal,
    });
    let client = connect(&here, ANNA);
    sleep(SECOND * 3 / 2).await;
    there.kick(&ANNA).await.unwrap();
    assert_eq!(rest(client).await.1.unwrap().0, 4003);
    assert!(!here.is_online(&ANNA));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_connection_did_not_confirm_comes_first_and_in_order_on_another_node() {
    let ([here, there], _controls) = nodes(|hub| hub.guarantee(Guarantee::AtLeastOnce));
    let mut dead = scripted(&here, ANNA).await;
    for message in numbered("m", 0..4) {
        assert_eq!(here.send(&ANNA, message.as_str()).await, Delivery::Sent(1));
        assert_eq!(dead.text().await, message);
    }
    // its pongs come with what it reads next
    assert!(timeout(SECOND, dead.next()).await.is_err());
    for message in numbered("m", 4..8) {
        assert_eq!(here.send(&ANNA, message).await, Delivery::Sent(1));
    }
    let mut back = login(&there, ANNA).await;
    assert_eq!(texts(&mut back, 4).await, numbered("m", 4..8));
    sleep(60 * SECOND).await;
    assert_silent(&mut back).await;
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_kicked_on_both_nodes_before_a_message_arrives_gets_it_at_their_next_login() {
    let ([here, there], controls) = nodes(two_each);
    let third = Hub::builder().login(Login::AllowMany(2)).backplane(controls.another()).build();
    let (first, second) = (login(&here, ANNA).await, login(&there, ANNA).await);
    // the signals are under way
    controls.faults().on_push(|signal| match signal {
        Signal::Entry { .. } => Push::Delay(SECOND),
        _ => Push::Deliver,
    });
    assert_eq!(third.send(&ANNA, "kept").await, Delivery::Sent(2));
    here.kick(&ANNA).await.unwrap();
    there.kick(&ANNA).await.unwrap();
    assert_eq!((rest(first).await.0, rest(second).await.0), (vec![], vec![]));
    sleep(2 * SECOND).await;
    assert_eq!(text(&mut login(&third, ANNA).await).await, "kept");
}

#[tokio::test(start_paused = true)]
async fn stored_messages_come_once_to_a_user_who_logs_in_on_two_nodes_at_once() {
    for mood in [None, Some(Mood::Slow(SECOND / 10)), Some(Mood::Yields)] {
        let log = TestLog::default();
        let ([here, there], _controls) = nodes_over(&log, two_each);
        log.put(ANNA, &numbered("n", 0..3));
        for call in [LogCall::Read, LogCall::Acknowledge] {
            log.feels(call, mood);
        }
        let mut clients = [connect(&here, ANNA), connect(&there, ANNA)];
        let mut got = Vec::new();
        for client in &mut clients {
            while let Ok(Some(Ok(message))) = timeout(10 * SECOND, client.recv()).await {
                got.push(message.as_text().unwrap().to_owned());
            }
        }
        assert_eq!(got, numbered("n", 0..3), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_signal_to_one_of_two_nodes_is_lost_comes_with_the_next_one() {
    let ([here, there], controls) = nodes(two_each);
    let third = Hub::builder().login(Login::AllowMany(2)).backplane(controls.another()).build();
    let (mut first, mut second) = (login(&here, ANNA).await, login(&there, ANNA).await);
    let pushes = AtomicUsize::new(0);
    controls.faults().on_push(move |_| {
        if pushes.fetch_add(1, Ordering::Relaxed) == 0 { Push::Lose } else { Push::Deliver }
    });
    assert_eq!(third.send(&ANNA, "n 0").await, Delivery::Sent(2));
    assert_eq!(third.send(&ANNA, "n 1").await, Delivery::Sent(2));
    for client in [&mut first, &mut second] {
        assert_eq!(texts(client, 2).await, numbered("n", 0..2));
        assert_silent(client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_while_a_connection_ends_loses_nothing() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::AtMostOnce] {
        let log = TestLog::default();
        let hub = Hub::builder().guarantee(guarantee).log(log.clone()).build();
        let mut slow = scripted(&hub, ANNA).await;
        slow.pongs = false;
        for message in numbered("n", 0..20) {
            assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
        }
        settle().await;
        for call in [LogCall::Append, LogCall::Read, LogCall::Acknowledge, LogCall::GiveBack] {
            log.feels(call, Mood::Fails);
        }
        drop(slow);
        sleep(SECOND).await;
        for call in [LogCall::Append, LogCall::Read, LogCall::Acknowledge, LogCall::GiveBack] {
            log.feels(call, None);
        }
        sleep(60 * SECOND).await;
        let got = log.texts(ANNA);
        // at most once, what was in the buffers of the connection is lost
        let expected = if guarantee == Guarantee::AtLeastOnce { 20 } else { 16 };
        assert!(got.len() >= expected, "{guarantee:?}: {got:?}");
        assert_eq!(got, numbered("n", 20 - got.len()..20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_slow_for_one_user_holds_up_no_signals_of_a_node() {
    let log = TestLog::default();
    let ([here, there], _controls) = nodes_over(&log, replacing);
    let mut bob = login(&there, BOB).await;
    let anna = login(&there, ANNA).await;
    log.feels(LogCall::Read, Mood::Slow(20 * SECOND));
    log.feels(LogCall::Acknowledge, Mood::Slow(20 * SECOND));
    for message in numbered("n", 0..20) {
        assert_eq!(here.send(&ANNA, message).await, Delivery::Sent(1));
    }
    there.kick(&ANNA).await.unwrap();
    let _again = connect(&there, ANNA);
    settle().await;
    let before = Instant::now();
    here.everyone().send("to bob").await;
    assert_eq!(text(&mut bob).await, "to bob");
    assert!(before.elapsed() < SECOND);
    drop(anna);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_not_answered_while_messages_wait_asks_the_log_for_nothing() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).queue(2, 1024).build();
    let attaching = hub.clone();
    let layer = narrow().close_timeout(3600 * SECOND);
    let client = scripted_with(&layer, async move |socket| {
        let busy = async |member: ws_hub::Member<u64>| {
            sleep(1800 * SECOND).await;
            drop(member);
        };
        attaching.attach_with(ANNA, socket, busy).await
    })
    .await;
    for message in numbered("n", 0..50) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    settle().await;
    hub.kick(&ANNA).await.unwrap();
    settle().await;
    let before = log.calls();
    for message in numbered("n", 50..60) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Stored { evicted: 0 });
    }
    sleep(600 * SECOND).await;
    let calls = log.calls() - before;
    assert!(calls <= 10 + 5, "{calls} calls");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn small_messages_of_many_users_stay_within_the_bound_of_all() {
    const USERS: u64 = 20_000;
    let bound = 1024 * 1024;
    let hub = Hub::builder().log(Arc::new(MemoryLog::new().in_all(bound))).build();
    let mut evicted = 0;
    for user in 0..USERS {
        match hub.send(&user, "x").await {
            Delivery::Stored { evicted: now } => evicted += now,
            other => panic!("{other:?}"),
        }
    }
    // a user takes 256 bytes and twice the size of their id, a message its length and 128 bytes
    let kept = bound / (256 + 16 + 128 + 1);
    assert_eq!(evicted, usize::try_from(USERS).unwrap() - kept);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_hub_blocks_nobody() {
    let ([here, there], _without_a_hub) = nodes(replacing);
    let mut anna = login(&there, ANNA).await;
    let before = Instant::now();
    for number in 0..5_000 {
        let reach = here.broadcast(number.to_string()).await;
        assert_eq!(reach.others.unwrap(), 2);
        if number % 100 == 99 {
            yield_now().await;
        }
    }
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    assert_eq!(text(&mut anna).await, "0");
}

/// Two nodes whose leases can be ended.
fn leased(log: &TestLog, build: Built) -> ([Hub<u64>; 2], [Arc<InProcess<u64>>; 2]) {
    let first = InProcess::over(log.clone());
    let nodes = [Arc::new(first.another()), Arc::new(first)];
    (nodes.each_ref().map(|node| build(Hub::builder().backplane(Arc::clone(node))).build()), nodes)
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_that_were_thought_to_be_gone_the_newer_login_replaces_the_older_one() {
    for is_older_first in [true, false] {
        let (hubs, nodes) = leased(&TestLog::default(), replacing);
        nodes[0].end_lease();
        nodes[0].renew_lease();
        // each of them thinks that its login is the only one
        let older = login(&hubs[0], ANNA).await;
        nodes[0].faults().on_push(|_| Push::Lose);
        let newer = login(&hubs[1], ANNA).await;
        nodes[0].faults().clear();
        for node in &nodes {
            node.end_lease();
        }
        for node in if is_older_first { [0, 1] } else { [1, 0] } {
            nodes[node].renew_lease();
            settle().await;
        }
        assert_eq!(rest(older).await.1.unwrap().0, 4001);
        assert_eq!((hubs[0].is_online(&ANNA), hubs[1].is_online(&ANNA)), (false, true));
        drop(newer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_whose_node_was_thought_to_be_gone_gets_everything_at_most_once() {
    let log = TestLog::default();
    let (hubs, nodes) = leased(&log, replacing);
    let mut slow = scripted(&hubs[0], ANNA).await;
    for message in numbered("n", 0..20) {
        assert_eq!(hubs[1].send(&ANNA, message).await, Delivery::Sent(1));
    }
    settle().await;
    nodes[0].end_lease();
    settle().await;
    nodes[0].renew_lease();
    settle().await;
    for expected in numbered("n", 0..20) {
        assert_eq!(slow.text().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn logins_are_asserted_until_there_is_an_answer() {
    let (hubs, nodes) = leased(&TestLog::default(), replacing);
    let mut client = login(&hubs[0], ANNA).await;
    nodes[0].faults().on_call(|call| if call == Call::Reassert { Answer::Refuse } else { Answer::Normal });
    nodes[0].end_lease();
    nodes[0].renew_lease();
    settle().await;
    assert_eq!(hubs[1].online_everywhere(None, 10).await.unwrap().users, Vec::<u64>::new());
    nodes[0].faults().clear();
    sleep(10 * SECOND).await;
    assert_eq!(hubs[1].send(&ANNA, "hello").await, Delivery::Sent(1));
    assert_eq!(text(&mut client).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_learns_from_an_acknowledgement_that_it_is_over_counts_no_more() {
    // the log answers at once
    let nodes = [InProcess::new()];
    let nodes = [nodes[0].another(), nodes.into_iter().next().unwrap()].map(Arc::new);
    let hubs = nodes.each_ref().map(|node| Hub::builder().backplane(Arc::clone(node)).build());
    let older = login(&hubs[0], ANNA).await;
    nodes[0].faults().on_push(|_| Push::Lose);
    let mut newer = login(&hubs[1], ANNA).await;
    nodes[0].faults().clear();
    assert!(hubs[0].send(&ANNA, "hello").await.is_accepted());
    assert_eq!(text(&mut newer).await, "hello");
    assert_eq!(rest(older).await.1.unwrap().0, 4001);
    settle().await;
    assert_eq!((hubs[0].stats().connections, hubs[0].is_online(&ANNA)), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_may_have_missed_something_is_syncing_until_its_logins_are_asserted() {
    let (hubs, nodes) = leased(&TestLog::default(), replacing);
    let _client = login(&hubs[0], ANNA).await;
    assert_eq!(hubs[0].health(), Health::Up);
    nodes[0].faults().on_call(|call| match call {
        Call::Reassert => Answer::Slow(SECOND),
        _ => Answer::Normal,
    });
    nodes[0].end_lease();
    nodes[0].renew_lease();
    sleep(SECOND / 2).await;
    assert_eq!((hubs[0].health(), hubs[1].health()), (Health::Syncing, Health::Up));
    sleep(2 * SECOND).await;
    assert_eq!(hubs[0].health(), Health::Up);
}
