//! Who is online, in pages.
//!
//! Partitions are looked at one after the other. A page ends at a place: the partition, the node, where the scan of its users is, and the last user that was told of there. A scan may
//! answer more than was asked for, and what was not told of is asked for again.

use crate::link::Value;
use ws_hub::{Key, LogError, Online};

use crate::error::Failure;
use crate::reply::{Reply, list, texts};
use crate::script::{Call, Script};
use crate::shared::Shared;
use crate::users::count;

/// Users that are looked at with one scan, at least.
const SCANNED: usize = 100;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    partition: usize,
    node: String,
    /// The cursor of the scan.
    cursor: String,
    /// The last user of the page before, among those that this cursor gives; empty at the start of a cursor.
    after: Vec<u8>,
}

impl Place {
    fn start(partition: usize, node: String) -> Self {
        Self { partition, node, cursor: "0".to_owned(), after: Vec::new() }
    }

    fn encode(&self) -> String {
        let mut text = format!("{}.{}.{}.", self.partition, self.node, self.cursor);
        for byte in &self.after {
            let digits = [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16));
            text.extend(digits.into_iter().flatten());
        }
        text
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let partition = parts.next()?.parse().ok()?;
        let (node, cursor, after) = (parts.next()?, parts.next()?, parts.next()?);
        let is_cursor = !cursor.is_empty() && cursor.bytes().all(|it| it.is_ascii_digit());
        if parts.next().is_some() || !is_cursor || !after.is_ascii() || after.len() % 2 != 0 {
            return None;
        }
        let bytes = (0..after.len()).step_by(2).map(|at| u8::from_str_radix(&after[at..at + 2], 16).ok());
        let after = bytes.collect::<Option<_>>()?;
        Some(Self { partition, node: node.to_owned(), cursor: cursor.to_owned(), after })
    }
}

pub(crate) async fn online<U: Key>(
    shared: &Shared,
    after: Option<&str>,
    limit: usize,
) -> Result<Online<U>, LogError> {
    let limit = limit.max(1);
    let nowhere = || LogError::refused("no page begins there");
    let mut place = after.map(|after| Place::decode(after).ok_or_else(nowhere)).transpose()?;
    let mut partition = place.as_ref().map_or(0, |place| place.partition);
    if partition >= shared.partitions.all().len() {
        return Err(nowhere());
    }
    let mut users = Vec::new();
    while partition < shared.partitions.all().len() {
        let nodes = nodes(shared, partition).await?;
        place = place.or_else(|| nodes.first().cloned().map(|node| Place::start(partition, node)));
        while let Some(at) = place.take() {
            if users.len() == limit {
                return Ok(Online { users, next: Some(at.encode()) });
            }
            place = step(shared, at, limit - users.len(), &nodes, &mut users).await?;
        }
        partition += 1;
    }
    Ok(Online { users, next: None })
}

/// Those that are alive, in order.
async fn nodes(shared: &Shared, partition: usize) -> Result<Vec<String>, Failure> {
    let partition = shared.partitions.at(partition);
    let mut nodes = texts(shared.ask_one(partition, || shared.script(Script::Nodes, partition)).await?)?;
    nodes.sort_unstable();
    Ok(nodes)
}

/// Adds users of one scan, not more than so many. Returns where to go on in the partition.
async fn step<U: Key>(
    shared: &Shared,
    at: Place,
    most: usize,
    nodes: &[String],
    users: &mut Vec<U>,
) -> Result<Option<Place>, LogError> {
    let partition = shared.partitions.at(at.partition);
    let members = partition.keys.members(&at.node);
    let call = || {
        Call::plain("SSCAN", members.clone()).bytes(at.cursor.as_str()).bytes("COUNT").number(SCANNED as u64)
    };
    let mut reply = Reply::new(shared.ask_one(partition, call).await?)?;
    let cursor = reply.text()?;
    let mut found = members_of(reply.next()?)?;
    found.retain(|user| *user > at.after);
    let counts = count(shared, &found).await?;
    let first = nodes.partition_point(|node| *node <= at.node);
    let mut left = most;
    for (user, (connections, node)) in found.into_iter().zip(counts) {
        // one with connections on several nodes is told of at the first one
        if connections == 0 || node != at.node {
            continue;
        }
        if left == 0 {
            return Ok(Some(Place { after: last_told(users), ..at }));
        }
        if let Some(user) = U::decode(&user) {
            users.push(user);
            left -= 1;
        }
    }
    Ok(if cursor == "0" {
        nodes.get(first).cloned().map(|node| Place::start(at.partition, node))
    } else {
        Some(Place { cursor, after: Vec::new(), ..at })
    })
}

fn last_told<U: Key>(users: &[U]) -> Vec<u8> {
    users.last().map(crate::codec::encode_user).unwrap_or_default()
}

/// In order, each once.
fn members_of(value: Value) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = list(value)?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was() {
        for after in [Vec::new(), vec![0, 0xff, b'.']] {
            let place = Place { partition: 3, node: "node".to_owned(), cursor: "17".to_owned(), after };
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        for text in [
            "",
            "0.node",
            "0.node.17",
            "0.node..",
            "0.node.x.",
            "0.node.1.0",
            "0.node.1.0g",
            "0.node.1.00.",
            "0.node.1.ä",
            "x.node.1.",
        ] {
            assert_eq!(Place::decode(text), None, "{text:?}");
        }
    }
}
