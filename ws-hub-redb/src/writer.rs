//! The thread that writes: what has queued in one transaction, and then the answers.

use std::sync::Arc;

use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};
use ws_hub::{Appended, LogError};

use crate::config::{Bounds, Clock};
use crate::file::{FileError, LogFile};
use crate::tables::{Item, Tables};

/// How many appends and acknowledgements a transaction takes, unless one call alone has more.
const TOGETHER: usize = 1_024;

/// Calls that wait for the thread, at most: later ones wait for room.
pub(crate) const QUEUE: usize = 1_024;

/// Logs that may be over and are looked at in a transaction, at most: beside calls, and when the file is opened.
const LOOKS: usize = 64;
const LOOKS_AT_OPENING: usize = 16 * 1024;

/// What the thread is asked for.
pub(crate) enum Call {
    Append(Vec<Item>),
    Acknowledge(Vec<(Vec<u8>, u64)>),
    GiveBack(Vec<u8>, u64),
    /// Nothing, but the file is to be opened again if it has failed.
    Look,
}

impl Call {
    fn len(&self) -> usize {
        match self {
            Self::Append(items) => items.len(),
            Self::Acknowledge(items) => items.len(),
            Self::GiveBack(..) | Self::Look => 1,
        }
    }
}

/// A call, and where its answer goes: one result for each append.
pub(crate) struct Command {
    pub(crate) call: Call,
    pub(crate) answer: oneshot::Sender<Result<Vec<Appended>, Failure>>,
}

/// Why a transaction failed, for all who were in it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    is_unknown: bool,
    source: Arc<FileError>,
}

impl Failure {
    /// Nothing of it is in the file.
    pub(crate) fn refused(error: FileError) -> Self {
        Self { is_unknown: false, source: Arc::new(error) }
    }

    /// It may be in the file, or not.
    pub(crate) fn unknown(error: FileError) -> Self {
        Self { is_unknown: true, source: Arc::new(error) }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        // a panic may have come from a commit
        Self { is_unknown: matches!(error, FileError::Panicked), source: Arc::new(error) }
    }
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        if failure.is_unknown { Self::unknown(failure.source) } else { Self::refused(failure.source) }
    }
}

fn refused(error: impl Into<FileError>) -> Failure {
    Failure::refused(error.into())
}

pub(crate) struct Writer {
    pub(crate) file: Arc<LogFile>,
    pub(crate) bounds: Bounds,
    pub(crate) clock: Clock,
}

impl Writer {
    /// Until nobody can send commands any more, and all are done.
    pub(crate) fn run(&self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut together = first.call.len();
            let mut batch = vec![first];
            while together < TOGETHER
                && let Ok(next) = commands.try_recv()
            {
                together += next.call.len();
                batch.push(next);
            }
            self.answer(batch);
        }
    }

    /// Removes all that is too old.
    pub(crate) fn expire(&self) -> Result<(), LogError> {
        let expire =
            |database: &Database| self.transaction(database, |tables| tables.expire(LOOKS_AT_OPENING));
        while self.file.with(expire)? {}
        Ok(())
    }

    fn answer(&self, batch: Vec<Command>) {
        match self.write(&batch) {
            Ok(answers) => {
                for (command, answers) in batch.into_iter().zip(answers) {
                    // they may have stopped waiting
                    let _ = command.answer.send(Ok(answers));
                }
            }
            Err(failure) => {
                tracing::error!(
                    path = %self.file.path().display(),
                    error = &*failure.source as &dyn std::error::Error,
                    "writing failed"
                );
                for command in batch {
                    let _ = command.answer.send(Err(failure.clone()));
                }
            }
        }
    }

    fn reopen_if_failed(&self) {
        if !self.file.is_open()
            && let Err(error) = self.file.reopen()
        {
            tracing::error!(error = &error as &dyn std::error::Error, "opening again failed");
        }
    }

    fn write(&self, batch: &[Command]) -> Result<Vec<Vec<Appended>>, Failure> {
        self.reopen_if_failed();
        if batch.iter().all(|command| matches!(command.call, Call::Look)) {
            return Ok(vec![Vec::new(); batch.len()]);
        }
        self.file.with(|database| {
            self.transaction(database, |tables| {
                tables.expire(LOOKS)?;
                batch.iter().map(|command| apply(tables, &command.call)).collect()
            })
        })
    }

    fn transaction<T>(
        &self,
        database: &Database,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::StorageError>,
    ) -> Result<T, Failure> {
        let mut transaction = database.begin_write().map_err(refused)?;
        transaction.set_durability(Durability::Immediate);
        let mut tables = Tables::open(&transaction, self.bounds, self.clock.now()).map_err(refused)?;
        let done = work(&mut tables).map_err(refused)?;
        tables.finish().map_err(refused)?;
        transaction.commit().map_err(|error| Failure::unknown(error.into()))?;
        Ok(done)
    }
}

fn apply(tables: &mut Tables<'_>, call: &Call) -> Result<Vec<Appended>, redb::StorageError> {
    match call {
        Call::Append(items) => return items.iter().map(|item| tables.append(item)).collect(),
        Call::Acknowledge(items) => {
            for (user, upto) in items {
                tables.acknowledge(user, *upto)?;
            }
        }
        Call::GiveBack(user, number) => tables.give_back(user, *number)?,
        Call::Look => {}
    }
    Ok(Vec::new())
}
