//! The task that keeps a backplane connected to one server: it opens connections, renews the leases of the partitions that are
//! there, subscribes, and tidies up after nodes that are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use ws_hub::Health;

use crate::appender::{Appender, Lines};
use crate::config::{BACKOFF, CONNECTING, PROBE};
use crate::error::{ConnectError, Failure, FailureKind};
use crate::keys::schema;
use crate::lease::{Renewed, renew};
use crate::link::{Link, Peer, Value};
use crate::pushes::Pushes;
use crate::reaper::reap;
use crate::reply::bytes;
use crate::routes::Table;
use crate::script::Call;
use crate::shared::Shared;
use crate::site::{Request, Site};

/// Requests for rooms that are seen to together.
const ROOMS: usize = 256;

/// How long a room is still subscribed to that has no members any more: they come and go.
const LINGER: Duration = Duration::from_secs(1);

/// How long to wait before a partition is tried again that another server has, or is getting.
const SETTLING: Duration = Duration::from_millis(100);

/// How long to wait before a lease is renewed again that could not be, since its partition moves.
const RENEWING: Duration = Duration::from_millis(500);

pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    site: Arc<Site>,
    requests: mpsc::UnboundedReceiver<Request>,
    routes: watch::Receiver<Table>,
    lines: Option<Lines>,
    /// The last connection for calls.
    peer: Option<Peer>,
    pushes: Option<Pushes>,
    renewed: Instant,
    /// When to look again after partitions that could not be begun, or renewed.
    settle_at: Option<Instant>,
    up_since: Option<Instant>,
    has_been_up: bool,
    reaping: JoinSet<()>,
    leaving: Vec<(Instant, String)>,
}

/// What the task is to see to.
enum Event {
    Left,
    Broken,
    /// Partitions have come or gone.
    Moved,
    Ended,
    Settle,
    Renew,
    Rooms(Request),
    RoomsLeft,
    Reaped,
}

impl Supervisor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        site: Arc<Site>,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Self {
        Self {
            routes: shared.routes.subscribe(),
            shared,
            site,
            requests,
            lines: None,
            peer: None,
            pushes: None,
            renewed: Instant::now(),
            settle_at: None,
            up_since: None,
            has_been_up: false,
            reaping: JoinSet::new(),
            leaving: Vec::new(),
        }
    }

    /// Opens the connections for the first time.
    pub(crate) async fn start(&mut self) -> Result<(), ConnectError> {
        self.open_lines().await?;
        self.warn().await;
        let deadline = Instant::now() + CONNECTING;
        loop {
            match self.open().await {
                Ok(()) if self.settle_at.is_none() || Instant::now() >= deadline => break,
                Ok(()) => sleep(SETTLING).await,
                Err(error) => return Err(error),
            }
        }
        self.up();
        Ok(())
    }

    /// Keeps the connections open, until the node leaves.
    pub(crate) async fn run(mut self) {
        let mut backoff = BACKOFF.0;
        loop {
            if self.lines.is_some() && self.serve().await {
                return;
            }
            self.note_what_broke();
            if self.is_idle_until_left().await {
                return;
            }
            while let Err(error) = self.open().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "still not connected");
                if self.has_left() {
                    return;
                }
                // it may be another server by now
                self.shared.routes.doubt();
                // full jitter: nodes that lost the server together come back one by one
                sleep(backoff.mul_f64(rand::random())).await;
                backoff = (backoff * 2).min(BACKOFF.1);
                if self.mine().is_empty() {
                    break;
                }
            }
            backoff = BACKOFF.0;
            self.up();
        }
    }

    fn has_left(&self) -> bool {
        *self.shared.has_left.borrow()
    }

    /// The partitions that this server has.
    fn mine(&mut self) -> Vec<usize> {
        let table = self.routes.borrow_and_update();
        let mine = table.iter().enumerate().filter(|(_, site)| Arc::ptr_eq(site, &self.site));
        mine.map(|(partition, _)| partition).collect()
    }

    /// Waits as long as the server has no partitions. Returns whether the node has left meanwhile.
    async fn is_idle_until_left(&mut self) -> bool {
        let mut left = self.shared.has_left.subscribe();
        while self.mine().is_empty() {
            (self.lines, self.pushes, self.settle_at) = (None, None, None);
            self.site.state.send_modify(|state| state.lines = None);
            tokio::select! {
                _ = left.wait_for(|has_left| *has_left) => return true,
                _ = self.routes.changed() => {}
            }
        }
        self.site.state.send_modify(|state| {
            if state.lines.is_none() {
                // it begins to be tried now
                state.down_since = Some(Instant::now());
            }
        });
        self.has_left()
    }

    /// It is as connected as it can be.
    fn up(&mut self) {
        let Some(lines) = self.lines.clone() else { return };
        let is_settled = self.settle_at.is_none();
        if is_settled {
            self.up_since.get_or_insert_with(Instant::now);
        }
        let mut was_down = false;
        self.site.state.send_modify(|state| {
            was_down = state.down_since.take().is_some();
            state.health = if is_settled { Health::Up } else { Health::Syncing };
            state.lines = Some(lines);
        });
        if was_down && self.has_been_up {
            tracing::info!(address = self.site.address.shown(), "connected to Redis again");
        }
        self.has_been_up = true;
        self.shared.note_health();
    }

    /// A connection is over: calls wait for the next one, and what is pushed meanwhile is missed.
    fn note_what_broke(&mut self) {
        self.up_since = None;
        self.lines = self.lines.take().filter(|lines| !lines.is_over());
        self.pushes = self.pushes.take().filter(|pushes| !pushes.is_over());
        let is_down = self.lines.is_none();
        let mut is_news = false;
        self.site.state.send_modify(|state| {
            state.health = Health::Syncing;
            if is_down {
                state.lines = None;
                state.health = Health::Down;
                is_news = state.down_since.is_none();
                state.down_since.get_or_insert_with(Instant::now);
            }
        });
        if is_news && !self.mine().is_empty() {
            tracing::warn!(address = self.site.address.shown(), "lost the connection to Redis");
        }
        self.shared.note_health();
    }

    /// Opens what is not open, begins the partitions that are here, and renews their leases.
    async fn open(&mut self) -> Result<(), ConnectError> {
        if self.lines.as_ref().is_none_or(Lines::is_over) {
            self.lines = None;
            if self.has_been_up {
                self.note_what_broke();
            }
            self.open_lines().await?;
        }
        if self.pushes.as_ref().is_none_or(Pushes::is_over) {
            self.site.state.send_modify(|state| state.health = Health::Syncing);
            self.pushes = Some(Pushes::open(&self.shared, &self.site).await?);
        }
        self.settle().await?;
        self.renew_all().await
    }

    /// The connections for calls, with the scripts.
    async fn open_lines(&mut self) -> Result<(), ConnectError> {
        let address = &self.site.address;
        let mut link = address.connect_for_calls().await?;
        let prepared = timeout(CONNECTING, async {
            link.name(&self.shared.connection_name("calls")).await;
            // what was asked for on the last connection is done before anything on this one, or never: a login that came after
            // its logout would be there for ever
            let peer = end_last(&link, self.peer.as_ref()).await?;
            link.load().await?;
            Ok(peer)
        });
        self.peer = prepared
            .await
            .unwrap_or_else(|_| Err(Failure::refused("no answer")))
            .map_err(|failure| address.unusable(failure))?;
        let appender = self.open_appender().await?;
        self.lines = Some(Lines { link, appender });
        Ok(())
    }

    /// The connection for what replicas have to have, if they have to.
    async fn open_appender(&self) -> Result<Option<Appender>, ConnectError> {
        let (address, settings) = (&self.site.address, &self.shared.settings);
        if settings.replicas == 0 {
            return Ok(None);
        }
        let mut link = address.connect_for_calls().await?;
        let loaded = timeout(CONNECTING, async {
            link.name(&self.shared.connection_name("appends")).await;
            link.load().await
        });
        let loaded = loaded.await;
        let loaded = loaded.unwrap_or_else(|_| Err(Failure::refused("no answer")));
        loaded.map_err(|failure| address.unusable(failure))?;
        Ok(Some(Appender::start(link, settings.replicas)))
    }

    /// Begins the partitions that have come here, and ends those that have gone. What the server does not have, or not yet, is
    /// looked after again in a moment. A connection that is of no use is dropped, if that fails.
    async fn settle(&mut self) -> Result<(), ConnectError> {
        let mine = self.mine();
        self.settle_at = None;
        let (Some(lines), Some(pushes)) = (&self.lines, &mut self.pushes) else { return Ok(()) };
        let gone: Vec<_> = pushes.names().keys().copied().filter(|it| !mine.contains(it)).collect();
        for partition in gone {
            pushes.end(partition).await;
        }
        let new: Vec<_> = mine.into_iter().filter(|it| !pushes.names().contains_key(it)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let (here, mut failed) = match check_schema(&self.shared, &self.site, &lines.link, new).await {
            Ok(checked) => checked,
            Err(error) => {
                self.lines = None;
                return Err(error);
            }
        };
        match pushes.begin(&here).await {
            Ok(others) => failed.extend(others),
            Err(failure) => {
                self.pushes = None;
                return Err(self.site.address.unusable(failure));
            }
        }
        if let Some(failure) = failed.iter().find(|failure| !failure.kind.is_undone()) {
            self.pushes = None;
            return Err(self.site.address.unusable(failure.clone()));
        }
        if !failed.is_empty() {
            self.shared.routes.note(failed.iter());
            self.settle_soon(SETTLING);
        }
        Ok(())
    }

    fn settle_soon(&mut self, pause: Duration) {
        self.settle_at = Some(Instant::now() + pause);
    }

    /// Says to the others that this node is alive, and finds out whether it hears them. What is of no use is dropped, if that
    /// fails.
    async fn renew_all(&mut self) -> Result<(), ConnectError> {
        let names = self.pushes.as_ref().map(Pushes::names).cloned().unwrap_or_default();
        self.renewed = Instant::now();
        let names: Vec<_> = names.into_iter().collect();
        let (Some(lines), Some(pushes)) = (&self.lines, &mut self.pushes) else {
            return Err(self.site.address.unusable(Failure::refused("there is no connection")));
        };
        let renewed = match renew(&self.shared, &lines.link, &names).await {
            Ok(renewed) => renewed,
            Err(failure) => {
                tracing::warn!(error = &failure as &dyn std::error::Error, "the lease is not renewed");
                self.lines = None;
                return Err(self.site.address.unusable(failure));
            }
        };
        pushes.note_unheard(&renewed.unheard);
        for partition in renewed.moved.iter().chain(&renewed.renamed) {
            pushes.end(*partition).await;
        }
        if !pushes.hears(&renewed.probes).await {
            tracing::warn!("what is published on Redis does not come back: the connection is replaced");
            self.pushes = None;
            let failure = Failure::refused("what is published does not come back");
            return Err(self.site.address.unusable(failure));
        }
        if !renewed.moved.is_empty() {
            self.settle_soon(SETTLING);
        } else if renewed.has_undone && self.settle_at.is_none() {
            self.settle_soon(RENEWING);
        }
        self.begin_to_reap(&renewed);
        if renewed.renamed.is_empty() {
            return Ok(());
        }
        // under the new names
        self.settle().await?;
        Box::pin(self.renew_all()).await
    }

    fn begin_to_reap(&mut self, renewed: &Renewed) {
        let reaps_after = self.shared.settings.reaps_after();
        if self.reaping.is_empty()
            && self.up_since.is_some_and(|since| since.elapsed() >= reaps_after)
            && !renewed.dead.is_empty()
        {
            let Some(Lines { link, .. }) = self.lines.clone() else { return };
            let (shared, dead) = (Arc::clone(&self.shared), renewed.dead.clone());
            self.reaping.spawn(async move { reap(&shared, &link, &dead).await });
        }
    }

    /// Does what there is to do while all connections are open. Returns whether the node has left.
    async fn serve(&mut self) -> bool {
        loop {
            let was_settled = self.settle_at.is_none();
            let goes_on = match self.next_event().await {
                Event::Left => return true,
                Event::Broken => return false,
                Event::Moved | Event::Settle => self.settle_and_renew().await,
                Event::Ended => self.end_ended().await,
                Event::Renew => self.renew_all().await.is_ok(),
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
            if self.settle_at.is_none() != was_settled {
                self.up();
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let (Some(lines), Some(pushes)) = (&self.lines, &self.pushes) else { return Event::Broken };
        let mut left = self.shared.has_left.subscribe();
        let next_renewal = self.renewed + self.shared.settings.renewal();
        let next_leave = self.leaving.first().map(|(at, _)| *at);
        tokio::select! {
            biased;
            _ = left.wait_for(|has_left| *has_left) => Event::Left,
            () = lines.over() => Event::Broken,
            () = pushes.over() => Event::Broken,
            _ = self.routes.changed() => Event::Moved,
            () = pushes.ended() => Event::Ended,
            () = sleep_until(self.settle_at.unwrap_or(next_renewal)), if self.settle_at.is_some() => Event::Settle,
            () = sleep_until(next_renewal) => Event::Renew,
            () = self.site.renew_now.notified() => Event::Renew,
            Some(request) = self.requests.recv() => Event::Rooms(request),
            () = sleep_until(next_leave.unwrap_or(next_renewal)), if next_leave.is_some() => Event::RoomsLeft,
            Some(_) = self.reaping.join_next(), if !self.reaping.is_empty() => Event::Reaped,
        }
    }

    /// Whether the connections are still as they should be.
    async fn settle_and_renew(&mut self) -> bool {
        if self.mine().is_empty() {
            (self.lines, self.pushes) = (None, None);
            return false;
        }
        self.settle().await.is_ok() && self.renew_all().await.is_ok()
    }

    /// The server has ended subscriptions, since another one has their partitions.
    async fn end_ended(&mut self) -> bool {
        if let Some(pushes) = &mut self.pushes
            && pushes.end_ended().await
        {
            self.shared.routes.doubt();
            self.settle_soon(SETTLING);
        }
        true
    }

    /// Subscribes to rooms that have members now, together with all that are asked for at the moment.
    async fn change_rooms(&mut self, request: Request) {
        let (mut rooms, mut answers) = (Vec::new(), Vec::new());
        let mut request = Some(request);
        while let Some(it) = request {
            match it {
                Request::Watch { room, answer } => {
                    rooms.push(room);
                    answers.push(answer);
                }
                Request::Unwatch(room) => self.leaving.push((Instant::now() + LINGER, room)),
            }
            request = if answers.len() < ROOMS { self.requests.try_recv().ok() } else { None };
        }
        let Some(pushes) = &self.pushes else { return };
        let result = pushes.watch(&rooms).await;
        for answer in answers {
            // nobody may wait for it any more
            let _ = answer.send(result.clone());
        }
    }

    /// Leaves rooms that have had no members for a while.
    async fn leave_rooms(&mut self) {
        let Some(pushes) = &self.pushes else { return };
        let now = Instant::now();
        let due = self.leaving.partition_point(|(at, _)| *at <= now);
        pushes.unwatch(self.leaving.drain(..due).map(|(_, room)| room)).await;
    }

    /// Says what is set up so that messages may be lost.
    async fn warn(&self) {
        let Some(Lines { link, .. }) = &self.lines else { return };
        let settings = ["maxmemory-policy", "appendonly"];
        let calls = settings.map(|name| Call::plain("CONFIG", b"GET".to_vec()).bytes(name));
        let Ok(answers) = timeout(PROBE, link.call(&calls)).await else { return };
        let address = self.site.address.shown();
        for (name, answer) in settings.iter().zip(answers) {
            // it may not be allowed
            let Some(value) = answer.ok().and_then(|answer| setting(answer, name)) else { continue };
            match (*name, &*value) {
                ("maxmemory-policy", "noeviction") | ("appendonly", "yes") => {}
                ("maxmemory-policy", policy) => tracing::warn!(
                    address,
                    "maxmemory-policy is {policy}: Redis removes messages and logins when memory is full; \
                     use noeviction"
                ),
                _ => tracing::warn!(
                    address,
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

/// Whether the data of partitions are as this version has them. Returns those of which the server says so, and why it does not
/// of others.
async fn check_schema(
    shared: &Shared,
    site: &Site,
    link: &Link,
    partitions: Vec<usize>,
) -> Result<(Vec<usize>, Vec<Failure>), ConnectError> {
    let expected = schema(shared.partitions.all().len());
    let calls = partitions.iter().flat_map(|partition| {
        let key = shared.partitions.at(*partition).keys.schema();
        let set = Call::plain("SET", key.clone()).bytes(expected.as_str()).bytes("NX");
        [set, Call::plain("GET", key)]
    });
    let calls: Vec<_> = calls.collect();
    let answers = timeout(CONNECTING, link.call(&calls)).await;
    let mut answers = answers.map_err(|_| site.address.unusable(Failure::refused("no answer")))?.into_iter();
    let (mut here, mut failed) = (Vec::new(), Vec::new());
    for partition in partitions {
        let (set, found) = (answers.next(), answers.next());
        let (Some(set), Some(found)) = (set, found) else { continue };
        match set.and(found).and_then(bytes) {
            Ok(found) if found == expected.as_bytes() => here.push(partition),
            Ok(found) => {
                return Err(ConnectError::OtherVersion {
                    address: site.address.shown().to_owned(),
                    found: String::from_utf8_lossy(&found).into_owned(),
                    expected,
                });
            }
            Err(failure) if failure.kind.is_undone() && link.is_sharded() => failed.push(failure),
            Err(failure) => return Err(site.address.unusable(failure)),
        }
    }
    Ok((here, failed))
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
