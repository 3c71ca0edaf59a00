//! The example `shutdown`: what two windows see of a deploy.

use serde_json::json;

use crate::driver::Browser;
use crate::support::Example;

/// Waits until the page says `open`, `waiting`, …
fn wait_for_state(browser: &Browser, state: &str) {
    browser.wait_for(&format!("document.querySelector('#state[data-state={state}]')"));
}

#[test]
fn a_deploy_sends_two_windows_away_and_both_come_back() {
    let example = Example::start("shutdown");
    let address = example.address();
    let browser = Browser::start();
    let windows = [browser.new_window(), browser.new_window()];
    for window in &windows {
        browser.look_at(window);
        browser.open(example.page());
        wait_for_state(&browser, "open");
        browser.wait_for("document.querySelector('#clock').textContent.startsWith('server counts')");
    }
    assert_eq!(browser.console(), Vec::<String>::new());
    example.interrupt();

    for window in &windows {
        browser.look_at(window);
        let close = browser.wait_for("document.querySelector('#log li[data-kind=close]')?.dataset");
        assert_eq!(close["code"], "1012");
        let reason = close["reason"].as_str().expect("an attribute is text");
        let seconds = reason.strip_prefix("retry-after=").and_then(|it| it.parse::<u32>().ok());
        assert!(seconds.is_some_and(|seconds| (1..=5).contains(&seconds)), "{reason}");
    }
    assert_eq!(example.finish(), ["2 closed, 0 dropped at the deadline"]);

    let _example = Example::start_at("shutdown", &address);
    for window in &windows {
        browser.look_at(window);
        browser.wait_for("document.querySelectorAll('#log li[data-kind=open]').length === 2");
        wait_for_state(&browser, "open");
    }
    // a window may have tried before the server was there again
    let complaints = browser.console();
    assert!(complaints.iter().all(|it| it.contains("net::ERR_CONNECTION_REFUSED")), "{complaints:?}");
}

#[test]
fn who_waits_can_connect_at_once_by_the_keyboard() {
    let example = Example::start("shutdown");
    let address = example.address();
    let browser = Browser::start();
    browser.open(example.page());
    wait_for_state(&browser, "open");
    // from here on it does not come back by itself
    browser.run(
        "const later = window.setTimeout;
         window.setTimeout = (call, time, ...rest) => time < 1000 && later(call, time, ...rest);
         document.querySelector('#toggle').focus();",
        &json!([]),
    );
    example.interrupt();
    example.finish();
    let _example = Example::start_at("shutdown", &address);

    wait_for_state(&browser, "waiting");
    browser.press("#toggle", "\u{E007}");
    wait_for_state(&browser, "open");
    assert_eq!(browser.run("return document.activeElement.id", &json!([])), "toggle");
    assert_eq!(browser.console(), Vec::<String>::new());
}
