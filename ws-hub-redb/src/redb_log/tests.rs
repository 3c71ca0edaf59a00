//! Times that pass, and a disk that fails.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};
use ws_core::Message;
use ws_hub::{Acknowledge, After, Append, Appended, Continuity, Log, LogError, MessageId, Page};

use super::RedbLog;
use crate::RedbLogBuilder;
use crate::file::{FileError, Opener};
use crate::tables::{BYTES, MESSAGES, STATE};

const USER: u64 = 7;
const SECOND: u64 = 1_000;

/// A path that nobody has, removed when it is dropped.
struct Path(PathBuf);

impl Path {
    fn new() -> Self {
        let name = format!("ws-hub-redb-{:016x}.redb", rand::random::<u64>());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn append(log: &RedbLog<u64>, user: u64, text: &str) -> Result<u64, LogError> {
    let message = Message::text(text);
    match log.append(&[Append::new(&user, MessageId::random(), &message)]).await.remove(0)? {
        Appended::Logged { position, .. } => Ok(position.number),
        Appended::TooLarge => panic!("it is small"),
    }
}

async fn texts(log: &RedbLog<u64>, user: u64, after: After) -> (Vec<String>, Continuity) {
    let read = log.read(&user, after, Page::default()).await.unwrap();
    let texts = read.entries.iter().map(|entry| entry.message.as_text().unwrap().to_owned());
    (texts.collect(), read.continuity)
}

async fn acknowledge(log: &RedbLog<u64>, user: u64, upto: u64) {
    log.acknowledge(&[Acknowledge { user: &user, upto }]).await.remove(0).unwrap();
}

/// The messages in the file, and the bytes that they and their users count.
fn figures(log: &RedbLog<u64>) -> (u64, u64) {
    let figures = log.file.with(|database| {
        let state = database.begin_read().unwrap().open_table(STATE).unwrap();
        let figure = |name| state.get(name).unwrap().map_or(0, |it| it.value());
        Ok::<_, FileError>((figure(MESSAGES), figure(BYTES)))
    });
    figures.unwrap()
}

/// A builder with a clock that stands still, and the clock.
fn with_clock() -> (impl Fn() -> RedbLogBuilder<u64>, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    let builder = move || {
        let clock = Arc::clone(&clock);
        RedbLog::builder().clock(move || clock.load(Ordering::Relaxed))
    };
    (builder, now)
}

#[tokio::test]
async fn a_message_that_is_not_delivered_is_kept_for_its_time() {
    let (path, (builder, now)) = (Path::new(), with_clock());
    let log = builder().time_to_live(Duration::from_secs(10)).open(&path.0).unwrap();
    append(&log, USER, "first").await.unwrap();
    now.fetch_add(5 * SECOND, Ordering::Relaxed);
    append(&log, USER, "second").await.unwrap();
    now.fetch_add(5 * SECOND - 1, Ordering::Relaxed);
    assert_eq!(texts(&log, USER, After::Cursor).await.0, ["first", "second"]);
    now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(texts(&log, USER, After::Cursor).await.0, ["second"]);
    let (second, continuity) = texts(&log, USER, After::Number(0)).await;
    assert_eq!((second, continuity), (vec!["second".to_owned()], Continuity::Incomplete));

    assert_eq!(append(&log, USER, "third").await.unwrap(), 3, "the numbers go on");
    assert_eq!(figures(&log).0, 2, "it is removed from the file, too");
    now.fetch_add(10 * SECOND, Ordering::Relaxed);
    assert!(texts(&log, USER, After::Number(0)).await.0.is_empty());
}

#[tokio::test]
async fn what_is_too_old_is_removed_when_the_file_is_opened() {
    let (path, (builder, now)) = (Path::new(), with_clock());
    let builder = || builder().time_to_live(Duration::from_secs(10));
    let log = builder().open(&path.0).unwrap();
    for user in 0..200 {
        append(&log, user, "hello").await.unwrap();
    }
    drop(log);
    now.fetch_add(9 * SECOND, Ordering::Relaxed);
    let log = builder().open(&path.0).unwrap();
    assert_eq!(figures(&log).0, 200);
    drop(log);
    now.fetch_add(SECOND, Ordering::Relaxed);
    let log = builder().open(&path.0).unwrap();
    assert_eq!(figures(&log), (0, 0), "nothing counts any more");
}

#[tokio::test]
async fn what_is_delivered_is_kept_for_the_time_of_the_history() {
    let (path, (builder, now)) = (Path::new(), with_clock());
    let log = builder().history(64, Duration::from_secs(30)).open(&path.0).unwrap();
    append(&log, USER, "first").await.unwrap();
    append(&log, USER, "second").await.unwrap();
    acknowledge(&log, USER, 1).await;
    now.fetch_add(20 * SECOND, Ordering::Relaxed);
    acknowledge(&log, USER, 2).await;
    now.fetch_add(30 * SECOND - 1, Ordering::Relaxed);
    append(&log, 8, "for another").await.unwrap();
    assert_eq!(texts(&log, USER, After::Number(0)).await.0, ["first", "second"]);
    now.fetch_add(1, Ordering::Relaxed);
    append(&log, 8, "for another").await.unwrap();
    assert_eq!(figures(&log).0, 2, "only those for another are left");
    assert_eq!(append(&log, USER, "new").await.unwrap(), 1, "the user is forgotten");
}

#[tokio::test]
async fn as_many_delivered_messages_are_kept_as_the_history_says() {
    for (asked, kept) in [(0, 64), (70, 70)] {
        let path = Path::new();
        let log = RedbLog::<u64>::builder().history(asked, Duration::from_secs(60)).open(&path.0).unwrap();
        let message = Message::text("x");
        let batch: Vec<_> = (0..100).map(|_| Append::new(&USER, MessageId::random(), &message)).collect();
        log.append(&batch).await;
        acknowledge(&log, USER, 90).await;
        assert_eq!(figures(&log).0, kept + 10);
    }
}

#[tokio::test]
async fn the_oldest_goes_though_it_is_kept_for_ever() {
    let (path, (builder, now)) = (Path::new(), with_clock());
    let charge = 512 + 3 * 8 + 128 + 1;
    let log = builder().time_to_live(None).in_all(3 * charge).open(&path.0).unwrap();
    for user in [3, 1, 2, 4] {
        append(&log, user, "x").await.unwrap();
        now.fetch_add(1, Ordering::Relaxed);
    }
    for (user, expected) in [(1, 1), (2, 1), (3, 0), (4, 1)] {
        assert_eq!(texts(&log, user, After::Cursor).await.0.len(), expected, "user {user}");
    }
    assert_eq!(figures(&log), (3, 3 * charge));
}

/// What of a disk fails.
#[derive(Debug, Default)]
struct Faults {
    reads: AtomicBool,
    growth: AtomicBool,
    syncs: AtomicBool,
    panics: AtomicBool,
    /// Not a fault: whether something was written after the last sync.
    is_unsynced: AtomicBool,
}

impl Faults {
    fn check(fault: &AtomicBool) -> io::Result<()> {
        if fault.load(Ordering::Relaxed) { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Disk {
    file: FileBackend,
    faults: Arc<Faults>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        Faults::check(&self.faults.reads)?;
        self.file.read(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Faults::check(&self.faults.growth)?;
        self.file.set_len(len)
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        Faults::check(&self.faults.syncs)?;
        self.file.sync_data(eventual)?;
        if !eventual {
            self.faults.is_unsynced.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        assert!(!self.faults.panics.load(Ordering::Relaxed), "as redb does for some damage");
        self.faults.is_unsynced.store(true, Ordering::Relaxed);
        self.file.write(offset, data)
    }
}

/// A log on a disk that can be broken.
fn on_a_disk(path: &Path) -> (RedbLog<u64>, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let of_disk = Arc::clone(&faults);
    let opener: Opener = Box::new(move |path| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let disk = Disk { file: FileBackend::new(file)?, faults: Arc::clone(&of_disk) };
        // without a cache each read comes from the disk
        Builder::new().set_cache_size(0).create_with_backend(disk)
    });
    let log = RedbLog::builder().per_user(1_000, 1 << 30).open_by(&path.0, opener).unwrap();
    (log, faults)
}

#[tokio::test]
async fn what_is_answered_is_synced() {
    let path = Path::new();
    let (log, faults) = on_a_disk(&path);
    for number in 1..=3 {
        append(&log, USER, "hello").await.unwrap();
        assert!(!faults.is_unsynced.load(Ordering::Relaxed), "message {number}");
        acknowledge(&log, USER, number).await;
        assert!(!faults.is_unsynced.load(Ordering::Relaxed), "acknowledgement {number}");
    }
}

#[tokio::test]
async fn a_message_whose_sync_fails_is_unknown_and_the_file_is_opened_again() {
    let path = Path::new();
    let (log, faults) = on_a_disk(&path);
    append(&log, USER, "first").await.unwrap();
    faults.syncs.store(true, Ordering::Relaxed);
    let error = append(&log, USER, "second").await.unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert!(error.to_string().contains("the disk is broken"), "{error}");
    let error = append(&log, USER, "third").await.unwrap_err();
    assert!(error.to_string().contains("broken") || error.to_string().contains("not open"), "{error}");

    faults.syncs.store(false, Ordering::Relaxed);
    append(&log, USER, "last").await.unwrap();
    let (texts, _) = texts(&log, USER, After::Number(0)).await;
    assert_eq!((texts.first().unwrap().as_str(), texts.last().unwrap().as_str()), ("first", "last"));
}

#[tokio::test]
async fn a_message_for_which_the_disk_has_no_room_is_refused_and_is_not_there() {
    let path = Path::new();
    let (log, faults) = on_a_disk(&path);
    append(&log, USER, "first").await.unwrap();
    faults.growth.store(true, Ordering::Relaxed);
    let large = "x".repeat(16 * 1024 * 1024);
    let error = append(&log, USER, &large).await.unwrap_err();
    assert!(!error.is_unknown(), "{error}");
    assert_eq!(append(&log, USER, "second").await.unwrap(), 2, "there is room for a small one");
    faults.growth.store(false, Ordering::Relaxed);
    assert_eq!(append(&log, USER, &large).await.unwrap(), 3);
    assert_eq!(texts(&log, USER, After::Number(0)).await.0[..2], ["first", "second"]);
}

#[tokio::test]
async fn a_failure_is_that_of_all_in_the_transaction() {
    let path = Path::new();
    let (log, faults) = on_a_disk(&path);
    faults.syncs.store(true, Ordering::Relaxed);
    let message = Message::text("x");
    let batch = [1, 2, 3].map(|user: u64| (user, MessageId::random()));
    let batch = batch.each_ref().map(|(user, id)| Append::new(user, *id, &message));
    let answers = log.append(&batch).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 3);
    let acknowledged = log.acknowledge(&[Acknowledge { user: &1, upto: 1 }]).await;
    assert!(acknowledged.len() == 1 && acknowledged[0].is_err());
    assert!(log.give_back(&1, 0).await.is_err());
}

#[tokio::test]
async fn a_read_that_fails_is_an_error_and_the_next_one_works() {
    let path = Path::new();
    let (log, faults) = on_a_disk(&path);
    append(&log, USER, "first").await.unwrap();
    faults.reads.store(true, Ordering::Relaxed);
    let error = log.read(&USER, After::Cursor, Page::default()).await.unwrap_err();
    assert!(!error.is_unknown());
    faults.reads.store(false, Ordering::Relaxed);
    assert_eq!(texts(&log, USER, After::Cursor).await.0, ["first"]);
    assert_eq!(append(&log, USER, "second").await.unwrap(), 2);
}

#[tokio::test]
async fn a_panic_of_the_database_is_unknown_and_the_next_message_is_written() {
    let path = Path::new();
    let (log, faults) = on_a_disk(&path);
    append(&log, USER, "first").await.unwrap();
    faults.panics.store(true, Ordering::Relaxed);
    assert!(append(&log, USER, "second").await.unwrap_err().is_unknown());
    faults.panics.store(false, Ordering::Relaxed);
    append(&log, USER, "last").await.unwrap();
    let (texts, _) = texts(&log, USER, After::Number(0)).await;
    assert_eq!((texts.first().unwrap().as_str(), texts.last().unwrap().as_str()), ("first", "last"));
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_keeps_no_file_open() {
    let path = Path::new();
    let log = RedbLog::<u64>::open(&path.0).unwrap();
    append(&log, USER, "first").await.unwrap();
    // as the thread of a read has it
    let file = Arc::clone(&log.file);
    drop(log);
    let log = RedbLog::<u64>::open(&path.0).unwrap();
    assert_eq!(texts(&log, USER, After::Cursor).await.0, ["first"]);
    drop(file);
}
