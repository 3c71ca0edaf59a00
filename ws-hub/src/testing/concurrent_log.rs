//! Cases of [`log_suite`](super::log_suite) in which calls come at the same time.

#![expect(clippy::missing_panics_doc, reason = "that is what all of them are for")]

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use ws_core::Message;

use super::support::{ALL, Holder, acknowledge, append_numbers, append_text, assert_chain, poll_once, read};
use crate::log::{After, Append, Continuity, Log, Page};
use crate::position::{MessageId, Position};

const ANNA: u64 = 7;

/// Each answer names a place of its own, and what is there is that message.
async fn assert_all_are_read_back(log: impl Holder, users: u64, tasks: u64, each: u64) {
    let log = Arc::new(log);
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let log = Arc::clone(&log);
        running.spawn(async move {
            let mut answers = Vec::new();
            for number in 0..each {
                let user = (task + number) % users;
                let text = format!("{task} {number}");
                answers.push((user, append_text(&**log, user, &text).await.position, text));
            }
            answers
        });
    }
    let answers: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    assert_eq!(
        answers.iter().map(|(user, at, _)| (user, at.number)).collect::<HashSet<_>>().len(),
        answers.len()
    );
    for user in 0..users {
        let read = read(&**log, user, After::Number(0), ALL).await;
        assert_eq!(read.continuity, Continuity::Complete);
        assert_chain(&read);
        let of_user: Vec<_> = answers.iter().filter(|(of, ..)| *of == user).collect();
        assert_eq!(read.entries.len(), of_user.len());
        for (_, position, text) in of_user {
            let entry = &read.entries[usize::try_from(position.number - 1).unwrap()];
            assert_eq!((entry.position, entry.message.as_text()), (*position, Some(&**text)));
        }
    }
}

/// From many tasks.
pub async fn appends_at_the_same_time_to_one_user_leave_no_hole(log: impl Holder) {
    assert_all_are_read_back(log, 1, 16, 25).await;
}

/// From many tasks.
pub async fn appends_at_the_same_time_to_many_users_leave_no_hole(log: impl Holder) {
    assert_all_are_read_back(log, 50, 16, 25).await;
}

/// While another task appends and acknowledges.
pub async fn a_read_during_appends_sees_no_hole(log: impl Holder) {
    let log = Arc::new(log);
    let writer = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for round in 1..=30 {
                append_numbers(&**log, ANNA, 10).await;
                acknowledge(&**log, ANNA, round * 5).await;
            }
        }
    });
    let mut last = Position::new(0, MessageId::new(0));
    while last.number < 300 {
        let after = if last.number == 0 { After::Number(0) } else { After::Position(last) };
        let read = read(&**log, ANNA, after, Page::default()).await;
        assert_chain(&read);
        if read.continuity == Continuity::Incomplete {
            // what was acknowledged may be gone
            assert!(read.after > last.number);
            assert!(read.after <= read.cursor);
        }
        match read.entries.last() {
            Some(entry) => last = entry.position,
            None => tokio::task::yield_now().await,
        }
    }
    writer.await.expect("it works");
}

/// Appends that are asked for once, or not at all, and not waited for.
pub async fn a_call_that_is_dropped_is_done_as_a_whole_or_not(log: impl Holder) {
    let texts = ["a", "b", "c"].map(Message::text);
    let mut ids = Vec::new();
    for round in 0..20 {
        let batch = texts.each_ref().map(|text| Append::new(&ANNA, MessageId::random(), text));
        ids.extend(batch.iter().map(|append| append.id));
        let call = log.append(&batch);
        if round % 2 == 0 {
            poll_once(call).await;
        }
    }
    // what was begun is done when a later one is
    let last = append_text(&*log, ANNA, "last").await;
    let read = read(&*log, ANNA, After::Number(0), ALL).await;
    assert_chain(&read);
    assert_eq!(read.top, Some(last.position));
    let found: Vec<_> = read.entries.iter().map(|entry| entry.position.id).collect();
    for batch in ids.chunks(3) {
        let at = found.iter().position(|id| *id == batch[0]);
        let expected = at.map_or(&[] as &[_], |at| &found[at..at + 3]);
        assert!(expected.is_empty() || expected == batch, "half of a batch");
        assert!(at.is_some() || !found.contains(&batch[1]) && !found.contains(&batch[2]), "half of a batch");
    }
}
