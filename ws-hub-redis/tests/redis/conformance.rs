//! What each [`Backplane`](ws_hub::Backplane) has to do.

use crate::server::{Server, shared};

/// So many nodes over data of their own. The cases make them outside of anything that waits.
fn nodes(count: usize) -> Vec<ws_hub_redis::RedisBackplane<u64>> {
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(async {
            let prefix = Server::prefix();
            let mut nodes = Vec::new();
            for _ in 0..count {
                nodes.push(shared().builder().prefix(&prefix).connect().await.unwrap());
            }
            nodes
        })
    })
}

ws_hub::testing::backplane_suite!(crate::conformance::nodes);
