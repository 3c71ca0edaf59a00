//! Redis servers for the tests: each in a directory of its own, killed and removed at the end.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use redis::{Client, Value};
use ws_hub_redis::{RedisBackplane, RedisBackplaneBuilder};

use crate::support::until;

/// How long something may take that takes a moment on a machine that does nothing else.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Starts a server, says its process id, and when this process is gone, however it went, kills it and removes its directory.
const KEEPER: &str = r#"
directory=$1; shift
redis-server "$@" >>"$directory/log" 2>&1 &
echo $!
cat >/dev/null
kill -9 $! 2>/dev/null
wait
until rm -rf "$directory" 2>/dev/null; do sleep 0.1; done
"#;

pub(crate) struct Server {
    directory: PathBuf,
    /// All that it is started with.
    arguments: Vec<String>,
    keepers: Vec<Child>,
    /// Of the process that runs.
    id: Option<u32>,
}

/// The server of all tests that do not harm it.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&["--appendonly", "no"]))
}

/// A port that was free a moment ago, for a server that takes no other.
pub(crate) fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

impl Server {
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_in(&Self::directory(), settings)
    }

    /// A directory for a server, which removes it.
    pub(crate) fn directory() -> PathBuf {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("ws-hub-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    pub(crate) fn start_in(directory: &Path, settings: &[&str]) -> Self {
        let (path, socket) = (directory.to_str().unwrap(), socket_in(directory));
        let own = ["--port", "0", "--unixsocket", &socket, "--dir", path, "--save", ""];
        Self::start_with(directory, [&own, settings].concat())
    }

    /// With nothing but these arguments.
    pub(crate) fn start_with(directory: &Path, arguments: Vec<&str>) -> Self {
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let mut server = Self { directory: directory.to_owned(), arguments, keepers: Vec::new(), id: None };
        server.restart();
        server
    }

    /// One that loses nothing that it has answered.
    pub(crate) fn durable() -> Self {
        Self::start(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts it again, over the data that it has.
    pub(crate) fn restart(&mut self) {
        let has_server = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        assert!(has_server.is_ok(), "there is no redis-server; install it: apt-get install redis-server");
        let directory = self.directory.to_str().unwrap();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh", directory]).args(&self.arguments);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut id = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut id).unwrap();
        self.id = Some(id.trim().parse().unwrap());
        self.keepers.push(keeper);
        let start = Instant::now();
        let answers = |server: &Self| match server.try_run(&["PING"]) {
            Ok(_) => true,
            Err(error) => error.code() == Some("NOAUTH"),
        };
        while !answers(self) {
            assert!(start.elapsed() < SOON, "the server does not start: see {directory}/log");
            sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let id = self.id.take().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-9", &id]).status().unwrap().success());
        let start = Instant::now();
        while self.try_run(&["PING"]).is_ok() {
            assert!(start.elapsed() < SOON, "the server does not die");
            sleep(Duration::from_millis(5));
        }
    }

    /// Of the process that runs.
    pub(crate) fn id(&self) -> u32 {
        self.id.expect("it runs")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix:{}", socket_in(&self.directory))
    }

    pub(crate) fn builder(&self) -> RedisBackplaneBuilder<u64> {
        RedisBackplane::builder(self.url())
    }

    /// A prefix that nobody else has.
    pub(crate) fn prefix() -> String {
        static PREFIXES: AtomicU64 = AtomicU64::new(0);
        format!("test{}", PREFIXES.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn try_run(&self, command: &[&str]) -> redis::RedisResult<Value> {
        let client = Client::open(self.url())?;
        let mut connection = client.get_connection()?;
        let mut it = redis::cmd(command[0]);
        command[1..].iter().for_each(|arg| {
            it.arg(arg);
        });
        it.query(&mut connection)
    }

    /// What the server answers to a command.
    pub(crate) fn run(&self, command: &[&str]) -> Value {
        self.try_run(command).unwrap()
    }

    /// How many subscribe to a channel.
    pub(crate) fn subscribers(&self, channel: &str) -> i64 {
        match self.run(&["PUBSUB", "NUMSUB", channel]) {
            Value::Array(pair) => match pair.as_slice() {
                [_, Value::Int(count)] => *count,
                other => panic!("{other:?} is no count"),
            },
            other => panic!("{other:?} is no count"),
        }
    }

    pub(crate) fn number(&self, command: &[&str]) -> i64 {
        match self.run(command) {
            Value::Int(number) => number,
            other => panic!("{other:?} is no number"),
        }
    }
}

/// How servers replicate.
impl Server {
    /// What it says of its replication, by name.
    pub(crate) fn replication(&self) -> HashMap<String, String> {
        let text = match self.run(&["INFO", "replication"]) {
            Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?} is no text"),
        };
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Ready when it is a replica that gets what its master gets.
    pub(crate) async fn is_in_sync(&self) {
        let is_up = async || self.replication().get("master_link_status").is_some_and(|it| it == "up");
        until("the replica is in sync", is_up).await;
    }
}

/// A replica of the server at this port.
pub(crate) fn replica_of(master: &str, port: &str) -> Server {
    let of = format!("127.0.0.1 {master}");
    let settings = ["--port", port, "--repl-diskless-sync-delay", "0", "--appendonly", "yes"];
    Server::start(&[&settings[..], &["--replicaof", &of]].concat())
}

/// Where a server listens that is started in this directory.
pub(crate) fn socket_in(directory: &Path) -> String {
    directory.join("s").to_str().unwrap().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        for keeper in &mut self.keepers {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}
