//! Users of the example `news_push`, and the editors who push news to them. Both write down what they see, whatever happens
//! to the servers meanwhile; the ledger says what is wrong with it.

mod editor;
mod ledger;
mod reader;

use std::fmt::{self, Debug};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use ws_tests::Random;

pub(crate) use ledger::{Finding, Kind};

use editor::Editor;
use reader::Reader;

/// Of the editors.
pub(crate) const TOKEN: &str = "the editor's";

/// Where users and editors are: which servers there are, and when something happens.
pub(crate) trait Scene {
    /// The address of a server that may be there.
    fn address(&self, random: &mut Random) -> String;

    fn is_over(&self) -> bool;

    /// How long it is waited for a server that says nothing.
    fn patience(&self, random: &mut Random) -> Duration;

    /// How many news a reader waits for, before they come back.
    fn stay(&self, random: &mut Random) -> usize;

    /// Waits until news may be pushed to the user with this number, for the first time or again; `false` if all is over.
    fn may_push(&self, user: usize, again: bool, random: &mut Random) -> impl Future<Output = bool>;

    /// It is known now what became of the news.
    fn settled(&self) {}

    /// An answer has come, or news.
    fn happened(&self) {}

    /// A connection or a request has ended before its time.
    fn failed(&self, what: &str, why: &dyn Debug);

    /// Waits a moment, before another server is tried.
    fn pause(&self, random: &mut Random) -> impl Future<Output = ()>;
}

/// Which news it is, by its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct News {
    editor: usize,
    number: u64,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.editor, self.number)
    }
}

impl FromStr for News {
    type Err = ();

    fn from_str(title: &str) -> Result<Self, ()> {
        let (editor, number) = title.split_once(':').ok_or(())?;
        Ok(Self { editor: editor.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

/// A user, and the editors for them.
pub(crate) struct User {
    number: usize,
    editors: Vec<Editor>,
    reader: Reader,
}

/// What a user and their editors have seen, in figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: usize,
    pub(crate) stored: usize,
    pub(crate) dropped: usize,
    /// Requests with no answer, or one that says that nobody knows.
    pub(crate) unknown: usize,
    pub(crate) got: usize,
    pub(crate) got_twice: usize,
    /// Connections on which something came.
    pub(crate) connections: usize,
    /// Those that went on where the client had stopped.
    pub(crate) resumed: usize,
}

impl Tally {
    pub(crate) fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            stored: self.stored + other.stored,
            dropped: self.dropped + other.dropped,
            unknown: self.unknown + other.unknown,
            got: self.got + other.got,
            got_twice: self.got_twice + other.got_twice,
            connections: self.connections + other.connections,
            resumed: self.resumed + other.resumed,
        }
    }
}

impl User {
    /// One who signs in, for all the time. The last bit of their number says whether they resume. Each of `retries` is an
    /// editor, who pushes again what was not answered, or does not.
    pub(crate) async fn sign_in(address: &str, number: usize, retries: &[bool]) -> Self {
        let name = format!("user{number}");
        let mut http = connect(address).await.expect("the server listens");
        let form = post("/session", "application/x-www-form-urlencoded");
        let (answer, _) = ask(&mut http, form, format!("name={name}")).await.expect("an answer");
        let cookie = answer.headers()["set-cookie"].to_str().expect("a text");
        let (cookie, _) = cookie.split_once(';').expect("attributes");
        let editors = retries.iter().enumerate().map(|(index, retries)| Editor::new(index, &name, *retries));
        Self { number, editors: editors.collect(), reader: Reader::new(name, cookie, number & 1 == 0) }
    }

    /// Pushes, and reads unless they are away, until all is over.
    pub(crate) async fn live(&mut self, scene: &impl Scene, random: &Random, is_away: bool) {
        let Self { number, editors, reader } = self;
        let pushing = editors.iter_mut().zip(1..).map(|(editor, stream)| {
            let random = random.branch(stream);
            editor.push(scene, *number, random)
        });
        join(join_all(pushing), async {
            if !is_away {
                reader.read(scene, random.branch(0)).await;
            }
        })
        .await;
    }

    /// Reads everything, now that nothing gets in the way any more: until news comes that was pushed after all else.
    pub(crate) async fn read_to_the_end(&mut self, scene: &impl Scene, mut random: Random) {
        let Self { editors, reader, .. } = self;
        for editor in editors.iter_mut() {
            editor.settle(scene, &mut random).await;
        }
        loop {
            let Some(last) = editors[0].push_one(scene, &mut random).await else { return };
            if reader.read_until(last, scene, &mut random).await {
                return;
            }
        }
    }

    /// Connects, and stays for as long as the connection does; returns why it has ended.
    pub(crate) async fn stay(&mut self, scene: &impl Scene, mut random: Random) -> String {
        self.reader.stay(scene, &mut random).await
    }

    /// Closes their connection.
    pub(crate) fn leave(&mut self) {
        self.reader.leave();
    }

    pub(crate) fn name(&self) -> &str {
        &self.reader.name
    }

    /// What is wrong, after they have read to the end.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        ledger::audit(&self.editors, &self.reader)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.editors.iter().map(Editor::tally).fold(self.reader.tally(), Tally::add)
    }

    /// Whether the reader has come back at a place after the first one.
    pub(crate) fn has_moved_on(&self) -> bool {
        self.reader.has_moved_on()
    }
}

/// Fails if anything is wrong with what users have got, who have read to the end.
pub(crate) fn assert_nothing_found(users: &[User]) {
    let findings: Vec<_> = users.iter().flat_map(User::findings).map(|it| it.to_string()).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (resumes: {}): {:?}", self.reader.name, self.reader.resumes, self.tally())
    }
}

/// Asks the server; the error is what came in place of an answer.
pub(crate) async fn ask(
    http: &mut SendRequest<Full<Bytes>>,
    request: http::request::Builder,
    body: String,
) -> Result<(http::Response<()>, String), hyper::Error> {
    let request = request.body(Full::from(body)).expect("a request");
    let (head, body) = http.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((http::Response::from_parts(head, ()), String::from_utf8(body.into()).expect("text")))
}

/// A connection for requests; `None` if nobody listens.
pub(crate) async fn connect(address: &str) -> Option<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (http, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(http)
}

pub(crate) fn post(path: &str, content_type: &str) -> http::request::Builder {
    http::Request::post(path).header("Host", "example.com").header("Content-Type", content_type)
}

/// A request of the editor.
pub(crate) fn edit(request: http::request::Builder) -> http::request::Builder {
    request.header("Authorization", format!("Bearer {TOKEN}"))
}

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
