//! A backplane that does only what it has to.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::time::{Duration, sleep};
use ws_core::{CloseFrame, Drain};
use ws_hub::{
    Ack, Acked, After, Append, Backplane, Delivery, Durability, Held, Hub, InProcess, JoinError, LogError,
    LoggedIn, LoginError, LoginRequest, Logout, NodeId, Online, Packet, Page, Read, RoomHistory, Sent,
    Signal, Standing,
};

use crate::support::{ANNA, SECOND, login, narrow, scripted_with, settle, text};

/// It takes this long to leave.
struct Plain(InProcess<u64>, Duration);

impl Backplane<u64> for Plain {
    fn node(&self) -> NodeId {
        self.0.node()
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn signals(&self) -> BoxStream<'static, Signal<u64>> {
        self.0.signals()
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Sent, LogError>>> {
        self.0.append(batch)
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        self.0.read(user, after, page)
    }

    fn acknowledge<'a>(&'a self, batch: &'a [Ack<'a, u64>]) -> BoxFuture<'a, Vec<Result<Acked, LogError>>> {
        self.0.acknowledge(batch)
    }

    fn login<'a>(&'a self, login: &'a LoginRequest<'a, u64>) -> BoxFuture<'a, Result<LoggedIn, LoginError>> {
        self.0.login(login)
    }

    fn logout<'a>(&'a self, batch: &'a [Logout<'a, u64>]) -> BoxFuture<'a, Result<(), LogError>> {
        self.0.logout(batch)
    }

    fn reassert<'a>(&'a self, held: &'a [Held<'a, u64>]) -> BoxFuture<'a, Result<Vec<Standing>, LogError>> {
        self.0.reassert(held)
    }

    fn close<'a>(&'a self, user: &'a u64, frame: &'a CloseFrame) -> BoxFuture<'a, Result<usize, LogError>> {
        self.0.close(user, frame)
    }

    fn publish(&self, packet: Packet<u64>) -> BoxFuture<'_, Result<usize, LogError>> {
        self.0.publish(packet)
    }

    fn connections<'a>(&'a self, users: &'a [u64]) -> BoxFuture<'a, Result<Vec<usize>, LogError>> {
        self.0.connections(users)
    }

    fn online<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Online<u64>, LogError>> {
        self.0.online(after, limit)
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            sleep(self.1).await;
            self.0.leave().await;
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_no_histories_refuses_rooms_with_one_and_does_the_rest() {
    let history = RoomHistory::new(10, Duration::from_secs(60));
    let hub = Hub::builder()
        .backplane(Plain(InProcess::new(), Duration::ZERO))
        .room_history(move |room| (room == "kept").then_some(history))
        .build();
    let mut client = login(&hub, ANNA).await;
    assert_eq!(hub.send(&ANNA, "to anna").await, Delivery::Sent(1));
    assert_eq!(text(&mut client).await, "to anna");
    assert_eq!(hub.join(&ANNA, "plain").await, Ok(true));
    assert_eq!(hub.room("plain").send("to the room").await.here, 1);
    assert_eq!(text(&mut client).await, "to the room");

    assert_eq!(hub.join(&ANNA, "kept").await, Err(JoinError::Backplane));
    assert_eq!(hub.rooms_of(&ANNA), ["plain"]);
    let error = hub.room("kept").send("message").await.others.unwrap_err();
    assert_eq!(error.to_string(), "refused: this backplane keeps no histories of rooms");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_while_a_drain_takes_leave_of_the_others_does_not_remain() {
    let hub = Hub::builder().backplane(Plain(InProcess::new(), SECOND)).build();
    let draining = tokio::spawn({
        let hub = hub.clone();
        async move { hub.drain(Drain::new()).await }
    });
    settle().await;
    // its client does not answer the Close frame
    let layer = narrow().close_timeout(3600 * SECOND);
    let attaching = hub.clone();
    let _late = scripted_with(&layer, async move |socket| attaching.attach(ANNA, socket).await).await;
    assert_eq!(hub.stats().refused, 1);
    let drained = draining.await.unwrap();
    assert_eq!((drained.closed, drained.remaining), (0, 0));
}
