//! `Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions`, as a server and as a client reads them: what is refused, what is
//! chosen and what is agreed is what the grammar and the RFCs say, and a list of any length is read in linear time.
//!
//! Input: lines of the first header, an empty line, lines of the second; a line break at the end asks for long lines, too.

#![no_main]

use std::borrow::Cow;

use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderMap, Request};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Builder;
use ws_core::client::Client;
use ws_core::fuzzing::{Accepted, judge};
use ws_core::{Compression, Rejection, WebSocketLayer};
use ws_fuzz::grammar::{Extension, extensions, tokens};
use ws_fuzz::server;

/// What both sides know, in the order of the server's preference.
const PROTOCOLS: [&str; 3] = ["chat", "superchat", "a"];
/// The length that a line is repeated up to: if it were read in quadratic time, that would take seconds.
const LONG: usize = 60_000;

/// The lines of one header, which can be in one.
struct Lines<'a>(Vec<Cow<'a, [u8]>>);

impl<'a> Lines<'a> {
    fn new(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        // the white space around a value is not part of it
        let lines = lines.map(<[u8]>::trim_ascii).filter(|line| HeaderValue::from_bytes(line).is_ok());
        Self(lines.map(Cow::Borrowed).collect())
    }

    /// The first line, again and again.
    fn long(&self) -> Lines<'static> {
        let line = self.0.first().map(AsRef::as_ref).unwrap_or_default();
        Lines(vec![line.repeat(LONG / line.len().max(1)).into()])
    }

    fn add_to(&self, headers: &mut HeaderMap, name: &HeaderName) {
        for value in self.0.iter().flat_map(|line| HeaderValue::from_bytes(line)) {
            headers.append(name, value);
        }
    }
}

/// The request of RFC 6455 section 1.3 with these lines.
fn request(protocols: &Lines<'_>, extensions: &Lines<'_>) -> Parts {
    let mut request = Request::new(()).into_parts().0;
    for (name, value) in [
        ("host", "server.example.com"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ] {
        request.headers.insert(name, HeaderValue::from_static(value));
    }
    protocols.add_to(&mut request.headers, &SEC_WEBSOCKET_PROTOCOL);
    extensions.add_to(&mut request.headers, &SEC_WEBSOCKET_EXTENSIONS);
    request
}

/// What an offer, or an answer, of permessage-deflate asks for.
#[derive(Default)]
struct Deflate {
    server_no_context_takeover: bool,
    client_max_window_bits: bool,
    server_max_window_bits: Option<u8>,
}

impl Deflate {
    /// Each parameter is one of RFC 7692 section 7.1, there once, and has a value that it may have.
    fn read(extension: &Extension) -> Option<Self> {
        let mut deflate = (extension.name == b"permessage-deflate").then(Self::default)?;
        let names: Vec<_> = extension.parameters.iter().map(|(name, _)| name).collect();
        for (index, (name, value)) in extension.parameters.iter().enumerate() {
            let bits =
                value.as_ref().map(|value| (8..=15).find(|bits: &u8| bits.to_string().as_bytes() == value));
            match (name.as_slice(), bits) {
                _ if names[..index].contains(&name) => return None,
                (b"server_no_context_takeover", None) => deflate.server_no_context_takeover = true,
                (b"client_no_context_takeover", None) => {}
                (b"client_max_window_bits", None | Some(Some(_))) => deflate.client_max_window_bits = true,
                (b"server_max_window_bits", Some(Some(bits))) => deflate.server_max_window_bits = Some(bits),
                _ => return None,
            }
        }
        Some(deflate)
    }
}

/// What the server has to answer.
fn expected(
    protocols: &Lines<'_>,
    offers: &Lines<'_>,
) -> Result<(Option<&'static str>, Option<String>), Rejection> {
    let offered = tokens(&protocols.0).ok_or(Rejection::MalformedProtocol)?;
    let offers = extensions(&offers.0).ok_or(Rejection::MalformedExtensions)?;
    let protocol = PROTOCOLS.into_iter().find(|name| offered.contains(&name.as_bytes()));
    let deflate =
        offers.iter().filter_map(Deflate::read).find(|offer| offer.server_max_window_bits != Some(8));
    let answer = deflate.map(|deflate| {
        let bits = deflate.server_max_window_bits.map(|bits| format!("; server_max_window_bits={bits}"));
        let bits = bits.unwrap_or_default();
        format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{bits}")
    });
    Ok((protocol, answer))
}

fn check_server(protocols: &Lines<'_>, offers: &Lines<'_>) {
    let layer = WebSocketLayer::new().protocols(PROTOCOLS).compression(Compression::new());
    let judged = judge(&layer, &request(protocols, offers)).expect("it is an upgrade");
    let judged = judged.map(|Accepted { protocol, extensions, .. }| {
        (protocol, extensions.map(|value| value.to_str().expect("the answer is text").to_owned()))
    });
    let expected = expected(protocols, offers).map(|(protocol, answer)| (protocol.map(Into::into), answer));
    assert_eq!(judged, expected);
}

/// What a client has to take from an answer.
struct Agreed {
    protocol: Option<&'static str>,
}

/// What these lines of an answer agree to, if a client may take them.
fn agreed(protocols: &Lines<'_>, answers: &Lines<'_>) -> Option<Agreed> {
    let protocol = match tokens(&protocols.0)?[..] {
        [] => None,
        [chosen] => Some(PROTOCOLS.into_iter().find(|name| name.as_bytes() == chosen)?),
        _ => return None,
    };
    match &extensions(&answers.0)?[..] {
        [] => {}
        [answer] => {
            let deflate = Deflate::read(answer)?;
            if !deflate.server_no_context_takeover || deflate.client_max_window_bits {
                return None;
            }
        }
        _ => return None,
    }
    Some(Agreed { protocol })
}

async fn check_client(protocols: &Lines<'_>, answers: &Lines<'_>) {
    let client = Client::new().protocols(PROTOCOLS).compression(Compression::new());
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Accept: $ACCEPT\r\n"
        .to_vec();
    for (name, lines) in [(SEC_WEBSOCKET_PROTOCOL, protocols), (SEC_WEBSOCKET_EXTENSIONS, answers)] {
        for line in &lines.0 {
            answer.extend([name.as_str().as_bytes(), b": ", line, b"\r\n"].concat());
        }
    }
    answer.extend(b"\r\n");
    let opened = server::open(&client, &answer, b"").await;
    let expected = agreed(protocols, answers);
    assert_eq!(opened.result.is_ok(), expected.is_some(), "{:?}", opened.result);
    if let (Ok(socket), Some(expected)) = (opened.result, expected) {
        assert_eq!(socket.protocol(), expected.protocol);
    }
}

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == b'\n');
    let protocols = Lines::new(lines.by_ref().take_while(|line| !line.is_empty()));
    let extensions = Lines::new(lines);

    check_server(&protocols, &extensions);
    if input.ends_with(b"\n") {
        check_server(&protocols.long(), &extensions.long());
    }
    // as many lines as a client reads
    if protocols.0.len() + extensions.0.len() < 90 && input.len() < 2000 && !input.contains(&b'$') {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime of one thread").block_on(check_client(&protocols, &extensions));
    }
});
