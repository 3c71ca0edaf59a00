//! Properties of origins and hosts, checked with random ones.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::Request;
use http::header::{HOST, HeaderValue, ORIGIN};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{check, parts};
use crate::origin::error::Denied;
use crate::origin::parsed::Origin;
use crate::origin::policy::OriginPolicy;

/// A host in its normal form, by a name or an address.
fn host() -> impl Strategy<Value = String> {
    let label = vec(select(b"abcxyz019-_".as_slice()), 1..8)
        .prop_map(|label| String::from_utf8(label).expect("the label is ASCII"));
    // a name whose last label is a number would be an address
    let name = (vec(label, 0..3), select(&["com", "test", "x"]))
        .prop_map(|(labels, last)| labels.into_iter().chain([last.to_owned()]).collect::<Vec<_>>().join("."));
    prop_oneof![
        4 => name,
        1 => any::<Ipv4Addr>().prop_map(|address| address.to_string()),
        // the standard library has a form of its own for addresses of IPv4
        1 => any::<Ipv6Addr>()
            .prop_filter("an address of IPv4", |address| address.to_ipv4_mapped().is_none())
            .prop_map(|address| format!("[{address}]")),
    ]
}

/// The same host in other letter case, and with a dot at its end if it is a name.
fn respelt(text: &str, upper: &[bool], dot: bool) -> String {
    let mut upper = upper.iter().cycle();
    let respelt = text.chars().map(|char| match upper.next() {
        Some(true) => char.to_ascii_uppercase(),
        _ => char,
    });
    let is_name = text.ends_with(|char: char| char.is_ascii_alphabetic());
    respelt.chain((dot && is_name).then_some('.')).collect()
}

/// A scheme, the port that it has by default, and one that may be written.
fn scheme_and_port() -> impl Strategy<Value = (&'static str, u16, Option<u16>)> {
    let scheme = select(&[("http", 80), ("https", 443), ("ws", 80), ("wss", 443)]);
    (scheme, option::of(prop_oneof![select(&[80, 443]), 1..=u16::MAX]))
        .prop_map(|((scheme, default), port)| (scheme, default, port))
}

fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_allowed(policy: &OriginPolicy, origin: &str, host: &str) -> bool {
    let mut request = Request::new(()).into_parts().0;
    for (name, value) in [(ORIGIN, origin), (HOST, host)] {
        let Ok(value) = HeaderValue::from_str(value) else { return false };
        request.headers.insert(name, value);
    }
    check(policy, &request).is_ok()
}

proptest! {
    #[test]
    fn spelling_makes_no_difference(
        host in host(),
        (scheme, default, port) in scheme_and_port(),
        upper in vec(any::<bool>(), 1..5),
        dot: bool,
    ) {
        let text = respelt(&format!("{scheme}://{host}"), &upper, dot);
        let origin: Origin = with_port(&text, port).parse().unwrap();
        prop_assert_eq!((origin.scheme(), origin.host()), (Some(scheme), Some(host.as_str())));
        prop_assert_eq!(origin.port(), port.or(Some(default)));
        let written = port.filter(|&port| port != default);
        prop_assert_eq!(origin.to_string(), with_port(&format!("{scheme}://{host}"), written));

        let policy = OriginPolicy::same_origin();
        let own = respelt(&host, &upper, dot);
        prop_assert!(is_allowed(&policy, &origin.to_string(), &with_port(&own, origin.port())));
        let default = port.is_none_or(|port| port == default);
        prop_assert_eq!(is_allowed(&policy, &origin.to_string(), &own), default);
        let listed = OriginPolicy::try_allow([&with_port(&text, port)]).unwrap();
        prop_assert!(is_allowed(&listed, &origin.to_string(), "elsewhere"));
    }

    #[test]
    fn no_other_host_and_no_other_port_is_allowed(
        (host, other) in (host(), host()),
        (port, other_port) in (1..100_u16, 1..100_u16),
    ) {
        let same = (&host, port) == (&other, other_port);
        let (origin, other) = (format!("http://{host}:{port}"), format!("{other}:{other_port}"));
        prop_assert_eq!(is_allowed(&OriginPolicy::same_origin(), &origin, &other), same);
        let listed = OriginPolicy::try_allow([format!("http://{other}")]).unwrap();
        prop_assert_eq!(is_allowed(&listed, &origin, "elsewhere"), same);
    }

    #[test]
    fn subdomains_are_what_ends_in_a_dot_and_the_name(front in "[a-z.-]{0,6}", parent in "[a-z]{1,3}\\.com") {
        let policy = OriginPolicy::try_allow([format!("https://*.{parent}")]).unwrap();
        let is_name = front.ends_with('.') && front.strip_suffix('.').unwrap().split('.').all(|label| !label.is_empty());
        prop_assert_eq!(is_allowed(&policy, &format!("https://{front}{parent}"), "elsewhere"), is_name);
    }

    #[test]
    fn an_origin_of_any_bytes_is_not_allowed_unless_it_can_be_read_again(
        text in prop_oneof!["[ -~]{0,30}", "https?://[ -~]{0,20}", "[a-z]{1,5}://[\\[\\]a-zA-Z0-9.:*@_-]{0,20}"],
        host in "[\\[\\]a-z0-9.:@-]{0,20}",
    ) {
        match text.parse::<Origin>() {
            Ok(origin) => {
                let again: Origin = origin.to_string().parse().unwrap();
                prop_assert_eq!(again.to_string(), origin.to_string());
                prop_assert_eq!(again == origin, text != "null");
            }
            Err(error) => {
                prop_assert!(!is_allowed(&OriginPolicy::same_origin(), &text, &host), "{error}");
            }
        }
        prop_assert!(!is_allowed(&OriginPolicy::same_origin(), "null", &host));
    }

    #[test]
    fn nothing_in_front_of_the_proxys_words_decides(
        front in prop_oneof!["[ -~]{0,30}", "(host|for|proto|[,;=\\\\ \"]|evil\\.com|x){0,12}"],
        words in select(&[
            "host=site.com;proto=https",
            "for=192.0.2.1;proto=https;host=site.com",
            "for=\"[2001:db8::1]:47\";host=\"site.com\";proto=\"https\"",
        ]),
        in_one_line: bool,
    ) {
        let policy = OriginPolicy::same_origin().trust_forwarded();
        let own = ("host", &b"evil.com"[..]);
        let joined = format!("{front}, {words}");
        let lines = if in_one_line { vec![joined.as_str()] } else { vec![front.as_str(), words] };
        for (name, lines) in [("forwarded", &lines), ("x-forwarded-host", &vec![front.as_str(), "site.com"])] {
            let lines = lines.iter().map(|line| (name, line.trim().as_bytes()));
            let judge = |origin: &'static [u8]| {
                check(&policy, &parts(&[own, ("origin", origin)].into_iter().chain(lines.clone()).collect::<Vec<_>>()))
            };
            prop_assert!(judge(b"https://evil.com").is_err());
            let of_site = judge(b"https://site.com");
            prop_assert!(matches!(of_site, Ok(()) | Err(Denied::Host { header: "Forwarded", .. })), "{of_site:?}");
        }
    }
}
