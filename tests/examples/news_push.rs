//! The example `news_push`: who may connect and who may push, and what reaches whom.

mod kills;
mod nodes;
mod resuming;
mod settings;

use serde_json::{Value, json};
use ws_tests::request::HOST;
use ws_tests::{Client, Request, Response, within};

use crate::support::Example;

/// The example, and what its editor and its users do.
struct News {
    example: Example,
    token: String,
}

impl News {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these variables in its environment.
    fn start_with(variables: &[(&str, &str)]) -> Self {
        let example = Example::start_with("news_push", "127.0.0.1:0", variables);
        let token = example.find(|line| Some(line.strip_prefix("editor token: ")?.to_owned()));
        Self { example, token }
    }

    async fn client(&self) -> Client {
        Client::connect(self.example.address().parse().expect("an address")).await
    }

    async fn ask(&self, request: Request) -> Response {
        self.client().await.answer_to(request).await
    }

    /// A request of the editor.
    async fn edit(&self, method: &'static str, path: &str, body: &str) -> Response {
        self.ask(with_body(method, path, body).with("Authorization", format!("Bearer {}", self.token))).await
    }

    /// Pushes news with this title, and returns what became of it.
    async fn push(&self, user: &str, title: &str) -> (u16, Value) {
        let answer = self.edit("POST", &news_of(user), &news(title)).await;
        (answer.status, parse(&answer.body))
    }

    /// The same, with these idempotency keys.
    async fn push_with(&self, keys: &[&str], user: &str, title: &str) -> Response {
        let request = with_body("POST", &news_of(user), &news(title))
            .with("Authorization", format!("Bearer {}", self.token))
            .lines("Idempotency-Key", keys);
        self.ask(request).await
    }

    async fn online(&self) -> Value {
        let answer = self.edit("GET", "/users", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        parse(&answer.body)["online"].take()
    }

    /// Signs in, and returns the handshake of who is signed in.
    async fn sign_in(&self, name: &str) -> Request {
        let form = with_body("POST", "/session", &format!("name={name}"))
            .lines("Content-Type", &["application/x-www-form-urlencoded"]);
        let answer = self.ask(form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next());
        handshake().with("Cookie", cookie.expect("a session"))
    }

    /// Connects with this handshake.
    async fn connect_with(&self, handshake: Request) -> Client {
        let mut client = self.client().await;
        client.handshake(handshake).await;
        client
    }

    /// Signs in and connects. When this returns, the hub may not know it yet.
    async fn connect(&self, name: &str) -> Client {
        self.connect_with(self.sign_in(name).await).await
    }
}

fn news_of(user: &str) -> String {
    format!("/users/{user}/news")
}

fn news(title: &str) -> String {
    json!({ "title": title, "text": "…" }).to_string()
}

fn handshake() -> Request {
    Request::upgrade().path("/news")
}

fn with_body(method: &'static str, path: &str, body: &str) -> Request {
    Request::new(method, path)
        .with("Content-Type", "application/json")
        .with("Content-Length", body.len().to_string())
        .followed_by(body)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Waits until just these are online.
async fn until_online(news: &News, users: &[&str]) {
    let users = json!(users);
    within(format!("{users} to be online"), async { while news.online().await != users {} }).await;
}

/// The message that comes next.
async fn message(client: &mut Client) -> Value {
    let frame = client.frame_but_ping().await;
    serde_json::from_slice(frame.payload()).unwrap_or_else(|_| panic!("no news: {frame:?}"))
}

/// The title of the news that comes next.
async fn title(client: &mut Client) -> String {
    let news = message(client).await;
    assert_eq!(news["text"], "…");
    assert!(news["at"].is_u64(), "{news}");
    news["title"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn only_who_is_signed_in_connects_and_from_no_foreign_page() {
    let news = News::start();
    let stranger = news.ask(handshake()).await;
    assert_eq!(stranger.status, 401);
    assert_eq!(stranger.body, "sign in first: POST /session with a name\n");
    let forged = news.ask(handshake().with("Cookie", "session=99999999999 anna")).await;
    assert_eq!(forged.status, 401);
    let wish = news.ask(handshake().path("/news?userId=anna")).await;
    assert_eq!(wish.status, 401);

    let foreign = news.sign_in("anna").await.with("Origin", "https://elsewhere.example");
    assert_eq!(news.ask(foreign).await.status, 403);
    let own = news.sign_in("anna").await.with("Origin", format!("http://{HOST}"));
    assert_eq!(news.ask(own).await.status, 101);
}

#[tokio::test]
async fn only_the_editor_pushes_and_sends_away_and_sees_who_is_online() {
    let news = News::start();
    for (method, path) in [("POST", "/users/anna/news"), ("DELETE", "/users/anna"), ("GET", "/users")] {
        let request = with_body(method, path, r#"{"title":"Rain"}"#);
        for token in [None, Some(""), Some("Bearer "), Some("Bearer wrong"), Some(news.token.as_str())] {
            let request = match token {
                Some(token) => request.clone().with("Authorization", token),
                None => request.clone(),
            };
            let answer = news.ask(request).await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(news.online().await, json!([]));
}

#[tokio::test]
async fn news_for_who_is_away_waits_for_the_next_login_and_comes_first() {
    let news = News::start();
    for title in ["one", "two", "three"] {
        assert_eq!(news.push("anna", title).await, (202, json!({ "delivery": "stored", "evicted": 0 })));
    }
    let mut anna = news.connect("anna").await;
    until_online(&news, &["anna"]).await;
    assert_eq!(news.push("anna", "four").await, (200, json!({ "delivery": "sent", "connections": 1 })));

    for expected in ["one", "two", "three", "four"] {
        assert_eq!(title(&mut anna).await, expected);
    }
}

#[tokio::test]
async fn news_reaches_its_user_and_nobody_else() {
    let news = News::start();
    let mut ben = news.connect("ben").await;
    let mut anna = news.connect("anna").await;
    until_online(&news, &["anna", "ben"]).await;
    assert_eq!(news.push("anna", "for anna").await.0, 200);
    assert_eq!(news.push("ben", "for ben").await.0, 200);

    assert_eq!(title(&mut anna).await, "for anna");
    assert_eq!(title(&mut ben).await, "for ben");
}

#[tokio::test]
async fn what_is_no_news_is_refused_and_said_why() {
    let news = News::start();
    let long = json!({ "title": "x".repeat(20_000) }).to_string();
    for (body, status, why) in [
        (r#"{"title":"#, 400, "at line 1 column 9"),
        ("", 400, "at line 1 column 0"),
        (r#"{"text":"no title"}"#, 422, "missing field `title`"),
        (r#"{"title":7}"#, 422, "expected a string"),
        (&long, 413, "length limit exceeded"),
    ] {
        let answer = news.edit("POST", "/users/anna/news", body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(why), "{answer:?}");
    }
    let form = with_body("POST", "/users/anna/news", "title=Rain")
        .lines("Content-Type", &["application/x-www-form-urlencoded"])
        .with("Authorization", format!("Bearer {}", news.token));
    assert_eq!(news.ask(form).await.status, 415);
}

#[tokio::test]
async fn who_is_sent_away_is_told_so_and_gets_later_what_comes_meanwhile() {
    let news = News::start();
    assert_eq!(news.edit("DELETE", "/users/anna", "").await.status, 404);
    let mut anna = news.connect("anna").await;
    until_online(&news, &["anna"]).await;
    assert_eq!(news.edit("DELETE", "/users/anna", "").await.status, 204);
    anna.closed_with_answer(4003).await;

    assert_eq!(news.edit("DELETE", "/users/anna", "").await.status, 404);
    assert_eq!(news.push("anna", "meanwhile").await.0, 202);
    let mut anna = news.connect("anna").await;
    assert_eq!(title(&mut anna).await, "meanwhile");
}

#[tokio::test]
async fn a_newer_login_replaces_the_older_one() {
    let news = News::start();
    let mut older = news.connect("anna").await;
    until_online(&news, &["anna"]).await;
    let mut newer = news.connect("anna").await;
    older.closed_with_answer(4001).await;

    assert_eq!(news.online().await, json!(["anna"]));
    assert_eq!(news.push("anna", "hello").await, (200, json!({ "delivery": "sent", "connections": 1 })));
    assert_eq!(title(&mut newer).await, "hello");
}

#[tokio::test]
async fn where_250_are_connected_another_user_is_refused_and_one_of_them_replaces_his_connection() {
    let news = News::start();
    let users: Vec<String> = (0..250).map(|number| format!("user{number:03}")).collect();
    let mut clients = Vec::new();
    for user in &users {
        clients.push(news.connect(user).await);
    }
    until_online(&news, &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let refused = news.ask(news.sign_in("anna").await).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.body, "too many connections\n");

    let mut newer = news.connect("user007").await;
    clients[7].closed_with_answer(4001).await;
    assert_eq!(news.push("user007", "hello").await.0, 200);
    assert_eq!(title(&mut newer).await, "hello");
}

#[tokio::test]
async fn ctrl_c_closes_with_1012_and_a_moment_to_come_back() {
    let news = News::start();
    let mut anna = news.connect("anna").await;
    until_online(&news, &["anna"]).await;
    news.example.interrupt();

    let close = anna.frame_but_ping().await;
    assert_eq!(close.close_code(), Some(1012));
    let reason = str::from_utf8(&close.payload()[2..]).expect("a reason is text");
    let seconds = reason.strip_prefix("retry-after=").and_then(|it| it.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=5).contains(&seconds)), "{reason}");
    anna.write(close).await;
    anna.end().await;
    drop(anna);
    assert_eq!(news.example.finish(), [""; 0]);
}
