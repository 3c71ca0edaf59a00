//! What is read: the messages of a user as they are in one state of the file.

use redb::{Database, ReadOnlyTable, StorageError};
use ws_hub::{After, Continuity, MessageId, Page, Position, Read};

use crate::config::Bounds;
use crate::file::FileError;
use crate::record::{Header, Meta, decode_entry, decode_header};
use crate::tables::{LOG, USERS};

struct View<'a> {
    log: ReadOnlyTable<(&'static [u8], u64), &'static [u8]>,
    user: &'a [u8],
    meta: Meta,
}

/// Reads messages of a user, but for those that are too old.
pub(crate) fn read(
    database: &Database,
    user: &[u8],
    after: After,
    page: Page,
    (now, bounds): (u64, &Bounds),
) -> Result<Read, FileError> {
    let transaction = database.begin_read()?;
    let users = transaction.open_table(USERS)?;
    let Some(meta) = users.get(user)? else { return Ok(Read::nothing(after)) };
    let meta = Meta::decode(meta.value())?;
    let mut view = View { log: transaction.open_table(LOG)?, user, meta };
    view.expire(now, bounds)?;
    Ok(view.page(after, page)?)
}

impl View<'_> {
    fn header(&self, number: u64) -> Result<Option<Header>, StorageError> {
        self.log.get((self.user, number))?.map(|value| decode_header(value.value())).transpose()
    }

    /// Leaves out what is too old: it is removed by the next one who writes.
    fn expire(&mut self, now: u64, bounds: &Bounds) -> Result<(), StorageError> {
        while self.meta.is_over(now, bounds)
            && let Some(gone) = self.header(self.meta.first)?
        {
            let next = self.header(self.meta.first + 1)?;
            self.meta.advance(&gone, next.as_ref());
        }
        Ok(())
    }

    fn id(&self, number: u64) -> Result<Option<MessageId>, StorageError> {
        if number + 1 == self.meta.first {
            return Ok(self.meta.before);
        }
        Ok(self.header(number)?.map(|header| header.id))
    }

    /// The number after which to read, and whether that is where it was to be.
    fn resolve(&self, after: After) -> Result<(u64, Continuity), StorageError> {
        let start = self.meta.first - 1;
        let from_cursor = self.meta.cursor.max(start);
        Ok(match after {
            After::Cursor => (from_cursor, Continuity::Complete),
            After::Number(number) if number < start => (start, Continuity::Incomplete),
            After::Number(number) => (number, Continuity::Complete),
            After::Position(Position { number, id })
                if (start..=self.meta.top).contains(&number) && self.id(number)? == Some(id) =>
            {
                (number, Continuity::Complete)
            }
            After::Position(_) => (from_cursor, Continuity::Incomplete),
        })
    }

    fn page(&self, after: After, page: Page) -> Result<Read, StorageError> {
        let (after, continuity) = self.resolve(after)?;
        let mut read = Read::nothing(After::Number(after));
        read.cursor = self.meta.cursor;
        read.continuity = continuity;
        read.top = self.meta.top_id.map(|id| Position::new(self.meta.top, id));
        if after >= self.meta.top {
            return Ok(read);
        }
        let mut bytes = 0;
        let range = self.log.range((self.user, after + 1)..=(self.user, self.meta.top))?;
        for entry in range.take(page.messages) {
            let (key, value) = entry?;
            bytes += usize::try_from(decode_header(value.value())?.length).unwrap_or(usize::MAX);
            if bytes > page.bytes && !read.entries.is_empty() {
                break;
            }
            read.entries.push(decode_entry(key.value().1, value.value())?);
        }
        Ok(read)
    }
}
