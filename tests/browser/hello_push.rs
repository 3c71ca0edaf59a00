//! The example `hello_push`: greetings come, whatever happens to the server in between.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::driver::Browser;
use crate::support::Example;

fn opened(example: &Example) -> Browser {
    let browser = Browser::start();
    browser.open(example.page());
    browser
}

fn wait_for_state(browser: &Browser, state: &str) {
    browser.wait_for(&format!("document.querySelector('#state[data-state={state}]')"));
}

fn wait_for_greeting(browser: &Browser, greeting: &str) {
    browser.wait_for(&format!("document.querySelector('#latest').textContent === '{greeting}'"));
}

#[test]
fn greetings_come_every_two_seconds_unasked() {
    let example = Example::start("hello_push");
    let browser = opened(&example);
    wait_for_greeting(&browser, "Hello, number 1");
    let first = Instant::now();
    wait_for_greeting(&browser, "Hello, number 3");

    // a machine that is busy makes it more, but nothing makes it much less
    assert!(first.elapsed() > Duration::from_secs(3), "{:?}", first.elapsed());
    let greetings = browser.run(
        "return [...document.querySelectorAll('#greetings li span')].map(it => it.textContent)",
        &json!([]),
    );
    assert_eq!(greetings, json!(["Hello, number 3", "Hello, number 2", "Hello, number 1"]));
    assert_eq!(browser.text("#count"), "3");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn the_page_comes_back_after_a_deploy_and_after_a_crash() {
    let example = Example::start("hello_push");
    let address = example.address();
    let browser = opened(&example);
    wait_for_greeting(&browser, "Hello, number 1");

    example.interrupt();
    wait_for_state(&browser, "waiting");
    browser.wait_for("document.querySelector('#greetings li[data-code=\"1001\"]')");
    assert_eq!(example.finish(), [""; 0]);
    let example = Example::start_at("hello_push", &address);
    // the newest is on top
    browser.wait_for("document.querySelector('#greetings li[data-kind=greeting] ~ [data-code=\"1001\"]')");

    drop(example);
    wait_for_state(&browser, "waiting");
    browser.wait_for("document.querySelector('#detail').textContent.startsWith('no connection, again in')");
    let _example = Example::start_at("hello_push", &address);
    wait_for_state(&browser, "open");
    // it may have tried while there was no server, or one that was about to end
    let complaints = browser.console();
    assert!(complaints.iter().all(|it| it.contains("WebSocket connection to")), "{complaints:?}");
}

#[test]
fn the_keyboard_disconnects_and_connects() {
    let example = Example::start("hello_push");
    let browser = opened(&example);
    wait_for_greeting(&browser, "Hello, number 1");

    browser.press("#toggle", "\u{E007}");
    wait_for_state(&browser, "closed");
    browser.press("#toggle", " ");
    wait_for_state(&browser, "open");
    browser.wait_for("document.querySelector('#count').textContent >= 2");
    assert_eq!(browser.run("return document.activeElement.id", &json!([])), "toggle");
    assert_eq!(browser.console(), Vec::<String>::new());
}
