//! Two nodes that share a Redis, and a program that keeps its messages in a file.

use serde_json::json;

use super::{Chat, sign_in};
use crate::support::{Directory, Example, Redis};

fn key() -> String {
    "5e".repeat(64)
}

/// A Redis, and two nodes with the same key.
fn start() -> (Redis, Example, Example) {
    let redis = Redis::start();
    let variables = [("REDIS_URL", redis.url()), ("SESSION_KEY", key())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let node = || Example::start_with("chat", "127.0.0.1:0", &variables);
    let (first, second) = (node(), node());
    (redis, first, second)
}

#[tokio::test]
async fn users_of_two_nodes_see_and_write_to_each_other() {
    let (_redis, first, second) = start();
    // a session of one node is one of the other
    let (anna, bea) = (sign_in(&second, "anna").await, sign_in(&first, "bea").await);
    let mut anna = Chat::with(&first, &anna).await;
    anna.hear("people").await;
    let mut bea = Chat::with(&second, &bea).await;
    let mut people = bea.hear("people").await["online"].take();
    people.as_array_mut().expect("a list").sort_by_key(ToString::to_string);
    assert_eq!(people, json!(["anna", "bea"]));
    while anna.hear("online").await["user"] != "bea" {}

    anna.say(r#"{"type":"tell","n":1,"user":"bea","text":"hello"}"#).await;
    assert_eq!(anna.hear("sent").await["waits"], false);
    assert_eq!(bea.hear("told").await["text"], "hello");
    for (chat, name) in [(&mut anna, "anna"), (&mut bea, "bea")] {
        chat.say(r#"{"type":"join","room":"deploys"}"#).await;
        let room = json!({ "type": "room", "room": "deploys", "members": [name] });
        assert_eq!(chat.hear("room").await, room);
    }
    while anna.hear("joined").await["user"] != "bea" {}
    bea.say(r#"{"type":"say","n":2,"room":"deploys","text":"to all"}"#).await;
    assert_eq!(anna.hear("said").await["text"], "to all");

    drop(bea);
    while anna.hear("offline").await["user"] != "bea" {}
}

#[tokio::test]
async fn who_moves_to_another_node_is_not_said_to_have_gone() {
    let (_redis, first, second) = start();
    let anna = sign_in(&first, "anna").await;
    let _old = Chat::with(&first, &anna).await;
    let mut bea = Chat::with(&second, &sign_in(&second, "bea").await).await;
    let _new = Chat::with(&second, &anna).await;
    while bea.hear("online").await["user"] != "anna" {}
    // the first node tells of this after what it would have told of anna
    drop(Chat::with(&first, &sign_in(&first, "carl").await).await);
    assert_eq!(bea.hear("offline").await["user"], "carl");
}

#[tokio::test]
async fn direct_messages_and_sessions_survive_a_kill() {
    let directory = Directory::new();
    let (data, key) = (directory.file("chat.redb"), key());
    let start = || Example::start_with("chat", "127.0.0.1:0", &[("DATA", &data), ("SESSION_KEY", &key)]);
    let example = start();
    let (anna, bea) = (sign_in(&example, "anna").await, sign_in(&example, "bea").await);
    let mut writer = Chat::with(&example, &anna).await;
    writer.say(r#"{"type":"tell","n":1,"user":"bea","text":"hello"}"#).await;
    assert_eq!(writer.hear("sent").await["waits"], true);
    example.kill();

    let example = start();
    let mut bea = Chat::with(&example, &bea).await;
    assert_eq!(bea.hear("told").await["text"], "hello");
}
