//! The example programs, each started as its user would, and spoken to by tokio-tungstenite, or, where requests of HTTP
//! belong to it, by the client of the behaviour suite.
//!
//! What a browser sees of those that have a page is in the suite `browser`.

mod chat;
mod client;
mod cluster;
mod news_push;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

use support::{DEADLINE, Example};

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Connects to the WebSocket of `example`, with TLS if its address says so.
async fn connect(example: &Example) -> WebSocketStream<Box<dyn Stream>> {
    let tcp = TcpStream::connect(example.address()).await.expect("the program listens");
    let stream: Box<dyn Stream> = match example.socket().split_once("://") {
        Some(("wss", _)) => Box::new(tls::connect(tcp).await),
        _ => Box::new(tcp),
    };
    let (socket, _) = client_async(example.socket(), stream).await.expect("a handshake");
    socket
}

async fn next(socket: &mut WebSocketStream<Box<dyn Stream>>) -> Message {
    let message = timeout(DEADLINE, socket.next()).await.expect("an answer in time");
    message.expect("not the end").expect("no error")
}

/// It starts on a free port, and says where.
async fn echoes_until_ctrl_c(name: &str) {
    let example = Example::start(name);
    let mut socket = connect(&example).await;
    for message in [Message::text("Grüße, ☃"), Message::binary(vec![0xFF; 70_000])] {
        socket.send(message.clone()).await.expect("an open connection");
        assert!(next(&mut socket).await == message, "{name}: {} bytes", message.len());
    }
    ends_at_ctrl_c(name, example, socket).await;
}

/// Ctrl-C closes with 1001, and ends the program with success.
async fn ends_at_ctrl_c(name: &str, example: Example, mut socket: WebSocketStream<Box<dyn Stream>>) {
    example.interrupt();
    let mut last = next(&mut socket).await;
    while last.is_text() {
        // a greeting was on its way
        last = next(&mut socket).await;
    }
    let going_away = CloseFrame { code: 1001.into(), reason: "".into() };
    assert_eq!(last, Message::Close(Some(going_away)), "{name}");
    let end = timeout(DEADLINE, socket.next()).await.expect("the end in time");
    assert!(end.is_none(), "{name}: {end:?}");
    // for this the server waits a moment
    drop(socket);
    assert_eq!(example.finish(), [""; 0], "{name}");
}

#[tokio::test]
async fn every_echo_server_echoes_until_ctrl_c() {
    for name in ["echo", "axum_echo", "axum_tls", "warp_echo", "hyper_echo"] {
        echoes_until_ctrl_c(name).await;
    }
}

#[tokio::test]
async fn hello_push_greets_who_says_nothing_and_who_talks_all_the_time() {
    let example = Example::start("hello_push");
    let mut quiet = connect(&example).await;
    let mut talker = connect(&example).await;
    // more than waits for a handler that takes messages
    for _ in 0..100 {
        talker.send(Message::text("x".repeat(1000))).await.expect("an open connection");
    }
    for socket in [&mut quiet, &mut talker] {
        assert_eq!(next(socket).await, Message::text("Hello, number 1"));
        assert_eq!(next(socket).await, Message::text("Hello, number 2"));
    }
    talker.close(None).await.expect("an open connection");
    assert_eq!(next(&mut talker).await, Message::Close(None));
    drop(talker);
    ends_at_ctrl_c("hello_push", example, quiet).await;
}

#[tokio::test]
async fn json_answers_a_user_with_a_user_and_anything_else_with_an_error() {
    let example = Example::start("json");
    let mut socket = connect(&example).await;
    for (text, answer) in [
        (r#"{"name":"Ada","age":36}"#, r#"{"id":1,"name":"Ada","age":36}"#),
        ("{\n  \"name\": }", r#"{"error":"invalid JSON: expected value at line 2 column 11"}"#),
        ("{}", r#"{"error":"invalid JSON: missing field `name` at line 1 column 2"}"#),
        (r#"{"id":7,"name":"Grace"}"#, r#"{"id":2,"name":"Grace","age":null}"#),
    ] {
        socket.send(Message::text(text)).await.expect("an open connection");
        assert_eq!(next(&mut socket).await, Message::text(answer));
    }
    ends_at_ctrl_c("json", example, socket).await;
}
