//! [`InProcess`]: joins the hubs of one process; a hub without a backplane is the only node of one.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, ready};
use std::hash::Hash;
#[cfg(not(all(test, shuttle)))]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(all(test, shuttle))]
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard};
use tokio::sync::Semaphore;
use ws_core::{CloseFrame, Message};

use crate::backplane::{
    Ack, Acked, Backplane, Held, LoggedIn, LoginError, LoginRequest, Logout, NodeId, Online, Packet, Sent,
    Signal, Standing, Unsent,
};
use crate::calls::{failed_all, within};
use crate::directory::{Asserted, Begun, Directory, First, Over, Place, Restock, Started, TooMany, Verdict};
use crate::faults::{Call, Faults};
use crate::inbox::{Inbox, Outbox, inbox};
use crate::log::{
    Acknowledge, After, Append, Appended, Continuity, Durability, Entry, Log, LogError, Page, Read,
};
use crate::memory::MemoryLog;
use crate::position::{MessageId, Position};
use crate::room::{RoomAppend, RoomRead, RoomSent};
use crate::room_log::RoomLogs;
use crate::task::spawn;

/// A backplane for hubs of one process: a node of it.
///
/// It is for tests of what several nodes do, and for programs with several hubs over the same users. All nodes share a
/// [`Log`]; by default that is a [`MemoryLog`]. [Histories of rooms](crate::RoomHistory) are in memory, whatever the log is. It
/// can [be told](Self::faults) to fail as a broker does.
///
/// At most 64 MiB of messages are on their way to the log, over all nodes: what else is sent waits. A message counts as its
/// length and 1 KiB. One for which the log has no answer within a minute is no longer waited for: if it gets into the log
/// after that, its user gets it with their next message, or at their next login.
///
/// ```
/// use ws_hub::{Hub, InProcess};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let node = InProcess::new();
/// let other = node.another();
/// let [first, second] = [node, other].map(|node| Hub::<u64>::builder().backplane(node).build());
/// let reach = first.broadcast("to all users of both").await;
/// assert_eq!((reach.here, reach.others.unwrap()), (0, 1));
/// # drop(second);
/// # }
/// ```
pub struct InProcess<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    shared: Arc<Shared<U>>,
    node: usize,
    inbox: Mutex<Option<Inbox<U>>>,
}

/// How many bytes of messages are on their way to the log at most, and what each counts besides its length.
const ON_THE_WAY: usize = 64 * 1024 * 1024;
const MESSAGE: usize = 1024;

/// How long messages are on their way to the log at most.
const ABANDONED: Duration = Duration::from_secs(60);

struct Shared<U> {
    log: Arc<dyn Log<U>>,
    /// Whether that is a [`MemoryLog`].
    is_in_memory: bool,
    /// The bytes of messages that there is room for on the way to the log.
    room: Arc<Semaphore>,
    directory: Mutex<Directory<U>>,
    nodes: Mutex<Nodes<U>>,
    rooms: Mutex<RoomLogs<U>>,
    faults: Faults<U>,
}

struct Nodes<U> {
    inboxes: HashMap<usize, Outbox<U>>,
    created: usize,
}

/// A message to append, for a task of its own.
struct Owned<U> {
    user: U,
    id: MessageId,
    message: Message,
    again: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // each use leaves it whole
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> InProcess<U> {
    /// The first node of a backplane, over a [`MemoryLog`] with its defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::over(MemoryLog::new())
    }

    /// The first node of a backplane over a log.
    #[must_use]
    pub fn over(log: impl Log<U>) -> Self {
        let nodes = Nodes { inboxes: HashMap::new(), created: 0 };
        Self::on(Arc::new(Shared {
            is_in_memory: (&log as &dyn Any).is::<MemoryLog<U>>(),
            log: Arc::new(log),
            room: Arc::new(Semaphore::new(ON_THE_WAY)),
            directory: Mutex::new(Directory::new()),
            nodes: Mutex::new(nodes),
            rooms: Mutex::new(RoomLogs::new()),
            faults: Faults::default(),
        }))
    }

    /// Another node of the same backplane.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::on(Arc::clone(&self.shared))
    }

    fn on(shared: Arc<Shared<U>>) -> Self {
        let (outbox, inbox) = inbox();
        let mut nodes = lock(&shared.nodes);
        nodes.created += 1;
        let node = nodes.created;
        nodes.inboxes.insert(node, outbox);
        drop(nodes);
        Self { shared, node, inbox: Mutex::new(Some(inbox)) }
    }

    /// What tests can have go wrong, on all nodes.
    #[must_use]
    pub fn faults(&self) -> &Faults<U> {
        &self.shared.faults
    }

    /// This node is believed to be gone, until [`renew_lease`](Self::renew_lease): its logins are over, and it can do nothing.
    pub fn end_lease(&self) {
        self.shared.faults.set_dead(self.node, true);
        self.shared.end_node(self.node, false);
    }

    /// This node is back. Its hub is told that it may have missed something.
    pub fn renew_lease(&self) {
        self.shared.faults.set_dead(self.node, false);
        self.shared.push(self.node, Signal::Gap);
    }

    /// Asks the faults, does what is asked for, and answers, or not.
    fn call<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        work: impl Future<Output = Result<T, LogError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        Box::pin(async move { self.shared.faults.call(self.node, call, work).await })
    }

    /// Returns how many there are.
    fn push_to_others(&self, signal: &Signal<U>) -> usize {
        let nodes: Vec<_> = lock(&self.shared.nodes).inboxes.keys().copied().collect();
        let others: Vec<_> = nodes.into_iter().filter(|node| *node != self.node).collect();
        for node in &others {
            self.shared.push(*node, signal.clone());
        }
        others.len()
    }

    fn place(&self, connection: u64) -> Place {
        Place { node: self.node, connection }
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Shared<U> {
    fn push(&self, node: usize, signal: Signal<U>) {
        let outbox = lock(&self.nodes).inboxes.get(&node).cloned();
        if let Some(outbox) = outbox {
            self.faults.push(signal, move |signal| outbox.send(signal));
        }
    }

    fn restock(&self, user: &U, restock: Option<Restock>) {
        if let Some(Restock { node, login, from }) = restock {
            self.push(node, Signal::Restock { user: user.clone(), login, from });
        }
    }

    /// Tells the nodes of logins that a newer one on the node `here` has replaced.
    fn replaced(&self, user: &U, login: u64, nodes: Vec<usize>, here: usize) {
        for node in nodes {
            if node != here {
                self.push(node, Signal::Replaced { user: user.clone(), login });
            }
        }
    }

    fn end_node(&self, node: usize, for_good: bool) {
        let restocks = lock(&self.directory).end_all_of(node, for_good);
        for (user, restock) in restocks {
            self.restock(&user, Some(restock));
        }
    }

    /// A message was appended: tells the nodes of its user, and `here` if it is `told`. Returns how many connections the user
    /// has on nodes other than `here`.
    fn appended(&self, append: &Append<'_, U>, appended: Appended, here: usize, told: bool) -> usize {
        let Appended::Logged { position, .. } = appended else { return 0 };
        let mut directory = lock(&self.directory);
        let nodes: Vec<_> =
            directory.appended(append.user, position).filter(|it| told || *it != here).collect();
        drop(directory);
        let elsewhere = nodes.iter().filter(|node| **node != here).count();
        self.tell(append, appended, nodes);
        elsewhere
    }

    /// Tells nodes that a message was appended.
    fn tell(&self, append: &Append<'_, U>, appended: Appended, mut nodes: Vec<usize>) {
        let Appended::Logged { position, previous, .. } = appended else { return };
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let entry = Entry::new(position, previous, append.message.clone());
            self.push(node, Signal::Entry { user: append.user.clone(), entry });
        }
    }

    /// Appends at once, if the log can.
    fn append_now(&self, append: &Append<'_, U>, here: usize) -> Option<Sent> {
        let call = |known, handover| self.log.append_now(&Append { known, handover, ..*append });
        if !self.is_in_memory {
            // one of others may wait for those who need the directory
            let known = lock(&self.directory).known(append.user);
            let appended = call(known, None)?;
            return Some(Sent { appended, elsewhere: self.appended(append, appended, here, false) });
        }
        let mut directory = lock(&self.directory);
        let (appended, logins) = directory.append(append.user, append.handover, call)?;
        let mut others = Vec::new();
        logins.filter(|node| *node != here).for_each(|node| others.push(node));
        drop(directory);
        let elsewhere = others.len();
        if elsewhere > 0 {
            self.tell(append, appended, others);
        }
        Some(Sent { appended, elsewhere })
    }

    /// Appends and signals what a batch says.
    async fn append_all(&self, batch: Vec<Owned<U>>, here: usize) -> Vec<Result<Sent, LogError>> {
        let appends: Vec<_> = batch
            .iter()
            .map(|Owned { user, id, message, again }| {
                let append = Append::new(user, *id, message).again(*again);
                let known = lock(&self.directory).known(user);
                append.known(known)
            })
            .collect();
        let results = self.log.append(&appends).await;
        let sent = appends.iter().zip(results).map(|(append, result)| {
            let appended = result?;
            let elsewhere = self.appended(append, appended, here, true);
            Ok(Sent { appended, elsewhere })
        });
        sent.collect()
    }

    async fn acknowledge_one(&self, ack: &Ack<'_, U>) -> Result<Acked, LogError> {
        let verdict = lock(&self.directory).acknowledge(ack.user, ack.login, ack.start, ack.upto);
        let upto = match verdict {
            Verdict::Cursor(upto) => upto,
            Verdict::StartsAt(start) => return Ok(Acked::StartsAt(start)),
            Verdict::Gone(frame) => return Ok(Acked::Gone(frame)),
        };
        let acknowledge = Acknowledge { user: ack.user, upto };
        if !self.log.acknowledge_now(&acknowledge) {
            self.log.acknowledge(&[acknowledge]).await.remove(0)?;
        }
        Ok(Acked::Done)
    }

    async fn log_in(
        &self,
        place: Place,
        login: &LoginRequest<'_, U>,
    ) -> Result<Result<LoggedIn, LoginError>, LogError> {
        let begun = lock(&self.directory).begin(login.user, place, login.limit, login.replace);
        let Begun { number, replaced, is_covered } = match begun {
            Ok(begun) => begun,
            Err(TooMany) => return Ok(Err(LoginError::TooMany)),
        };
        self.replaced(login.user, number, replaced, place.node);
        let (mut read, goes_on) = self.first_read(login, is_covered).await?;
        let first = First { after: read.after, cursor: read.cursor, top: read.top, goes_on };
        let started = lock(&self.directory).start(login.user, number, &first);
        let Started { start, restock } = match started {
            Ok(started) => started,
            Err(Over(frame)) => return Ok(Err(LoginError::Gone(frame))),
        };
        self.restock(login.user, restock);
        if start != read.after {
            // other logins have come and gone while it was read
            let continuity = read.continuity;
            read = self.log.read(login.user, After::Number(start), login.page).await?;
            read.continuity = continuity;
        }
        Ok(Ok(LoggedIn { login: number, read }))
    }

    /// What a login gets first: what follows the position that its client knows, or what nobody has got. Returns whether it is
    /// the former.
    async fn first_read(
        &self,
        login: &LoginRequest<'_, U>,
        is_covered: bool,
    ) -> Result<(Read, bool), LogError> {
        let after = login.after.map_or(After::Cursor, After::Position);
        let mut read = self.read(login.user, after, login.page).await?;
        let goes_on = login.after.is_some() && read.continuity == Continuity::Complete;
        if goes_on {
            // the client has got everything up to there
            read.cursor = read.cursor.max(read.after);
            self.log.acknowledge(&[Acknowledge { user: login.user, upto: read.after }]).await.remove(0)?;
        } else if is_covered {
            // another connection sends what nobody has got yet
            read.entries.clear();
            read.after = read.top.map_or(read.after, |top| top.number);
        }
        Ok((read, goes_on))
    }

    /// Reads a log. One that is not kept any more, of a user who is logged in, still ends where it did.
    async fn read(&self, user: &U, after: After, page: Page) -> Result<Read, LogError> {
        // before it is read: what is appended after that is in the log
        let known = lock(&self.directory).known(user);
        let mut read = self.log.read(user, after, page).await?;
        if let (None, Some(known)) = (read.top, known) {
            let is_whole = match after {
                After::Cursor => true,
                After::Number(number) => number >= known.number,
                After::Position(position) => position == known,
            };
            read.continuity = if is_whole { Continuity::Complete } else { Continuity::Incomplete };
            (read.after, read.cursor, read.top) = (known.number, known.number, Some(known));
        }
        Ok(read)
    }

    async fn log_out(&self, place: Place, logout: &Logout<'_, U>) -> Result<(), LogError> {
        let cursor = if logout.unsent.is_some() { self.cursor(logout.user).await? } else { 0 };
        let (gives_back, restock) = lock(&self.directory).end(logout.user, place, logout.unsent, cursor);
        if gives_back && let Some(Unsent { after, .. }) = logout.unsent {
            self.log.give_back(logout.user, after).await?;
            let cursor = lock(&self.directory).given_back(logout.user, place);
            if let Some(upto) = cursor.filter(|cursor| *cursor > after) {
                // another login has brought it meanwhile
                self.log.acknowledge(&[Acknowledge { user: logout.user, upto }]).await.remove(0)?;
            }
        }
        self.restock(logout.user, restock);
        Ok(())
    }

    /// Up to where all is delivered to a user, as the log says.
    async fn cursor(&self, user: &U) -> Result<u64, LogError> {
        let nothing = Page { messages: 0, bytes: 0 };
        Ok(self.log.read(user, After::Cursor, nothing).await?.cursor)
    }

    async fn reassert_one(&self, place: Place, held: &Held<'_, U>) -> Result<Standing, LogError> {
        let cursor = self.cursor(held.user).await?;
        let asserted = Asserted {
            number: held.login,
            place,
            confirmed: held.confirmed,
            cursor,
            limit: held.limit,
            replace: held.replace,
        };
        let reasserted = lock(&self.directory).reassert(held.user, &asserted);
        self.restock(held.user, reasserted.restock);
        self.replaced(held.user, held.login, reasserted.replaced, place.node);
        Ok(match reasserted.verdict {
            Verdict::StartsAt(start) => Standing::StartsAt(start),
            Verdict::Cursor(_) => Standing::Gone(None),
            Verdict::Gone(frame) => Standing::Gone(frame),
        })
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Default for InProcess<U> {
    fn default() -> Self {
        Self::new()
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Drop for InProcess<U> {
    fn drop(&mut self) {
        lock(&self.shared.nodes).inboxes.remove(&self.node);
        self.shared.end_node(self.node, true);
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> fmt::Debug for InProcess<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Backplane<U> for InProcess<U> {
    fn node(&self) -> NodeId {
        NodeId::new(self.node.to_string())
    }

    fn durability(&self) -> Durability {
        self.shared.log.durability()
    }

    fn signals(&self) -> BoxStream<'static, Signal<U>> {
        match lock(&self.inbox).take() {
            Some(inbox) => Box::pin(inbox),
            None => Box::pin(Inbox::closed()),
        }
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Sent, LogError>>> {
        let owned = batch.iter().map(|append| Owned {
            user: append.user.clone(),
            id: append.id,
            message: append.message.clone(),
            again: append.again,
        });
        let (owned, shared, here) = (owned.collect::<Vec<_>>(), Arc::clone(&self.shared), self.node);
        let count = batch.len();
        let bytes: usize = batch.iter().map(|append| append.message.len() + MESSAGE).sum();
        let bytes = u32::try_from(bytes.min(ON_THE_WAY)).unwrap_or(u32::MAX);
        Box::pin(async move {
            let work = async {
                let room = Arc::clone(&shared.room).acquire_many_owned(bytes).await;
                // what has begun is also signalled, even if nobody waits for the answer any more
                let task = spawn(async move {
                    let _room = room;
                    within(ABANDONED, async || Ok(shared.append_all(owned, here).await)).await
                });
                task.await.unwrap_or_else(|error| Err(LogError::unknown(error)))
            };
            match self.shared.faults.call(self.node, Call::Append, work).await {
                Ok(sent) => sent,
                Err(error) => failed_all(error, count),
            }
        })
    }

    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        self.call(Call::Read, self.shared.read(user, after, page))
    }

    fn acknowledge<'a>(&'a self, batch: &'a [Ack<'a, U>]) -> BoxFuture<'a, Vec<Result<Acked, LogError>>> {
        Box::pin(async move {
            let work = async {
                let mut acked = Vec::with_capacity(batch.len());
                for ack in batch {
                    acked.push(self.shared.acknowledge_one(ack).await);
                }
                Ok(acked)
            };
            match self.shared.faults.call(self.node, Call::Acknowledge, work).await {
                Ok(acked) => acked,
                Err(error) => failed_all(error, batch.len()),
            }
        })
    }

    fn login<'a>(&'a self, login: &'a LoginRequest<'a, U>) -> BoxFuture<'a, Result<LoggedIn, LoginError>> {
        let work = self.shared.log_in(self.place(login.connection), login);
        let call = self.call(Call::Login, work);
        Box::pin(async move { call.await? })
    }

    fn logout<'a>(&'a self, batch: &'a [Logout<'a, U>]) -> BoxFuture<'a, Result<(), LogError>> {
        self.call(Call::Logout, async move {
            for logout in batch {
                self.shared.log_out(self.place(logout.connection), logout).await?;
            }
            Ok(())
        })
    }

    fn reassert<'a>(&'a self, held: &'a [Held<'a, U>]) -> BoxFuture<'a, Result<Vec<Standing>, LogError>> {
        self.call(Call::Reassert, async move {
            let mut standings = Vec::with_capacity(held.len());
            for it in held {
                standings.push(self.shared.reassert_one(self.place(it.connection), it).await?);
            }
            Ok(standings)
        })
    }

    fn close<'a>(&'a self, user: &'a U, frame: &'a CloseFrame) -> BoxFuture<'a, Result<usize, LogError>> {
        self.call(Call::Close, async move {
            let (mut nodes, upto) = lock(&self.shared.directory).close(user, frame);
            nodes.retain(|node| *node != self.node);
            let count = nodes.len();
            nodes.sort_unstable();
            nodes.dedup();
            for node in nodes {
                self.shared.push(node, Signal::Closed { user: user.clone(), upto, frame: frame.clone() });
            }
            Ok(count)
        })
    }

    fn publish(&self, packet: Packet<U>) -> BoxFuture<'_, Result<usize, LogError>> {
        self.call(Call::Publish, async move { Ok(self.push_to_others(&Signal::Packet(packet))) })
    }

    fn append_to_room<'a>(
        &'a self,
        append: &'a RoomAppend<'a, U>,
    ) -> BoxFuture<'a, Result<RoomSent<U>, LogError>> {
        self.call(Call::Publish, async move {
            let entry = lock(&self.shared.rooms).append(append);
            let signal = Signal::RoomEntry { room: append.room.to_owned(), entry: entry.clone() };
            Ok(RoomSent { entry, nodes: self.push_to_others(&signal) })
        })
    }

    fn read_room<'a>(
        &'a self,
        room: &'a str,
        after: Option<Position>,
        page: Page,
    ) -> BoxFuture<'a, Result<RoomRead<U>, LogError>> {
        self.call(Call::Read, async move { Ok(lock(&self.shared.rooms).read(room, after, page)) })
    }

    fn connections<'a>(&'a self, users: &'a [U]) -> BoxFuture<'a, Result<Vec<usize>, LogError>> {
        self.call(Call::Connections, async move {
            let directory = lock(&self.shared.directory);
            Ok(users.iter().map(|user| directory.count(user)).collect())
        })
    }

    fn online<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Online<U>, LogError>> {
        self.call(Call::Online, async move {
            let skipped = after.map_or(Ok(0), str::parse::<usize>).map_err(LogError::refused)?;
            let directory = lock(&self.shared.directory);
            let users: Vec<_> = directory.users().skip(skipped).take(limit).cloned().collect();
            let next = (users.len() == limit).then(|| (skipped + limit).to_string());
            Ok(Online { users, next })
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.shared.end_node(self.node, true);
        Box::pin(ready(()))
    }

    fn is_immediate(&self) -> bool {
        self.shared.log.is_immediate() && !self.shared.faults.any()
    }

    fn append_now(&self, append: &Append<'_, U>) -> Option<Sent> {
        if self.shared.faults.any() {
            return None;
        }
        self.shared.append_now(append, self.node)
    }

    fn acknowledge_now(&self, ack: &Ack<'_, U>) -> Option<Acked> {
        if self.shared.faults.any() {
            return None;
        }
        let mut directory = lock(&self.shared.directory);
        // the directory and the log have the cursor in the same place
        match directory.acknowledge(ack.user, ack.login, ack.start, ack.upto) {
            Verdict::Cursor(upto) => {
                self.shared.log.acknowledge_now(&Acknowledge { user: ack.user, upto }).then_some(Acked::Done)
            }
            Verdict::StartsAt(start) => Some(Acked::StartsAt(start)),
            Verdict::Gone(frame) => Some(Acked::Gone(frame)),
        }
    }
}

#[cfg(all(test, shuttle))]
impl<U: Clone + Eq + Hash + Send + Sync + 'static> InProcess<U> {
    /// No message is on its way to the log.
    pub(crate) fn assert_nothing_on_the_way(&self) {
        assert_eq!(self.shared.room.available_permits(), ON_THE_WAY);
    }

    /// Waits until no message is.
    pub(crate) async fn all_written(&self) {
        let all = u32::try_from(ON_THE_WAY).unwrap_or(u32::MAX);
        drop(self.shared.room.acquire_many(all).await);
    }
}
