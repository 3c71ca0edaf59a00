//! What is written in one transaction: the log as it is after each call, and what goes for that.

use std::collections::HashMap;

use redb::{ReadableTable as _, StorageError, Table, TableDefinition, TableError, WriteTransaction};
use ws_core::Message;
use ws_hub::{Appended, MessageId, Position};

use crate::config::{Bounds, REMEMBERED};
use crate::record::{Header, Meta, NOT_SCHEDULED, damaged, decode_header, encode_entry};

/// From a user to [`Meta`].
pub(crate) const USERS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("users");
/// From a user and a number to a message.
pub(crate) const LOG: TableDefinition<'static, (&[u8], u64), &[u8]> = TableDefinition::new("log");
/// When which log is to be looked at.
pub(crate) const EXPIRY: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("expiry");
/// Figures about the whole.
pub(crate) const STATE: TableDefinition<'static, &str, u64> = TableDefinition::new("state");

/// The keys in [`STATE`].
pub(crate) const BYTES: &str = "bytes";
pub(crate) const MESSAGES: &str = "messages";

/// What a message takes besides its length, and a user besides their messages and thrice their id: measured, and rounded up.
const MESSAGE: u64 = 128;
const USER: u64 = 512;

/// A message to append, in a form that the thread can keep.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) user: Vec<u8>,
    pub(crate) id: MessageId,
    pub(crate) message: Message,
    pub(crate) again: bool,
    pub(crate) known: Option<Position>,
}

/// A message that is found.
fn logged(number: u64, header: &Header, evicted: usize) -> Appended {
    Appended::Logged { position: Position::new(number, header.id), previous: header.previous, evicted }
}

pub(crate) struct Tables<'t> {
    users: Table<'t, &'static [u8], &'static [u8]>,
    log: Table<'t, (&'static [u8], u64), &'static [u8]>,
    expiry: Table<'t, (u64, &'static [u8]), ()>,
    state: Table<'t, &'static str, u64>,
    /// Users who were looked at in this transaction; `None` for those who are forgotten.
    seen: HashMap<Vec<u8>, Option<Meta>>,
    bytes: u64,
    messages: u64,
    bounds: Bounds,
    now: u64,
    buffer: Vec<u8>,
}

fn figure(table: &Table<'_, &'static str, u64>, name: &str) -> Result<u64, StorageError> {
    Ok(table.get(name)?.map_or(0, |value| value.value()))
}

fn charge_of_user(user: &[u8]) -> u64 {
    USER + 3 * user.len() as u64
}

impl<'t> Tables<'t> {
    pub(crate) fn open(
        transaction: &'t WriteTransaction,
        bounds: Bounds,
        now: u64,
    ) -> Result<Self, TableError> {
        let state = transaction.open_table(STATE)?;
        Ok(Self {
            users: transaction.open_table(USERS)?,
            log: transaction.open_table(LOG)?,
            expiry: transaction.open_table(EXPIRY)?,
            seen: HashMap::new(),
            bytes: figure(&state, BYTES)?,
            messages: figure(&state, MESSAGES)?,
            state,
            bounds,
            now,
            buffer: Vec::new(),
        })
    }

    /// Writes what was only in memory.
    pub(crate) fn finish(mut self) -> Result<(), StorageError> {
        for (user, meta) in self.seen {
            match meta {
                Some(meta) => drop(self.users.insert(&*user, meta.encode().as_slice())?),
                None => drop(self.users.remove(&*user)?),
            }
        }
        self.state.insert(BYTES, self.bytes)?;
        self.state.insert(MESSAGES, self.messages)?;
        Ok(())
    }

    pub(crate) fn append(&mut self, item: &Item) -> Result<Appended, StorageError> {
        let (user, len) = (&*item.user, item.message.len() as u64);
        let charge = charge_of_user(user) + len + MESSAGE;
        if len > self.bounds.user_bytes || charge > self.bounds.all_bytes {
            return Ok(Appended::TooLarge);
        }
        let mut meta = if let Some(meta) = self.get(user)? {
            meta
        } else {
            self.bytes += charge_of_user(user);
            Meta::new(item.known)
        };
        if item.again
            && let Some((number, header)) = self.find(user, &meta, item.id)?
        {
            return Ok(logged(number, &header, 0));
        }
        let header = Header { id: item.id, previous: meta.top_id, time: self.now, length: len };
        if meta.messages() == 0 {
            meta.first_time = self.now;
        }
        meta.top += 1;
        meta.top_id = Some(item.id);
        meta.bytes += len;
        encode_entry(&header, &item.message, &mut self.buffer);
        self.log.insert((user, meta.top), &*self.buffer)?;
        self.bytes += len + MESSAGE;
        self.messages += 1;
        let number = meta.top;
        let evicted = self.fit(user, meta)?;
        Ok(logged(number, &header, evicted))
    }

    pub(crate) fn acknowledge(&mut self, user: &[u8], upto: u64) -> Result<(), StorageError> {
        let Some(mut meta) = self.get(user)? else { return Ok(()) };
        meta.cursor = meta.cursor.max(upto.min(meta.top));
        meta.delivered = self.now;
        while meta.cursor + 1 > meta.first.saturating_add(self.bounds.history_messages) {
            self.drop_first(user, &mut meta)?;
        }
        self.schedule(user, &mut meta)?;
        self.put(user, meta);
        Ok(())
    }

    pub(crate) fn give_back(&mut self, user: &[u8], number: u64) -> Result<(), StorageError> {
        let Some(mut meta) = self.get(user)? else { return Ok(()) };
        meta.cursor = meta.cursor.min(number.max(meta.first - 1));
        self.schedule(user, &mut meta)?;
        self.put(user, meta);
        Ok(())
    }

    /// Removes what is too old, after as many looks at most. Returns whether there may be more.
    pub(crate) fn expire(&mut self, looks: usize) -> Result<bool, StorageError> {
        for _ in 0..looks {
            let Some((user, meta)) = self.next_over(self.now)? else { return Ok(false) };
            self.remove_some(&user, meta)?;
        }
        Ok(true)
    }

    fn get(&self, user: &[u8]) -> Result<Option<Meta>, StorageError> {
        if let Some(meta) = self.seen.get(user) {
            return Ok(*meta);
        }
        self.users.get(user)?.map(|bytes| Meta::decode(bytes.value())).transpose()
    }

    fn put(&mut self, user: &[u8], meta: Meta) {
        self.seen.insert(user.to_vec(), Some(meta));
    }

    /// The message with this id, if it is among the last ones.
    fn find(&self, user: &[u8], meta: &Meta, id: MessageId) -> Result<Option<(u64, Header)>, StorageError> {
        let from = meta.first.max((meta.top + 1).saturating_sub(REMEMBERED));
        for entry in self.log.range((user, from)..=(user, meta.top))?.rev() {
            let (key, value) = entry?;
            let header = decode_header(value.value())?;
            if header.id == id {
                return Ok(Some((key.value().1, header)));
            }
        }
        Ok(None)
    }

    /// Removes the first message of a log. Returns whether it was still to be delivered.
    fn drop_first(&mut self, user: &[u8], meta: &mut Meta) -> Result<bool, StorageError> {
        let gone = self.log.remove((user, meta.first))?.map(|gone| decode_header(gone.value()));
        let gone = gone.ok_or_else(|| damaged("the first message of a user"))??;
        let next = self.log.get((user, meta.first + 1))?;
        let next = next.map(|next| decode_header(next.value())).transpose()?;
        self.bytes -= gone.length + MESSAGE;
        self.messages -= 1;
        Ok(meta.advance(&gone, next.as_ref()))
    }

    /// Forgets a user whose log is not scheduled.
    fn forget(&mut self, user: &[u8], meta: &Meta) -> Result<(), StorageError> {
        for number in meta.first..=meta.top {
            self.log.remove((user, number))?;
        }
        self.messages -= meta.messages();
        self.bytes -= charge_of_user(user) + meta.bytes + MESSAGE * meta.messages();
        self.seen.insert(user.to_vec(), None);
        Ok(())
    }

    /// Sees to it that the log is looked at in time.
    fn schedule(&mut self, user: &[u8], meta: &mut Meta) -> Result<(), StorageError> {
        let deadline = meta.deadline(&self.bounds);
        if deadline < meta.scheduled {
            if meta.scheduled != NOT_SCHEDULED {
                self.expiry.remove((meta.scheduled, user))?;
            }
            self.expiry.insert((deadline, user), ())?;
            meta.scheduled = deadline;
        }
        Ok(())
    }

    /// The log that is over first, if that is until `limit`. It has to be scheduled anew.
    fn next_over(&mut self, limit: u64) -> Result<Option<(Vec<u8>, Meta)>, StorageError> {
        loop {
            let (deadline, user) = match self.expiry.first()? {
                Some((key, _)) if key.value().0 <= limit => (key.value().0, key.value().1.to_vec()),
                _ => return Ok(None),
            };
            self.expiry.remove((deadline, &*user))?;
            let Some(mut meta) = self.get(&user)? else { continue };
            meta.scheduled = NOT_SCHEDULED;
            if meta.deadline(&self.bounds) <= deadline {
                return Ok(Some((user, meta)));
            }
            self.schedule(&user, &mut meta)?;
            self.put(&user, meta);
        }
    }

    /// Removes what is over first, of this log. Returns how many messages were still to be delivered.
    fn remove_some(&mut self, user: &[u8], mut meta: Meta) -> Result<usize, StorageError> {
        let was_waiting = !meta.is_delivered() && self.drop_first(user, &mut meta)?;
        if meta.is_delivered() {
            self.forget(user, &meta)?;
        } else {
            self.schedule(user, &mut meta)?;
            self.put(user, meta);
        }
        Ok(usize::from(was_waiting))
    }

    /// Makes what is kept fit the bounds; returns how many messages that were to be delivered went for that.
    fn fit(&mut self, user: &[u8], mut meta: Meta) -> Result<usize, StorageError> {
        let mut evicted = 0;
        while meta.messages() > self.bounds.user_messages || meta.bytes > self.bounds.user_bytes {
            evicted += usize::from(self.drop_first(user, &mut meta)?);
        }
        self.schedule(user, &mut meta)?;
        self.put(user, meta);
        while self.bytes > self.bounds.all_bytes
            && let Some((over, meta)) = self.next_over(u64::MAX)?
        {
            evicted += self.remove_some(&over, meta)?;
        }
        Ok(evicted)
    }
}
