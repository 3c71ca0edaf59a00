//! An editor: pushes news to one user, and writes down what the servers answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use serde_json::json;
use tokio::time::timeout;
use ws_tests::Random;

use super::{News, Scene, Tally, ask, connect, edit, parse, post};

/// An editor takes another server once in so many times.
const MOVES: usize = 4;
/// Once in so many times, news is as long as it may be.
const LONG: usize = 20;
/// With everything around it, this is the longest request that the server takes, but for some bytes.
const LONGEST: usize = 16_300;

/// Pushes news whose titles have numbers, one after the other.
pub(super) struct Editor {
    pub(super) index: usize,
    /// They push again what was not answered, with the same idempotency key.
    retries: bool,
    path: String,
    pub(super) last: u64,
    /// What became of each.
    pub(super) fates: BTreeMap<u64, Fate>,
    /// Pushed, and it is not known what became of it: it is pushed again.
    unsettled: Option<u64>,
    pub(super) evicted: u64,
    http: Option<SendRequest<Full<Bytes>>>,
    tally: Tally,
}

/// What a server has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    Stored,
    /// It is certain that it is nowhere.
    Dropped,
    Unknown,
}

impl Fate {
    pub(super) fn is_accepted(self) -> bool {
        matches!(self, Self::Sent | Self::Stored)
    }
}

impl Editor {
    pub(super) fn new(index: usize, user: &str, retries: bool) -> Self {
        Self {
            index,
            retries,
            path: format!("/users/{user}/news"),
            last: 0,
            fates: BTreeMap::new(),
            unsettled: None,
            evicted: 0,
            http: None,
            tally: Tally::default(),
        }
    }

    /// Pushes until all is over.
    pub(super) async fn push(&mut self, scene: &impl Scene, user: usize, mut random: Random) {
        // connections of an earlier life are over
        self.http = None;
        while scene.may_push(user, self.unsettled.is_some(), &mut random).await {
            if self.push_one(scene, &mut random).await.is_none() {
                return;
            }
            if self.unsettled.is_none() {
                scene.settled();
            }
        }
    }

    /// Pushes until it is known what became of everything.
    pub(super) async fn settle(&mut self, scene: &impl Scene, random: &mut Random) {
        self.http = None;
        while self.unsettled.is_some() && self.push_one(scene, random).await.is_some() {}
    }

    /// Pushes the next news, or that of which nothing is known; returns which. `None` if all is over.
    pub(super) async fn push_one(&mut self, scene: &impl Scene, random: &mut Random) -> Option<News> {
        let mut http = self.connection(scene, random).await?;
        let is_again = self.unsettled.is_some();
        let number = self.unsettled.unwrap_or(self.last + 1);
        self.last = number;
        let news = News { editor: self.index, number };
        let request = self.request(news);
        // the same each time that it is pushed
        let text = if number.is_multiple_of(LONG as u64) { "x".repeat(LONGEST) } else { String::new() };
        let body = json!({ "title": news.to_string(), "text": text }).to_string();
        let fate = match timeout(scene.patience(random), ask(&mut http, request, body)).await {
            Ok(Ok((answer, body))) => {
                self.http = Some(http);
                scene.happened();
                self.read(answer.status().as_u16(), &body)
            }
            Ok(Err(error)) => {
                scene.failed("a request", &error);
                Fate::Unknown
            }
            Err(late) => {
                scene.failed("a request", &late);
                Fate::Unknown
            }
        };
        self.tally.unknown += usize::from(fate == Fate::Unknown);
        let is_open = match fate {
            Fate::Unknown => true,
            // that is only true of this request, and not of an earlier one
            Fate::Dropped => is_again,
            Fate::Sent | Fate::Stored => false,
        };
        self.unsettled = (is_open && self.retries).then_some(number);
        self.fates.insert(number, if is_open { Fate::Unknown } else { fate });
        Some(news)
    }

    /// A connection to a server, the same as before, or another one.
    async fn connection(
        &mut self,
        scene: &impl Scene,
        random: &mut Random,
    ) -> Option<SendRequest<Full<Bytes>>> {
        if let Some(http) = self.http.take()
            && !http.is_closed()
            && !random.one_in(MOVES)
        {
            return Some(http);
        }
        while !scene.is_over() {
            let address = scene.address(random);
            match timeout(scene.patience(random), connect(&address)).await {
                Ok(Some(http)) => return Some(http),
                // nothing was sent
                failed => scene.failed("a connection", &failed.map(drop)),
            }
            scene.pause(random).await;
        }
        None
    }

    fn request(&self, news: News) -> http::request::Builder {
        let request = edit(post(&self.path, "application/json"));
        if self.retries { request.header("Idempotency-Key", news.to_string()) } else { request }
    }

    fn read(&mut self, status: u16, body: &str) -> Fate {
        let answer = parse(body);
        match (status, answer["delivery"].as_str()) {
            (200, Some("sent")) => Fate::Sent,
            (202, Some("stored")) => {
                self.evicted += answer["evicted"].as_u64().expect("a number");
                Fate::Stored
            }
            (503, Some("dropped")) => Fate::Dropped,
            (504, Some("unknown")) => Fate::Unknown,
            _ => panic!("{status}: {body}"),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        let count = |fate| self.fates.values().filter(|it| **it == fate).count();
        Tally {
            sent: count(Fate::Sent),
            stored: count(Fate::Stored),
            dropped: count(Fate::Dropped),
            ..self.tally
        }
    }
}
