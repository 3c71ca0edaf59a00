//! A `news_push` with `DATA` and `SESSION_KEY` that is killed under load, and started again with the same settings.

use std::cell::Cell;
use std::fmt::Debug;
use std::slice;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::sync::Notify;
use tokio::time::sleep;
use ws_tests::wait::DEADLINE;
use ws_tests::{Random, within};

use super::News;
use crate::support::news::{Scene, TOKEN, Tally, User, assert_nothing_found};
use crate::support::{Directory, Example};

const KILLS: u64 = 50;
/// The seed of another run, which it has printed.
const SEED: &str = "WS_NEWS_PUSH_SEED";
/// So many answers and new messages come before the kill, at most.
const LOAD: usize = 150;
/// And it comes up to twice as long after the last of them: between any two steps of the server.
const MOMENT: Duration = Duration::from_millis(2);

/// A client stays for at most so many news, then comes back.
const STAY: usize = 60;

/// One life of the server.
struct Life {
    address: String,
    /// How many answers and new messages are still to come before the kill.
    left: Cell<usize>,
    is_due: Notify,
    is_killed: Cell<bool>,
}

impl Life {
    fn new(example: &Example, left: usize) -> Self {
        let life = Self {
            address: example.address(),
            left: Cell::new(left),
            is_due: Notify::new(),
            is_killed: Cell::new(false),
        };
        if left == 0 {
            life.is_due.notify_one();
        }
        life
    }

    async fn kill(&self, example: Example, after: Duration) {
        self.is_due.notified().await;
        sleep(after).await;
        self.is_killed.set(true);
        example.kill();
    }
}

impl Scene for Life {
    fn address(&self, _: &mut Random) -> String {
        self.address.clone()
    }

    fn is_over(&self) -> bool {
        self.is_killed.get()
    }

    fn patience(&self, _: &mut Random) -> Duration {
        DEADLINE
    }

    fn stay(&self, random: &mut Random) -> usize {
        random.below(STAY)
    }

    async fn may_push(&self, _: usize, _: bool, _: &mut Random) -> bool {
        !self.is_over()
    }

    fn happened(&self) {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left == 0 {
            self.is_due.notify_one();
        }
    }

    /// Only the kill is a reason for it.
    fn failed(&self, what: &str, why: &dyn Debug) {
        assert!(self.is_killed.get(), "{what} ended before the server was killed: {why:?}");
    }

    async fn pause(&self, _: &mut Random) {}
}

/// In this time the server starts, or almost, or not: it is killed after up to twice as long.
const START: Duration = Duration::from_millis(20);

const EXAMPLE: &str = "news_push";
const ADDRESS: &str = "127.0.0.1:0";

/// The settings of the server, which stay the same.
struct Settings {
    data: String,
    key: String,
    _directory: Directory,
}

impl Settings {
    fn new() -> Self {
        let directory = Directory::new();
        Self { data: directory.file("news.redb"), key: "5e".repeat(64), _directory: directory }
    }

    fn variables(&self) -> [(&str, &str); 3] {
        [("DATA", &self.data), ("SESSION_KEY", &self.key), ("EDITOR_TOKEN", TOKEN)]
    }

    fn start(&self) -> Example {
        Example::start_with(EXAMPLE, ADDRESS, &self.variables())
    }

    /// Starts the server, and kills it while it may still look through its file.
    fn kill_at_start(&self, after: Duration) {
        Example::kill_at_start(EXAMPLE, ADDRESS, &self.variables(), after);
    }
}

fn seed() -> u64 {
    let given = std::env::var(SEED).ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("a seed is a number"));
    println!("{SEED}={seed}");
    seed
}

#[tokio::test]
async fn of_what_was_answered_50_kills_lose_nothing_and_repeat_only_what_was_unconfirmed() {
    let seed = seed();
    let mut choices = Random::new(seed, 0);
    let settings = Settings::new();
    let example = settings.start();
    let mut users = Vec::new();
    for number in 0..6 {
        // the bits of the number say who does what
        users.push(User::sign_in(&example.address(), number, &[number & 2 == 0]).await);
    }
    example.kill();
    for round in 1..=KILLS {
        if choices.one_in(3) {
            settings.kill_at_start(choices.around(START));
        }
        let example = settings.start();
        let life = Life::new(&example, choices.below(LOAD));
        let life = &life;
        let living = users.iter_mut().zip(1..).map(|(user, number)| {
            let mut random = Random::new(seed, round << 8 | number);
            let is_away = random.one_in(3);
            async move { user.live(life, &random, is_away).await }
        });
        let killing = life.kill(example, choices.around(MOMENT));
        within(format!("round {round}"), join(killing, join_all(living))).await;
    }
    let example = settings.start();
    let life = Life::new(&example, usize::MAX);
    for (user, number) in users.iter_mut().zip(1..) {
        let reading = user.read_to_the_end(&life, Random::new(seed, number));
        within("all news", reading).await;
        println!("{user}");
        assert_nothing_found(slice::from_ref(user));
        let Tally { sent, stored, dropped, unknown, .. } = user.tally();
        assert_eq!(dropped, 0);
        let is_busy = sent > 0 && stored > 0 && unknown > 0 && user.has_moved_on();
        assert!(is_busy, "the test has seen too little");
    }
}

#[tokio::test]
async fn news_and_sessions_survive_a_kill_and_new_sessions_need_no_new_key() {
    let directory = Directory::new();
    let (data, key) = (directory.file("news.redb"), "5e".repeat(64));
    let variables = [("DATA", data.as_str()), ("SESSION_KEY", key.as_str())];
    let news = News::start_with(&variables);
    let session = news.sign_in("anna").await;
    assert_eq!(news.push("anna", "one").await.0, 202);
    news.example.kill();

    let news = News::start_with(&variables);
    let mut anna = news.connect_with(session.clone()).await;
    assert_eq!(super::title(&mut anna).await, "one");
    news.example.kill();

    // with another key nobody is signed in any more
    let news = News::start_with(&[("DATA", &data), ("SESSION_KEY", &"6f".repeat(64))]);
    assert_eq!(news.ask(session).await.status, 401);
}
