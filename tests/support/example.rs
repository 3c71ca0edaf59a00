//! The example programs, run as what they are.

use std::collections::HashMap;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{Process, signal};

/// A running program.
pub(crate) struct Example {
    process: Process,
    page: String,
    socket: String,
}

impl Example {
    /// Starts the example `name` on a free port.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0")
    }

    /// Starts the example `name` on this address.
    pub(crate) fn start_at(name: &str, address: &str) -> Self {
        Self::start_with(name, address, &[])
    }

    /// Starts the example `name` on this address, with these variables in its environment.
    pub(crate) fn start_with(name: &str, address: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(executable(name));
        let process = Process::start(with_variables(command.arg(address), variables));
        let line = |scheme| process.find(|line| line.starts_with(scheme).then(|| line.to_owned()));
        let (page, socket) = (line("http"), line("ws"));
        assert!(socket.starts_with(&page.replacen("http", "ws", 1)), "{page} {socket}");
        Self { process, page, socket }
    }

    /// The address of its page.
    pub(crate) fn page(&self) -> &str {
        &self.page
    }

    /// The address of its WebSocket.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    /// What it listens on.
    pub(crate) fn address(&self) -> String {
        let (_, address) = self.page.split_once("://").expect("a URL has a scheme");
        address.trim_end_matches('/').to_owned()
    }

    /// The first line to come, after those with its addresses, for which `find` has a result.
    pub(crate) fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        self.process.find(find)
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.process.child.id().into());
    }

    /// Waits until it has ended by itself, and well; returns what else it has printed.
    pub(crate) fn finish(self) -> Vec<String> {
        let (status, printed) = self.process.finish();
        assert!(status.success(), "{status}");
        printed
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self.process);
    }

    /// Starts the example `name` as [`start_with`](Self::start_with), and kills it after this time, whatever it does by then.
    pub(crate) fn kill_at_start(name: &str, address: &str, variables: &[(&str, &str)], after: Duration) {
        let mut command = Command::new(executable(name));
        let process = Process::start(with_variables(command.arg(address), variables));
        thread::sleep(after);
        drop(process);
    }

    /// Starts the example `name`, which does not like one of these variables, and waits for its end; returns what it has
    /// printed, errors included.
    pub(crate) fn refuses(name: &str, variables: &[(&str, &OsStr)]) -> Vec<String> {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" 127.0.0.1:0 2>&1"]).arg(executable(name));
        let process = Process::start(with_variables(&mut command, variables));
        let (status, printed) = process.finish();
        assert!(status.code().is_some_and(|code| code != 0), "{status}: {printed:?}");
        printed
    }
}

/// Sets these variables, and removes what else an example reads: without a token from elsewhere, `news_push` makes one and
/// prints it.
fn with_variables<'a, V: AsRef<OsStr>>(command: &'a mut Command, variables: &[(&str, V)]) -> &'a mut Command {
    for name in ["DATA", "EDITOR_TOKEN", "REDIS_REPLICAS", "REDIS_URL", "SESSION_KEY"] {
        command.env_remove(name);
    }
    command.env("RUST_LOG", "warn").envs(variables.iter().map(|(name, value)| (name, value)))
}

/// Where the program is: cargo builds all of them if need be, and says so.
pub(crate) fn executable(name: &str) -> &'static Path {
    static EXECUTABLES: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    let executables = EXECUTABLES.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // what tells of this package would make cargo build anew what looks at it, such as `ring`
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|it| name.to_string_lossy().starts_with(it)) {
                cargo.env_remove(name);
            }
        }
        let cargo = cargo
            .args(["build", "--quiet", "--package=ws-examples", "--examples", "--message-format=json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("cargo runs");
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
        let messages = cargo.stdout.split(|byte| *byte == b'\n');
        let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let programs = messages.filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.into()))
        });
        programs.collect()
    });
    executables.get(name).unwrap_or_else(|| panic!("no example is called {name}"))
}
