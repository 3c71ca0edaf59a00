//! Drains.

use std::time::Duration;

use tokio::time::Instant;
use ws_core::Drain;
use ws_hub::{Delivery, Hub, Login, Refused};

use crate::support::{
    ANNA, BOB, SECOND, connect, login, narrow, rest, scripted, scripted_with, settle, text,
};

#[tokio::test(start_paused = true)]
async fn a_drain_closes_all_in_batches_and_lets_nobody_in() {
    let hub = Hub::new();
    let mut clients = Vec::new();
    for user in 0..10 {
        clients.push(tokio::spawn(rest(login(&hub, user).await)));
    }
    let start = Instant::now();
    let drain = Drain::new().batches(3, SECOND).timeout(60 * SECOND);
    let draining = tokio::spawn({
        let hub = hub.clone();
        async move { hub.drain(drain).await }
    });
    settle().await;
    assert_eq!((hub.stats().connections, hub.check(&77)), (7, Err(Refused::Draining)));
    assert_eq!(rest(connect(&hub, 77)).await.1.unwrap().0, 1001);
    let drained = draining.await.unwrap();
    assert_eq!((drained.closed, drained.remaining), (10, 0));
    assert!(start.elapsed() >= 3 * SECOND && start.elapsed() < 4 * SECOND);
    for client in clients {
        assert_eq!(client.await.unwrap().1.unwrap().0, 1001);
    }
    let again = hub.drain(Drain::new()).await;
    assert_eq!((again.closed, again.remaining), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_deadline() {
    let hub = Hub::new();
    let attaching = hub.clone();
    let layer = narrow().close_timeout(3600 * SECOND);
    let stubborn = scripted_with(&layer, async move |socket| attaching.attach(ANNA, socket).await).await;
    let _polite = login(&hub, BOB).await;
    let start = Instant::now();
    let drained = hub.drain(Drain::new().timeout(5 * SECOND)).await;
    assert_eq!((drained.closed, drained.remaining), (1, 1));
    assert_eq!(start.elapsed(), 5 * SECOND);
    drop(stubborn);
    let drained = hub.drain(Drain::new()).await;
    assert_eq!((drained.closed, drained.remaining), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_over_when_all_have_left_however_long_a_batch_takes() {
    let hub = Hub::new();
    let (first, second) = (login(&hub, ANNA).await, login(&hub, BOB).await);
    let start = Instant::now();
    let drain = Drain::new().batches(1, Duration::MAX).timeout(Duration::MAX);
    let (drained, ..) = tokio::join!(hub.drain(drain), async {
        drop((first, second));
    });
    assert_eq!((drained.closed, drained.remaining), (2, 0));
    assert!(start.elapsed() < 60 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_during_a_drain_is_stored() {
    let hub = Hub::builder().login(Login::AllowMany(2)).build();
    let (first, second) = (login(&hub, ANNA).await, login(&hub, ANNA).await);
    let drained = hub.drain(Drain::new()).await;
    assert_eq!((drained.closed, drained.remaining), (2, 0));
    assert_eq!(hub.send(&ANNA, "later").await, Delivery::Stored { evicted: 0 });
    assert_eq!((rest(first).await.0, rest(second).await.0), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_kicked_client_that_does_not_answer_is_gone_after_the_close_timeout() {
    let hub = Hub::new();
    let stalled = scripted(&hub, ANNA).await;
    assert!(hub.send(&ANNA, "x".repeat(1000)).await.is_accepted());
    settle().await;
    assert_eq!(hub.kick(&ANNA).await.unwrap(), 1);
    // he can be there again before that
    let mut back = login(&hub, ANNA).await;
    assert!(hub.send(&ANNA, "hello").await.is_accepted());
    assert_eq!(text(&mut back).await, "hello");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(hub.is_online(&ANNA));
    drop(stalled);
    let drained = hub.drain(Drain::new()).await;
    assert_eq!((drained.closed, drained.remaining), (1, 0), "only the newer one was left");
}
