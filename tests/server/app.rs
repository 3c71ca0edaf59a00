//! [`App`]: what the connections of the server share: the hub, and the numbers of what goes through it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use ws_hub::Hub;
use ws_tests::Random;

/// Panics of this process.
pub(crate) static PANICS: AtomicUsize = AtomicUsize::new(0);

/// How often users get messages: a few at a time.
const TICK: Duration = Duration::from_millis(10);

/// The largest message that is published.
const LARGEST: usize = 2 * 1024;

/// The number of the next message, held while one is sent: so they are sent in the order of their numbers.
type Number = Arc<tokio::sync::Mutex<u64>>;

#[derive(Default)]
pub(crate) struct Numbers(Mutex<HashMap<String, Number>>);

impl Numbers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Number>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, name: &str) -> Number {
        Arc::clone(self.lock().entry(name.to_owned()).or_default())
    }
}

pub(crate) struct App {
    pub(crate) hub: Hub<String>,
    /// Whether handlers that wait for it may read.
    pub(crate) released: watch::Sender<bool>,
    users: Numbers,
    rooms: Numbers,
    /// What the handlers that have not returned do, to be told of one that hangs.
    handlers: Mutex<Vec<String>>,
    /// Messages a second to users at random.
    rate: AtomicUsize,
}

impl App {
    pub(crate) fn new() -> Self {
        Self {
            hub: Hub::new(),
            released: watch::Sender::new(false),
            users: Numbers::default(),
            rooms: Numbers::default(),
            handlers: Mutex::default(),
            rate: AtomicUsize::new(0),
        }
    }

    pub(crate) fn handlers(&self) -> MutexGuard<'_, Vec<String>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a user is one of those who get messages, online or not.
    pub(crate) fn know(&self, user: &str) {
        self.users.of(user);
    }

    /// Sends the next message to a user: `u`, its number, and something of this size.
    async fn send_to_user(&self, user: &String, size: usize) {
        let number = self.users.of(user);
        let mut number = number.lock().await;
        // what becomes of it is seen by its number, or in the hub's counts
        let _ = self.hub.send(user, format!("u {number} {}", "x".repeat(size))).await;
        *number += 1;
    }

    /// Tells a user how many messages he has been sent, behind all of them: `total` and that.
    pub(crate) async fn tell_total(&self, user: &String) {
        let number = self.users.of(user);
        let number = number.lock().await;
        let _ = self.hub.send(user, format!("total {number}")).await;
    }

    /// Sends the next message to a room: `r`, the room, its number, and something of this size.
    pub(crate) async fn send_to_room(&self, room: &str, size: usize) {
        let number = self.rooms.of(room);
        let mut number = number.lock().await;
        self.hub.room(room).send(format!("r {room} {number} {}", "x".repeat(size))).await;
        *number += 1;
    }

    /// Sends this many messages a second to users at random, until this is called again, and its task has ended.
    pub(crate) async fn publish(self: &Arc<Self>, per_second: usize, publisher: &mut Option<JoinHandle<()>>) {
        self.rate.store(0, Ordering::SeqCst);
        if let Some(publisher) = publisher.take() {
            publisher.await.expect("it does not panic");
        }
        self.rate.store(per_second, Ordering::SeqCst);
        *publisher = (per_second > 0).then(|| tokio::spawn(Arc::clone(self).publishing()));
    }

    async fn publishing(self: Arc<Self>) {
        let mut random = Random::new(0, 0);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticks_per_second = 1_000 / 10;
        let mut owed = 0;
        loop {
            ticks.tick().await;
            match self.rate.load(Ordering::SeqCst) {
                0 => return,
                per_second => owed += per_second,
            }
            if owed < ticks_per_second {
                continue;
            }
            let users: Vec<_> = self.users.lock().keys().cloned().collect();
            while owed >= ticks_per_second {
                owed -= ticks_per_second;
                if !users.is_empty() {
                    let size = random.below(LARGEST);
                    self.send_to_user(&users[random.below(users.len())], size).await;
                }
            }
        }
    }
}
