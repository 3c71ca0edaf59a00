//! A master that Sentinels watch, and failovers.

use std::time::Duration;

use redis::Value;
use tokio::time::sleep;
use ws_hub::{Acked, After, Backplane as _, Delivery, Health, Hub, Login, Signal};
use ws_hub_redis::{ConnectError, RedisBackplane, RedisBackplaneBuilder};

use crate::server::{Server, free_port, replica_of, socket_in};
use crate::storms;
use crate::support::{ALL, ANNA, BOB, Node, login, rest, soon, text, until};

const PASSWORD: &str = "correct-horse";

/// A master, a replica and three Sentinels.
struct Watched {
    /// Both of them may be the master.
    servers: [(Server, String); 2],
    sentinels: Vec<(Server, String)>,
}

impl Watched {
    async fn start() -> Self {
        let (port, other_port) = (free_port(), free_port());
        let settings = ["--port", &port, "--repl-diskless-sync-delay", "0", "--appendonly", "yes"];
        let server = Server::start(&settings);
        let replica = replica_of(&port, &other_port);
        replica.is_in_sync().await;
        let sentinels: Vec<_> = (0..3).map(|_| free_port()).map(|own| (sentinel(&own, &port), own)).collect();
        for (sentinel, _) in &sentinels {
            until("the Sentinels know of each other", async || knows_all(sentinel)).await;
        }
        Self { servers: [(server, port), (replica, other_port)], sentinels }
    }

    fn builder(&self) -> RedisBackplaneBuilder<u64> {
        let urls = self.sentinels.iter().map(|(_, port)| format!("redis://127.0.0.1:{port}"));
        RedisBackplane::sentinel(urls, "mymaster")
    }

    async fn hubs(&self, replicas: u32) -> [Hub<u64>; 2] {
        let mut hubs = Vec::new();
        for _ in 0..2 {
            let backplane = self.builder().replicas(replicas).connect().await.unwrap();
            hubs.push(Hub::builder().login(Login::ReplaceOld).backplane(backplane).build());
        }
        hubs.try_into().unwrap()
    }

    /// Which of the servers the Sentinels say is the master.
    fn master(&self) -> usize {
        let named = self.sentinels[0].0.run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
        let Value::Array(parts) = named else { panic!("{named:?} is no address") };
        let is = |port: &str| parts[1] == Value::BulkString(port.as_bytes().to_vec());
        self.servers.iter().position(|(_, port)| is(port)).expect("it is one of them")
    }

    /// Ready when the replica has what the master, this one, has got up to now.
    async fn replicated(&self, master: usize) {
        let offset = |at: usize, name: &str| -> u64 {
            self.servers[at].0.replication().get(name).map_or(0, |offset| offset.parse().unwrap())
        };
        let written = offset(master, "master_repl_offset");
        let has_come = async || offset(1 - master, "slave_repl_offset") >= written;
        until("the replica has all", has_come).await;
    }

    /// Ready when another one is the master than this, and writes.
    async fn failed_over(&self, old: usize) {
        let is_master = || self.servers[1 - old].0.replication().get("role").is_some_and(|it| it == "master");
        let is_new = async || self.master() != old && is_master();
        until("another server is the master", is_new).await;
    }
}

/// One that takes a server for down that has not answered for two seconds.
fn sentinel(port: &str, master: &str) -> Server {
    let monitor = format!("127.0.0.1 {master} 2");
    let settings = [
        ("port", port),
        ("sentinel monitor mymaster", &monitor),
        ("sentinel down-after-milliseconds mymaster", "2000"),
        ("sentinel failover-timeout mymaster", "10000"),
    ];
    sentinel_with(&settings)
}

/// One with these lines in its file.
fn sentinel_with(settings: &[(&str, &str)]) -> Server {
    let directory = Server::directory();
    let (path, socket) = (directory.to_str().unwrap(), socket_in(&directory));
    let own = [("dir", path), ("unixsocket", &socket)];
    let lines = own.iter().chain(settings).map(|(name, value)| format!("{name} {value}\n"));
    let file = directory.join("sentinel.conf");
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    Server::start_with(&directory, vec![file.to_str().unwrap(), "--sentinel"])
}

/// Whether a Sentinel knows the replica and the two others.
fn knows_all(sentinel: &Server) -> bool {
    let count = |what: &str| match sentinel.run(&["SENTINEL", what, "mymaster"]) {
        Value::Array(all) => all.len(),
        other => panic!("{other:?} is no list"),
    };
    (count("REPLICAS"), count("SENTINELS")) == (1, 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_go_on_with_the_new_master_when_the_old_one_is_killed() {
    let mut watched = Watched::start().await;
    let [here, there] = watched.hubs(0).await;
    let mut anna = login(&there, ANNA).await;
    for number in 0..20 {
        assert!(here.send(&ANNA, number.to_string()).await.is_accepted());
        assert!(here.send(&BOB, number.to_string()).await.is_accepted());
        assert_eq!(text(&mut anna).await, number.to_string());
    }
    let old = watched.master();
    watched.replicated(old).await;
    watched.servers[old].0.kill();
    until("messages are accepted again", async || here.send(&ANNA, "again").await.is_accepted()).await;
    assert_eq!(text(&mut anna).await, "again");
    // what was lost might have had its number
    assert_eq!(rest(anna).await.1, Some(4100));
    let mut anna = login(&there, ANNA).await;
    assert_eq!(text(&mut anna).await, "again");
    assert_eq!(there.send(&ANNA, "at home").await, Delivery::Sent(1));
    assert_eq!(text(&mut anna).await, "at home");
    let mut bob = login(&here, BOB).await;
    for number in 0..20 {
        assert_eq!(text(&mut bob).await, number.to_string());
    }
    assert_eq!(there.send(&BOB, "across").await, Delivery::Sent(1));
    assert_eq!(text(&mut bob).await, "across");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_becomes_a_replica_is_left() {
    let watched = Watched::start().await;
    let [here, there] = watched.hubs(0).await;
    for round in 0..2 {
        let mut anna = login(&there, ANNA).await;
        let old = watched.master();
        watched.replicated(old).await;
        let fails_over = async || {
            // not while the Sentinels are not done with the last one
            watched.sentinels[0].0.try_run(&["SENTINEL", "FAILOVER", "mymaster"]).is_ok()
        };
        until("a failover begins", fails_over).await;
        watched.failed_over(old).await;
        // what is sent to the old one meanwhile may be lost
        let have_moved = async || watched.servers[1 - old].0.subscribers("ws:{p0}:all") == 2;
        until("both nodes are there", have_moved).await;
        let sends = async || here.send(&ANNA, round.to_string()).await.is_accepted();
        until("messages are accepted again", sends).await;
        while text(&mut anna).await != round.to_string() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_it_may_have_missed_something_in_a_failover() {
    let mut watched = Watched::start().await;
    let mut node = Node::new(watched.builder()).await;
    let login = node.login(ANNA, 1).await;
    node.append(ANNA, "first").await;
    assert_eq!(node.entry(ANNA).await, 1);
    let old = watched.master();
    watched.replicated(old).await;
    watched.servers[old].0.kill();
    node.heard(&Signal::Down).await;
    assert_eq!(node.next_signal().await, Signal::Gap);
    node.heard(&Signal::Up).await;
    assert_eq!(node.backplane.health(), Health::Up);
    assert_eq!(node.append(ANNA, "second").await.0.number, 2);
    assert_eq!(node.entry(ANNA).await, 2);
    // it is the same login, and may have got a second message that was lost
    assert_eq!(node.acknowledge(ANNA, &login, 1).await.unwrap(), Acked::Done);
    let gone = node.acknowledge(ANNA, &login, 2).await.unwrap();
    assert!(matches!(gone, Acked::Gone(Some(_))), "{gone:?}");
    let cursor = node.backplane.read(&ANNA, After::Cursor, ALL).await.unwrap().cursor;
    assert_eq!(cursor, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_in_a_failover_is_found_by_positions() {
    let mut watched = Watched::start().await;
    let old = watched.master();
    let [here, there] = watched.hubs(0).await;
    let mut anna = login(&there, ANNA).await;
    assert!(here.send(&ANNA, "kept").await.is_accepted());
    assert_eq!(text(&mut anna).await, "kept");
    watched.replicated(old).await;
    // the replica gets nothing any more
    watched.servers[1 - old].0.run(&["CONFIG", "SET", "masteruser", "nobody"]);
    watched.servers[1 - old].0.run(&["CONFIG", "SET", "masterauth", "nothing"]);
    watched.servers[old].0.run(&["CLIENT", "KILL", "TYPE", "replica"]);
    for number in 0..5 {
        let message = format!("lost {number}");
        assert!(here.send(&ANNA, message.clone()).await.is_accepted());
        assert_eq!(text(&mut anna).await, message);
    }
    watched.servers[old].0.kill();
    watched.failed_over(old).await;
    // they have numbers that the lost ones had
    let mut sent = Vec::new();
    while sent.len() < 10 {
        let message = format!("new {}", sent.len());
        if here.send(&ANNA, message.clone()).await.is_accepted() {
            sent.push(message);
        }
    }
    let (mut got, code) = rest(anna).await;
    assert!(matches!(code, Some(3100 | 4100)), "closed with {code:?}");
    let mut anna = login(&there, ANNA).await;
    while got.last() != sent.last() {
        got.push(text(&mut anna).await);
    }
    assert_eq!(got, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_replicas_nothing_that_was_accepted_is_lost_in_a_failover() {
    let mut watched = Watched::start().await;
    let hubs = watched.hubs(1).await;
    storms::nothing_is_lost(hubs, async |is_over| {
        let old = watched.master();
        sleep(Duration::from_millis(500)).await;
        watched.servers[old].0.kill();
        watched.failed_over(old).await;
        // what is accepted has to be on two servers
        watched.servers[old].0.restart();
        until("all are done", async || is_over()).await;
        assert_ne!(watched.master(), old);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_gone_or_does_not_know_the_master_is_passed_over() {
    let watched = Watched::start().await;
    let ignorant = free_port();
    let _ignorant_sentinel = sentinel_with(&[("port", &ignorant)]);
    let ports = [&free_port(), &ignorant, &watched.sentinels[0].1];
    let urls = ports.map(|port| format!("redis://127.0.0.1:{port}"));
    let node = Node::new(RedisBackplane::sentinel(urls.clone(), "mymaster")).await;
    assert_eq!(node.append(ANNA, "hello").await.0.number, 1);
    let connect = async |urls: &[String], name: &str| {
        let builder = RedisBackplane::<u64>::sentinel(urls.to_vec(), name);
        soon(builder.connect()).await.unwrap_err()
    };
    let error = connect(&urls[..2], "mymaster").await;
    let ConnectError::UnknownMaster { address, master, .. } = error else { panic!("{error:?}") };
    assert_eq!((address, master), (format!("127.0.0.1:{ignorant}"), "mymaster".to_owned()));
    let error = connect(&urls[..1], "mymaster").await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    // a server that is no Sentinel
    let error = connect(&[format!("redis://127.0.0.1:{}", watched.servers[0].1)], "mymaster").await;
    assert!(matches!(error, ConnectError::Failed { .. }), "{error:?}");
    let error = connect(&["https://example.com".to_owned()], "mymaster").await;
    assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_the_master_have_passwords_of_their_own() {
    let (port, sentinel_port) = (free_port(), free_port());
    let server = Server::start(&["--port", &port, "--requirepass", PASSWORD]);
    let monitor = format!("127.0.0.1 {port} 1");
    let settings = [
        ("port", &*sentinel_port),
        ("requirepass", "another"),
        ("sentinel monitor mymaster", &monitor),
        ("sentinel auth-pass mymaster", PASSWORD),
    ];
    let _sentinel = sentinel_with(&settings);
    let builder = |password: &str| {
        RedisBackplane::<u64>::sentinel(
            [format!("redis://:{password}@127.0.0.1:{sentinel_port}")],
            "mymaster",
        )
    };
    let denied = [
        builder("wrong").credentials("default", PASSWORD),
        builder("another"),
        builder("another").credentials("default", "wrong"),
    ];
    for builder in denied {
        let error = soon(builder.connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains(PASSWORD), "{error:?}");
    }
    let node = Node::new(builder("another").credentials("default", PASSWORD).database(3)).await;
    assert_eq!(node.append(ANNA, "hello").await.0.number, 1);
    let client = redis::Client::open(format!("{}?pass={PASSWORD}&db=3", server.url())).unwrap();
    let size: usize = redis::cmd("DBSIZE").query(&mut client.get_connection().unwrap()).unwrap();
    assert!(size > 0, "nothing is kept there");
}

#[tokio::test]
#[should_panic(expected = "there is no Sentinel to ask for the master")]
async fn without_sentinels_there_is_nothing_to_ask() {
    let _ = RedisBackplane::<u64>::sentinel(Vec::<String>::new(), "mymaster");
}
