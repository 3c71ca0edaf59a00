//! Several nodes over one backplane, their clients, and everything that happens to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::duplex;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;
use ws_core::{WebSocketLayer, testing};
use ws_hub::{
    After, Answer, Backplane as _, Guarantee, Hub, InProcess, Log as _, Login, Member, MemoryLog, MessageId,
    Page, Push, Signal, framing,
};

use crate::client::{Client, Got};
use crate::ledger::{Fate, Ledger};
use crate::log::{Elsewhere, GivenBack};

const USERS: u64 = 3;
const NODES: usize = 3;

/// What a connection acknowledges before it is sent, at most, if messages come at most once.
const CLAIMED: usize = 32;

/// What can go wrong in a world, besides clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// Signals and answers are lost, late, or come twice.
    Network,
    /// Nodes are believed to be gone, and are.
    Nodes,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) login: Login,
    pub(crate) guarantee: Guarantee,
    pub(crate) trouble: Trouble,
    /// Whether clients leave, in order or not, without having read what is on its way.
    pub(crate) do_leave: bool,
    /// Whether clients say what they have got: then they get what follows, once more or not.
    pub(crate) do_resume: bool,
    /// Whether the log answers at once.
    pub(crate) is_immediate: bool,
}

struct Node {
    hub: Hub<u64>,
    engine: Arc<InProcess<u64>>,
    is_dead: bool,
}

pub(crate) struct World {
    rules: Rules,
    random: SmallRng,
    log: Arc<MemoryLog<u64>>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    ledger: Arc<Mutex<Ledger>>,
    sending: Vec<JoinHandle<()>>,
    last_id: u64,
    /// Messages that may be lost, at most once: those that were on their way to a client who vanished.
    may_be_lost: usize,
    given_back: GivenBack,
    /// Whether a signal may have been lost since all were told so.
    has_gaps: bool,
}

fn hub(rules: Rules, engine: &Arc<InProcess<u64>>) -> Hub<u64> {
    Hub::builder()
        .login(rules.login)
        .guarantee(rules.guarantee)
        .queue(5, 4096)
        .framed(framing::prefix)
        .backplane(Arc::clone(engine))
        .build()
}

impl World {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let log = Arc::new(MemoryLog::new().history(64, Duration::from_secs(24 * 3600)));
        let given_back = GivenBack::default();
        let first = if rules.is_immediate {
            InProcess::over(Arc::clone(&log))
        } else {
            InProcess::over(Elsewhere { log: Arc::clone(&log), given_back: Arc::clone(&given_back) })
        };
        let others: Vec<_> = (1..NODES).map(|_| first.another()).collect();
        let engines = std::iter::once(first).chain(others).map(Arc::new);
        let nodes = engines.map(|engine| Node { hub: hub(rules, &engine), engine, is_dead: false }).collect();
        let random = SmallRng::seed_from_u64(seed);
        let world = Self {
            rules,
            random,
            log,
            nodes,
            clients: Vec::new(),
            ledger: Arc::default(),
            sending: Vec::new(),
            last_id: 0,
            may_be_lost: 0,
            given_back,
            has_gaps: false,
        };
        world.make_trouble(seed);
        world
    }

    fn make_trouble(&self, seed: u64) {
        if self.rules.trouble == Trouble::None {
            return;
        }
        let faults = self.nodes[0].engine.faults();
        let random = Mutex::new(SmallRng::seed_from_u64(seed ^ 0x5eed));
        faults.on_push(move |signal| {
            if *signal == Signal::Gap {
                return Push::Deliver;
            }
            let mut random = random.lock().unwrap();
            match random.random_range(0..100) {
                0..8 => Push::Lose,
                8..20 => Push::Delay(Duration::from_millis(random.random_range(1..50))),
                20..25 => Push::Repeat,
                _ => Push::Deliver,
            }
        });
        let random = Mutex::new(SmallRng::seed_from_u64(seed ^ 0xca11));
        faults.on_call(move |_| {
            let mut random = random.lock().unwrap();
            match random.random_range(0..100) {
                0..4 => Answer::Refuse,
                4..8 => Answer::Forget,
                8 => Answer::Hang,
                9..30 => Answer::Slow(Duration::from_millis(random.random_range(1..30))),
                _ => Answer::Normal,
            }
        });
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn node(&mut self) -> usize {
        self.random.random_range(0..NODES)
    }

    pub(crate) async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..40 => self.send(),
            40..46 => self.send_again(),
            46..58 => self.log_in(),
            58..64 if self.rules.do_leave => self.leave().await,
            64..66 => self.kick(),
            66..82 => self.read_some().await,
            82..86 => self.change_reader(),
            86..94 => {
                let time = if self.random.random_bool(0.1) { 6_000 } else { 100 };
                let time = self.random.random_range(1..time);
                sleep(Duration::from_millis(time)).await;
            }
            94..97 if self.rules.trouble == Trouble::Nodes => self.end_or_renew_lease(),
            97..98 if self.rules.trouble == Trouble::Nodes => self.restart_node(),
            _ => {}
        }
        for _ in 0..self.random.random_range(0..4) {
            yield_now().await;
        }
        if self.random.random_bool(0.5) {
            sleep(Duration::from_millis(1)).await;
        }
        for at in 0..self.clients.len() {
            if self.clients[at].reads {
                self.read(at, usize::MAX);
            }
        }
        self.clients.retain(|client| client.node != usize::MAX);
        self.check();
    }

    fn send(&mut self) {
        let user = self.random.random_range(0..USERS);
        self.last_id += 1;
        let id = self.last_id;
        self.ledger().sent.insert(id, (user, Fate::Pending));
        self.send_with(id, user);
    }

    fn send_with(&mut self, id: u64, user: u64) {
        let node = self.node();
        let hub = self.nodes[node].hub.clone();
        let ledger = Arc::clone(&self.ledger);
        self.sending.push(tokio::spawn(async move {
            let delivery = hub.message(id.to_string()).id(MessageId::new(id)).to(&user).await;
            ledger.lock().unwrap().answered(id, delivery);
        }));
    }

    /// A message goes out once more: its sender does not know what became of it, or forgot that they do.
    fn send_again(&mut self) {
        let id = self.last_id.saturating_sub(self.random.random_range(0..20));
        let mut ledger = self.ledger();
        let Some((user, fate)) = ledger.sent.get_mut(&id) else { return };
        let user = *user;
        match fate {
            Fate::Pending => return,
            Fate::Dropped => *fate = Fate::Unknown,
            Fate::Accepted | Fate::Unknown => {}
        }
        drop(ledger);
        self.send_with(id, user);
    }

    fn log_in(&mut self) {
        let (user, node) = (self.random.random_range(0..USERS), self.node());
        if self.clients.iter().filter(|client| client.user == user).count() >= 4 {
            return;
        }
        let mut ledger = self.ledger.lock().unwrap();
        let known = ledger.user(user);
        let after = if self.rules.do_resume && self.random.random_bool(0.3) { known.last() } else { None };
        known.claimed = known.claimed.max(after.map_or(0, |after| after.number));
        drop(ledger);
        self.connect(user, node, after);
    }

    fn connect(&mut self, user: u64, node: usize, after: Option<ws_hub::Position>) {
        // who does not read for long still can
        let patient = WebSocketLayer::new().ping_interval(None).send_timeout(None);
        let layer = patient.close_timeout(Duration::from_secs(24 * 3600)).outbound_buffer(1);
        let pipe = if self.random.random_bool(0.5) { 16 } else { 1024 };
        let (server, stream) = duplex(pipe);
        let hub = self.nodes[node].hub.clone();
        let task = testing::accept(&layer, server, async move |socket| {
            let handler = async |mut member: Member<u64>| while let Some(Ok(_)) = member.recv().await {};
            hub.attach_after(user, socket, after, handler).await
        });
        let task = tokio::spawn(task);
        let mut client = Client::new(user, node, stream, task);
        client.reads = self.random.random_bool(0.7);
        self.clients.push(client);
    }

    fn some_client(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.random.random_range(0..self.clients.len()))
    }

    async fn leave(&mut self) {
        let Some(at) = self.some_client() else { return };
        // in the connection's own buffers, and half of one on the wire
        self.may_be_lost += 4;
        if self.random.random_bool(0.5) {
            self.read(at, usize::MAX);
            if self.clients[at].node == usize::MAX {
                return;
            }
            let client = self.clients.swap_remove(at);
            if self.random.random_bool(0.5) {
                client.task.abort();
            }
        } else {
            self.clients[at].close();
            self.clients[at].reads = true;
        }
        yield_now().await;
    }

    fn kick(&mut self) {
        let (user, node) = (self.random.random_range(0..USERS), self.node());
        let hub = self.nodes[node].hub.clone();
        self.has_gaps = true;
        if self.rules.login != Login::ReplaceOld {
            // others have got what comes after it
            self.may_be_lost += CLAIMED * self.clients.iter().filter(|client| client.user == user).count();
        }
        self.sending.push(tokio::spawn(async move { drop(hub.kick(&user).await) }));
    }

    async fn read_some(&mut self) {
        let Some(at) = self.some_client() else { return };
        for _ in 0..self.random.random_range(1..8) {
            self.read(at, 1);
            yield_now().await;
        }
    }

    fn change_reader(&mut self) {
        if let Some(at) = self.some_client() {
            self.clients[at].reads ^= true;
        }
    }

    /// A client reads at most so many messages.
    fn read(&mut self, at: usize, count: usize) {
        let client = &mut self.clients[at];
        if client.node == usize::MAX {
            return;
        }
        client.flush();
        for _ in 0..count {
            match client.next() {
                Some(Got::Message(position, body)) => {
                    self.ledger.lock().unwrap().received(client, position, &body);
                }
                Some(Got::Closed) => {
                    client.node = usize::MAX;
                    return;
                }
                None => return,
            }
        }
    }

    fn end_or_renew_lease(&mut self) {
        let at = self.node();
        let node = &mut self.nodes[at];
        self.has_gaps = true;
        node.is_dead ^= true;
        if node.is_dead {
            node.engine.end_lease();
        } else {
            node.engine.renew_lease();
        }
    }

    /// A process is killed, and another one takes its place.
    fn restart_node(&mut self) {
        let at = self.node();
        self.nodes[at].engine.end_lease();
        let killed = self.clients.extract_if(.., |client| client.node == at);
        killed.for_each(|client| client.task.abort());
        let engine = Arc::new(self.nodes[at].engine.another());
        self.nodes[at] = Node { hub: hub(self.rules, &engine), engine, is_dead: false };
    }

    fn undelivered(&self, user: u64, after: After) -> ws_hub::Read {
        let page = Page { messages: usize::MAX, bytes: usize::MAX };
        self.log.read(&user, after, page).now_or_never().unwrap().unwrap()
    }

    /// What holds at any moment.
    fn check(&self) {
        let mut ledger = self.ledger();
        for user in 0..USERS {
            let seen = ledger.user(user).log.last_key_value().map_or(0, |(number, _)| *number);
            let read = self.undelivered(user, After::Number(seen));
            for entry in read.entries {
                ledger.user(user).seen(entry.position.number, entry.position.id.get());
            }
            ledger.cursor_at(user, read.cursor, self.rules.guarantee);
        }
    }

    /// Nothing goes wrong any more, and everything comes to rest.
    pub(crate) async fn rest(&mut self) {
        self.nodes[0].engine.faults().clear();
        for node in &mut self.nodes {
            if std::mem::take(&mut node.is_dead) {
                node.engine.renew_lease();
            }
        }
        self.read_for(45).await;
        if self.has_gaps || self.rules.trouble != Trouble::None {
            for node in &self.nodes {
                node.engine.renew_lease();
            }
            self.read_for(20).await;
        }
        self.has_gaps = false;
        for sending in self.sending.drain(..) {
            assert!(sending.is_finished(), "a call is not answered");
            sending.await.unwrap();
        }
        self.assert_presence().await;
        for user in 0..USERS {
            if !self.clients.iter().any(|client| client.user == user) {
                let node = self.node();
                self.connect(user, node, None);
            }
        }
        self.read_for(20).await;
        self.assert_all_delivered();
        let seed = self.random.random();
        self.make_trouble(seed);
    }

    async fn read_for(&mut self, seconds: u32) {
        for client in &mut self.clients {
            client.reads = true;
        }
        for _ in 0..seconds {
            for _ in 0..20 {
                for at in 0..self.clients.len() {
                    self.clients[at].reads = true;
                    self.read(at, usize::MAX);
                }
                yield_now().await;
            }
            self.clients.retain(|client| client.node != usize::MAX);
            self.check();
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The directory knows exactly the connections that are there.
    async fn assert_presence(&self) {
        let users: Vec<_> = (0..USERS).collect();
        let known = self.nodes[0].engine.connections(&users).await.unwrap();
        let there = users.iter().map(|user| self.clients.iter().filter(|it| it.user == *user).count());
        assert_eq!(known, there.collect::<Vec<_>>(), "who is there");
        let most = if self.rules.login == Login::ReplaceOld { 1 } else { 3 };
        assert!(known.iter().all(|count| *count <= most), "{known:?}");
        let connections: usize = self.nodes.iter().map(|node| node.hub.stats().connections).sum();
        assert_eq!(connections, self.clients.len(), "how many are there");
    }

    /// Whatever was accepted a client has got, and the logs say so.
    fn assert_all_delivered(&mut self) {
        let mut ledger = self.ledger();
        let missing = ledger.missing();
        for user in 0..USERS {
            let read = self.undelivered(user, After::Cursor);
            assert!(read.entries.is_empty(), "{} wait for user {user}", read.entries.len());
        }
        if self.rules.guarantee == Guarantee::AtLeastOnce {
            assert!(missing.is_empty(), "accepted, and lost: {missing:?}");
            return;
        }
        // with trouble, a logout may come so late that others have got what comes after what it gives back
        let may_be_lost = if self.rules.trouble == Trouble::None { self.may_be_lost } else { usize::MAX };
        assert!(missing.len() <= may_be_lost, "accepted, and lost: {missing:?}");
        for (user, _) in missing {
            let top = ledger.user(user).log.last_key_value().map_or(0, |(number, _)| *number);
            ledger.user(user).claimed = top;
        }
        drop(ledger);
        self.may_be_lost = 0;
    }

    /// At most once, a user who has one connection at a time gets nothing twice, unless what came before it was given back.
    pub(crate) fn assert_nothing_twice(&self) {
        let given_back = self.given_back.lock().unwrap();
        for (user, known) in &self.ledger().users {
            let twice = known.received.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number);
            let twice: Vec<_> = twice.filter(|number| !given_back.contains(&(*user, *number))).collect();
            assert!(twice.is_empty(), "user {user} got {twice:?} twice");
        }
    }
}
