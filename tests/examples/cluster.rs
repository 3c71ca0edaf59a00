//! The example `cluster`: what it starts, it ends.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{DEADLINE, Directory, Example};

/// The addresses of its nodes, as its page is told.
async fn nodes_of(example: &Example) -> Vec<String> {
    let mut control = super::connect(example).await;
    let message = timeout(DEADLINE, control.next()).await.expect("in time").expect("not the end");
    let text = message.expect("no error").into_text().expect("a text");
    let nodes: Value = serde_json::from_str(&text).expect("JSON");
    let nodes = nodes.as_array().expect("a list of nodes");
    nodes.iter().map(|node| node["address"].as_str().expect("it runs").to_owned()).collect()
}

/// Waits until the nodes are gone, and Redis, which ends before its directory is removed.
fn wait_until_all_is_gone(nodes: &[String], temporary: &Directory) {
    let deadline = Instant::now() + DEADLINE;
    let is_there = |node: &String| TcpStream::connect(node).is_ok();
    let files = || fs::read_dir(temporary.file("")).expect("a directory").count();
    while files() > 0 || nodes.iter().any(is_there) {
        assert!(Instant::now() < deadline, "{} files, nodes {nodes:?}", files());
        thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn ctrl_c_ends_its_nodes_and_its_redis_and_removes_the_directory() {
    let temporary = Directory::new();
    let example = Example::start_with("cluster", "127.0.0.1:0", &[("TMPDIR", &temporary.file(""))]);
    let nodes = nodes_of(&example).await;
    assert_eq!((nodes.len(), fs::read_dir(temporary.file("")).expect("a directory").count()), (3, 1));
    example.interrupt();
    assert_eq!(example.finish(), [""; 0]);
    wait_until_all_is_gone(&nodes, &temporary);
}

#[tokio::test]
async fn so_does_kill_9() {
    let temporary = Directory::new();
    let example = Example::start_with("cluster", "127.0.0.1:0", &[("TMPDIR", &temporary.file(""))]);
    let nodes = nodes_of(&example).await;
    example.kill();
    wait_until_all_is_gone(&nodes, &temporary);
}

#[cfg(unix)]
#[test]
fn without_redis_server_it_says_how_to_install_it() {
    let programs = Directory::new();
    std::os::unix::fs::symlink("/bin/sh", programs.file("sh")).expect("a link");
    let printed = Example::refuses("cluster", &[("PATH", OsStr::new(&programs.file("")))]);
    assert_eq!(
        printed,
        ["there is no redis-server: install it, on Debian with `apt install redis-server`".to_owned()]
    );
}
