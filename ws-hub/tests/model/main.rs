//! Worlds of several nodes, users who come and go and read or do not, and a network that loses what it likes: made of random
//! numbers, checked after each step.
//!
//! What holds at any moment:
//!
//! - A message that was accepted is in the log of its user, behind the cursor, until a client has got it.
//! - Each connection gets the messages of the log in their order, without a hole, from where it started.
//! - No number is given twice, and a message that is sent again is there once.
//! - When everything has come to rest, all that was accepted has arrived, the directory knows exactly the connections that are
//!   there, and nobody has more than they may.
//!
//! `MODEL_SEEDS` and `MODEL_STEPS` in the environment ask for more worlds, and longer ones; `MODEL_SEED` for one of them.

mod client;
mod ledger;
mod log;
mod world;

use std::thread;

use ws_hub::{Guarantee, Login};

use crate::world::{Rules, Trouble, World};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Says which world it was that failed.
struct Seed(u64, Rules);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("MODEL_SEED={} {:?}", self.0, self.1);
        }
    }
}

fn run(login: Login, guarantee: Guarantee) {
    let steps = number("MODEL_STEPS").unwrap_or(300);
    let seeds = match number("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MODEL_SEEDS").unwrap_or(60),
    };
    for seed in seeds {
        let trouble = [Trouble::None, Trouble::Network, Trouble::Nodes][usize::try_from(seed % 3).unwrap()];
        let gets_nothing_twice = guarantee == Guarantee::AtMostOnce && login == Login::ReplaceOld;
        let is_immediate = !gets_nothing_twice && seed / 2 % 2 == 0;
        let (do_leave, do_resume) = (seed % 2 == 0, !gets_nothing_twice);
        let rules = Rules { login, guarantee, trouble, do_leave, do_resume, is_immediate };
        let _seed = Seed(seed, rules);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let mut world = World::new(seed, rules);
            for step in 1..=steps {
                world.step().await;
                if step % 100 == 0 {
                    world.rest().await;
                }
            }
            // not where nodes are thought to be gone: see `Guarantee::AtMostOnce`
            if gets_nothing_twice && trouble != Trouble::Nodes {
                world.assert_nothing_twice();
            }
        });
    }
}

#[test]
fn one_connection_at_least_once() {
    run(Login::ReplaceOld, Guarantee::AtLeastOnce);
}

#[test]
fn one_connection_at_most_once() {
    run(Login::ReplaceOld, Guarantee::AtMostOnce);
}

#[test]
fn several_connections_at_least_once() {
    run(Login::AllowMany(3), Guarantee::AtLeastOnce);
}

#[test]
fn several_connections_at_most_once() {
    run(Login::AllowMany(3), Guarantee::AtMostOnce);
}
