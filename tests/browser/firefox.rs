//! Firefox: WebSockets over HTTP/1.1, and over HTTP/2 (RFC 8441) with TLS.

use std::cell::{Cell, RefCell};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use axum::Router;
use axum::http::Version;
use axum::routing::any;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;
use ws_axum::{Error, WebSocket, WebSocketLayer, WebSocketUpgrade};

use crate::support::{DEADLINE, Process, Server};
use crate::{ECHO_900_KB, OPEN, page_and_echo};

/// A headless Firefox with one page and a profile of its own.
///
/// It needs no driver: it is driven over a WebSocket of its own (`WebDriver BiDi`), in JSON.
struct Firefox {
    /// `None` only while it is dropped.
    process: Option<Process>,
    commands: RefCell<tungstenite::WebSocket<TcpStream>>,
    /// The number of the last command.
    last: Cell<u64>,
    page: String,
    profile: PathBuf,
}

impl Firefox {
    fn start() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("firefox-{}-{number}", process::id());
        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&profile).expect("the directory is cargo's, and there");
        // it says on its error output where it listens; as root, it wants a home that is root's
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec firefox-esr --headless --no-remote --remote-debugging-port=0 --profile \"$0\" 2>&1",
        ]);
        let process = Process::start(command.arg(&profile).env("HOME", &profile));
        let address =
            process.find(|line| line.strip_prefix("WebDriver BiDi listening on ws://").map(str::to_owned));
        let stream = TcpStream::connect(&address).expect("it listens");
        stream.set_read_timeout(Some(2 * DEADLINE)).expect("a socket knows the option");
        let (commands, _) =
            tungstenite::client(format!("ws://{address}/session"), stream).expect("a handshake");
        let commands = RefCell::new(commands);
        let mut firefox =
            Self { process: Some(process), commands, last: Cell::new(0), page: String::new(), profile };
        firefox.ask(
            "session.new",
            &json!({ "capabilities": { "alwaysMatch": { "acceptInsecureCerts": true } } }),
        );
        let pages = firefox.ask("browsingContext.getTree", &json!({}));
        firefox.page = pages["contexts"][0]["context"].as_str().map(str::to_owned).expect("a page is open");
        firefox
    }

    /// Shows the page at `url`.
    fn open(&self, url: &str) {
        self.ask(
            "browsingContext.navigate",
            &json!({ "context": self.page, "url": url, "wait": "complete" }),
        );
    }

    /// Runs the body of a JavaScript function, with `arguments`, and awaits the promise that it may return.
    fn run(&self, script: &str, arguments: &Value) -> Value {
        let function = format!(
            "async text => JSON.stringify(await (function () {{ {script} }}).apply(null, JSON.parse(text)) ?? null)"
        );
        let answer = self.ask(
            "script.callFunction",
            &json!({
                "functionDeclaration": function,
                "arguments": [{ "type": "string", "value": arguments.to_string() }],
                "awaitPromise": true,
                "target": { "context": self.page },
            }),
        );
        let text = answer["result"]["value"].as_str().unwrap_or_else(|| panic!("{script}: {answer}"));
        serde_json::from_str(text).expect("it is JSON")
    }

    fn ask(&self, method: &str, params: &Value) -> Value {
        let answer = self.command(method, params).unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(answer["type"], "success", "{method} {params}: {answer}");
        answer["result"].clone()
    }

    /// Sends a command, and returns its answer; events may come before.
    fn command(&self, method: &str, params: &Value) -> tungstenite::Result<Value> {
        let mut commands = self.commands.borrow_mut();
        let id = self.last.get() + 1;
        self.last.set(id);
        let command = json!({ "id": id, "method": method, "params": params });
        commands.send(command.to_string().into())?;
        loop {
            let message = commands.read()?;
            let text = message.to_text()?;
            let answer: Value = serde_json::from_str(text).unwrap_or_default();
            if answer["id"] == id {
                return Ok(answer);
            }
        }
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        let end = self.command("browser.close", &json!({}));
        let process = self.process.take().expect("it is dropped once");
        if end.is_ok() && !thread::panicking() {
            // until all of its processes have ended, which write to the profile; otherwise it is killed
            process.finish();
        }
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// An empty page; a socket that echoes, one that says by which version of HTTP it was opened, and one that pings.
fn app() -> Router {
    let version = async |version: Version, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            socket.close(4000, format!("{version:?}")).await.map(drop)
        })
    };
    let ping = async |mut socket: WebSocket| -> Result<(), Error> {
        socket.ping().await?;
        socket.close(4001, "answered").await.map(drop)
    };
    page_and_echo()
        .route("/version", any(version))
        .route_service("/ping", ws_axum::service(ping))
        .layer(WebSocketLayer::new())
}

/// Has a page of `server` open WebSockets to it, which come by this version of HTTP.
fn use_websockets(server: &Server, http: &str, ws: &str, version: &str) {
    let firefox = Firefox::start();
    firefox.open(&server.url(http, "/"));
    let open = |path| assert_eq!(firefox.run(OPEN, &json!([server.url(ws, path)])), "open", "{path}");
    let ended = || firefox.run("return ended", &json!([]));

    open("/version");
    assert_eq!(ended(), json!([4000, version, true]));
    open("/ping");
    assert_eq!(ended(), json!([4001, "answered", true]));
    open("/echo");
    assert_eq!(firefox.run(ECHO_900_KB, &json!([])), json!([900_000, true, true]));
    firefox.run("socket.close(3001, 'done here')", &json!([]));
    assert_eq!(ended(), json!([3001, "done here", true]));
    open("/echo");
    firefox.run("socket.send('x'.repeat(3_000_000))", &json!([]));
    assert_eq!(ended()[0], 1009);
}

#[test]
fn over_http1_messages_pings_and_close_codes_come_through() {
    use_websockets(&Server::start(app()), "http", "ws", "HTTP/1.1");
}

#[test]
fn over_http2_messages_pings_and_close_codes_come_through() {
    use_websockets(&Server::start_tls(app()), "https", "wss", "HTTP/2.0");
}
