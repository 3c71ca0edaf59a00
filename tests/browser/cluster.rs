//! The example `cluster`: a page whose node is killed.

use serde_json::{Value, json};

use crate::driver::Browser;
use crate::support::Example;

/// The node that the page is connected to, counted from 1 as the page does.
fn node_of(browser: &Browser) -> u64 {
    let node =
        "1 + [...document.querySelectorAll('#nodes > li')].findIndex(it => it.dataset.mine === 'true')";
    browser.wait_for(node).as_u64().expect("a number")
}

/// Waits until a node runs, or does not.
fn wait_until_runs(browser: &Browser, node: u64, runs: bool) {
    browser.wait_for(&format!("document.querySelector('#nodes > li:nth-child({node})[data-runs={runs}]')"));
}

/// What the page shows of messages, the oldest first.
const MESSAGES: &str = "[...document.querySelectorAll('#messages span')].map(it => it.textContent).reverse()";

fn wait_for_messages(browser: &Browser, count: usize) -> Value {
    browser.wait_for(&format!("{MESSAGES}.length >= {count} && {MESSAGES}"))
}

fn start() -> (Example, Browser) {
    let example = Example::start("cluster");
    let browser = Browser::start();
    browser.open(example.page());
    browser.wait_for("document.querySelector('#state[data-state=open]')");
    (example, browser)
}

/// Nothing on the console, but that a node was away.
fn assert_no_complaints(browser: &Browser) {
    let complaints = browser.console();
    let is_expected = |it: &String| it.contains("WebSocket connection to") || it.contains("net::ERR_");
    assert!(complaints.iter().all(is_expected), "{complaints:?}");
}

#[test]
fn a_node_that_is_killed_in_the_middle_of_a_burst_costs_its_user_nothing() {
    let (example, browser) = start();
    let node = node_of(&browser);
    browser.click("#burst");
    wait_for_messages(&browser, 10);
    browser.click(&format!("#nodes > li:nth-child({node}) .kill"));
    wait_until_runs(&browser, node, false);

    let all = browser.wait_for(&format!("{MESSAGES}.includes('60 of 60') && {MESSAGES}"));
    let expected: Vec<_> = (1..=60).map(|number| format!("{number} of 60")).collect();
    assert_eq!(all, json!(expected));
    let numbers =
        "return [...document.querySelectorAll('#messages li')].map(it => it.dataset.number).reverse()";
    let expected: Vec<_> = (1..=60).map(|number| number.to_string()).collect();
    assert_eq!(browser.run(numbers, &json!([])), json!(expected));
    // it has moved, and was told that nothing is missing
    assert_ne!(node_of(&browser), node);
    browser.wait_for("document.querySelector('#notes [data-kind=resumed]')");
    assert_eq!(
        browser.run("return document.querySelectorAll('#notes [data-kind=missing]').length", &json!([])),
        0
    );
    assert_no_complaints(&browser);
    example.interrupt();
    assert_eq!(example.finish(), [""; 0]);
}

#[test]
fn a_node_that_is_started_again_can_be_connected_to_and_sent_through() {
    let (example, browser) = start();
    let node = node_of(&browser);
    browser.click(&format!("#nodes > li:nth-child({node}) .kill"));
    wait_until_runs(&browser, node, false);
    browser.wait_for("document.querySelector('#notes [data-kind=close]')");
    browser.wait_for("document.querySelector('#state[data-state=open]')");
    browser.click(&format!("#nodes > li:nth-child({node}) .start"));
    wait_until_runs(&browser, node, true);

    browser.click(&format!("#nodes > li:nth-child({node}) [aria-label^=Connect]"));
    browser.wait_for(&format!("document.querySelector('#nodes > li:nth-child({node})[data-mine=true]')"));
    let you = format!(
        "document.querySelector('#nodes > li:nth-child({node}) .users').textContent.endsWith('(you)')"
    );
    browser.wait_for(&you);
    for through in 1..=3 {
        browser.click(&format!("#nodes > li:nth-child({through}) [aria-label^=Send]"));
        wait_for_messages(&browser, through);
    }
    assert_eq!(
        browser.run(&format!("return {MESSAGES}"), &json!([])),
        json!(["through node 1", "through node 2", "through node 3"])
    );
    assert_no_complaints(&browser);
    example.interrupt();
    assert_eq!(example.finish(), [""; 0]);
}

#[test]
fn two_windows_are_two_users_and_one_writes_to_the_other() {
    let (example, browser) = start();
    let name = browser.text("#me");
    let windows = [browser.new_window(), browser.new_window()];
    let names = windows.each_ref().map(|window| {
        browser.look_at(window);
        browser.open(example.page());
        browser.wait_for("document.querySelector('#state[data-state=open]')");
        browser.text("#me")
    });
    assert_ne!(names[0], names[1]);
    assert!(!names.contains(&name), "{names:?} {name}");
    browser.fill("#to", &names[0]);
    for through in 1..=3 {
        browser.click(&format!("#nodes > li:nth-child({through}) [aria-label^=Send]"));
    }
    browser.look_at(&windows[0]);
    wait_for_messages(&browser, 3);
    browser.look_at(&windows[1]);
    assert_eq!(browser.run(&format!("return {MESSAGES}"), &json!([])), json!([]));
    assert_no_complaints(&browser);
}
