//! The page of the example `echo`, as its user sees it.

use serde_json::Value;

use crate::driver::Browser;
use crate::support::Example;

/// The page, open in a browser of its own.
pub(crate) struct Page(pub(crate) Browser);

impl Page {
    /// Opens the page of `example`; nothing is connected yet.
    pub(crate) fn open(example: &Example) -> Self {
        let browser = Browser::start();
        browser.open(example.page());
        Self(browser)
    }

    /// Opens the page of `example`, and connects.
    pub(crate) fn connected(example: &Example) -> Self {
        let page = Self::open(example);
        page.connect();
        page
    }

    /// Connects, and waits for it.
    pub(crate) fn connect(&self) {
        self.0.click("#connect");
        self.wait_for_state("open");
    }

    /// Waits until the page says `open`, `waiting`, …
    pub(crate) fn wait_for_state(&self, state: &str) {
        self.0.wait_for(&format!("document.querySelector('#state[data-state={state}]')"));
    }

    /// Waits for an entry of the log that has these attributes, and returns the text of its part `part`.
    pub(crate) fn wait_for_entry(&self, attributes: &str, part: &str) -> String {
        let text =
            self.0.wait_for(&format!("document.querySelector('#log li{attributes} {part}')?.textContent"));
        text.as_str().expect("an entry has text").to_owned()
    }

    /// Waits for the entry about a connection's end: its code, its reason, and whether it was clean.
    pub(crate) fn wait_for_close(&self) -> [String; 3] {
        let entry = "document.querySelector('#log li[data-code]')?.dataset";
        let data = self.0.wait_for(entry);
        ["code", "reason", "clean"].map(|name| data[name].as_str().map(str::to_owned).unwrap_or_default())
    }

    /// Sends text, and waits until it is back.
    pub(crate) fn exchange(&self, text: &str) {
        let back = |page: &Self| page.0.text("#received").parse::<u32>().expect("a count");
        let before = back(self);
        self.0.fill("#message", text);
        self.0.click("#send");
        self.0.wait_for(&format!("document.querySelector('#received').textContent > {before}"));
        let last: Value = self.0.run(
            "return [...document.querySelectorAll('#log [data-direction=in] .payload')].at(-1).textContent",
            &serde_json::json!([]),
        );
        assert_eq!(last, text);
    }

    /// Fails if anything has come on the console.
    pub(crate) fn assert_no_complaints(&self) {
        assert_eq!(self.0.console(), Vec::<String>::new());
    }
}
