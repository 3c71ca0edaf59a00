//! Messages that replicas have to have.

use std::process::Command;
use std::time::Duration;

use tokio::time::sleep;
use ws_core::Message;
use ws_hub::{After, Append, Appended, Backplane as _, MessageId};

use crate::server::{SOON, Server, free_port, replica_of};
use crate::support::{ALL, ANNA, BOB, Node, soon};

/// A server with a replica that has what it has.
async fn with_replica() -> (Server, Server) {
    let port = free_port();
    let server = Server::start(&["--port", &port, "--repl-diskless-sync-delay", "0"]);
    let replica = replica_of(&port, &free_port());
    replica.is_in_sync().await;
    (server, replica)
}

/// Stops a process, or lets it go on.
fn signal(server: &Server, signal: &str) {
    let id = server.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_too_few_replicas_have_is_not_said_to_be_stored() {
    let server = Server::start(&[]);
    let node = Node::new(server.builder().replicas(1)).await;
    let message = Message::text("who knows");
    let error = node.try_append(Append::new(&ANNA, MessageId::random(), &message)).await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    // it is there, and may stay
    let read = soon(node.backplane.read(&ANNA, After::Cursor, ALL)).await.unwrap();
    assert_eq!(read.entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_on_the_replica_when_it_is_answered() {
    let (server, replica) = with_replica().await;
    let node = Node::new(server.builder().replicas(1)).await;
    for number in 1..=50 {
        assert_eq!(node.append(ANNA, "hello").await.0.number, number);
        let key = format!("ws:{{p0}}:q:{}", char::from(0).to_string().repeat(7) + "\u{1}");
        assert_eq!(replica.number(&["LLEN", &key]), i64::try_from(number).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_together_are_written_in_order_and_answered_each() {
    let (server, _replica) = with_replica().await;
    let node = Node::new(server.builder().replicas(1)).await;
    let message = Message::text("one of many");
    let alone = async |user: u64| {
        let mut numbers = Vec::new();
        for _ in 0..20 {
            // each time without scripts, which are then sent again
            server.run(&["SCRIPT", "FLUSH"]);
            numbers.push(node.append(user, "alone").await.0.number);
        }
        numbers
    };
    let many = async {
        let batch: Vec<_> = (0..300).map(|_| Append::new(&3, MessageId::random(), &message)).collect();
        let sent = soon(node.backplane.append(&batch)).await.into_iter();
        let number = |appended| match appended {
            Appended::Logged { position, .. } => position.number,
            Appended::TooLarge => panic!("too large"),
        };
        sent.map(|sent| number(sent.unwrap().appended)).collect::<Vec<_>>()
    };
    let (anna, bob, many) = tokio::join!(alone(ANNA), alone(BOB), many);
    assert_eq!((anna, bob), ((1..=20).collect(), (1..=20).collect()));
    assert_eq!(many, (1..=300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_is_waited_for_as_the_first_time() {
    let (server, replica) = with_replica().await;
    let node = Node::new(server.builder().replicas(1)).await;
    let (id, message) = (MessageId::random(), Message::text("once"));
    signal(&replica, "-STOP");
    let error = node.try_append(Append::new(&ANNA, id, &message)).await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    // on connections on which nothing was written yet
    let again = || Append::new(&ANNA, id, &message).again(true);
    let other = Node::new(server.builder().replicas(1)).await;
    for node in [&other, &node] {
        let error = node.try_append(again()).await.unwrap_err();
        assert!(error.is_unknown(), "{error}");
    }
    signal(&replica, "-CONT");
    let waiting = async {
        loop {
            match other.try_append(again()).await {
                Ok((Appended::Logged { position, .. }, _)) => break position.number,
                Ok((Appended::TooLarge, _)) => panic!("too large"),
                Err(error) => assert!(error.is_unknown(), "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tokio::time::timeout(SOON, waiting).await.expect("the replica has it"), 1);
}
