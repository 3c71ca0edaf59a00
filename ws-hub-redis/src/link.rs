//! Connections to the server. All that is known of the client library is here.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion,
    PushInfo, PushKind, RedisError, ServerError, ServerErrorKind,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::CONNECTING;
use crate::error::{ConnectError, Failure};
use crate::script::{Call, Script, What};

/// Calls that the client library queues.
const QUEUE: usize = 4_096;

/// How long it may take until a server has answered a new connection.
const GREETING: Duration = Duration::from_secs(3);

/// Where the server is. Each connection asks for the address anew.
pub(crate) struct Address {
    client: Client,
    shown: String,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, ConnectError> {
        // without user and password
        let bare = url.rsplit_once('@').map_or(url, |(_, bare)| bare);
        let invalid = |source: RedisError| ConnectError::InvalidAddress {
            address: bare.to_owned(),
            source: source.into(),
        };
        let info: ConnectionInfo = url.into_connection_info().map_err(invalid)?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let shown = info.addr().to_string();
        let client = Client::open(info.set_redis_settings(settings)).map_err(invalid)?;
        Ok(Self { client, shown })
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Opens a connection. `heard` gets what is pushed, and must not wait.
    pub(crate) async fn connect(
        &self,
        heard: impl Fn(Vec<u8>, Vec<u8>) + Send + Sync + 'static,
    ) -> Result<Link, ConnectError> {
        let end = Arc::new(End::default());
        let on_push = {
            let end = Arc::clone(&end);
            move |PushInfo { kind, data }| {
                match kind {
                    PushKind::Message => {
                        let mut data = data.into_iter();
                        if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                            (data.next(), data.next())
                        {
                            heard(channel, payload);
                        }
                    }
                    PushKind::Disconnection => end.come(),
                    _ => {}
                }
                Ok::<(), redis::aio::SendError>(())
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(GREETING))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(on_push);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        match timeout(CONNECTING, connecting).await {
            Ok(Ok(connection)) => Ok(Link { connection, end, scripts: Arc::default() }),
            Ok(Err(error)) => Err(self.error(error)),
            Err(elapsed) => {
                Err(ConnectError::Unreachable { address: self.shown.clone(), source: elapsed.into() })
            }
        }
    }

    fn error(&self, error: RedisError) -> ConnectError {
        let address = self.shown.clone();
        let is_denied = matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
        match error.kind() {
            ErrorKind::AuthenticationFailed => ConnectError::Denied { address, source: error.into() },
            _ if is_denied => ConnectError::Denied { address, source: error.into() },
            ErrorKind::RESP3NotSupported => ConnectError::TooOld { address },
            _ if is_old(&error) => ConnectError::TooOld { address },
            ErrorKind::Io => ConnectError::Unreachable { address, source: error.into() },
            _ => ConnectError::Failed { address, source: error.into() },
        }
    }

    /// The server does not let a connection become usable.
    pub(crate) fn unusable(&self, failure: Failure) -> ConnectError {
        let address = self.shown.clone();
        if failure.to_string().starts_with("NOPERM") {
            return ConnectError::Denied { address, source: failure.into() };
        }
        ConnectError::Failed { address, source: failure.into() }
    }
}

/// Whether the server does not know how to speak RESP3.
fn is_old(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default().to_ascii_lowercase();
    error.code() == Some("NOPROTO") || detail.contains("unknown command") && detail.contains("hello")
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Whether a connection is over.
#[derive(Debug, Default)]
struct End {
    has_come: AtomicBool,
    notify: Notify,
}

impl End {
    fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }
}

/// What the server calls a connection: a number and an address. Another server, or the same after a restart, gives the numbers
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    id: String,
    address: String,
}

impl Peer {
    /// Reads what `CLIENT INFO` answers.
    fn parse(info: &str) -> Option<Self> {
        let field = |name: &str| info.split(' ').find_map(|it| it.strip_prefix(name)).map(str::to_owned);
        Some(Self { id: field("id=")?, address: field("addr=")? })
    }
}

/// A connection. Calls of all clones go through it, in the order in which they were begun.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    end: Arc<End>,
    /// The names of the scripts on the server, by number.
    scripts: Arc<Vec<String>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn is_over(&self) -> bool {
        self.end.has_come.load(Ordering::Acquire)
    }

    /// Ready when the connection is over.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let end = Arc::clone(&self.end);
        async move {
            let mut notified = std::pin::pin!(end.notify.notified());
            notified.as_mut().enable();
            if !end.has_come.load(Ordering::Acquire) {
                notified.await;
            }
        }
    }

    /// What the server calls this connection, if it says so.
    pub(crate) async fn peer(&self) -> Result<Option<Peer>, Failure> {
        let mut answers = self.call(&[Call::plain("CLIENT", b"INFO".to_vec())]).await;
        Ok(match answers.pop().transpose()? {
            Some(Value::VerbatimString { text, .. }) => Peer::parse(&text),
            _ => None,
        })
    }

    /// Has the server end another connection: what was sent on it and has not arrived yet is never done.
    pub(crate) async fn end(&self, other: &Peer) -> Result<(), Failure> {
        let end = Call::plain("CLIENT", b"KILL".to_vec()).bytes("ID").bytes(&*other.id);
        let mut answers = self.call(&[end.bytes("ADDR").bytes(&*other.address)]).await;
        answers.pop().map_or(Ok(()), |answer| answer.map(drop))
    }

    /// Loads the scripts.
    pub(crate) async fn load(&mut self) -> Result<(), Failure> {
        let mut commands = redis::Pipeline::with_capacity(Script::ALL.len());
        for script in Script::ALL {
            commands.cmd("SCRIPT").arg("LOAD").arg(script.code());
        }
        let answers = self.send(&commands, Script::ALL.len()).await?;
        let names = answers.into_iter().map(|answer| match answer? {
            Value::BulkString(name) => String::from_utf8(name).map_err(Failure::refused),
            Value::SimpleString(name) => Ok(name),
            other => Err(Failure::refused(format!("a script was loaded, and the answer is {other:?}"))),
        });
        self.scripts = Arc::new(names.collect::<Result<_, _>>()?);
        Ok(())
    }

    /// Sends calls together. The answers are in their order.
    pub(crate) async fn call(&self, calls: &[Call]) -> Vec<Result<Value, Failure>> {
        let mut commands = redis::Pipeline::with_capacity(calls.len());
        for call in calls {
            commands.add_command(self.command(call, true));
        }
        let mut answers = match self.send(&commands, calls.len()).await {
            Ok(answers) => answers,
            Err(failure) => return vec![Err(failure); calls.len()],
        };
        // the server has forgotten its scripts: what was sent is done in order, with their code
        let is_forgotten = |answer: &Result<Value, Failure>| {
            answer.as_ref().is_err_and(|failure| failure.to_string().starts_with("NOSCRIPT"))
        };
        for (call, answer) in calls.iter().zip(&mut answers) {
            if is_forgotten(answer) {
                let mut commands = redis::Pipeline::with_capacity(1);
                commands.add_command(self.command(call, false));
                *answer = match self.send(&commands, 1).await {
                    Ok(mut answers) => answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer"))),
                    Err(failure) => Err(failure),
                };
            }
        }
        answers
    }

    fn command(&self, call: &Call, by_name: bool) -> Cmd {
        let mut command = match call.what {
            What::Plain(name) => redis::cmd(name),
            What::Script(script) => {
                let name = self.scripts.get(script as usize).filter(|_| by_name);
                let mut command = redis::cmd(if name.is_some() { "EVALSHA" } else { "EVAL" });
                command.arg(name.map_or(script.code(), String::as_str)).arg(call.keys.len());
                command
            }
        };
        call.keys.iter().chain(&call.args).for_each(|it| {
            command.arg(it.as_slice());
        });
        command
    }

    async fn send(
        &self,
        commands: &redis::Pipeline,
        count: usize,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let mut connection = self.connection.clone();
        match connection.send_packed_commands(commands, 0, count).await {
            Ok(answers) => Ok(answers.into_iter().map(checked).collect()),
            Err(error) => Err(Failure::lost(error)),
        }
    }

    /// Subscribes to channels; ready when all of them are in force.
    pub(crate) async fn subscribe(&self, channels: &[Vec<u8>]) -> Result<(), Failure> {
        self.connection.clone().subscribe(channels).await.map_err(Failure::refused)
    }

    pub(crate) async fn unsubscribe(&self, channels: &[Vec<u8>]) -> Result<(), Failure> {
        self.connection.clone().unsubscribe(channels).await.map_err(Failure::refused)
    }
}

/// What the server answers that is an error.
fn checked(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(failure(&error)),
        answer => Ok(answer),
    }
}

/// Errors with these codes say that nothing was done: the server gives them before a command is run, and to a script before
/// its first write.
fn failure(error: &ServerError) -> Failure {
    let text = match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    };
    match error.kind() {
        Some(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown,
        ) => return Failure::busy(text),
        Some(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::NoScript
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::CrossSlot,
        ) => return Failure::refused(text),
        _ => {}
    }
    // older servers name the code of what a script has called in the text
    let is = |code: &str| error.code() == code || text.contains(&format!("-{code} "));
    if is("BUSY") {
        Failure::busy(text)
    } else if ["OOM", "NOREPLICAS", "MISCONF", "READONLY", "NOAUTH"].into_iter().any(is) {
        Failure::refused(text)
    } else {
        Failure::unknown(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_calls_a_connection_is_read() {
        let info = "id=17 addr=127.0.0.1:36162 laddr=127.0.0.1:6379 fd=8 name= resp=3";
        let peer = Peer { id: "17".to_owned(), address: "127.0.0.1:36162".to_owned() };
        assert_eq!(Peer::parse(info), Some(peer));
        assert_eq!(Peer::parse("id=17 laddr=127.0.0.1:6379"), None);
    }
}
