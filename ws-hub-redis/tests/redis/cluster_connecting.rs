//! How nodes get into a Redis Cluster, and what they say when they do not.

use tokio::task::block_in_place;
use ws_hub::{Backplane as _, Delivery, Health, Hub};
use ws_hub_redis::{ConnectError, RedisBackplane, RedisBackplaneBuilder};

use crate::cluster::{builder, shared_cluster};
use crate::server::{Server, free_port};
use crate::support::{ANNA, BOB, Node, login, soon, text, until};

const PASSWORD: &str = "correct-horse";

/// A cluster of one master, on this port.
async fn alone(port: &str, settings: &[&str]) -> Server {
    let server = without_slots(port, settings);
    server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    works(&server).await;
    server
}

/// A server that could be one of a cluster, and has nothing yet.
fn without_slots(port: &str, settings: &[&str]) -> Server {
    let own = ["--port", port, "--cluster-enabled", "yes", "--cluster-port", &free_port()];
    Server::start(&[&own[..], settings].concat())
}

async fn works(server: &Server) {
    let works = async || format!("{:?}", server.run(&["CLUSTER", "INFO"])).contains("cluster_state:ok");
    until("the cluster works", works).await;
}

fn at(port: &str) -> RedisBackplaneBuilder<u64> {
    RedisBackplane::cluster([format!("redis://127.0.0.1:{port}")])
}

async fn refused(builder: RedisBackplaneBuilder<u64>) -> ConnectError {
    let error = soon(builder.connect()).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains(PASSWORD), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_gone_are_passed_over() {
    let cluster = block_in_place(shared_cluster);
    let port = free_port();
    let gone = format!("redis://127.0.0.1:{port}");
    let servers = [gone.clone(), cluster.url(5)];
    let backplane = RedisBackplane::<u64>::cluster(servers).prefix(Server::prefix()).connect().await.unwrap();
    assert_eq!(backplane.health(), Health::Up);
    let error = refused(RedisBackplane::cluster([gone])).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&port), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_one_of_a_cluster_is_said_so() {
    let port = free_port();
    let _server = Server::start(&["--port", &port]);
    let error = refused(RedisBackplane::cluster([format!("redis://:{PASSWORD}@127.0.0.1:{port}")])).await;
    assert!(matches!(error, ConnectError::NotCluster { .. } | ConnectError::Denied { .. }), "{error:?}");
    let error = refused(at(&port)).await;
    assert!(matches!(error, ConnectError::NotCluster { .. }), "{error:?}");
    assert!(error.to_string().contains(&port), "{error}");
    assert!(error.to_string().contains("RedisBackplane::builder"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_one_of_a_cluster_is_said_so() {
    let cluster = block_in_place(shared_cluster);
    // a master, and a replica
    for server in [0, 5] {
        let url = cluster.url(server);
        let error = refused(RedisBackplane::builder(&url)).await;
        assert!(matches!(error, ConnectError::IsCluster { .. }), "{error:?}");
        assert!(error.to_string().contains(url.trim_start_matches("redis://")), "{error}");
        assert!(error.to_string().contains("RedisBackplane::cluster"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_with_another_number_of_partitions_are_not_touched() {
    let (cluster, prefix) = (block_in_place(shared_cluster), Server::prefix());
    let key = format!("{prefix}:{{021}}:v");
    drop(builder(cluster).prefix(&prefix).connect().await.unwrap());
    block_in_place(|| {
        // it is on one of them
        let set = |master| cluster.ask(master, &["SET", &key, "1:16", "XX"]).is_ok();
        assert!(cluster.masters().into_iter().any(set), "nobody has it");
    });
    let error = refused(builder(cluster).prefix(&prefix)).await;
    let ConnectError::OtherVersion { found, expected, .. } = error else { panic!("{error:?}") };
    assert_eq!((found.as_str(), expected.as_str()), ("1:16", "1:64"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_slots_that_nobody_has_is_said_so() {
    let port = free_port();
    let server = without_slots(&port, &[]);
    let says_so = |error: &ConnectError| {
        assert!(matches!(error, ConnectError::Failed { .. }), "{error:?}");
        let source = std::error::Error::source(error).unwrap().to_string();
        assert!(source.contains("slots that no master has"), "{source}");
    };
    says_so(&refused(at(&port)).await);
    server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "10000"]);
    says_so(&refused(at(&port)).await);
    server.run(&["CLUSTER", "ADDSLOTSRANGE", "10001", "16383"]);
    works(&server).await;
    assert_eq!(Node::new(at(&port)).await.append(ANNA, "hello").await.0.number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_cannot_be_reached_is_named() {
    let (port, other) = (free_port(), free_port());
    let _server = alone(&port, &["--cluster-announce-port", &other]).await;
    let error = refused(at(&port)).await;
    let ConnectError::Unreachable { address, .. } = &error else { panic!("{error:?}") };
    assert!(address.ends_with(&format!(":{other}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_cluster_does_not_have_is_refused() {
    let port = free_port();
    let _server = alone(&port, &[]).await;
    for builder in [RedisBackplane::cluster([format!("redis://127.0.0.1:{port}/3")]), at(&port).database(3)] {
        let error = refused(builder).await;
        assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_of_a_cluster_that_is_wrong_is_denied() {
    let port = free_port();
    let server =
        Server::start(&["--port", &port, "--cluster-enabled", "yes", "--cluster-port", &free_port()]);
    server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    works(&server).await;
    server.run(&["CONFIG", "SET", "requirepass", PASSWORD]);
    for builder in [at(&port), at(&port).credentials("default", "wrong")] {
        let error = refused(builder).await;
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    }
    let with_password = RedisBackplane::cluster([format!("redis://:{PASSWORD}@127.0.0.1:{port}")]);
    for builder in [at(&port).credentials("default", PASSWORD), with_password] {
        assert!(!format!("{builder:?}").contains(PASSWORD));
        Node::new(builder).await.append(ANNA, "hello").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_rights_that_the_documentation_names_can_do_everything_in_a_cluster() {
    let port = free_port();
    let server = alone(&port, &[]).await;
    let rights = "on >secret ~chat:* &chat:* +@read +@write +@pubsub +@scripting +@connection +time +info \
                  +cluster|shards";
    let set = ["ACL", "SETUSER", "chat"].into_iter().chain(rights.split_ascii_whitespace());
    server.run(&set.collect::<Vec<_>>());
    let mut hubs = Vec::new();
    for _ in 0..2 {
        let backplane = at(&port).credentials("chat", "secret").prefix("chat").connect().await.unwrap();
        hubs.push(Hub::builder().backplane(backplane).build());
    }
    let [here, there] = &hubs[..] else { panic!("there are two") };
    let (mut anna, mut bob) = (login(here, ANNA).await, login(there, BOB).await);
    assert_eq!(there.send(&ANNA, "hello").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "hello");
    here.join(&ANNA, "lobby").await.unwrap();
    there.join(&BOB, "lobby").await.unwrap();
    assert_eq!(here.room("lobby").send("to the room").await.others.unwrap(), 1);
    assert_eq!((text(&mut anna).await, text(&mut bob).await), ("to the room".into(), "to the room".into()));
    assert_eq!(here.broadcast("to all").await.others.unwrap(), 1);
    assert_eq!((text(&mut anna).await, text(&mut bob).await), ("to all".into(), "to all".into()));
    assert_eq!(here.online_everywhere(None, 10).await.unwrap().users.len(), 2);
    let error = refused(at(&port).credentials("chat", "secret").prefix("other")).await;
    assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
}

#[test]
#[should_panic(expected = "there is no server to ask for the others")]
fn without_servers_there_is_nothing_to_ask() {
    let _ = RedisBackplane::<u64>::cluster(Vec::<String>::new());
}
