//! The heartbeat of clients that cannot send pings.

use ws_core::WebSocketLayer;
use ws_hub::{Hub, Member};

use crate::support::{ANNA, SECOND, assert_silent, connect_with, login, rest, scripted_with, settle, text};

fn hub() -> Hub<u64> {
    Hub::builder().heartbeat("ping", "pong").build()
}

#[tokio::test(start_paused = true)]
async fn it_is_answered_and_does_not_reach_the_handler() {
    let hub = hub();
    let mut client = connect_with(&hub, ANNA, async |mut member: Member<u64>| {
        while let Some(message) = member.recv().await {
            member.send(format!("got {}", message?.as_text().unwrap())).await?;
        }
        Ok::<_, ws_core::Error>(())
    });
    for message in ["ping", "ping ", "ping"] {
        client.send(message).await.unwrap();
    }
    let mut got = [text(&mut client).await, text(&mut client).await, text(&mut client).await];
    got.sort();
    assert_eq!(got, ["got ping ", "pong", "pong"]);
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_answered_while_the_handler_is_busy() {
    let hub = hub();
    let mut client = connect_with(&hub, ANNA, async |member| {
        tokio::time::sleep(3600 * SECOND).await;
        drop(member);
    });
    client.send("for the handler").await.unwrap();
    for _ in 0..5 {
        client.send("ping").await.unwrap();
        assert_eq!(text(&mut client).await, "pong");
    }
}

#[tokio::test(start_paused = true)]
async fn it_counts_as_life() {
    let hub = hub();
    let layer = WebSocketLayer::new().idle_timeout(60 * SECOND).ping_interval(None);
    let attaching = hub.clone();
    let mut client = scripted_with(&layer, async move |socket| attaching.attach(ANNA, socket).await).await;
    for _ in 0..10 {
        tokio::time::sleep(50 * SECOND).await;
        client.send("ping").await;
        assert_eq!(client.text().await, "pong");
    }
    assert!(hub.is_online(&ANNA));
    assert_eq!(client.rest().await.1.unwrap().0, 1001, "and without it the connection is idle");
}

#[tokio::test(start_paused = true)]
async fn without_it_the_text_is_a_message_as_any_other() {
    let hub = Hub::new();
    let mut client = connect_with(&hub, ANNA, async |mut member: Member<u64>| {
        let message = member.recv().await.unwrap().unwrap();
        member.send(message).await
    });
    client.send("ping").await.unwrap();
    assert_eq!(rest(client).await.0, ["ping"]);
    let mut push_only = login(&hub, ANNA).await;
    push_only.send("ping").await.unwrap();
    assert_silent(&mut push_only).await;
    settle().await;
}
