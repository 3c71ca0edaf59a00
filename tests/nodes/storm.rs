//! A storm: users, editors, and faults in rounds; then calm, and the account of everything.

use std::collections::BTreeSet;
use std::env;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};
use ws_tests::Random;

use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::support::news::{Kind, Tally, User, assert_nothing_found};
use crate::world::{Nodes, World};

/// The seed of another run, which it has printed.
const SEED: &str = "NODES_SEED";
/// How long all storms take together, in seconds.
const SECONDS: &str = "NODES_SECONDS";
/// How many storms there are.
const STORMS: u32 = 24;

pub(crate) const USERS: usize = 12;
/// Of each user: one who pushes again what was not answered, and one who does not.
pub(crate) const EDITORS: [bool; 2] = [true, false];

/// Storms that take this long also wait until Redis has forgotten the nodes that were killed.
const TIDY: Duration = Duration::from_secs(60);

/// How long anything may take after the network and Redis are well again: far more than it does on a busy machine.
pub(crate) const HEALING: Duration = Duration::from_secs(300);

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

pub(crate) fn seed() -> u64 {
    let seed = variable(SEED).unwrap_or_else(rand::random);
    println!("{SEED}={seed}");
    seed
}

/// How long one storm takes.
pub(crate) fn time() -> Duration {
    Duration::from_secs(variable(SECONDS).unwrap_or(60)) / STORMS
}

/// What `future` gives; fails if that takes too long for things that are well again.
pub(crate) async fn healed<F: Future>(what: &str, future: F) -> F::Output {
    timeout(HEALING, future).await.unwrap_or_else(|_| panic!("waited {HEALING:?} for {what}"))
}

/// A storm of these faults, and the account of it.
pub(crate) async fn storm(faults: &[Fault]) {
    course(Cluster::start().await, faults, account).await;
}

/// A storm of these faults of nodes that share a Redis Cluster. Where the last messages of a master may be lost, replicas have
/// to have each message that is accepted.
pub(crate) async fn storm_on_redis_cluster(faults: &[Fault]) {
    if faults.iter().any(|fault| fault.loses_tail()) {
        course(Cluster::start_on_redis_cluster(1).await, faults, account_without_tail).await;
    } else {
        course(Cluster::start_on_redis_cluster(0).await, faults, account).await;
    }
}

/// A storm in which Redis loses everything, several times: nobody hangs, and what is pushed when it is over arrives.
pub(crate) async fn storm_with_losses() {
    course(Cluster::start().await, &[Fault::Flush], |users| {
        let tally = tally(users);
        assert!(tally.sent > 0 && tally.got > 0, "the test has seen too little: {tally:?}");
    })
    .await;
}

fn tally(users: &[User]) -> Tally {
    users.iter().map(User::tally).fold(Tally::default(), Tally::add)
}

/// Users and editors in a storm, and after it: all have read to the end, and are judged; then those are online who are.
async fn course(cluster: Cluster, faults: &[Fault], judge: impl Fn(&[User])) {
    let seed = seed();
    let world = World::new(&cluster, USERS);
    let mut users = sign_in(&cluster.addresses()).await;
    let living = users.iter_mut().zip(0..).map(|(user, number)| {
        let (world, random) = (&world, Random::new(seed, 1000 + number));
        async move { user.live(world, &random, false).await }
    });
    let weather = async {
        let weather = weather(&cluster, &world, faults, Random::new(seed, 0)).await;
        world.end();
        weather
    };
    let ((rounds, names), _) = join(weather, join_all(living)).await;
    world.calm_down();
    world.begin_again();
    read_to_the_end(&mut users, &world, seed).await;
    println!("{rounds} rounds: {:?}", tally(&users));
    judge(&users);
    presence(&cluster, &mut users, &world, seed).await;
    if time() >= TIDY {
        healed("what is left of nodes to be removed", cluster.is_tidy(&names)).await;
    }
}

/// Users. Each signs in at one of these nodes.
pub(crate) async fn sign_in(addresses: &[String]) -> Vec<User> {
    let signing_in =
        (0..USERS).map(|number| User::sign_in(&addresses[number % addresses.len()], number, &EDITORS));
    join_all(signing_in).await
}

/// Round after round: something goes wrong, or two things do, and is put right; then each node works, and it is known what
/// became of all that was pushed. Returns how many rounds there were, and the names that nodes have had.
async fn weather(
    cluster: &Cluster,
    world: &World<'_, Cluster>,
    faults: &[Fault],
    mut random: Random,
) -> (usize, BTreeSet<String>) {
    let end = Instant::now() + time();
    let (mut rounds, mut names) = (0, BTreeSet::new());
    while rounds == 0 || Instant::now() < end {
        let fault = faults[random.below(faults.len())];
        let other = Some(faults[random.below(faults.len())]).filter(|other| *other != fault);
        world.begin_round(fault.time(), EDITORS.len());
        sleep(random.around(fault.time() / 4)).await;
        let (mut first, mut second) = (random.branch(1), random.branch(2));
        join(fault.strike(cluster, &mut first), async {
            if let Some(other) = other {
                other.strike(cluster, &mut second).await;
            }
        })
        .await;
        let what = format!("all to go on after round {rounds}, {fault:?} and {other:?}");
        healed(&what, join(cluster.is_well(), world.round_is_over())).await;
        names.extend(cluster.names().await);
        rounds += 1;
    }
    (rounds, names)
}

pub(crate) async fn read_to_the_end<N: Nodes>(users: &mut [User], world: &World<'_, N>, seed: u64) {
    let reading = users.iter_mut().zip(0..).map(|(user, number)| {
        let random = Random::new(seed, 2000 + number);
        let what = format!("{} to read to the end", user.name());
        async move { healed(&what, user.read_to_the_end(world, random)).await }
    });
    join_all(reading).await;
}

/// Everything that was answered is there, once and in order; and the storm was one.
fn account(users: &[User]) {
    assert_nothing_found(users);
    assert_was_storm(users);
}

/// Everything that was answered is there, once and in order. What came, and was answered with `unknown`, may have been lost with
/// a master, and something else may be in its place.
fn account_without_tail(users: &[User]) {
    let of_tail = [Kind::Changed, Kind::Forgotten, Kind::Hole];
    let findings: Vec<_> =
        users.iter().flat_map(User::findings).filter(|it| !of_tail.contains(&it.kind)).collect();
    assert!(findings.is_empty(), "{findings:?}");
    assert_was_storm(users);
}

fn assert_was_storm(users: &[User]) {
    let tally = tally(users);
    let is_busy = tally.sent > 0 && tally.got > 0 && tally.connections > USERS && tally.resumed > 0;
    assert!(is_busy, "the test has seen too little: {tally:?}");
}

/// Some users stay, and just they are online on all nodes.
async fn presence(cluster: &Cluster, users: &mut [User], world: &World<'_, Cluster>, seed: u64) {
    let (staying, leaving) = users.split_at_mut(USERS / 2);
    leaving.iter_mut().for_each(User::leave);
    let mut names: Vec<String> = staying.iter().map(|user| user.name().to_owned()).collect();
    names.sort_unstable();
    let mut stays: FuturesUnordered<_> = staying
        .iter_mut()
        .zip(0..)
        .map(|(user, number)| user.stay(world, Random::new(seed, 3000 + number)))
        .collect();
    tokio::select! {
        end = stays.next() => panic!("a connection has ended, and nothing was wrong: {end:?}"),
        () = healed("those to be online who are", cluster.until_online(&names)) => {}
    }
}
