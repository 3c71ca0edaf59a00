//! [`Confirmations`]: what connections have confirmed, collected for a moment, so that many go with one script.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use ws_hub::{Acked, LogError};

use crate::shared::Shared;
use crate::users::{Confirmed, acknowledge};

/// How long confirmations are collected, when others were on their way just before. One that comes alone goes at once.
const COLLECTED: Duration = Duration::from_millis(5);

/// How many of them do not wait for others.
const ENOUGH: usize = 256;

type Answer = Result<Acked, LogError>;

pub(crate) struct Confirmations {
    sender: mpsc::UnboundedSender<(Confirmed, oneshot::Sender<Answer>)>,
    task: JoinHandle<()>,
}

impl Confirmations {
    pub(crate) fn start(shared: Arc<Shared>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender, task: tokio::spawn(collect(shared, receiver)) }
    }

    /// What becomes of confirmations, in their order.
    pub(crate) async fn send(&self, batch: impl IntoIterator<Item = Confirmed>) -> Vec<Answer> {
        let waiting = batch.into_iter().map(|confirmed| {
            let (answer, answered) = oneshot::channel();
            let _ = self.sender.send((confirmed, answer));
            answered
        });
        let mut answers = Vec::new();
        for answered in waiting.collect::<Vec<_>>() {
            let over = |_| Err(LogError::refused("this node has left"));
            answers.push(answered.await.unwrap_or_else(over));
        }
        answers
    }
}

impl Drop for Confirmations {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn collect(
    shared: Arc<Shared>,
    mut receiver: mpsc::UnboundedReceiver<(Confirmed, oneshot::Sender<Answer>)>,
) {
    let mut sending = JoinSet::new();
    let mut last = Instant::now();
    loop {
        let mut batch = Vec::new();
        if receiver.recv_many(&mut batch, ENOUGH).await == 0 {
            break;
        }
        while batch.len() < ENOUGH {
            let room = ENOUGH - batch.len();
            match timeout_at(last + COLLECTED, receiver.recv_many(&mut batch, room)).await {
                Ok(count) if count > 0 => {}
                _ => break,
            }
        }
        last = Instant::now();
        while sending.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        // a server that is away holds up those for the others as little as the next ones
        sending.spawn(async move {
            let (batch, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            for (answer, acked) in answers.into_iter().zip(acknowledge(&shared, &batch).await) {
                // nobody may wait for it any more
                let _ = answer.send(acked);
            }
        });
    }
}
