//! Tidies up after nodes that are gone: their logins are over, and what they left behind goes to others.

use crate::error::Failure;
use crate::link::{Link, Value};
use crate::reply::{list, number};
use crate::script::{Call, Script};
use crate::shared::Shared;

/// Users whose logins are ended with one call.
const USERS: u64 = 128;

/// Tidies up after nodes, of which each is named with its partition. What fails is done by another node, or the next time.
pub(crate) async fn reap(shared: &Shared, link: &Link, dead: &[(usize, Vec<String>)]) {
    let after = u64::try_from(shared.settings.reaped_after().as_millis()).unwrap_or(u64::MAX);
    let dead: Vec<_> =
        dead.iter().flat_map(|(at, nodes)| nodes.iter().map(|node| (*at, node.clone()))).collect();
    let nodes = || dead.iter().map(|(_, node)| node.as_str()).collect::<std::collections::BTreeSet<_>>();
    match end_all_of(shared, link, dead.clone(), after).await {
        Ok(()) => tracing::info!(nodes = ?nodes(), "tidied up after nodes that are gone"),
        Err(failure) => {
            tracing::warn!(
                nodes = ?nodes(),
                error = &failure as &dyn std::error::Error,
                "nodes that are gone are left"
            );
        }
    }
}

/// Ends all logins of nodes, each in a partition, whose leases ended so many milliseconds ago.
pub(crate) async fn end_all_of(
    shared: &Shared,
    link: &Link,
    mut nodes: Vec<(usize, String)>,
    after: u64,
) -> Result<(), Failure> {
    while !nodes.is_empty() {
        let some = nodes.iter().map(|(partition, node)| {
            let members = shared.partitions.at(*partition).keys.members(node);
            Call::plain("SRANDMEMBER", members).number(USERS)
        });
        let users = link.call(&some.collect::<Vec<_>>()).await;
        let mut calls = Vec::with_capacity(nodes.len());
        for ((partition, node), users) in nodes.iter().zip(users) {
            let partition = shared.partitions.at(*partition);
            let call = shared.script_of(Script::Reap, partition, node).number(after);
            let users = list(users?)?.into_iter();
            calls.push(users.fold(call, |call, user| call.key(partition.keys.user(&user)).bytes(user)));
        }
        let mut left = Vec::new();
        for (node, answer) in nodes.into_iter().zip(link.call(&calls).await) {
            let answer = answer?;
            if answer != Value::Int(-1) && number(&answer)? > 0 {
                left.push(node);
            }
        }
        nodes = left;
    }
    Ok(())
}
