//! How much of the heap a [`MemoryLog`] takes: a binary of its own, because it counts every allocation.

use std::alloc::System;

use peakmem_alloc::{PeakMemAlloc, PeakMemAllocTrait as _};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use ws_core::Message;
use ws_hub::{Acknowledge, Append, Appended, Log, MemoryLog, MessageId};

/// One counts what there is, the other the most there was at once.
#[global_allocator]
static HEAP: PeakMemAlloc<&StatsAlloc<System>> = PeakMemAlloc::new(&INSTRUMENTED_SYSTEM);

const BOUND: usize = 64 * 1024 * 1024;

fn live() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

fn append(log: &MemoryLog<u64>, user: u64, bytes: usize) -> u64 {
    let message = Message::binary(vec![0; bytes]);
    match log.append_now(&Append::new(&user, MessageId::random(), &message)) {
        Some(Appended::Logged { position, .. }) => position.number,
        other => panic!("{other:?}"),
    }
}

/// What fills a log.
type Fill = fn(&MemoryLog<u64>, &mut dyn FnMut());

/// More users than fit, with one message of one byte.
fn many_users(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    for user in 0..250_000 {
        append(log, user, 1);
        look();
    }
}

/// Few users, with as many messages as fit.
fn few_users(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    for number in 0..400_000 {
        append(log, number % 500, 100);
        look();
    }
}

/// Users who had much, and were delivered it.
fn readers(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    for user in 0..9_000 {
        let top = (0..300).map(|_| append(log, user, 1)).max().unwrap();
        log.acknowledge_now(&Acknowledge { user: &user, upto: top });
        look();
    }
}

/// Many users, and then others, who have much.
fn few_after_many(log: &MemoryLog<u64>, look: &mut dyn FnMut()) {
    many_users(log, look);
    for number in 0..200_000 {
        append(log, 2_000_000 + number % 100, 1_000);
        look();
    }
}

#[test]
fn a_log_in_memory_takes_at_most_one_and_a_half_times_its_bound() {
    let cases: [(&str, Fill); 4] = [
        ("many users with little", many_users),
        ("few users with much", few_users),
        ("users who read all", readers),
        ("few users after many", few_after_many),
    ];
    for (name, fill) in cases {
        let before = live();
        HEAP.reset_peak_memory();
        let log = MemoryLog::<u64>::new().in_all(BOUND);
        let mut looks = 0_usize;
        let mut most = 0;
        fill(&log, &mut || {
            looks += 1;
            if looks.is_multiple_of(64) {
                most = most.max(live().saturating_sub(before));
            }
        });
        let (end, peak, messages) = (live() - before, HEAP.get_peak_memory(), log.len());
        let share = |bytes: usize| bytes * 100 / BOUND;
        let figures = format!(
            "{name}: {messages} messages; {} % of the bound at the end, {} % at most, {} % within a call",
            share(end),
            share(most),
            share(peak)
        );
        println!("{figures}");
        assert!(share(end) >= 20, "the bound is reached with much less: {figures}");
        assert!(share(peak) <= 150, "{figures}");
    }
}
