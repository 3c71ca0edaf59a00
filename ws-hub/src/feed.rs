//! [`Feeds`]: how far the messages of rooms with a history have come on this node.

use std::collections::HashMap;
use std::sync::Arc;

#[cfg(not(all(test, shuttle)))]
use parking_lot::Mutex;
#[cfg(all(test, shuttle))]
use shuttle_parking_lot::Mutex;

use crate::position::Position;

/// The rooms with a history that have members here.
pub(crate) struct Feeds(Mutex<HashMap<Arc<str>, Arc<Feed>>>);

/// Brings the messages of one room to the members who are here, one after the other.
pub(crate) struct Feed {
    /// Locked while a message is brought, and while a member joins.
    pub(crate) at: tokio::sync::Mutex<At>,
}

/// Up to where the members have got everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Nobody has joined yet.
    Start,
    /// The last message, if there is one.
    Message(Option<Position>),
}

impl Feeds {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    pub(crate) fn get(&self, room: &str) -> Option<Arc<Feed>> {
        self.0.lock().get(room).cloned()
    }

    pub(crate) fn get_or_new(&self, room: &str) -> Arc<Feed> {
        let new = || Arc::new(Feed { at: tokio::sync::Mutex::new(At::Start) });
        Arc::clone(self.0.lock().entry(room.into()).or_insert_with(new))
    }

    /// Whether this is the feed of the room still.
    pub(crate) fn has(&self, room: &str, feed: &Arc<Feed>) -> bool {
        self.0.lock().get(room).is_some_and(|it| Arc::ptr_eq(it, feed))
    }

    /// Forgets those of the rooms that have nobody in them.
    pub(crate) fn forget<'a>(
        &self,
        rooms: impl IntoIterator<Item = &'a str>,
        is_empty: impl Fn(&str) -> bool,
    ) {
        let mut feeds = self.0.lock();
        for room in rooms {
            if feeds.contains_key(room) && is_empty(room) {
                feeds.remove(room);
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<(Arc<str>, Arc<Feed>)> {
        self.0.lock().iter().map(|(room, feed)| (Arc::clone(room), Arc::clone(feed))).collect()
    }
}
