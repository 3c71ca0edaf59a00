//! The example `news_push`: a reader in one window, an editor in another.

use serde_json::{Value, json};

use crate::driver::Browser;
use crate::support::{Directory, Example};

const ENTER: &str = "\u{E007}";
const CONTROL: &str = "\u{E009}";

/// The example, and a browser with a window for a reader and one for an editor.
struct Windows {
    example: Example,
    token: String,
    browser: Browser,
    reader: String,
    editor: String,
}

impl Windows {
    fn open() -> Self {
        Self::open_with(&[])
    }

    /// With these variables in the environment of the example.
    fn open_with(variables: &[(&str, &str)]) -> Self {
        let example = Example::start_with("news_push", "127.0.0.1:0", variables);
        let given = variables.iter().find(|(name, _)| *name == "EDITOR_TOKEN");
        let printed = || example.find(|line| Some(line.strip_prefix("editor token: ")?.to_owned()));
        let token = given.map_or_else(printed, |(_, token)| (*token).to_owned());
        let browser = Browser::start();
        let [reader, editor] = [browser.new_window(), browser.new_window()];
        for window in [&reader, &editor] {
            browser.look_at(window);
            browser.open(example.page());
        }
        Self { example, token, browser, reader, editor }
    }

    /// The reader's window.
    fn reader(&self) -> &Browser {
        self.browser.look_at(&self.reader);
        &self.browser
    }

    /// The editor's window.
    fn editor(&self) -> &Browser {
        self.browser.look_at(&self.editor);
        &self.browser
    }

    fn open_desk(&self) {
        let editor = self.editor();
        editor.fill("#token", &self.token);
        editor.press("#token", ENTER);
        editor.wait_for("!document.querySelector('#desk').hidden");
    }

    /// Pushes news, and returns what the page says became of it.
    fn push(&self, to: &str, title: &str, text: &str) -> Value {
        let editor = self.editor();
        let results = "document.querySelectorAll('#results span')";
        let before = editor.run(&format!("return {results}.length"), &json!([]));
        editor.fill("#to", to);
        editor.fill("#title", title);
        editor.fill("#text", text);
        editor.press("#text", &format!("{CONTROL}{ENTER}"));
        editor.wait_for(&format!("{results}.length > {before} && {results}[0].textContent"))
    }

    /// Waits until so many news are there, and returns them, the newest first.
    fn news(&self, count: usize) -> Value {
        let found = "[...document.querySelectorAll('#news span')].map(it => it.innerText)";
        self.reader().wait_for(&format!("{found}.length === {count} && {found}"))
    }

    /// Kills the example, and starts it again on its address with these variables, when the reader's page has seen that.
    fn kill_and_start(self, variables: &[(&str, &str)]) -> Self {
        let address = self.example.address();
        self.example.kill();
        self.browser.look_at(&self.reader);
        wait_for_state(&self.browser, "waiting");
        Self { example: Example::start_with("news_push", &address, variables), ..self }
    }

    /// Nothing on the console, but that the server was away.
    fn assert_no_complaints_but_of_the_restart(&self) {
        for window in [self.reader(), self.editor()] {
            let complaints = window.console();
            // a browser says it in several ways
            let is_expected =
                |it: &String| it.contains("WebSocket connection to") || it.contains("net::ERR_");
            assert!(complaints.iter().all(is_expected), "{complaints:?}");
        }
    }

    fn assert_no_complaints(&self) {
        for window in [self.reader(), self.editor()] {
            assert_eq!(window.console(), Vec::<String>::new());
        }
    }
}

fn sign_in(window: &Browser, name: &str) {
    window.wait_for("!document.querySelector('#sign-in').hidden");
    window.fill("#name", name);
    window.press("#name", ENTER);
    wait_for_state(window, "open");
}

fn wait_for_state(browser: &Browser, state: &str) {
    browser.wait_for(&format!("document.querySelector('#state[data-state={state}]')"));
}

fn wait_for_users(editor: &Browser, users: &str) {
    editor.wait_for(&format!(
        "[...document.querySelectorAll('#users li')].map(it => it.dataset.user).join() === '{users}'"
    ));
}

#[test]
fn what_an_editor_pushes_is_at_once_before_the_reader_as_text() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna ☃");
    assert_eq!(windows.browser.text("#reader-title"), "News for anna ☃");
    windows.open_desk();
    wait_for_users(windows.editor(), "anna ☃");

    assert_eq!(
        windows.push("anna ☃", "<b>Rain</b>", "All day.\nBring a coat."),
        "anna ☃: sent on 1 connection"
    );
    assert_eq!(windows.news(1), json!(["<b>Rain</b>\nAll day.\nBring a coat."]));
    windows.assert_no_complaints();
}

#[test]
fn what_came_while_nobody_was_signed_in_is_there_at_the_next_login_in_order() {
    let windows = Windows::open();
    windows.open_desk();
    assert_eq!(windows.push("anna", "one", ""), "anna is away: stored for the next login");
    windows.push("anna", "two", "");
    sign_in(windows.reader(), "anna");
    assert_eq!(windows.news(2), json!(["two", "one"]));
    windows.push("anna", "three", "");
    assert_eq!(windows.news(3), json!(["three", "two", "one"]));

    // who signs out takes his news with him
    windows.reader().click("#sign-out");
    wait_for_state(windows.reader(), "closed");
    assert_eq!(windows.reader().run("return document.activeElement.id", &json!([])), "name");
    wait_for_users(windows.editor(), "");
    windows.push("anna", "four", "");
    sign_in(windows.reader(), "anna");
    assert_eq!(windows.news(1), json!(["four"]));
    windows.assert_no_complaints();
}

#[test]
fn who_is_sent_away_stays_away_until_he_presses_connect() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna");
    windows.open_desk();
    let editor = windows.editor();
    wait_for_users(editor, "anna");
    editor.press("#users button", ENTER);
    editor.wait_for("document.querySelector('#results span')?.textContent === 'anna: connection ended'");
    wait_for_users(editor, "");
    assert_eq!(editor.run("return document.activeElement.id", &json!([])), "refresh");

    let reader = windows.reader();
    wait_for_state(reader, "closed");
    assert!(reader.text("#detail").starts_with("closed by the server: 4003"), "{}", reader.text("#detail"));
    assert!(reader.text("#ending").starts_with("An editor has ended your connection."));
    assert_eq!(windows.push("anna", "meanwhile", ""), "anna is away: stored for the next login");
    wait_for_state(windows.reader(), "closed");
    windows.reader().press("#toggle", ENTER);
    assert_eq!(windows.news(1), json!(["meanwhile"]));
    assert_eq!(windows.reader().text("#ending"), "");
    windows.assert_no_complaints();
}

#[test]
fn a_window_that_signs_in_with_the_same_name_gets_the_news_and_the_other_says_so() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna");
    sign_in(windows.editor(), "anna");

    let reader = windows.reader();
    wait_for_state(reader, "closed");
    assert!(reader.text("#ending").starts_with("You have signed in once more, and the news goes there."));
    windows.open_desk();
    assert_eq!(windows.push("anna", "Rain", ""), "anna: sent on 1 connection");
    windows.editor().wait_for("document.querySelector('#news span')?.innerText === 'Rain'");
    windows.assert_no_complaints();
}

#[test]
fn a_window_does_not_go_on_with_the_session_of_another_user() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna");
    sign_in(windows.editor(), "ben");

    let reader = windows.reader();
    wait_for_state(reader, "closed");
    assert_eq!(reader.text("#reader-problem"), "Another window of this browser has signed in or out.");
    assert_eq!(reader.run("return document.querySelector('#news').hidden", &json!([])), true);
    windows.assert_no_complaints();
}

#[test]
fn a_reader_is_still_signed_in_when_the_page_is_loaded_again() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna");
    windows.reader().open(windows.example.page());
    wait_for_state(windows.reader(), "open");
    assert_eq!(windows.browser.text("#reader-title"), "News for anna");
    windows.assert_no_complaints();
}

#[test]
fn a_restart_comes_back_by_itself_as_far_as_the_form_to_sign_in() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna");
    let address = windows.example.address();
    windows.example.interrupt();
    wait_for_state(windows.reader(), "waiting");
    assert!(windows.browser.text("#detail").starts_with("closed by the server: 1012"));
    let Windows { example, browser, .. } = windows;
    example.finish();

    // with another key for sessions
    let _example = Example::start_at("news_push", &address);
    browser.wait_for(
        "document.querySelector('#reader-problem').textContent === 'You are not signed in any more.'",
    );
    wait_for_state(&browser, "closed");
    sign_in(&browser, "anna");
    let complaints = browser.console();
    let expected = ["HTTP Authentication failed", "status of 401", "net::ERR_CONNECTION_REFUSED"];
    assert!(
        complaints.iter().all(|complaint| expected.iter().any(|it| complaint.contains(it))),
        "{complaints:?}"
    );
}

#[test]
fn after_a_kill_a_page_comes_back_by_itself_and_shows_each_news_once_and_in_order() {
    let directory = Directory::new();
    let (data, key) = (directory.file("news.redb"), "5e".repeat(64));
    let variables =
        [("DATA", data.as_str()), ("SESSION_KEY", key.as_str()), ("EDITOR_TOKEN", "the editor's")];
    let windows = Windows::open_with(&variables);
    sign_in(windows.reader(), "anna");
    windows.open_desk();
    wait_for_users(windows.editor(), "anna");
    for title in ["one", "two"] {
        assert_eq!(windows.push("anna", title, ""), "anna: sent on 1 connection");
    }
    assert_eq!(windows.news(2), json!(["two", "one"]));

    let windows = windows.kill_and_start(&variables);
    // before the page is back, or after
    windows.push("anna", "three", "");
    windows.push("anna", "four", "");
    assert_eq!(windows.news(4), json!(["four", "three", "two", "one"]));
    assert_eq!(windows.reader().text("#ending"), "");

    // a page that is loaded again goes on as well
    windows.reader().open(windows.example.page());
    wait_for_state(windows.reader(), "open");
    windows.push("anna", "five", "");
    assert_eq!(windows.news(1), json!(["five"]));
    windows.assert_no_complaints_but_of_the_restart();
}

/// From the next connection on a page gets each message twice.
const TWICE: &str = "const Once = WebSocket;
    window.WebSocket = class extends Once {
      set onmessage(take) { super.onmessage = take && ((event) => { take(event); take(event); }); }
    };";

#[test]
fn a_page_that_gets_news_twice_shows_it_once() {
    let windows = Windows::open();
    sign_in(windows.reader(), "anna");
    windows.browser.run(TWICE, &json!([]));
    windows.browser.click("#toggle");
    wait_for_state(&windows.browser, "closed");
    windows.open_desk();
    wait_for_users(windows.editor(), "");
    for title in ["one", "two"] {
        assert_eq!(windows.push("anna", title, ""), "anna is away: stored for the next login");
    }
    windows.reader().click("#toggle");
    assert_eq!(windows.news(2), json!(["two", "one"]));
    windows.push("anna", "three", "");
    assert_eq!(windows.news(3), json!(["three", "two", "one"]));
    windows.assert_no_complaints();
}

#[test]
fn a_page_whose_news_is_gone_says_so_and_shows_what_comes() {
    let key = "5e".repeat(64);
    let variables = [("SESSION_KEY", key.as_str()), ("EDITOR_TOKEN", "the editor's")];
    let windows = Windows::open_with(&variables);
    sign_in(windows.reader(), "anna");
    windows.open_desk();
    wait_for_users(windows.editor(), "anna");
    for title in ["one", "two"] {
        windows.push("anna", title, "");
    }
    assert_eq!(windows.news(2), json!(["two", "one"]));

    // without a file: the numbers of the news begin again
    let windows = windows.kill_and_start(&variables);
    windows.push("anna", "three", "");
    assert_eq!(windows.news(3), json!(["three", "two", "one"]));
    let ending = windows.reader().text("#ending");
    assert!(ending.ends_with("News may be missing here."), "{ending}");
    windows.assert_no_complaints_but_of_the_restart();
}

#[test]
fn a_wrong_token_and_a_wrong_name_are_said_to_be_so() {
    let windows = Windows::open();
    let editor = windows.editor();
    editor.fill("#token", "secret");
    editor.press("#token", ENTER);
    editor.wait_for(
        "document.querySelector('#editor-problem').textContent.includes('token is missing or wrong')",
    );
    assert_eq!(editor.run("return document.querySelector('#desk').hidden", &json!([])), true);

    let reader = windows.reader();
    reader.fill("#name", "☃☃☃☃☃☃☃☃☃☃☃");
    reader.press("#name", ENTER);
    reader.wait_for(
        "document.querySelector('#reader-problem').textContent.startsWith('a name has 1 to 32 bytes')",
    );
    let complaints: Vec<_> = [windows.editor().console(), windows.reader().console()].concat();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints.iter().any(|it| it.contains("/users") && it.contains("401")), "{complaints:?}");
    assert!(complaints.iter().any(|it| it.contains("/session") && it.contains("422")), "{complaints:?}");
}
