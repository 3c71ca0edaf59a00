//! The task that keeps a backplane connected: it opens connections, renews the lease, subscribes, and tidies up after nodes
//! that are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use ws_hub::Health;

use crate::appender::{Appender, Lines};
use crate::config::{BACKOFF, CONNECTING, PROBE};
use crate::ear::Ear;
use crate::error::{ConnectError, Failure, FailureKind};
use crate::keys::SCHEMA;
use crate::link::{Link, Peer, Value};
use crate::reaper::reap;
use crate::reply::{Reply, bytes, texts};
use crate::script::{Call, Script};
use crate::shared::{Request, Shared};

/// Rooms that are subscribed to with one command.
const ROOMS: usize = 256;

/// How long a room is still subscribed to that has no members any more: they come and go.
const LINGER: Duration = Duration::from_secs(1);

pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Request>,
    lines: Option<Lines>,
    /// The last connection for calls.
    peer: Option<Peer>,
    pushes: Option<Pushes>,
    /// The name that the lease is under; `None` before there is one.
    leased: Option<Arc<str>>,
    renewed: Instant,
    up_since: Option<Instant>,
    reaping: JoinSet<()>,
    leaving: Vec<(Instant, String)>,
}

/// The connection that only subscribes.
struct Pushes {
    link: Link,
    /// The name of the node whose channel it has subscribed to.
    node: Arc<str>,
    probes: watch::Receiver<u64>,
}

/// What the task is to see to.
enum Event {
    Left,
    Broken,
    Renew,
    Rooms(Request),
    RoomsLeft,
    Reaped,
}

/// What came of a renewal.
enum Renewed {
    Well,
    /// The lease was gone, and somebody may have tidied up after this node: it has a new name.
    AnotherName,
    /// The probe did not come back.
    Deaf,
}

impl Supervisor {
    pub(crate) fn new(shared: Arc<Shared>, requests: mpsc::UnboundedReceiver<Request>) -> Self {
        Self {
            shared,
            requests,
            lines: None,
            peer: None,
            pushes: None,
            leased: None,
            renewed: Instant::now(),
            up_since: None,
            reaping: JoinSet::new(),
            leaving: Vec::new(),
        }
    }

    /// Opens the connections for the first time.
    pub(crate) async fn start(&mut self) -> Result<(), ConnectError> {
        self.open_lines().await?;
        self.warn().await;
        loop {
            self.open_pushes().await?;
            match self.renew().await {
                Ok(Renewed::Well) => break,
                Ok(Renewed::AnotherName) => {}
                Ok(Renewed::Deaf) => {
                    let failure = Failure::refused("what is published does not come back");
                    return Err(self.shared.address.unusable(failure));
                }
                Err(failure) => return Err(self.shared.address.unusable(failure)),
            }
        }
        self.up();
        Ok(())
    }

    /// Keeps the connections open, until the node leaves.
    pub(crate) async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        loop {
            if self.serve().await {
                return;
            }
            self.note_what_broke();
            while let Err(error) = self.open().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "still not connected");
                if self.has_left() {
                    return;
                }
                // full jitter: nodes that lost the server together come back one by one
                sleep(backoff.mul_f64(rand::random())).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
            backoff = BACKOFF.0;
            self.up();
        }
    }

    fn has_left(&self) -> bool {
        self.shared.state.borrow().has_left
    }

    fn up(&mut self) {
        self.up_since.get_or_insert_with(Instant::now);
        let lines = self.lines.clone();
        let mut was_down = false;
        self.shared.state.send_modify(|state| {
            was_down = state.down_since.take().is_some();
            state.health = Health::Up;
            state.lines = lines;
        });
        if was_down {
            tracing::info!(address = self.shared.address.shown(), "connected to Redis again");
            self.shared.inbox.up();
        }
    }

    /// A connection is over: calls wait for the next one, and what is pushed meanwhile is missed.
    fn note_what_broke(&mut self) {
        self.up_since = None;
        self.lines = self.lines.take().filter(|lines| !lines.is_over());
        self.pushes = self.pushes.take().filter(|pushes| !pushes.link.is_over());
        let is_down = self.lines.is_none();
        let mut is_news = false;
        self.shared.state.send_modify(|state| {
            state.health = Health::Syncing;
            if is_down {
                state.lines = None;
                state.health = Health::Down;
                is_news = state.down_since.is_none();
                state.down_since.get_or_insert_with(Instant::now);
            }
        });
        if is_news {
            tracing::warn!(address = self.shared.address.shown(), "lost the connection to Redis");
            self.shared.inbox.down();
        }
    }

    /// Opens what is not open.
    async fn open(&mut self) -> Result<(), ConnectError> {
        if self.lines.as_ref().is_none_or(Lines::is_over) {
            self.lines = None;
            self.note_what_broke();
            self.open_lines().await?;
        }
        if self.pushes.as_ref().is_none_or(|pushes| pushes.link.is_over()) {
            self.shared.state.send_modify(|state| state.health = Health::Syncing);
            self.open_pushes().await?;
        }
        match self.renew().await {
            Ok(Renewed::Well) => Ok(()),
            Ok(Renewed::AnotherName) => {
                self.pushes = None;
                Err(self.shared.address.unusable(Failure::busy("the node has a new name")))
            }
            Ok(Renewed::Deaf) => {
                self.pushes = None;
                Err(self.shared.address.unusable(Failure::busy("what is published does not come back")))
            }
            Err(failure) => {
                self.lines = None;
                Err(self.shared.address.unusable(failure))
            }
        }
    }

    /// The connections for calls, with the scripts.
    async fn open_lines(&mut self) -> Result<(), ConnectError> {
        let address = &self.shared.address;
        let mut link = address.connect(|_, _| {}).await?;
        let unusable = |failure| address.unusable(failure);
        let prepared = timeout(CONNECTING, async {
            // what was asked for on the last connection is done before anything on this one, or never: a login that came after
            // its logout would be there for ever
            let peer = end_last(&link, self.peer.as_ref()).await?;
            link.load().await?;
            let key = self.shared.keys.schema();
            let set = Call::plain("SET", key.clone()).bytes(SCHEMA).bytes("NX");
            let mut answers = link.call(&[set, Call::plain("GET", key)]).await;
            let found = answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")))?;
            answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")))?;
            Ok((peer, bytes(found)?))
        });
        let (peer, found) =
            prepared.await.unwrap_or_else(|_| Err(Failure::refused("no answer"))).map_err(unusable)?;
        self.peer = peer;
        if found != SCHEMA.as_bytes() {
            return Err(ConnectError::OtherVersion {
                address: address.shown().to_owned(),
                found: String::from_utf8_lossy(&found).into_owned(),
                expected: SCHEMA.to_owned(),
            });
        }
        let appender = self.open_appender().await?;
        self.lines = Some(Lines { link, appender });
        Ok(())
    }

    /// The connection for what replicas have to have, if they have to.
    async fn open_appender(&self) -> Result<Option<Appender>, ConnectError> {
        let Shared { address, keys, settings, .. } = &*self.shared;
        if settings.replicas == 0 {
            return Ok(None);
        }
        let mut link = address.connect(|_, _| {}).await?;
        let loaded = timeout(CONNECTING, link.load()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(Failure::refused("no answer")));
        loaded.map_err(|failure| address.unusable(failure))?;
        Ok(Some(Appender::start(link, settings.replicas, keys.node_channel(""))))
    }

    /// The connection that subscribes. What was pushed before is missed, if this is not the first one of its name.
    async fn open_pushes(&mut self) -> Result<(), ConnectError> {
        let (shared, node) = (&self.shared, self.shared.node());
        let is_new = self.leased.as_ref() != Some(&node);
        let (channel, inbox) = (shared.keys.node_channel(&node), Arc::clone(&shared.inbox));
        let ear = Ear::new(channel.clone(), is_new, inbox);
        let probes = ear.probes();
        let channels = [channel, shared.keys.everyone_channel()];
        let link = shared.address.connect(move |channel, payload| ear.hear(&channel, payload)).await?;
        let rooms: Vec<_> = {
            let mut rooms = shared.rooms();
            rooms.retain(|_, room| room.is_wanted);
            rooms.values_mut().for_each(|room| room.is_subscribed = false);
            rooms.keys().cloned().collect()
        };
        let subscribed = timeout(CONNECTING, async {
            link.subscribe(&channels).await?;
            for rooms in rooms.chunks(ROOMS) {
                subscribe(&link, shared, rooms).await?;
            }
            Ok(())
        });
        let subscribed = subscribed.await.unwrap_or_else(|_| Err(Failure::refused("no answer")));
        subscribed.map_err(|failure| shared.address.unusable(failure))?;
        if self.leased.is_some() {
            shared.inbox.gap();
        }
        self.pushes = Some(Pushes { link, node, probes });
        Ok(())
    }

    /// Says to the others that this node is alive, and finds out whether it hears them.
    async fn renew(&mut self) -> Result<Renewed, Failure> {
        let (Some(Lines { link, .. }), Some(pushes)) = (&self.lines, &mut self.pushes) else {
            return Err(Failure::refused("there is no connection"));
        };
        let shared = &self.shared;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let had_lease = self.leased.as_ref() == Some(&pushes.node);
        let call = shared
            .script_of(Script::Renew, &pushes.node)
            .number(millis(shared.settings.lease))
            .number(millis(shared.settings.reaped_after()))
            .flag(had_lease)
            .bytes(link.master());
        self.renewed = Instant::now();
        let answers = timeout(PROBE, link.call(&[call])).await;
        let answer = answers.map_or_else(|_| Err(Failure::lost("no answer")), |mut it| it.remove(0))?;
        let mut reply = Reply::new(answer)?;
        let (number, is_late, is_missing) = (reply.number()?, reply.flag()?, reply.flag()?);
        let dead = texts(reply.next()?)?;
        if is_late || is_missing {
            tracing::warn!("the lease of this node had ended: others believed that it was gone");
            shared.was_late();
            shared.inbox.gap();
        }
        if is_missing {
            shared.rename();
            self.pushes = None;
            return Ok(Renewed::AnotherName);
        }
        self.leased = Some(Arc::clone(&pushes.node));
        let (over, probes) = (pushes.link.over(), &mut pushes.probes);
        let has_heard = tokio::select! {
            heard = probes.wait_for(|heard| *heard >= number) => heard.is_ok(),
            () = over => false,
            () = sleep(PROBE) => false,
        };
        if !has_heard {
            tracing::warn!("what is published on Redis does not come back: the connection is replaced");
            return Ok(Renewed::Deaf);
        }
        if self.reaping.is_empty()
            && self.up_since.is_some_and(|since| since.elapsed() >= shared.settings.reaps_after())
            && !dead.is_empty()
        {
            let shared = Arc::clone(shared);
            self.reaping.spawn(async move { reap(&shared, &dead).await });
        }
        Ok(Renewed::Well)
    }

    /// Does what there is to do while all connections are open. Returns whether the node has left.
    async fn serve(&mut self) -> bool {
        loop {
            let goes_on = match self.next_event().await {
                Event::Left => return true,
                Event::Broken => return false,
                Event::Renew => self.renew_in_time().await,
                Event::Rooms(request) => {
                    self.change_rooms(request).await;
                    true
                }
                Event::RoomsLeft => {
                    self.leave_rooms().await;
                    true
                }
                Event::Reaped => true,
            };
            if !goes_on {
                return false;
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let (Some(lines), Some(pushes)) = (&self.lines, &self.pushes) else { return Event::Broken };
        let mut states = self.shared.state.subscribe();
        let left = async move {
            let _ = states.wait_for(|state| state.has_left).await;
        };
        let next_renewal = self.renewed + self.shared.settings.renewal();
        let next_leave = self.leaving.first().map(|(at, _)| *at);
        tokio::select! {
            biased;
            () = left => Event::Left,
            () = lines.over() => Event::Broken,
            () = pushes.link.over() => Event::Broken,
            () = sleep_until(next_renewal) => Event::Renew,
            () = self.shared.renew_now.notified() => Event::Renew,
            Some(request) = self.requests.recv() => Event::Rooms(request),
            () = sleep_until(next_leave.unwrap_or(next_renewal)), if next_leave.is_some() => Event::RoomsLeft,
            Some(_) = self.reaping.join_next(), if !self.reaping.is_empty() => Event::Reaped,
        }
    }

    /// Whether the connections are still as they should be.
    async fn renew_in_time(&mut self) -> bool {
        match self.renew().await {
            Ok(Renewed::Well) => true,
            Ok(Renewed::AnotherName | Renewed::Deaf) => {
                self.pushes = None;
                false
            }
            Err(failure) => {
                tracing::warn!(error = &failure as &dyn std::error::Error, "the lease is not renewed");
                self.lines = None;
                false
            }
        }
    }

    /// Subscribes to rooms that have members now, together with all that are asked for at the moment.
    async fn change_rooms(&mut self, request: Request) {
        let mut answers = Vec::new();
        let mut request = Some(request);
        while let Some(it) = request {
            match it {
                Request::Watch { room, answer } => answers.push((room, answer)),
                Request::Unwatch(room) => self.leaving.push((Instant::now() + LINGER, room)),
            }
            request = if answers.len() < ROOMS { self.requests.try_recv().ok() } else { None };
        }
        let Some(pushes) = &self.pushes else { return };
        let rooms: Vec<_> = {
            let rooms = self.shared.rooms();
            let is_new = |room: &String| rooms.get(room).is_none_or(|it| !it.is_subscribed);
            answers.iter().map(|(room, _)| room).filter(|room| is_new(room)).cloned().collect()
        };
        let result = match rooms.as_slice() {
            [] => Ok(()),
            rooms => timeout(PROBE, subscribe(&pushes.link, &self.shared, rooms))
                .await
                .unwrap_or_else(|_| Err(Failure::refused("no answer"))),
        };
        for (_, answer) in answers {
            // nobody may wait for it any more
            let _ = answer.send(result.clone());
        }
    }

    /// Leaves rooms that have had no members for a while.
    async fn leave_rooms(&mut self) {
        let Some(pushes) = &self.pushes else { return };
        let now = Instant::now();
        let due = self.leaving.partition_point(|(at, _)| *at <= now);
        let mut channels = Vec::new();
        {
            let mut rooms = self.shared.rooms();
            for (_, name) in self.leaving.drain(..due) {
                if rooms.get(&name).is_some_and(|room| !room.is_wanted) {
                    rooms.remove(&name);
                    channels.push(self.shared.keys.room_channel(&name));
                }
            }
        }
        for channels in channels.chunks(ROOMS) {
            let left = timeout(PROBE, pushes.link.unsubscribe(channels)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::debug!("rooms without members are still subscribed to");
            }
        }
    }

    /// Says what is set up so that messages may be lost.
    async fn warn(&self) {
        let Some(Lines { link, .. }) = &self.lines else { return };
        let settings = ["maxmemory-policy", "appendonly"];
        let calls = settings.map(|name| Call::plain("CONFIG", b"GET".to_vec()).bytes(name));
        let Ok(answers) = timeout(PROBE, link.call(&calls)).await else { return };
        for (name, answer) in settings.iter().zip(answers) {
            // it may not be allowed
            let Some(value) = answer.ok().and_then(|answer| setting(answer, name)) else { continue };
            match (*name, &*value) {
                ("maxmemory-policy", "noeviction") | ("appendonly", "yes") => {}
                ("maxmemory-policy", policy) => tracing::warn!(
                    "maxmemory-policy is {policy}: Redis removes messages and logins when memory is full; \
                     use noeviction"
                ),
                _ => tracing::warn!(
                    "appendonly is {value}: messages are lost when the Redis server ends; use yes"
                ),
            }
        }
    }
}

/// The value of a setting, as `CONFIG GET` answers it.
fn setting(answer: Value, name: &str) -> Option<String> {
    let Value::Map(pairs) = answer else { return None };
    let mut texts = pairs.into_iter().filter_map(|(key, value)| Some((bytes(key).ok()?, bytes(value).ok()?)));
    let (_, value) = texts.find(|(key, _)| key == name.as_bytes())?;
    String::from_utf8(value).ok()
}

/// Ends the connection before this one, if the server allows that, and returns what this one is called.
async fn end_last(link: &Link, last: Option<&Peer>) -> Result<Option<Peer>, Failure> {
    let ended = async {
        if let Some(last) = last {
            link.end(last).await?;
        }
        link.peer().await
    };
    match ended.await {
        Err(failure) if failure.kind == FailureKind::Lost => Err(failure),
        Err(failure) => {
            tracing::warn!(
                error = &failure as &dyn std::error::Error,
                "Redis does not allow CLIENT INFO and CLIENT KILL: calls may be done late, after a connection was lost"
            );
            Ok(None)
        }
        Ok(peer) => Ok(peer),
    }
}

/// Subscribes to rooms, and notes it.
async fn subscribe(link: &Link, shared: &Shared, rooms: &[String]) -> Result<(), Failure> {
    let channels: Vec<_> = rooms.iter().map(|room| shared.keys.room_channel(room)).collect();
    link.subscribe(&channels).await?;
    let mut known = shared.rooms();
    for room in rooms {
        if let Some(room) = known.get_mut(room) {
            room.is_subscribed = true;
        }
    }
    Ok(())
}
