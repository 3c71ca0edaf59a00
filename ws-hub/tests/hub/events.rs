//! Events, metrics, and code of the application that is called in the midst of it.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use tokio::io::duplex;
use ws_core::{Closed, ConnectionId, ConnectionInfo, Observer, WebSocketLayer, testing};
use ws_hub::{Event, Hub};

use crate::support::{ANNA, BOB, login, numbered, settle, text};

#[tokio::test(start_paused = true)]
async fn a_replaced_login_is_no_event() {
    let hub = Hub::new();
    let mut events = hub.events();
    let first = login(&hub, ANNA).await;
    let second = login(&hub, ANNA).await;
    drop(first);
    settle().await;
    drop(second);
    settle().await;
    let _client = login(&hub, BOB).await;
    for expected in [Event::Online(ANNA), Event::Offline(ANNA), Event::Online(BOB)] {
        assert_eq!(events.recv().await, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_told_how_many_events_he_has_missed() {
    let hub = Hub::builder().max_rooms(2000).build();
    let _client = login(&hub, ANNA).await;
    let mut events = hub.events();
    for room in 0..1500 {
        hub.join(&ANNA, &room.to_string()).await.unwrap();
    }
    assert_eq!(events.recv().await, Some(Event::Missed(1500 - 1024)));
    assert_eq!(events.recv().await, Some(Event::Joined { user: ANNA, room: "476".to_owned() }));
    drop(hub.clone());
    for room in 477..1500 {
        assert_eq!(events.recv().await, Some(Event::Joined { user: ANNA, room: room.to_string() }));
    }
}

#[tokio::test(start_paused = true)]
async fn stats_add_up() {
    let hub = Hub::new();
    for message in numbered("n", 0..5) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    let mut client = login(&hub, ANNA).await;
    for message in numbered("n", 5..10) {
        assert!(hub.send(&ANNA, message).await.is_accepted());
    }
    hub.join(&ANNA, "lobby").await.unwrap();
    hub.room("lobby").send("n 10").await;
    for message in numbered("n", 0..11) {
        assert_eq!(text(&mut client).await, message);
    }
    let stats = hub.stats();
    assert_eq!((stats.users, stats.connections, stats.rooms), (1, 1, 1));
    assert_eq!((stats.queued, stats.sent, stats.stored), (0, 11, 5));
    assert_eq!((stats.evicted, stats.dropped, stats.failed, stats.refused), (0, 0, 0, 0));
    drop(client);
    settle().await;
    let stats = hub.stats();
    assert_eq!((stats.users, stats.connections, stats.rooms), (0, 0, 0));
}

/// Asks the hub for everything that it answers at once, whenever it is called.
struct Curious(Arc<OnceLock<Hub<u64>>>);

impl Curious {
    fn ask(&self) {
        if let Some(hub) = self.0.get() {
            let _ = (hub.online(), hub.is_online(&ANNA), hub.stats(), hub.check(&ANNA), hub.events());
            let _ = hub.join(&ANNA, "observed").now_or_never();
            let _ = (hub.members("observed"), hub.rooms(), hub.rooms_of(&ANNA));
            hub.leave(&ANNA, "observed");
        }
    }
}

impl Observer for Curious {
    fn on_open(&self, _: &ConnectionInfo) {
        self.ask();
    }

    fn on_close(&self, _: &ConnectionInfo, _: &Closed) {
        self.ask();
    }

    fn on_message_sent(&self, _: ConnectionId, _: usize) {
        self.ask();
    }

    fn on_message_received(&self, _: ConnectionId, _: usize) {
        self.ask();
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_ask_the_hub() {
    let known = Arc::new(OnceLock::new());
    let hub = Hub::builder().heartbeat("ping", "pong").build();
    let layer = WebSocketLayer::new().observer(Curious(Arc::clone(&known)));
    assert!(known.set(hub.clone()).is_ok());
    assert!(hub.send(&ANNA, "stored").await.is_accepted());
    let (server, client) = duplex(1024);
    let attaching = hub.clone();
    tokio::spawn(testing::accept(&layer, server, async move |socket| attaching.attach(ANNA, socket).await));
    let mut client = testing::client(client);
    assert_eq!(text(&mut client).await, "stored");
    assert!(hub.send(&ANNA, "live").await.is_accepted());
    assert_eq!(text(&mut client).await, "live");
    client.send("ping").await.unwrap();
    assert_eq!(text(&mut client).await, "pong");
    hub.kick(&ANNA).await.unwrap();
    settle().await;
    assert!(!hub.is_online(&ANNA));
}
