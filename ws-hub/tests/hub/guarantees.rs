//! At most once and at least once.

use ws_core::{WebSocketLayer, testing};
use ws_hub::{Delivery, Guarantee, Hub, HubBuilder};

use crate::support::{
    ANNA, SECOND, TestLog, assert_silent, login, narrow, numbered, scripted, scripted_with, settle, text,
    texts,
};

fn at_least_once() -> (HubBuilder<u64>, TestLog) {
    let log = TestLog::default();
    (Hub::builder().guarantee(Guarantee::AtLeastOnce).log(log.clone()), log)
}

#[tokio::test(start_paused = true)]
async fn the_cursor_moves_when_the_peer_has_answered_a_ping() {
    let (builder, log) = at_least_once();
    let hub = builder.build();
    log.put(ANNA, &numbered("n", 0..3));
    let mut client = scripted(&hub, ANNA).await;
    client.pongs = false;
    for expected in numbered("n", 0..3) {
        assert_eq!(client.text().await, expected);
    }
    settle().await;
    assert_eq!(log.texts(ANNA), numbered("n", 0..3), "nothing is confirmed");
    drop(client);
    settle().await;

    let mut back = login(&hub, ANNA).await;
    assert_eq!(texts(&mut back, 3).await, numbered("n", 0..3), "they come again");
    settle().await;
    assert_eq!(log.texts(ANNA), Vec::<String>::new());
    drop(back);
    settle().await;
    assert_silent(&mut login(&hub, ANNA).await).await;
}

#[tokio::test(start_paused = true)]
async fn live_messages_come_again_unless_they_are_confirmed() {
    let (builder, log) = at_least_once();
    let hub = builder.build();
    let mut client = scripted(&hub, ANNA).await;
    assert_eq!(hub.send(&ANNA, "confirmed").await, Delivery::Sent(1));
    assert_eq!(client.text().await, "confirmed");
    // its ping is answered while it waits for the next one
    settle().await;
    assert!(tokio::time::timeout(SECOND, client.next()).await.is_err());
    client.pongs = false;
    assert_eq!(hub.send(&ANNA, "written").await, Delivery::Sent(1));
    assert_eq!(client.text().await, "written");
    assert_eq!(hub.send(&ANNA, "queued").await, Delivery::Sent(1));
    drop(client);
    settle().await;
    assert_eq!(log.texts(ANNA), ["written", "queued"]);
    assert_eq!(texts(&mut login(&hub, ANNA).await, 2).await, ["written", "queued"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_in_order_confirms_nothing_by_that() {
    for has_read in [true, false] {
        let (builder, log) = at_least_once();
        let hub = builder.build();
        let mut client = scripted(&hub, ANNA).await;
        client.pongs = false;
        assert_eq!(hub.send(&ANNA, "unconfirmed").await, Delivery::Sent(1));
        if has_read {
            assert_eq!(client.text().await, "unconfirmed");
        }
        client.close(1001).await;
        client.rest().await;
        settle().await;
        assert_eq!(log.texts(ANNA), ["unconfirmed"]);
        assert_eq!(text(&mut login(&hub, ANNA).await).await, "unconfirmed");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_flow_while_they_are_confirmed() {
    for builder in [Hub::builder(), Hub::builder().log(TestLog::default()), Hub::builder().without_log()] {
        let hub = builder.guarantee(Guarantee::AtLeastOnce).build();
        let mut client = login(&hub, ANNA).await;
        for message in numbered("n", 0..500) {
            assert_eq!(hub.send(&ANNA, message.as_str()).await, Delivery::Sent(1));
            assert_eq!(text(&mut client).await, message);
        }
        client.close(1000, "").await.unwrap();
        settle().await;
        assert_silent(&mut login(&hub, ANNA).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_with_unconfirmed_messages_ends_when_they_are_confirmed() {
    let (builder, log) = at_least_once();
    let hub = builder.build();
    let attaching = hub.clone();
    let mut client = scripted_with(&narrow(), async move |socket| {
        attaching
            .attach_with(ANNA, socket, async |mut member| {
                member.recv().await;
            })
            .await
    })
    .await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    client.send("return").await;
    settle().await;
    // now it reads, and answers pings
    let (got, close) = client.rest().await;
    assert_eq!((got, close.unwrap().0), (numbered("n", 0..20), 1000));
    settle().await;
    assert_eq!(log.texts(ANNA), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_to_a_peer_who_answers_no_ping_ends_with_keepalive() {
    let (builder, log) = at_least_once();
    let hub = builder.build();
    let layer = WebSocketLayer::new().pong_timeout(10 * SECOND);
    let mut client = scripted_with(&layer, {
        let hub = hub.clone();
        async move |socket| {
            hub.attach_with(ANNA, socket, async |mut member| {
                member.recv().await;
            })
            .await
        }
    })
    .await;
    client.pongs = false;
    assert_eq!(hub.send(&ANNA, "unconfirmed").await, Delivery::Sent(1));
    client.send("return").await;
    assert_eq!(client.text().await, "unconfirmed");
    client.rest().await;
    settle().await;
    assert_eq!(log.texts(ANNA), ["unconfirmed"]);
}

#[tokio::test(start_paused = true)]
async fn a_kick_does_not_wait_for_a_confirmation() {
    let (builder, log) = at_least_once();
    let hub = builder.build();
    let mut client = scripted(&hub, ANNA).await;
    client.pongs = false;
    assert_eq!(hub.send(&ANNA, "unconfirmed").await, Delivery::Sent(1));
    settle().await;
    hub.kick(&ANNA).await.unwrap();
    let (got, close) = client.rest().await;
    assert_eq!((got, close.unwrap().0), (vec!["unconfirmed".to_owned()], 4003));
    settle().await;
    assert_eq!(log.texts(ANNA), ["unconfirmed"], "it may come twice");
}

#[tokio::test(start_paused = true)]
async fn at_most_once_nothing_comes_twice() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    log.put(ANNA, &numbered("n", 0..200));
    let mut all = Vec::new();
    for _ in 0..30 {
        // an attached future that is dropped in the midst of it
        let (stream, client) = tokio::io::duplex(64);
        let task = tokio::spawn(testing::accept(&narrow(), stream, {
            let hub = hub.clone();
            async move |socket| hub.attach(ANNA, socket).await
        }));
        let mut client = testing::client(client);
        for _ in 0..3 {
            if let Ok(Some(Ok(message))) = tokio::time::timeout(SECOND, client.recv()).await {
                all.push(message.as_text().unwrap().to_owned());
            }
        }
        task.abort();
        settle().await;
        while let Some(Ok(message)) = client.recv().await {
            all.push(message.as_text().unwrap().to_owned());
        }
    }
    let mut back = login(&hub, ANNA).await;
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SECOND, back.recv()).await {
        all.push(message.as_text().unwrap().to_owned());
    }
    let mut sorted = all.clone();
    sorted.sort_by_key(|text| text.split(' ').nth(1).unwrap().parse::<u32>().unwrap());
    sorted.dedup();
    assert_eq!(all, sorted);
    assert!(all.len() > 100, "{}", all.len());
}
