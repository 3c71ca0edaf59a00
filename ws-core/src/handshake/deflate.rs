//! The negotiation of permessage-deflate (RFC 7692 section 7.1).
//!
//! A client may make several offers with different parameters, in its order of preference. The server accepts the first one
//! that it can meet. It declines an offer with an unknown parameter, a parameter that occurs twice, or a value that is not
//! allowed. It never refuses the handshake because of an offer.
//!
//! The answer always has both `no_context_takeover` parameters, also if the client did not offer them (sections 7.1.1.1 and
//! 7.1.1.2 allow that), so that no connection keeps a context between two messages.
//!
//! | parameter | server |
//! |---|---|
//! | `server_no_context_takeover`, `client_no_context_takeover` | accepts |
//! | `server_max_window_bits=N` | accepts 9 to 15. Declines 8: zlib does not compress with a window that small |
//! | `client_max_window_bits`, with a value or without | does not answer it: it can inflate any window of the client |
//!
//! The offer of our client and its check of the answer use the same parameters: [`OFFER`] and [`agreed`].

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderValue};

use super::extensions::{name_and_value, parts, unescaped};
use super::headers::items;
use crate::compression::Compression;
use crate::config::Deflate;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The smallest window that we can compress with.
const MIN_WINDOW_BITS: u8 = 9;

/// The first offer that the server can meet. The header has to be well-formed.
pub(super) fn negotiate(headers: &HeaderMap, compression: Compression) -> Option<Deflate> {
    items(headers, &SEC_WEBSOCKET_EXTENSIONS)
        .filter_map(Offer::parse)
        .find(Offer::can_be_met)
        .map(|offer| Deflate { compression, window_bits: offer.server_max_window_bits })
}

/// The value of `Sec-WebSocket-Extensions` in the response.
pub(crate) fn answer(deflate: &Deflate) -> HeaderValue {
    let bits = deflate.window_bits.map(|bits| format!("; {SERVER_MAX_WINDOW_BITS}={bits}"));
    let bits = bits.as_deref().unwrap_or_default();
    HeaderValue::try_from(format!("{NAME}; {SERVER_NO_CONTEXT_TAKEOVER}; {CLIENT_NO_CONTEXT_TAKEOVER}{bits}"))
        .expect("names of parameters and digits can stand in a header")
}

/// The offer of our client: each message is compressed by itself, in both directions.
#[cfg(feature = "client")]
pub(crate) const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Checks the answer of a server to [`OFFER`].
///
/// We inflate each message by itself, so the answer needs `server_no_context_takeover`. We always compress each message by
/// itself, so `client_no_context_takeover` makes no difference. The server may announce its own window, but not limit ours,
/// because the offer did not allow that (sections 7.1.1 and 7.1.2).
#[cfg(feature = "client")]
pub(crate) fn agreed(answer: &[u8], compression: Compression) -> Result<Deflate, &'static str> {
    let parameters = Offer::parse(answer)
        .ok_or("it has to answer the offer of compression with permessage-deflate and its parameters")?;
    if parameters.server_no_context_takeover.is_none() {
        return Err("it has to compress with `server_no_context_takeover`, or not at all");
    }
    if parameters.client_max_window_bits.is_some() {
        return Err("it compresses with `client_max_window_bits`, which it was not offered");
    }
    Ok(Deflate { compression, window_bits: None })
}

/// The parameters of one offer or answer.
#[derive(Debug, Default)]
struct Offer {
    server_no_context_takeover: Option<()>,
    client_no_context_takeover: Option<()>,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<()>,
}

impl Offer {
    /// Parses a well-formed `extension`. `None` if it is another extension or its parameters are not valid.
    fn parse(extension: &[u8]) -> Option<Self> {
        let mut parts = parts(extension);
        if parts.next()? != NAME.as_bytes() {
            return None;
        }
        let mut offer = Self::default();
        parts.try_for_each(|parameter| offer.add(parameter))?;
        Some(offer)
    }

    /// Sets a parameter. `None` if it is unknown, has a value that is not allowed, or occurs twice.
    fn add(&mut self, parameter: &[u8]) -> Option<()> {
        let (name, value) = name_and_value(parameter);
        match (str::from_utf8(name).ok()?, value) {
            (SERVER_NO_CONTEXT_TAKEOVER, None) => set(&mut self.server_no_context_takeover, ()),
            (CLIENT_NO_CONTEXT_TAKEOVER, None) => set(&mut self.client_no_context_takeover, ()),
            (SERVER_MAX_WINDOW_BITS, Some(value)) => {
                set(&mut self.server_max_window_bits, window_bits(value)?)
            }
            (CLIENT_MAX_WINDOW_BITS, None) => set(&mut self.client_max_window_bits, ()),
            (CLIENT_MAX_WINDOW_BITS, Some(value)) => {
                window_bits(value).and_then(|_| set(&mut self.client_max_window_bits, ()))
            }
            _ => None,
        }
    }

    fn can_be_met(&self) -> bool {
        self.server_max_window_bits.is_none_or(|bits| bits >= MIN_WINDOW_BITS)
    }
}

/// Sets a value; `None` if it was set before.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Parses the size of a window: 8 to 15, without leading zeros, with or without quotes.
fn window_bits(value: &[u8]) -> Option<u8> {
    let content = value.strip_prefix(b"\"").and_then(|quoted| quoted.strip_suffix(b"\"")).unwrap_or(value);
    let mut digits = unescaped(content);
    match (digits.next()?, digits.next(), digits.next()) {
        (digit @ b'8'..=b'9', None, None) => Some(digit - b'0'),
        (b'1', Some(digit @ b'0'..=b'5'), None) => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answered(lines: &[&str]) -> Option<String> {
        let headers = lines
            .iter()
            .map(|line| (SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(line).unwrap()))
            .collect();
        let answer = answer(&negotiate(&headers, Compression::new())?);
        Some(answer.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_offer_is_accepted_without_context_takeover_whatever_it_asks_for() {
        for line in [
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=15; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate;client_max_window_bits=\"10\"",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
        ] {
            assert_eq!(answered(&[line]).as_deref(), Some(ANSWER), "{line}");
        }
        assert_eq!(answered(&["x-other", "permessage-deflate"]).as_deref(), Some(ANSWER));
    }

    #[test]
    fn a_window_that_the_client_wants_is_promised() {
        for bits in 9..=15 {
            for offer in [
                format!("permessage-deflate; server_max_window_bits={bits}"),
                format!("permessage-deflate; client_max_window_bits; server_max_window_bits = \"{bits}\""),
                format!("permessage-deflate; server_no_context_takeover; server_max_window_bits={bits}"),
            ] {
                let expected = format!("{ANSWER}; server_max_window_bits={bits}");
                assert_eq!(answered(&[&offer]), Some(expected), "{offer}");
            }
        }
        let escaped = answered(&["permessage-deflate; server_max_window_bits=\"\\1\\2\""]);
        assert_eq!(escaped, Some(format!("{ANSWER}; server_max_window_bits=12")));
    }

    #[test]
    fn an_offer_that_cannot_be_met_is_declined() {
        for parameters in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=1",
            "server_max_window_bits=100",
            "server_max_window_bits=-9",
            "server_max_window_bits=\"0x9\"",
            "server_max_window_bits=ten",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=015",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits; client_max_window_bits=10",
            "foo",
            "foo=1",
            "Server_No_Context_Takeover",
        ] {
            assert_eq!(answered(&[&format!("permessage-deflate; {parameters}")]), None, "{parameters}");
        }
        for line in ["", "x-webkit-deflate-frame", "permessage-bzip2", "Permessage-Deflate", "deflate"] {
            assert_eq!(answered(&[line]), None, "{line}");
        }
        assert_eq!(answered(&[]), None);
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_taken() {
        // the examples of RFC 7692 section 7.1.3, and what is like them
        let bits = |bits: u8| Some(format!("{ANSWER}; server_max_window_bits={bits}"));
        let none = Some(ANSWER.to_owned());
        for (lines, expected) in [
            (
                &["permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
                   permessage-deflate; client_max_window_bits"][..],
                bits(10),
            ),
            (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], none.clone()),
            (&["permessage-deflate; server_max_window_bits=8", "permessage-deflate; foo"], None),
            (&["permessage-deflate; foo", "permessage-deflate; server_max_window_bits=9"], bits(9)),
            (&["permessage-deflate, permessage-deflate; server_max_window_bits=9"], none),
            (
                &[
                    "permessage-deflate; server_max_window_bits=99, permessage-deflate; server_max_window_bits=11, \
                   permessage-deflate; server_max_window_bits=12",
                ],
                bits(11),
            ),
        ] {
            assert_eq!(answered(lines), expected, "{lines:?}");
        }
    }

    #[cfg(feature = "client")]
    #[test]
    fn an_answer_keeps_to_the_offer() {
        for answer in [
            OFFER,
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; server_max_window_bits=8",
        ] {
            let agreed = agreed(answer.as_bytes(), Compression::new());
            assert_eq!(
                agreed,
                Ok(Deflate { compression: Compression::new(), window_bits: None }),
                "{answer}"
            );
        }
        for answer in [
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; x",
            "x-webkit-deflate-frame; server_no_context_takeover",
        ] {
            assert!(agreed(answer.as_bytes(), Compression::new()).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_long_offer_is_read_like_a_short_one() {
        let line = "permessage-deflate; foo, ".repeat(10_000) + NAME;
        assert_eq!(answered(&[&line]).as_deref(), Some(ANSWER));
        let line = NAME.to_owned() + &"; client_max_window_bits".repeat(10_000);
        assert_eq!(answered(&[&line]), None);
    }
}
