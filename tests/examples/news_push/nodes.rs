//! Two nodes that share a Redis.

use serde_json::{Value, json};
use ws_tests::within;

use super::{News, message, parse, title, until_online};
use crate::support::Redis;

/// A Redis, and two nodes with the same key.
fn start() -> (Redis, News, News) {
    let redis = Redis::start();
    let node = || News::start_with(&[("REDIS_URL", &redis.url()), ("SESSION_KEY", &"5e".repeat(64))]);
    let (first, second) = (node(), node());
    (redis, first, second)
}

fn sent() -> (u16, Value) {
    (200, json!({ "delivery": "sent", "connections": 1 }))
}

#[tokio::test]
async fn who_signs_in_at_one_node_and_reads_at_another_gets_what_is_pushed_through_either() {
    let (_redis, first, second) = start();
    let handshake = first.sign_in("anna").await;
    assert_eq!(first.push("anna", "one").await, (202, json!({ "delivery": "stored", "evicted": 0 })));
    let mut anna = second.connect_with(handshake).await;
    for node in [&first, &second] {
        until_online(node, &["anna"]).await;
    }
    assert_eq!(first.push("anna", "two").await, sent());
    assert_eq!(second.push("anna", "three").await, sent());
    for expected in ["one", "two", "three"] {
        assert_eq!(title(&mut anna).await, expected);
    }
}

#[tokio::test]
async fn each_node_lists_who_is_online_at_any_of_them() {
    let (_redis, first, second) = start();
    let anna = first.connect("anna").await;
    let _ben = second.connect("ben").await;
    for node in [&first, &second] {
        until_online(node, &["anna", "ben"]).await;
    }
    drop(anna);
    for node in [&first, &second] {
        until_online(node, &["ben"]).await;
    }
    second.example.interrupt();
    until_online(&first, &[]).await;
}

#[tokio::test]
async fn an_editor_ends_a_connection_at_another_node() {
    let (_redis, first, second) = start();
    let mut anna = second.connect("anna").await;
    until_online(&first, &["anna"]).await;
    assert_eq!(first.edit("DELETE", "/users/anna", "").await.status, 204);
    anna.closed_with_answer(4003).await;
    until_online(&first, &[]).await;
    assert_eq!(first.edit("DELETE", "/users/anna", "").await.status, 404);
}

#[tokio::test]
async fn a_login_at_another_node_replaces_the_older_one() {
    let (_redis, first, second) = start();
    let handshake = first.sign_in("anna").await;
    let mut older = first.connect_with(handshake.clone()).await;
    until_online(&second, &["anna"]).await;
    let mut newer = second.connect_with(handshake).await;
    older.closed_with_answer(4001).await;
    assert_eq!(first.push("anna", "hello").await, sent());
    assert_eq!(title(&mut newer).await, "hello");
}

#[tokio::test]
async fn who_comes_back_at_another_node_goes_on_where_they_had_stopped() {
    let (_redis, first, second) = start();
    for title in ["one", "two", "three"] {
        assert_eq!(first.push("anna", title).await.0, 202);
    }
    let handshake = first.sign_in("anna").await;
    let mut anna = first.connect_with(handshake.clone()).await;
    let position = message(&mut anna).await["position"].as_str().expect("a position").to_owned();
    first.example.kill();

    let mut anna = second.connect_with(handshake.path(format!("/news?after={position}"))).await;
    assert_eq!(message(&mut anna).await, json!({ "resumed": true }));
    for expected in ["two", "three"] {
        assert_eq!(title(&mut anna).await, expected);
    }
}

#[tokio::test]
async fn one_idempotency_key_is_one_message_whatever_nodes_it_is_pushed_through() {
    let (_redis, first, second) = start();
    for node in [&first, &second] {
        assert_eq!(node.push_with(&["rain-1"], "anna", "Rain").await.status, 202);
    }
    assert_eq!(second.push("anna", "last").await.0, 202);
    let mut anna = first.connect("anna").await;
    assert_eq!(title(&mut anna).await, "Rain");
    assert_eq!(title(&mut anna).await, "last");
}

#[tokio::test]
async fn while_redis_is_away_connections_stay_and_requests_are_told_so() {
    let (redis, first, second) = start();
    let mut anna = second.connect("anna").await;
    until_online(&first, &["anna"]).await;
    assert_eq!(first.push("anna", "before").await, sent());
    redis.kill();
    for node in [&first, &second] {
        let (status, answer) = node.push("anna", "meanwhile").await;
        let expected = if status == 503 { "dropped" } else { "unknown" };
        assert_eq!((answer["delivery"].as_str(), [503, 504].contains(&status)), (Some(expected), true));
        assert_eq!(node.edit("GET", "/users", "").await.status, 503);
        assert_eq!(node.edit("DELETE", "/users/ben", "").await.status, 503);
    }
    redis.start_again();
    // the same key, so that it does not matter how often
    let pushed = within("Redis to be back", async {
        loop {
            let answer = first.push_with(&["after"], "anna", "after").await;
            if answer.status < 500 {
                return parse(&answer.body);
            }
        }
    });
    let pushed = pushed.await;
    assert!(["sent", "stored"].map(Some).contains(&pushed["delivery"].as_str()), "{pushed}");
    assert_eq!(title(&mut anna).await, "before");
    while title(&mut anna).await != "after" {}
}

#[tokio::test]
async fn who_comes_back_after_redis_has_lost_everything_is_told_so_and_all_goes_on() {
    let (redis, first, second) = start();
    assert_eq!(first.push("anna", "one").await.0, 202);
    let handshake = first.sign_in("anna").await;
    let mut anna = first.connect_with(handshake.clone()).await;
    let position = message(&mut anna).await["position"].as_str().expect("a position").to_owned();
    drop(anna);
    until_online(&second, &[]).await;
    redis.tell("FLUSHALL").await;

    let mut anna = second.connect_with(handshake.path(format!("/news?after={position}"))).await;
    assert_eq!(message(&mut anna).await, json!({ "resumed": false }));
    for node in [&first, &second] {
        until_online(node, &["anna"]).await;
    }
    assert_eq!(first.push("anna", "two").await, sent());
    assert_eq!(title(&mut anna).await, "two");
}

#[tokio::test]
async fn a_load_balancer_is_told_whether_a_node_has_redis() {
    let (redis, first, _second) = start();
    let health = async || {
        let answer = first.edit("GET", "/health", "").await;
        (answer.status, answer.body)
    };
    assert_eq!(health().await, (200, "up\n".to_owned()));
    redis.kill();
    within("the node to be unhealthy", async { while health().await != (503, "down\n".to_owned()) {} }).await;
    redis.start_again();
    within("the node to be healthy", async { while health().await.0 != 200 {} }).await;
}
