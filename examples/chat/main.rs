//! A chat: rooms, presence, and direct messages that wait while the other user is away. The hub knows the connections of the
//! users, replaces a login with a newer one, keeps the messages that wait, and answers the heartbeat of the page.
//!
//! A direct message has a position. The page remembers that of the last one, and tells it when it comes back: `?after=`. So
//! it shows each message once, however often its connection is cut, or says that it may have missed some.
//!
//! `cargo run --example chat`, then open the address that it prints in two windows, and sign in as two users. Disconnect one
//! of them and write to them. Sign in with the same name in both windows. Press Ctrl-C, and start the program again.
//! `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port. Everything is in memory, so a restart loses it.
//!
//! `DATA=chat.redb` keeps direct messages in a file, and `SESSION_KEY=$(openssl rand -hex 64)` lets sessions outlive the program.
//!
//! # Several nodes
//!
//! Programs that name the same Redis are nodes of one chat. With the same key, a session is one for all of them:
//!
//! ```sh
//! redis-server --appendonly yes --appendfsync always &
//! export REDIS_URL=redis://127.0.0.1:6379 SESSION_KEY=$(openssl rand -hex 64)
//! cargo run --example chat -- 127.0.0.1:3000 &
//! cargo run --example chat -- 127.0.0.1:3001
//! ```
//!
//! Open one window at each of the addresses: rooms, direct messages and the list of people are the same at both. Who is in a room
//! is known to each node for its own users: a page lists those of its own node, and others when they come while it is open.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep};
use ws_axum::{CloseCode, Drain, Error, Message, WebSocketLayer, WebSocketUpgrade};
use ws_examples::session::{User, name, session};
use ws_examples::{ctrl_c, environment, listener, page};
use ws_hub::{Delivery, Event, Events, Guarantee, Hub, Member, Position, Resumed, framing};

/// How many direct messages of a user are kept after they have come, and for how long after the last of them: for clients that
/// come back.
const HISTORY: (usize, Duration) = (500, Duration::from_secs(3600));

/// How long a user who has gone may take to be back before others are told.
const MOMENT: Duration = Duration::from_secs(1);

/// How many users are asked for at a time.
const PAGE: usize = 1000;

/// What a client that comes back says: the position of the last direct message that it has got.
#[derive(Deserialize)]
struct Start {
    after: Option<String>,
}

/// A request of a client. `n` is the client's number of a message, and is in the answer that says what became of it.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Request {
    Join { room: String },
    Leave { room: String },
    Say { n: u64, room: String, text: String },
    Tell { n: u64, user: String, text: String },
}

/// A message from the server to a client.
///
/// A client that has said where it had stopped is first told that what it has missed follows (`Resumed`), or that some of it
/// is gone (`Incomplete`). `People` lists who is connected, and each `Room` of the client's user lists its members. After that
/// the other variants say who comes and goes. `Said` is a message to a room, and `Told` one to the user alone; `at` is its time
/// and, of one node, its id, and the hub adds its `position` to a `Told`. A message of the client is `Sent`, or `Lost` if nobody gets it. It
/// `waits` if the other user gets it at their next login.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Answer {
    Resumed { missed: u64 },
    Incomplete,
    People { online: Vec<String> },
    Online { user: String },
    Offline { user: String },
    Room { room: String, members: Vec<String> },
    Joined { at: u64, room: String, user: String },
    Left { at: u64, room: String, user: String },
    Said { at: u64, room: String, from: String, text: String },
    Told { at: u64, from: String, text: String },
    Sent { n: u64, at: u64, waits: bool },
    Lost { n: u64, why: String },
    Problem { message: String },
}

impl From<Answer> for Message {
    fn from(answer: Answer) -> Self {
        Message::json(&answer).expect("names, texts and numbers are JSON")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = environment::session_key()?;
    let hub = environment::hub("chat", HISTORY)
        .await?
        .max_connections(1000)
        // a message that a lost connection had taken is sent again on the next one; the page knows it by its position
        .guarantee(Guarantee::AtLeastOnce)
        .framed(framing::json("position"))
        .greeting(greeting)
        .heartbeat("ping", "pong")
        .build();
    tokio::spawn(tell_who_is_there(hub.events(), hub.clone()));

    let layer = WebSocketLayer::new().max_message_size(16 * 1024);
    let connections = layer.connections();
    let chat = {
        let hub = hub.clone();
        any(async move |user: User, Query(start): Query<Start>, upgrade: WebSocketUpgrade| {
            connect(hub, user, start, upgrade)
        })
    };
    let users = Router::new().route("/session", session()).route("/chat", chat);
    let users = users.with_state(sessions);
    let app = page(include_str!("index.html"))
        .merge(users.clone())
        // each window has a directory, and so a cookie, of its own: two windows of one browser can be two users
        .nest("/w/{window}", users)
        .layer(layer);

    let drain = Drain::new().code(CloseCode::SERVICE_RESTART).reconnect_within(Duration::from_secs(5));
    axum::serve(listener("ws", "/chat").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            tokio::join!(hub.drain(drain.clone()), connections.drain(drain));
        })
        .await?;
    Ok(())
}

/// What a connection is told first.
fn greeting(resumed: &Resumed) -> Option<Message> {
    match *resumed {
        Resumed::Fresh => None,
        Resumed::Complete { missed } => Some(Answer::Resumed { missed }.into()),
        Resumed::Incomplete => Some(Answer::Incomplete.into()),
    }
}

/// The session says who the user is. Without one, the answer is 401.
fn connect(hub: Hub<String>, User(name): User, start: Start, upgrade: WebSocketUpgrade) -> Response {
    // who tells nonsense is treated as one who tells nothing
    let after: Option<Position> = start.after.and_then(|after| after.parse().ok());
    // here a refusal can still be a response; `attach_after` checks again, and closes the connection with a code
    let Err(refused) = hub.check(&name) else {
        return upgrade.on_upgrade(async move |socket| hub.attach_after(name, socket, after, serve).await);
    };
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], format!("{refused}\n")).into_response()
}

/// Serves one connection. Messages of other users come through the hub, whatever this function waits for.
async fn serve(mut member: Member<String>) -> Result<(), Error> {
    let hub = member.hub().clone();
    member.send(Answer::People { online: people(&hub).await }).await?;
    // a login that replaces another one is already in its rooms
    for room in hub.rooms_of(member.user()) {
        member.send(Answer::Room { members: hub.members(&room), room }).await?;
    }

    // a client that sends faster than people write has to wait, and TCP holds it back
    let mut pace = interval(Duration::from_millis(20));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(request) = member.recv_json().await {
        pace.tick().await;
        let answer = match request {
            Ok(request) => answer(&member, request).await,
            // the message is wrong, not the connection
            Err(error) if error.is_json() => Answer::Problem { message: error.to_string() },
            Err(error) => return Err(error),
        };
        member.send(answer).await?;
    }
    Ok(())
}

async fn answer(member: &Member<String>, request: Request) -> Answer {
    let fate = |n, sent| match sent {
        Ok((at, waits)) => Answer::Sent { n, at, waits },
        Err(why) => Answer::Lost { n, why },
    };
    match request {
        Request::Join { room } => {
            join(member, &room).await.unwrap_or_else(|message| Answer::Problem { message })
        }
        Request::Leave { room } => {
            member.leave(&room);
            Answer::Left { at: stamp(), room, user: member.user().clone() }
        }
        Request::Say { n, room, text } => fate(n, say(member, room, text).await),
        Request::Tell { n, user, text } => fate(n, tell(member, &user, text).await),
    }
}

async fn join(member: &Member<String>, room: &str) -> Result<Answer, String> {
    let room = name(room)?;
    member.join(&room).await.map_err(|error| error.to_string())?;
    Ok(Answer::Room { members: member.hub().members(&room), room })
}

/// Sends a message to the others in a room. Returns its time, and that it does not wait for anybody.
async fn say(member: &Member<String>, room: String, text: String) -> Result<(u64, bool), String> {
    let (hub, from) = (member.hub(), member.user());
    if !hub.rooms_of(from).contains(&room) {
        return Err("you are not in this room".to_owned());
    }
    let at = stamp();
    let message = Answer::Said { at, room: room.clone(), from: from.clone(), text };
    hub.room(&room).except(from).send(message).await;
    Ok((at, false))
}

/// Sends a message to one user. Returns its time, and whether it waits for their next login.
async fn tell(member: &Member<String>, user: &str, text: String) -> Result<(u64, bool), String> {
    let (user, at) = (name(user)?, stamp());
    let message = Answer::Told { at, from: member.user().clone(), text };
    match member.hub().send(&user, message).await {
        Delivery::Dropped(reason) => Err(reason.to_string()),
        Delivery::Unknown => Err("nobody knows whether it arrives".to_owned()),
        delivery => Ok((at, matches!(delivery, Delivery::Stored { .. }))),
    }
}

/// The time in milliseconds since 1970, but never the same twice on this node, so that it is an id, and gives the order of
/// messages.
fn stamp() -> u64 {
    static LAST: Mutex<u64> = Mutex::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = now.max(*last + 1);
    *last
}

/// Who is online, on all nodes; or if those cannot be asked, on this one.
async fn people(hub: &Hub<String>) -> Vec<String> {
    let (mut people, mut after) = (Vec::new(), None);
    loop {
        let Ok(page) = hub.online_everywhere(after.as_deref(), PAGE).await else { return hub.online() };
        people.extend(page.users);
        after = page.next;
        if after.is_none() {
            return people;
        }
    }
}

/// Tells that a user has gone, from a room if there is one, unless they are back in a moment, here or on another node.
async fn tell_who_has_gone(hub: Hub<String>, user: String, room: Option<String>) {
    // until then, the nodes may still count the connection that is over
    sleep(MOMENT).await;
    let users = [user];
    let is_there = match &room {
        Some(room) if hub.is_online(&users[0]) => hub.rooms_of(&users[0]).contains(room),
        _ => hub.are_online_anywhere(&users).await.is_ok_and(|online| online == [true]),
    };
    let [user] = users;
    match room {
        _ if is_there => {}
        None => drop(hub.broadcast(Answer::Offline { user }).await),
        Some(room) => drop(hub.room(&room.clone()).send(Answer::Left { at: stamp(), room, user }).await),
    }
}

/// Tells everyone who is connected, and the members of a room who else is in it.
async fn tell_who_is_there(mut events: Events<String>, hub: Hub<String>) {
    while let Some(event) = events.recv().await {
        let at = stamp();
        match event {
            Event::Online(user) => drop(hub.broadcast(Answer::Online { user }).await),
            Event::Offline(user) => drop(tokio::spawn(tell_who_has_gone(hub.clone(), user, None))),
            Event::Left { user, room } if !hub.is_online(&user) => {
                tokio::spawn(tell_who_has_gone(hub.clone(), user, Some(room)));
            }
            Event::Joined { user, room } => {
                drop(hub.room(&room.clone()).send(Answer::Joined { at, room, user }).await);
            }
            Event::Left { user, room } => {
                drop(hub.room(&room.clone()).send(Answer::Left { at, room, user }).await);
            }
            // events were missed: sends how it is now instead
            _ => {
                for room in hub.rooms() {
                    let members = hub.members(&room);
                    drop(hub.room(&room.clone()).send(Answer::Room { members, room }).await);
                }
                let online = people(&hub).await;
                drop(hub.broadcast(Answer::People { online }).await);
            }
        }
    }
}
