//! The file: what is in it after it was closed, and which files are refused.

use std::fs;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use ws_core::Message;
use ws_hub::{Acknowledge, After, Append, Appended, Continuity, Durability, Log, MessageId, Position};
use ws_hub_redb::{OpenError, RedbLog};

use crate::support::{Directory, acknowledge, append, append_many, append_text, open, read};

#[tokio::test]
async fn what_was_written_is_there_when_the_file_is_opened_again() {
    let directory = Directory::new();
    let log = open(&directory.log());
    assert_eq!(log.durability(), Durability::Disk);
    let mut positions = Vec::new();
    for text in ["first", "second", "third"] {
        positions.push(append_text(&log, 1, text).await);
    }
    append_text(&log, 2, "for another").await;
    acknowledge(&log, 1, 1).await;
    let before = read(&log, 1, After::Number(0)).await;
    drop(log);

    let log = open(&directory.log());
    assert_eq!(read(&log, 1, After::Number(0)).await, before);
    let read = read(&log, 1, After::Position(positions[0])).await;
    assert_eq!((read.cursor, read.top), (1, Some(positions[2])));
    assert_eq!((read.entries.len(), read.continuity), (2, Continuity::Complete));
    let message = Message::text("fourth");
    let id = MessageId::random();
    for _ in 0..2 {
        let again = Append::new(&1, id, &message).again(true);
        let answer = log.append(&[again]).await.remove(0).unwrap();
        let Appended::Logged { position, previous, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((position, previous), (Position::new(4, id), Some(positions[2].id)));
    }
    assert_eq!(directory.names(), ["messages.redb"]);
}

#[test]
fn what_a_process_left_that_was_killed_while_it_made_the_file_is_removed() {
    let directory = Directory::new();
    let mut unfinished = directory.log().into_os_string();
    unfinished.push(format!(".{}.new", std::process::id()));
    fs::write(unfinished, [0; 10_000]).unwrap();
    open(&directory.log());
    assert_eq!(directory.names(), ["messages.redb"]);
}

#[tokio::test]
async fn ids_that_are_texts_are_kept_apart() {
    let directory = Directory::new();
    let users = ["", "a", "a\0", "ab", "ä"].map(str::to_owned);
    let log = RedbLog::<String>::open(directory.log()).unwrap();
    for user in &users {
        let message = Message::text(&**user);
        log.append(&[Append::new(user, MessageId::random(), &message)]).await.remove(0).unwrap();
    }
    log.acknowledge(&[Acknowledge { user: &users[1], upto: 1 }]).await.remove(0).unwrap();
    drop(log);
    let log = RedbLog::<String>::open(directory.log()).unwrap();
    for user in &users {
        let read = log.read(user, After::Cursor, ws_hub::Page::default()).await.unwrap();
        let texts: Vec<_> = read.entries.iter().map(|entry| entry.message.as_text().unwrap()).collect();
        assert_eq!(texts, if user == "a" { vec![] } else { vec![&**user] }, "{user:?}");
    }
}

#[tokio::test]
async fn what_was_asked_for_is_written_though_nobody_waits_and_the_log_is_dropped() {
    let directory = Directory::new();
    let log = open(&directory.log());
    let message = Message::text("hello");
    let user = 1;
    let batch = [Append::new(&user, MessageId::random(), &message)];
    let mut call = log.append(&batch);
    poll_fn(|context| {
        let _ = call.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    drop(call);
    drop(log);
    let log = open(&directory.log());
    assert_eq!(read(&log, 1, After::Cursor).await.entries.len(), 1);
}

#[test]
fn a_file_that_is_open_is_refused_and_named() {
    let directory = Directory::new();
    let path = directory.log();
    let log = open(&path);
    let error = RedbLog::<u64>::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert_eq!(
        error.to_string(),
        format!("{} is in use: only one process at a time may open it", path.display())
    );
    drop(log);
    open(&path);
}

#[test]
fn a_file_that_is_no_log_is_refused_and_stays_as_it_was() {
    let directory = Directory::new();
    let path = directory.log();
    for content in [b"notes".to_vec(), Vec::new(), vec![0; 100_000]] {
        fs::write(&path, &content).unwrap();
        let error = RedbLog::<u64>::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::NotALog { .. }), "{error:?}");
        let expected = format!("{} is not a log of ws-hub-redb, or is damaged", path.display());
        assert_eq!(error.to_string(), expected);
        assert!(fs::read(&path).unwrap() == content);
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_or_overwritten_is_refused() {
    let directory = Directory::new();
    let path = directory.log();
    let log = open(&path);
    append_many(&log, 1, 100, &Message::binary(vec![1; 5_000])).await;
    drop(log);
    let log = fs::read(&path).unwrap();
    let magic = b"redb\x1a\x0a\xa9\x0d\x0a";
    let mut overwritten = log.clone();
    overwritten[9..].fill(0x55);
    for content in [
        magic.to_vec(),
        magic.repeat(9_000),
        overwritten,
        log[..log.len() / 2].to_vec(),
        log[..5_000].to_vec(),
        log[..100].to_vec(),
    ] {
        fs::write(&path, &content).unwrap();
        let error = RedbLog::<u64>::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::NotALog { .. }), "{} bytes: {error:?}", content.len());
    }
}

#[test]
fn a_database_of_somebody_else_is_refused() {
    let directory = Directory::new();
    let path = directory.log();
    let database = redb::Database::create(&path).unwrap();
    let writing = database.begin_write().unwrap();
    writing.open_table(redb::TableDefinition::<u64, u64>::new("orders")).unwrap().insert(1, 2).unwrap();
    writing.commit().unwrap();
    drop(database);
    assert!(matches!(RedbLog::<u64>::open(&path).unwrap_err(), OpenError::NotALog { .. }));
}

#[test]
fn a_file_of_another_version_of_the_schema_is_refused() {
    let directory = Directory::new();
    let path = directory.log();
    drop(open(&path));
    let database = redb::Database::open(&path).unwrap();
    let writing = database.begin_write().unwrap();
    let state = redb::TableDefinition::<&str, u64>::new("state");
    writing.open_table(state).unwrap().insert("schema", 2).unwrap();
    writing.commit().unwrap();
    drop(database);
    let error = RedbLog::<u64>::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::OtherVersion { found: 2, expected: 1, .. }));
    assert_eq!(
        error.to_string(),
        format!("{} has version 2 of the schema; this version of ws-hub-redb reads 1", path.display())
    );
}

#[test]
fn a_file_without_a_directory_is_refused_and_named() {
    let directory = Directory::new();
    let path = directory.log().join("messages.redb");
    let error = RedbLog::<u64>::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Failed { .. }));
    assert_eq!(error.to_string(), format!("{} cannot be opened", path.display()));
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_file_that_is_mostly_free_becomes_smaller_when_it_is_opened() {
    let directory = Directory::new();
    let length = || fs::metadata(directory.log()).unwrap().len();
    let log = RedbLog::<u64>::builder().history(64, Duration::ZERO).open(directory.log()).unwrap();
    let message = Message::binary(vec![1; 10_000]);
    for user in 0..20 {
        append_many(&log, user, 100, &message).await;
    }
    for user in 1..20 {
        acknowledge(&log, user, 100).await;
    }
    drop(log);
    let before = length();
    assert!(before > 20_000_000, "{before} bytes");
    let log = open(&directory.log());
    let after = length();
    assert!(after < before / 4, "{before} bytes before, {after} after");
    assert_eq!(read(&log, 0, After::Cursor).await.entries.len(), 100);
    assert_eq!(append_text(&log, 0, "next").await.number, 101);
}

#[tokio::test]
async fn the_oldest_of_all_goes_when_all_have_too_much_also_after_it_is_opened_again() {
    let directory = Directory::new();
    // as the documentation counts: three users with one message each
    let charge = 512 + 3 * 8 + 128 + 1;
    let message = Message::text("x");
    let builder = || RedbLog::<u64>::builder().in_all(3 * charge);
    let log = builder().open(directory.log()).unwrap();
    for user in [1, 2, 3] {
        assert_eq!(append(&log, user, &message).await.1, 0);
    }
    drop(log);
    let log = builder().open(directory.log()).unwrap();
    acknowledge(&log, 3, 1).await;
    assert_eq!(append(&log, 4, &message).await.1, 0, "what is delivered goes first");
    assert_eq!(append(&log, 5, &message).await.1, 1);
    assert_eq!(append(&log, 6, &message).await.1, 1);
    let mut waiting = Vec::new();
    for user in 1..=6 {
        waiting.push(read(&log, user, After::Cursor).await.entries.len());
    }
    assert_eq!(waiting.iter().sum::<usize>(), 3);
    assert_eq!(waiting[2], 0);
    assert_eq!(waiting[5], 1);
}

#[tokio::test]
async fn the_file_is_as_large_as_the_bound_of_all_allows() {
    let bound = 4 * 1024 * 1024;
    for (bytes, users, count) in [(1, 20_000, 15_000), (1_000, 300, 6_000)] {
        let directory = Directory::new();
        let log = RedbLog::<u64>::builder().in_all(bound).open(directory.log()).unwrap();
        let message = Message::binary(vec![7; bytes]);
        let mut evicted = 0;
        for start in (0..count).step_by(500) {
            let batch: Vec<u64> = (start..start + 500).map(|it| it * 7919 % users).collect();
            let batch: Vec<_> =
                batch.iter().map(|user| Append::new(user, MessageId::random(), &message)).collect();
            for answer in log.append(&batch).await {
                let Ok(Appended::Logged { evicted: now, .. }) = answer else { panic!("{answer:?}") };
                evicted += now;
            }
        }
        assert!(evicted > 1_000, "the bound is reached");
        let length = fs::metadata(directory.log()).unwrap().len();
        assert!(length <= 3 * bound + 16 * 1024 * 1024, "{bytes}-byte messages: {length} bytes");
    }
}

#[test]
#[should_panic(expected = "a log that keeps nothing: use `without_log`")]
fn a_log_without_room_for_a_user_is_refused() {
    drop(RedbLog::<u64>::builder().per_user(1, 0));
}

#[test]
#[should_panic(expected = "a log that keeps nothing: use `without_log`")]
fn a_log_without_room_for_all_is_refused() {
    drop(RedbLog::<u64>::builder().in_all(0));
}

#[test]
#[should_panic(expected = "a log that keeps nothing: use `without_log`")]
fn a_log_without_time_is_refused() {
    drop(RedbLog::<u64>::builder().time_to_live(Duration::ZERO));
}
