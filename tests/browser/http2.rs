//! WebSockets over HTTP/2 (RFC 8441), with TLS, as the example `hyper_echo` serves them.
//!
//! A browser opens one there if it has a connection already, and the server has said that it may: that is what the page
//! is opened for, which is no more than the server's refusal of a request that is no upgrade.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::driver::Browser;
use crate::support::Example;
use crate::{ECHO_900_KB, OPEN};

/// A browser that has come by HTTP/2, and has a socket open. Its account of the network goes to `log`.
fn opened(example: &Example, log: &str) -> Browser {
    let browser = Browser::start_with(&["--ignore-certificate-errors", &format!("--log-net-log={log}")]);
    browser.open(example.page());
    let protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert_eq!(browser.run(protocol, &json!([])), "h2");
    assert_eq!(browser.run(OPEN, &json!([example.socket()])), "open");
    browser
}

/// Where a browser may write what it does on the network.
fn log_file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    path.into_os_string().into_string().expect("a path in UTF-8")
}

/// The events of this name in a browser's account of the network, which is whole once the browser has ended.
fn events(log: &Value, name: &str) -> Vec<Value> {
    let number = &log["constants"]["logEventTypes"][name];
    assert!(number.is_number(), "Chromium knows no event {name}");
    let events = log["events"].as_array().expect("a log has events");
    events.iter().filter(|event| event["type"] == *number).map(|event| event["params"].clone()).collect()
}

/// Whether these are the parameters of an event about headers, and `header` is one of them.
fn has(params: &Value, header: &str) -> bool {
    params["headers"].as_array().is_some_and(|headers| headers.iter().any(|it| it == header))
}

#[test]
fn a_websocket_is_a_stream_of_the_connection_that_the_browser_has() {
    let example = Example::start("hyper_echo");
    let file = log_file("net-log.json");
    let browser = opened(&example, &file);
    let text = "const back = new Promise(resolve => { socket.onmessage = ({ data }) => resolve(data); });
         socket.send('Grüße, ☃');
         return Promise.race([back, ended])";
    assert_eq!(browser.run(text, &json!([])), "Grüße, ☃");
    assert_eq!(browser.run(ECHO_900_KB, &json!([])), json!([900_000, true, true]));
    assert_eq!(browser.run("socket.close(1000); return ended", &json!([])), json!([1000, "", true]));
    drop(browser);

    let log = serde_json::from_slice(&fs::read(file).expect("the log is there")).expect("it is JSON");
    assert_eq!(events(&log, "HTTP2_SESSION_RECV_SETTINGS").len(), 1, "of one connection");
    let sent = events(&log, "HTTP2_SESSION_SEND_HEADERS");
    let handshake = sent.iter().find(|it| has(it, ":protocol: websocket")).expect("an extended CONNECT");
    assert!(has(handshake, ":method: CONNECT") && has(handshake, ":path: /echo"), "{handshake}");
    let received = events(&log, "HTTP2_SESSION_RECV_HEADERS");
    let answer = received.iter().find(|it| it["stream_id"] == handshake["stream_id"]).expect("an answer");
    assert!(has(answer, ":status: 200"), "{answer}");
}

#[test]
fn ctrl_c_closes_with_1001_and_the_connection_does_not_keep_the_server() {
    let example = Example::start("hyper_echo");
    let browser = opened(&example, &log_file("net-log-of-ctrl-c.json"));
    example.interrupt();

    assert_eq!(browser.run("return ended", &json!([])), json!([1001, "", true]));
    assert_eq!(example.finish(), [""; 0]);
}
