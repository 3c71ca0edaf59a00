//! The example `chat`: who is let in, and what its clients and it say to each other.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use ws_tests::{Client, Request, Response};

use crate::support::{DEADLINE, Example};

/// Signs in by POST, and out by DELETE.
async fn session(example: &Example, method: &'static str, cookie: &str, body: &str) -> Response {
    let request = Request::new(method, "/session")
        .with("Content-Type", "application/x-www-form-urlencoded")
        .with("Content-Length", body.len().to_string())
        .with("Cookie", cookie)
        .followed_by(body);
    let address = example.address().parse().expect("an address");
    Client::connect(address).await.answer_to(request).await
}

/// Signs in, and returns the cookie.
async fn sign_in(example: &Example, name: &str) -> String {
    let answer = session(example, "POST", "", &format!("name={name}")).await;
    let cookie = answer.header("set-cookie").expect("a session");
    let (cookie, attributes) = cookie.split_once(';').expect("a cookie with attributes");
    // no path: it belongs to the directory
    assert_eq!(attributes, " HttpOnly; SameSite=Strict");
    cookie.to_owned()
}

/// A connection that speaks the protocol.
struct Chat(WebSocketStream<TcpStream>);

impl Chat {
    /// Connects with these headers; or the status by which that is refused.
    async fn connect(example: &Example, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = example.socket().into_client_request().expect("a URL");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value of a header"));
        }
        let stream = TcpStream::connect(example.address()).await.expect("the program listens");
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects as the one who has this cookie.
    async fn with(example: &Example, cookie: &str) -> Self {
        Self::connect(example, &[("cookie", cookie)]).await.expect("a handshake")
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("an open connection");
    }

    /// The next text; a ping of the server, by which it learns what has come, is answered when this waits for the next.
    async fn text(&mut self) -> String {
        loop {
            let message = timeout(DEADLINE, self.0.next()).await.expect("a message in time");
            if let Message::Text(text) = message.expect("not the end").expect("no error") {
                return text.to_string();
            }
        }
    }

    /// The next message of this type: who comes and goes is told whenever it happens.
    async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let message: Value = serde_json::from_str(&self.text().await).expect("JSON");
            if message["type"] == kind {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn only_who_is_signed_in_connects_and_from_no_foreign_page() {
    let example = Example::start("chat");
    let cookie = sign_in(&example, "anna").await;
    let (signature, _) = cookie.rsplit_once("anna").expect("it tells the name");
    let forged = format!("{signature}bea");
    let foreign = ("origin", "http://elsewhere.example");
    for (headers, refusal) in [
        (&[][..], Some(401)),
        (&[("cookie", &*forged)], Some(401)),
        (&[("cookie", &*cookie), foreign], Some(403)),
        (&[("cookie", &*cookie)], None),
    ] {
        assert_eq!(Chat::connect(&example, headers).await.err(), refusal, "{headers:?}");
    }

    let answer = session(&example, "DELETE", &cookie, "").await;
    let gone = answer.header("set-cookie").unwrap_or_default();
    assert!(gone.starts_with("session=; Max-Age=0"), "{answer:?}");
}

#[tokio::test]
async fn what_cannot_be_read_gets_an_error_and_the_connection_goes_on() {
    let example = Example::start("chat");
    let mut anna = Chat::with(&example, &sign_in(&example, "anna").await).await;
    for (nonsense, problem) in [
        ("{", "invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", "invalid JSON: "),
        (r#"{"type":"fly"}"#, "invalid JSON: unknown variant `fly`"),
        (r#"{"type":"join"}"#, "invalid JSON: missing field `room`"),
        (r#"{"type":"join","room":" "}"#, "a name has 1 to 32 bytes"),
    ] {
        anna.say(nonsense).await;
        let answer = anna.hear("problem").await;
        let message = answer["message"].as_str().expect("a text");
        assert!(message.starts_with(problem), "{message}");
    }
    anna.say(r#"{"type":"join","room":" lobby "}"#).await;
    assert_eq!(anna.hear("room").await, json!({ "type": "room", "room": "lobby", "members": ["anna"] }));
    anna.say(r#"{"type":"say","n":1,"room":"deploys","text":"hello"}"#).await;
    let lost = json!({ "type": "lost", "n": 1, "why": "you are not in this room" });
    assert_eq!(anna.hear("lost").await, lost);
}

#[tokio::test]
async fn who_writes_learns_what_becomes_of_it_and_the_heartbeat_is_answered() {
    let example = Example::start("chat");
    let mut anna = Chat::with(&example, &sign_in(&example, "anna").await).await;
    anna.say(r#"{"type":"tell","n":7,"user":"bea","text":"hello"}"#).await;
    let sent = anna.hear("sent").await;
    assert_eq!(sent, json!({ "type": "sent", "n": 7, "at": sent["at"], "waits": true }));

    let mut bea = Chat::with(&example, &sign_in(&example, "bea").await).await;
    let told = json!({ "type": "told", "at": sent["at"], "from": "anna", "text": "hello" });
    assert_eq!(bea.hear("told").await, told);
    anna.say(r#"{"type":"tell","n":8,"user":"bea","text":"again"}"#).await;
    assert_eq!(anna.hear("sent").await["waits"], false);
    assert_eq!(bea.hear("told").await["text"], "again");

    bea.say("ping").await;
    while bea.text().await != "pong" {}
}
