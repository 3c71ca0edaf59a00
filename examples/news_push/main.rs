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
//! # Several nodes
//!
//! Programs that name the same Redis are nodes of one service: readers connect to any of them, and editors push through any of
//! them. They need the same key and the same token:
//!
//! ```sh
//! redis-server --appendonly yes --appendfsync always &
//! export REDIS_URL=redis://127.0.0.1:6379 SESSION_KEY=$(cat session.key) EDITOR_TOKEN=secret
//! cargo run --example news_push -- 127.0.0.1:3000 &
//! cargo run --example news_push -- 127.0.0.1:3001
//! ```
//!
//! News is in Redis then, as durably as Redis is told to keep it: with these settings, news that was answered with `sent` or
//! `stored` survives `kill -9` of nodes and of Redis. A reader whose node is gone goes on at another one. `DELETE` ends a
//! connection at whatever node it is, and `GET /users` lists who is connected to any node: at most 1,000 users, and if there are
//! more, the next ones are at `/users?after=NEXT`, where `next` in the answer is NEXT. `sent` and `stored` in it are counts of
//! the node that answers. In place of one Redis there may be a Redis Cluster: `REDIS_URL=redis://r1:6379,redis://r2:6379` names
//! some of its servers. While Redis is away, news is answered with 503 `dropped`, or with 504 `unknown` if it may have been
//! written; connections stay. `GET /health` tells a load balancer: it answers 200, or 503 while the node has no Redis.
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

mod app;

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use ws_axum::{CloseCode, Drain};
use ws_examples::{ctrl_c, environment, listener};

/// How many news of a user are kept after they were read, and how long: for a page that comes back, and for a request that is
/// sent again.
const HISTORY: (usize, Duration) = (64, Duration::from_secs(24 * 3600));

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
    let sessions = environment::session_key()?;
    let hub = app::hub(environment::hub("news", HISTORY).await?);
    let listener = listener("ws", "/news").await?;
    let given = env::var("EDITOR_TOKEN").ok().filter(|token| !token.is_empty());
    let editor_token = given.unwrap_or_else(|| {
        let token = format!("{:032x}", rand::random::<u128>());
        println!("editor token: {token}");
        token
    });
    let layer = app::layer();
    let connections = layer.connections();
    let app = app::app(hub.clone(), sessions, &editor_token).layer(layer);

    let drain = Drain::new().code(CloseCode::SERVICE_RESTART).reconnect_within(Duration::from_secs(5));
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            tokio::join!(hub.drain(drain.clone()), connections.drain(drain));
        })
        .await?;
    Ok(())
}
