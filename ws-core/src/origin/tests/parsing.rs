//! What an origin is, and which origins are equal.

use super::{NOT_ORIGINS, normalised};
use crate::origin::host::Host;
use crate::origin::parsed::Origin;

#[test]
fn origins_are_equal_on_their_normalised_form() {
    for (text, expected) in [
        ("https://example.com", "https://example.com"),
        ("HTTPS://EXAMPLE.com", "https://example.com"),
        ("https://example.com.", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("https://example.com.:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("ws://example.com:80", "ws://example.com"),
        ("wss://example.com:443", "wss://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://example.com:80", "https://example.com:80"),
        ("https://example.com:1", "https://example.com:1"),
        ("https://example.com:65535", "https://example.com:65535"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://my_host", "http://my_host"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1.", "http://127.0.0.1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[2001:DB8::0a]", "http://[2001:db8::a]"),
        // as browsers write them
        ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]"),
        ("http://[::ffff:0.0.0.10]", "http://[::ffff:0:a]"),
        ("http://[::FFFF:102:304]", "http://[::ffff:102:304]"),
        ("http://[::1.2.3.4]", "http://[::102:304]"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("app+x.y-z://host:443", "app+x.y-z://host:443"),
    ] {
        assert_eq!(normalised(text), expected, "{text}");
        assert_eq!(text.parse::<Origin>(), expected.parse(), "{text}");
    }
}

#[test]
fn an_origin_tells_its_parts() {
    let origin: Origin = "HTTP://[::1]".parse().unwrap();
    assert_eq!((origin.scheme(), origin.host(), origin.port()), (Some("http"), Some("[::1]"), Some(80)));
    let origin: Origin = "app://host".parse().unwrap();
    assert_eq!((origin.scheme(), origin.host(), origin.port()), (Some("app"), Some("host"), None));
    let origin: Origin = "null".parse().unwrap();
    assert_eq!((origin.scheme(), origin.host(), origin.port()), (None, None, None));
    assert_eq!(origin.to_string(), "null");
}

#[test]
fn null_is_equal_to_nothing() {
    let null: Origin = "null".parse().unwrap();
    assert!(null.is_opaque());
    assert_ne!(null, null.clone());
    assert_ne!(null, "https://example.com".parse().unwrap());
}

#[test]
fn what_is_not_an_origin_is_refused() {
    for text in NOT_ORIGINS {
        assert!(text.parse::<Origin>().is_err(), "{text:?}");
    }
}

#[test]
fn no_bytes_make_the_parsers_panic() {
    let seeds: [&[u8]; 4] = [b"https://a.example.com:8443", b"http://[::1]:80", b"null", b"*.example.com"];
    for seed in seeds {
        for at in 0..seed.len() {
            for byte in 0..=u8::MAX {
                let mut text = seed.to_vec();
                text[at] = byte;
                let _ = Origin::parse(&text);
                let _ = Host::parse(&text);
                let _ = Origin::parse(&text[..at]);
                let _ = Host::parse(&text[at..]);
            }
        }
    }
}

#[test]
fn names_are_bounded() {
    let label = "a".repeat(63);
    let longest = format!("https://{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(normalised(&longest), longest);
    assert_eq!(normalised(&format!("{longest}.")), longest);
    assert!(format!("{longest}a").parse::<Origin>().is_err());
    assert!(format!("{}://a", "a".repeat(64)).parse::<Origin>().is_ok());
    assert!(format!("{}://a", "a".repeat(65)).parse::<Origin>().is_err());
}
