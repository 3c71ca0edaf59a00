//! Pages that are not on the web: their origins have no host, or none that DNS could know.

use std::sync::{Arc, Mutex};

use super::{advice, is_malformed, judge, normalised, not_allowed};
use crate::origin::parsed::Origin;
use crate::origin::policy::OriginPolicy;

/// As Electron, Cordova, Capacitor, Tauri, Qt, Android and the extensions of browsers send them.
const APPS: &[&str] = &[
    "file://",
    "app://.",
    "app://-",
    "app://obsidian.md",
    "qrc://",
    "content://",
    "content://com.example.provider",
    "ionic://localhost",
    "capacitor://localhost",
    "tauri://localhost",
    "wails://wails.localhost:34115",
    "vscode-webview://0ab.12",
    "vscode-file://vscode-app",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://6f1a4d2c-0e1d-4a8e-9d3c-2d3f5a0b7c11",
    "safari-web-extension://6F1A4D2C-0E1D-4A8E-9D3C-2D3F5A0B7C11",
];

#[test]
fn the_page_of_an_app_has_a_scheme_and_a_name() {
    for text in APPS {
        let origin: Origin = text.parse().unwrap();
        let (scheme, host) = text.split_once("://").unwrap();
        let host = host.strip_suffix(":34115").unwrap_or(host).to_lowercase();
        assert_eq!((origin.scheme(), origin.host()), (Some(scheme), Some(host.as_str())), "{text}");
        assert!(!origin.is_opaque() && origin == text.to_uppercase().parse().unwrap(), "{text}");
        assert_eq!(normalised(text), text.to_lowercase());
    }
}

#[test]
fn the_page_of_an_app_never_has_the_origin_of_a_server() {
    let policy = OriginPolicy::same_origin();
    for origin in APPS {
        for host in ["example.com", "localhost", origin.split_once("://").unwrap().1] {
            assert!(judge(&policy, origin, host).is_err(), "{origin} {host}");
        }
        assert!(judge(&policy.clone().trust_forwarded(), origin, "localhost").is_err(), "{origin}");
        let expected = not_allowed(&normalised(origin), "a page of example.com");
        assert_eq!(judge(&policy, origin, "example.com"), expected);
    }
}

#[test]
fn the_page_of_an_app_is_allowed_by_its_exact_name() {
    for origin in APPS {
        let policy = OriginPolicy::allow([origin]);
        for other in APPS {
            assert_eq!(
                judge(&policy, other, "example.com").is_ok(),
                other == origin,
                "{other}, {origin} listed"
            );
        }
        for other in ["null", "https://localhost", "http://localhost", "app://..", "file://."] {
            assert!(judge(&policy, other, "example.com").is_err(), "{other}, {origin} listed");
        }
    }
}

#[test]
fn a_predicate_is_asked_about_the_page_of_an_app() {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let policy = OriginPolicy::predicate({
        let asked = Arc::clone(&asked);
        move |origin, _| {
            asked.lock().unwrap().push(origin.to_string());
            origin.scheme() == Some("app") || origin.is_opaque()
        }
    });
    for origin in ["app://.", "null"] {
        assert_eq!(judge(&policy, origin, "example.com"), Ok(()));
    }
    assert!(judge(&policy, "file://", "example.com").is_err());
    assert_eq!(*asked.lock().unwrap(), ["app://.", "null", "file://"]);
}

#[test]
fn what_could_be_more_than_a_name_is_no_origin_of_an_app() {
    let long = format!("app://{}", ".".repeat(254));
    for text in [
        "file:///",
        "file:///home/user/page.html",
        "file:",
        "app://./page",
        "app://.?a",
        "app://.#a",
        "app://.@evil.com",
        "app://. evil",
        "app://.:80",
        "app://a:b",
        "app://[x]",
        "app://<b>",
        "app://\"",
        "app://*",
        "app://ü",
        &long,
    ] {
        assert!(text.parse::<Origin>().is_err(), "{text}");
        assert!(is_malformed(&judge(&OriginPolicy::predicate(|_, _| true), text, "example.com")), "{text}");
        assert!(OriginPolicy::try_allow([text]).is_err(), "{text}");
    }
}

#[test]
fn a_star_does_not_stand_for_the_names_of_an_app() {
    for (pattern, advised) in
        [("app://*", "`*.`"), ("app://*.", "host"), ("file://*", "`*.`"), ("app://*.1.2", "IPv4")]
    {
        let message = advice(OriginPolicy::try_allow([pattern]));
        assert!(message.contains(advised), "{pattern}: {message}");
    }
    let policy = OriginPolicy::allow(["app://*.example"]);
    assert_eq!(judge(&policy, "app://a.example", "example.com"), Ok(()));
    for origin in ["app://example", "app://.example", "app://..example", "app://a..example"] {
        assert!(judge(&policy, origin, "example.com").is_err(), "{origin}");
    }
}
