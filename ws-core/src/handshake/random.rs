//! Random lists, in every spelling that the grammar allows.

use std::sync::Arc;

use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{choose_protocol, extensions, subprotocol};
use crate::rejection::Rejection;

const KNOWN: [&str; 3] = ["chat", "a", "graphql-transport-ws"];

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => select(&KNOWN).prop_map(str::to_owned),
        1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,6}",
    ]
}

fn space() -> impl Strategy<Value = String> {
    "[ \t]{0,2}"
}

/// The separator of two items: at least a comma, or the end of a line.
fn between() -> impl Strategy<Value = String> {
    (space(), select(&[",", ",,", ", ,", "\n", ",\n,"]), space())
        .prop_map(|(before, comma, behind)| before + comma + &behind)
}

/// The lines of a header with these items.
fn lines(name: &http::HeaderName, items: &[(String, String)]) -> HeaderMap {
    let text: String = items.iter().flat_map(|(item, behind)| [item.as_str(), behind]).collect();
    text.split('\n').map(|line| (name.clone(), HeaderValue::from_str(line).unwrap())).collect()
}

/// A parameter, its value quoted or not, as it may be written.
fn parameter() -> impl Strategy<Value = String> {
    let quoted = vec((token(), any::<bool>()), 1..3).prop_map(|parts| {
        let parts = parts.into_iter().map(|(part, escaped)| if escaped { format!("\\{part}") } else { part });
        format!("\"{}\"", parts.collect::<String>())
    });
    let value = (space(), space(), prop_oneof![token(), quoted])
        .prop_map(|(before, behind, value)| format!("{before}={behind}{value}"));
    (space(), space(), token(), option::of(value)).prop_map(|(before, behind, name, value)| {
        format!("{before};{behind}{name}{}", value.unwrap_or_default())
    })
}

fn extension() -> impl Strategy<Value = String> {
    (token(), vec(parameter(), 0..4)).prop_map(|(name, parameters)| name + &parameters.concat())
}

proptest! {
    #[test]
    fn the_first_known_subprotocol_of_a_list_is_chosen(offers in vec((token(), between()), 0..6)) {
        let headers = lines(&SEC_WEBSOCKET_PROTOCOL, &offers);
        prop_assert_eq!(subprotocol::check(&headers), Ok(()));
        let known: Vec<Arc<str>> = KNOWN.map(Arc::from).into();
        let expected = KNOWN.into_iter().find(|name| offers.iter().any(|(offered, _)| offered == name));
        let chosen = choose_protocol(&headers, &known);
        prop_assert_eq!(chosen.as_deref(), expected);
    }

    #[test]
    fn one_item_that_is_no_token_spoils_a_list(
        mut offers in vec((token(), between()), 1..6),
        at: prop::sample::Index,
        bad in "[ -~&&[^!#$%&'*+.^_`|~0-9A-Za-z, -]]",
    ) {
        let at = at.index(offers.len());
        offers[at].0.push_str(&bad);
        let headers = lines(&SEC_WEBSOCKET_PROTOCOL, &offers);
        prop_assert_eq!(subprotocol::check(&headers), Err(Rejection::MalformedProtocol));
    }

    #[test]
    fn extensions_are_well_formed_in_every_spelling(offers in vec((extension(), between()), 0..5)) {
        let headers = lines(&SEC_WEBSOCKET_EXTENSIONS, &offers);
        prop_assert_eq!(extensions::check(&headers), Ok(()));
    }

    #[test]
    fn a_semicolon_with_nothing_behind_it_spoils_extensions(
        mut offers in vec((extension(), between()), 1..5),
        at: prop::sample::Index,
    ) {
        let at = at.index(offers.len());
        offers[at].0.push(';');
        let headers = lines(&SEC_WEBSOCKET_EXTENSIONS, &offers);
        prop_assert_eq!(extensions::check(&headers), Err(Rejection::MalformedExtensions));
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use super::*;
    use crate::compression::Compression;
    use crate::handshake::deflate::{answer, negotiate};

    /// An offer, and the window that it asks for if the server can accept that.
    fn offer() -> impl Strategy<Value = (String, Option<Option<u8>>)> {
        let bits = option::of((7..=16_u8, any::<bool>()));
        (any::<[bool; 3]>(), bits, option::weighted(0.2, token())).prop_map(
            |([server, client, client_bits], server_bits, unknown)| {
                let mut offer = String::from("permessage-deflate");
                let mut add = |parameter: &str| offer.extend(["; ", parameter]);
                if server {
                    add("server_no_context_takeover");
                }
                if client {
                    add("client_no_context_takeover");
                }
                if client_bits {
                    add("client_max_window_bits");
                }
                if let Some((bits, quoted)) = server_bits {
                    let bits = if quoted { format!("\"{bits}\"") } else { bits.to_string() };
                    add(&format!("server_max_window_bits={bits}"));
                }
                if let Some(name) = &unknown {
                    add(name);
                }
                let bits = server_bits.map(|(bits, _)| bits);
                let can_be_met = unknown.is_none() && bits.is_none_or(|bits| (9..=15).contains(&bits));
                (offer, can_be_met.then_some(bits))
            },
        )
    }

    proptest! {
        #[test]
        fn the_first_offer_of_compression_that_can_be_met_is(offers in vec((offer(), between()), 0..5)) {
            let expected = offers.iter().find_map(|((_, met), _)| *met);
            let items: Vec<_> = offers.into_iter().map(|((offer, _), behind)| (offer, behind)).collect();
            let negotiated = negotiate(&lines(&SEC_WEBSOCKET_EXTENSIONS, &items), Compression::new());
            prop_assert_eq!(negotiated.as_ref().map(|deflate| deflate.window_bits), expected);
            if let Some(answer) = negotiated.as_ref().map(answer) {
                let answer = HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, answer)]);
                prop_assert_eq!(extensions::check(&answer), Ok(()));
            }
        }
    }
}
