//! Hostile and unlucky peers, seen from outside of the server's process: what becomes of them, what they cost in memory,
//! file descriptors and tasks, and what the others on the same server feel of it.
//!
//! What a peer is told, and that nothing is over too early, is what the behaviour suite locks. This is about the price. The
//! cases run one at a time, each on a server of its own, and the figures are a table at the end. An argument is a part of
//! a name: `cargo test -p ws-tests --test hostile -- warp::`.

mod attacks;
mod neighbour;
mod scene;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use scene::Row;

fn main() -> ExitCode {
    ws_tests::runtime::allow_many_sockets();
    let wanted: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let start = Instant::now();
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for case in attacks::ALL {
        for adapter in case.adapters {
            let name = format!("{adapter}::{}", case.name);
            if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part)) {
                continue;
            }
            // one that fails has said why, and the next one has a server of its own
            let result = catch_unwind(AssertUnwindSafe(|| scene::play(adapter, case)));
            println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
            match result {
                Ok(row) => rows.push(row),
                Err(_) => failed.push(name),
            }
        }
    }
    println!("\n{}", Row::HEADER);
    for row in &rows {
        println!("{row}");
    }
    println!("\ntest result: {} passed; {} failed; {:.1?}", rows.len(), failed.len(), start.elapsed());
    for name in &failed {
        println!("failed: {name}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
