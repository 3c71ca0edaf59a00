//! A Redis server in a temporary directory.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::nodes::apart;

/// Runs the server until the input of the shell ends, which it does when this program ends, in whatever way. Then it removes
/// the directory.
const SHELL: &str = "directory=$1; shift
    redis-server --dir \"$directory\" \"$@\" < /dev/null &
    read -r nothing
    kill -9 $!
    wait
    rm -r \"$directory\"";

/// A running server.
pub(crate) struct Redis {
    shell: Child,
    /// It logs little; a pipe that nobody reads would stop it when it is full.
    _log: tokio::task::JoinHandle<()>,
    port: u16,
}

impl Redis {
    /// Starts a server on a free port, which syncs each write.
    pub(crate) async fn start() -> Result<Self, String> {
        if let Err(error) = Command::new("redis-server").arg("--version").output().await {
            let what = match error.kind() {
                ErrorKind::NotFound => {
                    "there is no redis-server: install it, on Debian with `apt install redis-server`"
                        .to_owned()
                }
                _ => format!("redis-server does not start: {error}"),
            };
            return Err(what);
        }
        loop {
            let port = free_port().map_err(|error| format!("no free port: {error}"))?;
            let directory = std::env::temp_dir().join(format!("ws-cluster-{}-{port}", std::process::id()));
            let failed = |error| format!("{}: {error}", directory.display());
            std::fs::create_dir(&directory).map_err(failed)?;
            // somebody else may have the port by now
            if let Some(redis) = launch(port, &directory).await? {
                return Ok(redis);
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it, and waits until its directory is removed.
    pub(crate) async fn end(mut self) {
        drop(self.shell.stdin.take());
        // an error says that it has ended before
        let _ = self.shell.wait().await;
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts a server, and waits until it is ready; `None` if the port is in use.
async fn launch(port: u16, directory: &Path) -> Result<Option<Redis>, String> {
    let directory = PathBuf::from(directory);
    let mut command = Command::new("sh");
    command.args(["-c", SHELL, "sh"]).arg(&directory);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let failed = |error| format!("no shell: {error}");
    let mut shell = apart(&mut command).spawn().map_err(failed)?;
    let mut log = BufReader::new(shell.stdout.take().expect("it is piped")).lines();
    let mut said = Vec::new();
    while let Some(line) = next(&mut log).await {
        if line.contains("Ready to accept connections") {
            let log = tokio::spawn(async move { while next(&mut log).await.is_some() {} });
            return Ok(Some(Redis { shell, _log: log, port }));
        }
        if line.contains("Failed listening on port") {
            Redis { shell, _log: tokio::spawn(async {}), port }.end().await;
            return Ok(None);
        }
        said.push(line);
    }
    Err(format!("redis-server has ended: {}", said.join("\n")))
}

async fn next(log: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    log.next_line().await.ok().flatten()
}
