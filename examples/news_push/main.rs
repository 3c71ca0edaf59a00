//! News for users, pushed to them by id. The page of a user first shows the news that waited for them, in memory, and then
//! what comes while it is open. An editor uses any program that speaks HTTP to push news, to see who is online, and to end
//! connections.
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

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, FromRef, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use ws_axum::{CloseCode, Drain, WebSocketLayer, WebSocketUpgrade};
use ws_examples::session::{SessionKey, User, session};
use ws_examples::{ctrl_c, listener, page};
use ws_hub::{Delivery, Hub};

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

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // a ping after 10 s of silence; a client that is silent for 20 s more is gone
    let layer = WebSocketLayer::new()
        .handshake_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .pong_timeout(Duration::from_secs(20))
        .idle_timeout(Duration::from_secs(3600))
        // more than the hub's: when the hub is full, its users can still replace their own connections
        .max_connections(MAX_CONNECTIONS + 10);
    let connections = layer.connections();

    let hub = Hub::builder().max_connections(MAX_CONNECTIONS).build();
    let listener = listener("ws", "/news").await?;
    let given = env::var("EDITOR_TOKEN").ok().filter(|token| !token.is_empty());
    let editor_token = given.unwrap_or_else(|| {
        let token = format!("{:032x}", rand::random::<u128>());
        println!("editor token: {token}");
        token
    });
    let state = App { hub: hub.clone(), sessions: SessionKey::generate(), editor_token: editor_token.into() };
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
/// would not do: anyone who writes 8 there would read the news of another user.
async fn read(User(user): User, State(App { hub, .. }): State<App>, upgrade: WebSocketUpgrade) -> Response {
    match hub.check(&user) {
        Ok(()) => upgrade.on_upgrade(async move |socket| hub.attach(user, socket).await),
        Err(refused) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], format!("{refused}\n")).into_response()
        }
    }
}

/// Pushes news to a user, and says what became of it.
async fn push(
    _: Editor,
    State(App { hub, .. }): State<App>,
    Path(user): Path<String>,
    Json(News { title, text }): Json<News>,
) -> (StatusCode, Json<Value>) {
    // with the time in seconds, because it may be read days later
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let message = json!({ "title": title, "text": text, "at": at });
    let (status, answer) = match hub.send(&user, message.to_string()).await {
        Delivery::Sent(n) => (StatusCode::OK, json!({ "delivery": "sent", "connections": n })),
        Delivery::Stored { evicted: n } => {
            (StatusCode::ACCEPTED, json!({ "delivery": "stored", "evicted": n }))
        }
        Delivery::Dropped(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "delivery": "dropped", "reason": reason.to_string() }))
        }
        // it may be in the log or not
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
