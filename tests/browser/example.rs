//! The example `echo`, run as the program that it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::driver::signal;
use crate::support::Process;

/// The running program.
pub(crate) struct Example {
    process: Process,
    page: String,
}

impl Example {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// Starts it on this address.
    pub(crate) fn start_at(address: &str) -> Self {
        let mut command = Command::new(executable());
        let process = Process::start(command.arg(address).env("RUST_LOG", "warn"));
        let page = process.find(|line| line.starts_with("http://").then(|| line.to_owned()));
        let socket = process.find(|line| line.starts_with("ws://").then(|| line.to_owned()));
        assert_eq!(socket, format!("{}echo", page.replace("http", "ws")));
        Self { process, page }
    }

    /// The address of its page.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    /// What it listens on.
    pub(crate) fn address(&self) -> String {
        self.page.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// Ctrl-C: it ends by itself, and well.
    pub(crate) fn interrupt(self) {
        signal("INT", self.process.child.id().into());
        let (status, _) = self.process.finish();
        assert!(status.success(), "{status}");
    }
}

/// Where the program is: cargo builds it if need be, and says so.
fn executable() -> &'static Path {
    static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let cargo = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package=ws-examples", "--example=echo", "--message-format=json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("cargo runs");
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
        let messages = cargo.stdout.split(|byte| *byte == b'\n');
        let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let mut built = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        built.next_back().expect("an example is a program")
    })
}
