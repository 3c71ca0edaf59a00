//! The servers that are compared, and how each is started.

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout},
    time::timeout,
};

use crate::{
    process::Process,
    results::output,
    scenario::{Load, Scenario},
};

/// How long a server may take to say where it listens, and to end when it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server is, for the targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// No WebSocket library: what the sockets alone take.
    Floor,
    Ours,
    RustPeer,
    /// In another language.
    Other,
}

/// How a server is started.
#[derive(Clone, Copy)]
enum Program {
    /// A binary next to this one.
    Rust,
    /// A program below the target directory.
    Built(&'static str),
    /// A script, run by Node.js with the libraries below the target directory.
    Node(&'static str),
    /// A script, run by the Python of the virtual environment below the target directory.
    Python(&'static str),
}

pub(crate) struct Server {
    /// For the command line and the report; the binary of a Rust one is called the same.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    program: Program,
    pub(crate) broadcast: bool,
    /// Whether it sends what comes on one connection on another one.
    pub(crate) pairs: bool,
    /// Whether it sends pings to idle connections.
    pub(crate) keepalive: bool,
    /// The libraries in `Cargo.lock` that it stands for.
    pub(crate) packages: &'static [&'static str],
}

/// All of them, in the order of the report.
pub(crate) const SERVERS: &[Server] = &[
    Server { broadcast: true, keepalive: true, ..rust("floor", Kind::Floor, &["tokio"]) },
    Server {
        broadcast: true,
        pairs: true,
        keepalive: true,
        ..rust("ws-axum", Kind::Ours, &["ws-axum", "ws-hub", "axum"])
    },
    Server { keepalive: true, ..rust("ws-hyper", Kind::Ours, &["ws-hyper", "hyper"]) },
    Server { keepalive: true, ..rust("ws-warp", Kind::Ours, &["ws-warp", "warp"]) },
    Server { broadcast: true, ..rust("axum", Kind::RustPeer, &["axum", "tokio-tungstenite"]) },
    Server { broadcast: true, ..rust("axum-tuned", Kind::RustPeer, &["axum", "tokio-tungstenite"]) },
    Server { broadcast: true, ..rust("warp", Kind::RustPeer, &["warp", "tokio-tungstenite"]) },
    rust("hyper-tungstenite", Kind::RustPeer, &["hyper-tungstenite"]),
    Server { broadcast: true, ..rust("tokio-tungstenite", Kind::RustPeer, &["tokio-tungstenite"]) },
    rust("fastwebsockets", Kind::RustPeer, &["fastwebsockets"]),
    rust("tokio-websockets", Kind::RustPeer, &["tokio-websockets"]),
    rust("yawc", Kind::RustPeer, &["yawc"]),
    Server { keepalive: true, ..rust("sockudo-ws", Kind::RustPeer, &["sockudo-ws"]) },
    other("gorilla", Program::Built("gorilla"), false),
    other("ws (Node.js)", Program::Node("node/server.js"), false),
    other("websockets (Python)", Program::Python("python/server.py"), true),
];

const fn rust(name: &'static str, kind: Kind, packages: &'static [&'static str]) -> Server {
    Server { name, kind, program: Program::Rust, broadcast: false, pairs: false, keepalive: false, packages }
}

const fn other(name: &'static str, program: Program, keepalive: bool) -> Server {
    Server { name, kind: Kind::Other, program, broadcast: true, pairs: false, keepalive, packages: &[] }
}

/// The server of this name.
pub(crate) fn find(name: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.name == name)
}

impl Server {
    /// Whether it serves the path of this scenario.
    pub(crate) fn serves(&self, scenario: &Scenario) -> bool {
        match scenario.load {
            Load::Broadcast { .. } => self.broadcast,
            Load::Pairs { .. } => self.pairs,
            Load::Echo { .. } | Load::Handshake | Load::Idle => true,
        }
    }

    /// Whether it is in this repository's workspace, and so has to be there.
    pub(crate) fn is_rust(&self) -> bool {
        self.kind != Kind::Other
    }

    /// Whether what it is started from is there.
    pub(crate) fn is_built(&self) -> Result<bool> {
        let library = match self.program {
            Program::Node(_) => Some(installed()?.join("node/node_modules/ws")),
            Program::Rust | Program::Built(_) | Program::Python(_) => None,
        };
        Ok(self.files()?.iter().chain(&library).all(|file| file.exists()))
    }

    /// The program and its argument.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
        Ok(match self.program {
            Program::Rust => vec![env::current_exe()?.with_file_name(self.name)],
            Program::Built(program) => vec![installed()?.join(program)],
            Program::Node(script) => vec![find_in_path("node"), scripts.join(script)],
            Program::Python(script) => vec![installed()?.join("venv/bin/python"), scripts.join(script)],
        })
    }

    /// What it is made with.
    pub(crate) fn version(&self) -> String {
        const NODE: &str =
            "console.log(`ws ${require('ws/package.json').version}, Node.js ${process.version}`)";
        const PYTHON: &str = "import websockets, platform; \
            print(f'websockets {websockets.__version__}, Python {platform.python_version()}')";
        let installed = installed().unwrap_or_default();
        match self.program {
            Program::Rust => {
                let versions = self.packages.iter().map(|package| format!("{package} {}", locked(package)));
                versions.collect::<Vec<_>>().join(", ")
            }
            // the packages of the distribution
            Program::Built(_) => output(Command::new("dpkg-query").args([
                "--show",
                "--showformat=${Package} ${source:Upstream-Version} ",
                "golang-github-gorilla-websocket-dev",
                "golang-go",
            ])),
            Program::Node(_) => {
                let mut node = Command::new("node");
                output(node.env("NODE_PATH", installed.join("node/node_modules")).args(["-e", NODE]))
            }
            Program::Python(_) => {
                output(Command::new(installed.join("venv/bin/python")).args(["-c", PYTHON]))
            }
        }
    }

    /// Starts it, on this CPU if there is one to itself.
    pub(crate) async fn start(&self, cpu: Option<usize>) -> Result<Running> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(cpu) = cpu {
            words.extend(["taskset".into(), "-c".into(), cpu.to_string().into()]);
        }
        words.extend(self.files()?.into_iter().map(PathBuf::into_os_string));
        let mut child = tokio::process::Command::new(&words[0])
            .args(&words[1..])
            .env("NODE_PATH", installed()?.join("node/node_modules"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        timeout(PATIENCE, stdout.read_line(&mut line))
            .await
            .context("the server doesn't say where it listens")??;
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .with_context(|| format!("the server says {:?} in place of where it listens", line.trim()))?;
        let address = address.parse().with_context(|| format!("{address} is no address"))?;
        let process = Process(child.id().context("the server ended")?);
        Ok(Running { child, address, process, _stdout: stdout })
    }
}

/// A server's process. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    /// Kept, so that it may write more.
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Kills it, and waits until its ports and memory are free. Fails if it had ended before.
    pub(crate) async fn kill(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        timeout(PATIENCE, self.child.kill()).await.context("the server doesn't end")??;
        ensure!(ended.is_none(), "the server ended by itself: {}", ended.unwrap_or_default());
        Ok(())
    }
}

/// Where `bench/servers/setup` puts what is not built by cargo.
fn installed() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => Ok(Path::new(&target).join("bench")),
        // this program is in `release` or `debug` of the target directory
        None => Ok(env::current_exe()?.ancestors().nth(2).context("no target directory")?.join("bench")),
    }
}

/// The version of a package that cargo has built, or this repository's; several if it is there more than once.
fn locked(package: &str) -> String {
    let name = format!("name = \"{package}\"\n");
    let versions = include_str!("../Cargo.lock").split("[[package]]\n").filter_map(|entry| {
        let rest = entry.strip_prefix(&name)?;
        let version = rest.strip_prefix("version = \"")?.split('"').next()?;
        Some(if rest.contains("source = ") { version } else { "of this repository" })
    });
    versions.collect::<Vec<_>>().join(" and ")
}

fn find_in_path(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.exists()).unwrap_or_default()
}
