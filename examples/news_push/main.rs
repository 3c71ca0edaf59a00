//! News for users, pushed to them by id. The page of a user first shows the news that waited for them, and then what comes
//! while it is open. An editor uses any program that speaks HTTP to push news, to see who is online, and to end connections.
//!
//! `cargo run --example news_push`, and open the address that it prints in two windows. Sign in in one of them, and be the
//! editor in the other, with the token that is printed. Or use a terminal:
//!
//! ```sh
//! export EDITOR_TOKEN=secret    # in both terminals: the server then uses this token
//! alias editor='curl -i -H "Authorization: Bearer $EDITOR_TOKEN"'
//!
//! editor --json '{"title":"Rain","text":"All day."}' http://127.0.0.1:3000/users/anna/news    # sent, or stored
//! editor http://127.0.0.1:3000/users                                                          # who is online
//! editor -X DELETE http://127.0.0.1:3000/users/anna                                           # ends her connection
//! ```
//!
//! `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port.
//!
//! # Restarts
//!
//! Unread news is kept in memory, and sessions end with the program. To keep both, name a file, and give the key that
//! sessions are signed with:
//!
//! ```sh
//! openssl rand -hex 64 > session.key    # once; keep it secret
//! DATA=news.redb SESSION_KEY=$(cat session.key) cargo run --example news_push
//! ```
//!
//! News that was answered with `sent` or `stored` is then in the file, also after `kill -9` or a loss of power, until the
//! reader's page has got it. In memory news is sent at most once. From a file it is sent at least once: again if the page did
//! not confirm it. Unread news waits for seven days, at most 1,000 messages and 1 MiB for each user; `evicted` says how many
//! older ones went for a new one.
//!
//! # News that is shown once
//!
//! Each message has a `position`. A client that comes back says the last one that it has got, in `/news?after=POSITION`, and
//! goes on from there. The first message then is `{"resumed":true}`, or `{"resumed":false}` if the server does not know that
//! position any more, and news may be missing. A client that drops what is not after its position shows nothing twice. The
//! page does all this.
//!
//! An editor who has got no answer, or `unknown`, sends the same request again, with the same `Idempotency-Key`:
//!
//! ```sh
//! editor -H 'Idempotency-Key: rain-1' --json '{"title":"Rain"}' http://127.0.0.1:3000/users/anna/news    # twice
//! ```
//!
//! A hash of the key is the id of the message: it is there once, while it is among the last 64 of that user. What has the same
//! key and another text is not written. The user is not part of the id: the same key may be used for other users.

mod settings;

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, FromRef, FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use ws_axum::{CloseCode, Drain, Error as ConnectionError, Message, WebSocketLayer, WebSocketUpgrade};
use ws_examples::session::{SessionKey, User, session};
use ws_examples::{ctrl_c, listener, page};
use ws_hub::{Delivery, Hub, Member, MessageId, Position, Resumed, framing};

const MAX_CONNECTIONS: usize = 250;

#[derive(Clone)]
struct App {
    hub: Hub<String>,
    sessions: SessionKey,
    editor_token: Arc<str>,
}

#[derive(Deserialize)]
struct News {
    title: String,
    #[serde(default)]
    text: String,
}

/// Where a client had stopped, as it says in the query.
#[derive(Deserialize)]
struct Stopped {
    after: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let (hub, sessions) = (settings::hub()?, settings::session_key()?);
    let hub =
        hub.max_connections(MAX_CONNECTIONS).framed(framing::json("position")).greeting(greeting).build();
    // a ping after 10 s of silence; a client that is silent for 20 s more is gone
    let layer = WebSocketLayer::new()
        .handshake_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .pong_timeout(Duration::from_secs(20))
        .idle_timeout(Duration::from_secs(3600))
        // more than the hub's: when the hub is full, its users can still replace their own connections
        .max_connections(MAX_CONNECTIONS + 10);
    let connections = layer.connections();

    let listener = listener("ws", "/news").await?;
    let given = env::var("EDITOR_TOKEN").ok().filter(|token| !token.is_empty());
    let editor_token = given.unwrap_or_else(|| {
        let token = format!("{:032x}", rand::random::<u128>());
        println!("editor token: {token}");
        token
    });
    let state = App { hub: hub.clone(), sessions, editor_token: editor_token.into() };
    let routes = Router::new()
        .route("/session", session())
        .route("/news", any(read))
        .route("/users", get(online))
        .route("/users/{user}", delete(send_away))
        .route("/users/{user}/news", post(push))
        // far less than what may wait for a user
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(state);
    let app = page(include_str!("index.html")).merge(routes).layer(layer);

    let drain = Drain::new().code(CloseCode::SERVICE_RESTART).reconnect_within(Duration::from_secs(5));
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            tokio::join!(hub.drain(drain.clone()), connections.drain(drain));
        })
        .await?;
    Ok(())
}

/// Opens a user's connection. The cookie, which the server has signed, says who the user is. A parameter such as `?userId=7`
/// would not do: anyone who writes 8 there would read the news of another user. `?after=` cannot do that:
/// whatever position is there, a client only gets the news of its own user.
async fn read(
    User(user): User,
    State(App { hub, .. }): State<App>,
    Query(Stopped { after }): Query<Stopped>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let after = match after.map(|after| after.parse::<Position>()).transpose() {
        Ok(after) => after,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("after: {error}\n")).into_response(),
    };
    match hub.check(&user) {
        Ok(()) => upgrade.on_upgrade(async move |socket| {
            hub.attach_after(user, socket, after, async |mut member: Member<String>| {
                // what a reader sends is of no interest
                while let Some(message) = member.recv().await {
                    message?;
                }
                Ok::<_, ConnectionError>(())
            })
            .await
        }),
        Err(refused) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], format!("{refused}\n")).into_response()
        }
    }
}

/// Tells a client that has said where it had stopped whether it gets all that came after that.
fn greeting(resumed: &Resumed) -> Option<Message> {
    let is_complete = match resumed {
        Resumed::Fresh => return None,
        Resumed::Complete { .. } => true,
        Resumed::Incomplete => false,
    };
    Some(Message::text(json!({ "resumed": is_complete }).to_string()))
}

/// Pushes news to a user, and says what became of it.
async fn push(
    _: Editor,
    State(App { hub, .. }): State<App>,
    Path(user): Path<String>,
    Id(id): Id,
    Json(News { title, text }): Json<News>,
) -> (StatusCode, Json<Value>) {
    // with the time in seconds, because it may be read days later
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let message = json!({ "title": title, "text": text, "at": at });
    let message = hub.message(message.to_string());
    let message = if let Some(id) = id { message.id(id) } else { message };
    let (status, answer) = match message.to(&user).await {
        Delivery::Sent(n) => (StatusCode::OK, json!({ "delivery": "sent", "connections": n })),
        Delivery::Stored { evicted: n } => {
            (StatusCode::ACCEPTED, json!({ "delivery": "stored", "evicted": n }))
        }
        Delivery::Dropped(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "delivery": "dropped", "reason": reason.to_string() }))
        }
        // it may be in the log or not: with an `Idempotency-Key`, the same request again does no harm
        _ => (StatusCode::GATEWAY_TIMEOUT, json!({ "delivery": "unknown" })),
    };
    (status, Json(answer))
}

/// Who is online, in order, and how much news there was.
async fn online(_: Editor, State(App { hub, .. }): State<App>) -> Json<Value> {
    let mut users = hub.online();
    users.sort_unstable();
    let stats = hub.stats();
    Json(json!({ "online": users, "sent": stats.sent, "stored": stats.stored }))
}

/// Ends a user's connection, with a code after which their page does not reconnect by itself. They are still signed in: to
/// keep them out, an application also ends their session.
async fn send_away(_: Editor, State(App { hub, .. }): State<App>, Path(user): Path<String>) -> Response {
    match hub.kick(&user).await {
        Ok(0) => (StatusCode::NOT_FOUND, "not online\n").into_response(),
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// The id of the message, if the request says by an `Idempotency-Key` which one it is: the start of a hash, which has to be
/// the same in each version of the program. As an extractor it answers 400 to a key that is none.
struct Id(Option<MessageId>);

impl<S: Sync> FromRequestParts<S> for Id {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let mut keys = parts.headers.get_all("idempotency-key").iter();
        match (keys.next(), keys.next()) {
            (None, _) => Ok(Self(None)),
            (Some(key), None) if (1..=255).contains(&key.len()) => {
                let hash = Sha256::digest(key.as_bytes());
                let id = hash.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
                Ok(Self(Some(MessageId::new(id))))
            }
            _ => Err((StatusCode::BAD_REQUEST, "expected one Idempotency-Key of 1 to 255 bytes\n")),
        }
    }
}

/// A request with the editor's token. As an extractor it answers 401 to all others.
struct Editor;

impl FromRequestParts<App> for Editor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let header = parts.headers.get(AUTHORIZATION);
        let token = header.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        // in constant time, so that the time does not tell how much of a guess is right
        if token.is_some_and(|token| token.ct_eq(app.editor_token.as_bytes()).into()) {
            return Ok(Self);
        }
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        Err((StatusCode::UNAUTHORIZED, challenge, "the editor's token is missing or wrong\n").into_response())
    }
}

impl FromRef<App> for SessionKey {
    fn from_ref(app: &App) -> Self {
        app.sessions.clone()
    }
}
