//! The routes of the example, and what they do.

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
use ws_axum::{Error as ConnectionError, Message, WebSocketLayer, WebSocketUpgrade};
use ws_examples::page;
use ws_examples::session::{SessionKey, User, session};
use ws_hub::{Delivery, Health, Hub, HubBuilder, Member, MessageId, Position, Resumed, framing};

const MAX_CONNECTIONS: usize = 250;

/// How many users a list has at most.
const PAGE: usize = 1000;

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

/// Where a client had stopped, as it says in the query: in the news, or in the list of users.
#[derive(Deserialize)]
struct Stopped {
    after: Option<String>,
}

/// The hub, with what all of its clients have in common.
pub(crate) fn hub(builder: HubBuilder<String>) -> Hub<String> {
    builder.max_connections(MAX_CONNECTIONS).framed(framing::json("position")).greeting(greeting).build()
}

/// What a connection may do.
pub(crate) fn layer() -> WebSocketLayer {
    // a ping after 10 s of silence; a client that is silent for 20 s more is gone
    WebSocketLayer::new()
        .handshake_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .pong_timeout(Duration::from_secs(20))
        .idle_timeout(Duration::from_secs(3600))
        // more than the hub's: when the hub is full, its users can still replace their own connections
        .max_connections(MAX_CONNECTIONS + 10)
}

/// All routes.
pub(crate) fn app(hub: Hub<String>, sessions: SessionKey, editor_token: &str) -> Router {
    let state = App { hub, sessions, editor_token: editor_token.into() };
    let routes = Router::new()
        .route("/health", get(health))
        .route("/session", session())
        .route("/news", any(read))
        .route("/users", get(online))
        .route("/users/{user}", delete(send_away))
        .route("/users/{user}/news", post(push))
        // far less than what may wait for a user
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(state);
    page(include_str!("index.html")).merge(routes)
}

/// Whether a load balancer should send clients here: 200, or 503 while this node has no Redis, or has not subscribed again yet.
async fn health(State(App { hub, .. }): State<App>) -> (StatusCode, &'static str) {
    match hub.health() {
        Health::Up => (StatusCode::OK, "up\n"),
        Health::Syncing => (StatusCode::SERVICE_UNAVAILABLE, "syncing\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "down\n"),
    }
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

/// Who is online, on all nodes, in order: some of them, and where the next ones begin; and how much news there was here.
async fn online(
    _: Editor,
    State(App { hub, .. }): State<App>,
    Query(Stopped { after }): Query<Stopped>,
) -> Response {
    match hub.online_everywhere(after.as_deref(), PAGE).await {
        Ok(mut page) => {
            page.users.sort_unstable();
            let stats = hub.stats();
            let (online, next) = (page.users, page.next);
            Json(json!({ "online": online, "next": next, "sent": stats.sent, "stored": stats.stored }))
                .into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// Ends a user's connection, at whatever node it is, with a code after which their page does not reconnect by itself. They are still signed in: to
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
