//! The example `chat`: what two people in two windows of one browser see of each other.

use serde_json::{Value, json};

use crate::cable::Cable;
use crate::driver::Browser;
use crate::support::Example;

const ENTER: &str = "\u{E007}";
const TAB: &str = "\u{E004}";

/// A window with the page, and the one who has signed in there.
struct Window<'a> {
    browser: &'a Browser,
    handle: String,
}

impl<'a> Window<'a> {
    /// Opens the page in a new window, and signs in.
    fn of(name: &str, browser: &'a Browser, example: &Example) -> Self {
        Self::at(example.page(), name, browser)
    }

    /// The same, with the page at this address.
    fn at(url: &str, name: &str, browser: &'a Browser) -> Self {
        let window = Self { browser, handle: browser.new_window() };
        window.page().open(url);
        window.page().fill("#name", name);
        window.page().press("#name", ENTER);
        window.wait_for_state("open");
        window.wait_for("document.querySelector('#rooms button')");
        window
    }

    fn page(&self) -> &Browser {
        self.browser.look_at(&self.handle);
        self.browser
    }

    fn wait_for(&self, expression: &str) -> Value {
        self.page().wait_for(expression)
    }

    fn wait_for_state(&self, state: &str) {
        self.wait_for(&format!("document.querySelector('#state[data-state={state}]')"));
    }

    /// Waits until those in the room, or whether the other one is there, is this.
    fn wait_for_who(&self, who: &str) {
        self.wait_for(&format!("document.querySelector('#who').textContent === '{who}'"));
    }

    /// Joins a room, or begins a conversation.
    fn begin(&self, field: &str, name: &str) {
        self.page().fill(field, name);
        self.page().press(field, ENTER);
        self.wait_for(&format!("document.querySelector('#title').textContent.endsWith({})", json!(name)));
    }

    /// Chooses the conversation of this name in the list, which says that so many messages are not read.
    fn choose(&self, name: &str, unread: &str) {
        let button = format!(
            "[...document.querySelectorAll('.list button')]
               .find(it => it.querySelector('bdi').textContent === {}
                 && it.querySelector('.badge').textContent === '{unread}')",
            json!(name),
        );
        self.wait_for(&button);
        self.page().run(&format!("({button}).click()"), &json!([]));
    }

    fn write(&self, text: &str) {
        self.page().fill("#text", text);
        self.page().press("#text", ENTER);
    }

    /// Writes so many messages at once: the numbers from `first` on.
    fn write_numbers(&self, first: usize, count: usize) {
        let script = "for (let n = arguments[0]; n < arguments[0] + arguments[1]; n += 1) {
            document.querySelector('#text').value = n;
            document.querySelector('#say').requestSubmit();
        }";
        self.page().run(script, &json!([first, count]));
    }

    /// Waits until the server has said of so many messages what became of them.
    fn wait_for_fates(&self, count: usize) {
        self.wait_for(&format!("document.querySelectorAll('[data-fate]').length === {count}"));
    }

    /// Waits until the conversation that is shown is the numbers below this one, in order, from the other one.
    fn wait_for_numbers(&self, end: usize) {
        let numbers: Vec<_> = (0..end).map(|number| number.to_string()).collect();
        self.wait_for(&format!(
            "JSON.stringify([...document.querySelectorAll('.log:not([hidden]) [data-kind=theirs] > span')]
               .map(it => it.textContent)) === {}",
            json!(json!(numbers).to_string()),
        ));
    }

    /// Waits until the conversation that is shown is these texts, with who wrote them or what became of them.
    fn wait_for_messages(&self, messages: &[(&str, &str)]) {
        self.wait_for(&format!(
            "JSON.stringify([...document.querySelectorAll('.log:not([hidden]) li:not([data-kind=note])')].map(it =>
               [it.querySelector('bdi, .fate').textContent, it.querySelector(':scope > span').textContent])) === {}",
            json!(json!(messages).to_string()),
        ));
    }

    fn assert_no_complaints(&self) {
        assert_eq!(self.page().console(), Vec::<String>::new());
    }
}

#[test]
fn two_windows_are_two_users_who_talk_in_a_room() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let anna = Window::of("anna", &browser, &example);
    anna.wait_for_who("anna");
    let bea = Window::of(" bea ", &browser, &example);
    for window in [&anna, &bea] {
        window.wait_for_who("anna, bea");
    }

    anna.write("Grüße, ☃");
    bea.wait_for_messages(&[("anna", "Grüße, ☃")]);
    bea.write("and\u{E008}\u{E007}\u{E008}two lines");
    anna.wait_for_messages(&[("sent", "Grüße, ☃"), ("bea", "and\ntwo lines")]);
    bea.wait_for_messages(&[("anna", "Grüße, ☃"), ("sent", "and\ntwo lines")]);

    // the cookies are of a window each: after a reload each is who it was
    for (window, name) in [(&anna, "anna"), (&bea, "bea")] {
        window.page().open(example.page());
        window.wait_for_state("open");
        assert_eq!(window.page().text("#me"), name);
        window.wait_for_who("anna, bea");
        window.assert_no_complaints();
    }
}

#[test]
fn who_comes_and_goes_is_seen() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let anna = Window::of("anna", &browser, &example);
    assert_eq!(anna.page().text("#people"), "");

    let bea = Window::of("bea", &browser, &example);
    anna.wait_for("document.querySelector('#people button[data-online=true]')");
    anna.wait_for("document.querySelector('[data-kind=note]')?.textContent.endsWith('bea is here')");
    bea.begin("#room", "deploys");
    anna.begin("#room", "deploys");
    anna.wait_for_who("anna, bea");
    bea.page().click("#leave");
    anna.wait_for_who("anna");

    bea.page().click("#sign-out");
    anna.wait_for("document.querySelector('#people').textContent === ''");
    bea.page().open(example.page());
    bea.wait_for("!document.querySelector('#entrance').hidden");
    anna.choose("lobby", "");
    anna.wait_for_who("anna");
    anna.assert_no_complaints();
    bea.assert_no_complaints();
}

#[test]
fn a_message_to_one_user_is_for_him_alone() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let anna = Window::of("anna", &browser, &example);
    let bea = Window::of("bea", &browser, &example);
    let carl = Window::of("carl", &browser, &example);

    anna.choose("bea", "");
    anna.wait_for_who("online");
    anna.write("between us");
    anna.wait_for_messages(&[("sent", "between us")]);
    bea.wait_for("document.title === '(1) ws chat'");
    bea.choose("anna", "1");
    bea.write("of course");
    anna.wait_for_messages(&[("sent", "between us"), ("bea", "of course")]);
    bea.wait_for("document.title === 'ws chat'");

    carl.write("anybody here?");
    bea.choose("lobby", "1");
    bea.wait_for_messages(&[("carl", "anybody here?")]);
    assert_eq!(carl.page().run("return document.title", &json!([])), "ws chat");
    for window in [&anna, &bea, &carl] {
        window.assert_no_complaints();
    }
}

#[test]
fn messages_wait_for_who_is_away_and_come_before_new_ones() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let anna = Window::of("anna", &browser, &example);
    anna.begin("#person", "bea");
    anna.wait_for_who("away");
    anna.write("one");
    anna.write("two");
    let waits = "waits for the next login";
    anna.wait_for_messages(&[(waits, "one"), (waits, "two")]);

    let bea = Window::of("bea", &browser, &example);
    anna.wait_for_who("online");
    anna.write("three");
    bea.choose("anna", "3");
    bea.wait_for_messages(&[("anna", "one"), ("anna", "two"), ("anna", "three")]);
    anna.wait_for_messages(&[(waits, "one"), (waits, "two"), ("sent", "three")]);
    anna.assert_no_complaints();
    bea.assert_no_complaints();
}

#[test]
fn a_second_login_takes_over_until_the_first_window_takes_it_back() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let bea = Window::of("bea", &browser, &example);
    let first = Window::of("anna", &browser, &example);
    first.begin("#room", "deploys");
    let second = Window::of("anna", &browser, &example);

    // in this state it waits for nothing but its user
    first.wait_for_state("closed");
    first.wait_for("!document.querySelector('#replaced').hidden");
    // the user was not away, and so is still in his rooms
    second.choose("deploys", "");
    second.wait_for_who("anna");

    first.page().click("#use-here");
    first.wait_for_state("open");
    second.wait_for_state("closed");
    assert_eq!(first.page().run("return document.activeElement.id", &json!([])), "text");
    assert_eq!(first.page().run("return document.querySelector('#replaced').hidden", &json!([])), true);
    bea.choose("anna", "");
    bea.write("which of you?");
    first.choose("bea", "1");
    first.wait_for_messages(&[("bea", "which of you?")]);

    // what the other window got meanwhile is not missing here
    second.page().click("#use-here");
    second.wait_for_state("open");
    bea.write("and now?");
    second.choose("bea", "1");
    second.wait_for_messages(&[("bea", "and now?")]);
    first.page().click("#use-here");
    first.wait_for_messages(&[("bea", "which of you?"), ("bea", "and now?")]);
    assert_eq!(first.page().run("return document.querySelector('#gap').hidden", &json!([])), true);
    bea.choose("lobby", "");
    let notes = bea.page().text(".log:not([hidden])");
    assert!(notes.ends_with("anna is here") && !notes.contains("anna has left"), "{notes}");
    for window in [&bea, &first, &second] {
        window.assert_no_complaints();
    }
}

#[test]
fn after_a_deploy_both_are_back_in_their_rooms_and_nothing_is_shown_twice() {
    let example = Example::start("chat");
    let address = example.address();
    let browser = Browser::start();
    let windows = [Window::of("anna", &browser, &example), Window::of("bea", &browser, &example)];
    for window in &windows {
        window.begin("#room", "deploys");
        window.wait_for_who(if window.handle == windows[0].handle { "anna" } else { "anna, bea" });
    }
    let [anna, bea] = &windows;
    anna.write("before");
    bea.wait_for_messages(&[("anna", "before")]);
    for window in &windows {
        window.assert_no_complaints();
    }

    example.interrupt();
    for window in &windows {
        window.wait_for_state("waiting");
    }
    assert_eq!(example.finish(), [""; 0]);
    let _example = Example::start_at("chat", &address);
    for window in &windows {
        window.wait_for_state("open");
    }
    for window in &windows {
        window.wait_for_who("anna, bea");
    }
    anna.write("after");
    bea.wait_for_messages(&[("anna", "before"), ("anna", "after")]);
    anna.wait_for_messages(&[("sent", "before"), ("sent", "after")]);
}

#[test]
fn the_page_leaves_a_server_that_is_silent_and_is_back_when_it_is() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let anna = Window::of("anna", &browser, &example);
    anna.begin("#room", "deploys");
    example.signal("STOP");
    anna.write("hello?");
    anna.wait_for_messages(&[("sending…", "hello?")]);
    let lost = "perhaps lost: the connection ended";
    anna.wait_for_messages(&[(lost, "hello?")]);
    example.signal("CONT");

    anna.wait_for_state("open");
    anna.wait_for_who("anna");
    anna.write("still here");
    anna.wait_for_messages(&[(lost, "hello?"), ("sent", "still here")]);
}

#[test]
fn who_is_cut_off_in_a_burst_of_direct_messages_sees_each_once_and_in_order() {
    const PART: usize = 15;
    let example = Example::start("chat");
    let cable = Cable::to(&example);
    let browser = Browser::start();
    let bea = Window::of("bea", &browser, &example);
    let anna = Window::at(&cable.page(), "anna", &browser);
    anna.begin("#person", "bea");
    bea.begin("#person", "anna");
    for burst in 0..3 {
        let first = burst * 3 * PART;
        bea.write_numbers(first, PART);
        anna.wait_for_numbers(first + PART);
        // the server sends these, and they do not arrive
        cable.stall();
        bea.write_numbers(first + PART, PART);
        bea.wait_for_fates(first + 2 * PART);
        // and these come while nobody is there, and after that
        bea.write_numbers(first + 2 * PART, PART);
        cable.cut();
        anna.wait_for_numbers(first + 3 * PART);
        bea.wait_for_fates(first + 3 * PART);
    }
    assert_eq!(anna.page().run("return document.querySelector('#gap').hidden", &json!([])), true);

    // a page that is loaded again goes on, too
    anna.page().open("about:blank");
    bea.write("while you loaded the page");
    anna.page().open(&cable.page());
    anna.wait_for_state("open");
    anna.choose("bea", "1");
    anna.wait_for_messages(&[("bea", "while you loaded the page")]);
    assert_eq!(anna.page().run("return document.querySelector('#gap').hidden", &json!([])), true);
}

#[test]
fn who_comes_back_to_a_server_that_has_forgotten_what_they_missed_is_told() {
    let example = Example::start("chat");
    let address = example.address();
    let browser = Browser::start();
    let bea = Window::of("bea", &browser, &example);
    let anna = Window::of("anna", &browser, &example);
    anna.begin("#person", "bea");
    bea.begin("#person", "anna");
    for text in ["one", "two"] {
        bea.write(text);
    }
    anna.wait_for_messages(&[("bea", "one"), ("bea", "two")]);
    drop(example);
    for window in [&anna, &bea] {
        window.wait_for("document.querySelector('#state').dataset.state !== 'open'");
    }
    let _example = Example::start_at("chat", &address);
    for window in [&anna, &bea] {
        window.wait_for_state("open");
    }
    anna.wait_for("!document.querySelector('#gap').hidden");
    let is_told = bea.page().run("return !document.querySelector('#gap').hidden", &json!([]));
    assert_eq!(is_told, false, "nothing was ever written to her");

    // positions begin anew, and messages are shown
    bea.wait_for_who("online");
    bea.write("three");
    anna.wait_for_messages(&[("bea", "one"), ("bea", "two"), ("bea", "three")]);
    anna.page().click("#dismiss");
    assert_eq!(anna.page().run("return document.querySelector('#gap').checkVisibility()", &json!([])), false);
    assert_eq!(anna.page().run("return document.activeElement.id", &json!([])), "text");
}

#[test]
fn markup_is_shown_as_text() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let name = "<img src=x onerror=alert()>";
    let anna = Window::of("anna", &browser, &example);
    let other = Window::of(name, &browser, &example);
    other.begin("#room", name);
    other.write("<script>alert()</script>");
    other.wait_for_messages(&[("sent", "<script>alert()</script>")]);
    anna.begin("#room", name);
    anna.wait_for_who(&format!("{name}, anna"));
    other.write(name);
    anna.wait_for_messages(&[(name, name)]);
    other.choose("anna", "");
    other.write(name);
    anna.choose(name, "1");
    anna.wait_for_messages(&[(name, name)]);

    for window in [&anna, &other] {
        assert_eq!(window.page().run("return document.querySelectorAll('img').length", &json!([])), 0);
        window.assert_no_complaints();
    }
}

#[test]
fn the_keyboard_is_enough() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let bea = Window::of("bea", &browser, &example);
    let anna = Window::of("anna", &browser, &example);
    anna.wait_for("document.querySelector('#people button')");
    let focused = || {
        let focused = anna.page().run(
            "const it = document.activeElement;
             return it.id || it.ariaLabel || it.querySelector('bdi')?.textContent || it.textContent",
            &json!([]),
        );
        focused.as_str().expect("it has a name").to_owned()
    };
    // who has signed in by Enter can write
    assert_eq!(focused(), "text");

    anna.page().run("document.querySelector('#toggle').focus()", &json!([]));
    let mut path = vec![focused()];
    while path.last().is_some_and(|it| it != "Send") {
        anna.page().press(":focus", TAB);
        path.push(focused());
    }
    let expected = [
        "toggle", "sign-out", "lobby", "room", "Join", "bea", "person", "Write", "leave", "lobby", "text",
        "Send",
    ];
    assert_eq!(path, expected);

    anna.page().press("#people button", ENTER);
    assert_eq!(focused(), "text");
    anna.page().press(":focus", &format!("hello{ENTER}"));
    bea.choose("anna", "1");
    bea.wait_for_messages(&[("anna", "hello")]);
    anna.assert_no_complaints();
    bea.assert_no_complaints();
}

#[test]
fn on_a_phone_the_lists_are_behind_a_button() {
    let example = Example::start("chat");
    let browser = Browser::start();
    let _bea = Window::of("bea", &browser, &example);
    let anna = Window::of("anna", &browser, &example);
    let is_shown = || anna.page().run("return document.querySelector('#side').checkVisibility()", &json!([]));
    assert_eq!(is_shown(), true);
    anna.page().be_a_phone();
    anna.wait_for("innerWidth === 390");
    assert_eq!(is_shown(), false);

    anna.page().click("#menu");
    assert_eq!(is_shown(), true);
    anna.page().click("#people button");
    assert_eq!(is_shown(), false);
    assert_eq!(anna.page().text("#title"), "bea");
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(anna.page().run(fits, &json!([])), true);
    assert_eq!(anna.page().run("return document.activeElement.className", &json!([])), "log");
    anna.assert_no_complaints();
}

#[test]
fn what_the_server_refuses_is_said() {
    let example = Example::start("chat");
    let browser = Browser::start();
    browser.open(example.page());
    browser.fill("#name", "☃☃☃☃☃☃☃☃☃☃☃");
    browser.press("#name", ENTER);
    browser.wait_for(
        "document.querySelector('#name-problem').textContent.startsWith('a name has 1 to 32 bytes')",
    );
    // the browser itself complains of the status 422
    assert_eq!(browser.console().len(), 1);

    let anna = Window::of("anna", &browser, &example);
    anna.page().fill("#room", "☃☃☃☃☃☃☃☃☃☃☃");
    anna.page().press("#room", ENTER);
    anna.wait_for("document.querySelector('#problem').textContent.startsWith('a name has 1 to 32 bytes')");
    anna.page().click("#toggle");
    anna.wait_for_state("closed");
    anna.write("hello?");
    assert_eq!(anna.page().text("#problem"), "Not connected: nothing was sent.");
    anna.assert_no_complaints();
}
