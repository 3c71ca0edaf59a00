//! [`Outside`]: a server in a process of its own, so that what it costs can be seen from outside of it: memory, file
//! descriptors and CPU time as the system counts them (`/proc`, of Linux).
//!
//! The two speak over a control connection, in lines: a command, and an answer to it. The server ends with it.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use ws_core::{Compression, WebSocketLayer};

use crate::client::Client;
use crate::request::Request;
use crate::server::Endpoint;
use crate::wait::{DEADLINE, within};

/// The limits of time of a server's connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`WebSocketLayer::ping_interval`].
    pub ping: Duration,
    /// See [`WebSocketLayer::pong_timeout`].
    pub pong: Duration,
    /// See [`WebSocketLayer::message_timeout`].
    pub message: Duration,
    /// See [`WebSocketLayer::send_timeout`].
    pub send: Duration,
    /// See [`WebSocketLayer::close_timeout`].
    pub close: Duration,
}

impl Limits {
    /// All of them as long as this.
    #[must_use]
    pub fn all(time: Duration) -> Self {
        Self { ping: time, pong: time, message: time, send: time, close: time }
    }

    /// A layer with them, which compresses for the clients that offer it.
    pub fn layer(self) -> WebSocketLayer {
        WebSocketLayer::new()
            .compression(Compression::new())
            .ping_interval(self.ping)
            .pong_timeout(self.pong)
            .message_timeout(self.message)
            .send_timeout(self.send)
            .close_timeout(self.close)
    }

    /// What [`Display`](fmt::Display) has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut times = text.split(',').map_while(|time| time.parse().ok().map(Duration::from_millis));
        let mut time = || times.next();
        Some(Self { ping: time()?, pong: time()?, message: time()?, send: time()?, close: time()? })
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = [self.ping, self.pong, self.message, self.send, self.close];
        f.write_str(&times.map(|time| time.as_millis().to_string()).join(","))
    }
}

/// What a server counts in itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections of the layer.
    pub connections: usize,
    /// Tasks of the runtime that have not ended.
    pub tasks: usize,
    /// Users of the hub who are connected.
    pub users: usize,
    /// Connections of the hub.
    pub attached: usize,
    /// Rooms of the hub with somebody in them.
    pub rooms: usize,
    /// Messages of the hub that went lost: not accepted, or gone to make room for others.
    pub lost: usize,
    /// Connections that the hub has closed because too much waited for them.
    pub overflowed: usize,
    /// Panics, of any thread.
    pub panics: usize,
}

impl Counters {
    /// What [`Display`](fmt::Display) has written.
    fn parse(text: &str) -> Option<Self> {
        let counts: Option<Vec<_>> = text.split(' ').map(|count| count.parse().ok()).collect();
        let [connections, tasks, users, attached, rooms, lost, overflowed, panics] =
            counts?.try_into().ok()?;
        Some(Self { connections, tasks, users, attached, rooms, lost, overflowed, panics })
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, tasks, users, attached, rooms, lost, overflowed, panics } = self;
        write!(f, "{connections} {tasks} {users} {attached} {rooms} {lost} {overflowed} {panics}")
    }
}

/// A server in a process of its own; it is killed when this is dropped.
#[derive(Debug)]
pub struct Outside {
    child: Child,
    control: BufReader<TcpStream>,
    address: SocketAddr,
    http2: bool,
}

impl Outside {
    /// Starts the server `program` with an adapter: `axum`, `hyper`, `warp`, and with `_http2` behind it, for clients that
    /// speak HTTP/2.
    pub async fn start(program: impl AsRef<OsStr>, adapter: &str, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let control = listener.local_addr().expect("a listener has an address");
        let (framework, http2) = match adapter.strip_suffix("_http2") {
            Some(framework) => (framework, true),
            None => (adapter, false),
        };
        let child = Command::new(program)
            .args([framework, &control.to_string(), &limits.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("the program of the server can be started");
        let (control, _) = within("the server to start", listener.accept()).await.expect("it connects");
        let mut control = BufReader::new(control);
        let address = answer(&mut control).await.parse().expect("the server says where it listens");
        // it listens, and may not have begun to serve, which takes tasks that are to be counted
        let server = Self { child, control, address, http2 };
        Client::ask(server.endpoint(), Request::new("GET", "/plain")).await;
        server
    }

    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, http2: self.http2 }
    }

    /// What it counts.
    pub async fn counters(&mut self) -> Counters {
        let answer = self.command("counters").await;
        Counters::parse(&answer).expect("the server says what it counts")
    }

    /// What the handlers do that have not returned, to be told of one that hangs.
    pub async fn handlers(&mut self) -> String {
        self.command("handlers").await
    }

    /// Waits until what it counts is as `condition` wants it; returns that.
    pub async fn until(&mut self, what: &str, condition: impl Fn(Counters) -> bool) -> Counters {
        let start = tokio::time::Instant::now();
        loop {
            let counters = self.counters().await;
            if condition(counters) {
                return counters;
            }
            assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}: {counters:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts the server anew, on another port, and drains what is open on the one before: as a deploy does, but for the
    /// process.
    pub async fn roll(&mut self) {
        self.address = self.command("roll").await.parse().expect("the server says where it listens");
    }

    /// Lets the server send this many messages a second to users of the hub, from now on.
    pub async fn publish(&mut self, per_second: usize) {
        self.command(&format!("publish {per_second}")).await;
    }

    /// Lets the handlers that wait for it read.
    pub async fn release(&mut self) {
        self.command("release").await;
    }

    async fn command(&mut self, command: &str) -> String {
        let line = format!("{command}\n");
        self.control.get_mut().write_all(line.as_bytes()).await.expect("the server runs");
        answer(&mut self.control).await
    }

    /// What is seen of it by the system.
    #[must_use]
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }
}

/// The next line.
async fn answer(control: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    let read = within("the server to answer", control.read_line(&mut line)).await;
    assert!(read.is_ok_and(|read| read > 0), "the server has ended");
    line.truncate(line.trim_end().len());
    line
}

impl Drop for Outside {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes in MiB, to be printed.
#[must_use]
pub fn mib(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}

/// A process, as the system sees it.
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

impl Process {
    /// Bytes of memory that it has, in pages (RSS).
    #[must_use]
    pub fn memory(self) -> usize {
        let status = self.read("status").expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
        kib.expect("the system tells how much memory a process has") * 1024
    }

    /// File descriptors that it has open.
    #[must_use]
    pub fn files(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).expect("the process runs").count()
    }

    /// CPU time that it has used, in user and kernel mode.
    #[must_use]
    pub fn cpu(self) -> Duration {
        let stat = self.read("stat").expect("the process runs");
        // behind the name, which may hold anything: the 14th and the 15th field of all, in hundredths of a second
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).map(|time| time.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    fn read(self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0))
    }
}
