//! A child process that is read line by line, and killed at the end of its test if it still runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use super::DEADLINE;

/// A running program. What it writes to its error output goes where the test's goes.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        // it ends with the output, whether anyone still listens or not: a full pipe would stop the program
        thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Self { child, lines }
    }

    /// The first line to come for which `find` has a result.
    pub(crate) fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the program prints what is waited for");
            if let Some(found) = find(&line) {
                return found;
            }
        }
    }

    /// Waits for the end, which comes when the program has closed its output; returns what was not yet read of it.
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + DEADLINE;
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end; it said {rest:?}"),
            }
        }
        (self.child.wait().expect("it is our child"), rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(name: &str, process: u64) {
    let mut kill = Command::new("sh");
    let status = kill.args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &process.to_string()]).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("SIG{name} did not reach a process");
    }
}
