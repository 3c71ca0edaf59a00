//! The example `json`: users go out, and users or errors come back.

use serde_json::{Value, json};

use crate::driver::Browser;
use crate::support::Example;

const ENTER: &str = "\u{E007}";
const CONTROL: &str = "\u{E009}";

fn opened(example: &Example) -> Browser {
    let browser = Browser::start();
    browser.open(example.page());
    browser.wait_for("document.querySelector('#state[data-state=open]')");
    browser
}

/// Waits for the `count`th answer of this kind, and returns the newest.
fn answer(browser: &Browser, kind: &str, count: usize) -> String {
    let found = format!("document.querySelectorAll('#log [data-kind={kind}] span')");
    let text = browser.wait_for(&format!("{found}.length === {count} && {found}[0].textContent"));
    text.as_str().expect("an entry has text").to_owned()
}

fn user(browser: &Browser, count: usize) -> Value {
    serde_json::from_str(&answer(browser, "user", count)).expect("the page shows what came")
}

#[test]
fn a_user_goes_out_and_comes_back_with_a_number() {
    let example = Example::start("json");
    let browser = opened(&example);
    browser.fill("#name", "Grace ☃ <b>");
    browser.fill("#age", "85");
    browser.click("#user-form button");
    assert_eq!(user(&browser, 1), json!({ "id": 1, "name": "Grace ☃ <b>", "age": 85 }));

    browser.fill("#age", "");
    browser.press("#name", ENTER);
    assert_eq!(user(&browser, 2), json!({ "id": 2, "name": "Grace ☃ <b>", "age": null }));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn what_is_no_user_gets_an_error_and_the_connection_goes_on() {
    let example = Example::start("json");
    let browser = opened(&example);
    browser.fill("#raw", r#"{"name": "Ada","#);
    browser.click("#raw-form button");
    let error = answer(&browser, "error", 1);
    assert!(error.contains("at line 1 column 15"), "{error}");

    browser.fill("#age", "300");
    browser.click("#user-form button");
    let error = answer(&browser, "error", 2);
    assert!(error.contains("integer `300`, expected u8 at line 1"), "{error}");

    browser.fill("#raw", r#"{"name": "Ada"}"#);
    browser.press("#raw", &format!("{CONTROL}{ENTER}"));
    assert_eq!(user(&browser, 1), json!({ "id": 1, "name": "Ada", "age": null }));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn too_large_a_text_closes_with_1009_and_the_page_stays_away_until_told() {
    let example = Example::start("json");
    let browser = opened(&example);
    browser.fill("#raw", &"x".repeat(5000));
    browser.click("#raw-form button");
    browser.wait_for("document.querySelector('#state[data-state=closed]')");
    assert!(browser.text("#detail").starts_with("closed by the server: 1009"), "{}", browser.text("#detail"));

    browser.click("#user-form button");
    assert_eq!(browser.text("#problem"), "Not connected: nothing was sent.");
    browser.press("#toggle", ENTER);
    browser.wait_for("document.querySelector('#state[data-state=open]')");
    assert_eq!(browser.text("#problem"), "");
    browser.click("#user-form button");
    assert_eq!(user(&browser, 1)["name"], "Ada");
    assert_eq!(browser.console(), Vec::<String>::new());
}
