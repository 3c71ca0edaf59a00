//! The account of a storm has to be able to fail: here it is that of nodes whose engine publishes, and keeps nothing.

#[path = "../../examples/news_push/app.rs"]
mod app;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::future::{join, join_all};
use tokio::net::TcpListener;
use ws_examples::session::SessionKey;
use ws_hub::{
    Acknowledge, After, Append, Appended, Continuity, Durability, Hub, InProcess, Log, LogError, MemoryLog,
    Page, Push, Read,
};
use ws_tests::Random;

use crate::storm::{EDITORS, USERS, healed, read_to_the_end, seed, sign_in};
use crate::support::news::{Finding, Kind, TOKEN, User};
use crate::world::{Nodes, World};

/// About how long a round takes.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Of so many signals, one does not arrive.
const LOST: usize = 10;

/// Numbers messages, and forgets them: they go to who is there. It notices if one is missing.
struct Published(MemoryLog<String>);

impl Log<String> for Published {
    /// It says so.
    fn durability(&self) -> Durability {
        Durability::Disk
    }

    fn append<'a>(
        &'a self,
        batch: &'a [Append<'a, String>],
    ) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        self.0.append(batch)
    }

    fn read<'a>(
        &'a self,
        user: &'a String,
        after: After,
        page: Page,
    ) -> BoxFuture<'a, Result<Read, LogError>> {
        Box::pin(async move {
            let mut read = self.0.read(user, after, page).await?;
            let top = read.top.map_or(0, |top| top.number);
            let is_missing = match after {
                After::Cursor => false,
                After::Position(position) => position.number != top,
                After::Number(number) => number != top,
            };
            read.entries.clear();
            (read.after, read.cursor) = (top, top);
            read.continuity = if is_missing { Continuity::Incomplete } else { Continuity::Complete };
            Ok(read)
        })
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, String>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        self.0.acknowledge(batch)
    }

    fn give_back<'a>(&'a self, user: &'a String, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.0.give_back(user, number)
    }
}

/// Nodes in this process: their addresses.
struct Stub(Vec<String>);

impl Stub {
    async fn start() -> Self {
        let first = InProcess::over(Published(MemoryLog::new()));
        let signals = AtomicUsize::new(1);
        first.faults().on_push(move |_| {
            let number = signals.fetch_add(1, Ordering::Relaxed);
            if number.is_multiple_of(LOST) { Push::Lose } else { Push::Deliver }
        });
        let mut addresses = Vec::new();
        for backplane in [first.another(), first] {
            let hub = app::hub(Hub::builder().backplane(backplane));
            let key = SessionKey::from_hex(&"5e".repeat(64)).expect("a key");
            let app = app::app(hub, key, TOKEN).layer(app::layer());
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("it is bound").to_string());
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Self(addresses)
    }
}

impl Nodes for Stub {
    fn any(&self, random: &mut Random) -> String {
        self.0[random.below(self.0.len())].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_finds_what_is_lost_by_an_engine_that_only_publishes() {
    let seed = seed();
    let nodes = Stub::start().await;
    let world = World::new(&nodes, USERS);
    let mut users = sign_in(&nodes.0).await;
    let living = users.iter_mut().zip(0..).map(|(user, number)| {
        let (world, random) = (&world, Random::new(seed, number));
        async move { user.live(world, &random, false).await }
    });
    let rounds = async {
        for _ in 0..ROUNDS {
            world.begin_round(ROUND, EDITORS.len());
            healed("the end of a round", world.round_is_over()).await;
        }
        world.end();
    };
    join(rounds, join_all(living)).await;
    world.begin_again();
    read_to_the_end(&mut users, &world, seed).await;

    let findings: Vec<Finding> = users.iter().flat_map(User::findings).collect();
    let lost = |answer: &str| {
        let is_it = |it: &&Finding| it.kind == Kind::Lost && it.text.ends_with(answer);
        findings.iter().filter(is_it).count()
    };
    let (sent, stored) = (lost("answered Sent"), lost("answered Stored"));
    println!("lost: {sent} sent, {stored} stored");
    assert!(sent > 0 && stored > 0, "the account does not find what is lost: {findings:?}");
}
