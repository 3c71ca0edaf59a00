//! What was sent, and what became of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ws_hub::{Delivery, Guarantee, MessageId, Position};

use crate::client::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pending,
    Accepted,
    /// It may be in the log.
    Unknown,
    Dropped,
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// By its id, whose it is and what became of it.
    pub(crate) sent: BTreeMap<u64, (u64, Fate)>,
    pub(crate) users: HashMap<u64, User>,
}

/// The log of a user, as far as it was seen.
#[derive(Default)]
pub(crate) struct User {
    /// The ids of messages by their numbers.
    pub(crate) log: BTreeMap<u64, u64>,
    numbers: HashMap<u64, u64>,
    /// Numbers that a client has got, and how often.
    pub(crate) received: BTreeMap<u64, u32>,
    /// Up to here a client has said that it has got everything.
    pub(crate) claimed: u64,
    /// Up to here the cursor was checked.
    pub(crate) checked: u64,
}

impl User {
    pub(crate) fn has_got(&self, number: u64) -> bool {
        number <= self.claimed || self.received.contains_key(&number)
    }

    /// The position of the last message that a client of the user has got.
    pub(crate) fn last(&self) -> Option<Position> {
        let (number, _) = self.received.last_key_value()?;
        Some(Position::new(*number, MessageId::new(self.log[number])))
    }

    /// There is a message with this id at this number: neither is anywhere else.
    pub(crate) fn seen(&mut self, number: u64, id: u64) {
        let earlier = self.log.insert(number, id);
        assert!(earlier.is_none_or(|earlier| earlier == id), "number {number} came twice");
        let earlier = self.numbers.insert(id, number);
        assert!(earlier.is_none_or(|earlier| earlier == number), "message {id} is in the log twice");
    }
}

impl Ledger {
    pub(crate) fn user(&mut self, user: u64) -> &mut User {
        self.users.entry(user).or_default()
    }

    /// A message was sent, for the first time or once more.
    pub(crate) fn answered(&mut self, id: u64, delivery: Delivery) {
        let (_, fate) = self.sent.get_mut(&id).expect("it was sent");
        *fate = match (*fate, delivery) {
            (_, delivery) if delivery.is_accepted() => Fate::Accepted,
            (Fate::Accepted, _) => Fate::Accepted,
            (Fate::Pending | Fate::Dropped, Delivery::Dropped(_)) => Fate::Dropped,
            _ => Fate::Unknown,
        };
    }

    /// A client has got a message: each connection gets the log in order, without a hole, and nothing twice.
    pub(crate) fn received(&mut self, client: &mut Client, position: Position, body: &str) {
        let id = body.parse().unwrap();
        assert_eq!(position.id.get(), id);
        let (user, fate) = self.sent[&id];
        assert_eq!(user, client.user);
        assert_ne!(fate, Fate::Dropped, "message {id} was dropped, and came");
        let number = position.number;
        assert!(!client.numbers.contains(&number), "{number} once more after {:?}", client.numbers);
        if let Some(&last) = client.numbers.last() {
            let mut between = last + 1..number;
            assert!(
                between.all(|it| client.numbers.contains(&it)),
                "a hole: {number} after {:?}",
                client.numbers
            );
        }
        client.numbers.push(number);
        let user = self.user(user);
        user.seen(number, id);
        *user.received.entry(number).or_default() += 1;
    }

    /// The cursor of a user is here. At least once, it passes nothing that no client has got.
    pub(crate) fn cursor_at(&mut self, user: u64, cursor: u64, guarantee: Guarantee) {
        let user = self.user(user);
        if guarantee == Guarantee::AtLeastOnce {
            for number in user.checked + 1..=cursor {
                assert!(user.has_got(number), "{number} is acknowledged, and no client has got it");
            }
        }
        user.checked = user.checked.max(cursor);
    }

    /// What was accepted, and no client has got.
    pub(crate) fn missing(&self) -> BTreeSet<(u64, u64)> {
        let accepted = self.sent.iter().filter(|(_, (_, fate))| *fate == Fate::Accepted);
        accepted
            .filter(|(id, (user, _))| {
                let Some(user) = self.users.get(user) else { return true };
                // it is not even in the log, or nobody has got it
                user.numbers.get(id).is_none_or(|number| !user.has_got(*number))
            })
            .map(|(id, (user, _))| (*user, *id))
            .collect()
    }
}
