//! tokio-tungstenite, against the server that the others echo with.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use ws_axum::WebSocketLayer;

use crate::support::DEADLINE;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Runs `case` with a connection.
fn connected(case: impl AsyncFnOnce(&mut Socket)) {
    let server = crate::echo_server(WebSocketLayer::new());
    server.block_on(async {
        let (mut socket, _) = connect_async(server.url("ws", "/echo")).await.expect("a handshake");
        case(&mut socket).await;
    });
}

async fn next(socket: &mut Socket) -> Message {
    let message = timeout(DEADLINE, socket.next()).await.expect("an answer in time");
    message.expect("not the end").expect("no error")
}

async fn send(socket: &mut Socket, message: impl Into<Message>) {
    socket.send(message.into()).await.expect("an open connection");
}

#[test]
fn messages_of_every_size() {
    connected(async |socket| {
        let texts = ["", "hello", "Grüße, 🌍", &"é".repeat(450_000)].map(Message::text);
        let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 900_000];
        let binaries = sizes.map(|size| Message::binary((0..=250).cycle().take(size).collect::<Vec<u8>>()));
        for message in texts.into_iter().chain(binaries) {
            send(socket, message.clone()).await;
            // `==` in place of `assert_eq!`, which would print them
            assert!(next(socket).await == message, "{} bytes", message.len());
        }
    });
}

#[test]
fn fragments() {
    connected(async |socket| {
        let part = |part: &'static str, data, last| Frame::message(part, OpCode::Data(data), last);
        send(socket, Message::Frame(part("Grüße", Data::Text, false))).await;
        send(socket, Message::Ping(Bytes::from_static(b"between"))).await;
        send(socket, Message::Frame(part("", Data::Continue, false))).await;
        send(socket, Message::Frame(part(", 🌍", Data::Continue, true))).await;
        assert_eq!(next(socket).await, Message::Pong(Bytes::from_static(b"between")));
        assert_eq!(next(socket).await, Message::text("Grüße, 🌍"));
    });
}

#[test]
fn the_client_closes() {
    connected(async |socket| {
        let frame = CloseFrame { code: CloseCode::from(4002), reason: "see you".into() };
        socket.close(Some(frame.clone())).await.expect("an open connection");
        assert_eq!(next(socket).await, Message::Close(Some(frame)));
        let end = timeout(DEADLINE, socket.next()).await.expect("the end in time");
        assert!(end.is_none(), "{end:?}");
    });
}
