//! The opening handshake of a server (RFC 6455 section 4.2): checks the head of a request. Returns a [`Handshake`] for the
//! response, or a [`Rejection`].
//!
//! It differs from the extractors of frameworks in these points:
//!
//! - It checks every rule of the RFC, by token instead of substring, over all lines of a header.
//! - A refusal is a value with a status, headers and a line of text that says what is wrong.
//! - It does no I/O and does not wait, so tables of tests cover each rule.

#[cfg(feature = "deflate")]
pub(crate) mod deflate;
mod extensions;
pub(crate) mod headers;
#[cfg(test)]
mod random;
mod subprotocol;

use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::{Config, Negotiated};
use crate::origin::Requested;
use crate::rejection::Rejection;
pub(crate) use subprotocol::choose as choose_protocol;
pub use subprotocol::{InvalidProtocol, names as protocol_names};

/// What the response to a valid request says.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// Whether the connection switches protocols. From HTTP/2 on, a stream of it opens.
    pub(crate) switches: bool,
    /// The value of `Sec-WebSocket-Accept`. Over HTTP/2 it is not needed (RFC 8441 section 5).
    pub(crate) accept: Option<HeaderValue>,
    /// The subprotocol, if the server knows one that the client offers.
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) negotiated: Negotiated,
}

/// Whether the request asks for a WebSocket: with the header `Upgrade` over HTTP/1, with CONNECT and `:protocol` over HTTP/2
/// (RFC 8441). The layer passes other requests on.
pub(crate) fn is_upgrade(parts: &Parts) -> bool {
    if is_http_1(parts.version) {
        // with a version (`websocket/13`) it is another protocol (RFC 6455 section 4.2.1)
        headers::has_token(&parts.headers, &UPGRADE, "websocket")
    } else {
        // HTTP/2 has no `Upgrade`; a header of that name is ignored (RFC 9113 section 8.2.2)
        let protocol = parts.extensions.get::<Protocol>();
        parts.method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
    }
}

/// Whether a WebSocket takes over the connection of its request. From HTTP/2 on it is a stream of the connection.
pub(crate) fn is_http_1(version: Version) -> bool {
    version <= Version::HTTP_11
}

/// Checks a request for which [`is_upgrade`] is true.
pub(crate) fn check(parts: &Parts, config: &Config) -> Result<Handshake, Rejection> {
    let headers = &parts.headers;
    let is_http_1 = is_http_1(parts.version);
    if is_http_1 {
        check_upgrade(parts)?;
    }
    let requested = Requested::of(parts)?;
    // its bytes would be read as frames
    if announces_body(headers) {
        return Err(Rejection::Body);
    }
    if is_http_1 && !headers::has_token(headers, &CONNECTION, "upgrade") {
        return Err(Rejection::Connection);
    }
    if headers::only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Rejection::WebSocketVersion);
    }
    // over HTTP/2 a key means nothing (RFC 8441 section 5), but a client that sends one, as Undici does, waits for the answer
    let accept = if is_http_1 { Some(accept(headers)?) } else { accept(headers).ok() };
    config.origin.check(parts, &requested)?;
    subprotocol::check(headers)?;
    extensions::check(headers)?;
    let protocol = choose_protocol(headers, &config.protocols);
    if protocol.is_none() && config.require_protocol {
        return Err(Rejection::ProtocolRequired);
    }
    let negotiated = Negotiated {
        #[cfg(feature = "deflate")]
        deflate: config.compression.and_then(|compression| deflate::negotiate(headers, compression)),
    };
    Ok(Handshake { switches: is_http_1, accept, protocol, negotiated })
}

/// Checks what HTTP/1 requires of an upgrade.
fn check_upgrade(parts: &Parts) -> Result<(), Rejection> {
    if parts.method != Method::GET {
        return Err(Rejection::Method);
    }
    if parts.version < Version::HTTP_11 {
        return Err(Rejection::HttpVersion);
    }
    Ok(())
}

/// Whether a body may follow. A `Content-Length` that is not clearly zero counts.
fn announces_body(headers: &HeaderMap) -> bool {
    let is_zero =
        |length: &HeaderValue| !length.is_empty() && length.as_bytes().iter().all(|&digit| digit == b'0');
    headers.contains_key(TRANSFER_ENCODING)
        || (headers.contains_key(CONTENT_LENGTH)
            && !headers::only(headers, &CONTENT_LENGTH).is_some_and(is_zero))
}

/// The answer to the client's key (RFC 6455 section 4.2.2).
fn accept(headers: &HeaderMap) -> Result<HeaderValue, Rejection> {
    let key = match headers::only(headers, &SEC_WEBSOCKET_KEY) {
        Some(key) => key.as_bytes(),
        None if headers.contains_key(SEC_WEBSOCKET_KEY) => return Err(Rejection::MultipleKeys),
        None => return Err(Rejection::MissingKey),
    };
    if !is_key(key) {
        return Err(Rejection::InvalidKey);
    }
    // base64 is always valid in a header, so this error cannot happen
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Rejection::InvalidKey)
}

/// Whether this is the base64 of 16 bytes.
///
/// The last digit has four unused bits, which may have any value, as in gorilla, `ws` for Node.js and Python's
/// `websockets`. The answer is computed from the text, so the bytes do not matter.
fn is_key(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    text.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use http::header::{HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
    use http::{Request, StatusCode};

    use super::*;
    use crate::origin::OriginPolicy;

    /// The request of RFC 6455 section 1.3.
    fn request() -> Parts {
        Request::builder()
            .uri("/chat")
            .header("host", "server.example.com")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    /// That request, with these lines in place of the header's.
    fn with_header(name: &HeaderName, lines: &[&str]) -> Parts {
        let mut request = request();
        request.headers.remove(name);
        for line in lines {
            request.headers.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        request
    }

    fn checked(request: &Parts) -> Result<Handshake, Rejection> {
        check(request, &Config::default())
    }

    fn rejection(name: &HeaderName, lines: &[&str]) -> Option<Rejection> {
        checked(&with_header(name, lines)).err()
    }

    fn knowing(protocols: &[&str], require_protocol: bool) -> Config {
        let protocols = protocols.iter().map(|&name| name.into()).collect();
        Config { protocols, require_protocol, ..Config::default() }
    }

    #[test]
    fn a_valid_request_is_accepted_with_the_answer_to_its_key() {
        let handshake = checked(&request()).unwrap();
        assert_eq!(handshake.accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.protocol, None);
    }

    #[test]
    fn an_upgrade_has_the_token_websocket() {
        for lines in [
            &["websocket"][..],
            &["WebSocket"],
            &["WEBSOCKET"],
            &["h2c, websocket"],
            &["h2c", "websocket"],
            &[" ,\twebsocket\t,"],
        ] {
            assert!(is_upgrade(&with_header(&UPGRADE, lines)), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["h2c"],
            &["websockets"],
            &["notwebsocket"],
            &["web socket"],
            &["websocket/13"],
            &["websocket;13"],
            &["\"websocket\""],
            &["web", "socket"],
            &["wébsocket"],
        ] {
            assert!(!is_upgrade(&with_header(&UPGRADE, lines)), "{lines:?}");
        }
    }

    #[test]
    fn only_http_1_is_upgraded() {
        for (version, expected) in [
            (Version::HTTP_09, true),
            (Version::HTTP_10, true),
            (Version::HTTP_11, true),
            (Version::HTTP_2, false),
            (Version::HTTP_3, false),
        ] {
            let mut request = request();
            request.version = version;
            assert_eq!(is_upgrade(&request), expected, "{version:?}");
        }
    }

    /// The request of RFC 8441 section 5.1.
    fn connect() -> Parts {
        Request::builder()
            .version(Version::HTTP_2)
            .method(Method::CONNECT)
            .uri("https://server.example.com/chat")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-protocol", "chat, superchat")
            .header("sec-websocket-extensions", "permessage-deflate")
            .header("sec-websocket-version", "13")
            .header("origin", "https://server.example.com")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    #[test]
    fn over_http_2_connect_with_the_protocol_websocket_is_accepted() {
        assert!(is_upgrade(&connect()));
        let handshake = check(&connect(), &knowing(&["superchat"], true)).unwrap();
        assert_eq!((handshake.accept, handshake.protocol.as_deref()), (None, Some("superchat")));
    }

    #[test]
    fn over_http_2_a_key_is_answered_if_it_is_one_and_not_needed() {
        let accept = |keys: &[&'static str]| {
            let mut request = connect();
            for key in keys {
                request.headers.append(SEC_WEBSOCKET_KEY, HeaderValue::from_static(key));
            }
            checked(&request).map(|handshake| handshake.accept)
        };
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(accept(&[key]).unwrap().unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for keys in [&[][..], &[""], &["no key"], &[key, key]] {
            assert_eq!(accept(keys), Ok(None), "{keys:?}");
        }
    }

    #[test]
    fn over_http_2_nothing_else_is_an_upgrade() {
        let mut tunnel = connect();
        tunnel.extensions.clear();
        let mut other = connect();
        other.extensions.insert(Protocol::from_static("connect-udp"));
        let mut get = connect();
        get.method = Method::GET;
        for request in [tunnel, other, get] {
            assert!(!is_upgrade(&request), "{request:?}");
        }
    }

    #[test]
    fn over_http_2_the_rules_that_are_not_about_the_upgrade_hold() {
        let with = |name: HeaderName, value: &'static str| {
            let mut request = connect();
            request.headers.insert(name, HeaderValue::from_static(value));
            checked(&request).unwrap_err().status()
        };
        assert_eq!(with(SEC_WEBSOCKET_VERSION, "12"), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(with(ORIGIN, "https://evil.com"), StatusCode::FORBIDDEN);
        assert_eq!(with(SEC_WEBSOCKET_PROTOCOL, "a b"), StatusCode::BAD_REQUEST);
        assert_eq!(with(SEC_WEBSOCKET_EXTENSIONS, ";"), StatusCode::BAD_REQUEST);
        assert_eq!(with(CONTENT_LENGTH, "5"), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn an_upgrade_is_asked_for_whatever_else_is_wrong() {
        let mut bare = Request::new(()).into_parts().0;
        bare.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        bare.method = Method::POST;
        assert!(is_upgrade(&bare));
    }

    #[test]
    fn the_method_is_get() {
        for method in ["POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "get", "GETS"] {
            let mut request = request();
            request.method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(checked(&request).unwrap_err(), Rejection::Method);
        }
    }

    #[test]
    fn the_version_is_http_1_1_at_least() {
        for version in [Version::HTTP_09, Version::HTTP_10] {
            let mut request = request();
            request.version = version;
            assert_eq!(checked(&request).unwrap_err(), Rejection::HttpVersion);
        }
    }

    #[test]
    fn no_body_is_announced() {
        assert_eq!(rejection(&CONTENT_LENGTH, &["0"]), None);
        assert_eq!(rejection(&CONTENT_LENGTH, &["00"]), None);
        for lines in [
            &["5"][..],
            &["05"],
            &["18446744073709551616"],
            &[""],
            &["-1"],
            &["+0"],
            &["0x0"],
            &["0, 0"],
            &["0", "0"],
            &["0", "5"],
            &["zero"],
        ] {
            assert_eq!(rejection(&CONTENT_LENGTH, lines), Some(Rejection::Body), "{lines:?}");
        }
        for line in ["chunked", "identity", "gzip, chunked", ""] {
            assert_eq!(rejection(&TRANSFER_ENCODING, &[line]), Some(Rejection::Body), "{line}");
        }
    }

    #[test]
    fn connection_has_the_token_upgrade() {
        for lines in [
            &["upgrade"][..],
            &["UPGRADE"],
            &["keep-alive, Upgrade"],
            &["keep-alive", "Upgrade"],
            &["upgrade,keep-alive"],
            &[",,\tupGrade ,"],
            &["é, upgrade"],
        ] {
            assert_eq!(rejection(&CONNECTION, lines), None, "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["keep-alive"],
            &["notupgrade"],
            &["upgrades"],
            &["up grade"],
            &["keep-alive upgrade"],
            &["keep-alive; upgrade"],
            &["\"upgrade\""],
            &["up", "grade"],
        ] {
            assert_eq!(rejection(&CONNECTION, lines), Some(Rejection::Connection), "{lines:?}");
        }
    }

    #[test]
    fn the_websocket_version_is_exactly_13() {
        for lines in [
            &[][..],
            &[""],
            &["8"],
            &["12"],
            &["14"],
            &["013"],
            &["13.0"],
            &["1 3"],
            &["13, 8"],
            &["13,13"],
            &["13", "13"],
            &["13", "8"],
            &["١٣"],
        ] {
            let expected = Some(Rejection::WebSocketVersion);
            assert_eq!(rejection(&SEC_WEBSOCKET_VERSION, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_key_is_the_base64_of_16_bytes() {
        for key in ["AAAAAAAAAAAAAAAAAAAAAA==", "//////////////////////==", "AQIDBAUGBwgJCgsMDQ4PEC=="] {
            assert_eq!(rejection(&SEC_WEBSOCKET_KEY, &[key]), None, "{key}");
        }
        let long = "A".repeat(8192);
        for key in [
            "",
            "==",
            "AAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAA===",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA===",
            "AAAAAAAAAAAAAAAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAAA ==",
            "AAAAAAAAAAA=AAAAAAAAAA==",
            "-_-_-_-_-_-_-_-_-_-_-_==",
            "AAAAAAAAAAAAAAAAAAAAé==",
            "AAAAAAAAAAAAAAAAAAAAAA==,",
            &long,
        ] {
            assert_eq!(rejection(&SEC_WEBSOCKET_KEY, &[key]), Some(Rejection::InvalidKey), "{key}");
        }
        assert_eq!(rejection(&SEC_WEBSOCKET_KEY, &[]), Some(Rejection::MissingKey));
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(rejection(&SEC_WEBSOCKET_KEY, &[key, key]), Some(Rejection::MultipleKeys));
    }

    #[test]
    fn the_origin_is_judged() {
        assert_eq!(rejection(&ORIGIN, &["https://server.example.com"]), None);
        for (lines, status) in [
            (&["https://evil.com"][..], StatusCode::FORBIDDEN),
            (&["null"], StatusCode::FORBIDDEN),
            (&[""], StatusCode::FORBIDDEN),
            (&["https://server.example.com@evil.com"], StatusCode::FORBIDDEN),
            (&["https://server.example.com", "https://server.example.com"], StatusCode::BAD_REQUEST),
        ] {
            assert_eq!(rejection(&ORIGIN, lines).unwrap().status(), status, "{lines:?}");
        }
        assert_eq!(
            rejection(&ORIGIN, &["https://EVIL.com:443"]).unwrap().to_string(),
            "the origin https://evil.com is not allowed; expected a page of server.example.com",
        );
    }

    #[test]
    fn each_judgement_of_the_origin_has_its_status() {
        let status = |policy: OriginPolicy, request: Parts| {
            check(&request, &Config { origin: policy, ..Config::default() }).unwrap_err().status()
        };
        assert_eq!(status(OriginPolicy::any().require_origin(), request()), StatusCode::FORBIDDEN);
        let hosts = OriginPolicy::any().allowed_hosts(["example.com"]);
        assert_eq!(status(hosts.clone(), request()), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(status(hosts, with_header(&HOST, &[])), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn the_servers_order_decides_on_the_subprotocol() {
        let chosen = |lines: &[&str], known: &[&str]| {
            let handshake =
                check(&with_header(&SEC_WEBSOCKET_PROTOCOL, lines), &knowing(known, false)).unwrap();
            handshake.protocol.map(|name| name.to_string())
        };
        assert_eq!(chosen(&["b, a"], &["a", "b"]).as_deref(), Some("a"));
        assert_eq!(chosen(&["b, c"], &["a", "b"]).as_deref(), Some("b"));
        assert_eq!(chosen(&["c"], &["a", "b"]), None);
        assert_eq!(chosen(&[], &["a", "b"]), None);
        assert_eq!(chosen(&["a"], &[]), None);
    }

    #[test]
    fn a_required_subprotocol_has_to_be_offered() {
        for lines in [&[][..], &[""], &["c"], &["A"]] {
            let request = with_header(&SEC_WEBSOCKET_PROTOCOL, lines);
            assert_eq!(check(&request, &knowing(&["a"], true)).unwrap_err(), Rejection::ProtocolRequired);
        }
        let request = with_header(&SEC_WEBSOCKET_PROTOCOL, &["b, a"]);
        assert_eq!(check(&request, &knowing(&["a"], true)).unwrap().protocol.as_deref(), Some("a"));
    }

    #[test]
    fn malformed_lists_are_refused_even_if_nothing_is_negotiated() {
        assert_eq!(rejection(&SEC_WEBSOCKET_PROTOCOL, &["a b"]), Some(Rejection::MalformedProtocol));
        assert_eq!(rejection(&SEC_WEBSOCKET_EXTENSIONS, &["a;;b"]), Some(Rejection::MalformedExtensions));
        assert_eq!(rejection(&SEC_WEBSOCKET_EXTENSIONS, &["x-unheard-of; a=1"]), None);
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn compression_is_negotiated_where_it_is_switched_on() {
        use crate::compression::Compression;

        let negotiated = |offer: &[&str], compression| {
            let config = Config { compression, ..Config::default() };
            let request = with_header(&SEC_WEBSOCKET_EXTENSIONS, offer);
            check(&request, &config).map(|handshake| handshake.negotiated.deflate)
        };
        let offer = &["permessage-deflate; client_max_window_bits"];
        let on = Some(Compression::new());
        let agreed = negotiated(offer, on).unwrap().unwrap();
        assert_eq!((agreed.compression, agreed.window_bits), (Compression::new(), None));
        assert_eq!(negotiated(offer, None), Ok(None));
        assert_eq!(negotiated(&[], on), Ok(None));
        assert_eq!(negotiated(&["permessage-deflate; foo"], on), Ok(None));
        let malformed = &["permessage-deflate; client_max_window_bits;"];
        assert_eq!(negotiated(malformed, on), Err(Rejection::MalformedExtensions));
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_the_one_that_is_told() {
        let mut request = Request::new(()).into_parts().0;
        request.method = Method::POST;
        request.version = Version::HTTP_10;
        let config = Config { origin: OriginPolicy::any().require_origin(), ..knowing(&["a"], true) };
        let expected =
            |request: &Parts, rejection| assert_eq!(check(request, &config).unwrap_err(), rejection);
        let set = |request: &mut Parts, name: HeaderName, value: &'static str| {
            request.headers.insert(name, HeaderValue::from_static(value));
        };
        set(&mut request, CONTENT_LENGTH, "5");
        set(&mut request, SEC_WEBSOCKET_PROTOCOL, "a b");
        set(&mut request, SEC_WEBSOCKET_EXTENSIONS, ";");
        expected(&request, Rejection::Method);
        request.method = Method::GET;
        expected(&request, Rejection::HttpVersion);
        request.version = Version::HTTP_11;
        expected(&request, Rejection::InvalidHost { header: "Host", problem: "it is missing" });
        set(&mut request, HOST, "example.com");
        expected(&request, Rejection::Body);
        request.headers.remove(CONTENT_LENGTH);
        expected(&request, Rejection::Connection);
        set(&mut request, CONNECTION, "upgrade");
        expected(&request, Rejection::WebSocketVersion);
        set(&mut request, SEC_WEBSOCKET_VERSION, "13");
        expected(&request, Rejection::MissingKey);
        set(&mut request, SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        expected(&request, Rejection::MissingOrigin);
        set(&mut request, ORIGIN, "https://example.com");
        expected(&request, Rejection::MalformedProtocol);
        set(&mut request, SEC_WEBSOCKET_PROTOCOL, "b");
        expected(&request, Rejection::MalformedExtensions);
        set(&mut request, SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate");
        expected(&request, Rejection::ProtocolRequired);
        set(&mut request, SEC_WEBSOCKET_PROTOCOL, "b, a");
        assert!(check(&request, &config).is_ok());
    }

    #[test]
    fn no_raw_header_value_is_echoed() {
        let names = [
            CONNECTION,
            CONTENT_LENGTH,
            HOST,
            ORIGIN,
            SEC_WEBSOCKET_EXTENSIONS,
            SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION,
        ];
        for name in names {
            for value in ["<script>ECHO</script>", "https://ECHO\"@example.com", "ECHO\tECHO é"] {
                let text = checked(&with_header(&name, &[value])).unwrap_err().to_string();
                assert!(!text.to_lowercase().contains("echo"), "{name}: {text}");
            }
        }
    }
}
