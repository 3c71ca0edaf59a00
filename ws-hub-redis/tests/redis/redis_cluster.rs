//! A Redis Cluster of a test's own: masters, and a replica of each.
//!
//! Everything here blocks, and uses nothing but the standard library: another package's tests use it, too.

use std::fmt::Debug;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How many of the servers are masters at first; as many are replicas.
pub(crate) const MASTERS: usize = 3;

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// How long something may take that takes some seconds on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(120);

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// After how many milliseconds without an answer a server is taken for down.
const NODE_TIMEOUT: &str = "4000";

/// How many keys are moved at once.
const MOVED_AT_ONCE: &str = "10";

/// Starts a server, says its process id, and when this process is gone, however it went, kills it.
const KEEPER: &str = r#"
directory=$1; shift
redis-server "$@" >>"$directory/log" 2>&1 &
echo $!
cat >/dev/null
kill -9 $! 2>/dev/null
wait
"#;

/// Keeps the directory of all servers until this process is gone.
const REMOVER: &str = r#"cat >/dev/null; until rm -rf "$1" 2>/dev/null; do sleep 0.1; done"#;

pub(crate) struct RedisCluster {
    servers: Vec<Server>,
    remover: Child,
}

struct Server {
    directory: PathBuf,
    port: u16,
    bus_port: u16,
    settings: Vec<String>,
    /// `None` while it is killed.
    keeper: Mutex<Option<Keeper>>,
}

struct Keeper {
    process: Child,
    server: u32,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// What a server knows of another one.
struct Known {
    port: u16,
    has_failed: bool,
    /// Of a replica: the id of its master.
    master: String,
    slots: Vec<(u16, u16)>,
}

impl RedisCluster {
    /// Three masters with as many slots, and a replica of each, which sync each write to their disks.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with further settings, such as `["cluster-require-full-coverage", "no"]`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("redis-cluster-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a new directory");
        let mut remover = Command::new("sh");
        let remover = remover.args(["-c", REMOVER, "sh"]).arg(&directory).stdin(Stdio::piped()).spawn();
        let remover = remover.expect("there is a shell");
        let servers =
            (0..2 * MASTERS).map(|number| Server::start(&directory.join(number.to_string()), settings));
        let cluster = Self { servers: servers.collect(), remover };
        cluster.join();
        cluster
    }

    /// Makes the servers a cluster.
    fn join(&self) {
        let step = SLOTS.div_ceil(u16::try_from(MASTERS).expect("it is small"));
        for (server, start) in (0..MASTERS).zip((0..).step_by(step.into())) {
            let (start, end) = (start.to_string(), (start + step - 1).min(SLOTS - 1).to_string());
            self.tell(server, &["CLUSTER", "ADDSLOTSRANGE", &start, &end]);
            self.tell(server, &["CLUSTER", "SET-CONFIG-EPOCH", &(server + 1).to_string()]);
        }
        for server in &self.servers[1..] {
            let (port, bus) = (server.port.to_string(), server.bus_port.to_string());
            self.tell(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for replica in MASTERS..2 * MASTERS {
            let master = self.id(replica - MASTERS);
            let replicates = || self.ask(replica, &["CLUSTER", "REPLICATE", &master]).is_ok();
            until("a replica knows its master", replicates);
        }
        self.is_well();
    }

    /// The addresses of all servers for clients.
    pub(crate) fn urls(&self) -> Vec<String> {
        (0..self.servers.len()).map(|server| self.url(server)).collect()
    }

    pub(crate) fn url(&self, server: usize) -> String {
        format!("redis://127.0.0.1:{}", self.servers[server].port)
    }

    /// What a server answers to a command: the strings and numbers of the answer, in order, or what went wrong.
    pub(crate) fn ask<A: AsRef<[u8]>>(&self, server: usize, command: &[A]) -> Result<Vec<String>, String> {
        let answer = self.ask_bytes(server, command)?;
        Ok(answer.into_iter().map(|it| String::from_utf8_lossy(&it).into_owned()).collect())
    }

    /// The same, for a command that does not fail.
    pub(crate) fn tell<A: AsRef<[u8]> + Debug>(&self, server: usize, command: &[A]) -> Vec<String> {
        self.ask(server, command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn ask_bytes<A: AsRef<[u8]>>(&self, server: usize, command: &[A]) -> Result<Vec<Vec<u8>>, String> {
        self.servers[server].ask(command).map_err(|error| error.to_string())
    }

    fn id(&self, server: usize) -> String {
        self.tell(server, &["CLUSTER", "MYID"]).remove(0)
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.servers.len()).filter(|server| self.servers[*server].is_running())
    }

    /// What a server says of all of them, if it answers.
    fn known_to(&self, server: usize) -> Vec<Known> {
        let answer = self.ask(server, &["CLUSTER", "NODES"]).unwrap_or_default();
        answer.iter().flat_map(|text| text.lines()).filter_map(Known::parse).collect()
    }

    fn with_port(&self, port: u16) -> Option<usize> {
        self.servers.iter().position(|server| server.port == port)
    }

    /// The masters that have slots, and these, as all servers see it that run. Waits until they agree.
    fn agreed(&self) -> Vec<(usize, Vec<(u16, u16)>)> {
        let mut agreed = Vec::new();
        until("all servers agree on who has which slots", || {
            let mut views = self.running().map(|server| self.owners(server));
            agreed = views.next().expect("one runs");
            !agreed.is_empty() && views.all(|view| view == agreed)
        });
        agreed
    }

    /// Who has which slots, as a server sees it.
    fn owners(&self, server: usize) -> Vec<(usize, Vec<(u16, u16)>)> {
        let known = self.known_to(server).into_iter().filter(|it| !it.slots.is_empty());
        let mut owners: Vec<_> =
            known.map(|it| (self.with_port(it.port).expect("it is one of them"), it.slots)).collect();
        owners.sort_unstable();
        owners
    }

    /// The masters that have slots.
    pub(crate) fn masters(&self) -> Vec<usize> {
        self.agreed().into_iter().map(|(master, _)| master).collect()
    }

    /// Which server has a slot.
    pub(crate) fn master_of(&self, slot: u16) -> usize {
        let has = |slots: &[(u16, u16)]| slots.iter().any(|(start, end)| (*start..=*end).contains(&slot));
        let owner = self.agreed().into_iter().find(|(_, slots)| has(slots));
        owner.unwrap_or_else(|| panic!("nobody has slot {slot}")).0
    }

    /// The replica of a master.
    pub(crate) fn replica_of(&self, master: usize) -> usize {
        let id = self.id(master);
        let mut replica = None;
        until("the master has a replica", || {
            let known = self.known_to(master);
            replica = known.iter().find(|it| it.master == id && !it.has_failed).map(|it| it.port);
            replica.is_some()
        });
        self.with_port(replica.expect("it is known")).expect("it is one of them")
    }

    /// Ends a server as `kill -9` does.
    pub(crate) fn kill(&self, server: usize) {
        *self.servers[server].keeper() = None;
    }

    /// Starts a server again that was killed, with what it had written; ready when the cluster is well.
    pub(crate) fn restart(&self, server: usize) {
        self.servers[server].launch();
        self.is_well();
    }

    /// Waits until all servers that run say that the cluster works, each replica is linked to its master, and nobody who runs
    /// is taken for down.
    pub(crate) fn is_well(&self) {
        let running: Vec<_> = self.running().collect();
        let count = self.servers.len().to_string();
        until("the cluster is well", || {
            running.iter().all(|server| {
                let info = self.ask(*server, &["CLUSTER", "INFO"]).unwrap_or_default().concat();
                let is = |name: &str, value: &str| info.lines().any(|it| it == format!("{name}:{value}"));
                let link = self.ask(*server, &["INFO", "replication"]).unwrap_or_default().concat();
                let is_linked = link.contains("role:master") || link.contains("master_link_status:up");
                let runs = |it: &Known| self.with_port(it.port).is_some_and(|it| running.contains(&it));
                let all_are_up = self.known_to(*server).iter().all(|it| !it.has_failed || !runs(it));
                is("cluster_state", "ok") && is("cluster_known_nodes", &count) && is_linked && all_are_up
            })
        });
    }

    /// Has the replica of a master take its place, as an operator does. Returns which one that is.
    pub(crate) fn fail_over(&self, master: usize) -> usize {
        self.replace(master, &["CLUSTER", "FAILOVER"])
    }

    /// The same, without the consent of the master, which goes on until it hears of it: what it accepts meanwhile is lost.
    pub(crate) fn take_over(&self, master: usize) -> usize {
        self.replace(master, &["CLUSTER", "FAILOVER", "TAKEOVER"])
    }

    fn replace(&self, master: usize, command: &[&str]) -> usize {
        let replica = self.replica_of(master);
        let slots = self.slots_of(master);
        until("a replica takes the place of its master", || {
            // it is not done if the master does not agree in time
            let _ = self.ask(replica, command);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(5) {
                if self.all_say_has_slots(replica, &slots) {
                    return true;
                }
                sleep(LOOK);
            }
            false
        });
        self.is_well();
        replica
    }

    /// Kills a master, and waits until its replica has taken its place. Returns which one that is.
    pub(crate) fn kill_master(&self, master: usize) -> usize {
        let (replica, slots) = (self.replica_of(master), self.slots_of(master));
        self.kill(master);
        until("a replica takes the place of a master that is gone", || {
            self.all_say_has_slots(replica, &slots)
        });
        self.is_well();
        replica
    }

    /// Stops the process of a server.
    pub(crate) fn stop(&self, server: usize) {
        self.servers[server].signal("STOP");
    }

    /// Has a server go on that was stopped.
    pub(crate) fn go_on(&self, server: usize) {
        self.servers[server].signal("CONT");
    }

    /// Stops the process of a master until its replica has taken its place, and has it go on. Returns which one that is.
    pub(crate) fn stop_master(&self, master: usize) -> usize {
        let (replica, slots) = (self.replica_of(master), self.slots_of(master));
        self.stop(master);
        let others = || self.running().filter(|it| *it != master);
        until("a replica takes the place of a master that does nothing", || {
            others().all(|asked| self.has_slots(asked, replica, &slots))
        });
        self.go_on(master);
        self.is_well();
        replica
    }

    /// The slots that have keys.
    pub(crate) fn used_slots(&self) -> Vec<u16> {
        let mut used = Vec::new();
        for master in self.masters() {
            for key in self.ask_bytes(master, &["KEYS", "*"]).expect("it answers") {
                let slot =
                    self.ask(master, &[b"CLUSTER", &b"KEYSLOT"[..], &key]).expect("it answers").remove(0);
                used.push(slot.parse().expect("a number"));
            }
        }
        used.sort_unstable();
        used.dedup();
        used
    }

    /// The slots of a server.
    fn slots_of(&self, server: usize) -> Vec<(u16, u16)> {
        self.agreed().into_iter().find(|(it, _)| *it == server).expect("it has slots").1
    }

    /// Whether all servers that run say that one has these slots.
    fn all_say_has_slots(&self, server: usize, slots: &[(u16, u16)]) -> bool {
        self.running().all(|asked| self.has_slots(asked, server, slots))
    }

    /// Whether one server says that another one has these slots.
    fn has_slots(&self, asked: usize, server: usize, slots: &[(u16, u16)]) -> bool {
        self.owners(asked).iter().any(|(it, its)| *it == server && its == slots)
    }

    /// Moves a slot to another master, with its keys, while clients use it.
    pub(crate) fn move_slot(&self, slot: u16, to: usize) {
        let from = self.begin_to_move(slot, to);
        self.move_keys(slot, from, to);
        self.end_to_move(slot, from, to);
    }

    /// The first step of [`move_slot`](Self::move_slot): both masters know of it. Returns who has the slot.
    pub(crate) fn begin_to_move(&self, slot: u16, to: usize) -> usize {
        let from = self.master_of(slot);
        assert_ne!(from, to, "the slot is there");
        let slot = slot.to_string();
        self.tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        self.tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
        from
    }

    /// The second step: moves all keys.
    pub(crate) fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let (slot, port) = (slot.to_string(), self.servers[to].port.to_string());
        loop {
            let keys = self.ask_bytes(from, &["CLUSTER", "GETKEYSINSLOT", &slot, MOVED_AT_ONCE]);
            let keys = keys.expect("it answers");
            if keys.is_empty() {
                return;
            }
            let migrate =
                ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(|it| it.as_bytes().to_vec());
            self.tell(from, &[&migrate[..], &keys].concat());
        }
    }

    /// The last step: the slot is there.
    pub(crate) fn end_to_move(&self, slot: u16, from: usize, to: usize) {
        let (text, id) = (slot.to_string(), self.id(to));
        let others = self.masters().into_iter().filter(|it| ![from, to].contains(it));
        for server in [to, from].into_iter().chain(others) {
            self.tell(server, &["CLUSTER", "SETSLOT", &text, "NODE", &id]);
        }
        assert_eq!(self.master_of(slot), to);
    }
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        self.servers.clear();
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

impl Server {
    fn start(directory: &Path, settings: &[&str]) -> Self {
        if let Err(error) = Command::new("redis-server").arg("--version").output() {
            assert_ne!(error.kind(), ErrorKind::NotFound, "no redis-server: `apt-get install redis-server`");
        }
        std::fs::create_dir(directory).expect("a new directory");
        loop {
            let settings = settings.iter().map(|it| (*it).to_owned()).collect();
            let [port, bus_port] = free_ports();
            let server =
                Self { directory: directory.to_owned(), port, bus_port, settings, keeper: Mutex::new(None) };
            if server.try_launch() {
                return server;
            }
        }
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self) -> bool {
        self.keeper().is_some()
    }

    fn launch(&self) {
        assert!(self.try_launch(), "the server does not start: see {}", self.directory.display());
    }

    /// Starts it, and waits until it answers; `false` if it ends, because somebody else has one of its ports by now.
    fn try_launch(&self) -> bool {
        let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let said_before = log().len();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&self.directory).arg("--dir").arg(&self.directory);
        keeper.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        keeper.args(["--cluster-enabled", "yes", "--cluster-port", &self.bus_port.to_string()]);
        keeper.args(["--cluster-node-timeout", NODE_TIMEOUT, "--cluster-allow-replica-migration", "no"]);
        keeper.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        keeper.args(["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"]);
        for setting in self.settings.chunks(2) {
            keeper.arg(format!("--{}", setting[0])).args(&setting[1..]);
        }
        let mut process =
            keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let mut id = String::new();
        let said = BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut id);
        said.expect("the shell says it");
        let server = id.trim().parse().expect("it is a number");
        *self.keeper() = Some(Keeper { process, server });
        let start = Instant::now();
        // it answers with an error while it loads what it has
        while !self.ask(&["PING"]).is_ok_and(|answer| answer == [b"PONG"]) {
            if log()[said_before..].contains("Address already in use") || start.elapsed() > SOON {
                *self.keeper() = None;
                return false;
            }
            sleep(LOOK);
        }
        true
    }

    fn signal(&self, name: &str) {
        if let Some(keeper) = self.keeper().as_ref() {
            let sent = Command::new("kill").args(["-s", name, &keeper.server.to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()), "SIG{name} did not reach a server");
        }
    }

    fn ask<A: AsRef<[u8]>>(&self, command: &[A]) -> io::Result<Vec<Vec<u8>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(SOON))?;
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            let part = part.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(&[part, b"\r\n"].concat());
        }
        (&stream).write_all(&bytes)?;
        answer(&mut BufReader::new(stream))
    }
}

impl Known {
    /// Reads a line of `CLUSTER NODES`: id, address, flags, master, three numbers, the link, and slots.
    fn parse(line: &str) -> Option<Self> {
        let parts: Vec<_> = line.split(' ').collect();
        let [_, address, flags, master, _, _, _, _, slots @ ..] = parts.as_slice() else { return None };
        let (_, port) = address.split('@').next()?.rsplit_once(':')?;
        let has = |flag: &str| flags.split(',').any(|it| it == flag);
        // one that is moved is in brackets, and among the others, too
        let range = |text: &&str| {
            let (start, end) = text.split_once('-').unwrap_or((text, text));
            Some((start.parse().ok()?, end.parse().ok()?))
        };
        Some(Self {
            port: port.parse().ok()?,
            has_failed: has("fail") || has("fail?"),
            master: (*master).to_owned(),
            slots: slots.iter().filter_map(range).collect(),
        })
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|it| it.local_addr().expect("it is bound").port())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "it never comes to this: {what}");
        sleep(LOOK);
    }
}

/// Reads an answer, in the protocol RESP2.
fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<Vec<u8>>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(ErrorKind::UnexpectedEof)?;
    match (kind, rest.parse::<usize>()) {
        ("+" | ":", _) => Ok(vec![rest.as_bytes().to_vec()]),
        ("$", Ok(length)) => {
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(vec![bytes])
        }
        ("*", Ok(count)) => {
            let mut all = Vec::new();
            for _ in 0..count {
                all.extend(answer(stream)?);
            }
            Ok(all)
        }
        // nothing there
        ("$" | "*", Err(_)) => Ok(Vec::new()),
        _ => Err(io::Error::other(rest.to_owned())),
    }
}
