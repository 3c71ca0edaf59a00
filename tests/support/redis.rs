//! A Redis server of a test's own.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Directory, Process, signal};

/// A `redis-server` that syncs each write to its own directory, and ends when it is dropped.
pub(crate) struct Redis {
    /// `None` while it is killed.
    process: Mutex<Option<Process>>,
    port: u16,
    settings: Vec<String>,
    directory: Directory,
}

impl Redis {
    /// Starts a server on a free port of 127.0.0.1.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, such as `["requirepass", "secret"]`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<_> = settings.iter().map(|it| (*it).to_owned()).collect();
        let directory = Directory::new();
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            // somebody else may have it by now
            if let Some(process) = launch(port, &directory, &settings) {
                return Self { process: Mutex::new(Some(process)), port, settings, directory };
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address for clients.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&self) {
        self.set(None);
    }

    /// Starts it again after a [`kill`](Self::kill), with what it had written, and with its first settings.
    pub(crate) fn start_again(&self) {
        let process = launch(self.port, &self.directory, &self.settings);
        self.set(Some(process.expect("its port is still free")));
    }

    fn set(&self, process: Option<Process>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    /// Sends it a signal, if it runs.
    pub(crate) fn signal(&self, name: &str) {
        if let Some(process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            signal(name, process.child.id().into());
        }
    }

    /// What it answers to a command: the strings and numbers of the answer, in order, or what went wrong.
    pub(crate) async fn ask(&self, command: &str) -> Result<Vec<String>, String> {
        let exchange = async {
            let mut stream = BufReader::new(TcpStream::connect(self.address()).await?);
            stream.write_all(format!("{command}\r\n").as_bytes()).await?;
            answer(&mut stream).await
        };
        exchange.await.map_err(|error| error.to_string())
    }

    /// The same, for a command that does not fail.
    pub(crate) async fn tell(&self, command: &str) -> Vec<String> {
        self.ask(command).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

/// Starts a server, and waits until it is ready; `None` if the port is in use.
fn launch(port: u16, directory: &Directory, settings: &[String]) -> Option<Process> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir", &directory.file("")]);
    command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    // for DEBUG SLEEP
    command.args(["--enable-debug-command", "yes"]);
    for setting in settings.chunks(2) {
        command.arg(format!("--{}", setting[0])).args(&setting[1..]);
    }
    if let Err(error) = Command::new("redis-server").arg("--version").output() {
        assert_ne!(error.kind(), ErrorKind::NotFound, "no redis-server: `apt-get install redis-server`");
    }
    let process = Process::start(&mut command);
    let is_ready = process.find(|line| {
        let is_ready = line.contains("Ready to accept connections");
        (is_ready || line.contains("Failed listening on port")).then_some(is_ready)
    });
    is_ready.then_some(process)
}

/// Reads an answer, in the protocol RESP2.
fn answer(stream: &mut BufReader<TcpStream>) -> BoxFuture<'_, io::Result<Vec<String>>> {
    Box::pin(async move {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::UnexpectedEof)?;
        match (kind, rest.parse::<usize>()) {
            ("+" | ":", _) => Ok(vec![rest.to_owned()]),
            ("$", Ok(length)) => {
                let mut text = vec![0; length + 2];
                stream.read_exact(&mut text).await?;
                Ok(vec![String::from_utf8_lossy(&text[..length]).into_owned()])
            }
            ("*", Ok(count)) => {
                let mut all = Vec::new();
                for _ in 0..count {
                    all.extend(answer(stream).await?);
                }
                Ok(all)
            }
            // nothing there
            ("$" | "*", Err(_)) => Ok(Vec::new()),
            _ => Err(io::Error::other(rest)),
        }
    })
}
