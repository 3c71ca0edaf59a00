//! What is not a server that can be used is said so, and no password is.

use std::error::Error;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use ws_hub::{Backplane as _, Health, MessageId, RoomAppend, RoomHistory};
use ws_hub_redis::{ConnectError, RedisBackplane};

use crate::server::{Server, free_port, shared};
use crate::support::{ALL, ANNA, Node, soon};

const PASSWORD: &str = "correct-horse";

async fn refused(url: String) -> ConnectError {
    let error = soon(RedisBackplane::<u64>::builder(url).connect()).await.unwrap_err();
    let mut source: Option<&dyn Error> = Some(&error);
    while let Some(it) = source {
        assert!(!format!("{it} {it:?}").contains(PASSWORD), "a password in {it:?}");
        source = it.source();
    }
    error
}

/// Something that answers each command with the same.
async fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let commands = bytes[..count].split(|byte| *byte == b'*').count() - 1;
                    if stream.write_all(&answer.repeat(commands)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("redis://:{PASSWORD}@{address}")
}

#[tokio::test]
async fn a_server_that_is_there_is_up() {
    let backplane = shared().builder().prefix(Server::prefix()).connect().await.unwrap();
    assert_eq!(backplane.health(), Health::Up);
}

#[tokio::test]
async fn what_is_no_address_is_said_without_its_password() {
    for url in ["https://user:correct-horse@example.com", "redis:/correct-horse@"] {
        let error = refused(url.to_owned()).await;
        assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{error:?}");
    }
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn without_the_feature_an_address_over_tls_is_said_to_be_one() {
    for scheme in ["rediss", "valkeys"] {
        let error = refused(format!("{scheme}://u:{PASSWORD}@example.com")).await;
        assert!(matches!(error, ConnectError::TlsNotEnabled { .. }), "{error:?}");
        assert!(error.to_string().contains("the feature `tls`"), "{error}");
    }
}

#[tokio::test]
async fn where_nobody_answers_the_address_is_named() {
    // a port that was free a moment ago
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = refused(format!("redis://:{PASSWORD}@{address}")).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn what_accepts_and_says_nothing_is_unreachable() {
    let error = refused(answering(b"").await).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_not_a_redis_server_is_said() {
    let error = refused(answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await).await;
    assert!(matches!(error, ConnectError::Failed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_resp3_is_too_old() {
    let error =
        refused(answering(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n").await).await;
    assert!(matches!(error, ConnectError::TooOld { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_is_denied() {
    let server = Server::start(&["--requirepass", PASSWORD]);
    let denied = |url: String| async move {
        let error = refused(url).await;
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    };
    denied(server.url()).await;
    denied(format!("{}?pass=wrong", server.url())).await;
    let url = format!("{}?pass={PASSWORD}", server.url());
    let backplane = RedisBackplane::<u64>::builder(url).connect().await.unwrap();
    assert!(!format!("{backplane:?}").contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_database_are_in_place_of_those_of_the_address() {
    let server = Server::start(&["--requirepass", PASSWORD]);
    let url = format!("{}?pass=wrong&db=7", server.url());
    let builder = RedisBackplane::builder(url).credentials("default", PASSWORD).database(3);
    assert!(!format!("{builder:?}").contains(PASSWORD));
    let node = Node::new(builder).await;
    assert_eq!(node.append(ANNA, "hello").await.0.number, 1);
    let client = redis::Client::open(format!("{}?pass={PASSWORD}", server.url())).unwrap();
    let databases: String =
        redis::cmd("INFO").arg("keyspace").query(&mut client.get_connection().unwrap()).unwrap();
    assert!(databases.contains("db3:") && !databases.contains("db7:"), "{databases}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_version_are_not_touched() {
    let (server, prefix) = (shared(), Server::prefix());
    server.run(&["SET", &format!("{prefix}:{{p0}}:v"), "2:64"]);
    let error = server.builder().prefix(prefix).connect().await.unwrap_err();
    let ConnectError::OtherVersion { found, expected, .. } = error else { panic!("{error:?}") };
    assert_eq!((found.as_str(), expected.as_str()), ("2:64", "1:1"));
}

#[tokio::test]
#[should_panic(expected = "a prefix has 1 to 64 bytes and no braces")]
async fn a_prefix_with_braces_is_refused() {
    let _ = shared().builder().prefix("a{b}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_end_connections_can_do_everything_else() {
    let server = Server::start(&[]);
    let rights = "on >secret ~chat:* &chat:* +@read +@write +@pubsub +@scripting +@connection +time -client";
    let set = ["ACL", "SETUSER", "chat"].into_iter().chain(rights.split(' '));
    server.run(&set.collect::<Vec<_>>());
    let url = format!("{}?user=chat&pass=secret", server.url());
    let node = Node::new(RedisBackplane::<u64>::builder(url).prefix("chat")).await;
    node.login(ANNA, 1).await;
    server.run(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(node.append(ANNA, "hello").await.0.number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_rights_that_the_documentation_names_can_do_everything() {
    let server = Server::start(&[]);
    let rights = "on >secret ~chat:* &chat:* +@read +@write +@pubsub +@scripting +@connection +time";
    let set = ["ACL", "SETUSER", "chat"].into_iter().chain(rights.split(' '));
    server.run(&set.collect::<Vec<_>>());
    let url = format!("{}?user=chat&pass=secret", server.url());
    let builder = || RedisBackplane::<u64>::builder(url.clone());
    let error = builder().prefix("other").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Node::new(builder().prefix("chat")).await);
    }
    let (first, second) = nodes.split_at_mut(1);
    let (first, second) = (&first[0], &mut second[0]);
    let login = second.login(ANNA, 1).await;
    soon(second.backplane.watch("lobby")).await.unwrap();
    assert_eq!(first.append(ANNA, "hello").await.1, 1);
    assert_eq!(second.entry(ANNA).await, 1);
    second.acknowledge(ANNA, &login, 1).await.unwrap();
    let message = "to the room".into();
    let history = RoomHistory::new(10, Duration::from_secs(60));
    let append = RoomAppend::new("lobby", MessageId::random(), &[], &message, history);
    assert_eq!(soon(first.backplane.append_to_room(&append)).await.unwrap().nodes, 1);
    assert_eq!(soon(first.backplane.read_room("lobby", None, ALL)).await.unwrap().entries.len(), 1);
    assert_eq!(soon(first.backplane.online(None, 10)).await.unwrap().users, [ANNA]);
    soon(second.backplane.leave()).await;
    assert_eq!(first.count(ANNA).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_over_tcp() {
    let port = free_port();
    let _server = Server::start(&["--port", &port]);
    let node = Node::new(RedisBackplane::builder(format!("redis://127.0.0.1:{port}/3"))).await;
    assert_eq!(node.append(ANNA, "hello").await.0.number, 1);
    assert!(format!("{:?}", node.backplane).contains(&format!("127.0.0.1:{port}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_listed_under_the_name_of_their_node() {
    let server = Server::start(&[]);
    let node = Node::new(server.builder().prefix("my app")).await;
    let list = format!("{:?}", server.run(&["CLIENT", "LIST"]));
    for what in ["calls", "pushes"] {
        assert!(list.contains(&format!(" name=my_app:{}:{what} ", node.name())), "{list}");
    }
}
