//! Connections for calls: one for all of them, and one more for appends that replicas have to have, since it stands still
//! while it waits for them.

use std::future::pending;

use tokio::sync::{mpsc, oneshot};

use crate::config::{EVER, REPLICATING};
use crate::error::{Failure, FailureKind};
use crate::link::{Link, Value};
use crate::script::Call;

/// Batches that are written, and waited for, together.
const TOGETHER: usize = 256;

/// What a call answers, of each.
type Answers = Vec<Result<Value, Failure>>;

#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) link: Link,
    /// If replicas have to have what is appended.
    pub(crate) appender: Option<Appender>,
}

impl Lines {
    pub(crate) fn is_over(&self) -> bool {
        self.link.is_over() || self.appender.as_ref().is_some_and(|it| it.link.is_over())
    }

    /// Ready when one of them is over.
    pub(crate) async fn over(&self) {
        let appender = async {
            match &self.appender {
                Some(appender) => appender.link.over().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.link.over() => {}
            () = appender => {}
        }
    }
}

/// Writes batches of appends one after the other, each with all that has come while the last one was waited for.
#[derive(Clone, Debug)]
pub(crate) struct Appender {
    link: Link,
    batches: mpsc::UnboundedSender<Batch>,
}

#[derive(Debug)]
struct Batch {
    calls: Vec<Call>,
    answers: oneshot::Sender<Answers>,
}

impl Appender {
    pub(crate) fn start(link: Link, replicas: u32) -> Self {
        let (batches, receiver) = mpsc::unbounded_channel();
        let writer = Writer { link: link.clone(), replicas };
        tokio::spawn(writer.run(receiver));
        Self { link, batches }
    }

    /// Like [`Link::call`], and what is answered is what replicas have, too.
    pub(crate) async fn call(&self, calls: &[Call]) -> Answers {
        let (answers, answered) = oneshot::channel();
        let _ = self.batches.send(Batch { calls: calls.to_vec(), answers });
        let lost = |_| vec![Err(Failure::lost("the connection is over")); calls.len()];
        answered.await.unwrap_or_else(lost)
    }
}

struct Writer {
    link: Link,
    replicas: u32,
}

impl Writer {
    /// Until the last [`Appender`] is dropped.
    async fn run(self, mut batches: mpsc::UnboundedReceiver<Batch>) {
        let mut together = Vec::new();
        while batches.recv_many(&mut together, TOGETHER).await > 0 {
            let (mut calls, mut waiting) = (Vec::new(), Vec::new());
            // who has given up may have sent something else since, which would come before it
            together.retain(|batch: &Batch| !batch.answers.is_closed());
            for Batch { calls: some, answers } in together.drain(..) {
                waiting.push((some.len(), answers));
                calls.extend(some);
            }
            let mut rest = self.write(&calls).await;
            for (count, answers) in waiting {
                let others = rest.split_off(count);
                // nobody may wait for it any more
                let _ = answers.send(std::mem::replace(&mut rest, others));
            }
        }
    }

    async fn write(&self, calls: &[Call]) -> Answers {
        let (mut answers, mut replicated) =
            tokio::join!(biased; self.link.try_call(calls), self.wait_for_replicas(calls));
        if self.link.call_forgotten(calls, &mut answers).await {
            replicated = self.wait_for_replicas(calls).await;
        }
        if let Err(failure) = replicated {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(failure.clone());
            }
        }
        answers
    }

    /// Ready when enough replicas have what was written on the connection, which is these calls and more.
    async fn wait_for_replicas(&self, calls: &[Call]) -> Result<(), Failure> {
        let wait = Call::plain("WAIT", self.replicas.to_string().into_bytes());
        let wait = wait.number(u64::try_from(REPLICATING.as_millis()).unwrap_or(u64::MAX));
        let mut answers = self.link.call(&[self.mark(calls), wait]).await;
        let waited = answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")));
        let marked = answers.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")));
        // what was appended is in the log
        let doubtful = |it: Failure| match it.kind {
            FailureKind::Lost => it,
            // the other server does not have it twice
            FailureKind::Moved | FailureKind::Ask => Failure::lost(it),
            _ => it.doubtful(),
        };
        marked.map_err(doubtful)?;
        match waited.map_err(doubtful)? {
            Value::Int(count) if count >= i64::from(self.replicas) => Ok(()),
            Value::Int(count) => {
                let replicas = self.replicas;
                Err(Failure::unknown(format!("{count} of {replicas} replicas have it in time")))
            }
            other => Err(Failure::unknown(format!("replicas were waited for, and the answer is {other:?}"))),
        }
    }

    /// A message that is there already was perhaps written on another connection: something has to be written on this one
    /// that comes after it, that replicas get, and that changes nothing.
    fn mark(&self, calls: &[Call]) -> Call {
        let first = |parts: fn(&Call) -> &Vec<Vec<u8>>| {
            calls.first().and_then(|call| parts(call).first()).cloned().unwrap_or_default()
        };
        if self.link.is_sharded() {
            // replicas in a cluster are not told of what is published; the leases of nodes are not for ever
            return Call::plain("PEXPIRE", first(|call| &call.keys)).number(EVER);
        }
        // the channel of a node without a name, which nobody subscribes to
        Call::plain("PUBLISH", first(|call| &call.args)).bytes("")
    }
}
