//! The example `chat`: who is let in, and what its clients and it say to each other.

mod nodes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use ws_core::client::{Backoff, Client as WebSocketClient};
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
        Self::connect_to(example, example.socket(), headers).await
    }

    async fn connect_to(example: &Example, url: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = url.into_client_request().expect("a URL");
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

    /// Comes back as the one who has this cookie, and says that everything has come up to this position.
    async fn after(example: &Example, cookie: &str, position: &str) -> Self {
        let url = format!("{}?after={position}", example.socket());
        Self::connect_to(example, &url, &[("cookie", cookie)]).await.expect("a handshake")
    }

    /// The next message, whatever it is.
    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
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
            let message = self.next().await;
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
    let told = bea.hear("told").await;
    let position = told["position"].as_str().expect("a direct message has a position");
    assert!(position.starts_with("1."), "{position}");
    let expected = json!({
        "type": "told", "position": position, "at": sent["at"], "from": "anna", "text": "hello",
    });
    assert_eq!(told, expected);
    anna.say(r#"{"type":"tell","n":8,"user":"bea","text":"again"}"#).await;
    assert_eq!(anna.hear("sent").await["waits"], false);
    assert_eq!(bea.hear("told").await["text"], "again");

    bea.say("ping").await;
    while bea.text().await != "pong" {}
}

#[tokio::test]
async fn who_comes_back_with_a_position_gets_what_comes_after_it() {
    let example = Example::start("chat");
    let (anna, bea) = (sign_in(&example, "anna").await, sign_in(&example, "bea").await);
    let mut anna = Chat::with(&example, &anna).await;
    for n in 0..3 {
        anna.say(&json!({ "type": "tell", "n": n, "user": "bea", "text": n.to_string() }).to_string()).await;
        anna.hear("sent").await;
    }
    let mut first = Chat::with(&example, &bea).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(first.hear("told").await);
    }
    assert_eq!(told.iter().map(|it| &it["text"]).collect::<Vec<_>>(), ["0", "1", "2"]);

    // the server does not know yet that the first connection is lost
    let position = told[0]["position"].as_str().expect("a position");
    let mut back = Chat::after(&example, &bea, position).await;
    assert_eq!(back.next().await, json!({ "type": "resumed", "missed": 2 }));
    for expected in &told[1..] {
        assert_eq!(back.hear("told").await, *expected);
    }
    let last = told[2]["position"].as_str().expect("a position");
    let mut back = Chat::after(&example, &bea, last).await;
    assert_eq!(back.next().await, json!({ "type": "resumed", "missed": 0 }));
    anna.say(r#"{"type":"tell","n":3,"user":"bea","text":"3"}"#).await;
    assert_eq!(back.hear("told").await["text"], "3");
}

#[tokio::test]
async fn who_comes_back_with_a_position_of_another_log_is_told_that_something_may_be_missing() {
    let example = Example::start("chat");
    let (anna, bea) = (sign_in(&example, "anna").await, sign_in(&example, "bea").await);
    let mut writer = Chat::with(&example, &anna).await;
    writer.say(r#"{"type":"tell","n":1,"user":"bea","text":"unread"}"#).await;
    writer.hear("sent").await;
    let mut back = Chat::after(&example, &bea, "1.0123456789abcdef").await;
    assert_eq!(back.next().await, json!({ "type": "incomplete" }));
    assert_eq!(back.hear("told").await["text"], "unread");

    // nonsense is no position
    let mut nonsense = Chat::after(&example, &anna, "%22%3E").await;
    assert_ne!(nonsense.next().await["type"], "incomplete");
}

#[tokio::test]
async fn a_client_that_reconnects_gets_each_message_once_and_in_order() {
    const MESSAGES: usize = 60;
    let example = Example::start("chat");
    let (anna, bea) = (sign_in(&example, "anna").await, sign_in(&example, "bea").await);
    let position = Arc::new(Mutex::new(None::<String>));
    let (opened, mut cables) = mpsc::unbounded_channel();
    let address = example.address();
    let mut socket = WebSocketClient::new()
        .header("cookie", &*bea)
        .reconnecting(example.socket())
        .backoff(Backoff::new().max(Duration::from_millis(50)))
        .resume("after", {
            let position = Arc::clone(&position);
            move || position.lock().expect("nobody panics with it").clone()
        })
        .over(move || {
            let (address, opened) = (address.clone(), opened.clone());
            async move {
                let mut server = TcpStream::connect(address).await?;
                let (near, mut far) = duplex(1024);
                let cable = tokio::spawn(async move { copy_bidirectional(&mut far, &mut server).await });
                let _ = opened.send(cable.abort_handle());
                Ok(near)
            }
        })
        .start();
    let mut writer = Chat::with(&example, &anna).await;
    let writing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            writer
                .say(&json!({ "type": "tell", "n": n, "user": "bea", "text": n.to_string() }).to_string())
                .await;
        }
        for _ in 0..MESSAGES {
            writer.hear("sent").await;
        }
    });
    let number =
        |position: &str| position.split_once('.').expect("a position").0.parse::<u64>().expect("a number");
    let (mut got, mut cuts) = (Vec::new(), 0);
    while got.len() < MESSAGES {
        let message =
            timeout(DEADLINE, socket.recv()).await.expect("a message in time").expect("not the end");
        let message: Value = serde_json::from_str(message.as_text().expect("a text")).expect("JSON");
        assert_ne!(message["type"], "incomplete");
        let Some(new) = message["position"].as_str() else { continue };
        let mut last = position.lock().expect("nobody panics with it");
        if last.as_deref().is_some_and(|last| number(new) <= number(last)) {
            continue;
        }
        *last = Some(new.to_owned());
        got.push(message["text"].as_str().expect("a text").to_owned());
        if got.len() % 10 == 5 {
            cables.try_recv().expect("a connection").abort();
            cuts += 1;
        }
    }
    writing.await.expect("all is written");
    assert_eq!(got, (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(cuts, 6);
}
