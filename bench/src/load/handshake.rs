//! The opening handshake of a client.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// More than any server's response has.
const LONGEST_RESPONSE: usize = 4096;

/// A connection, and what the server sent already after the handshake.
pub(crate) async fn open(address: SocketAddr, path: &str) -> Result<(TcpStream, Vec<u8>)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    // a reset in place of an orderly end, or the ports would be used up by connections in TIME_WAIT
    socket.set_zero_linger()?;
    let mut stream = socket.connect(address).await.context("connecting")?;
    let key = BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    stream.write_all(request(address, path, &key).as_bytes()).await?;
    let mut response = Vec::with_capacity(512);
    while response.len() < LONGEST_RESPONSE {
        ensure!(
            stream.read_buf(&mut response).await? > 0,
            "the server closed the connection in the handshake"
        );
        if let Some(end) = check_response(&response, &key)? {
            response.drain(..end);
            return Ok((stream, response));
        }
    }
    bail!("the response has no end")
}

fn request(address: SocketAddr, path: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
}

/// The length of the response, if all of it is there and accepts the handshake.
fn check_response(bytes: &[u8], key: &str) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes)? else { return Ok(None) };
    ensure!(response.code == Some(101), "status {} in place of 101", response.code.unwrap_or(0));
    let accept =
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    let accept = accept.context("no Sec-WebSocket-Accept")?.value;
    ensure!(accept == accept_key(key).as_bytes(), "the wrong Sec-WebSocket-Accept");
    Ok(Some(end))
}

fn accept_key(key: &str) -> String {
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    BASE64_STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const RESPONSE: &str =
        "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn a_response_ends_before_the_first_frame() {
        assert_eq!(check_response(&RESPONSE.as_bytes()[..40], KEY).unwrap(), None);
        let with_frame = [RESPONSE.as_bytes(), &[0x89, 0]].concat();
        assert_eq!(check_response(&with_frame, KEY).unwrap(), Some(RESPONSE.len()));
    }

    #[test]
    fn a_response_with_another_status_or_accept_key_is_an_error() {
        assert!(check_response(b"HTTP/1.1 200 OK\r\n\r\n", KEY).is_err());
        assert!(check_response(RESPONSE.as_bytes(), "AAAAAAAAAAAAAAAAAAAAAA==").is_err());
    }
}
