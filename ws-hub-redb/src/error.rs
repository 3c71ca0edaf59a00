//! Why a log is not opened.

use std::path::PathBuf;

/// A [`RedbLog`](crate::RedbLog) could not be opened.
///
/// ```
/// use ws_hub_redb::{OpenError, RedbLog};
///
/// # let directory = std::env::temp_dir().join(format!("ws-hub-redb-doc-error-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// let path = directory.join("notes.txt");
/// std::fs::write(&path, "not a log, but notes of somebody").unwrap();
/// let error = RedbLog::<u64>::open(&path).unwrap_err();
/// assert!(matches!(error, OpenError::NotALog { .. }));
/// # std::fs::remove_dir_all(&directory).unwrap();
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it, or another log of this process.
    #[error("{} is in use: only one process at a time may open it", path.display())]
    #[non_exhaustive]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else, or is damaged.
    #[error("{} is not a log of ws-hub-redb, or is damaged", path.display())]
    #[non_exhaustive]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version of this crate, which keeps it in another form.
    #[error("{} has version {found} of the schema; this version of ws-hub-redb reads {expected}", path.display())]
    #[non_exhaustive]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version of the schema that the file has.
        found: u64,
        /// The version that this crate reads and writes.
        expected: u64,
    },
    /// The file cannot be read or written: it has no directory, there is no permission, the disk is full.
    #[error("{} cannot be opened", path.display())]
    #[non_exhaustive]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
