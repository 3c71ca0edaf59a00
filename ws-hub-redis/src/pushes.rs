//! [`Pushes`]: the connection to one server that only subscribes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{CONNECTING, PROBE};
use crate::ear::Ear;
use crate::error::{ConnectError, Failure};
use crate::link::Link;
use crate::shared::Shared;
use crate::site::Site;

/// Channels that are subscribed to with one command.
const CHANNELS: usize = 256;

pub(crate) struct Pushes {
    /// No other connection has it.
    number: u64,
    link: Link,
    ear: Arc<Ear>,
    shared: Arc<Shared>,
    /// The partitions whose channels it has subscribed to, and the name of this node there.
    names: BTreeMap<usize, Arc<str>>,
}

impl Pushes {
    pub(crate) async fn open(shared: &Arc<Shared>, site: &Site) -> Result<Self, ConnectError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let ear = Arc::new(Ear::new(Arc::clone(&shared.inbox)));
        let hearing = Arc::clone(&ear);
        let link = site.address.connect(move |channel, payload| hearing.hear(channel, payload)).await?;
        // a server that does not answer is found out when it is subscribed to
        let _ = timeout(CONNECTING, link.name(&shared.connection_name("pushes"))).await;
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Ok(Self { number, link, ear, shared: Arc::clone(shared), names: BTreeMap::new() })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.link.is_over()
    }

    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        self.link.over()
    }

    /// The names of this node, by partition.
    pub(crate) fn names(&self) -> &BTreeMap<usize, Arc<str>> {
        &self.names
    }

    /// Subscribes to the channels of partitions. What was pushed before is missed, if this is not the first time. Returns why
    /// it could not be done, of those of which the server says so.
    pub(crate) async fn begin(&mut self, partitions: &[usize]) -> Result<Vec<Failure>, Failure> {
        let subscribed = timeout(CONNECTING, self.begin_all(partitions));
        subscribed.await.unwrap_or_else(|_| Err(Failure::refused("no answer")))
    }

    async fn begin_all(&mut self, partitions: &[usize]) -> Result<Vec<Failure>, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut channels = Vec::new();
        let mut names = Vec::new();
        for partition in partitions.iter().map(|it| shared.partitions.at(*it)) {
            let name = partition.name();
            let channel = partition.keys.node_channel(&name);
            self.ear.begin(channel.clone(), partition.number, !partition.was_leased(Some(&name)));
            channels.push((partition.number, channel, None));
            if partition.number == 0 {
                channels.push((0, partition.keys.everyone_channel(), None));
            }
            names.push((partition, name));
        }
        channels.extend(self.take_rooms(partitions, None));
        let mut failed = BTreeMap::new();
        for some in channels.chunks(CHANNELS) {
            failed.extend(self.subscribe(some).await?);
        }
        for (partition, name) in names {
            if failed.contains_key(&partition.number) {
                self.ear.end(&partition.keys.node_channel(&name));
                continue;
            }
            if partition.was_leased(None) {
                shared.inbox.gap_in(partition.number);
            }
            self.names.insert(partition.number, name);
        }
        Ok(failed.into_values().collect())
    }

    /// The channels of the rooms in partitions that one connection has subscribed to, or that have members here. They are not
    /// subscribed to any more, and forgotten if they have no members.
    fn take_rooms(&self, partitions: &[usize], of: Option<u64>) -> Vec<(usize, Vec<u8>, Option<String>)> {
        let mut channels = Vec::new();
        self.shared.rooms().retain(|name, room| {
            let partition = self.shared.partitions.of(name.as_bytes());
            let is_meant = of.map_or(room.is_wanted, |of| room.subscribed_by == Some(of));
            if !partitions.contains(&partition.number) || of.is_some() && !is_meant {
                return true;
            }
            if is_meant {
                channels.push((partition.number, partition.keys.room_channel(name), Some(name.clone())));
            }
            room.subscribed_by = None;
            room.is_wanted
        });
        channels
    }

    /// Subscribes to channels of partitions, some of which are of rooms. Returns the partitions of which it could not be done.
    async fn subscribe(
        &self,
        channels: &[(usize, Vec<u8>, Option<String>)],
    ) -> Result<Vec<(usize, Failure)>, Failure> {
        let names: Vec<_> = channels.iter().map(|(_, channel, _)| channel.clone()).collect();
        let answers = self.link.subscribe(&names).await?;
        let mut rooms = self.shared.rooms();
        let mut failed = Vec::new();
        for ((partition, _, room), answer) in channels.iter().zip(answers) {
            match answer {
                Ok(()) => {
                    if let Some(room) = room.as_ref().and_then(|room| rooms.get_mut(room)) {
                        room.subscribed_by = Some(self.number);
                    }
                }
                Err(failure) => failed.push((*partition, failure)),
            }
        }
        Ok(failed)
    }

    /// Leaves the channels of a partition: another server has it, or the node has another name there.
    pub(crate) async fn end(&mut self, partition: usize) {
        let Some(name) = self.names.remove(&partition) else { return };
        let partition = self.shared.partitions.at(partition);
        let channel = partition.keys.node_channel(&name);
        self.ear.end(&channel);
        let mut channels = vec![channel];
        if partition.number == 0 {
            channels.push(partition.keys.everyone_channel());
        }
        let rooms = self.take_rooms(&[partition.number], Some(self.number));
        channels.extend(rooms.into_iter().map(|(_, channel, _)| channel));
        for channels in channels.chunks(CHANNELS) {
            self.leave(channels).await;
        }
    }

    async fn leave(&self, channels: &[Vec<u8>]) {
        let left = timeout(PROBE, self.link.unsubscribe(channels)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!("channels that are not needed are still subscribed to");
        }
    }

    /// Waits until the server has ended channels of this node.
    pub(crate) async fn ended(&self) {
        self.ear.ended().await;
    }

    /// Forgets the partitions whose channels the server has ended. Returns whether there are any.
    pub(crate) async fn end_ended(&mut self) -> bool {
        let ended = self.ear.take_ended();
        let partitions = &self.shared.partitions;
        let is_ended = |(at, name): (&usize, &Arc<str>)| {
            let channel = partitions.at(*at).keys.node_channel(name);
            ended.contains(&channel).then_some(*at)
        };
        let ended: Vec<_> = self.names.iter().filter_map(is_ended).collect();
        for partition in &ended {
            self.end(*partition).await;
        }
        !ended.is_empty()
    }

    /// The last pushes to partitions, which have these numbers, are not heard here.
    pub(crate) fn note_unheard(&self, numbers: &[(usize, u64)]) {
        for (partition, number) in numbers {
            if let Some(name) = self.names.get(partition) {
                let channel = self.shared.partitions.at(*partition).keys.node_channel(name);
                self.ear.note_unheard(&channel, *number);
            }
        }
    }

    /// Whether the probes with these numbers, each of a partition, come in time.
    pub(crate) async fn hears(&self, numbers: &[(usize, u64)]) -> bool {
        let deadline = Instant::now() + PROBE;
        for (partition, number) in numbers {
            let Some(name) = self.names.get(partition) else { continue };
            let channel = self.shared.partitions.at(*partition).keys.node_channel(name);
            let Some(mut probes) = self.ear.probes(&channel) else { continue };
            let has_heard = tokio::select! {
                heard = timeout_at(deadline, probes.wait_for(|heard| heard >= number)) => {
                    matches!(heard, Ok(Ok(_)))
                }
                () = self.link.over() => false,
            };
            if !has_heard {
                return false;
            }
        }
        true
    }

    /// Subscribes to rooms that have members now.
    pub(crate) async fn watch(&self, rooms: &[String]) -> Result<(), Failure> {
        let channels: Vec<_> = {
            let known = self.shared.rooms();
            let is_new = |room: &&String| known.get(*room).is_none_or(|it| it.subscribed_by.is_none());
            let channels = rooms.iter().filter(is_new).map(|room| {
                let partition = self.shared.partitions.of(room.as_bytes());
                (partition.number, partition.keys.room_channel(room), Some(room.clone()))
            });
            channels.collect()
        };
        if channels.iter().any(|(partition, ..)| !self.names.contains_key(partition)) {
            return Err(Failure::busy("the partition of a room is elsewhere"));
        }
        for some in channels.chunks(CHANNELS) {
            let subscribed = timeout(PROBE, self.subscribe(some)).await;
            let failed = subscribed.unwrap_or_else(|_| Err(Failure::refused("no answer")))?;
            if let Some((_, failure)) = failed.into_iter().next() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Leaves rooms, if they have no members any more.
    pub(crate) async fn unwatch(&self, rooms: impl IntoIterator<Item = String>) {
        let mut channels = Vec::new();
        {
            let mut known = self.shared.rooms();
            for name in rooms {
                if known.get(&name).is_some_and(|room| !room.is_wanted) {
                    known.remove(&name);
                    channels.push(self.shared.partitions.of(name.as_bytes()).keys.room_channel(&name));
                }
            }
        }
        for channels in channels.chunks(CHANNELS) {
            self.leave(channels).await;
        }
    }
}
