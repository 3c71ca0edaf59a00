//! Who is there: users, rooms, and how many connections there are. Held for lookups, never while anything is sent.
//!
//! It is locked last: whoever holds it takes no other lock.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use crate::error::{JoinError, Refused};
use crate::event::{BACKLOG, Event, Events};
use crate::user::User;

pub(crate) struct Registry<U> {
    users: HashMap<U, Entry<U>>,
    rooms: HashMap<Arc<str>, Room<U>>,
    /// All users who are online, put together when they are first asked for.
    everyone: OnceLock<Users<U>>,
    /// Connections that take messages, of all users.
    connections: usize,
    /// Users who have one.
    online: usize,
    draining: bool,
    /// Rooms that nobody is in any more.
    emptied: Vec<Arc<str>>,
    events: broadcast::Sender<Event<U>>,
}

/// Users to send to. It is shared by all who send to them, until one comes or goes.
pub(crate) type Users<U> = Arc<[Arc<User<U>>]>;

/// Connections to send to, each user's together.
pub(crate) type Listeners<U> = Arc<[(Arc<User<U>>, Vec<u64>)]>;

struct Room<U> {
    members: HashSet<U>,
    users: OnceLock<Users<U>>,
    /// Of a room with a history: the connections that have joined.
    joined: HashMap<U, Vec<Joined>>,
    listeners: OnceLock<Listeners<U>>,
}

/// A connection that has joined a room with a history.
#[derive(Clone, Copy)]
struct Joined {
    connection: u64,
    /// It is sent what it has missed, and gets nothing else until then.
    is_late: bool,
}

struct Entry<U> {
    user: Arc<User<U>>,
    /// Of those who need the entry: connections, and those that are being let in.
    leases: u32,
    /// Connections that take messages.
    connections: u32,
    /// A set that is empty is none: many users are in no room.
    #[allow(clippy::box_collection, reason = "a word for those who are in no room, where a set takes six")]
    rooms: Option<Box<HashSet<Arc<str>>>>,
}

impl<U: Clone + Eq + Hash> Registry<U> {
    pub(crate) fn new() -> Self {
        Self {
            users: HashMap::new(),
            rooms: HashMap::new(),
            everyone: OnceLock::new(),
            connections: 0,
            online: 0,
            draining: false,
            emptied: Vec::new(),
            events: broadcast::Sender::new(BACKLOG),
        }
    }

    /// The user, if they have connections or leases.
    pub(crate) fn get(&self, id: &U) -> Option<Arc<User<U>>> {
        self.users.get(id).map(|entry| Arc::clone(&entry.user))
    }

    /// The user, whose entry stays until it is released as often as it is leased.
    pub(crate) fn lease(&mut self, id: &U) -> Arc<User<U>> {
        let entry = self.users.entry(id.clone()).or_insert_with(|| Entry {
            user: Arc::new(User::new(id.clone())),
            leases: 0,
            connections: 0,
            rooms: None,
        });
        entry.leases += 1;
        Arc::clone(&entry.user)
    }

    pub(crate) fn release(&mut self, id: &U) {
        if let Some(entry) = self.users.get_mut(id) {
            entry.leases -= 1;
            if entry.leases == 0 {
                self.users.remove(id);
            }
        }
    }

    /// Whether one more connection may be, when `replaced` go for it.
    pub(crate) fn check(&self, replaced: usize, max: Option<usize>) -> Result<(), Refused> {
        if self.draining {
            Err(Refused::Draining)
        } else if max.is_some_and(|max| self.connections - replaced >= max) {
            Err(Refused::Full)
        } else {
            Ok(())
        }
    }

    /// The user now has this many connections that take messages.
    pub(crate) fn set_connections(&mut self, id: &U, connections: usize) {
        let Some(entry) = self.users.get_mut(id) else { return };
        let narrow = u32::try_from(connections).expect("less memory than so many connections take");
        let before = std::mem::replace(&mut entry.connections, narrow) as usize;
        self.connections = self.connections - before + connections;
        if (before == 0) != (connections == 0) {
            self.everyone = OnceLock::new();
        }
        if before == 0 && connections > 0 {
            self.online += 1;
            self.tell(Event::Online(id.clone()));
        } else if before > 0 && connections == 0 {
            for room in entry.rooms.take().into_iter().flat_map(|rooms| *rooms) {
                self.remove_member(id, &room);
            }
            self.online -= 1;
            self.tell(Event::Offline(id.clone()));
        }
    }

    pub(crate) fn join(&mut self, id: &U, room: &str, max_rooms: usize) -> Result<bool, JoinError> {
        let entry = self.users.get_mut(id).filter(|entry| entry.connections > 0).ok_or(JoinError::Offline)?;
        let rooms = entry.rooms.get_or_insert_default();
        if rooms.contains(room) {
            return Ok(false);
        }
        if rooms.len() >= max_rooms {
            return Err(JoinError::TooManyRooms { limit: max_rooms });
        }
        // the name is in memory once
        let name = self.rooms.get_key_value(room).map_or_else(|| room.into(), |(name, _)| Arc::clone(name));
        rooms.insert(Arc::clone(&name));
        let room_entry = self.rooms.entry(name).or_insert_with(|| Room {
            members: HashSet::new(),
            users: OnceLock::new(),
            joined: HashMap::new(),
            listeners: OnceLock::new(),
        });
        room_entry.members.insert(id.clone());
        room_entry.users = OnceLock::new();
        self.tell(Event::Joined { user: id.clone(), room: room.to_owned() });
        Ok(true)
    }

    pub(crate) fn leave(&mut self, id: &U, room: &str) -> bool {
        let Some(entry) = self.users.get_mut(id) else { return false };
        let was_in = entry.rooms.as_mut().is_some_and(|rooms| rooms.remove(room));
        entry.rooms.take_if(|rooms| rooms.is_empty());
        if was_in {
            self.remove_member(id, room);
        }
        was_in
    }

    fn remove_member(&mut self, id: &U, room: &str) {
        if let Some(entry) = self.rooms.get_mut(room) {
            entry.members.remove(id);
            entry.users = OnceLock::new();
            if entry.joined.remove(id).is_some() {
                entry.listeners = OnceLock::new();
            }
            if entry.members.is_empty() {
                self.emptied.extend(self.rooms.remove_entry(room).map(|(name, _)| name));
            }
            self.tell(Event::Left { user: id.clone(), room: room.to_owned() });
        }
    }

    /// Those who are to get what is sent to a room, or to everyone.
    pub(crate) fn audience(&self, room: Option<&str>) -> Users<U> {
        match room {
            None => {
                let online = || self.users.values().filter(|entry| entry.connections > 0);
                Arc::clone(self.everyone.get_or_init(|| online().map(|it| Arc::clone(&it.user)).collect()))
            }
            Some(room) => match self.rooms.get(room) {
                None => Arc::new([]),
                Some(room) => {
                    let users = || room.members.iter().filter_map(|id| self.get(id)).collect();
                    Arc::clone(room.users.get_or_init(users))
                }
            },
        }
    }

    /// Connections of a user in a room with a history get what is sent to it, but for those that are late. Only those that are
    /// `there` are remembered.
    pub(crate) fn listen(&mut self, id: &U, room: &str, connections: &[u64], there: &[u64]) {
        self.change_joined(id, room, |joined| {
            joined.retain(|it| there.contains(&it.connection));
            for &connection in connections {
                if !joined.iter().any(|it| it.connection == connection) {
                    joined.push(Joined { connection, is_late: false });
                }
            }
        });
    }

    /// A connection is late: it gets nothing of the room until it is said to be [`on_time`](Self::on_time).
    pub(crate) fn listen_late(&mut self, id: &U, room: &str, connection: u64, there: &[u64]) {
        self.change_joined(id, room, |joined| {
            joined.retain(|it| there.contains(&it.connection) && it.connection != connection);
            joined.push(Joined { connection, is_late: true });
        });
    }

    pub(crate) fn on_time(&mut self, id: &U, room: &str, connection: u64) {
        self.change_joined(id, room, |joined| {
            joined.iter_mut().filter(|it| it.connection == connection).for_each(|it| it.is_late = false);
        });
    }

    /// A connection that is late has given up.
    pub(crate) fn give_up(&mut self, id: &U, room: &str, connection: u64) {
        self.change_joined(id, room, |joined| {
            joined.retain(|it| it.connection != connection || !it.is_late);
        });
    }

    fn change_joined(&mut self, id: &U, room: &str, change: impl FnOnce(&mut Vec<Joined>)) {
        if let Some(room) = self.rooms.get_mut(room).filter(|room| room.members.contains(id)) {
            change(room.joined.entry(id.clone()).or_default());
            room.listeners = OnceLock::new();
        }
    }

    /// The connections that get what is sent to a room with a history.
    pub(crate) fn listeners(&self, room: &str) -> Listeners<U> {
        let Some(room) = self.rooms.get(room) else { return Arc::new([]) };
        let of_user = |(id, joined): (&U, &Vec<Joined>)| {
            let connections = joined.iter().filter(|it| !it.is_late).map(|it| it.connection);
            Some((self.get(id)?, connections.collect()))
        };
        Arc::clone(room.listeners.get_or_init(|| room.joined.iter().filter_map(of_user).collect()))
    }

    /// Rooms that nobody is in any more since the last call.
    pub(crate) fn take_emptied(&mut self) -> Vec<Arc<str>> {
        let rooms = &self.rooms;
        self.emptied.retain(|room| !rooms.contains_key(room));
        std::mem::take(&mut self.emptied)
    }

    /// All who are known, online or not.
    pub(crate) fn everyone(&self) -> Vec<Arc<User<U>>> {
        self.users.values().map(|entry| Arc::clone(&entry.user)).collect()
    }

    pub(crate) fn connections_of(&self, id: &U) -> usize {
        self.users.get(id).map_or(0, |entry| entry.connections as usize)
    }

    pub(crate) fn online(&self) -> impl Iterator<Item = &U> {
        self.users.iter().filter(|(_, entry)| entry.connections > 0).map(|(id, _)| id)
    }

    pub(crate) fn members(&self, room: &str) -> impl Iterator<Item = &U> {
        self.rooms.get(room).into_iter().flat_map(|room| &room.members)
    }

    pub(crate) fn has_room(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(|name| &**name)
    }

    pub(crate) fn rooms_of(&self, id: &U) -> impl Iterator<Item = &str> {
        let rooms = self.users.get(id).and_then(|entry| entry.rooms.as_deref());
        rooms.into_iter().flatten().map(|name| &**name)
    }

    /// Users online, connections and rooms.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.online, self.connections, self.rooms.len())
    }

    /// Nobody is let in any more.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn events(&self) -> Events<U> {
        Events::new(self.events.subscribe())
    }

    fn tell(&self, event: Event<U>) {
        // it fails where nobody listens
        let _ = self.events.send(event);
    }
}
