//! The example `client`, in a pipe: what it prints for what it is given.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::support::{DEADLINE, Example, executable};

/// The running client. It is given lines, and its lines can be waited for.
struct Client {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<String>,
    notes: Receiver<String>,
}

impl Client {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(&[], arguments)
    }

    /// As `start`, with these environment variables.
    fn start_in(variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = Command::new(executable("client"));
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(name);
        }
        command
            .envs(variables.iter().copied())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let output: ChildStdout = child.stdout.take().expect("it is piped");
        let (messages, notes) = (lines(output), lines(child.stderr.take().expect("it is piped")));
        Self { input: child.stdin.take(), child, messages, notes }
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it has not ended");
        writeln!(input, "{line}").expect("the program reads");
    }

    fn next_message(&self) -> String {
        self.messages.recv_timeout(DEADLINE).expect("a message")
    }

    /// Waits for a note with this in it.
    fn wait_for_note(&self, part: &str) -> String {
        loop {
            let note = self.notes.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no note has {part:?}"));
            if note.contains(part) {
                return note;
            }
        }
    }

    /// Ends the input, and waits for the end of the program; returns whether it was a success.
    fn finish(mut self) -> bool {
        drop(self.input.take());
        // its outputs end with it
        while self.messages.recv_timeout(DEADLINE).is_ok() {}
        self.child.wait().expect("it is our child").success()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(output);
    thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    lines
}

#[test]
fn lines_go_out_and_messages_come_in() {
    let echo = Example::start("echo");
    let mut client = Client::start(&[echo.socket()]);
    for (line, message) in [("hello", "hello"), ("Grüße, ☃", "Grüße, ☃"), ("", ""), ("//close", "/close")]
    {
        client.say(line);
        assert_eq!(client.next_message(), message);
    }
    client.say("/ping");
    client.wait_for_note("there and back");
    client.say("/nonsense");
    client.wait_for_note("no such command");
    client.say("/close 999");
    client.wait_for_note("close code 999 may not be sent");
    client.say("last");
    assert!(client.finish());
}

#[test]
fn it_closes_with_the_code_that_it_is_told() {
    let echo = Example::start("echo");
    let mut client = Client::start(&["--once", echo.socket()]);
    client.wait_for_note("connected");
    client.say("/close 4000 enough");
    assert!(client.finish());
}

#[test]
fn it_comes_back_when_the_server_does() {
    let echo = Example::start("echo");
    let (address, url) = (echo.address(), echo.socket().to_owned());
    let mut client = Client::start(&[&url]);
    client.wait_for_note("connected");
    echo.interrupt();
    client.wait_for_note("1001 going away");
    echo.finish();
    client.say("for the next one");
    let _echo = Example::start_at("echo", &address);
    client.wait_for_note("connected");
    assert_eq!(client.next_message(), "for the next one");
    assert!(client.finish());
}

/// A proxy that refuses one client, with its URL and what it will have been asked.
fn refusing_proxy() -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://ada:secret@{}", listener.local_addr().expect("it is bound"));
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).expect("text") > 0 {}
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").expect("a client that reads");
        head
    });
    (url, asked)
}

#[test]
fn a_proxy_of_the_environment_is_used_only_if_it_is_asked_for() {
    let echo = Example::start("echo");
    let nowhere = ("HTTP_PROXY", "http://127.0.0.1:1");
    let without = [(&[][..], &[nowhere][..]), (&["--proxy", "env"], &[nowhere, ("NO_PROXY", "127.0.0.0/8")])];
    for (options, variables) in without {
        let client = Client::start_in(variables, &[options, &["--once", echo.socket()]].concat());
        client.wait_for_note("connected");
        assert!(client.finish());
    }
    for named in [false, true] {
        let (url, asked) = refusing_proxy();
        let (proxy, variables) =
            if named { (url.as_str(), vec![]) } else { ("env", vec![("HTTP_PROXY", &*url)]) };
        let client = Client::start_in(&variables, &["--proxy", proxy, "ws://server.example/"]);
        let note = client.wait_for_note("403 Forbidden");
        assert!(note.contains(&url.replace("ada:secret@", "")) && !note.contains("secret"), "{note}");
        assert!(!client.finish());
        let asked = asked.join().expect("a client that asks");
        assert!(asked.starts_with("CONNECT server.example:80 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nProxy-Authorization: Basic YWRhOnNlY3JldA==\r\n"), "{asked}");
    }
}

#[test]
fn what_cannot_work_is_said_and_ends_it() {
    let echo = Example::start("echo");
    let nowhere = format!("{}/nothing", echo.socket());
    let with_password = echo.socket().replace("//", "//anna:secret@");
    for (arguments, expected) in [
        (&[nowhere.as_str()][..], "404 Not Found"),
        (&["--origin", "https://evil.example", echo.socket()], "403 Forbidden"),
        (&["http://127.0.0.1/"], "write ws"),
        (&[&with_password], "password"),
        (&["-H", "no colon", echo.socket()], "'name: value'"),
        (&["-H", "upgrade: h2c", echo.socket()], "belongs to the handshake"),
        (&["--proxy", "socks5://127.0.0.1", echo.socket()], "not a proxy"),
        (&["--frobnicate", echo.socket()], "--frobnicate"),
        (&[], "which URL"),
    ] {
        let client = Client::start(arguments);
        client.wait_for_note(expected);
        assert!(!client.finish(), "{arguments:?}");
    }
}
