//! Nodes that are thought to be gone, come back, or do not.

use std::time::Duration;

use ws_hub::{Acked, Backplane as _, Held, Logout, Signal, Standing};

use crate::server::{Server, shared};
use crate::support::{ANNA, BOB, Node, soon, until};

async fn nodes<const N: usize>(lease: Duration) -> (String, [Node; N]) {
    let prefix = Server::prefix();
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Node::new(shared().builder().prefix(&prefix).lease(lease)).await);
    }
    (format!("{prefix}:{{p0}}:"), nodes.try_into().ok().unwrap())
}

const MINUTE: Duration = Duration::from_secs(60);
/// So that what has to be waited for comes soon.
const SHORT: Duration = Duration::from_secs(5);

async fn standing(node: &Node, login: u64) -> Standing {
    let held = Held { user: &ANNA, connection: 1, login, confirmed: 0, limit: None, replace: false };
    soon(node.backplane.reassert(&[held])).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_a_node_whose_lease_has_ended_are_offline_until_it_is_back() {
    let (keys, [mut late, other]) = nodes(SHORT).await;
    let login = late.login(ANNA, 1).await;
    assert_eq!(other.append(ANNA, "there").await.1, 1);
    shared().run(&["ZADD", &format!("{keys}n"), "1", &late.name()]);
    // until the next renewal
    if other.append(ANNA, "away").await.1 == 0 {
        late.heard(&Signal::Gap).await;
    }
    until("it is back", async || other.count(ANNA).await == 1).await;
    assert_eq!(standing(&late, login.login).await, Standing::StartsAt(0));
    assert_eq!(late.acknowledge(ANNA, &login, 2).await.unwrap(), Acked::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_a_node_whose_lease_has_ended_waits_until_it_is_renewed() {
    let (keys, [mut node]) = nodes::<1>(MINUTE).await;
    shared().run(&["ZADD", &format!("{keys}n"), "1", &node.name()]);
    node.login(ANNA, 1).await;
    assert_eq!(node.count(ANNA).await, 1);
    // others may have thought that it is gone
    assert_eq!(node.next_signal().await, Signal::Gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_others_have_tidied_up_after_has_another_name() {
    let (keys, [mut node, other]) = nodes(MINUTE).await;
    let login = node.login(ANNA, 1).await;
    let name = node.name();
    shared().run(&["ZREM", &format!("{keys}n"), &name]);
    // it finds out when it needs its lease
    node.login(BOB, 2).await;
    node.heard(&Signal::Gap).await;
    assert_ne!(node.name(), name);
    assert_eq!(other.count(ANNA).await, 0);
    assert_eq!(standing(&node, login.login).await, Standing::StartsAt(0));
    assert_eq!(other.append(ANNA, "hello").await.1, 1);
    assert_eq!(node.entry(ANNA).await, 1);
    let logout = Logout { user: &ANNA, connection: 1, unsent: None };
    soon(node.backplane.logout(&[logout])).await.unwrap();
    assert_eq!(other.count(ANNA).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_leaves_behind_goes_to_another_connection() {
    let (keys, [killed, mut other]) = nodes(SHORT).await;
    for text in ["one", "two", "three"] {
        other.append(ANNA, text).await;
    }
    let first = killed.login(ANNA, 1).await;
    killed.login(BOB, 2).await;
    let second = other.login(ANNA, 1).await;
    assert_eq!(second.read.after, 3);
    assert_eq!(killed.acknowledge(ANNA, &first, 1).await.unwrap(), Acked::Done);
    let name = killed.name();
    drop(killed);
    let restock = other.signal(|signal| match signal {
        Signal::Restock { user: ANNA, login, from } => Some((login, from)),
        _ => None,
    });
    assert_eq!(restock.await, (second.login, 1));
    assert_eq!((other.count(ANNA).await, other.count(BOB).await), (1, 0));
    // and nothing of it is left
    until("all of it is gone", async || {
        let members = shared().number(&["EXISTS", &format!("{keys}m:{name}")]);
        let pushes = shared().number(&["HEXISTS", &format!("{keys}s"), &name]);
        members + pushes == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_leaves_behind_that_leaves_goes_to_another_connection() {
    let (_, [leaves, mut other]) = nodes(MINUTE).await;
    other.append(ANNA, "one").await;
    leaves.login(ANNA, 1).await;
    let second = other.login(ANNA, 1).await;
    assert_eq!(second.read.after, 1);
    for user in 100..400 {
        leaves.login(user, user).await;
    }
    soon(leaves.backplane.leave()).await;
    let restock = other.signal(|signal| match signal {
        Signal::Restock { user: ANNA, login, from } => Some((login, from)),
        _ => None,
    });
    assert_eq!(restock.await, (second.login, 0));
    let online = soon(other.backplane.online(None, 1000)).await.unwrap();
    assert_eq!((online.users, online.next), (vec![ANNA], None));
}
