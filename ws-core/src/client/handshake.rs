//! The opening handshake of a client (RFC 6455 section 4.1): the head of the request, and the check of the answer.
//!
//! The keys are those of tungstenite. Its `ClientHandshake` is not used: it fails if a server chooses none of the
//! subprotocols, which is allowed, and it does not check extensions.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::config::Config;
use super::error::{ConnectError, Refusal};
use super::head::{READ_SIZE, read_head};
use super::target::Target;
use crate::config::Negotiated;
#[cfg(feature = "deflate")]
use crate::handshake::deflate;
use crate::handshake::headers::{has_token, items, only};

/// How much of the body of a refusal is kept, in bytes, and how long to wait for it.
const MAX_BODY: usize = 4 * 1024;
const BODY_TIME: Duration = Duration::from_secs(1);

/// A handshake that the server has accepted.
pub(super) struct Accepted {
    pub(super) agreed: Agreed,
    pub(super) response: Response<()>,
    /// The bytes that follow the response.
    pub(super) read: BytesMut,
}

/// What the server has agreed to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) protocol: Option<Arc<str>>,
    pub(super) negotiated: Negotiated,
}

/// Sends the request, and checks the answer.
pub(super) async fn exchange<S>(
    stream: &mut S,
    target: &Target,
    config: &Config,
) -> Result<Accepted, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error| ConnectError::Disconnected(Some(error));
    let key = generate_key();
    stream.write_all(&request(target, config, &key)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;

    let (response, read) = read_head(stream).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, ()) = response.into_parts();
        let body = read_body(stream, head.status, &head.headers, read).await;
        let refusal = Refusal { status: head.status, headers: head.headers, body };
        return Err(ConnectError::Refused(Box::new(refusal)));
    }
    if response.version() != Version::HTTP_11 {
        return Err(ConnectError::invalid_response("it is HTTP/1.0, which has no upgrade"));
    }
    let agreed = verify(response.headers(), &derive_accept_key(key.as_bytes()), config)
        .map_err(|why| ConnectError::InvalidResponse { why })?;
    Ok(Accepted { agreed, response, read })
}

/// The head of the request. Its parts were checked when they were set.
fn request(target: &Target, config: &Config, key: &str) -> Vec<u8> {
    let mut head = format!(
        "GET {path} HTTP/1.1\r\n\
         Host: {host}\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\n",
        path = target.path_and_query,
        host = target.authority,
    )
    .into_bytes();
    let mut header = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    if !config.protocols.is_empty() {
        header("Sec-WebSocket-Protocol", config.protocols.join(", ").as_bytes());
    }
    #[cfg(feature = "deflate")]
    if config.compression.is_some() {
        header("Sec-WebSocket-Extensions", deflate::OFFER.as_bytes());
    }
    for (name, value) in &config.headers {
        header(name.as_str(), value.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Checks the headers of a response with the status 101.
fn verify(headers: &HeaderMap, accept: &str, config: &Config) -> Result<Agreed, Cow<'static, str>> {
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err("the header `Upgrade` has to be `websocket`".into());
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err("the header `Connection` has to have the token `upgrade`".into());
    }
    if only(headers, &SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value != accept) {
        return Err("the header `Sec-WebSocket-Accept` has to be there once, as the answer to the key".into());
    }
    Ok(Agreed { protocol: protocol(headers, config)?, negotiated: extensions(headers, config)? })
}

/// The subprotocol that the server has chosen: none, or one of the offered.
fn protocol(headers: &HeaderMap, config: &Config) -> Result<Option<Arc<str>>, Cow<'static, str>> {
    let mut chosen = items(headers, &SEC_WEBSOCKET_PROTOCOL);
    match (chosen.next(), chosen.next()) {
        (None, _) if config.require_protocol => {
            Err("it has to choose one of the subprotocols that it was offered".into())
        }
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("it chooses more than one subprotocol".into()),
        (Some(name), None) => {
            let offered = config.protocols.iter().find(|offered| offered.as_bytes() == name);
            offered.cloned().map(Some).ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                format!("it chooses the subprotocol {name:?}, which it was not offered").into()
            })
        }
    }
}

/// The offered extensions that the server has agreed to.
fn extensions(headers: &HeaderMap, config: &Config) -> Result<Negotiated, Cow<'static, str>> {
    let mut answered = items(headers, &SEC_WEBSOCKET_EXTENSIONS);
    let Some(answer) = answered.next() else { return Ok(Negotiated::default()) };
    #[cfg(feature = "deflate")]
    if let Some(compression) = config.compression
        && answered.next().is_none()
    {
        let deflate = Some(deflate::agreed(answer, compression)?);
        return Ok(Negotiated { deflate });
    }
    #[cfg(not(feature = "deflate"))]
    let _ = config;
    let answer = String::from_utf8_lossy(answer);
    Err(format!("it has the extension {answer:?}, which it was not offered").into())
}

/// How the end of a body is found (RFC 9112 section 6.3).
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// Reads the body of a refusal, up to the limits. An error ends it: the status is what matters.
async fn read_body<S>(stream: &mut S, status: StatusCode, headers: &HeaderMap, mut read: BytesMut) -> Bytes
where
    S: AsyncRead + Unpin,
{
    let length = only(headers, &CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let framing = match length {
        _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Framing::Length(0),
        _ if headers.contains_key(TRANSFER_ENCODING) => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    };
    let is_complete = |read: &[u8]| match framing {
        Framing::Length(length) => read.len() >= length.min(MAX_BODY),
        Framing::Chunked => read.len() >= 2 * MAX_BODY || dechunk(read).1,
        Framing::Close => read.len() >= MAX_BODY,
    };
    // a server that keeps the connection open must not make its client wait
    let _ = timeout(BODY_TIME, async {
        while !is_complete(&read) {
            read.reserve(READ_SIZE);
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                break;
            }
        }
    })
    .await;
    let mut body = match framing {
        Framing::Chunked => dechunk(&read).0,
        Framing::Length(length) => read[..length.min(read.len())].to_vec(),
        Framing::Close => read.to_vec(),
    };
    body.truncate(MAX_BODY);
    body.into()
}

/// The content of chunks (RFC 9112 section 7.1), and whether the last one is among them.
fn dechunk(mut chunks: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    loop {
        let Some(end) = chunks.iter().position(|&byte| byte == b'\n') else { return (content, false) };
        let line = chunks[..end].split(|&byte| byte == b';').next().unwrap_or_default();
        let size =
            str::from_utf8(line.trim_ascii()).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        chunks = &chunks[end + 1..];
        match size {
            // a line that is no size ends the body
            None | Some(0) => return (content, true),
            Some(size) => {
                content.extend_from_slice(&chunks[..size.min(chunks.len())]);
                chunks = chunks
                    .get(size..)
                    .map(|rest| rest.strip_prefix(b"\r\n").unwrap_or(rest))
                    .unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;
    use crate::client::Client;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn requested(url: &str, client: &Client) -> String {
        let target = Target::parse(url).unwrap();
        String::from_utf8(request(&target, &client.config, KEY)).unwrap()
    }

    #[test]
    fn the_head_of_the_request_is_that_of_the_rfc() {
        assert_eq!(
            requested("ws://server.example.com/chat?room=1", &Client::new()),
            "GET /chat?room=1 HTTP/1.1\r\n\
             Host: server.example.com\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\
             \r\n"
        );
    }

    #[test]
    fn what_was_set_is_behind_it() {
        let client = Client::new().protocols(["chat", "superchat"]);
        let client = client.origin("https://example.com");
        let client = client.header("X-Token", "1").header("x-token", "2");
        #[cfg(feature = "deflate")]
        let client = client.compression(crate::Compression::new());
        let head = requested("ws://[::1]:8443", &client);
        let (fixed, set) = head.split_once("Sec-WebSocket-Version: 13\r\n").unwrap();
        assert!(fixed.starts_with("GET / HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{fixed}");
        let offer = if cfg!(feature = "deflate") {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        } else {
            ""
        };
        assert_eq!(
            set,
            format!(
                "Sec-WebSocket-Protocol: chat, superchat\r\n{offer}\
                 origin: https://example.com\r\nx-token: 2\r\n\r\n"
            )
        );
    }

    /// The response of RFC 6455 section 1.3, with these lines in place of the header's.
    fn response(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(ACCEPT));
        headers.remove(name);
        headers.extend(lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).unwrap())));
        headers
    }

    fn verified(client: &Client, name: &HeaderName, lines: &[&str]) -> Result<Agreed, String> {
        verify(&response(name, lines), ACCEPT, &client.config).map_err(Cow::into_owned)
    }

    #[test]
    fn an_answer_has_the_tokens_and_the_right_proof() {
        let client = Client::new();
        for (name, lines) in [
            (UPGRADE, &["websocket"][..]),
            (UPGRADE, &["WebSocket"]),
            (UPGRADE, &["h2c", "websocket"]),
            (CONNECTION, &["upgrade"]),
            (CONNECTION, &["keep-alive, Upgrade"]),
            (CONNECTION, &["keep-alive", "UPGRADE"]),
            (SEC_WEBSOCKET_PROTOCOL, &[]),
            (SEC_WEBSOCKET_PROTOCOL, &[""]),
            (SEC_WEBSOCKET_EXTENSIONS, &[""]),
        ] {
            assert_eq!(verified(&client, &name, lines), Ok(Agreed::default()), "{name}: {lines:?}");
        }
        for (name, lines) in [
            (UPGRADE, &[][..]),
            (UPGRADE, &[""]),
            (UPGRADE, &["h2c"]),
            (UPGRADE, &["websockets"]),
            (UPGRADE, &["web", "socket"]),
            (CONNECTION, &[]),
            (CONNECTION, &["close"]),
            (CONNECTION, &["upgraded"]),
            (CONNECTION, &["keep-alive upgrade"]),
            (SEC_WEBSOCKET_ACCEPT, &[]),
            (SEC_WEBSOCKET_ACCEPT, &[""]),
            (SEC_WEBSOCKET_ACCEPT, &["s3pPLMBiTxaQ9kYGzzhZRbK+xOO="]),
            (SEC_WEBSOCKET_ACCEPT, &["S3PPLMBITXAQ9KYGZZHZRBK+XOO="]),
            (SEC_WEBSOCKET_ACCEPT, &[ACCEPT, ACCEPT]),
            (SEC_WEBSOCKET_ACCEPT, &[KEY]),
            (SEC_WEBSOCKET_PROTOCOL, &["chat"]),
            (SEC_WEBSOCKET_EXTENSIONS, &["permessage-deflate; server_no_context_takeover"]),
            (SEC_WEBSOCKET_EXTENSIONS, &["x"]),
        ] {
            let why = verified(&client, &name, lines).expect_err(name.as_str());
            assert!(why.contains(' '), "{why}");
        }
    }

    #[test]
    fn a_subprotocol_is_one_that_was_offered_or_none() {
        let client = Client::new().protocols(["a", "b"]);
        let chosen = |client: &Client, lines: &[&str]| {
            verified(client, &SEC_WEBSOCKET_PROTOCOL, lines).map(|agreed| agreed.protocol)
        };
        assert_eq!(chosen(&client, &["b"]), Ok(Some("b".into())));
        assert_eq!(chosen(&client, &[" a "]), Ok(Some("a".into())));
        assert_eq!(chosen(&client, &[]), Ok(None));
        for lines in [&["c"][..], &["A"], &["a, b"], &["a", "b"], &["a", "a"], &["a b"]] {
            assert!(chosen(&client, lines).is_err(), "{lines:?}");
        }
        let client = client.require_protocol();
        assert_eq!(chosen(&client, &["a"]), Ok(Some("a".into())));
        assert!(chosen(&client, &[]).unwrap_err().contains("has to choose"));
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn compression_is_agreed_on_once_and_where_it_was_offered() {
        let client = Client::new().compression(crate::Compression::new());
        let deflate = |lines: &[&str]| {
            verified(&client, &SEC_WEBSOCKET_EXTENSIONS, lines)
                .map(|agreed| agreed.negotiated.deflate.is_some())
        };
        assert_eq!(deflate(&[]), Ok(false));
        assert_eq!(deflate(&[deflate::OFFER]), Ok(true));
        assert!(deflate(&[deflate::OFFER, deflate::OFFER]).is_err());
        assert!(deflate(&["permessage-deflate"]).is_err());
        assert!(deflate(&["x-other"]).is_err());
    }

    #[test]
    fn chunks_are_joined_until_the_last() {
        for (chunks, content, complete) in [
            ("5\r\nhello\r\n0\r\n\r\n", "hello", true),
            ("5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n", "hello, world", true),
            ("A\r\n0123456789\r\n", "0123456789", false),
            ("A\r\n01234", "01234", false),
            ("5\r\nhello", "hello", false),
            ("5", "", false),
            ("", "", false),
            ("0\r\n", "", true),
            ("nonsense\r\nhello", "", true),
            ("ffffffffffffffff\r\nhello", "hello", false),
            ("fffffffffffffffff\r\nhello", "", true),
        ] {
            assert_eq!(dechunk(chunks.as_bytes()), (content.as_bytes().to_vec(), complete), "{chunks:?}");
        }
    }
}
