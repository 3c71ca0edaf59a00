//! The module `connection.js` of the examples' pages: when it comes back, and when it does not.

use axum::Router;
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::{any, get};
use serde_json::json;
use ws_axum::{CloseCode, WebSocket, WebSocketLayer, WebSocketUpgrade};

use crate::driver::Browser;
use crate::support::Server;

/// A server whose `/close/{code}/{reason}` closes so, and whose `/pong/{count}` answers that many heartbeats, and then
/// falls silent.
fn server() -> Server {
    let close = async |Path((code, reason)): Path<(u16, String)>, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket: WebSocket| socket.close(code, reason).await.map(drop))
    };
    let pong = async |Path(count): Path<usize>, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket: WebSocket| {
            for _ in 0..count {
                let Some(heartbeat) = socket.recv().await else { break };
                assert_eq!(heartbeat?.as_text(), Some("ping"));
                socket.send("pong").await?;
            }
            socket.send("that was all").await?;
            while socket.recv().await.is_some() {}
            Ok::<_, ws_axum::Error>(())
        })
    };
    let module = ([(CONTENT_TYPE, "text/javascript")], include_str!("../../examples/src/connection.js"));
    let app = Router::new()
        .route("/", get(async || Html("<!doctype html><title>empty</title><link rel=icon href=data:,>")))
        .route("/connection.js", get(async move || module))
        .route("/close/{code}/{reason}", any(close))
        .route("/pong/{count}", any(pong))
        .layer(WebSocketLayer::new());
    Server::start(app)
}

/// The state of a connection after it was closed so, and in how many milliseconds it comes back.
fn after(browser: &Browser, code: u16, reason: &str) -> (String, f64) {
    let script = "
        return (async path => {
          const { Connection } = await import('/connection.js');
          const connection = new Connection(path);
          await new Promise(closed => connection.addEventListener('close', closed, { once: true }));
          const found = [connection.state, connection.retryAt - Date.now()];
          connection.close();
          return found;
        })(arguments[0])";
    let found = browser.run(script, &json!([format!("/close/{code}/{reason}")]));
    serde_json::from_value(found).expect("a state and a time")
}

#[test]
fn a_page_comes_back_after_the_codes_that_the_library_says() {
    let server = server();
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));

    let others = [3000, 3001, 3002, 3003, 3004, 3008, 3100, 3499, 3500, 4001, 4099, 4100, 4199, 4200];
    for code in (1000..=1003).chain(1007..=1014).chain(others) {
        let state = if CloseCode::from(code).should_reconnect() { "waiting" } else { "closed" };
        assert_eq!(after(&browser, code, "bye").0, state, "{code}");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_page_comes_back_when_the_server_says_and_else_at_random() {
    let server = server();
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));

    let (state, wait) = after(&browser, 1012, "retry-after=60");
    assert_eq!(state, "waiting");
    assert!(wait <= 60_000.0 && wait > 50_000.0, "{wait}");
    let waits = [(); 5].map(|()| after(&browser, 1012, "bye").1);
    assert!(waits.iter().all(|wait| *wait <= 500.0), "{waits:?}");
    assert!(waits.iter().any(|wait| (wait - waits[0]).abs() > 1.0), "{waits:?}");
}

#[test]
fn a_page_that_asks_to_close_stays_away_until_it_asks_to_connect() {
    let server = server();
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));

    let states = browser.run(
        "return (async () => {
           const { Connection } = await import('/connection.js');
           const connection = new Connection('/close/1012/retry-after=60');
           const states = [connection.state];
           connection.addEventListener('state', () => states.push(connection.state));
           const become = state => new Promise(done => {
             connection.addEventListener('state', () => { if (connection.state === state) done(); });
           });
           await become('waiting');
           connection.close();
           connection.send('nobody hears this') && states.push('sent');
           connection.connect('/close/4001/bye');
           await become('closed');
           return states;
         })()",
        &json!([]),
    );
    let expected = json!(["connecting", "open", "waiting", "closed", "connecting", "open", "closed"]);
    assert_eq!(states, expected);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_page_with_a_heartbeat_goes_on_while_it_is_answered_and_leaves_a_server_that_is_silent() {
    let server = server();
    let browser = Browser::start();
    browser.open(&server.url("http", "/"));

    let seen = browser.run(
        "return (async () => {
           const { Connection } = await import('/connection.js');
           const connection = new Connection('/pong/3', { heartbeat: 1000 });
           const seen = [];
           connection.addEventListener('message', ({ data }) => seen.push(data, connection.state));
           await new Promise(closed => connection.addEventListener('close', closed, { once: true }));
           seen.push(connection.state, connection.ending.code);
           connection.close();
           return seen;
         })()",
        &json!([]),
    );
    assert_eq!(seen, json!(["that was all", "open", "waiting", 1006]));
    assert_eq!(browser.console(), Vec::<String>::new());
}
