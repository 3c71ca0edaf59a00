//! A server that answers a client's handshake with what a fuzzer makes up.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use ws_core::WebSocket;
use ws_core::client::{Client, ConnectError};

/// What stands in an answer for the right value of `Sec-WebSocket-Accept`, which the fuzzer cannot know.
pub const ACCEPT: &[u8] = b"$ACCEPT";

/// What came of a handshake.
#[derive(Debug)]
pub struct Opened {
    /// The connection, or why there is none.
    pub result: Result<WebSocket, ConnectError>,
    /// The answer, with the right value in it.
    pub answer: Vec<u8>,
    /// That value.
    pub accept: String,
    /// How much of the answer the client took, or left in the pipe.
    pub taken: usize,
}

/// Lets `client` connect to a server that sends `answer`, and after it `filler` up to the end.
///
/// # Panics
///
/// If what the client sends is no handshake.
pub async fn open(client: &Client, answer: &[u8], filler: &[u8]) -> Opened {
    // small, so that what the client leaves unread is little
    let (ours, theirs) = duplex(256);
    let (result, (answer, accept, taken)) =
        tokio::join!(client.connect_over("ws://example.com/", theirs), serve(ours, answer, filler));
    Opened { result, answer, accept, taken }
}

async fn serve(mut stream: DuplexStream, answer: &[u8], filler: &[u8]) -> (Vec<u8>, String, usize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the client sends the head of a request"));
    }
    let head = String::from_utf8(head).expect("the client's head is text");
    let (_, key) = head.split_once("Sec-WebSocket-Key: ").expect("the client sends a key");
    let accept = derive_accept_key(&key.as_bytes()[..24]);
    let answer = replace(answer, accept.as_bytes());
    let mut taken = 0;
    for piece in answer.chunks(100).chain(filler.chunks(100)) {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        taken += piece.len();
    }
    (answer, accept, taken)
}

fn replace(answer: &[u8], accept: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = answer;
    while let [first, behind @ ..] = rest {
        if let Some(behind) = rest.strip_prefix(ACCEPT) {
            replaced.extend(accept);
            rest = behind;
        } else {
            replaced.push(*first);
            rest = behind;
        }
    }
    replaced
}
