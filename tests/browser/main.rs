//! Real browsers: headless Chromium, on the pages of the examples and on small pages of our own, and Firefox on the latter.
//!
//! They need `chromedriver` and a Chromium that it finds, and `firefox-esr`; `scripts/test` installs all of them.

mod cable;
mod chat;
mod cluster;
mod connection;
mod driver;
mod firefox;
mod hello_push;
mod http2;
mod json;
mod long_way;
mod news_push;
mod page;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;

use axum::Router;
use axum::response::Html;
use axum::routing::{any, get};
use serde_json::json;
use ws_axum::{CloseCode, Drain, Error, OriginPolicy, WebSocket, WebSocketLayer, WebSocketUpgrade};

use driver::Browser;
use page::Page;
use support::{Example, Server};

// ---- The page of the example `echo`

#[test]
fn the_page_shows_the_subprotocol_that_the_server_prefers() {
    let example = Example::start("echo");
    let page = Page::open(&example);
    page.0.fill("#protocols", "json, echo");
    page.connect();

    assert_eq!(page.0.text("#protocol"), "echo");
    let note = page.wait_for_entry("[data-kind=open]", ".payload");
    assert!(note.ends_with("Subprotocol: echo. Extensions: none."), "{note}");
    page.assert_no_complaints();
}

#[test]
fn text_comes_back() {
    let example = Example::start("echo");
    let page = Page::connected(&example);
    page.exchange("Grüße, ☃");
    page.exchange("and again");

    assert_eq!(page.0.text("#sent"), "2");
    assert_eq!(page.0.text("#received"), "2");
    page.assert_no_complaints();
}

#[test]
fn a_file_of_900_kilobytes_comes_back() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("upload.bin");
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(900_000).collect();
    fs::write(&file, bytes).expect("the directory is cargo's, and there");
    let example = Example::start("echo");
    let page = Page::connected(&example);
    page.0.choose_file("#file", file.to_str().expect("a path in UTF-8"));
    page.0.click("#send");

    let sent = page.wait_for_entry("[data-direction=out][data-kind=binary]", ".payload");
    let received = page.wait_for_entry("[data-direction=in][data-kind=binary]", ".payload");
    assert!(sent.ends_with("899968 more bytes"), "{sent}");
    assert_eq!(sent, received);
    page.assert_no_complaints();
}

#[test]
fn measuring_draws_round_trips() {
    let example = Example::start("echo");
    let page = Page::connected(&example);
    page.0.click("#measure");

    page.0.wait_for("Number(document.querySelector('#rtt').dataset.samples) >= 2");
    assert!(page.0.text("#rtt-median").ends_with("ms"));
    page.assert_no_complaints();
}

#[test]
fn disconnecting_sends_the_code_and_the_reason() {
    let example = Example::start("echo");
    let page = Page::connected(&example);
    page.0.fill("#close-code", "3001");
    page.0.fill("#close-reason", "done here");
    page.0.click("#disconnect");

    // what the event tells is the server's answer, which repeats both
    assert_eq!(page.wait_for_close(), ["3001", "done here", "true"]);
    page.wait_for_state("closed");
    page.assert_no_complaints();
}

#[test]
fn ctrl_c_closes_with_1001_and_the_page_comes_back_after_the_deploy() {
    let example = Example::start("echo");
    let address = example.address();
    let page = Page::connected(&example);
    example.interrupt();

    assert_eq!(page.wait_for_close(), ["1001", "", "true"]);
    assert_eq!(example.finish(), [""; 0]);
    page.wait_for_state("waiting");
    let _example = Example::start_at("echo", &address);
    page.wait_for_state("open");
    page.exchange("still here");
}

#[test]
fn the_page_notices_that_the_server_is_killed_and_that_it_is_back() {
    let example = Example::start("echo");
    let address = example.address();
    let page = Page::connected(&example);
    drop(example);

    assert_eq!(page.wait_for_close(), ["1006", "", "false"]);
    let note = page.wait_for_entry("[data-kind=close][data-failed=false]", ".payload");
    assert!(note.starts_with("Connection lost: 1006"), "{note}");
    page.wait_for_state("waiting");
    let _example = Example::start_at("echo", &address);
    page.wait_for_state("open");
    page.exchange("still here");
}

// ---- Pages of our own

/// Opens a socket; `window.ended` is what becomes of it.
const OPEN: &str = "
    window.socket = new WebSocket(arguments[0]);
    window.ended = new Promise(resolve => {
      socket.onclose = ({ code, reason, wasClean }) => resolve([code, reason, wasClean]);
    });
    return Promise.race([new Promise(resolve => { socket.onopen = () => resolve('open'); }), ended]);";

/// Sends 900 KB of text and of bytes to a socket that echoes: how many bytes, and whether each came back the same.
const ECHO_900_KB: &str = "
    const text = '0123456789 Grüße, 🌍 '.repeat(36_000);
    const bytes = new TextEncoder().encode(text);
    socket.binaryType = 'arraybuffer';
    const reply = () => new Promise((resolve, reject) => {
      socket.onmessage = event => resolve(event.data);
      ended.then(reject);
    });
    return (async () => {
      socket.send(text);
      const sameText = await reply() === text;
      socket.send(bytes);
      const back = new Uint8Array(await reply());
      return [bytes.length, sameText, back.every((byte, at) => byte === bytes[at]) && back.length === bytes.length];
    })()";

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

/// A router with an empty page, and a socket that echoes.
fn page_and_echo() -> Router {
    Router::new()
        .route("/", get(async || Html("<!doctype html><title>empty</title><link rel=icon href=data:,>")))
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
}

#[test]
fn javascript_sees_the_code_that_the_server_closes_with() {
    let layer = WebSocketLayer::new().max_message_size(1000);
    let connections = layer.connections();
    let app = page_and_echo()
        .route_service("/returns", ws_axum::service(async |socket: WebSocket| drop(socket)))
        .route_service("/fails", ws_axum::service(async |_: WebSocket| Err::<(), _>("no database")))
        .route_service("/panics", ws_axum::service(async |_: WebSocket| -> () { panic!("on purpose") }))
        .route_service(
            "/says-bye",
            ws_axum::service(async |mut socket: WebSocket| socket.close(4002, "bye").await.map(drop)),
        )
        .layer(layer);
    let server = Server::start(app);
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));
    let close_of = |path: &str, provoke: &dyn Fn()| {
        assert_eq!(browser.run(OPEN, &json!([server.url("ws", path)])), "open", "{path}");
        provoke();
        browser.run("return ended", &json!([]))
    };

    let nothing = || ();
    assert_eq!(close_of("/returns", &nothing), json!([1000, "", true]));
    assert_eq!(close_of("/fails", &nothing)[0], 1011);
    assert_eq!(close_of("/panics", &nothing)[0], 1011);
    assert_eq!(close_of("/says-bye", &nothing), json!([4002, "bye", true]));
    let flood = || drop(browser.run("socket.send('x'.repeat(1001))", &json!([])));
    assert_eq!(close_of("/echo", &flood)[0], 1009);
    let drain = || assert_eq!(server.block_on(connections.drain(Drain::new())).aborted, 0);
    assert_eq!(close_of("/echo", &drain)[0], u16::from(CloseCode::GOING_AWAY));
}

#[test]
fn a_message_that_the_browser_fragments_comes_back_whole() {
    // a browser sends 900 KB in frames of its own choice, none of them as large as this
    let layer = WebSocketLayer::new().max_frame_size(256 * 1024);
    let server = Server::start(page_and_echo().layer(layer));
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));
    assert_eq!(browser.run(OPEN, &json!([server.url("ws", "/echo")])), "open");

    let same = browser.run(ECHO_900_KB, &json!([]));
    assert_eq!(same, json!([900_000, true, true]));
}

#[test]
fn the_browser_answers_pings() {
    let ping = async |mut socket: WebSocket| -> Result<(), Error> {
        socket.ping().await?;
        socket.close(4000, "answered").await.map(drop)
    };
    let server = Server::start(
        page_and_echo().route_service("/ping", ws_axum::service(ping)).layer(WebSocketLayer::new()),
    );
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));

    assert_eq!(browser.run(OPEN, &json!([server.url("ws", "/ping")])), "open");
    assert_eq!(browser.run("return ended", &json!([])), json!([4000, "answered", true]));
}

#[test]
fn a_foreign_page_is_refused_unless_its_origin_is_allowed() {
    let foreign = Server::start(page_and_echo());
    let guarded = Server::start(page_and_echo().layer(WebSocketLayer::new()));
    let allow = OriginPolicy::allow([foreign.url("http", "")]);
    let open = Server::start(page_and_echo().layer(WebSocketLayer::new().origin(allow)));
    let browser = Browser::start();
    browser.open(&foreign.url("http", "/"));

    assert_eq!(browser.run(OPEN, &json!([guarded.url("ws", "/echo")])), json!([1006, "", false]));
    let console = browser.console();
    assert!(console.len() == 1 && console[0].contains("Unexpected response code: 403"), "{console:?}");
    assert_eq!(browser.run(OPEN, &json!([open.url("ws", "/echo")])), "open");
}
