//! Nodes over a Redis Cluster.

use std::sync::OnceLock;

use ws_hub::{Backplane as _, Health};
use ws_hub_redis::{ConnectError, RedisBackplane, RedisBackplaneBuilder};

use crate::redis_cluster::RedisCluster;
use crate::server::{Server, free_port};
use crate::support::{Node, soon};

/// The cluster of all tests that do not harm it.
fn shared() -> &'static RedisCluster {
    static SHARED: OnceLock<RedisCluster> = OnceLock::new();
    SHARED.get_or_init(RedisCluster::start)
}

fn builder(cluster: &RedisCluster) -> RedisBackplaneBuilder<u64> {
    RedisBackplane::cluster(cluster.urls())
}

mod conformance {
    use super::*;

    /// So many nodes over data of their own. The cases make them outside of anything that waits.
    fn nodes(count: usize) -> Vec<RedisBackplane<u64>> {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let prefix = Server::prefix();
                let mut nodes = Vec::new();
                for _ in 0..count {
                    nodes.push(builder(shared()).prefix(&prefix).connect().await.unwrap());
                }
                nodes
            })
        })
    }

    ws_hub::testing::backplane_suite!(crate::cluster::conformance::nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_a_cluster_says_how_to_connect_to_it() {
    let url = shared().url(0);
    let error = soon(RedisBackplane::<u64>::builder(url.replace("//", "//:secret@")).connect()).await;
    let error = error.unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = soon(RedisBackplane::<u64>::builder(&url).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::IsCluster { .. }), "{error:?}");
    assert!(error.to_string().contains("RedisBackplane::cluster"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_in_no_cluster_says_how_to_connect_to_it() {
    let port = free_port();
    let _server = Server::start(&["--port", &port]);
    let builder = RedisBackplane::<u64>::cluster([format!("redis://127.0.0.1:{port}")]);
    let error = soon(builder.connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotCluster { .. }), "{error:?}");
    assert!(error.to_string().contains("RedisBackplane::builder"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_on_all_masters_are_reached() {
    let prefix = Server::prefix();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Node::new(builder(shared()).prefix(&prefix)).await);
    }
    let [here, there] = &mut nodes[..] else { panic!("there are two") };
    assert_eq!(here.backplane.health(), Health::Up);
    for user in 0..200 {
        there.login(user, user).await;
        assert_eq!(here.append(user, "hello").await.1, 1);
        assert_eq!(there.entry(user).await, 1);
    }
    let users: Vec<u64> = (0..200).collect();
    assert_eq!(soon(here.backplane.connections(&users)).await.unwrap(), [1; 200]);
}
