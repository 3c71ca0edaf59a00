//! The page of the example `echo`, over a long way that loses packets.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use ws_tests::Path;

use crate::driver::Browser;
use crate::page::Page;
use crate::support::Example;

#[test]
fn the_page_works_over_a_delay_of_200_milliseconds_and_a_loss_of_5_percent() {
    let delay = Duration::from_millis(200);
    let example = Example::start("echo");
    let server = example.address().parse().expect("it is an address");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let near = runtime.block_on(Path::default().delay(delay).loss(5).to(server));

    let page = Page(Browser::start());
    page.0.open(&format!("http://{near}/"));
    page.connect();
    for text in ["Grüße, ☃", "and again"] {
        let start = Instant::now();
        page.exchange(text);
        assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
    }
    // many packets, of which some are lost
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("long_way.bin");
    fs::write(&file, vec![7; 300_000]).expect("the directory is cargo's, and there");
    page.0.choose_file("#file", file.to_str().expect("a path in UTF-8"));
    page.0.click("#send");
    let received = page.wait_for_entry("[data-direction=in][data-kind=binary]", ".payload");
    assert!(received.ends_with("299968 more bytes"), "{received}");
    page.0.fill("#close-code", "3001");
    page.0.fill("#close-reason", "done here");
    page.0.click("#disconnect");
    assert_eq!(page.wait_for_close(), ["3001", "done here", "true"]);
    page.assert_no_complaints();
    runtime.shutdown_background();
}
