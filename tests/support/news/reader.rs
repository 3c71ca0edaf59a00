//! A reader: one connection after the other, on any server, and all that comes on them.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use ws_tests::Random;

use super::{Finding, Kind, News, Scene, Tally, parse};

/// Once in so many times, it comes back somewhat later.
const AWAY: usize = 3;

/// Reads news on one connection after the other.
pub(super) struct Reader {
    pub(super) name: String,
    cookie: String,
    /// They say the position where they had stopped.
    pub(super) resumes: bool,
    /// What they have got at each number of the log: its position, and which news it is.
    pub(super) got: BTreeMap<u64, (String, News)>,
    /// The last position.
    last: Option<String>,
    /// What the last connection began with. Everything before it is confirmed.
    start: u64,
    /// What is open between two times that they read.
    connection: Option<Connection>,
    pub(super) findings: Vec<Finding>,
    tally: Tally,
}

/// A connection, and the number of what came last on it.
struct Connection {
    socket: WebSocketStream<TcpStream>,
    before: Option<u64>,
}

/// What came in place of a message.
type End = Option<Result<Message, Error>>;

impl Reader {
    pub(super) fn new(name: String, cookie: &str, resumes: bool) -> Self {
        Self {
            name,
            cookie: cookie.to_owned(),
            resumes,
            got: BTreeMap::new(),
            last: None,
            start: 1,
            connection: None,
            findings: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Reads on one connection after the other, until all is over. The last one stays open.
    pub(super) async fn read(&mut self, scene: &impl Scene, mut random: Random) {
        self.connection = None;
        while let Some(mut connection) = self.open(scene, &mut random).await {
            let mut left = scene.stay(&mut random);
            let is_open = loop {
                match timeout(scene.patience(&mut random), self.next(scene, &mut connection)).await {
                    Ok(Ok(_)) if left > 0 => left -= 1,
                    Ok(Err(end)) => {
                        scene.failed("a connection", &end);
                        break false;
                    }
                    // it comes back, or nothing comes, and another server may know more
                    Ok(Ok(_)) | Err(_) => break true,
                }
                if scene.is_over() {
                    break true;
                }
            };
            if is_open && scene.is_over() {
                self.connection = Some(connection);
                return;
            }
            drop(connection);
            if random.one_in(AWAY) {
                scene.pause(&mut random).await;
            }
        }
    }

    /// Reads until this news has come, on the connection that is open, or another one if that ends. Returns `false` if nothing
    /// comes for a while.
    pub(super) async fn read_until(&mut self, last: News, scene: &impl Scene, random: &mut Random) -> bool {
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => match self.open(scene, random).await {
                    Some(connection) => connection,
                    None => return true,
                },
            };
            loop {
                let next = timeout(scene.patience(random), self.next(scene, &mut connection)).await;
                match next {
                    Ok(Ok(news)) if news != last => {}
                    Ok(Err(_)) => break,
                    // it came, or nothing does
                    next => {
                        self.connection = Some(connection);
                        return next.is_ok();
                    }
                }
            }
        }
    }

    /// Connects, and stays; returns why the connection has ended.
    pub(super) async fn stay(&mut self, scene: &impl Scene, random: &mut Random) -> String {
        self.connection = None;
        let Some(mut connection) = self.open(scene, random).await else { return "no server".to_owned() };
        loop {
            match self.next(scene, &mut connection).await {
                Ok(_) => {}
                Err(end) => return format!("{end:?}"),
            }
        }
    }

    /// A new connection; `None` if all is over.
    async fn open(&mut self, scene: &impl Scene, random: &mut Random) -> Option<Connection> {
        while !scene.is_over() {
            let address = scene.address(random);
            match timeout(scene.patience(random), self.connect(&address)).await {
                Ok(Ok(connection)) => return Some(connection),
                Ok(Err(error)) => scene.failed("a handshake", &error),
                Err(late) => scene.failed("a handshake", &late),
            }
            scene.pause(random).await;
        }
        None
    }

    async fn connect(&mut self, address: &str) -> Result<Connection, Error> {
        let after = self.last.iter().filter(|_| self.resumes).map(|last| format!("?after={last}"));
        let url = format!("ws://{address}/news{}", after.collect::<String>());
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Cookie", self.cookie.parse().expect("it was a header before"));
        let (mut socket, _) = client_async(request, TcpStream::connect(address).await?).await?;
        if self.resumes && self.last.is_some() {
            let greeting = next(&mut socket).await.map_err(|_| Error::ConnectionClosed)?;
            if greeting == json!({ "resumed": true }) {
                self.tally.resumed += 1;
            } else {
                self.found(Kind::Forgotten, &format!("came back after {:?}, was told {greeting}", self.last));
                // a log that has begun anew
                (self.last, self.start) = (None, 1);
            }
        }
        Ok(Connection { socket, before: None })
    }

    /// Takes the next news of a connection.
    async fn next(&mut self, scene: &impl Scene, connection: &mut Connection) -> Result<News, End> {
        let message = next(&mut connection.socket).await?;
        let position = message["position"].as_str().expect("a position");
        let (number, _) = position.split_once('.').expect("a number and an id");
        let number: u64 = number.parse().expect("a number");
        let news: News = message["title"].as_str().and_then(|title| title.parse().ok()).expect("a title");
        self.check(connection.before, number, news);
        connection.before = Some(number);
        let place = (position.to_owned(), news);
        if number <= self.last_number() {
            self.tally.got_twice += 1;
            if let Some(known) = self.got.get(&number).filter(|known| **known != place) {
                let text = format!("{place:?} at {number}, and {known:?} before");
                self.found(Kind::Changed, &text);
                // what is there in the end is what counts
                self.got.insert(number, place);
            }
        } else {
            self.got.insert(number, place);
            scene.happened();
        }
        self.last = Some(position.to_owned());
        Ok(news)
    }

    /// Whether this number may come on a connection on which `before` was the last one.
    fn check(&mut self, before: Option<u64>, number: u64, news: News) {
        let last = self.last_number();
        match before {
            Some(before) if number != before + 1 => {
                self.found(Kind::Hole, &format!("{news} at {number}, after {before} on the same connection"));
            }
            None if self.resumes && number != last + 1 => {
                self.found(Kind::Hole, &format!("{news} at {number}, resumed after {last}"));
            }
            // after what was confirmed, and before what was not got
            None if !self.resumes && !(self.start..=last + 1).contains(&number) => {
                let text = format!("{news} at {number}, which is none of {}..={}", self.start, last + 1);
                self.found(Kind::Hole, &text);
            }
            _ => {}
        }
        if before.is_none() {
            self.tally.connections += 1;
            self.start = number;
        }
    }

    fn last_number(&self) -> u64 {
        self.got.keys().next_back().copied().unwrap_or_default()
    }

    fn found(&mut self, kind: Kind, text: &str) {
        self.findings.push(Finding { kind, text: format!("{}: {text}", self.name) });
    }

    /// Closes what is open.
    pub(super) fn leave(&mut self) {
        self.connection = None;
    }

    pub(super) fn has_moved_on(&self) -> bool {
        self.start > 1
    }

    pub(super) fn tally(&self) -> Tally {
        Tally { got: self.got.len(), ..self.tally }
    }
}

/// The next message; pings are answered. The error is what came in its place.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> Result<Value, End> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(parse(&text)),
            Some(Ok(Message::Ping(_))) => {}
            end => return Err(end),
        }
    }
}
