//! A node: what an application is on each of its machines.
//!
//! Users connect to it. For the program that has started it, it says on its output who is connected, and reads on its input
//! what to send, and to which user: one JSON value a line. When its input ends, it ends.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};
use ws_axum::{
    CloseCode, Drain, Error as ConnectionError, Message, OriginPolicy, WebSocketLayer, WebSocketUpgrade,
};
use ws_examples::session::User;
use ws_examples::{environment, listener};
use ws_hub::{Delivery, Events, Hub, Member, MessageId, Position, Resumed, framing};

/// How many messages of a user are kept after they have come, and how long: for pages that come back.
const HISTORY: (usize, Duration) = (500, Duration::from_secs(3600));

/// A message for a user. The same id is the same message.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Push {
    pub(crate) id: u64,
    user: String,
    text: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    Sent,
    Stored,
    Dropped,
    Unknown,
}

/// What a node tells the program that has started it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    Here(Vec<String>),
    Pushed(u64, Fate),
}

/// What a client that comes back says: the position of the last message that it has got.
#[derive(Deserialize)]
struct Start {
    after: Option<String>,
}

impl Push {
    pub(crate) fn new(user: String, text: String) -> Self {
        Self { id: rand::random(), user, text }
    }
}

impl Fate {
    /// Whether the message is in the log of the user.
    pub(crate) fn is_accepted(self) -> bool {
        matches!(self, Self::Sent | Self::Stored)
    }
}

impl From<Delivery> for Fate {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Sent(_) => Self::Sent,
            Delivery::Stored { .. } => Self::Stored,
            Delivery::Dropped(_) => Self::Dropped,
            _ => Self::Unknown,
        }
    }
}

/// Runs a node until its input ends.
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let sessions = environment::session_key()?;
    let hub = environment::hub("cluster", HISTORY)
        .await?
        .framed(framing::json("position"))
        .greeting(greeting)
        .heartbeat("ping", "pong")
        .build();
    // the page is from another port of this machine
    let layer = WebSocketLayer::new().origin(OriginPolicy::localhost());
    let connect = {
        let hub = hub.clone();
        any(async move |user: User, Query(start): Query<Start>, upgrade: WebSocketUpgrade| {
            connect(hub, user, start, upgrade)
        })
    };
    let app = Router::new().route("/w/{window}/messages", connect).with_state(sessions).layer(layer);
    let listener = listener("ws", "/w/1/messages").await?;
    tokio::spawn(tell_who_is_here(hub.events(), hub.clone()));

    let drain = Drain::new().code(CloseCode::SERVICE_RESTART).reconnect_within(Duration::from_secs(1));
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            push_what_comes(&hub).await;
            hub.drain(drain).await;
        })
        .await?;
    Ok(())
}

/// What a connection is told first.
fn greeting(resumed: &Resumed) -> Option<Message> {
    let greeting = match *resumed {
        Resumed::Fresh => return None,
        Resumed::Complete { missed } => json!({ "resumed": true, "missed": missed }),
        Resumed::Incomplete => json!({ "resumed": false }),
    };
    Some(Message::text(greeting.to_string()))
}

/// The session says who the user is. It is valid at all nodes, which have the same key.
fn connect(hub: Hub<String>, User(user): User, start: Start, upgrade: WebSocketUpgrade) -> Response {
    let after: Option<Position> = start.after.and_then(|after| after.parse().ok());
    let Err(refused) = hub.check(&user) else {
        return upgrade.on_upgrade(async move |socket| {
            hub.attach_after(user, socket, after, async |mut member: Member<String>| {
                // what a page sends is of no interest here
                while let Some(message) = member.recv().await {
                    message?;
                }
                Ok::<_, ConnectionError>(())
            })
            .await
        });
    };
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], format!("{refused}\n")).into_response()
}

/// Sends what is read on the input, until that ends. Each message has a task, since one may wait for Redis.
async fn push_what_comes(hub: &Hub<String>) {
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(push) = serde_json::from_str::<Push>(&line) else { continue };
        let hub = hub.clone();
        tokio::spawn(async move {
            let message = json!({ "text": push.text }).to_string();
            let delivery = hub.message(message).id(MessageId::new(push.id)).to(&push.user).await;
            tell(&News::Pushed(push.id, delivery.into()));
        });
    }
}

async fn tell_who_is_here(mut events: Events<String>, hub: Hub<String>) {
    while events.recv().await.is_some() {
        let mut users = hub.online();
        users.sort_unstable();
        tell(&News::Here(users));
    }
}

/// Writes a line. If nobody reads it, this process is about to end.
fn tell(news: &News) {
    let line = serde_json::to_string(news).expect("names and numbers are JSON");
    let _ = writeln!(std::io::stdout(), "{line}");
}
