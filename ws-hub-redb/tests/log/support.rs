//! Files that are gone when their test is over.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ws_core::Message;
use ws_hub::{After, Append, Appended, Log, MessageId, Page, Position, Read};
use ws_hub_redb::{RedbLog, RedbLogBuilder};

/// A new directory, removed when it is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ws-hub-redb-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Where a log may be.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("messages.redb")
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A log and its directory: it is closed first.
pub(crate) struct Temporary {
    log: RedbLog<u64>,
    _directory: Directory,
}

impl Temporary {
    pub(crate) fn new(builder: RedbLogBuilder<u64>) -> Self {
        let directory = Directory::new();
        Self { log: builder.open(directory.log()).unwrap(), _directory: directory }
    }
}

impl Deref for Temporary {
    type Target = RedbLog<u64>;

    fn deref(&self) -> &RedbLog<u64> {
        &self.log
    }
}

pub(crate) fn open(path: &Path) -> RedbLog<u64> {
    RedbLog::open(path).unwrap()
}

pub(crate) async fn append(log: &RedbLog<u64>, user: u64, message: &Message) -> (Position, usize) {
    match log.append(&[Append::new(&user, MessageId::random(), message)]).await.remove(0).unwrap() {
        Appended::Logged { position, evicted, .. } => (position, evicted),
        Appended::TooLarge => panic!("too large"),
    }
}

pub(crate) async fn append_text(log: &RedbLog<u64>, user: u64, text: &str) -> Position {
    append(log, user, &Message::text(text)).await.0
}

/// As many messages in one batch.
pub(crate) async fn append_many(log: &RedbLog<u64>, user: u64, count: usize, message: &Message) {
    let batch: Vec<_> = (0..count).map(|_| Append::new(&user, MessageId::random(), message)).collect();
    for answer in log.append(&batch).await {
        answer.unwrap();
    }
}

pub(crate) async fn read(log: &RedbLog<u64>, user: u64, after: After) -> Read {
    log.read(&user, after, Page { messages: usize::MAX, bytes: usize::MAX }).await.unwrap()
}

pub(crate) async fn acknowledge(log: &RedbLog<u64>, user: u64, upto: u64) {
    log.acknowledge(&[ws_hub::Acknowledge { user: &user, upto }]).await.remove(0).unwrap();
}
