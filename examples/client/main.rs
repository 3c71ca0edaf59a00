//! A terminal client for any WebSocket server: it sends each line of its input as a message, and prints each message as a
//! line. It reconnects when the connection ends, if the close code allows that.
//!
//! `cargo run --example client -- ws://127.0.0.1:3000/echo`, while a server such as the example `echo` runs. `--help` lists
//! the options, such as headers, for servers that want a cookie or a token.
//!
//! Messages go to the standard output and everything else to the error output, so that both ends can be piped. When the
//! input ends, the client waits until no message has come for a second, and closes.

use std::io::{IsTerminal as _, stdin, stdout};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;
use ws_core::client::{Client, Interruption, ReconnectState, ReconnectingWebSocket};
use ws_core::{CloseCode, Error, Message, Sender, WebSocket};
use ws_examples::ctrl_c;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "\
usage: client [options] URL

  URL                  ws://host:port/path or wss://…
  -H, --header 'a: b'  send this header, such as 'Cookie: session=…'; may be repeated
  -o, --origin URL     say that this page asks, as a browser does
  -p, --protocol NAME  offer this subprotocol; may be repeated, the preferred one first
  -x, --proxy URL      connect through this HTTP proxy; 'env' for those of HTTP_PROXY,
                       HTTPS_PROXY, ALL_PROXY and NO_PROXY
  -1, --once           do not come back when the connection ends

A line is sent as a text message. These are commands:

  /ping                how long a ping takes to the server and back
  /close [CODE [WHY]]  close with this code, 1000 if there is none, and end
  //…                  a message that begins with one slash
";

/// After the end of the input: how long the client waits for another message before it closes.
const QUIET: Duration = Duration::from_secs(1);

/// The connection that is open now, to send pings.
type Current = Arc<Mutex<Option<Sender>>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, BoxError> {
    let current = Current::default();
    let Some(mut socket) = start(&current)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let mut states = socket.states();
    let mut lines = lines();
    let mut has_input = true;
    loop {
        tokio::select! {
            // what has come is shown before the end is
            biased;
            Some(message) = socket.recv() => show(&message),
            Some(state) = states.changed() => {
                if let Some(code) = tell(&state) {
                    return Ok(code);
                }
            }
            line = lines.recv(), if has_input => match line {
                Some(line) => obey(&line, &socket, &current).await,
                None => has_input = false,
            },
            () = sleep(QUIET), if !has_input && socket.state().is_open() => socket.close(CloseCode::NORMAL_CLOSURE, "").await?,
            () = ctrl_c() => socket.close(CloseCode::GOING_AWAY, "").await?,
        }
    }
}

/// Starts the connection that the command line describes. `None` if it asks for help.
fn start(current: &Current) -> Result<Option<ReconnectingWebSocket>, BoxError> {
    let (mut client, mut url, mut protocols, mut once) = (Client::new(), None, Vec::new(), false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('H') | Long("header") => {
                let header = arguments.value()?.string()?;
                let (name, value) = header.split_once(':').ok_or("a header is written as 'name: value'")?;
                client = client.try_header(name.trim(), value.trim())?;
            }
            Short('o') | Long("origin") => client = client.try_origin(arguments.value()?.string()?)?,
            Short('p') | Long("protocol") => protocols.push(arguments.value()?.string()?),
            Short('x') | Long("proxy") => {
                client = match arguments.value()?.string()?.as_str() {
                    "env" => client.proxy_from_env(),
                    proxy => client.try_proxy(proxy)?,
                };
            }
            Short('1') | Long("once") => once = true,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if url.is_none() => url = Some(value.string()?),
            unknown => return Err(unknown.unexpected().into()),
        }
    }
    let url = url.ok_or("connect to which URL? `--help` tells more")?;
    let current = Arc::clone(current);
    let mut reconnect =
        client.try_protocols(protocols)?.try_reconnecting(url)?.on_connect(move |socket: WebSocket| {
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket.sender());
            if let Some(protocol) = socket.protocol() {
                eprintln!("* subprotocol {protocol}");
            }
            async { Ok::<_, Error>(socket) }
        });
    if once {
        reconnect = reconnect.reconnect_if(|_| false);
    }
    Ok(Some(reconnect.start()))
}

/// The lines of the input. A thread of its own reads them, so that the program can end while it waits for a line.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Sends a line, or runs it if it is a command.
async fn obey(line: &str, socket: &ReconnectingWebSocket, current: &Current) {
    let mut words = line.splitn(3, ' ');
    match words.next() {
        Some("/ping") => {
            let sender = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tokio::spawn(async move {
                match sender {
                    Some(sender) => match sender.ping().await {
                        Ok(time) => eprintln!("* {time:.1?} there and back"),
                        Err(error) => eprintln!("* no answer: {error}"),
                    },
                    None => eprintln!("* not connected yet"),
                }
            });
        }
        Some("/close") => {
            let code = words.next().unwrap_or("1000").parse::<u16>();
            let reason = words.next().unwrap_or_default().to_owned();
            match code.map(|code| socket.close(code, reason)) {
                Ok(closing) => {
                    if let Err(error) = closing.await {
                        eprintln!("* {error}");
                    }
                }
                Err(_) => eprintln!("* a close code is a number: /close 1000 bye"),
            }
        }
        Some(word) if word.starts_with('/') && !word.starts_with("//") => {
            eprintln!("* no such command; a message that begins with a slash is written with two");
        }
        _ => {
            let text = line.strip_prefix('/').unwrap_or(line);
            if let Err(error) = socket.send(text.to_owned()).await {
                eprintln!("* not sent: {error}");
            }
        }
    }
}

fn show(message: &Message) {
    match message {
        // a server must not control the terminal
        Message::Text(text) if stdout().is_terminal() => println!("{}", printable(text)),
        Message::Text(text) => println!("{text}"),
        Message::Binary(bytes) => println!("{} bytes: {}", bytes.len(), hex(bytes)),
    }
}

/// Prints what the connection does. At its end, returns what the program ends with.
fn tell(state: &ReconnectState) -> Option<ExitCode> {
    match state {
        ReconnectState::Open => eprintln!("* connected"),
        ReconnectState::Waiting { delay, why, .. } => {
            eprintln!("* {}; next attempt in {delay:.1?}", reason(why));
        }
        ReconnectState::Ended { why: None, .. } => return Some(ExitCode::SUCCESS),
        ReconnectState::Ended { why: Some(why), .. } => {
            eprintln!("* {}", reason(why));
            return Some(ExitCode::FAILURE);
        }
        _ => {}
    }
    None
}

/// Why there is no connection, with the text of the server's answer.
fn reason(why: &Interruption) -> String {
    match why {
        Interruption::Closed(closed) if !closed.reason().is_empty() => {
            printable(&format!("{why}: {}", closed.reason()))
        }
        _ => printable(&why.to_string()),
    }
}

/// The text without characters that control a terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// The first bytes.
fn hex(bytes: &[u8]) -> String {
    let (shown, rest) = bytes.split_at(bytes.len().min(32));
    let shown: Vec<_> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{}", shown.join(" "), if rest.is_empty() { "" } else { " …" })
}
