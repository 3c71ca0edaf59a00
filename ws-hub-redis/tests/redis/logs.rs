//! How long messages are kept, and what the server is asked at once.

use std::time::Duration;

use ws_core::Message;
use ws_hub::{
    Ack, Acked, After, Append, Appended, Backplane as _, Continuity, LoggedIn, MessageId, Page, Sent,
};

use crate::server::{Server, shared};
use crate::support::{ALL, ANNA, Node, soon, until};

async fn node() -> (String, Node) {
    let prefix = Server::prefix();
    (format!("{prefix}:{{p0}}:"), Node::new(shared().builder().prefix(&prefix)).await)
}

async fn evicted(node: &Node, text: &str) -> (u64, usize) {
    let message = Message::text(text);
    let append = Append::new(&ANNA, MessageId::random(), &message);
    match node.try_append(append).await.unwrap().0 {
        Appended::Logged { position, evicted, .. } => (position.number, evicted),
        Appended::TooLarge => panic!("too large"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_old_is_gone_and_numbers_go_on() {
    let builder = shared().builder().prefix(Server::prefix()).time_to_live(Duration::from_millis(200));
    let node = Node::new(builder).await;
    // what is known of somebody who is logged in stays
    let login = node.login(ANNA, 1).await;
    for number in 1..=3 {
        assert_eq!(evicted(&node, "old").await, (number, 0));
    }
    until("all of them are gone", async || {
        let read = node.backplane.read(&ANNA, After::Number(0), ALL).await.unwrap();
        read.entries.is_empty() && read.continuity == Continuity::Incomplete && read.after == 3
    })
    .await;
    let (number, _) = evicted(&node, "new").await;
    assert_eq!(number, 4);
    assert_eq!(node.acknowledge(ANNA, &login, 4).await.unwrap(), Acked::Done);
    let read = node.backplane.read(&ANNA, After::Cursor, ALL).await.unwrap();
    assert_eq!((read.cursor, read.entries.len()), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_ever_stays_until_it_is_delivered() {
    let builder = shared().builder().prefix(Server::prefix());
    let node = Node::new(builder.time_to_live(None).history(64, Duration::from_millis(1))).await;
    assert_eq!(evicted(&node, "kept").await, (1, 0));
    let login = node.login(ANNA, 1).await;
    assert_eq!(login.read.entries.len(), 1);
    assert_eq!(node.acknowledge(ANNA, &login, 1).await.unwrap(), Acked::Done);
    until("it is gone", async || {
        node.backplane.read(&ANNA, After::Number(0), ALL).await.unwrap().entries.is_empty()
    })
    .await;
    // and the next one is kept again
    assert_eq!(evicted(&node, "kept").await, (2, 0));
    let read = node.backplane.read(&ANNA, After::Cursor, ALL).await.unwrap();
    assert_eq!(read.entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_server_has_removed_are_said_to_be_evicted() {
    let (keys, node) = node().await;
    let user = String::from_utf8(ANNA.to_be_bytes().to_vec()).unwrap();
    for number in 1..=3 {
        assert_eq!(evicted(&node, "removed").await, (number, 0));
    }
    assert_eq!(shared().number(&["DEL", &format!("{keys}q:{user}")]), 1);
    assert_eq!(evicted(&node, "next").await, (4, 3));
    let read = node.backplane.read(&ANNA, After::Cursor, ALL).await.unwrap();
    assert_eq!((read.after, read.entries.len()), (3, 1));
    // what was known of the user is removed, and not the messages: they are of no log
    assert_eq!(shared().number(&["DEL", &format!("{keys}u:{user}")]), 1);
    assert_eq!(evicted(&node, "first").await, (1, 0));
    let read = node.backplane.read(&ANNA, After::Number(0), ALL).await.unwrap();
    assert_eq!((read.entries.len(), read.entries[0].previous), (1, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_goes_to_many_users_in_one_batch() {
    let (_, node) = node().await;
    let other = Node::new(shared().builder().prefix(Server::prefix())).await;
    let users: Vec<u64> = (0..1000).collect();
    let message = Message::text("news");
    let batch: Vec<_> = users.iter().map(|user| Append::new(user, MessageId::random(), &message)).collect();
    let sent = soon(node.backplane.append(&batch)).await;
    assert_eq!(sent.len(), users.len());
    for (append, sent) in batch.iter().zip(sent) {
        let Sent { appended: Appended::Logged { position, .. }, elsewhere: 0 } = sent.unwrap() else {
            panic!("not as it should be")
        };
        assert_eq!((position.number, position.id), (1, append.id));
    }
    let read = node.backplane.read(&999, After::Cursor, ALL).await.unwrap();
    assert_eq!(read.entries[0].message, message);
    // another prefix is another backplane
    assert!(other.backplane.read(&999, After::Cursor, ALL).await.unwrap().entries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_batch_that_are_alike_or_empty_are_those_that_were_sent() {
    let (_, node) = node().await;
    let (empty, empty_bytes) = (Message::text(""), Message::binary(Vec::new()));
    let (text, bytes) = (Message::text("a"), Message::binary(b"a".to_vec()));
    let sent = [&empty, &empty_bytes, &empty, &text, &text, &bytes, &empty, &text];
    let batch = sent.map(|message| Append::new(&ANNA, MessageId::random(), message));
    assert!(soon(node.backplane.append(&batch)).await.iter().all(Result::is_ok));
    let read = node.backplane.read(&ANNA, After::Cursor, ALL).await.unwrap();
    assert_eq!(read.entries.iter().map(|entry| &entry.message).collect::<Vec<_>>(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_messages_is_bounded() {
    let (_, node) = node().await;
    for _ in 0..10 {
        evicted(&node, &"x".repeat(90_000)).await;
    }
    let login = node.backplane.read(&ANNA, After::Cursor, Page::default()).await.unwrap();
    assert_eq!(login.entries.len(), 2);
}

/// How many scripts a server has run.
fn scripts(server: &Server) -> u64 {
    let info = format!("{:?}", server.run(&["INFO", "commandstats"]));
    let calls = info.split_once("cmdstat_evalsha:calls=").map_or("0", |(_, rest)| rest);
    calls.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmations_that_come_together_take_few_scripts() {
    let server = Server::start(&[]);
    // no lease is renewed meanwhile
    let node = Node::new(server.builder().lease(Duration::from_secs(600))).await;
    let mut logins = Vec::new();
    for user in 0..100 {
        logins.push(node.login(user, user).await);
        node.append(user, "hello").await;
    }
    let before = scripts(&server);
    let users: Vec<u64> = (0..100).collect();
    let ack = |(user, login): (_, &LoggedIn)| Ack { user, login: login.login, start: 0, upto: 1 };
    let acks: Vec<_> = users.iter().zip(&logins).map(ack).collect();
    for acked in soon(node.backplane.acknowledge(&acks)).await {
        assert_eq!(acked.unwrap(), Acked::Done);
    }
    let scripts = scripts(&server) - before;
    assert!((1..=20).contains(&scripts), "{scripts} scripts");
    for user in 0..100 {
        assert_eq!(node.backplane.read(&user, After::Cursor, ALL).await.unwrap().cursor, 1);
    }
}
