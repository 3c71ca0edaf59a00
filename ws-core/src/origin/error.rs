//! What is wrong with an origin or a host: [`InvalidOrigin`] tells the developer, [`Denied`] the client.

/// A text is not an origin, or not a pattern of origins or hosts. The message says what to write instead.
///
/// ```
/// let error = ws_core::OriginPolicy::try_allow(["example.com"]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#""example.com" is not valid: it has no scheme; put one in front, as in `https://example.com`"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not valid: {}; {}", .problem.description(), .problem.advice())]
pub struct InvalidOrigin {
    text: Box<str>,
    problem: Problem,
}

impl InvalidOrigin {
    pub(super) fn new(text: &str, problem: Problem) -> Self {
        /// In characters; enough to find the text in the program.
        const MAX_TEXT: usize = 100;

        Self { text: text.chars().take(MAX_TEXT).collect(), problem }
    }
}

/// Declares the problems. Each has a description, which clients may see, and advice on what to write instead.
macro_rules! problems {
    ($($problem:ident: $description:literal, $advice:literal;)+) => {
        /// What is wrong with a text that should be an origin, a host, or a pattern of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Problem {
            $($problem,)+
        }

        impl Problem {
            pub(super) fn description(self) -> &'static str {
                match self {
                    $(Self::$problem => $description,)+
                }
            }

            fn advice(self) -> &'static str {
                match self {
                    $(Self::$problem => $advice,)+
                }
            }
        }
    };
}

problems! {
    Empty: "it is empty", "write it as `https://example.com`";
    NoScheme: "it has no scheme", "put one in front, as in `https://example.com`";
    Scheme: "its scheme is not one", "write it as `https://example.com`";
    User: "it has a user name", "leave out everything up to the `@`";
    Path: "it has a path", "end it after the host and port, as in `https://example.com`";
    EmptyLabel: "its host is empty, or has two dots in a row", "write the host as `example.com`";
    Character: "its host has a character that no host name has",
        "write the host as `example.com`, and what is not ASCII in Punycode, as `xn--bcher-kva.example`";
    TooLong: "its host has more than 253 characters", "write the host as `example.com`";
    Ipv4: "its host ends in a number and is no IPv4 address", "write an address as `192.168.1.1`";
    Ipv6: "its host in brackets is no IPv6 address", "write an address as `[::1]`, without a zone";
    BareIpv6: "its host has more than one colon", "write an IPv6 address in brackets, as `[::1]`";
    Port: "its port is not a number from 1 to 65535", "write the port as `:8080`, or leave it out";
    Opaque: "every page can make itself `null`",
        "to allow it all the same, use `OriginPolicy::predicate` and `Origin::is_opaque`";
    AnyOrigin: "`*` is not a pattern", "to allow every page on the web, use `OriginPolicy::any()`";
    AnyHost: "`*` is not a pattern", "to serve every host, leave `allowed_hosts` out";
    Wildcard: "it has a `*` that does not stand for all subdomains",
        "write `*.` in front of the host and nowhere else, as in `https://*.example.com`";
    WildcardAddress: "an IP address has no subdomains", "leave out the `*.`";
    SchemeOfHost: "a host has no scheme", "write it as `example.com` or `example.com:8080`";
    NoEntries: "the list is empty", "list what is allowed, such as `https://example.com`";
}

/// Why a request is refused.
///
/// The texts contain nothing of a header that was not parsed. Host names have letters, digits, `.`, `-`, `_` and the
/// brackets of IPv6 only, those of apps also `~` and `%`, and at most 253 characters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    MultipleOrigins,
    MissingOrigin,
    MalformedOrigin(&'static str),
    NotAllowed { origin: String, expected: String },
    Host { header: &'static str, problem: &'static str },
    Misdirected { host: String },
}

impl Denied {
    pub(super) fn host(header: &'static str, problem: Problem) -> Self {
        Self::Host { header, problem: problem.description() }
    }
}
