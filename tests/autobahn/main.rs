//! The Autobahn testsuite, on every adapter and on the client: every case has to be `OK`, or `INFORMATIONAL` where the
//! suite has no verdict, and to end in a clean close.
//!
//! `scripts/autobahn` runs it. It needs a `wstest` (`WS_TESTS_WSTEST` names it, by default `wstest` from the path).
//! `WS_TESTS_AUTOBAHN=12.*,13.*` asks for other cases than 1 to 10: these are the compressed messages, and take minutes.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use ws_axum::{Compression, WebSocketLayer};
use ws_core::client::Client;
use ws_tests::adapters::{Axum, Hyper, Warp};
use ws_tests::{Server, Setup, runtime, until};

/// The cases that every implementation has to pass.
const CASES: &str = "1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.*,10.*";

/// For all cases of one run.
const TIME: Duration = Duration::from_secs(30 * 60);

/// The suite sends messages of 16 MiB, and some of 4 MiB in 64 bytes at a time.
const MESSAGE: usize = 16 * 1024 * 1024;
const FRAGMENTS: usize = 100_000;

#[test]
fn axum_passes() {
    runtime::run(server_passes::<Axum>("axum"));
}

#[test]
fn hyper_passes() {
    runtime::run(server_passes::<Hyper>("hyper"));
}

#[test]
fn warp_passes() {
    runtime::run(server_passes::<Warp>("warp"));
}

#[test]
fn client_passes() {
    runtime::run(async {
        let run = Run::new("client");
        // the suite takes no port 0
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("there is a free port");
        let _suite = run.start("fuzzingserver", &json!({ "url": format!("ws://{address}") }));
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(started.elapsed() < TIME, "the suite does not listen");
            tokio::task::yield_now().await;
        }

        let client = Client::new()
            .max_message_size(MESSAGE)
            .max_frame_size(MESSAGE)
            .max_fragments(FRAGMENTS)
            .compression(Compression::new());
        let url = |path: &str| format!("ws://{address}/{path}");
        let mut count = client.connect(url("getCaseCount")).await.expect("the suite answers");
        let count: usize = count.recv_json().await.expect("a message").expect("a number");
        for case in 1..=count {
            let mut socket =
                client.connect(url(&format!("runCase?case={case}&agent=client"))).await.expect("a case");
            // how it ends is the suite's to judge
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
            socket.closed().await;
        }
        let mut update = client.connect(url("updateReports?agent=client")).await.expect("the suite answers");
        assert!(update.recv().await.is_none(), "it closes when the reports are written");
        run.judge(count);
    });
}

async fn server_passes<S: Server>(name: &'static str) {
    let layer = WebSocketLayer::new()
        .max_message_size(MESSAGE)
        .max_frame_size(MESSAGE)
        .max_fragments(FRAGMENTS)
        .compression(Compression::new());
    let server = S::start(Setup::echo().layer(layer)).await;
    let run = Run::new(name);
    let url = format!("ws://{}/ws", server.address);
    let spec = json!({ "servers": [{ "agent": name, "url": url }] });
    let run = spawn_blocking(move || {
        let suite = run.start("fuzzingclient", &spec);
        suite.finish();
        run
    });
    run.await.expect("the suite ends").judge(1);
    until("all connections to end", || server.connections.is_empty()).await;
}

/// One run of the suite, with a directory for its reports.
struct Run {
    agent: &'static str,
    directory: PathBuf,
}

impl Run {
    fn new(agent: &'static str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("autobahn").join(agent);
        // reports of an earlier run would be taken for this one's
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("the target directory is writable");
        Self { agent, directory }
    }

    fn start(&self, mode: &str, spec: &Value) -> Suite {
        let cases = env::var("WS_TESTS_AUTOBAHN").unwrap_or_else(|_| CASES.to_owned());
        let mut spec = spec.clone();
        spec["outdir"] = json!(self.directory);
        spec["cases"] = cases.split(',').collect();
        spec["exclude-cases"] = json!([]);
        spec["exclude-agent-cases"] = json!({});
        let file = self.directory.join("spec.json");
        fs::write(&file, spec.to_string()).expect("the target directory is writable");
        let log =
            fs::File::create(self.directory.join("wstest.log")).expect("the target directory is writable");
        let wstest = env::var_os("WS_TESTS_WSTEST").unwrap_or_else(|| "wstest".into());
        let mut command = Command::new(&wstest);
        // without a page for people: its port could be taken
        command.args(["-u", "0", "-m", mode, "-s"]).arg(&file).current_dir(&self.directory);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a second handle")).stdout(log);
        let child = command.spawn();
        Suite(child.unwrap_or_else(|error| panic!("cannot start {}: {error}", wstest.display())))
    }

    /// Fails with the name of every case that is not as it should be.
    fn judge(&self, at_least: usize) {
        let index = fs::read(self.directory.join("index.json")).expect("the suite has written its report");
        let index: Value = serde_json::from_slice(&index).expect("the report is JSON");
        let results = index[self.agent].as_object().expect("the report is about this agent");
        assert!(results.len() >= at_least, "{} of {at_least} cases have a result", results.len());
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut bad = Vec::new();
        for (case, result) in results {
            let verdict = |key: &str| result[key].as_str().unwrap_or("without a verdict");
            let (behavior, close) = (verdict("behavior"), verdict("behaviorClose"));
            *counts.entry(behavior).or_default() += 1;
            let is_good = |verdict: &str| matches!(verdict, "OK" | "INFORMATIONAL");
            // some cases want a client to offer a smaller window, which ours does not
            let is_declined = self.agent == "client" && behavior == "UNIMPLEMENTED";
            if !(is_good(behavior) || is_declined) || !is_good(close) {
                bad.push(format!("{case}: {behavior}, close {close}"));
            }
        }
        println!("{}: {counts:?}", self.agent);
        assert_eq!(bad, Vec::<String>::new(), "reports are in {}", self.directory.display());
    }
}

/// The suite's process.
struct Suite(Child);

impl Suite {
    /// Waits for its end.
    fn finish(mut self) {
        let started = Instant::now();
        while started.elapsed() < TIME {
            match self.0.try_wait().expect("it is our child") {
                Some(status) => return assert!(status.success(), "wstest: {status}"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        panic!("wstest does not end");
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
