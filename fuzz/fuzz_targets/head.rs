//! The heads of HTTP that a handshake is made of: requests, parsed as a server does it, and the answers to a client.
//!
//! Whatever comes, there is no panic. What is accepted has all that RFC 6455 asks for, which is looked up here a second
//! time, and nothing is agreed that was not offered. What is refused says so in a line of text. Of an answer no more is
//! read than the client's limits allow.
//!
//! Input: a byte for the settings, then the head.

#![no_main]

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Version};
use hyper::ext::Protocol;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Builder;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use ws_core::client::Client;
use ws_core::fuzzing::{Accepted, judge};
use ws_core::{Compression, OriginPolicy, Rejection, WebSocketLayer};
use ws_fuzz::server::{self, Opened};

const PROTOCOLS: [&str; 2] = ["chat", "superchat"];
/// What a client reads at most: head, body, and what it reads at once; and what may be left in the pipe.
const MAX_READ: usize = 16 * 1024 + 8 * 1024 + 2 * 2 * 1024 + 1024;

/// The settings' bits.
#[derive(Clone, Copy)]
struct Setting(u8);

impl Setting {
    fn bit(self, number: u8) -> bool {
        self.0 >> number & 1 != 0
    }

    fn of_client(self) -> bool {
        self.bit(0)
    }

    fn compression(self) -> Option<Compression> {
        self.bit(1).then(Compression::new)
    }

    fn protocols(self) -> &'static [&'static str] {
        if self.bit(2) { &PROTOCOLS } else { &[] }
    }

    fn requires_protocol(self) -> bool {
        self.bit(3)
    }

    fn any_origin(self) -> bool {
        self.bit(4)
    }

    /// Of the request; of an answer, whether more follows than a client may read.
    fn http_2(self) -> bool {
        self.bit(5)
    }
}

fn parsed(head: &[u8], setting: Setting) -> Option<Parts> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?.is_complete().then_some(())?;
    let mut parts = Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(request.method?.as_bytes()).ok()?;
    parts.uri = request.path?.parse().ok()?;
    parts.version = if request.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    if setting.http_2() {
        parts.version = Version::HTTP_2;
        parts.extensions.insert(Protocol::from_static("websocket"));
    }
    parts.headers = header_map(request.headers)?;
    Some(parts)
}

fn header_map(headers: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let header = |header: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(header.value).ok()?))
    };
    headers.iter().map(header).collect()
}

/// Whether one of the lines has this token, in lower case, among others.
fn has(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    lines.into_iter().any(|line| line.to_lowercase().split(',').any(|item| item.trim() == token))
}

/// The value of a header that is there once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let values: Vec<_> = headers.get_all(name).into_iter().collect();
    if let [value] = values[..] { value.to_str().ok() } else { None }
}

fn check_request(head: &[u8], setting: Setting) {
    let Some(request) = parsed(head, setting) else { return };
    let mut layer = WebSocketLayer::new().protocols(setting.protocols()).compression(setting.compression());
    if setting.requires_protocol() {
        layer = layer.require_protocol();
    }
    if setting.any_origin() {
        layer = layer.origin(OriginPolicy::any());
    }
    match judge(&layer, &request) {
        None => assert!(setting.http_2() || !has(&request.headers, &UPGRADE, "websocket")),
        Some(Err(rejection)) => check_rejection(&rejection),
        Some(Ok(accepted)) => check_accepted(&request, &accepted, setting),
    }
}

fn check_rejection(rejection: &Rejection) {
    assert!(rejection.status().is_client_error() || rejection.status().is_server_error());
    let text = rejection.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}

fn check_accepted(request: &Parts, accepted: &Accepted, setting: Setting) {
    let headers = &request.headers;
    if setting.http_2() {
        assert_eq!(request.method, Method::CONNECT);
        assert!(request.uri.host().is_some() || single(headers, &HOST).is_some(), "there is a host");
        let accept = single(headers, &SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
        assert!(
            accepted
                .accept
                .as_ref()
                .is_none_or(|answer| Some(answer.as_bytes()) == accept.as_deref().map(str::as_bytes))
        );
    } else {
        assert!(single(headers, &HOST).is_some_and(|host| !host.is_empty()), "there is one host");
        assert_eq!((&request.method, request.version), (&Method::GET, Version::HTTP_11));
        assert!(has(headers, &UPGRADE, "websocket") && has(headers, &CONNECTION, "upgrade"));
        let key = single(headers, &SEC_WEBSOCKET_KEY).expect("there is one key");
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        let accept = accepted.accept.as_ref().expect("the key is answered");
        assert_eq!(accept, &derive_accept_key(key.as_bytes()));
    }
    assert_eq!(single(headers, &SEC_WEBSOCKET_VERSION), Some("13"));
    assert!(!headers.contains_key(TRANSFER_ENCODING));
    let length = headers.get(CONTENT_LENGTH).map(|_| single(headers, &CONTENT_LENGTH));
    assert!(length.is_none_or(|length| length.is_some_and(|length| length.parse() == Ok(0))), "{length:?}");
    match accepted.protocol.as_deref() {
        None => assert!(!setting.requires_protocol()),
        Some(name) => {
            assert!(setting.protocols().contains(&name) && has(headers, &SEC_WEBSOCKET_PROTOCOL, name));
        }
    }
    if accepted.extensions.is_some() {
        let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter();
        let is_offered =
            |offer: &HeaderValue| offer.to_str().is_ok_and(|text| text.contains("permessage-deflate"));
        assert!(setting.compression().is_some() && offers.into_iter().any(is_offered));
    }
}

async fn check_answer(answer: &[u8], setting: Setting) {
    let mut client = Client::new().protocols(setting.protocols()).compression(setting.compression());
    if setting.requires_protocol() {
        client = client.require_protocol();
    }
    let filler = if setting.http_2() { answer.repeat(100_000 / answer.len().max(1)) } else { Vec::new() };
    let opened = server::open(&client, answer, &filler).await;
    match &opened.result {
        Ok(socket) => check_opened(&opened, socket.protocol(), setting),
        Err(error) => {
            assert!(opened.taken <= MAX_READ, "{} bytes read", opened.taken);
            if let Some(refusal) = error.refusal() {
                assert!(refusal.body().len() <= 4 * 1024);
            }
        }
    }
}

/// Of the heads in the answer the first that is not informational says all that it has to.
fn check_opened(opened: &Opened, protocol: Option<&str>, setting: Setting) {
    let mut rest = opened.answer.repeat(2);
    let headers = loop {
        let mut headers = [httparse::EMPTY_HEADER; 200];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&rest).expect("it is a head");
        let httparse::Status::Complete(length) = parsed else { panic!("it is not complete") };
        assert_eq!(response.version, Some(1));
        match response.code {
            Some(101) => break header_map(response.headers).expect("the headers are valid"),
            code => assert!(code.is_some_and(|code| code < 200), "{code:?}"),
        }
        rest.drain(..length);
    };
    assert!(has(&headers, &UPGRADE, "websocket") && has(&headers, &CONNECTION, "upgrade"));
    assert_eq!(single(&headers, &SEC_WEBSOCKET_ACCEPT), Some(opened.accept.as_str()));
    match protocol {
        None => assert!(!setting.requires_protocol()),
        Some(name) => {
            assert!(setting.protocols().contains(&name) && has(&headers, &SEC_WEBSOCKET_PROTOCOL, name));
        }
    }
    if setting.compression().is_none() {
        let mut lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter();
        assert!(lines.all(|line| line.as_bytes().iter().all(|byte| b" \t,".contains(byte))));
    }
}

fuzz_target!(|input: &[u8]| {
    let [setting, head @ ..] = input else { return };
    let setting = Setting(*setting);
    if setting.of_client() {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime of one thread").block_on(check_answer(head, setting));
    } else {
        check_request(head, setting);
    }
});
