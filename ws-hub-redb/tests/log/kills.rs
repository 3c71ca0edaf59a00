//! A process that is killed loses nothing that was answered.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::task::JoinSet;
use ws_hub::{After, Continuity, Position};
use ws_hub_redb::RedbLog;

use crate::support::{Directory, acknowledge, append_text, read};

const TEST: &str = "kills::what_was_answered_is_there_after_kill_9";
/// Says that this process is the one that is killed, and where its log is.
const PATH: &str = "WS_HUB_REDB_KILLED";

const ROUNDS: usize = 20;
const USERS: u64 = 5;

fn open(path: &Path) -> RedbLog<u64> {
    RedbLog::builder()
        .per_user(10_000_000, usize::MAX)
        .history(10_000_000, Duration::from_secs(24 * 3600))
        .open(path)
        .unwrap()
}

/// Appends, and says what was answered, until it is killed.
async fn append_for_ever(path: &Path) {
    let log = Arc::new(open(path));
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let user = task % USERS;
            loop {
                let position = append_text(&log, user, &format!("message {task}")).await;
                println!("\nappended {user} {position}");
                if position.number % 7 == 0 {
                    acknowledge(&log, user, position.number).await;
                    println!("\nacknowledged {user} {}", position.number);
                }
            }
        });
    }
    tasks.join_all().await;
}

#[derive(Default)]
struct Answered {
    positions: Vec<Position>,
    cursor: u64,
}

/// Has another process append, kills it after as many lines, and returns what it said.
fn run_and_kill(path: &Path, lines: usize, answered: &mut BTreeMap<u64, Answered>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut read = 0;
    for line in output.lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["appended", user, position] => {
                let answered = answered.entry(user.parse().unwrap()).or_default();
                answered.positions.push(position.parse().unwrap());
            }
            ["acknowledged", user, number] => {
                let answered = answered.entry(user.parse().unwrap()).or_default();
                answered.cursor = answered.cursor.max(number.parse().unwrap());
            }
            _ => continue,
        }
        read += 1;
        if read == lines {
            // what is in the pipe is read, too
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(read >= lines, "it ended by itself, {status}, after {read} lines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_kill_9() {
    if let Some(path) = std::env::var_os(PATH) {
        return append_for_ever(Path::new(&path)).await;
    }
    let directory = Directory::new();
    let mut answered = BTreeMap::new();
    for round in 0..ROUNDS {
        let lines = rand::rng().random_range(1..200);
        run_and_kill(&directory.log(), lines, &mut answered);
        let log = open(&directory.log());
        for (&user, answered) in &answered {
            let read = read(&log, user, After::Number(0)).await;
            assert_eq!(read.continuity, Continuity::Complete, "round {round}, user {user}");
            assert!(read.cursor >= answered.cursor, "round {round}, user {user}");
            let mut previous = None;
            for (number, entry) in (1..).zip(&read.entries) {
                assert_eq!((entry.position.number, entry.previous), (number, previous));
                previous = Some(entry.position.id);
            }
            for position in &answered.positions {
                let entry = read.entries.get(usize::try_from(position.number - 1).unwrap());
                assert_eq!(entry.map(|entry| entry.position), Some(*position), "round {round}, user {user}");
            }
        }
    }
}
