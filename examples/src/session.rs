//! Who is signed in: a name in a signed cookie.
//!
//! An HTTP request opens a WebSocket, and that request says who the user is: here by a cookie that the server has signed, so
//! that nobody else can make one. `?userId=7` in the address would not do, because anyone can write 8. The browser sends the
//! cookie with every handshake, from any page. So the layer's check of the origin is needed as well.
//!
//! A browser keeps one set of cookies for all its windows. The cookie has no `Path`, so the browser sends it only below the
//! directory of the [`session`] that set it. If that is `/session`, all windows are one user. If each window has a directory
//! of its own, such as `/w/17/session`, each window is the user who signed in there.
//!
//! A program that is not a browser sends the cookie, too:
//!
//! ```sh
//! curl -s -c jar -d name=anna http://127.0.0.1:3000/session
//! ```

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Form, Json};
use axum_extra::extract::SignedCookieJar;
use axum_extra::extract::cookie::{Cookie, Key, SameSite};

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// The longest name, in bytes.
const MAX_NAME: usize = 32;

/// The key that cookies are signed with. A program that runs on several machines, or for longer than a demonstration,
/// takes it from its configuration, [in hexadecimal](Self::from_hex). With a [new](Self::generate) key at each start,
/// everybody has to sign in again.
#[derive(Clone)]
pub struct SessionKey(Key);

impl SessionKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Key::generate())
    }

    /// The key with these bytes, at least 64, as two hexadecimal digits each.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as the rest of a sentence that begins with its name. The text itself, a secret, is not in
    /// it.
    pub fn from_hex(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if let Some(at) = text.chars().position(|it| !it.is_ascii_hexdigit()) {
            return Err(format!("has a character that is no hexadecimal digit, at place {}", at + 1));
        }
        if !text.len().is_multiple_of(2) {
            return Err(format!("has {} hexadecimal digits, which is an odd number", text.len()));
        }
        let byte = |digits: &[u8]| digits.iter().fold(0, |byte, digit| byte << 4 | value(*digit));
        let bytes: Vec<u8> = text.as_bytes().chunks(2).map(byte).collect();
        let key = Key::try_from(bytes.as_slice());
        key.map(Self).map_err(|_| format!("has {} bytes, which is too few", bytes.len()))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

/// The user who sent the request: the name in its session cookie. As an extractor it answers 401 if there is no valid one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(pub String);

impl<S> FromRequestParts<S> for User
where
    S: Send + Sync,
    SessionKey: FromRef<S>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let SessionKey(key) = SessionKey::from_ref(state);
        let jar = SignedCookieJar::from_headers(&parts.headers, key);
        let user = jar.get("session").and_then(|cookie| read(cookie.value(), now()));
        user.ok_or_else(|| {
            (StatusCode::UNAUTHORIZED, "sign in first: POST /session with a name\n").into_response()
        })
    }
}

/// The route `/session`: POST a `name` to sign in, GET tells who is signed in, DELETE signs out.
pub fn session<S>() -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
    SessionKey: FromRef<S>,
{
    get(async |User(name): User| Json(name)).post(sign_in).delete(sign_out)
}

/// Checks the name that a user typed: it is not empty, not too long, and printable.
///
/// # Errors
///
/// What a name has to be, for the user to read.
pub fn name(typed: &str) -> Result<String, String> {
    let name = typed.trim();
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("a name has 1 to {MAX_NAME} bytes, and no control characters"));
    }
    Ok(name.to_owned())
}

#[derive(serde::Deserialize)]
struct SignIn {
    name: String,
}

/// Here a program that is more than a demonstration checks a password.
async fn sign_in(State(SessionKey(key)): State<SessionKey>, Form(typed): Form<SignIn>) -> Response {
    let name = match name(&typed.name) {
        Ok(name) => name,
        Err(message) => return (StatusCode::UNPROCESSABLE_ENTITY, format!("{message}\n")).into_response(),
    };
    let expires = (now() + LIFETIME).as_secs();
    let cookie = Cookie::build(("session", format!("{expires} {name}")))
        // no script reads it, and no other site's page sends it; over TLS it would be `secure`, too
        .http_only(true)
        .same_site(SameSite::Strict);
    (SignedCookieJar::new(key).add(cookie), Json(name)).into_response()
}

async fn sign_out(State(SessionKey(key)): State<SessionKey>, headers: HeaderMap) -> impl IntoResponse {
    (SignedCookieJar::from_headers(&headers, key).remove("session"), StatusCode::NO_CONTENT)
}

/// The name in a cookie whose signature is right, if it has not expired.
fn read(session: &str, now: Duration) -> Option<User> {
    let (expires, name) = session.split_once(' ')?;
    let expires: u64 = expires.parse().ok()?;
    (now.as_secs() < expires).then(|| User(name.to_owned()))
}

/// The value of a hexadecimal digit.
fn value(digit: u8) -> u8 {
    match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => digit - b'0',
    }
}

fn now() -> Duration {
    // before 1970 nothing has expired
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_expires() {
        let read = |now| read("1000 anna b", Duration::from_secs(now));
        assert_eq!(read(999), Some(User("anna b".to_owned())));
        assert_eq!(read(1000), None);
    }

    #[test]
    fn a_key_is_read_from_hexadecimal_digits_of_either_case() {
        let key = |text: &str| SessionKey::from_hex(text).expect("a key").0;
        let bytes = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(8);
        assert_eq!(key(&"0123456789abcdef".repeat(8)), Key::from(&bytes));
        assert_eq!(key(&"0123456789ABCDEF".repeat(8)), Key::from(&bytes));
    }

    #[test]
    fn what_is_no_key_is_refused_and_said_why() {
        for (text, why) in [
            ("", "is empty"),
            ("0x00", "has a character that is no hexadecimal digit, at place 2"),
            ("ab cd", "has a character that is no hexadecimal digit, at place 3"),
            ("é", "has a character that is no hexadecimal digit, at place 1"),
            ("abc", "has 3 hexadecimal digits, which is an odd number"),
            (&"ab".repeat(63), "has 63 bytes, which is too few"),
        ] {
            assert_eq!(SessionKey::from_hex(text).expect_err(text), why);
        }
    }
}
