//! Rooms with a history: one order of messages for all members, and joining where a client had stopped.
//!
//! A message is written to the history first, and then brought to the members: one message of a room at a time on each node,
//! by the feed of the room. What a node has not been told it sees by the next message, which does not follow the last one that
//! it has brought, and reads it.

use std::hash::Hash;
use std::sync::Arc;

use tokio::time::timeout;
use ws_core::{CloseFrame, Message, PreparedMessage, Sender};

use crate::calls::{DEADLINE, ask};
use crate::close_code;
use crate::delivery::Reach;
use crate::error::JoinError;
use crate::feed::{At, Feed};
use crate::log::{Continuity, LogError, Page};
use crate::position::{MessageId, Position, Resumed};
use crate::room::{Joined, RoomAppend, RoomEntry, RoomHistory, RoomRead};
use crate::shared::{Inner, Tally};
use crate::task::spawn;
use crate::user::{User, find};

/// Which connections of a user join a room with a history.
#[derive(Clone, Copy)]
pub(crate) enum Joining {
    /// All that they have.
    All,
    One(u64),
    /// One that gets nothing of the room until it has got what it has missed.
    Late(u64),
}

/// A user has joined a room with a history.
pub(crate) struct Entered {
    pub(crate) is_new: bool,
    feed: Arc<Feed>,
    position: Option<Position>,
}

/// A connection that is sent what it has missed. When this is dropped before that is over, it has not joined.
struct Late<'a, U: Clone + Eq + Hash + Send + Sync + 'static> {
    inner: &'a Inner<U>,
    user: &'a User<U>,
    connection: u64,
    room: &'a str,
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Late<'_, U> {
    fn on_time(&self) {
        self.inner.write().on_time(&self.user.id, self.room, self.connection);
    }
}

impl<U: Clone + Eq + Hash + Send + Sync + 'static> Drop for Late<'_, U> {
    fn drop(&mut self) {
        self.inner.write().give_up(&self.user.id, self.room, self.connection);
    }
}

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// How much a room keeps.
    pub(crate) fn history_of(&self, room: &str) -> Option<RoomHistory> {
        self.config.room_history.as_ref().and_then(|rule| rule(room))
    }

    async fn read_room(&self, room: &str, after: Option<Position>) -> Result<RoomRead<U>, LogError> {
        let engine = &self.config.engine;
        let reading = ask(async || engine.read_room(room, after, Page::default()).await);
        let read = timeout(DEADLINE, reading).await.unwrap_or_else(|_| Err(LogError::unknown("no answer")));
        read.inspect_err(|error| self.failed(error))
    }

    /// Sends a message to a room with a history. It goes to all members or to none, even if nobody waits for the answer.
    pub(crate) async fn send_to_room(
        self: &Arc<Self>,
        room: &str,
        except: Vec<U>,
        message: Message,
        history: RoomHistory,
    ) -> Reach {
        let (inner, room) = (Arc::clone(self), room.to_owned());
        let task = spawn(async move { inner.append_and_bring(&room, &except, &message, history).await });
        match task.await.unwrap_or_else(|error| Err(LogError::unknown(error))) {
            Ok((here, nodes)) => Reach { here, others: Ok(nodes) },
            Err(error) => {
                self.failed(&error);
                Reach { here: 0, others: Err(error) }
            }
        }
    }

    async fn append_and_bring(
        &self,
        room: &str,
        except: &[U],
        message: &Message,
        history: RoomHistory,
    ) -> Result<(usize, usize), LogError> {
        let feed = self.feeds.get(room);
        let mut at = match &feed {
            // the next one is not appended before this one is brought: however short the history, nothing is missing
            Some(feed) => Some(feed.at.lock().await),
            None => None,
        };
        let append = RoomAppend::new(room, MessageId::random(), except, message, history);
        let engine = &self.config.engine;
        let appending = ask(async || engine.append_to_room(&append).await);
        let sent =
            timeout(DEADLINE, appending).await.unwrap_or_else(|_| Err(LogError::unknown("no answer")))?;
        let here = match &mut at {
            Some(at) => self.bring(room, at, &sent.entry).await,
            // somebody may have joined meanwhile
            None => self.hear_of(room, &sent.entry).await,
        };
        Ok((here, sent.nodes))
    }

    /// A message was appended, perhaps by another node. Returns to how many connections it went.
    pub(crate) async fn hear_of(&self, room: &str, entry: &RoomEntry<U>) -> usize {
        match self.feeds.get(room) {
            Some(feed) => self.bring(room, &mut *feed.at.lock().await, entry).await,
            None => 0,
        }
    }

    /// Signals may have been missed: looks into the histories of all rooms that have members here.
    pub(crate) async fn resync_rooms(&self, are_meant: impl Fn(&str) -> bool) {
        for (room, feed) in self.feeds.all().into_iter().filter(|(room, _)| are_meant(room)) {
            self.advance(&room, &mut *feed.at.lock().await).await;
        }
    }

    /// Brings a message to the members who are here, after those before it. Returns to how many connections.
    async fn bring(&self, room: &str, at: &mut At, entry: &RoomEntry<U>) -> usize {
        let At::Message(last) = *at else { return 0 };
        if entry.previous != last.map(|position| position.id) {
            // it came before, or others did not
            return self.advance(room, at).await;
        }
        let here = self.fan_out_entry(room, entry).await;
        *at = At::Message(Some(entry.position));
        here
    }

    /// Brings what is in the history and was not brought. Returns to how many connections the last message went.
    async fn advance(&self, room: &str, at: &mut At) -> usize {
        let mut here = 0;
        loop {
            let At::Message(last) = *at else { return here };
            let Ok(mut read) = self.read_room(room, last).await else { return here };
            if read.continuity == Continuity::Incomplete && read.top.is_some() {
                // perhaps the time of the history was over, and it has begun anew
                match self.read_room(room, None).await {
                    Ok(whole) => read = whole,
                    Err(_) => return here,
                }
                if read.continuity == Continuity::Incomplete {
                    self.close_room(room);
                    *at = At::Message(read.top);
                    return here;
                }
            }
            if read.entries.is_empty() {
                return here;
            }
            for entry in &read.entries {
                here = self.fan_out_entry(room, entry).await;
                *at = At::Message(Some(entry.position));
            }
        }
    }

    /// The members who are here have missed something that nobody has any more: they come back, and are told.
    fn close_room(&self, room: &str) {
        let frame = CloseFrame::new(close_code::OVERFLOW, "messages were removed before they were read");
        let audience = self.read().audience(Some(room));
        for user in audience.iter() {
            let closed = self.disconnect(&user.id, &frame, None);
            self.counters.overflowed.add(closed);
        }
    }

    async fn fan_out_entry(&self, room: &str, entry: &RoomEntry<U>) -> usize {
        let message = self.framed(&entry.position, PreparedMessage::new(entry.message.clone()));
        let listeners = self.read().listeners(room);
        let mut tally = Tally::default();
        let mut crowded = Vec::new();
        for (user, connections) in listeners.iter().filter(|(user, _)| !entry.except.contains(&user.id)) {
            let waiting = self.offer(user, &message, Some(connections), &mut tally);
            if !waiting.is_empty() {
                crowded.push((user, waiting));
            }
        }
        self.offer_again(&message, crowded, &mut tally).await;
        tally.taken
    }

    /// Puts a user into a room with a history.
    pub(crate) async fn enter_room(
        &self,
        user: &U,
        room: &str,
        joining: Joining,
    ) -> Result<Entered, JoinError> {
        let mut is_new = false;
        loop {
            let feed = self.feeds.get_or_new(room);
            let mut at = feed.at.lock().await;
            let joined = self.write().join(user, room, self.config.max_rooms);
            match joined {
                Ok(joined) => is_new |= joined,
                Err(error) => {
                    self.forget_feeds([room]);
                    return Err(error);
                }
            }
            if !self.feeds.has(room, &feed) {
                // it was forgotten because nobody was there
                continue;
            }
            if *at == At::Start {
                match self.open_feed(room).await {
                    Ok(top) => *at = At::Message(top),
                    Err(error) => {
                        drop(at);
                        self.failed(&error);
                        self.leave_room(user, room);
                        return Err(JoinError::Backplane);
                    }
                }
            }
            let At::Message(position) = *at else { continue };
            self.add_listeners(user, room, joining);
            drop(at);
            return Ok(Entered { is_new, feed, position });
        }
    }

    fn add_listeners(&self, user: &U, room: &str, joining: Joining) {
        let Some(user) = self.read().get(user) else { return };
        let there: Vec<_> =
            user.lock().iter().filter(|it| it.is_open()).map(|mailbox| mailbox.connection).collect();
        let mut registry = self.write();
        match joining {
            Joining::All => registry.listen(&user.id, room, &there, &there),
            Joining::One(connection) => registry.listen(&user.id, room, &[connection], &there),
            Joining::Late(connection) => registry.listen_late(&user.id, room, connection, &there),
        }
    }

    /// The first member is here. Returns the last message of the room.
    async fn open_feed(&self, room: &str) -> Result<Option<Position>, LogError> {
        let engine = &self.config.engine;
        let opening = ask(async || {
            if self.config.is_shared {
                engine.watch(room).await?;
            }
            // after that, so that nothing comes between the two
            engine.read_room(room, None, Page { messages: 0, bytes: 0 }).await
        });
        let read = timeout(DEADLINE, opening).await;
        Ok(read.unwrap_or_else(|_| Err(LogError::unknown("no answer")))?.top)
    }

    /// Takes a user out of a room. Returns whether they were in it.
    pub(crate) fn leave_room(&self, user: &U, room: &str) -> bool {
        let mut registry = self.write();
        let was_in = registry.leave(user, room);
        let emptied = registry.take_emptied();
        drop(registry);
        self.unwatch(&emptied);
        was_in
    }

    /// Puts a user into a room. One of their connections gets what came after a message first.
    pub(crate) async fn join_after(
        &self,
        user: &User<U>,
        connection: u64,
        sender: &Sender,
        room: &str,
        after: Option<Position>,
    ) -> Result<Joined, JoinError> {
        let Some(after) = after else {
            let joining = Joining::One(connection);
            let Entered { is_new, position, .. } = self.enter_room(&user.id, room, joining).await?;
            return Ok(Joined { is_new, resumed: Resumed::Fresh, position });
        };
        let Entered { is_new, feed, .. } = self.enter_room(&user.id, room, Joining::Late(connection)).await?;
        let late = Late { inner: self, user, connection, room };
        let caught_up = self.catch_up(&late, &feed, sender, after).await;
        drop(late);
        match caught_up {
            Ok((resumed, position)) => Ok(Joined { is_new, resumed, position }),
            Err(error) => {
                if is_new {
                    self.leave_room(&user.id, room);
                }
                Err(error)
            }
        }
    }

    /// Sends a connection what came after a message: straight to it while there is much, and the last of it in the order of
    /// what comes from then on.
    async fn catch_up(
        &self,
        late: &Late<'_, U>,
        feed: &Feed,
        sender: &Sender,
        after: Position,
    ) -> Result<(Resumed, Option<Position>), JoinError> {
        let (room, mut last, mut missed) = (late.room, after, 0);
        let read = async |last| self.read_room(room, Some(last)).await.map_err(|_| JoinError::Backplane);
        loop {
            let page = read(last).await?;
            if page.has_more() {
                for (message, position) in self.messages_of(&late.user.id, &page, &mut missed) {
                    if let Some(message) = message {
                        sender.send_prepared(&message).await.map_err(|_| JoinError::Offline)?;
                    }
                    last = position;
                }
                continue;
            }
            let mut at = feed.at.lock().await;
            self.advance(room, &mut at).await;
            let mut page = read(last).await?;
            if page.has_more() {
                continue;
            }
            let At::Message(position) = *at else { return Err(JoinError::Offline) };
            // what was appended after the feed had looked is brought by the feed
            let is_brought = |entry: &RoomEntry<U>| Some(entry.position) == position;
            page.entries.truncate(page.entries.iter().rposition(is_brought).map_or(0, |last| last + 1));
            if page.continuity == Continuity::Incomplete && last != after {
                self.close_late(late);
                return Err(JoinError::Offline);
            }
            for (message, _) in self.messages_of(&late.user.id, &page, &mut missed) {
                if let Some(message) = message {
                    self.offer_to(late.user, &message, &[late.connection]).await;
                }
            }
            late.on_time();
            return Ok(match page.continuity {
                Continuity::Complete => (Resumed::Complete { missed }, position),
                Continuity::Incomplete => (Resumed::Incomplete, position),
            });
        }
    }

    /// What a user is sent of a page, with their positions: nothing for those that they are excepted from.
    fn messages_of(
        &self,
        user: &U,
        page: &RoomRead<U>,
        missed: &mut u64,
    ) -> Vec<(Option<PreparedMessage>, Position)> {
        let messages = page.entries.iter().map(|entry| {
            let is_for_them = !entry.except.contains(user);
            *missed += u64::from(is_for_them);
            let message = is_for_them
                .then(|| self.framed(&entry.position, PreparedMessage::new(entry.message.clone())));
            (message, entry.position)
        });
        messages.collect()
    }

    /// The rest of what a connection has missed is gone.
    fn close_late(&self, late: &Late<'_, U>) {
        let frame = CloseFrame::new(close_code::OVERFLOW, "messages were removed before they were read");
        let closed = self.change(late.user, |mailboxes, wakes| {
            find(mailboxes, late.connection).is_some_and(|it| it.close(frame, wakes))
        });
        self.counters.overflowed.add(usize::from(closed));
    }
}
