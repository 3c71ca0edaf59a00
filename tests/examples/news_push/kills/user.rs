//! A user of a server that is killed again and again, and the editor who pushes news to them. Both know what has to come.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use ws_tests::{Random, within};

use super::Life;
use crate::support::Example;

/// Of the editor.
pub(super) const TOKEN: &str = "the editor's";

/// A client stays for at most so many news, then comes back.
const STAY: usize = 60;

/// A user, and the editor for them.
pub(super) struct User {
    editor: Editor,
    reader: Reader,
}

/// Pushes news whose titles are numbers, one after the other.
struct Editor {
    path: String,
    last: u64,
    /// Those that were answered with `sent` or `stored`.
    accepted: BTreeSet<u64>,
    counts: Counts,
    /// They push again what was not answered, with the same idempotency key.
    retries: bool,
    unanswered: Option<u64>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: usize,
    stored: usize,
    unanswered: usize,
}

/// Reads news on one connection after the other.
struct Reader {
    name: String,
    cookie: String,
    /// They say the position where they had stopped.
    resumes: bool,
    /// The news that they have got: the title at each number of the log.
    news: BTreeMap<u64, u64>,
    /// The last position.
    last: Option<String>,
    /// What the last connection began with. Everything before it is confirmed.
    start: u64,
    repeated: usize,
}

type Socket = WebSocketStream<TcpStream>;

/// A request to the server; `None` if it is killed meanwhile.
async fn ask(
    http: &mut SendRequest<Full<Bytes>>,
    request: http::request::Builder,
    body: String,
) -> Option<(http::Response<()>, String)> {
    let request = request.body(Full::from(body)).expect("a request");
    let (head, body) = http.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some((http::Response::from_parts(head, ()), String::from_utf8(body.into()).expect("text")))
}

async fn connect(address: &str) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (http, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(http)
}

fn post(path: &str, content_type: &str) -> http::request::Builder {
    http::Request::post(path).header("Host", "example.com").header("Content-Type", content_type)
}

impl User {
    /// One who signs in, for all the time. The bits of their number say whether they resume, and whether their editor tries
    /// again.
    pub(super) async fn sign_in(example: &Example, number: usize) -> Self {
        let name = format!("user{number}");
        let mut http = connect(&example.address()).await.expect("the server listens");
        let form = post("/session", "application/x-www-form-urlencoded");
        let (answer, _) = ask(&mut http, form, format!("name={name}")).await.expect("an answer");
        let cookie = answer.headers()["set-cookie"].to_str().expect("a text");
        let (cookie, _) = cookie.split_once(';').expect("attributes");
        let editor = Editor {
            path: super::super::news_of(&name),
            last: 0,
            accepted: BTreeSet::new(),
            counts: Counts::default(),
            retries: number & 2 == 0,
            unanswered: None,
        };
        let reader = Reader {
            name,
            cookie: cookie.to_owned(),
            resumes: number & 1 == 0,
            news: BTreeMap::new(),
            last: None,
            start: 1,
            repeated: 0,
        };
        Self { editor, reader }
    }

    /// Pushes and reads until the server is killed. They read in two of three lives.
    pub(super) async fn live(&mut self, life: &Life, mut random: Random) {
        let Self { editor, reader } = self;
        let is_away = random.one_in(3);
        join(editor.push(life), async {
            if !is_away {
                reader.read(life, random).await;
            }
        })
        .await;
    }

    /// Reads everything, and checks that all is there that was answered.
    pub(super) async fn read_to_the_end(&mut self, life: &Life) {
        let Self { editor, reader } = self;
        let mut http = connect(&life.address).await.expect("the server listens");
        // one more, by which the end is known
        let mut is_answered = false;
        while !is_answered {
            editor.push_one(&mut http).await.expect("an answer");
            is_answered = editor.unanswered.is_none();
        }
        let name = reader.name.clone();
        let reading = async {
            let mut socket = reader.open(life).await.expect("a connection");
            let mut before = None;
            while reader.news.values().next_back() != Some(&editor.last) {
                before = reader.next(life, &mut socket, before).await.expect("news");
            }
        };
        within(format!("the last news of {name}"), reading).await;
        let got: BTreeSet<u64> = reader.news.values().copied().collect();
        let lost: Vec<_> = editor.accepted.difference(&got).collect();
        assert!(lost.is_empty(), "{name}: {lost:?} were answered, and are lost");
        assert!(got.iter().all(|title| (1..=editor.last).contains(title)), "{name} got what nobody pushed");
    }

    /// Whether enough has happened for the test to be one.
    pub(super) fn has_been_busy(&self) -> bool {
        let Counts { sent, stored, unanswered } = self.editor.counts;
        sent > 0 && stored > 0 && unanswered > 0 && self.reader.start > 1
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            editor: Editor { counts, retries, .. },
            reader: Reader { name, resumes, news, repeated, .. },
        } = self;
        write!(
            f,
            "{name} (resumes: {resumes}, tries again: {retries}): {counts:?}, {} news, {repeated} twice",
            news.len()
        )
    }
}

impl Editor {
    async fn push(&mut self, life: &Life) {
        let Some(mut http) = connect(&life.address).await else { return life.is_over("a connection", self) };
        while let Some(()) = self.push_one(&mut http).await {
            life.happened();
        }
        life.is_over("a request", self);
    }

    /// Pushes the next news, or that which was not answered; `None` if the server is killed meanwhile.
    async fn push_one(&mut self, http: &mut SendRequest<Full<Bytes>>) -> Option<()> {
        let title = self.unanswered.filter(|_| self.retries).unwrap_or(self.last + 1);
        self.last = title;
        self.unanswered = Some(title);
        let mut request =
            post(&self.path, "application/json").header("Authorization", format!("Bearer {TOKEN}"));
        if self.retries {
            request = request.header("Idempotency-Key", title);
        }
        let Some((answer, body)) =
            ask(http, request, json!({ "title": title.to_string() }).to_string()).await
        else {
            self.counts.unanswered += 1;
            return None;
        };
        let body = super::super::parse(&body);
        match (answer.status().as_u16(), body["delivery"].as_str()) {
            (200, Some("sent")) => self.counts.sent += 1,
            (202, Some("stored")) => {
                assert_eq!(body["evicted"], 0);
                self.counts.stored += 1;
            }
            // it is pushed again, or may be there or not
            (504, Some("unknown")) => return Some(()),
            _ => panic!("{answer:?}: {body}"),
        }
        self.unanswered = None;
        self.accepted.insert(title);
        Some(())
    }
}

impl fmt::Debug for Editor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Editor").field("path", &self.path).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads on one connection after the other.
    async fn read(&mut self, life: &Life, mut random: Random) {
        loop {
            let socket = self.open(life).await;
            let mut socket = match socket {
                Ok(socket) => socket,
                Err(error) => return life.is_over("a handshake", error),
            };
            let mut before = None;
            for _ in 0..=random.below(STAY) {
                match self.next(life, &mut socket, before).await {
                    Ok(number) => before = number,
                    Err(end) => return life.is_over("a connection", end),
                }
            }
        }
    }

    async fn open(&self, life: &Life) -> Result<Socket, Error> {
        let after = self.last.iter().filter(|_| self.resumes).map(|last| format!("?after={last}"));
        let url = format!("ws://{}/news{}", life.address, after.collect::<String>());
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Cookie", self.cookie.parse().expect("it was a header before"));
        let (mut socket, _) = client_async(request, TcpStream::connect(&life.address).await?).await?;
        if self.resumes && self.last.is_some() {
            let greeting = next(&mut socket).await.map_err(|_| Error::ConnectionClosed)?;
            assert_eq!(greeting, json!({ "resumed": true }), "{}", self.name);
        }
        Ok(socket)
    }

    /// Takes the next news of a connection on which `before` was the number of the one before.
    async fn next(
        &mut self,
        life: &Life,
        socket: &mut Socket,
        before: Option<u64>,
    ) -> Result<Option<u64>, Option<Result<Message, Error>>> {
        let news = next(socket).await?;
        let position = news["position"].as_str().expect("a position");
        let (number, _) = position.split_once('.').expect("a number and an id");
        let number: u64 = number.parse().expect("a number");
        let title: u64 = news["title"].as_str().and_then(|title| title.parse().ok()).expect("a number");
        let (name, last) = (&self.name, self.news.keys().next_back().copied().unwrap_or_default());
        match before {
            Some(before) => assert_eq!(number, before + 1, "{name}: a hole, or not in order"),
            None if self.resumes => assert_eq!(number, last + 1, "{name} resumed after {last}"),
            None => {
                // after what was confirmed, and before what was not got
                let possible = self.start..=last + 1;
                assert!(possible.contains(&number), "{name}: {number} is none of {possible:?}");
                self.start = number;
            }
        }
        if number <= last {
            assert_eq!(self.news.get(&number), Some(&title), "{name}: another one at the same position");
            self.repeated += 1;
        } else {
            let latest = self.news.values().next_back().copied().unwrap_or_default();
            assert!(title > latest, "{name}: {title} came after {latest}");
            self.news.insert(number, title);
            self.last = Some(position.to_owned());
            life.happened();
        }
        if self.resumes {
            self.start = number;
        }
        Ok(Some(number))
    }
}

/// The next message; pings are answered. The error is what came in its place.
async fn next(socket: &mut Socket) -> Result<Value, Option<Result<Message, Error>>> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(super::super::parse(&text)),
            Some(Ok(Message::Ping(_))) => {}
            end => return Err(end),
        }
    }
}
