//! [`RedbLog`]: the log in a file.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use ws_hub::{Acknowledge, After, Append, Appended, Durability, Key, Log, LogError, Page, Read};

use crate::config::{Bounds, Clock};
use crate::error::OpenError;
use crate::file::{FileError, LogFile, Opener};
use crate::tables::Item;
use crate::view;
use crate::writer::{Call, Command, Failure, QUEUE, Writer};

/// Keeps messages in one file, within bounds: they survive the end of the process, even by `kill -9`, and a loss of power.
///
/// | bound | default |
/// |---|---|
/// | [`per_user`](crate::RedbLogBuilder::per_user) | 1,000 messages, 1 MiB |
/// | [`in_all`](crate::RedbLogBuilder::in_all) | 1 GiB |
/// | [`time_to_live`](crate::RedbLogBuilder::time_to_live) | 7 days |
/// | [`history`](crate::RedbLogBuilder::history) | 64 messages, 60 seconds |
///
/// When a user has too much, their oldest messages are removed. When all users together have too much, messages are removed
/// in the order in which they expire: first the logs of users who have got everything, which are kept for clients that
/// resume, then the oldest messages of the others. For the bound of all, a message counts as its length and 128 bytes, and a user as 512 bytes and
/// three times the length of their id. Times are those of the clock of the system.
///
/// A thread of its own writes: all calls that wait for it in one transaction, and with one `fsync`. So a call alone takes as
/// long as the disk does, and many at a time take hardly longer. Reads go to threads of tokio for work that blocks.
///
/// # Errors
///
/// When the disk fails, or is full, calls fail, and say whether they may have happened. The file is closed and opened again
/// before it is used further.
///
/// # When it is dropped
///
/// What has been asked for is written, the thread ends, and the file is closed. This blocks as long as the disk takes.
///
/// # Panics
///
/// Reads panic outside of a tokio runtime.
///
/// ```
/// use ws_core::Message;
/// use ws_hub::{After, Append, Log, MessageId, Page};
/// use ws_hub_redb::RedbLog;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("ws-hub-redb-doc-log-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("messages.redb");
/// let log = RedbLog::<String>::open(&path)?;
/// let (anna, message) = ("anna".to_owned(), Message::text("hello"));
/// log.append(&[Append::new(&anna, MessageId::random(), &message)]).await.remove(0)?;
/// drop(log);
///
/// let log = RedbLog::<String>::open(&path)?;
/// let read = log.read(&anna, After::Cursor, Page::default()).await?;
/// assert_eq!(read.entries[0].message, message);
/// # drop(log);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok(())
/// # }
/// ```
pub struct RedbLog<U> {
    file: Arc<LogFile>,
    bounds: Bounds,
    clock: Clock,
    /// `None` while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    user: PhantomData<fn() -> U>,
}

impl<U: Key> RedbLog<U> {
    pub(crate) fn start(
        path: &Path,
        opener: Opener,
        bounds: Bounds,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let file = Arc::new(LogFile::open(path, opener)?);
        let writer = Writer { file: Arc::clone(&file), bounds, clock: clock.clone() };
        writer.expire().map_err(|error| OpenError::Failed { path: path.to_owned(), source: error.into() })?;
        let (commands, queued) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("ws-hub-redb".into())
            .spawn(move || writer.run(queued))
            .expect("the operating system has a thread");
        Ok(Self { file, bounds, clock, commands: Some(commands), thread: Some(thread), user: PhantomData })
    }
}

fn encode(user: &impl Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    user.encode(&mut bytes);
    bytes
}

impl<U> RedbLog<U> {
    /// Asks the thread, which answers when it is done.
    async fn call(&self, call: Call) -> Result<Vec<Appended>, Failure> {
        let (answer, answered) = oneshot::channel();
        let commands = self.commands.as_ref().expect("it is there until it is dropped");
        if commands.send(Command { call, answer }).await.is_err() {
            return Err(Failure::refused(FileError::Ended));
        }
        answered.await.unwrap_or_else(|_| Err(Failure::unknown(FileError::Ended)))
    }
}

impl<U> RedbLog<U> {
    /// On a thread that may block: a page may have to come from the disk, and a transaction that is being committed holds
    /// reads up for milliseconds.
    async fn read_once(&self, user: Vec<u8>, after: After, page: Page) -> Result<Read, LogError> {
        let (file, bounds, now) = (Arc::clone(&self.file), self.bounds, self.clock.now());
        let read = move || file.with(|database| view::read(database, &user, after, page, (now, &bounds)));
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(LogError::refused),
            Err(error) => Err(LogError::refused(error)),
        }
    }
}

/// The same failure for each of a batch.
fn repeat<T>(failure: &Failure, count: usize) -> Vec<Result<T, LogError>> {
    (0..count).map(|_| Err(failure.clone().into())).collect()
}

impl<U: Key> Log<U> for RedbLog<U> {
    fn durability(&self) -> Durability {
        Durability::Disk
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, U>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Vec::new();
            }
            let item = |append: &Append<'_, U>| Item {
                user: encode(append.user),
                id: append.id,
                message: append.message.clone(),
                again: append.again,
                known: append.known,
            };
            match self.call(Call::Append(batch.iter().map(item).collect())).await {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(error) => repeat(&error, batch.len()),
            }
        })
    }

    fn read<'a>(&'a self, user: &'a U, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        Box::pin(async move {
            let user = encode(user);
            if let Ok(read) = self.read_once(user.clone(), after, page).await {
                return Ok(read);
            }
            // once more, when the thread has opened the file again
            self.call(Call::Look).await?;
            self.read_once(user, after, page).await
        })
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, U>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Vec::new();
            }
            let items = batch.iter().map(|it| (encode(it.user), it.upto)).collect();
            match self.call(Call::Acknowledge(items)).await {
                Ok(_) => batch.iter().map(|_| Ok(())).collect(),
                Err(error) => repeat(&error, batch.len()),
            }
        })
    }

    fn give_back<'a>(&'a self, user: &'a U, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move { Ok(self.call(Call::GiveBack(encode(user), number)).await.map(drop)?) })
    }
}

impl<U> Drop for RedbLog<U> {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.file.path().display(), "the thread of the log has panicked");
        }
        self.file.close();
    }
}

impl<U> fmt::Debug for RedbLog<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbLog")
            .field("path", &self.file.path())
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
