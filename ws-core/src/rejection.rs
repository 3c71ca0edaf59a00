//! [`Rejection`]: every reason to refuse a handshake, in one table, and the response to each.

use std::borrow::Cow;

use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode, Version};

use crate::body::Body;
use crate::origin::Denied;

/// Declares the rejections. Each one has its docs, its status, the level of its event, and its text.
macro_rules! rejections {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $({ $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)+ })?
            => $status:ident, $level:ident, $text:literal;
    )+) => {
        /// Why a handshake was refused.
        ///
        /// It becomes a response, not an error of the service: a [`status`](Self::status),
        /// [`headers`](Self::headers), and the line of text of [`Display`](std::fmt::Display) as the body. The text
        /// says what is wrong. It contains nothing of the request but parsed and normalised host names, so it is safe
        /// to show and to log.
        ///
        /// The [`Observer`](crate::Observer) is told of each one, and each one emits one `tracing` event with the
        /// target `ws_core::rejection`: at `DEBUG` for mistakes of clients, at `WARN` and `ERROR` for problems of the
        /// server.
        ///
        /// A browser does not show the text to the page, or to its developer. So for an origin that is refused with 403 the
        /// layer emits an event at `WARN`, too, once in a minute for each origin, and for at most 16 origins in a minute. Its
        /// target is `tower_http::websocket`: the usual filter of servers on axum, `my_app=debug,tower_http=debug`, shows no
        /// other libraries. An `EnvFilter` without any directive shows errors only, and so not this warning.
        ///
        /// ```
        /// use ws_core::Rejection;
        ///
        /// let rejection = Rejection::WebSocketVersion;
        /// assert_eq!(rejection.status(), 426);
        /// assert_eq!(rejection.to_string(), "the header `Sec-WebSocket-Version` has to be there once, as `13`");
        /// assert!(rejection.headers().any(|(name, value)| name == "sec-websocket-version" && value == "13"));
        /// ```
        ///
        /// ```
        /// use std::sync::atomic::{AtomicU64, Ordering};
        /// use ws_core::{Observer, Rejection};
        ///
        /// #[derive(Default)]
        /// struct Metrics {
        ///     strangers: AtomicU64,
        /// }
        ///
        /// impl Observer for Metrics {
        ///     fn on_refused(&self, rejection: &Rejection) {
        ///         if let Rejection::OriginNotAllowed { .. } = rejection {
        ///             self.strangers.fetch_add(1, Ordering::Relaxed);
        ///         }
        ///         if rejection.status().is_server_error() {
        ///             eprintln!("{rejection}");
        ///         }
        ///     }
        /// }
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum Rejection {
            $(
                $(#[doc = $doc])+
                ///
                #[doc = concat!("Status: [`StatusCode::", stringify!($status), "`].")]
                #[error($text)]
                $name $({ $($(#[doc = $field_doc])+ $field: $type,)+ })?,
            )+
        }

        impl Rejection {
            /// The status of the response.
            #[must_use]
            pub fn status(&self) -> StatusCode {
                match self {
                    $(Self::$name { .. } => StatusCode::$status,)+
                }
            }

            /// Emits the `tracing` event of this rejection.
            pub(crate) fn trace(&self) {
                match self {
                    $(Self::$name { .. } => tracing::event!(
                        target: "ws_core::rejection",
                        tracing::Level::$level,
                        status = self.status().as_u16(),
                        reason = %self,
                        "handshake refused",
                    ),)+
                }
            }
        }
    };
}

rejections! {
    /// The server is draining its connections.
    Draining {
        /// When to try again, in seconds.
        retry_after: u64,
    } => SERVICE_UNAVAILABLE, DEBUG, "the server takes no new connections; try again in {retry_after} s";
    /// The method is not GET (RFC 6455 section 4.1).
    Method => METHOD_NOT_ALLOWED, DEBUG, "the method of a WebSocket handshake is GET";
    /// The HTTP version is below 1.1. The client chose it, or a proxy in between.
    HttpVersion => HTTP_VERSION_NOT_SUPPORTED, DEBUG,
        "a WebSocket handshake needs HTTP/1.1 at least; a proxy in between may have lowered the version";
    /// A body is announced. Its bytes would be read as frames.
    Body => BAD_REQUEST, DEBUG,
        "a WebSocket handshake has no body: no `Transfer-Encoding`, and no `Content-Length` but 0";
    /// The header `Connection` does not have the token `upgrade` (RFC 6455 section 4.2.1).
    Connection => BAD_REQUEST, DEBUG,
        "the header `Connection` lacks `upgrade`; a proxy in between may have to be told to pass it on";
    /// The header `Sec-WebSocket-Version` is not `13` (RFC 6455 section 4.4).
    WebSocketVersion => UPGRADE_REQUIRED, DEBUG,
        "the header `Sec-WebSocket-Version` has to be there once, as `13`";
    /// There is no `Sec-WebSocket-Key`.
    MissingKey => BAD_REQUEST, DEBUG, "the header `Sec-WebSocket-Key` is missing";
    /// `Sec-WebSocket-Key` is not the base64 of 16 bytes (RFC 6455 section 4.1).
    InvalidKey => BAD_REQUEST, DEBUG, "the header `Sec-WebSocket-Key` has to be the base64 of 16 bytes";
    /// There is more than one `Sec-WebSocket-Key`.
    MultipleKeys => BAD_REQUEST, DEBUG, "the header `Sec-WebSocket-Key` has to be there once, not more often";
    /// The request does not name one host that it is for (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
    InvalidHost {
        /// The part of the request that should name it: a header such as `Host`, `:authority`, or `target`.
        header: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    } => BAD_REQUEST, DEBUG, "the `{header}` of the request does not tell the host: {problem}";
    /// The host is not one of [`OriginPolicy::allowed_hosts`](crate::OriginPolicy::allowed_hosts).
    MisdirectedHost {
        /// The host of the request, normalised.
        host: String,
    } => MISDIRECTED_REQUEST, DEBUG, "the host {host} is not served here";
    /// There is more than one origin (RFC 6454 section 7.3).
    MultipleOrigins => BAD_REQUEST, DEBUG, "the header `Origin` has to be there once, with one origin";
    /// There is no `Origin`, which [`OriginPolicy::require_origin`](crate::OriginPolicy::require_origin) requires.
    MissingOrigin => FORBIDDEN, DEBUG, "the header `Origin` is missing, which this server requires";
    /// `Origin` is not an origin.
    MalformedOrigin {
        /// What is wrong with it.
        problem: &'static str,
    } => FORBIDDEN, DEBUG, "the header `Origin` is not an origin such as `https://example.com`: {problem}";
    /// The [`OriginPolicy`](crate::OriginPolicy) does not allow the origin.
    OriginNotAllowed {
        /// The origin, normalised.
        origin: String,
        /// What is allowed: the server's own origin, or a description.
        expected: String,
    } => FORBIDDEN, DEBUG, "the origin {origin} is not allowed; expected {expected}";
    /// `Sec-WebSocket-Protocol` is not a list of tokens (RFC 6455 section 4.1).
    MalformedProtocol => BAD_REQUEST, DEBUG,
        "the header `Sec-WebSocket-Protocol` has to be a list of names, with commas between them";
    /// `Sec-WebSocket-Extensions` does not have the grammar of RFC 6455 section 9.1.
    MalformedExtensions => BAD_REQUEST, DEBUG,
        "the header `Sec-WebSocket-Extensions` is not a list such as `permessage-deflate; client_max_window_bits`";
    /// A subprotocol is required, and the client offers none that the server knows.
    ProtocolRequired => BAD_REQUEST, DEBUG,
        "the header `Sec-WebSocket-Protocol` has to offer a subprotocol that this server speaks";
    /// The limit of connections is reached.
    TooManyConnections {
        /// When to try again, in seconds.
        retry_after: u64,
    } => SERVICE_UNAVAILABLE, DEBUG, "too many connections are open; try again in {retry_after} s";
    /// The handler did not answer within the handshake timeout.
    Timeout => REQUEST_TIMEOUT, WARN, "the handler did not answer within the handshake timeout";
    /// The HTTP server does not upgrade connections.
    NotUpgradable => INTERNAL_SERVER_ERROR, ERROR,
        "the connection cannot be upgraded; serve it with upgrades: hyper's `.with_upgrades()`, or \
         `serve_connection_with_upgrades` of hyper-util";
    /// A plain request to a route that serves WebSockets only.
    NotAnUpgrade => UPGRADE_REQUIRED, DEBUG,
        "this is a WebSocket; connect to it as `ws://` or `wss://`, or send `Upgrade: websocket`";
    /// A handler asked for the upgrade, but no layer has seen the request.
    MissingLayer => INTERNAL_SERVER_ERROR, ERROR,
        "no layer handles the upgrade; add `.layer(WebSocketLayer::new())` to the router, after its routes";
}

impl Rejection {
    /// The headers of this response over HTTP/1.1, in addition to those that every refusal has.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
        let text = HeaderValue::from_static;
        let headers = match self {
            Self::Method => [Some((ALLOW, text("GET"))), None],
            // RFC 9110 section 15.5.22 asks for `Upgrade`, RFC 6455 section 4.4 for the version
            Self::WebSocketVersion | Self::NotAnUpgrade => {
                [Some((UPGRADE, text("websocket"))), Some((SEC_WEBSOCKET_VERSION, text("13")))]
            }
            Self::Draining { retry_after } | Self::TooManyConnections { retry_after } => {
                [Some((RETRY_AFTER, (*retry_after).into())), None]
            }
            _ => [None, None],
        };
        headers.into_iter().flatten()
    }

    /// The text for a client that speaks this HTTP version.
    fn text(&self, version: Version) -> Cow<'static, str> {
        match self {
            // HTTP/2 has no `Upgrade`
            Self::NotAnUpgrade if version > Version::HTTP_11 => {
                "this is a WebSocket; connect to it as `ws://` or `wss://`, or send CONNECT with `:protocol` `websocket`"
                    .into()
            }
            _ => self.to_string().into(),
        }
    }

    /// The response to a request of this HTTP version, with one line of plain text as its body. Emits the one `tracing`
    /// event of the rejection.
    ///
    /// Over HTTP/1.1 it closes the connection. HTTP/2 has no `Upgrade`: there it ends the stream, and 400 replaces 426.
    #[must_use]
    pub fn into_response(self, version: Version) -> Response<Body> {
        self.trace();
        let text = format!("{}\n", self.text(version));
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.extend(self.headers());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        let status = self.status();
        *response.status_mut() = if version <= Version::HTTP_11 {
            // what follows the request may be frames or a body, and must not be read as the next request
            close_connection(headers);
            status
        } else {
            // HTTP/2 forbids both headers (RFC 9113 section 8.2.2), and 426 needs `Upgrade` (RFC 9110 section 15.5.22)
            match headers.remove(UPGRADE) {
                Some(_) => StatusCode::BAD_REQUEST,
                None => status,
            }
        };
        *response.body_mut() = Body::text(text);
        response
    }
}

/// Makes a response over HTTP/1.1 the last one on its connection.
pub(crate) fn close_connection(headers: &mut HeaderMap) {
    // RFC 9110 section 7.8: a response with `Upgrade` also lists `upgrade` here
    let connection = if headers.contains_key(UPGRADE) { "close, upgrade" } else { "close" };
    headers.insert(CONNECTION, HeaderValue::from_static(connection));
}

impl From<Denied> for Rejection {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::MultipleOrigins => Self::MultipleOrigins,
            Denied::MissingOrigin => Self::MissingOrigin,
            Denied::MalformedOrigin(problem) => Self::MalformedOrigin { problem },
            Denied::NotAllowed { origin, expected } => Self::OriginNotAllowed { origin, expected },
            Denied::Host { header, problem } => Self::InvalidHost { header, problem },
            Denied::Misdirected { host } => Self::MisdirectedHost { host },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{self, Write as _};
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    fn all() -> Vec<(Rejection, u16, Level)> {
        let origin = || "https://evil.com".to_owned();
        vec![
            (Rejection::Draining { retry_after: 5 }, 503, Level::DEBUG),
            (Rejection::Method, 405, Level::DEBUG),
            (Rejection::HttpVersion, 505, Level::DEBUG),
            (Rejection::Body, 400, Level::DEBUG),
            (Rejection::Connection, 400, Level::DEBUG),
            (Rejection::WebSocketVersion, 426, Level::DEBUG),
            (Rejection::MissingKey, 400, Level::DEBUG),
            (Rejection::InvalidKey, 400, Level::DEBUG),
            (Rejection::MultipleKeys, 400, Level::DEBUG),
            (Rejection::InvalidHost { header: "Host", problem: "it is missing" }, 400, Level::DEBUG),
            (Rejection::MisdirectedHost { host: "evil.com".to_owned() }, 421, Level::DEBUG),
            (Rejection::MultipleOrigins, 400, Level::DEBUG),
            (Rejection::MissingOrigin, 403, Level::DEBUG),
            (Rejection::MalformedOrigin { problem: "it has a path" }, 403, Level::DEBUG),
            (Rejection::OriginNotAllowed { origin: origin(), expected: origin() }, 403, Level::DEBUG),
            (Rejection::MalformedProtocol, 400, Level::DEBUG),
            (Rejection::MalformedExtensions, 400, Level::DEBUG),
            (Rejection::ProtocolRequired, 400, Level::DEBUG),
            (Rejection::TooManyConnections { retry_after: 1 }, 503, Level::DEBUG),
            (Rejection::Timeout, 408, Level::WARN),
            (Rejection::NotUpgradable, 500, Level::ERROR),
            (Rejection::NotAnUpgrade, 426, Level::DEBUG),
            (Rejection::MissingLayer, 500, Level::ERROR),
        ]
    }

    fn headers(rejection: &Rejection) -> Vec<(String, String)> {
        let text =
            |(name, value): (HeaderName, HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        rejection.headers().map(text).collect()
    }

    #[test]
    fn each_has_its_status_and_one_line_of_text() {
        for (rejection, status, _) in all() {
            assert_eq!(rejection.status(), status, "{rejection:?}");
            let text = rejection.to_string();
            assert!(!text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text}");
            assert!(!text.contains("  "), "{text}");
        }
    }

    #[test]
    fn the_headers_say_how_to_do_better() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(headers(&Rejection::Method), [pair("allow", "GET")]);
        assert_eq!(headers(&Rejection::Draining { retry_after: 5 }), [pair("retry-after", "5")]);
        assert_eq!(headers(&Rejection::TooManyConnections { retry_after: 1 }), [pair("retry-after", "1")]);
        for rejection in [Rejection::WebSocketVersion, Rejection::NotAnUpgrade] {
            let expected = [pair("upgrade", "websocket"), pair("sec-websocket-version", "13")];
            assert_eq!(headers(&rejection), expected);
        }
        for (rejection, status, _) in all() {
            assert_eq!(headers(&rejection).is_empty(), !matches!(status, 405 | 426 | 503), "{rejection:?}");
        }
    }

    #[test]
    fn over_http_2_the_text_advises_what_is_possible_there() {
        for (version, advice) in [
            (Version::HTTP_11, "send `Upgrade: websocket`"),
            (Version::HTTP_2, "send CONNECT with `:protocol` `websocket`"),
        ] {
            let response = Rejection::NotAnUpgrade.into_response(version);
            let text = String::from_utf8(response.into_body().into_bytes().into()).unwrap();
            assert!(text.contains(advice) && text.ends_with('\n'), "{text}");
        }
        for (rejection, _, _) in all() {
            let text = rejection.text(Version::HTTP_2);
            assert!(!text.contains("`Upgrade: "), "{text}");
        }
    }

    #[test]
    fn each_is_told_in_one_event_that_can_be_filtered() {
        for (rejection, status, level) in all() {
            let events = Events::default();
            tracing::subscriber::with_default(events.clone(), || rejection.trace());
            let expected = format!(
                "{level} ws_core::rejection message=handshake refused status={status} reason={rejection}"
            );
            assert_eq!(*events.0.lock().unwrap(), [expected]);
        }
    }

    /// Collects the events as text.
    #[derive(Clone, Default)]
    struct Events(Arc<Mutex<Vec<String>>>);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }

    impl Subscriber for Events {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let metadata = event.metadata();
            let mut text = Text(format!("{} {}", metadata.level(), metadata.target()));
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }
}
