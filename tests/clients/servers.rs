//! The same libraries as servers, for the client of this project: `server.py` and `server.cjs`.

use tokio::runtime::Runtime;
use tokio::time::timeout;
use ws_core::client::Client;
use ws_core::{CloseFrame, Compression, Message, WebSocket};

use crate::Library;
use crate::support::{DEADLINE, Process};

crate::for_each_library! {
    messages_of_every_size
    compressed_messages
    subprotocols
    pings_both_ways
    the_server_closes
    the_client_closes
    a_path_that_is_not_there
}

/// Runs `case` with the process of a server, and its URL.
fn with_server(library: Library, case: impl AsyncFnOnce(&Process, String)) {
    let server = Process::start(&mut library.script("server"));
    let url = server.find(|line| line.starts_with("ws://").then(|| line.to_owned()));
    Runtime::new().expect("threads").block_on(case(&server, url));
}

/// Opens a connection to `path`.
async fn connect(client: &Client, url: &str, path: &str) -> WebSocket {
    client.connect(format!("{url}{path}")).await.expect("a handshake")
}

async fn next(socket: &mut WebSocket) -> Message {
    let message = timeout(DEADLINE, socket.recv()).await.expect("an answer in time");
    message.expect("not the end").expect("no error")
}

/// Text and binary, empty, non-ASCII, around the lengths where a frame's header grows, and 900 KB.
async fn echo_all(socket: &mut WebSocket) {
    let texts = ["", "hello", "Grüße, 🌍", &"é".repeat(450_000)].map(Message::text);
    let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 900_000];
    let binaries = sizes.map(|size| Message::binary((0..=250).cycle().take(size).collect::<Vec<u8>>()));
    for message in texts.into_iter().chain(binaries) {
        socket.send(message.clone()).await.expect("an open connection");
        // `==` in place of `assert_eq!`, which would print them
        assert!(next(socket).await == message, "{} bytes", message.len());
    }
}

fn messages_of_every_size(library: Library) {
    with_server(library, async |_, url| {
        let mut socket = connect(&Client::new(), &url, "/extensions").await;
        assert_eq!(next(&mut socket).await, Message::from(""));
        echo_all(&mut socket).await;
        socket.close(1000, "").await.expect("an answer");
    });
}

/// The server agrees to compress, and both sides do.
fn compressed_messages(library: Library) {
    with_server(library, async |_, url| {
        let client = Client::new().compression(Compression::new().threshold(0));
        let mut socket = connect(&client, &url, "/extensions").await;
        assert_eq!(next(&mut socket).await, Message::from("permessage-deflate"));
        echo_all(&mut socket).await;
        socket.close(1000, "").await.expect("an answer");
    });
}

/// The server's preference decides; without an offer, none is chosen.
fn subprotocols(library: Library) {
    with_server(library, async |_, url| {
        let client = Client::new().protocols(["a", "x", "b"]).require_protocol();
        assert_eq!(connect(&client, &url, "/echo").await.protocol(), Some("b"));
        assert_eq!(connect(&Client::new().protocols(["a"]), &url, "/echo").await.protocol(), Some("a"));
        assert_eq!(connect(&Client::new(), &url, "/echo").await.protocol(), None);
    });
}

fn pings_both_ways(library: Library) {
    with_server(library, async |_, url| {
        let mut socket = connect(&Client::new(), &url, "/pings").await;
        assert_eq!(next(&mut socket).await, Message::from("three pongs"));
        let mut socket = connect(&Client::new(), &url, "/echo").await;
        for _ in 0..3 {
            let round_trip = timeout(DEADLINE, socket.ping()).await.expect("a pong in time");
            assert!(round_trip.expect("an open connection") < DEADLINE);
        }
    });
}

fn the_server_closes(library: Library) {
    with_server(library, async |_, url| {
        let mut socket = connect(&Client::new(), &url, "/closes").await;
        assert_eq!(next(&mut socket).await, Message::from("last words"));
        assert!(timeout(DEADLINE, socket.recv()).await.expect("the end in time").is_none());
        assert_eq!(socket.close_frame(), Some(CloseFrame::new(4001, "bye")));
        assert!(socket.closed().await.clean);
    });
}

/// The client closes with 4002, and the server learns it.
fn the_client_closes(library: Library) {
    with_server(library, async |server, url| {
        let mut socket = connect(&Client::new(), &url, "/report").await;
        let answer = socket.close(4002, "see you").await.expect("an answer");
        assert_eq!(answer.map(|frame| frame.code), Some(4002.into()));
        server.find(|line| (line == "closed 4002 see you").then_some(()));
    });
}

fn a_path_that_is_not_there(library: Library) {
    with_server(library, async |_, url| {
        let error = Client::new().connect(format!("{url}/nowhere")).await.expect_err("no handshake");
        let refusal = error.refusal().expect("a refusal");
        assert_eq!((refusal.status().as_u16(), refusal.body()), (404, b"nobody here\n".as_slice()));
        assert!(!error.should_retry());
    });
}
