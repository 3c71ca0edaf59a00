//! What the environment says: whether news is kept on disk, and whether sessions outlive the program.

use std::env::{self, VarError};
use std::path::Path;
use std::time::Duration;

use ws_examples::session::SessionKey;
use ws_hub::{Hub, HubBuilder, MemoryLog};
use ws_hub_redb::{OpenError, RedbLog};

/// How many news of a user are kept after they were read, and how long: for a page that comes back, and for a request that is
/// sent again.
const HISTORY: (usize, Duration) = (64, Duration::from_secs(24 * 3600));

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

/// A hub that keeps unread news in the file `DATA`, or in memory if there is no such variable.
pub(crate) fn hub() -> Result<HubBuilder<String>, String> {
    let (messages, time) = HISTORY;
    let Some(path) = variable("DATA")? else {
        return Ok(Hub::builder().log(MemoryLog::new().history(messages, time)));
    };
    if path.is_empty() {
        return Err(
            "DATA is empty: set it to the path of a file, or leave it out to keep news in memory".into()
        );
    }
    let log = RedbLog::builder().history(messages, time).open(&path);
    Ok(Hub::builder().log(log.map_err(|error| not_opened(&path, &error))?))
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
            "DATA={path}: the file is damaged, or something other than news: name one that this program has made, \
             or one that does not exist yet"
        ),
        (other, _) => format!("DATA={path}: {other}: name another file"),
    }
}

/// The key `SESSION_KEY`, with which sessions outlive the program, or a new one if there is no such variable.
pub(crate) fn session_key() -> Result<SessionKey, String> {
    let Some(digits) = variable("SESSION_KEY")? else { return Ok(SessionKey::generate()) };
    SessionKey::from_hex(&digits).map_err(|problem| {
        format!(
            "SESSION_KEY {problem}: set it to at least 64 bytes in hexadecimal, such as the output of \
             `openssl rand -hex 64`, or leave it out"
        )
    })
}
