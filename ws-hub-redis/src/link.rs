//! Connections to a server: calls, and what is pushed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, PushInfo, PushKind, ServerError, ServerErrorKind};
use tokio::sync::Notify;

use crate::error::{Failure, FailureKind};
use crate::script::{Call, Script, What};

/// What takes what is pushed: a channel, and a message, or none when the server has ended the subscription.
pub(crate) trait Heard: Fn(Vec<u8>, Option<Vec<u8>>) + Send + Sync + 'static {}

impl<F: Fn(Vec<u8>, Option<Vec<u8>>) + Send + Sync + 'static> Heard for F {}

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

    /// Takes what is pushed on a connection. `heard` gets the channels and the messages, and must not wait.
    pub(crate) fn on_push(
        self: Arc<Self>,
        heard: impl Heard,
    ) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> {
        move |PushInfo { kind, data }| {
            match kind {
                PushKind::Message | PushKind::SMessage | PushKind::SUnsubscribe => {
                    let mut data = data.into_iter();
                    match (data.next(), data.next()) {
                        (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) => {
                            heard(channel, Some(payload));
                        }
                        // how many channels there still are
                        (Some(Value::BulkString(channel)), Some(Value::Int(_))) => heard(channel, None),
                        _ => {}
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

/// What a server that may become the master, or be one no more, is known by as the master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reign {
    /// Empty if no other server may become the master.
    pub(crate) now: String,
    /// Of the master whose place it has taken. Empty if that is any other one.
    pub(crate) before: String,
}

/// A connection. Calls of all clones go through it, in the order in which they were begun.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    end: Arc<End>,
    /// The names of the scripts on the server, by number.
    scripts: Arc<Vec<String>>,
    reign: Arc<Reign>,
    /// Whether what is published goes to one server of a cluster.
    is_sharded: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Link {
    /// Of a connection whose pushes the [`End`] takes.
    pub(crate) fn new(connection: MultiplexedConnection, end: Arc<End>) -> Self {
        Self { connection, end, scripts: Arc::default(), reign: Arc::default(), is_sharded: false }
    }

    /// The same, to a server that is the master now.
    #[cfg(any(feature = "sentinel", feature = "cluster"))]
    pub(crate) fn with_reign(self, reign: Reign) -> Self {
        Self { reign: Arc::new(reign), ..self }
    }

    /// The same, to a server of a cluster.
    #[cfg(feature = "cluster")]
    pub(crate) fn sharded(self) -> Self {
        Self { is_sharded: true, ..self }
    }

    pub(crate) fn reign(&self) -> &Reign {
        &self.reign
    }

    pub(crate) fn is_sharded(&self) -> bool {
        self.is_sharded
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

    /// What the server says of itself under a name, as it greets.
    pub(crate) async fn says(&self, name: &str) -> Result<Option<String>, Failure> {
        let answer = self.call(&[Call::plain("HELLO", b"3".to_vec())]).await.pop();
        let Value::Map(pairs) = answer.unwrap_or_else(|| Err(Failure::unknown("no answer")))? else {
            return Err(Failure::unknown("an answer of the server is not understood"));
        };
        let is_it = |it: &Value| matches!(it, Value::BulkString(bytes) if bytes == name.as_bytes());
        let value = pairs.into_iter().find(|(key, _)| is_it(key)).map(|(_, value)| value);
        Ok(value.and_then(|value| match value {
            Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        }))
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
            commands.cmd("SCRIPT").arg("LOAD").arg(script.code(self.is_sharded));
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

    /// The same, of a server that is getting the partitions of these calls, and does not have them yet.
    pub(crate) async fn call_asking(&self, calls: &[Call]) -> Vec<Result<Value, Failure>> {
        let asking = || Call { what: What::Plain("ASKING"), keys: Vec::new(), args: Vec::new() };
        let calls: Vec<_> = calls.iter().flat_map(|call| [asking(), call.clone()]).collect();
        self.call(&calls).await.into_iter().skip(1).step_by(2).collect()
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
                command.arg(name.map_or(script.code(self.is_sharded), String::as_str)).arg(call.keys.len());
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

    /// Subscribes to channels; ready when all of them are in force, or are said not to be.
    pub(crate) async fn subscribe(&self, channels: &[Vec<u8>]) -> Result<Vec<Result<(), Failure>>, Failure> {
        if self.is_sharded {
            return self.change_shards("SSUBSCRIBE", channels).await;
        }
        let subscribed = self.connection.clone().subscribe(channels).await;
        subscribed.map_err(Failure::refused).map(|()| vec![Ok(()); channels.len()])
    }

    pub(crate) async fn unsubscribe(&self, channels: &[Vec<u8>]) -> Result<(), Failure> {
        if self.is_sharded {
            return self.change_shards("SUNSUBSCRIBE", channels).await.map(drop);
        }
        self.connection.clone().unsubscribe(channels).await.map_err(Failure::refused)
    }

    /// One command for each channel: each has one answer, whatever slots they are in.
    async fn change_shards(
        &self,
        command: &str,
        channels: &[Vec<u8>],
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let mut commands = redis::Pipeline::with_capacity(channels.len());
        for channel in channels {
            commands.cmd(command).arg(channel.as_slice());
        }
        let answers = self.send(&commands, channels.len()).await?;
        let answers = channels.iter().zip(answers).map(|(channel, answer)| match answer? {
            Value::Push { data, .. } if matches!(data.first(), Some(Value::BulkString(it)) if it == channel) => {
                Ok(())
            }
            // the server has ended another subscription just now, which the client library takes for an answer
            _ => Err(Failure::busy("subscriptions change")),
        });
        Ok(answers.collect())
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
        Some(ServerErrorKind::ReadOnly) => return Failure::new(FailureKind::Demoted, text),
        Some(ServerErrorKind::Moved) => return Failure::new(FailureKind::Moved, text),
        Some(ServerErrorKind::Ask) => return Failure::new(FailureKind::Ask, text),
        Some(ServerErrorKind::NoScript | ServerErrorKind::CrossSlot) => return Failure::refused(text),
        _ => {}
    }
    // older servers name the code of what a script has called in the text
    let is = |code: &str| error.code() == code || text.contains(&format!("-{code} "));
    if is("BUSY") {
        Failure::busy(text)
    } else if is("READONLY") {
        Failure::new(FailureKind::Demoted, text)
    } else if text.contains("access a non local key") {
        // in the middle of a script, of a key that it has emptied while its slot is moved
        Failure::lost(text)
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
