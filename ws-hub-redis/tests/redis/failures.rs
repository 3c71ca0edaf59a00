//! Servers that are gone and come back, forget, or are full; connections that break.

use ws_core::Message;
use ws_hub::{
    Acked, After, Append, Appended, Backplane as _, Delivery, DropReason, Health, MessageId, Signal,
};

use crate::hubs::hubs_on;
use crate::server::{Server, shared};
use crate::support::{ALL, ANNA, BOB, Node, login, rest, soon, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_started_again_has_lost_nothing() {
    let mut server = Server::durable();
    let [here, there] = hubs_on(&server, |hub| hub).await;
    let mut anna = login(&there, ANNA).await;
    let mut accepted = Vec::new();
    for number in 0..50 {
        assert!(here.send(&ANNA, number.to_string()).await.is_accepted());
        assert!(here.send(&BOB, number.to_string()).await.is_accepted());
        accepted.push(number.to_string());
    }
    server.kill();
    // it waits for the server
    let waiting = tokio::spawn({
        let here = here.clone();
        async move { here.send(&ANNA, "while it was away").await }
    });
    server.restart();
    let during = waiting.await.unwrap();
    until("a message is accepted again", async || here.send(&ANNA, "again").await.is_accepted()).await;
    let mut got = Vec::new();
    while got.last().is_none_or(|last| last != "again") {
        got.push(text(&mut anna).await);
    }
    assert_eq!(got[..50], accepted);
    match during {
        Delivery::Sent(1) => assert_eq!(got[50..], ["while it was away", "again"]),
        Delivery::Unknown | Delivery::Dropped(DropReason::Log) => {}
        other => panic!("{other:?}"),
    }
    let mut bob = login(&here, BOB).await;
    for expected in accepted {
        assert_eq!(text(&mut bob).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_the_server_was_away() {
    let mut server = Server::durable();
    let mut node = Node::new(server.builder()).await;
    let login = node.login(ANNA, 1).await;
    let (first, _) = node.append(ANNA, "first").await;
    assert_eq!(node.entry(ANNA).await, 1);
    server.kill();
    node.heard(&Signal::Down).await;
    assert_eq!(node.backplane.health(), Health::Down);
    server.restart();
    assert_eq!(node.next_signal().await, Signal::Gap);
    node.heard(&Signal::Up).await;
    assert_eq!(node.backplane.health(), Health::Up);
    // it is the same node with the same login
    assert_eq!(node.append(ANNA, "second").await.0.number, 2);
    assert_eq!(node.entry(ANNA).await, 2);
    let read = node.backplane.read(&ANNA, After::Position(first), ALL).await.unwrap();
    assert_eq!(read.entries.len(), 1);
    assert_eq!(node.acknowledge(ANNA, &login, 2).await.unwrap(), Acked::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_calls_are_refused_in_time() {
    let mut server = Server::start(&[]);
    let mut node = Node::new(server.builder()).await;
    server.kill();
    node.heard(&Signal::Down).await;
    let message = Message::text("to nobody");
    let append = || Append::new(&ANNA, MessageId::random(), &message);
    // none of them was written
    for _ in 0..2 {
        assert!(!node.try_append(append()).await.unwrap_err().is_unknown());
    }
    assert!(soon(node.backplane.watch("lobby")).await.is_err());
    assert!(soon(node.backplane.online(None, 10)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_for_pushes_that_is_killed_is_replaced() {
    let server = Server::start(&[]);
    let [here, there] = hubs_on(&server, |hub| hub).await;
    let (mut anna, mut bob) = (login(&there, ANNA).await, login(&here, BOB).await);
    there.join(&ANNA, "lobby").await.unwrap();
    for round in 0..20 {
        server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        // nothing comes after it by which its loss would be seen
        assert!(here.send(&ANNA, round.to_string()).await.is_accepted());
        assert!(there.send(&BOB, round.to_string()).await.is_accepted());
        assert_eq!(text(&mut anna).await, round.to_string());
        assert_eq!(text(&mut bob).await, round.to_string());
    }
    // rooms are subscribed to again, too
    let is_heard = async || here.room("lobby").send("to the room").await.others.unwrap() == 1;
    until("the room is heard again", is_heard).await;
    assert_eq!(text(&mut anna).await, "to the room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_pushes_were_missed() {
    let server = Server::start(&[]);
    let mut node = Node::new(server.builder()).await;
    node.login(ANNA, 1).await;
    server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(node.next_signal().await, Signal::Gap);
    until("it is up", async || node.backplane.health() == Health::Up).await;
    node.append(ANNA, "first").await;
    assert_eq!(node.entry(ANNA).await, 1);
    // one that did not come
    server.run(&["HINCRBY", "ws:{p0}:s", &node.name(), "1"]);
    node.append(ANNA, "second").await;
    assert_eq!(node.next_signal().await, Signal::Gap);
    assert_eq!(node.entry(ANNA).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_may_be_killed() {
    let server = Server::start(&[]);
    let [here, there] = hubs_on(&server, |hub| hub).await;
    let mut anna = login(&there, ANNA).await;
    for round in 0..5 {
        server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert_eq!(here.send(&ANNA, round.to_string()).await, Delivery::Sent(1));
        assert_eq!(text(&mut anna).await, round.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_forgotten_are_sent_again() {
    let server = Server::start(&[]);
    let mut node = Node::new(server.builder()).await;
    let login = node.login(ANNA, 1).await;
    for number in 1..=3 {
        server.run(&["SCRIPT", "FLUSH"]);
        assert_eq!(node.append(ANNA, "hello").await.0.number, number);
        assert_eq!(node.entry(ANNA).await, number);
        server.run(&["SCRIPT", "FLUSH"]);
        assert_eq!(node.acknowledge(ANNA, &login, number).await.unwrap(), Acked::Done);
    }
    // a whole batch, in its order
    server.run(&["SCRIPT", "FLUSH"]);
    let message = Message::text("one of many");
    let batch: Vec<_> = (0..300).map(|_| Append::new(&ANNA, MessageId::random(), &message)).collect();
    let numbers = soon(node.backplane.append(&batch)).await.into_iter().map(|sent| {
        let Appended::Logged { position, .. } = sent.unwrap().appended else { panic!("too large") };
        position.number
    });
    assert_eq!(numbers.collect::<Vec<_>>(), (4..304).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_start_anew_when_the_server_has_lost_its_data() {
    let server = Server::start(&[]);
    let [here, there] = hubs_on(&server, |hub| hub).await;
    let mut anna = login(&there, ANNA).await;
    for number in 0..10 {
        assert_eq!(here.send(&ANNA, number.to_string()).await, Delivery::Sent(1));
        assert_eq!(text(&mut anna).await, number.to_string());
    }
    server.run(&["FLUSHALL"]);
    // numbers begin at 1 again: what the connection has got must not be taken for what comes now
    let mut sent = Vec::new();
    for number in 0..20 {
        let message = format!("new {number}");
        assert!(here.send(&ANNA, message.clone()).await.is_accepted());
        sent.push(message);
    }
    let (mut got, code) = rest(anna).await;
    assert_eq!(code, Some(4100));
    let mut anna = login(&there, ANNA).await;
    while got.last() != sent.last() {
        got.push(text(&mut anna).await);
    }
    assert_eq!(got, sent);
    assert_eq!(here.send(&ANNA, "across").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "across");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_full_refuses_messages_and_lets_the_rest_go_on() {
    let server = Server::start(&[]);
    let node = Node::new(server.builder()).await;
    let (position, _) = node.append(ANNA, "before").await;
    let login = node.login(ANNA, 1).await;
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);
    let message = Message::text("too much");
    for user in [ANNA, BOB] {
        let refused = node.try_append(Append::new(&user, MessageId::random(), &message)).await.unwrap_err();
        assert!(!refused.is_unknown(), "{refused}");
        assert!(refused.to_string().contains("OOM"), "{refused}");
    }
    // what makes room is not refused
    assert_eq!(node.acknowledge(ANNA, &login, 1).await.unwrap(), Acked::Done);
    assert_eq!(node.login(BOB, 2).await.read.top, None);
    let kicked = ws_core::CloseFrame::new(4003, "kicked");
    assert_eq!(node.backplane.close(&BOB, &kicked).await.unwrap(), 0);
    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    let (next, _) = node.append(ANNA, "after").await;
    assert_eq!(next.number, position.number + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_is_there_once() {
    let node = Node::new(shared().builder().prefix(Server::prefix())).await;
    let (id, message) = (MessageId::random(), Message::text("once"));
    let first = node.try_append(Append::new(&ANNA, id, &message)).await.unwrap();
    assert_eq!(node.try_append(Append::new(&ANNA, id, &message).again(true)).await.unwrap(), first);
    let read = node.backplane.read(&ANNA, After::Cursor, ALL).await.unwrap();
    assert_eq!(read.entries.len(), 1);
}
