//! [`Shared`]: what the handle and its tasks share; how calls get to the server that has their partition.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use ws_hub::Health;

use crate::appender::Lines;
use crate::config::{CIRCUIT, DEADLINE, Settings};
use crate::error::{Failure, FailureKind};
use crate::inbox::Inbox;
use crate::join::join_all;
use crate::link::Value;
use crate::partition::{Partition, Partitions};
use crate::reply::is_without_lease;
use crate::routes::Routes;
use crate::script::{Call, Script};
use crate::site::Site;

/// How long to wait before a call is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// A room that has, or had, members here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    pub(crate) is_wanted: bool,
    /// The number of the connection that has subscribed to it, if one has.
    pub(crate) subscribed_by: Option<u64>,
}

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not again, if they may have been done.
    Once,
    Repeatable,
    /// Repeatable, and replicas have to have what was done.
    Append,
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) partitions: Partitions,
    pub(crate) routes: Routes,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) has_left: watch::Sender<bool>,
    rooms: Mutex<HashMap<String, Room>>,
}

type Answer = Result<Value, Failure>;

/// Calls for one server: their partitions, their places in the batch, and the calls.
struct Group {
    site: Arc<Site>,
    /// It does not have the partition yet, and is asked just this time.
    is_asking: bool,
    partitions: Vec<usize>,
    places: Vec<usize>,
    calls: Vec<Call>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, partitions: u16) -> Self {
        Self {
            partitions: Partitions::new(&settings.prefix, partitions),
            settings,
            routes: Routes::default(),
            inbox: Arc::default(),
            has_left: watch::Sender::new(false),
            rooms: Mutex::default(),
        }
    }

    /// The name for people of a connection of this node.
    pub(crate) fn connection_name(&self, what: &str) -> String {
        format!("{}:{}:{what}", self.settings.prefix, self.partitions.origin())
    }

    pub(crate) fn rooms(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        // each use leaves it whole
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease had ended: the hub asserts its logins in a moment.
    pub(crate) fn was_late(&self, partition: &Partition) {
        partition.was_late(self.settings.renewal());
    }

    pub(crate) fn script(&self, script: Script, partition: &Partition) -> Call {
        self.script_of(script, partition, &partition.name())
    }

    /// A script as the node of another name calls it.
    pub(crate) fn script_of(&self, script: Script, partition: &Partition, node: &str) -> Call {
        Call::script(script, &partition.keys, node, &self.settings.bounds)
    }

    /// Tells the hub, if the others cannot be reached any more, or can be again.
    pub(crate) fn note_health(&self) {
        match self.routes.change_of_health() {
            Some(Health::Down) => self.inbox.down(),
            Some(_) => self.inbox.up(),
            None => {}
        }
    }

    /// The connections for calls of a partition to a server; waits for them for some time.
    async fn lines(&self, site: &Arc<Site>, partition: usize, deadline: Instant) -> Result<Lines, Failure> {
        if *self.has_left.borrow() {
            return Err(Failure::refused("this node has left"));
        }
        if let Some(lines) = site.lines() {
            return Ok(lines);
        }
        let (mut states, mut routes) = (site.state.subscribe(), self.routes.subscribe());
        let mut left = self.has_left.subscribe();
        loop {
            if *left.borrow_and_update() {
                return Err(Failure::refused("this node has left"));
            }
            if !routes.borrow_and_update().get(partition).is_some_and(|it| Arc::ptr_eq(it, site)) {
                return Err(Failure::busy("another server has the partition"));
            }
            let limit = {
                let state = states.borrow_and_update();
                if let Some(lines) = state.lines.as_ref().filter(|lines| !lines.is_over()) {
                    return Ok(lines.clone());
                }
                state.down_since.map_or(deadline, |since| deadline.min(since + CIRCUIT))
            };
            let changed = async {
                tokio::select! {
                    it = states.changed() => it.is_ok(),
                    it = routes.changed() => it.is_ok(),
                    it = left.changed() => it.is_ok(),
                }
            };
            if !timeout_at(limit, changed).await.is_ok_and(|is_open| is_open) {
                return Err(Failure::refused("the Redis server cannot be reached"));
            }
        }
    }

    /// Makes calls, and makes those again that were not done, or may not have been, until it is too late. There is one for
    /// each of these partitions. `calls` makes them, of those with these numbers; it is told whether they may have been done.
    pub(crate) async fn ask(
        &self,
        partitions: &[usize],
        way: Way,
        calls: impl Fn(usize, bool) -> Call,
    ) -> Vec<Answer> {
        let deadline = Instant::now() + DEADLINE;
        let count = partitions.len();
        let mut answers: Vec<Answer> = vec![Err(Failure::refused("it was not tried")); count];
        let mut is_doubtful = vec![false; count];
        let mut left: Vec<usize> = (0..count).collect();
        loop {
            let target = |at: usize| self.routes.target(partitions[at], answers[at].as_ref().err());
            let groups = group(&left, partitions, target, |at| calls(at, is_doubtful[at]));
            let mut again = Vec::new();
            for (at, answer) in self.try_groups(groups, way, deadline).await {
                let kind = answer.as_ref().err().map(|failure| failure.kind);
                if kind.is_some_and(FailureKind::is_undone)
                    || kind == Some(FailureKind::Lost) && way != Way::Once
                {
                    again.push(at);
                }
                let was_doubtful = is_doubtful[at];
                is_doubtful[at] |= kind == Some(FailureKind::Lost);
                answers[at] = answer.map_err(|it| if was_doubtful { it.doubtful() } else { it });
            }
            again.sort_unstable();
            left = again;
            if left.is_empty() || Instant::now() + PAUSE >= deadline {
                return answers;
            }
            self.pause(left.iter().filter_map(|at| answers[*at].as_ref().err())).await;
        }
    }

    /// Waits until calls are tried again that failed so.
    async fn pause(&self, failures: impl Iterator<Item = &Failure>) {
        let mut routes = self.routes.subscribe();
        let pause = sleep_until(Instant::now() + PAUSE);
        // the other way may be known by now
        if self.routes.note(failures) {
            tokio::select! {
                _ = routes.changed() => {}
                () = pause => {}
            }
        } else {
            pause.await;
        }
    }

    /// The answers, with the places in the batch.
    async fn try_groups(&self, groups: Vec<Group>, way: Way, deadline: Instant) -> Vec<(usize, Answer)> {
        let try_group = async |group: Group| {
            let answers = self.try_once(&group, way, deadline).await;
            group.places.into_iter().zip(answers).collect::<Vec<_>>()
        };
        if groups.len() == 1 {
            let mut groups = groups;
            return match groups.pop() {
                Some(group) => try_group(group).await,
                None => Vec::new(),
            };
        }
        let all = groups.into_iter().map(|group| Box::pin(try_group(group)) as _);
        join_all(all.collect()).await.concat()
    }

    async fn try_once(&self, group: &Group, way: Way, deadline: Instant) -> Vec<Answer> {
        let Group { site, calls, partitions, .. } = group;
        let all = |failure: Failure| vec![Err(failure); calls.len()];
        let lines = match self.lines(site, partitions[0], deadline).await {
            Ok(lines) => lines,
            Err(failure) => return all(failure),
        };
        let _admitted = match site.admit(calls, deadline).await {
            Ok(admitted) => admitted,
            Err(failure) => return all(failure),
        };
        let make = async |calls: &[Call]| {
            let answering = async {
                match lines.appender.as_ref().filter(|_| way == Way::Append) {
                    Some(appender) if group.is_asking => appender.call_asking(calls).await,
                    Some(appender) => appender.call(calls).await,
                    None if group.is_asking => lines.link.call_asking(calls).await,
                    None => lines.link.call(calls).await,
                }
            };
            let Ok(answers) = timeout_at(deadline, answering).await else {
                return vec![Err(Failure::lost("the Redis server does not answer in time")); calls.len()];
            };
            answers.into_iter().map(|answer| checked(site, answer)).collect()
        };
        let reign = &lines.link.reign().now;
        let is_open = |at: &usize| group.is_asking || self.partitions.at(partitions[*at]).is_of(reign);
        let open: Vec<_> = (0..calls.len()).filter(is_open).collect();
        if open.len() == calls.len() {
            return make(calls).await;
        }
        let mut answers = all(Failure::busy("the lease of this node is not renewed at the new master yet"));
        let some: Vec<_> = open.iter().map(|at| calls[*at].clone()).collect();
        for (at, answer) in open.into_iter().zip(make(&some).await) {
            answers[at] = answer;
        }
        answers
    }

    /// Makes one call that may be made twice.
    pub(crate) async fn ask_one(&self, partition: &Partition, call: impl Fn() -> Call) -> Answer {
        one(self.ask(&[partition.number], Way::Repeatable, |_, _| call()).await)
    }

    /// Makes one call that must not be made twice.
    pub(crate) async fn ask_once(&self, partition: &Partition, call: Call) -> Answer {
        one(self.ask(&[partition.number], Way::Once, |_, _| call.clone()).await)
    }
}

/// An answer of a server, or why it is none.
fn checked(site: &Site, answer: Answer) -> Answer {
    match answer {
        Ok(value) if is_without_lease(&value) => {
            site.renew_now.notify_one();
            Err(Failure::busy("the lease of this node has ended"))
        }
        Err(failure) if failure.kind == FailureKind::Demoted => {
            // which fails, too: then the connections are opened anew
            site.renew_now.notify_one();
            Err(failure)
        }
        answer => answer,
    }
}

/// Puts calls together that go to the same server.
fn group(
    places: &[usize],
    partitions: &[usize],
    target: impl Fn(usize) -> (Arc<Site>, bool),
    call: impl Fn(usize) -> Call,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::with_capacity(1);
    for &at in places {
        let (site, is_asking) = target(at);
        let same = groups.iter().position(|it| Arc::ptr_eq(&it.site, &site) && it.is_asking == is_asking);
        let group = same.unwrap_or_else(|| {
            let (partitions, places, calls) = (Vec::new(), Vec::new(), Vec::new());
            groups.push(Group { site, is_asking, partitions, places, calls });
            groups.len() - 1
        });
        groups[group].partitions.push(partitions[at]);
        groups[group].places.push(at);
        groups[group].calls.push(call(at));
    }
    groups
}

fn one(mut answers: Vec<Answer>) -> Answer {
    answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")))
}
