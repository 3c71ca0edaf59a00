//! Connections to a server: calls, and what is pushed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, PushInfo, PushKind, ServerError, ServerErrorKind};
use tokio::sync::Notify;

use crate::error::Failure;
use crate::script::{Call, Script, What};

/// Whether a connection is over.
#[derive(Debug, Default)]
pub(crate) struct End {
    has_come: AtomicBool,
    notify: Notify,
}

impl End {
    fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Takes what is pushed on a connection. `heard` gets the messages, and must not wait.
    pub(crate) fn on_push(
        self: Arc<Self>,
        heard: impl Fn(Vec<u8>, Vec<u8>),
    ) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> {
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
                PushKind::Disconnection => self.come(),
                _ => {}
            }
            Ok(())
        }
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
    /// The address of the server, if another one may become the master.
    master: Arc<str>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Link {
    /// Of a connection whose pushes the [`End`] takes.
    pub(crate) fn new(connection: MultiplexedConnection, end: Arc<End>) -> Self {
        Self { connection, end, scripts: Arc::default(), master: "".into() }
    }

    /// The same, to a server that is the master now.
    #[cfg(feature = "sentinel")]
    pub(crate) fn with_master(self, address: &str) -> Self {
        Self { master: address.into(), ..self }
    }

    /// The address of the server, if another one may become the master; or nothing.
    pub(crate) fn master(&self) -> &str {
        &self.master
    }

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
        let mut answers = self.try_call(calls).await;
        self.call_forgotten(calls, &mut answers).await;
        answers
    }

    /// The same, without those again whose scripts the server has forgotten.
    pub(crate) async fn try_call(&self, calls: &[Call]) -> Vec<Result<Value, Failure>> {
        let mut commands = redis::Pipeline::with_capacity(calls.len());
        for call in calls {
            commands.add_command(self.command(call, true));
        }
        match self.send(&commands, calls.len()).await {
            Ok(answers) => answers,
            Err(failure) => vec![Err(failure); calls.len()],
        }
    }

    /// Makes those calls again, in order, whose scripts the server has forgotten: with their code. Returns whether there
    /// were any.
    pub(crate) async fn call_forgotten(
        &self,
        calls: &[Call],
        answers: &mut [Result<Value, Failure>],
    ) -> bool {
        let is_forgotten = |answer: &Result<Value, Failure>| {
            answer.as_ref().is_err_and(|failure| failure.to_string().starts_with("NOSCRIPT"))
        };
        let mut were_forgotten = false;
        for (call, answer) in calls.iter().zip(answers) {
            if is_forgotten(answer) {
                were_forgotten = true;
                let mut commands = redis::Pipeline::with_capacity(1);
                commands.add_command(self.command(call, false));
                *answer = match self.send(&commands, 1).await {
                    Ok(mut answers) => answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer"))),
                    Err(failure) => Err(failure),
                };
            }
        }
        were_forgotten
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
        Some(ServerErrorKind::ReadOnly) => return Failure::demoted(text),
        Some(
            ServerErrorKind::NoScript
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
    } else if is("READONLY") {
        Failure::demoted(text)
    } else if ["OOM", "NOREPLICAS", "MISCONF", "NOAUTH"].into_iter().any(is) {
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
