//! A headless Chromium, driven through chromedriver.
//!
//! Its protocol is JSON over HTTP/1.1, and a dozen of its commands are used here: `std` and `serde_json` do.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, process, thread};

use serde_json::{Value, json};

use crate::support::{DEADLINE, Process, signal};

/// The key under which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page and a profile of its own.
///
/// It ends when it is dropped; if the test has failed, it says first what the page showed.
pub(crate) struct Browser {
    /// Killed after the session has ended.
    _driver: Process,
    port: u16,
    session: String,
    chromium: u64,
    profile: PathBuf,
}

impl Browser {
    /// Starts chromedriver on a free port, and Chromium.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts chromedriver on a free port, and Chromium with these arguments, too.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", process::id()));
        let driver = Process::start(Command::new("chromedriver").args(["--port=0", "--log-level=SEVERE"]));
        let port = driver.find(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser = Self { _driver: driver, port, session: String::new(), chromium: 0, profile };
        (browser.session, browser.chromium) = browser.start_session(arguments);
        browser
    }

    fn start_session(&self, more: &[&str]) -> (String, u64) {
        let profile = format!("--user-data-dir={}", self.profile.display());
        let mut arguments = vec![
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            &profile,
        ];
        arguments.extend(more);
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": DEADLINE.as_millis() },
        });
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let session = self.command("/session", &body).unwrap_or_else(|error| panic!("no browser: {error}"));
        let id = session["sessionId"].as_str().expect("a session has an id");
        let chromium = session["capabilities"]["goog:processID"].as_u64().expect("Chromium is a process");
        (id.to_owned(), chromium)
    }

    /// Shows the page at `url`.
    pub(crate) fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    /// Opens one more window, and returns its handle for `look_at`.
    pub(crate) fn new_window(&self) -> String {
        let window = self.ask("/window/new", &json!({ "type": "window" }));
        window["handle"].as_str().expect("a window has a handle").to_owned()
    }

    /// Makes all that follows about another window.
    pub(crate) fn look_at(&self, window: &str) {
        self.ask("/window", &json!({ "handle": window }));
    }

    /// Makes the window as wide and high as a phone.
    pub(crate) fn be_a_phone(&self) {
        let screen = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": screen });
        self.ask("/goog/cdp/execute", &command);
    }

    /// Runs the body of a JavaScript function, with `arguments`, and awaits the promise that it may return.
    pub(crate) fn run(&self, script: &str, arguments: &Value) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until a JavaScript expression is true, and returns its value.
    pub(crate) fn wait_for(&self, expression: &str) -> Value {
        let script = format!(
            "const look = found => {{
               const value = {expression};
               value ? found(value) : setTimeout(look, 20, found);
             }};
             return new Promise(look);"
        );
        self.run(&script, &json!([]))
    }

    /// The text of the element that a CSS selector finds.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run("return document.querySelector(arguments[0]).textContent", &json!([selector]));
        text.as_str().expect("an element has text").to_owned()
    }

    /// Clicks on an element, as a user does.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.ask(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types text into a field, in place of what is there.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.ask(&format!("/element/{element}/clear"), &json!({}));
        self.ask(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses a key on an element; `key` is a character, or what the protocol has for a key without one.
    pub(crate) fn press(&self, selector: &str, key: &str) {
        let element = self.element(selector);
        self.ask(&format!("/element/{element}/value"), &json!({ "text": key }));
    }

    /// Chooses a file, as the browser's own dialogue would.
    pub(crate) fn choose_file(&self, selector: &str, path: &str) {
        let element = self.element(selector);
        self.ask(&format!("/element/{element}/value"), &json!({ "text": path }));
    }

    /// What came on the console since it was last asked for, errors of the network included.
    pub(crate) fn console(&self) -> Vec<String> {
        let entries = self.ask("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().expect("a log is a list");
        entries.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    fn element(&self, selector: &str) -> String {
        let found = self.ask("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().expect("an element has an id").to_owned()
    }

    /// What a failed test leaves to look at.
    fn last_words(&self) -> io::Result<String> {
        let session = &self.session;
        let script = json!({ "script": "return `${location}\n${document.body.innerText}`", "args": [] });
        let page = self.command(&format!("/session/{session}/execute/sync"), &script)?;
        let console = self.command(&format!("/session/{session}/se/log"), &json!({ "type": "browser" }))?;
        Ok(format!("the page was {}\nand its console {console:#}", page.as_str().unwrap_or_default()))
    }

    fn ask(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}{command}", self.session);
        self.command(&path, body).unwrap_or_else(|error| panic!("{command} {body}: {error}"))
    }

    fn command(&self, path: &str, body: &Value) -> io::Result<Value> {
        let answer = self.http("POST", path, &body.to_string())?;
        let answer: Value = serde_json::from_str(&answer)?;
        match &answer["value"]["error"] {
            Value::String(error) => Err(io::Error::other(format!("{error}: {}", answer["value"]["message"]))),
            _ => Ok(answer["value"].clone()),
        }
    }

    /// One request, and the body of its answer.
    fn http(&self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        // chromedriver keeps to the deadline, and says what it has waited for
        stream.set_read_timeout(Some(2 * DEADLINE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        // it leaves the connection open, whatever it is asked
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if answer.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = String::new();
        answer.take(length).read_to_string(&mut body)?;
        Ok(body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if thread::panicking() {
            match self.last_words() {
                Ok(words) => eprintln!("{words}"),
                Err(error) => eprintln!("the browser does not say what it showed: {error}"),
            }
        }
        // this ends Chromium; chromedriver is killed by its `Process`, without which Chromium would live on
        if self.http("DELETE", &format!("/session/{}", self.session), "").is_err() && self.chromium != 0 {
            signal("KILL", self.chromium);
        }
        let _ = fs::remove_dir_all(&self.profile);
    }
}
