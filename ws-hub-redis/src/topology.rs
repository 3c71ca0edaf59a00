//! [`Topology`]: which master of a cluster has which slots.

use std::ops::RangeInclusive;

use crate::error::Failure;
use crate::link::Value;
use crate::reply::{bytes, number};

/// The server that was asked: some answers say of a host only that it is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a str,
    /// Whether it was asked over TLS, for which servers have ports of their own.
    pub(crate) is_secure: bool,
}

/// A server that has slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Master {
    /// The name that the cluster gives it: it keeps that when it is started again.
    pub(crate) id: String,
    pub(crate) host: String,
    /// The one for TLS, if the server that was asked was asked over TLS.
    pub(crate) port: u16,
    /// Whether the cluster believes that it is there.
    pub(crate) is_online: bool,
    pub(crate) slots: Vec<RangeInclusive<u16>>,
}

/// The masters of a cluster, as one of its servers sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology(Vec<Master>);

impl Topology {
    /// Reads what `CLUSTER SHARDS` answers.
    pub(crate) fn from_shards(answer: Value, asked: Asked<'_>) -> Result<Self, Failure> {
        let mut masters = Vec::new();
        for shard in array(answer)? {
            let mut shard = Fields::new(shard)?;
            let slots = ranges(shard.take("slots").ok_or_else(not_understood)?)?;
            if slots.is_empty() {
                continue;
            }
            let nodes = array(shard.take("nodes").ok_or_else(not_understood)?)?;
            let nodes =
                nodes.into_iter().map(|it| node_of_shard(it, asked)).collect::<Result<Vec<_>, _>>()?;
            // one that has failed may still be said to be a master beside the one that has taken its place
            let master = nodes
                .into_iter()
                .flatten()
                .reduce(|one, other| if other.is_online && !one.is_online { other } else { one });
            masters.extend(master.map(|it| Master { slots, ..it }));
        }
        Ok(Self(masters))
    }

    /// Reads what `CLUSTER SLOTS` answers, which servers know that do not know `CLUSTER SHARDS`.
    pub(crate) fn from_slots(answer: Value, asked: Asked<'_>) -> Result<Self, Failure> {
        let mut masters: Vec<Master> = Vec::new();
        for range in array(answer)? {
            let mut parts = array(range)?.into_iter();
            let mut next = || parts.next().ok_or_else(not_understood);
            let (start, end, node) = (small(&next()?)?, small(&next()?)?, next()?);
            let node = node_of_range(node, asked)?;
            let at = masters
                .iter()
                .position(|it| (&it.id, &it.host, it.port) == (&node.id, &node.host, node.port));
            match at {
                Some(at) => masters[at].slots.push(start..=end),
                None => masters.push(Master { slots: vec![start..=end], ..node }),
            }
        }
        Ok(Self(masters))
    }

    /// Those that have slots.
    #[cfg(test)]
    pub(crate) fn masters(&self) -> &[Master] {
        &self.0
    }

    /// The one that has a slot; `None` if none has it.
    pub(crate) fn master_of(&self, slot: u16) -> Option<&Master> {
        self.0.iter().find(|it| it.slots.iter().any(|range| range.contains(&slot)))
    }
}

/// A master, without its slots; `None` for what is none, or has no port.
fn node_of_shard(node: Value, asked: Asked<'_>) -> Result<Option<Master>, Failure> {
    let mut node = Fields::new(node)?;
    if node.text("role")?.as_deref() != Some("master") {
        return Ok(None);
    }
    let port = node.take(if asked.is_secure { "tls-port" } else { "port" });
    let Some(port) = port.map(|it| small(&it)).transpose()?.filter(|port| *port != 0) else {
        return Ok(None);
    };
    let host = host(node.text("endpoint")?, node.text("ip")?, asked);
    let id = node.text("id")?.ok_or_else(not_understood)?;
    let is_online = node.text("health")?.as_deref() == Some("online");
    Ok(Some(Master { id, host, port, is_online, slots: Vec::new() }))
}

/// A master, without its slots.
fn node_of_range(node: Value, asked: Asked<'_>) -> Result<Master, Failure> {
    let mut parts = array(node)?.into_iter();
    let endpoint = optional_text(parts.next().unwrap_or(Value::Nil))?;
    let port = small(&parts.next().ok_or_else(not_understood)?)?;
    let id = text(parts.next().ok_or_else(not_understood)?)?;
    // older servers say no more
    let ip =
        parts.next().map(Fields::new).transpose()?.map(|mut more| more.text("ip")).transpose()?.flatten();
    Ok(Master { id, host: host(endpoint, ip, asked), port, is_online: true, slots: Vec::new() })
}

/// Where a server is: nothing means where the one is that was asked, and `?` that the name that it should have is not known.
fn host(endpoint: Option<String>, ip: Option<String>, asked: Asked<'_>) -> String {
    let unknown = |host: &String| host == "?";
    let host = if endpoint.as_ref().is_some_and(unknown) { ip } else { endpoint };
    host.filter(|host| !host.is_empty() && !unknown(host)).unwrap_or_else(|| asked.host.to_owned())
}

/// Names and values, which the protocol RESP3 has maps for, and RESP2 lists.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn new(value: Value) -> Result<Self, Failure> {
        let pairs = match value {
            Value::Map(pairs) => pairs,
            value => {
                let mut values = array(value)?.into_iter();
                std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
            }
        };
        pairs.into_iter().map(|(name, value)| Ok((text(name)?, value))).collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(it, _)| it == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.take(name).map_or(Ok(None), optional_text)
    }
}

fn not_understood() -> Failure {
    Failure::unknown("what the server says of its cluster is not understood")
}

fn array(value: Value) -> Result<Vec<Value>, Failure> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(not_understood()),
    }
}

fn text(value: Value) -> Result<String, Failure> {
    String::from_utf8(bytes(value)?).map_err(|_| not_understood())
}

fn optional_text(value: Value) -> Result<Option<String>, Failure> {
    if value == Value::Nil { Ok(None) } else { text(value).map(Some) }
}

/// A slot or a port.
fn small(value: &Value) -> Result<u16, Failure> {
    u16::try_from(number(value)?).map_err(|_| not_understood())
}

/// Ranges, of which a list has the first slots and the last ones in turn.
fn ranges(value: Value) -> Result<Vec<RangeInclusive<u16>>, Failure> {
    let ends: Vec<_> = array(value)?.iter().map(small).collect::<Result<_, _>>()?;
    let (pairs, rest) = ends.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[start, end]| *start..=*end).collect())
    } else {
        Err(not_understood())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { host: "asked.example.com", is_secure: false };

    fn parse(recorded: &str) -> Value {
        redis::parse_redis_value(recorded.replace('\n', "\r\n").as_bytes()).unwrap()
    }

    macro_rules! shards {
        ($name:literal, $asked:expr) => {
            Topology::from_shards(parse(include_str!(concat!("recorded/shards", $name, ".txt"))), $asked)
                .unwrap()
        };
    }

    macro_rules! slots {
        ($name:literal) => {
            Topology::from_slots(parse(include_str!(concat!("recorded/slots", $name, ".txt"))), ASKED)
                .unwrap()
        };
    }

    /// Where the masters are, by their first slots.
    fn addresses(topology: &Topology) -> Vec<String> {
        let mut masters: Vec<_> = topology.masters().iter().collect();
        masters.sort_by_key(|it| *it.slots[0].start());
        masters.into_iter().map(|it| format!("{}:{}", it.host, it.port)).collect()
    }

    #[test]
    fn masters_and_their_slots_are_read_in_both_protocols() {
        let three = ["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"];
        for topology in [shards!("", ASKED), shards!("-resp2", ASKED), slots!(""), slots!("-resp2")] {
            assert_eq!(addresses(&topology), three);
            let port = |slot| topology.master_of(slot).map(|it| it.port);
            let ports = [0, 5_460, 5_461, 10_922, 10_923, 16_383].map(|slot| port(slot).unwrap());
            assert_eq!(ports, [7401, 7401, 7402, 7402, 7403, 7403]);
            assert!(topology.masters().iter().all(|it| it.is_online && it.id.len() == 40));
        }
        let (shards, slots) = (shards!("", ASKED), slots!(""));
        let id = |topology: &Topology| topology.master_of(0).unwrap().id.clone();
        assert_eq!(id(&shards), id(&slots));
    }

    #[test]
    fn a_host_that_is_not_named_is_the_one_that_was_asked() {
        let three = ["asked.example.com:7401", "asked.example.com:7402", "asked.example.com:7403"];
        assert_eq!(addresses(&shards!("-unknown-endpoints", ASKED)), three);
        assert_eq!(addresses(&slots!("-unknown-endpoints")), three);
        assert_eq!(addresses(&shards!("-alone", ASKED)), ["asked.example.com:7407"]);
    }

    #[test]
    fn a_host_whose_name_is_not_known_is_found_by_its_address() {
        let three = ["127.0.0.1:7401", "two.example.com:7402", "127.0.0.1:7403"];
        assert_eq!(addresses(&shards!("-hostnames", ASKED)), three);
        assert_eq!(addresses(&slots!("-hostnames")), three);
    }

    #[test]
    fn over_tls_the_port_is_the_one_for_tls() {
        let secure = Asked { is_secure: true, ..ASKED };
        assert_eq!(addresses(&shards!("-tls", secure)), ["asked.example.com:7408"]);
        assert_eq!(addresses(&shards!("-tls", ASKED)), ["asked.example.com:7407"]);
        assert_eq!(shards!("", secure), Topology::default());
    }

    #[test]
    fn slots_that_no_master_has_have_none() {
        let topology = shards!("-alone", ASKED);
        assert_eq!(topology.masters()[0].slots, [0..=99, 200..=16_383]);
        assert_eq!(topology.master_of(150), None);
        assert_eq!(topology.master_of(200).map(|it| it.port), Some(7407));
    }

    #[test]
    fn a_master_that_has_failed_keeps_its_slots_until_another_one_takes_them() {
        let failed = shards!("-failed", ASKED);
        let online = |slot| failed.master_of(slot).map(|it| (it.port, it.is_online));
        assert_eq!(online(16_383), Some((7403, false)));
        assert_eq!(online(0), Some((7401, true)));
        let promoted = shards!("-promoted", ASKED);
        assert_eq!(addresses(&promoted), ["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7405"]);
    }

    #[test]
    fn of_two_masters_of_the_same_slots_the_one_counts_that_is_there() {
        let shards = include_str!("recorded/shards.txt").replace("$7\nloading", "$6\nonline");
        let promoted = shards.replace("$7\nreplica", "$6\nmaster");
        let failed = promoted.replacen("$6\nonline", "$4\nfail", 1);
        let topology = Topology::from_shards(parse(&failed), ASKED).unwrap();
        assert!(topology.masters().iter().all(|it| it.is_online));
        assert_eq!(topology.masters().len(), 3);
    }

    #[test]
    fn what_is_no_answer_about_a_cluster_is_not_understood() {
        for answer in ["+OK\n", "*1\n:1\n", "*1\n*2\n:0\n:1\n", "*1\n*2\n$5\nslots\n*1\n:7\n"] {
            assert!(Topology::from_shards(parse(answer), ASKED).is_err(), "{answer}");
            assert!(Topology::from_slots(parse(answer), ASKED).is_err(), "{answer}");
        }
    }
}
