//! A Redis server, and what it says it has spent.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

/// For so long no script is called when everything is done.
const QUIET: Duration = Duration::from_millis(300);

/// A server in a temporary directory, which ends when it is dropped.
pub(crate) struct Server {
    process: Child,
    directory: PathBuf,
    port: u16,
    appendfsync: &'static str,
}

/// What the server has spent since it was last asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// Of the process, in user and kernel mode.
    pub(crate) cpu_micros: f64,
    /// Scripts that were called.
    pub(crate) scripts: f64,
}

impl Server {
    /// Starts a server on a free port, with an append-only file that is synced so, or without one if that is `no`.
    pub(crate) fn start(appendfsync: &'static str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = std::env::temp_dir().join(format!("ws-scaleout-{}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let process = spawn(port, &directory, appendfsync)?;
        let mut server = Self { process, directory, port, appendfsync };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Ends the server at once, and starts it again after some time, with what its append-only file has. Returns when it is
    /// ready.
    pub(crate) async fn outage(&mut self, time: Duration) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        sleep(time).await;
        self.process = spawn(self.port, &self.directory, self.appendfsync)?;
        tokio::task::block_in_place(|| self.wait_until_ready())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut log = BufReader::new(self.process.stdout.take().context("it is piped")?).lines();
        let is_ready = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line.contains("Ready to accept connections"))
        };
        if !log.any(|line| is_ready(&line)) {
            bail!("redis-server does not start");
        }
        // a pipe that nobody reads would stop it when it is full
        std::thread::spawn(move || log.for_each(drop));
        Ok(())
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection> {
        // the disk may take long
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = redis::Client::open(self.url())?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    pub(crate) async fn version(&self) -> Result<String> {
        let info = info(&mut self.connect().await?, "server").await?;
        Ok(field(&info, "redis_version:").context("a version")?.to_owned())
    }

    /// Runs something, waits until what it has begun is done, and says what that has cost.
    pub(crate) async fn spent<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(T, Spent)> {
        let mut connection = self.connect().await?;
        redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await?;
        let before = cpu_micros(&mut connection).await?;
        let result = work.await?;
        let mut called = -1.0;
        let mut spent = spent_since(&mut connection, before).await?;
        while spent.scripts > called {
            called = spent.scripts;
            sleep(QUIET).await;
            spent = spent_since(&mut connection, before).await?;
        }
        Ok((result, spent))
    }

    /// The bytes that the server has allocated.
    pub(crate) async fn memory(&self) -> Result<f64> {
        let info = info(&mut self.connect().await?, "memory").await?;
        Ok(field(&info, "used_memory:").context("a size")?.parse()?)
    }
}

fn spawn(port: u16, directory: &Path, appendfsync: &str) -> Result<Child> {
    let (appendonly, appendfsync) = if appendfsync == "no" { ("no", "no") } else { ("yes", appendfsync) };
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", appendonly, "--appendfsync", appendfsync]);
    command.arg("--dir").arg(directory).stdin(Stdio::null()).stdout(Stdio::piped());
    match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no redis-server: install it, on Debian with `apt install redis-server`")
        }
        other => Ok(other?),
    }
}

/// What was spent since the server had taken `before` of the processor.
async fn spent_since(connection: &mut MultiplexedConnection, before: f64) -> Result<Spent> {
    let cpu_micros = cpu_micros(connection).await? - before;
    let stats = info(connection, "commandstats").await?;
    // its times are those of a clock on the wall, which goes on when others have the processor
    let line = field(&stats, "cmdstat_evalsha:").unwrap_or_default();
    let scripts = line.split(',').find_map(|it| it.strip_prefix("calls=")?.parse().ok());
    Ok(Spent { cpu_micros, scripts: scripts.unwrap_or(0.0) })
}

async fn cpu_micros(connection: &mut MultiplexedConnection) -> Result<f64> {
    let info = info(connection, "cpu").await?;
    let seconds = |name| Ok::<f64, anyhow::Error>(field(&info, name).context("a time")?.parse()?);
    Ok((seconds("used_cpu_user:")? + seconds("used_cpu_sys:")?) * 1e6)
}

async fn info(connection: &mut MultiplexedConnection, section: &str) -> Result<String> {
    Ok(redis::cmd("INFO").arg(section).query_async(connection).await?)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name))
}

impl Drop for Server {
    fn drop(&mut self) {
        // both fail only if it has ended by itself
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
