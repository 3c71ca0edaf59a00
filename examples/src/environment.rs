//! What the environment says: where messages are kept, whether other nodes share them, and whether sessions outlive the program.
//!
//! | variable | what it is | without it |
//! |---|---|---|
//! | `REDIS_URL` | a Redis that keeps the messages, and joins all programs that name it; or some servers of a Redis Cluster, with commas between them | the program is alone |
//! | `REDIS_REPLICAS` | how many replicas have to have a message before it is said to be sent or stored | 0 |
//! | `DATA` | a file that keeps the messages of a program that is alone | they are in memory |
//! | `SESSION_KEY` | what sessions are signed with, the same for all nodes: at least 64 bytes in hexadecimal | a new key at each start |
//!
//! Each error is one sentence that says which variable it is, what is wrong, and what would be right. No secret is in it.

use std::env::{self, VarError};
use std::path::Path;
use std::time::Duration;

use ws_hub::{Hub, HubBuilder, MemoryLog};
use ws_hub_redb::{OpenError, RedbLog};
use ws_hub_redis::{ConnectError, RedisBackplane};

use crate::session::SessionKey;

/// The value of a variable; `None` if it is not set.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(format!("{name} is not UTF-8: set it to a text, or leave it out"))
        }
    }
}

/// A hub whose messages are in the Redis `REDIS_URL`, in the file `DATA`, or in memory if there is neither variable. `name` is
/// that of the program: what it has in Redis begins with it. `history` is how many messages of a user are kept after they have
/// been delivered, and how long.
///
/// # Errors
///
/// If both variables are set, or one of them is of no use.
pub async fn hub(name: &str, history: (usize, Duration)) -> Result<HubBuilder<String>, String> {
    let (messages, time) = history;
    match (variable("REDIS_URL")?, variable("DATA")?) {
        (Some(_), Some(_)) => {
            Err("REDIS_URL and DATA are both set: messages are in one place, so leave one of them out".into())
        }
        (Some(url), None) => {
            let backplane = if url.contains(',') {
                RedisBackplane::cluster(url.split(',').map(str::trim))
            } else {
                RedisBackplane::builder(url.as_str())
            };
            let backplane = backplane.prefix(name).history(messages, time).replicas(replicas()?);
            let backplane = backplane.connect().await.map_err(|error| not_connected(&error))?;
            Ok(Hub::builder().backplane(backplane))
        }
        (None, Some(path)) => Ok(Hub::builder().log(file(&path, history)?)),
        (None, None) => Ok(Hub::builder().log(MemoryLog::new().history(messages, time))),
    }
}

fn replicas() -> Result<u32, String> {
    let Some(value) = variable("REDIS_REPLICAS")? else { return Ok(0) };
    value
        .parse()
        .map_err(|_| "REDIS_REPLICAS is no number: set it to one, such as 1, or leave it out".to_owned())
}

fn file(path: &str, (messages, time): (usize, Duration)) -> Result<RedbLog<String>, String> {
    if path.is_empty() {
        return Err(
            "DATA is empty: set it to the path of a file, or leave it out to keep messages in memory"
                .to_owned(),
        );
    }
    RedbLog::builder().history(messages, time).open(path).map_err(|error| not_opened(path, &error))
}

/// Why the file was not opened, and what to do.
fn not_opened(path: &str, error: &OpenError) -> String {
    let directory = Path::new(path).parent().filter(|it| !it.as_os_str().is_empty() && !it.is_dir());
    match (error, directory) {
        (OpenError::Failed { .. }, Some(directory)) => format!(
            "DATA={path}: there is no directory {}: make it, or name a file in a directory that exists",
            directory.display()
        ),
        (OpenError::Failed { source, .. }, None) => {
            format!(
                "DATA={path}: the file cannot be opened ({source}): name one that can be read and written"
            )
        }
        (OpenError::InUse { .. }, _) => format!(
            "DATA={path}: the file is in use by another process: end that process, or name another file"
        ),
        (OpenError::NotALog { .. }, _) => format!(
            "DATA={path}: the file is damaged, or something other than messages: name one that this program has \
             made, or one that does not exist yet"
        ),
        (other, _) => format!("DATA={path}: {other}: name another file"),
    }
}

/// Why there is no connection to Redis, and what to do. The error has the address in it, and not the password.
fn not_connected(error: &ConnectError) -> String {
    let advice = match error {
        ConnectError::InvalidAddress { .. } => "set it to one",
        ConnectError::Unreachable { .. } => "start it, or name another one",
        ConnectError::Denied { .. } => "name those that it lets in, as in redis://USER:PASSWORD@HOST:6379",
        ConnectError::TooOld { .. } => "name one of version 6.2 or later",
        ConnectError::IsCluster { .. } => "name several of its servers, with commas between them",
        ConnectError::NotCluster { .. } => "name it alone",
        _ => "name another one",
    };
    format!("REDIS_URL: {error}: {advice}")
}

/// The key `SESSION_KEY`, with which sessions outlive the program and are valid on all nodes, or a new one if there is no such
/// variable.
///
/// # Errors
///
/// If it is not a key.
pub fn session_key() -> Result<SessionKey, String> {
    let Some(digits) = variable("SESSION_KEY")? else { return Ok(SessionKey::generate()) };
    SessionKey::from_hex(&digits).map_err(|problem| {
        format!(
            "SESSION_KEY {problem}: set it to at least 64 bytes in hexadecimal, such as the output of \
             `openssl rand -hex 64`, or leave it out"
        )
    })
}
