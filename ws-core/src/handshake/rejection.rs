//! [`Rejection`]: every way in which a handshake is refused, in one table.

use http::StatusCode;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};

use crate::origin::Denied;

/// Declares the rejections: what each one is for, then its status, the level of its event, and its text.
macro_rules! rejections {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident $({ $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)+ })?
            => $status:ident, $level:ident, $text:literal;
    )+) => {
        /// Why a handshake was refused.
        ///
        /// It is a response, not an error of the service: [`status`](Self::status),
        /// [`headers`](Self::headers) and, as its body, the line of text that [`Display`](std::fmt::Display)
        /// gives. The text says what was wrong and holds nothing of the request but parsed and normalised
        /// names of hosts, so that it may be shown and logged.
        ///
        /// Each one is also told to the [`Observer`](crate::Observer), and as one `tracing` event of the
        /// target `ws_core::rejection`: at `DEBUG` what clients do, at `WARN` and `ERROR` what the server has
        /// to mend.
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

            /// Emits the one event that tells of this rejection.
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
    /// The server shuts down, or moves its connections elsewhere.
    Draining {
        /// When to try again, in seconds.
        retry_after: u64,
    } => SERVICE_UNAVAILABLE, DEBUG, "the server takes no new connections; try again in {retry_after} s";
    /// The method is not GET (RFC 6455 section 4.1).
    Method => METHOD_NOT_ALLOWED, DEBUG, "the method of a WebSocket handshake is GET";
    /// The version is below HTTP/1.1, by the client or by a proxy in between.
    HttpVersion => HTTP_VERSION_NOT_SUPPORTED, DEBUG,
        "a WebSocket handshake needs HTTP/1.1 at least; a proxy in between may have lowered the version";
    /// A body is announced, whose bytes would be taken for frames.
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
    /// The host, which the policy of origins has to know, cannot be read (RFC 9112 section 3.2).
    InvalidHost {
        /// The header that is meant.
        header: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    } => BAD_REQUEST, DEBUG, "the header `{header}` does not tell the host: {problem}";
    /// The host is not one of [`OriginPolicy::allowed_hosts`](crate::OriginPolicy::allowed_hosts).
    MisdirectedHost {
        /// The host that was asked for, normalised.
        host: String,
    } => MISDIRECTED_REQUEST, DEBUG, "the host {host} is not served here";
    /// There is more than one origin (RFC 6454 section 7.3).
    MultipleOrigins => BAD_REQUEST, DEBUG, "the header `Origin` has to be there once, with one origin";
    /// There is no `Origin`, and [`OriginPolicy::require_origin`](crate::OriginPolicy::require_origin) was
    /// called.
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
        /// What would have been allowed: the server's own origin, or a description.
        expected: String,
    } => FORBIDDEN, DEBUG, "the origin {origin} is not allowed; expected {expected}";
    /// `Sec-WebSocket-Protocol` is not a list of tokens (RFC 6455 section 4.1).
    MalformedProtocol => BAD_REQUEST, DEBUG,
        "the header `Sec-WebSocket-Protocol` has to be a list of names, with commas between them";
    /// `Sec-WebSocket-Extensions` does not have the grammar of RFC 6455 section 9.1.
    MalformedExtensions => BAD_REQUEST, DEBUG,
        "the header `Sec-WebSocket-Extensions` is not a list such as `permessage-deflate; client_max_window_bits`";
    /// A subprotocol is required, and none that the server knows was offered.
    ProtocolRequired => BAD_REQUEST, DEBUG,
        "the header `Sec-WebSocket-Protocol` has to offer a subprotocol that this server speaks";
    /// As many connections are open as may be.
    TooManyConnections {
        /// When to try again, in seconds.
        retry_after: u64,
    } => SERVICE_UNAVAILABLE, DEBUG, "too many connections are open; try again in {retry_after} s";
    /// The handler did not answer within the handshake timeout.
    Timeout => REQUEST_TIMEOUT, WARN, "the handler did not answer within the handshake timeout";
    /// The server that runs the service does not let connections be upgraded.
    NotUpgradable => INTERNAL_SERVER_ERROR, ERROR,
        "the connection cannot be upgraded; serve it with upgrades: hyper's `.with_upgrades()`, or \
         `serve_connection_with_upgrades` of hyper-util";
    /// A plain request for what is only a WebSocket.
    NotAnUpgrade => UPGRADE_REQUIRED, DEBUG,
        "this is a WebSocket; connect to it as `ws://` or `wss://`, or send `Upgrade: websocket`";
    /// A handler asked for the upgrade, and no layer is there to provide it.
    MissingLayer => INTERNAL_SERVER_ERROR, ERROR,
        "no layer handles the upgrade; add `.layer(WebSocketLayer::new())` to the router, after its routes";
}

impl Rejection {
    /// The headers that belong to this response over HTTP/1.1, besides those that every refusal has.
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

    /// Keeps what is emitted, as text.
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
