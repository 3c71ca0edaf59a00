//! [`Partition`]: users and rooms whose data are on one server together.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::keys::Keys;
use crate::slot::{checksum, tags};

/// What this node has to do with a partition.
pub(crate) struct Partition {
    pub(crate) number: usize,
    pub(crate) keys: Keys,
    /// This node's.
    name: RwLock<Arc<str>>,
    /// The name that the lease is under; `None` before there is one.
    leased: Mutex<Option<Arc<str>>>,
    /// What the server was known by as the master, when the lease was last renewed; `None` before it was.
    reign: Mutex<Option<String>>,
    /// Until when logins that are not there may only not be asserted yet.
    asserted_by: Mutex<Option<Instant>>,
}

impl Partition {
    fn new(number: usize, prefix: &str, tag: &str, name: &Arc<str>) -> Self {
        Self {
            number,
            keys: Keys::new(prefix, tag),
            name: RwLock::new(Arc::clone(name)),
            leased: Mutex::default(),
            reign: Mutex::default(),
            asserted_by: Mutex::default(),
        }
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn slot(&self) -> u16 {
        crate::slot::slot(&self.keys.schema())
    }

    /// The name of this node.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing of the old name is this node's any more.
    pub(crate) fn rename(&self) {
        *self.name.write().unwrap_or_else(PoisonError::into_inner) = new_name();
    }

    /// Whether this node has had a lease under a name; under any, without one.
    pub(crate) fn was_leased(&self, name: Option<&str>) -> bool {
        let leased = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        leased.as_deref().is_some_and(|leased| name.is_none_or(|name| name == leased))
    }

    pub(crate) fn note_lease(&self, name: &Arc<str>) {
        *self.leased.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(name));
    }

    pub(crate) fn note_reign(&self, now: &str) {
        let mut reign = self.reign.lock().unwrap_or_else(PoisonError::into_inner);
        if reign.as_deref() != Some(now) {
            *reign = Some(now.to_owned());
        }
    }

    /// Whether calls may go to the master that is known by this: not before the lease was renewed there, if it was renewed at
    /// another one before. The first renewal notes a failover. Without that note, a confirmation of a message that was lost
    /// would be taken for one of the message that has its number now.
    pub(crate) fn is_of(&self, reign: &str) -> bool {
        let last = self.reign.lock().unwrap_or_else(PoisonError::into_inner);
        reign.is_empty() || last.as_deref().is_none_or(|last| last == reign)
    }

    /// The lease had ended: the hub asserts its logins in a moment.
    pub(crate) fn was_late(&self, moment: Duration) {
        *self.asserted_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + moment);
    }

    /// Whether a login that is not there may only not be asserted yet.
    pub(crate) fn is_asserting(&self) -> bool {
        self.asserted_by.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|by| by > Instant::now())
    }
}

/// All of them.
pub(crate) struct Partitions {
    all: Box<[Partition]>,
    /// The first name of this node: what it has published is known by that.
    origin: Arc<str>,
}

impl Partitions {
    pub(crate) fn new(prefix: &str, count: u16) -> Self {
        let origin = new_name();
        let all = tags(count).into_iter().enumerate();
        Self { all: all.map(|(at, tag)| Partition::new(at, prefix, tag, &origin)).collect(), origin }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether there are several, which may be on several servers.
    pub(crate) fn are_many(&self) -> bool {
        self.all.len() > 1
    }

    pub(crate) fn all(&self) -> &[Partition] {
        &self.all
    }

    pub(crate) fn at(&self, number: usize) -> &Partition {
        &self.all[number]
    }

    /// The partition of a user or a room with this name. All nodes have to agree on it, for ever.
    pub(crate) fn of(&self, name: &[u8]) -> &Partition {
        match self.all.len() {
            1 => &self.all[0],
            count => &self.all[usize::from(checksum(name)) % count],
        }
    }
}

/// Eight characters that no other node has.
fn new_name() -> Arc<str> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random: u64 = rand::random();
    let name = (0..8).map(|_| {
        let at = usize::try_from(random & 31).unwrap_or_default();
        random >>= 5;
        char::from(ALPHABET[at])
    });
    name.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_users_and_rooms_never_change() {
        let partitions = Partitions::new("ws", 64);
        let of = |name: &[u8]| partitions.of(name).number;
        assert_eq!([of(b""), of(b"anna"), of(b"lobby"), of(&7_u64.to_be_bytes())], [0, 46, 54, 39]);
        assert_eq!(Partitions::new("ws", 1).of(b"anna").number, 0);
    }

    #[test]
    fn users_are_spread_over_the_partitions() {
        let partitions = Partitions::new("ws", 64);
        for name in [|user: u64| user.to_be_bytes().to_vec(), |user: u64| format!("user{user}").into_bytes()]
        {
            let mut counts = [0; 64];
            (0..64_000).for_each(|user| counts[partitions.of(&name(user)).number] += 1);
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn a_partition_is_of_the_master_that_has_renewed_its_lease() {
        let partitions = Partitions::new("ws", 1);
        let partition = partitions.at(0);
        assert!(partition.is_of("") && partition.is_of("a"));
        partition.note_reign("a");
        assert_eq!((partition.is_of(""), partition.is_of("a"), partition.is_of("b")), (true, true, false));
    }

    #[test]
    fn a_lease_is_under_one_name() {
        let partitions = Partitions::new("ws", 1);
        let partition = partitions.at(0);
        let name = partition.name();
        assert_eq!((&*name, partition.was_leased(None)), (partitions.origin(), false));
        partition.note_lease(&name);
        partition.rename();
        assert!(partition.was_leased(Some(&name)) && !partition.was_leased(Some(&partition.name())));
        assert!(partition.was_leased(None));
    }
}
