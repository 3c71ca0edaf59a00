//! Handlers that return, fail, panic, and hand their member on.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use ws_core::{Error as ConnectionError, WebSocketLayer, testing};
use ws_hub::{Delivery, Error, Hub, Member};

use crate::support::{
    ANNA, SECOND, TestLog, connect_with, login, narrow, numbered, panics, rest, scripted_with, settle, soon,
    text,
};

#[tokio::test(start_paused = true)]
async fn what_is_queued_when_the_handler_returns_is_sent_and_then_1000() {
    let hub = Hub::new();
    let (member, hub_of) = (hub.clone(), hub.clone());
    let client = scripted_with(&narrow(), async move |socket| {
        hub_of
            .attach_with(ANNA, socket, async |mut member: Member<u64>| {
                member.recv().await;
            })
            .await
    })
    .await;
    for message in numbered("n", 0..50) {
        assert_eq!(member.send(&ANNA, message).await, Delivery::Sent(1));
    }
    let mut client = client;
    client.send("return").await;
    let (got, close) = client.rest().await;
    assert_eq!((got, close.unwrap().0), (numbered("n", 0..50), 1000));
    settle().await;
    assert!(!hub.is_online(&ANNA));
}

#[tokio::test(start_paused = true)]
async fn messages_that_come_after_the_handler_has_returned_wait_for_the_next_login() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let returns = hub.clone();
    let mut client = scripted_with(&narrow(), async move |socket| {
        returns
            .attach_with(ANNA, socket, async |mut member: Member<u64>| {
                member.recv().await;
            })
            .await
    })
    .await;
    for message in numbered("n", 0..10) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    client.send("return").await;
    settle().await;
    assert_eq!(hub.send(&ANNA, "late").await, Delivery::Stored { evicted: 0 });
    let (mut all, close) = client.rest().await;
    assert_eq!(close.unwrap().0, 1000);
    settle().await;
    all.extend(log.texts(ANNA));
    assert_eq!(all, [numbered("n", 0..10), vec!["late".to_owned()]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_or_panics_ends_its_connection_with_1011() {
    let hub = Hub::new();
    let failing = connect_with(&hub, ANNA, async |_| Err::<(), _>("it fails"));
    assert_eq!(rest(failing).await.1.unwrap().0, 1011);
    let panicking = connect_with(&hub, ANNA, async |_| panics());
    assert_eq!(rest(panicking).await.1.unwrap().0, 1011);
    settle().await;
    assert!(!hub.is_online(&ANNA));
    let _client = login(&hub, ANNA).await;

    let (server, client) = testing::pair();
    let result = hub.attach_with(ANNA, server, async |_| Err::<(), _>("it fails")).await;
    assert!(matches!(&result, Err(Error::Handler(_))), "{result:?}");
    assert_eq!(result.unwrap_err().to_string(), "it fails");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_connection_whose_handler_panics_is_stored() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let attaching = hub.clone();
    let mut client = scripted_with(&narrow(), async move |socket| {
        attaching
            .attach_with(ANNA, socket, async |mut member: Member<u64>| {
                member.recv().await;
                panics();
            })
            .await
    })
    .await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    client.send("panic").await;
    let (mut got, close) = client.rest().await;
    assert_eq!(close.unwrap().0, 1011);
    settle().await;
    got.extend(log.texts(ANNA));
    assert_eq!(got, numbered("n", 0..20));
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_task_is_aborted_is_the_users_no_more_and_what_waits_is_stored() {
    let log = TestLog::default();
    let hub = Hub::builder().log(log.clone()).build();
    let (stream, client) = tokio::io::duplex(16);
    let task = tokio::spawn(testing::accept(&narrow(), stream, {
        let hub = hub.clone();
        async move |socket| hub.attach(ANNA, socket).await
    }));
    settle().await;
    for message in numbered("n", 0..20) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    settle().await;
    task.abort();
    settle().await;
    assert!(!hub.is_online(&ANNA));
    let stored = log.texts(ANNA);
    assert_eq!(stored, numbered("n", 20 - stored.len()..20));
    assert!(stored.len() > 10);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_moves_to_another_task_stays_connected() {
    let hub = Hub::new();
    let (moved, mut members) = mpsc::unbounded_channel();
    let mut client = connect_with(&hub, ANNA, async move |member| {
        moved.send(member).unwrap();
    });
    let mut member = soon(members.recv()).await.unwrap();
    settle().await;
    assert!(hub.is_online(&ANNA));
    assert_eq!(hub.send(&ANNA, "to the hub's").await, Delivery::Sent(1));
    assert_eq!(text(&mut client).await, "to the hub's");
    client.send("to the other task").await.unwrap();
    assert_eq!(soon(member.recv()).await.unwrap().unwrap().as_text(), Some("to the other task"));
    drop(member);
    assert_eq!(rest(client).await.1.unwrap().0, 1000);
    settle().await;
    assert!(!hub.is_online(&ANNA));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_kept_does_not_keep_a_connection_that_is_over() {
    let hub = Hub::new();
    let (moved, mut members) = mpsc::unbounded_channel();
    let (done, over) = oneshot::channel();
    let attaching = hub.clone();
    let mut client = testing::connect(async move |socket| {
        let result = attaching
            .attach_with(ANNA, socket, async move |member| {
                moved.send(member).unwrap();
            })
            .await;
        let _ = done.send(result);
    });
    let member = soon(members.recv()).await.unwrap();
    client.close(1000, "").await.unwrap();
    assert!(soon(over).await.unwrap().is_ok());
    assert!(!hub.is_online(&ANNA));
    drop(member);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_only_gets_messages_drops_what_its_client_sends() {
    let hub = Hub::new();
    let mut client = login(&hub, ANNA).await;
    for number in 0..1000 {
        client.send(format!("nobody reads {number}")).await.unwrap();
    }
    assert_eq!(hub.send(&ANNA, "hello").await, Delivery::Sent(1));
    assert_eq!(text(&mut client).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn attach_tells_how_the_connection_ended() {
    let hub = Hub::new();
    let (server, mut client) = testing::pair();
    let (ended, _) = tokio::join!(hub.attach(ANNA, server), client.close(1000, ""));
    assert!(ended.is_ok(), "{ended:?}");

    let results = Arc::new(Mutex::new(Vec::new()));
    let (attaching, told) = (hub.clone(), Arc::clone(&results));
    let layer = WebSocketLayer::new();
    let rude = scripted_with(&layer, async move |socket| {
        let result = attaching.attach(ANNA, socket).await;
        told.lock().unwrap().push(matches!(result, Err(Error::Connection(ConnectionError::Disconnected(_)))));
    })
    .await;
    drop(rude);
    settle().await;
    assert_eq!(*results.lock().unwrap(), [true]);
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_hub_are_sent_while_the_handler_is_busy() {
    let hub = Hub::new();
    let mut client = connect_with(&hub, ANNA, async |member| {
        tokio::time::sleep(3600 * SECOND).await;
        drop(member);
    });
    settle().await;
    for message in numbered("n", 0..10) {
        assert_eq!(hub.send(&ANNA, message.as_str()).await, Delivery::Sent(1));
        assert_eq!(text(&mut client).await, message);
    }
    hub.kick(&ANNA).await.unwrap();
    settle().await;
    assert_eq!(rest(client).await.1.unwrap().0, 4003);
}

#[tokio::test(start_paused = true)]
async fn a_handler_answers_on_its_own_connection_and_closes_it() {
    let hub = Hub::new();
    let client = connect_with(&hub, ANNA, async |member: Member<u64>| {
        member.send("own").await.unwrap();
        member.sender().close(4444, "own code").await.map(drop)
    });
    let (got, close) = rest(client).await;
    assert_eq!((got, close), (vec!["own".to_owned()], Some((4444, "own code".to_owned()))));
    settle().await;
    assert!(!hub.is_online(&ANNA));
}
