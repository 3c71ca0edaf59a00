//! What a hub adds to a connection, and that it does not depend on how many users there are. All of it without the time that
//! the tasks of the connections take, which run between two measurements.

use std::cell::Cell;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tokio::runtime::Runtime;
use ws_core::{Error, PreparedMessage, Sender, testing};
use ws_hub::{Hub, Member};

/// The rooms that each user is in.
const ROOMS: u64 = 10;
/// The users in a room.
const MEMBERS: u64 = 10;

/// Users who are connected, and whose clients read.
struct Crowd {
    runtime: Runtime,
    hub: Hub<u64>,
    senders: Vec<Sender>,
    next: Cell<u64>,
}

impl Crowd {
    fn new(users: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (hub, senders) = (Hub::new(), Arc::new(Mutex::new(Vec::new())));
        for user in 0..users {
            runtime.block_on(connect(&hub, user, &senders));
        }
        let senders = std::mem::take(&mut *senders.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(senders.len() as u64, users);
        Self { runtime, hub, senders, next: Cell::new(0) }
    }

    /// The same, all in rooms of a few. Those of a room come one after the other.
    fn in_rooms(users: u64) -> Self {
        let crowd = Self::new(users);
        crowd.run(async {
            for user in 0..users {
                for room in 0..ROOMS {
                    crowd.hub.join(&user, &room_of(user, room)).await.expect("a user who is online");
                }
            }
        });
        crowd
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Lets everything be sent and read: the clock goes on when no task has anything to do.
    fn settle(&self) {
        self.run(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }

    /// Another user each time. They have read everything that they were sent.
    fn next(&self) -> u64 {
        let users = self.senders.len() as u64;
        let next = (self.next.get() + 1) % users;
        if next == 0 {
            self.settle();
        }
        self.next.set(next);
        next
    }
}

async fn connect(hub: &Hub<u64>, user: u64, senders: &Arc<Mutex<Vec<Sender>>>) {
    let (hub, senders) = (hub.clone(), Arc::clone(senders));
    let mut client = testing::connect(async move |socket| {
        let handler = async |mut member: Member<u64>| {
            senders.lock().unwrap_or_else(PoisonError::into_inner).push(member.sender().clone());
            while let Some(message) = member.recv().await {
                message?;
            }
            Ok::<_, Error>(())
        };
        hub.attach_with(user, socket, handler).await
    });
    // an answer says that the connection is served
    client.ping().await.expect("an open connection");
    tokio::spawn(async move { while client.recv().await.is_some() {} });
}

fn room_of(user: u64, room: u64) -> String {
    format!("room {room}-{}", user / MEMBERS)
}

fn payload() -> Vec<u8> {
    ws_bench_micro::binary(16)
}

/// To everyone, through the hub.
#[divan::bench(args = [1_000], sample_size = 1)]
fn broadcast(bencher: Bencher<'_, '_>, users: u64) {
    let crowd = Crowd::new(users);
    bencher.counter(ItemsCount::new(users)).with_inputs(|| crowd.settle()).bench_local_values(|()| {
        let reach = crowd.run(crowd.hub.broadcast(payload()));
        assert_eq!(reach.here as u64, users);
    });
}

/// The same, with a list of senders and no hub.
#[divan::bench(args = [1_000], sample_size = 1)]
fn broadcast_without_a_hub(bencher: Bencher<'_, '_>, users: u64) {
    let crowd = Crowd::new(users);
    bencher.counter(ItemsCount::new(users)).with_inputs(|| crowd.settle()).bench_local_values(|()| {
        crowd.run(async {
            let message = PreparedMessage::new(payload());
            for sender in &crowd.senders {
                sender.try_send_prepared(&message).expect("room");
            }
        });
    });
}

/// To one of many, by their id. It is written to a log in memory first.
#[divan::bench(args = [1_000, 100_000])]
fn send(bencher: Bencher<'_, '_>, users: u64) {
    let crowd = Crowd::new(users);
    bencher.with_inputs(|| crowd.next()).bench_local_values(|user| {
        assert!(crowd.run(crowd.hub.send(&user, payload())).is_accepted());
    });
}

/// The same, by their sender, and without a log.
#[divan::bench(args = [1_000])]
fn send_without_a_hub(bencher: Bencher<'_, '_>, users: u64) {
    let crowd = Crowd::new(users);
    bencher.with_inputs(|| crowd.next()).bench_local_values(|user| {
        let sender = &crowd.senders[usize::try_from(user).expect("a few")];
        crowd.run(async { sender.try_send(payload()) }).expect("room");
    });
}

/// Into a room and out of it, where each user is in ten.
#[divan::bench(args = [1_000, 100_000])]
fn join_and_leave(bencher: Bencher<'_, '_>, users: u64) {
    let crowd = Crowd::in_rooms(users);
    bencher.with_inputs(|| crowd.next()).bench_local_values(|user| {
        assert_eq!(crowd.run(crowd.hub.join(&user, "another")), Ok(true));
        assert!(crowd.hub.leave(&user, "another"));
    });
}

/// To a room of ten, where each user is in ten.
#[divan::bench(args = [1_000, 100_000])]
fn send_to_a_room(bencher: Bencher<'_, '_>, users: u64) {
    let crowd = Crowd::in_rooms(users);
    let room = || room_of(crowd.next(), 0);
    bencher.counter(ItemsCount::new(MEMBERS)).with_inputs(room).bench_local_values(|room| {
        let reach = crowd.run(crowd.hub.room(&room).send(payload()));
        assert_eq!(reach.here as u64, MEMBERS);
    });
}
