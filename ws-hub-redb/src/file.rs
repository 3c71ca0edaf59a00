//! The file: made, opened, checked, compacted, and opened again after it failed.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use redb::{
    Builder, CommitError, CompactionError, Database, DatabaseError, Error, StorageError, TableError,
    TableHandle as _, TransactionError,
};

use crate::error::OpenError;
use crate::tables::{BYTES, EXPIRY, LOG, STATE, USERS};

/// Of the tables and of what is in them. Another one is refused.
const SCHEMA: u64 = 1;
const SCHEMA_NAME: &str = "schema";

/// A file that is smaller is not made smaller.
const WORTH_COMPACTING: u64 = 4 * 1024 * 1024;

/// Opens the database, and makes it if there is none.
pub(crate) type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

/// The file that a log is in.
pub(crate) struct LogFile {
    path: PathBuf,
    opener: Opener,
    /// `None` if it could not be opened again.
    database: RwLock<Option<Database>>,
    has_failed: AtomicBool,
}

/// A call on the file failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Failed(Box<Error>),
    #[error("the log is not open, because it failed before")]
    Closed,
    #[error("the thread of the log has ended")]
    Ended,
    #[error("redb panicked")]
    Panicked,
}

macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for FileError {
            fn from(error: $error) -> Self {
                Self::Failed(Box::new(error.into()))
            }
        }
    )*};
}

from!(CommitError, CompactionError, StorageError, TableError, TransactionError);

/// The default way to open.
pub(crate) fn opener(cache: usize) -> Opener {
    Box::new(move |path| {
        let mut builder = Builder::new();
        builder.set_cache_size(cache);
        // later versions of redb read no older format
        builder.create_with_file_format_v3(true);
        if !path.exists() {
            make(&builder, path)?;
        }
        builder.open(path)
    })
}

/// Makes the file under another name first: a process that is killed meanwhile leaves no half of one.
fn make(builder: &Builder, path: &Path) -> Result<(), DatabaseError> {
    let mut name = OsString::from(path);
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    // one with the same number, as the first process of a container always has, may have been killed here
    if new.exists() {
        fs::remove_file(&new)?;
    }
    drop(builder.create(&new)?);
    // unlike a rename, it fails if another process was first
    let linked = match fs::hard_link(&new, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    fs::remove_file(&new)?;
    linked?;
    sync_directory(path)
}

/// So that the name of the file survives a loss of power, too.
fn sync_directory(path: &Path) -> Result<(), DatabaseError> {
    if cfg!(unix)
        && let Some(directory) = path.parent()
    {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

impl LogFile {
    pub(crate) fn open(path: &Path, opener: Opener) -> Result<Self, OpenError> {
        let database = open_checked(path, &opener)?;
        Ok(Self {
            path: path.to_owned(),
            opener,
            database: RwLock::new(Some(database)),
            has_failed: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Uses the database. After an error, or a panic of redb, it has to be opened again.
    pub(crate) fn with<T, E>(&self, call: impl FnOnce(&Database) -> Result<T, E>) -> Result<T, E>
    where
        E: From<FileError>,
    {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let call = AssertUnwindSafe(|| call(database.as_ref().ok_or(FileError::Closed)?));
        let result = catch_unwind(call).unwrap_or_else(|_| Err(FileError::Panicked.into()));
        if result.is_err() {
            self.has_failed.store(true, Ordering::Release);
        }
        result
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.has_failed.load(Ordering::Acquire)
    }

    /// Closes the file, though somebody still has the means to read: they get an error.
    pub(crate) fn close(&self) {
        close(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Closes the file, and opens it again: after an I/O error redb refuses all that comes later.
    pub(crate) fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // it is locked: it has to be closed first
        close(database.take());
        *database = Some(open_checked(&self.path, &self.opener)?);
        self.has_failed.store(false, Ordering::Release);
        Ok(())
    }
}

/// redb panics again, after it has panicked; the file is closed all the same.
fn close(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}

fn open_checked(path: &Path, opener: &Opener) -> Result<Database, OpenError> {
    // redb panics for some files that are damaged
    catch_unwind(AssertUnwindSafe(|| open_and_check(path, opener)))
        .unwrap_or_else(|_| Err(OpenError::NotALog { path: path.to_owned() }))
}

fn open_and_check(path: &Path, opener: &Opener) -> Result<Database, OpenError> {
    let failed = |error: FileError| from_error(path, error);
    let mut database = opener(path).map_err(|error| from_database_error(path, error))?;
    check_schema(&database, path)?;
    if has_much_room(&database, path).map_err(failed)? {
        let before = length(path);
        database.compact().map_err(|error| failed(error.into()))?;
        tracing::info!(path = %path.display(), before, after = length(path), "compacted");
    }
    Ok(database)
}

fn check_schema(database: &Database, path: &Path) -> Result<(), OpenError> {
    match find_schema(database).map_err(|error| from_error(path, error))? {
        Some(SCHEMA) => Ok(()),
        Some(found) => Err(OpenError::OtherVersion { path: path.to_owned(), found, expected: SCHEMA }),
        None => Err(OpenError::NotALog { path: path.to_owned() }),
    }
}

/// The version of the tables; an empty database gets them.
fn find_schema(database: &Database) -> Result<Option<u64>, FileError> {
    let reading = database.begin_read()?;
    let names: Vec<_> = reading.list_tables()?.map(|table| table.name().to_owned()).collect();
    if !names.is_empty() {
        return match reading.open_table(STATE) {
            Ok(state) => Ok(state.get(SCHEMA_NAME)?.map(|version| version.value())),
            Err(TableError::Storage(error)) => Err(error.into()),
            Err(_) => Ok(None),
        };
    }
    drop(reading);
    let writing = database.begin_write()?;
    writing.open_table(STATE)?.insert(SCHEMA_NAME, SCHEMA)?;
    writing.open_table(USERS)?;
    writing.open_table(LOG)?;
    writing.open_table(EXPIRY)?;
    writing.commit()?;
    Ok(Some(SCHEMA))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Whether more than half of the file is free. Counting its pages reads them all: first comes a guess.
fn has_much_room(database: &Database, path: &Path) -> Result<bool, FileError> {
    let reading = database.begin_read()?;
    let used = reading.open_table(STATE)?.get(BYTES)?.map_or(0, |bytes| bytes.value());
    drop(reading);
    let length = length(path);
    if length < WORTH_COMPACTING || used > length / 2 {
        return Ok(false);
    }
    let writing = database.begin_write()?;
    let stats = writing.stats()?;
    writing.abort()?;
    Ok(stats.allocated_pages() * (stats.page_size() as u64) < length / 2)
}

fn from_database_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            OpenError::NotALog { path }
        }
        DatabaseError::Storage(StorageError::Corrupted(_)) => OpenError::NotALog { path },
        error => OpenError::Failed { path, source: error.into() },
    }
}

fn from_error(path: &Path, error: FileError) -> OpenError {
    let path = path.to_owned();
    match error {
        FileError::Failed(error) if matches!(*error, Error::Corrupted(_)) => OpenError::NotALog { path },
        error => OpenError::Failed { path, source: error.into() },
    }
}
