//! Nodes as their hubs use them, and hubs with clients.

use std::future::{Future, poll_fn};
use std::time::Duration;

use futures_core::stream::BoxStream;
use tokio::time::{sleep, timeout};
use ws_core::{Message, WebSocket, testing};
use ws_hub::{
    Ack, Acked, Append, Appended, Backplane as _, Hub, LogError, LoggedIn, LoginRequest, MessageId, Page,
    Position, Signal,
};
use ws_hub_redis::{RedisBackplane, RedisBackplaneBuilder};

use crate::server::SOON;

pub(crate) const ANNA: u64 = 1;
pub(crate) const BOB: u64 = 2;

pub(crate) const ALL: Page = Page { messages: usize::MAX, bytes: usize::MAX };

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(SOON, future).await.expect("nothing happens any more")
}

/// Asks again and again until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("it never comes to this: {what}"));
}

/// A node, as its hub uses it.
pub(crate) struct Node {
    pub(crate) backplane: RedisBackplane<u64>,
    signals: BoxStream<'static, Signal<u64>>,
}

impl Node {
    pub(crate) async fn new(builder: RedisBackplaneBuilder<u64>) -> Self {
        let backplane = builder.connect().await.unwrap();
        Self { signals: backplane.signals(), backplane }
    }

    pub(crate) async fn next_signal(&mut self) -> Signal<u64> {
        soon(poll_fn(|cx| self.signals.as_mut().poll_next(cx))).await.expect("it goes on")
    }

    /// Waits for a signal; those before it are not looked at.
    pub(crate) async fn signal<T>(&mut self, choose: impl Fn(Signal<u64>) -> Option<T>) -> T {
        loop {
            if let Some(chosen) = choose(self.next_signal().await) {
                return chosen;
            }
        }
    }

    pub(crate) async fn heard(&mut self, expected: &Signal<u64>) {
        self.signal(|signal| (signal == *expected).then_some(())).await;
    }

    /// The number of the next message that is signalled for a user.
    pub(crate) async fn entry(&mut self, user: u64) -> u64 {
        self.signal(|signal| match signal {
            Signal::Entry { user: of, entry } if of == user => Some(entry.position.number),
            _ => None,
        })
        .await
    }

    pub(crate) async fn try_append(&self, append: Append<'_, u64>) -> Result<(Appended, usize), LogError> {
        let sent = soon(self.backplane.append(&[append])).await.remove(0)?;
        Ok((sent.appended, sent.elsewhere))
    }

    /// Appends one message. Returns where it is, and how many connections there are elsewhere.
    pub(crate) async fn append(&self, user: u64, text: &str) -> (Position, usize) {
        let message = Message::text(text);
        match self.try_append(Append::new(&user, MessageId::random(), &message)).await.unwrap() {
            (Appended::Logged { position, .. }, elsewhere) => (position, elsewhere),
            (Appended::TooLarge, _) => panic!("too large"),
        }
    }

    /// Logs in beside others.
    pub(crate) async fn login(&self, user: u64, connection: u64) -> LoggedIn {
        let (user, page) = (&user, ALL);
        let login = LoginRequest { user, connection, limit: None, replace: false, after: None, page };
        soon(self.backplane.login(&login)).await.unwrap()
    }

    pub(crate) async fn acknowledge(
        &self,
        user: u64,
        login: &LoggedIn,
        upto: u64,
    ) -> Result<Acked, LogError> {
        let ack = Ack { user: &user, login: login.login, start: login.read.after, upto };
        soon(self.backplane.acknowledge(&[ack])).await.remove(0)
    }

    pub(crate) async fn count(&self, user: u64) -> usize {
        soon(self.backplane.connections(&[user])).await.unwrap()[0]
    }

    pub(crate) fn name(&self) -> String {
        self.backplane.node().to_string()
    }
}

/// A connection of a client that reads.
pub(crate) fn connect(hub: &Hub<u64>, user: u64) -> WebSocket {
    let hub = hub.clone();
    testing::connect(async move |socket| hub.attach(user, socket).await)
}

/// The same, when the hub knows of it.
pub(crate) async fn login(hub: &Hub<u64>, user: u64) -> WebSocket {
    let client = connect(hub, user);
    until("the user is online", async || hub.is_online(&user)).await;
    client
}

/// The next text that a client gets.
pub(crate) async fn text(client: &mut WebSocket) -> String {
    let message = soon(client.recv()).await.expect("the connection is open").expect("it works");
    message.as_text().expect("only texts are sent").to_owned()
}

/// All texts that a client gets until its connection is closed, and the code of that.
pub(crate) async fn rest(mut client: WebSocket) -> (Vec<String>, Option<u16>) {
    let mut texts = Vec::new();
    while let Some(Ok(message)) = soon(client.recv()).await {
        texts.push(message.as_text().unwrap().to_owned());
    }
    (texts, client.close_frame().map(|frame| frame.code.into()))
}
