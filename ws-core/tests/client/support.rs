//! Servers in memory: what they read of a handshake, and what they answer.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use ws_core::client::{Client, ConnectError};
use ws_core::{Error, WebSocket};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The URL of servers in memory.
pub(crate) const URL: &str = "ws://server.example.com/chat";

/// The two ends of a pipe.
pub(crate) fn pipe() -> (DuplexStream, DuplexStream) {
    duplex(64 * 1024)
}

/// Reads the head of a request.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the head of a request"));
    }
    String::from_utf8(head).expect("text")
}

/// The value of `Sec-WebSocket-Accept` that answers this request.
pub(crate) fn accept_key(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    derive_accept_key(key.as_bytes())
}

/// The response that opens a connection, with more lines.
pub(crate) fn opening(head: &str, lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {}\r\n{lines}\r\n",
        accept_key(head),
    )
}

/// Does the server's half of the handshake; returns the request.
pub(crate) async fn accept(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let head = read_head(stream).await;
    stream.write_all(opening(&head, "").as_bytes()).await.expect("a client that reads");
    head
}

/// Connects `client` to a server that answers the head of the request as `answer` does.
pub(crate) async fn connected<F, Fut>(client: &Client, answer: F) -> Result<WebSocket, ConnectError>
where
    F: FnOnce(String, DuplexStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (mut server, stream) = pipe();
    tokio::spawn(async move {
        let head = read_head(&mut server).await;
        answer(head, server).await;
    });
    client.connect_over(URL, stream).await
}

/// Connects to a server that answers with these bytes, in which `{accept}` stands for the right one, and closes.
pub(crate) async fn answered(client: &Client, response: &str) -> Result<WebSocket, ConnectError> {
    let response = response.to_owned();
    connected(client, async move |head, mut server: DuplexStream| {
        let response = response.replace("{accept}", &accept_key(&head));
        // a client that has read enough does not read the rest
        let _ = server.write_all(response.as_bytes()).await;
    })
    .await
}

/// A handler that sends back what it receives.
pub(crate) async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}
