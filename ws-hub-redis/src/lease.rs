//! Leases: this node says to the others that it is alive, once for each partition.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::PROBE;
use crate::error::{Failure, FailureKind};
use crate::link::{Link, Reign, Value};
use crate::partition::Partition;
use crate::reply::{Reply, texts};
use crate::script::{Call, Script};
use crate::shared::Shared;

/// What came of the renewals of some leases.
#[derive(Default)]
pub(crate) struct Renewed {
    /// The numbers of the probes that were pushed, by partition.
    pub(crate) probes: Vec<(usize, u64)>,
    /// Of those that were pushed at a server that is getting the partition, where this node does not hear them.
    pub(crate) unheard: Vec<(usize, u64)>,
    /// The lease was gone, and somebody may have tidied up after this node: it has a new name there.
    pub(crate) renamed: Vec<usize>,
    /// Another server has the partition.
    pub(crate) moved: Vec<usize>,
    /// To be tried again soon.
    pub(crate) has_undone: bool,
    /// Nodes that are gone, by partition.
    pub(crate) dead: Vec<(usize, Vec<String>)>,
}

fn call(shared: &Shared, partition: &Partition, node: &str, reign: &Reign) -> Call {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    shared
        .script_of(Script::Renew, partition, node)
        .number(millis(shared.settings.lease))
        .number(millis(shared.settings.reaped_after()))
        .flag(partition.was_leased(Some(node)))
        .bytes(reign.now.as_str())
        .bytes(reign.before.as_str())
}

/// Renews the leases of partitions, under these names. Fails if the connection, or the server, is of no use.
pub(crate) async fn renew(
    shared: &Shared,
    link: &Link,
    names: &[(usize, Arc<str>)],
) -> Result<Renewed, Failure> {
    let calls: Vec<_> = names
        .iter()
        .map(|(partition, name)| call(shared, shared.partitions.at(*partition), name, link.reign()))
        .collect();
    let answers = timeout(PROBE, link.call(&calls)).await;
    let answers = answers.map_err(|_| Failure::lost("no answer"))?;
    let mut renewed = Renewed::default();
    for ((partition, name), answer) in names.iter().zip(answers) {
        let of = shared.partitions.at(*partition);
        match answer {
            Ok(answer) => {
                read(shared, of, name, answer, &mut renewed)?;
                of.note_reign(&link.reign().now);
            }
            Err(failure) if failure.kind == FailureKind::Moved => {
                shared.routes.note([failure].iter());
                renewed.moved.push(*partition);
            }
            Err(failure) if failure.kind == FailureKind::Ask => {
                renewed.has_undone = true;
                let there = renew_there(shared, of, name, &failure).await;
                if !there.probes.is_empty() {
                    // calls ask here first, and then there
                    of.note_reign(&link.reign().now);
                }
                renewed.unheard.extend(there.probes);
                renewed.renamed.extend(there.renamed);
            }
            // the slot is moved just now, or the cluster does not work
            Err(failure) if failure.kind == FailureKind::Busy && link.is_sharded() => {
                shared.routes.doubt();
                renewed.has_undone = true;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(renewed)
}

fn read(
    shared: &Shared,
    partition: &Partition,
    name: &Arc<str>,
    answer: Value,
    renewed: &mut Renewed,
) -> Result<(), Failure> {
    let mut reply = Reply::new(answer)?;
    let (number, is_late, is_missing) = (reply.number()?, reply.flag()?, reply.flag()?);
    let dead = texts(reply.next()?)?;
    if is_late || is_missing {
        tracing::warn!("the lease of this node had ended: others believed that it was gone");
        shared.was_late(partition);
        shared.inbox.gap_in(partition.number);
    }
    if is_missing {
        partition.rename();
        renewed.renamed.push(partition.number);
        return Ok(());
    }
    partition.note_lease(name);
    renewed.probes.push((partition.number, number));
    if !dead.is_empty() {
        renewed.dead.push((partition.number, dead));
    }
    Ok(())
}

/// Renews a lease at the server that is getting its partition.
async fn renew_there(shared: &Shared, partition: &Partition, name: &Arc<str>, asked: &Failure) -> Renewed {
    let mut renewed = Renewed::default();
    let (site, is_asking) = shared.routes.target(partition.number, Some(asked));
    let Some(lines) = site.lines().filter(|_| is_asking) else { return renewed };
    // it is the same reign as soon as the partition is there
    let calls = [call(shared, partition, name, &Reign::default())];
    let answer = timeout(PROBE, lines.link.call_asking(&calls)).await;
    if let Some(answer) = answer.ok().and_then(|mut answers| answers.pop()?.ok())
        && let Err(failure) = read(shared, partition, name, answer, &mut renewed)
    {
        tracing::debug!(error = &failure as &dyn std::error::Error, "the lease is not renewed");
    }
    renewed
}
