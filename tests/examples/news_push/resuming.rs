//! Clients that say where they had stopped, and requests that are sent again.

use serde_json::{Value, json};

use super::{News, message, parse, title, until_online};
use crate::support::Directory;

/// The position of the news that comes next.
async fn position(client: &mut ws_tests::Client) -> String {
    message(client).await["position"].as_str().expect("a position").to_owned()
}

#[tokio::test]
async fn who_says_the_last_position_gets_what_came_after_it_and_is_told_that_nothing_is_missing() {
    let news = News::start();
    for title in ["one", "two", "three"] {
        assert_eq!(news.push("anna", title).await.0, 202);
    }
    let handshake = news.sign_in("anna").await;
    let mut anna = news.connect_with(handshake.clone()).await;
    let first = position(&mut anna).await;
    assert_eq!(title(&mut anna).await, "two");
    drop(anna);

    let mut anna = news.connect_with(handshake.path(format!("/news?after={first}"))).await;
    assert_eq!(message(&mut anna).await, json!({ "resumed": true }));
    assert_eq!(title(&mut anna).await, "two");
    assert_eq!(title(&mut anna).await, "three");
}

#[tokio::test]
async fn who_says_a_position_that_is_none_of_theirs_is_told_so_and_gets_what_is_unread() {
    let news = News::start();
    assert_eq!(news.push("anna", "one").await.0, 202);
    let handshake = news.sign_in("anna").await.path("/news?after=7.0123456789abcdef");
    let mut anna = news.connect_with(handshake).await;
    assert_eq!(message(&mut anna).await, json!({ "resumed": false }));
    assert_eq!(title(&mut anna).await, "one");
}

#[tokio::test]
async fn what_is_no_position_is_refused_and_said_why() {
    let news = News::start();
    let handshake = news.sign_in("anna").await;
    for wrong in ["", "7", "seven", "7.0123"] {
        let answer = news.ask(handshake.clone().path(format!("/news?after={wrong}"))).await;
        assert_eq!(answer.status, 400, "{wrong}");
        let expected = "after: not a position: expected a number, a dot and 16 hexadecimal digits\n";
        assert_eq!(answer.body, expected, "{wrong}");
    }
}

#[tokio::test]
async fn one_idempotency_key_is_one_message_for_each_user_also_after_a_restart() {
    let directory = Directory::new();
    let data = directory.file("news.redb");
    let news = News::start_with(&[("DATA", &data)]);
    let stored = json!({ "delivery": "stored", "evicted": 0 });
    let push = async |news: &News, key: &str, user: &str, title: &str| -> Value {
        let answer = news.push_with(&[key], user, title).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        parse(&answer.body)
    };
    for title in ["one", "one again"] {
        assert_eq!(push(&news, "first", "anna", title).await, stored);
    }
    assert_eq!(push(&news, "first", "ben", "for ben").await, stored);
    // with them, the first one is the last but 63
    for number in 2..=64 {
        assert_eq!(push(&news, &format!("key {number}"), "anna", &format!("number {number}")).await, stored);
    }
    news.example.kill();

    let news = News::start_with(&[("DATA", &data)]);
    assert_eq!(push(&news, "first", "anna", "one after the restart").await, stored);
    assert_eq!(push(&news, "another", "anna", "last").await, stored);
    let mut anna = news.connect("anna").await;
    assert_eq!(title(&mut anna).await, "one");
    for number in 2..=64 {
        assert_eq!(title(&mut anna).await, format!("number {number}"));
    }
    assert_eq!(title(&mut anna).await, "last");
    let mut ben = news.connect("ben").await;
    assert_eq!(title(&mut ben).await, "for ben");
}

#[tokio::test]
async fn a_request_that_is_sent_again_reaches_an_open_connection_once() {
    let news = News::start();
    let mut anna = news.connect("anna").await;
    until_online(&news, &["anna"]).await;
    for title in ["one", "one again"] {
        let answer = news.push_with(&["first"], "anna", title).await;
        assert_eq!(parse(&answer.body), json!({ "delivery": "sent", "connections": 1 }));
    }
    assert_eq!(news.push("anna", "last").await.0, 200);
    assert_eq!(title(&mut anna).await, "one");
    assert_eq!(title(&mut anna).await, "last");
}

#[tokio::test]
async fn an_idempotency_key_that_is_none_is_refused() {
    let news = News::start();
    for keys in [[""].as_slice(), &["x".repeat(256).as_str()], &["one", "two"]] {
        let answer = news.push_with(keys, "anna", "Rain").await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.body, "expected one Idempotency-Key of 1 to 255 bytes\n");
    }
}
