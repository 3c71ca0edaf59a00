//! Random sequences of logins, ends, messages and confirmations, on what a hub holds of one user.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::queue::{Limits, Overflow};

fn rules(has_store: bool, guarantee: Guarantee) -> Rules {
    Rules {
        limits: Limits { messages: 6, bytes: 1024, overflow: Overflow::Disconnect },
        has_store,
        guarantee,
    }
}

fn close() -> Ending {
    Ending::Close(CloseFrame::new(4000, ""))
}

/// A user, what is around them, and what has become of their messages.
struct World {
    state: State,
    rules: Rules,
    /// Whether a login replaces others.
    replaces: bool,
    store: VecDeque<Stored>,
    /// Who is sending a batch of the store, and what of it is left.
    catching_up: Option<(u64, VecDeque<Stored>)>,
    logins: u64,
    offered: u32,
    /// Who was there when a message came.
    there: BTreeMap<u32, BTreeSet<u64>>,
    /// What was sent on which connection, in this order.
    sent: RefCell<Vec<(u64, u32)>>,
    /// What nobody could have got.
    lost: BTreeSet<u32>,
}

fn number(message: &PreparedMessage) -> u32 {
    message.message().as_text().unwrap().parse().unwrap()
}

impl World {
    fn new(rules: Rules, replaces: bool) -> Self {
        Self {
            state: State::default(),
            rules,
            replaces,
            store: VecDeque::new(),
            catching_up: None,
            logins: 0,
            offered: 0,
            there: BTreeMap::new(),
            sent: RefCell::default(),
            lost: BTreeSet::new(),
        }
    }

    fn live(&self) -> BTreeSet<u64> {
        self.state.sessions.iter().filter(|it| it.is_live()).map(|it| it.login).collect()
    }

    fn all(&self) -> Vec<u64> {
        self.state.sessions.iter().map(|it| it.login).collect()
    }

    fn login(&mut self) {
        self.logins += 1;
        if self.replaces {
            self.state.replace(self.logins, &self.rules, &mut Wakes::default());
        } else {
            self.state.enter(self.logins, &self.rules);
        }
    }

    /// As whoever has the gate does first.
    fn settle(&mut self) {
        assert!(self.catching_up.is_none());
        for stored in std::mem::take(&mut self.state.to_restore).into_iter().rev() {
            self.store.push_front(stored);
        }
        for message in std::mem::take(&mut self.state.to_store) {
            self.store.push_back(Stored::new(0, message.message().clone()));
        }
    }

    /// Whoever has the gate and is to end gives it back.
    fn free_the_gate(&mut self) {
        if let Some((login, _)) = self.catching_up
            && !self.live().contains(&login)
        {
            self.stop_catching_up();
        }
    }

    fn stop_catching_up(&mut self) {
        if let Some((_, unsent)) = self.catching_up.take() {
            self.state.give_back(unsent.into(), &self.rules, &mut Wakes::default());
        }
    }

    fn offer(&mut self) {
        let text = self.offered.to_string();
        let message = PreparedMessage::new(text);
        self.there.insert(self.offered, self.live());
        let before = self.queued();
        let rules = self.rules;
        let offer = |state: &mut State| state.offer(&message, true, &rules, &mut Wakes::default()).queued;
        if offer(&mut self.state) == 0 {
            if self.rules.has_store {
                self.free_the_gate();
                self.settle();
                if offer(&mut self.state) == 0 {
                    self.store.push_back(Stored::new(0, message.message().clone()));
                }
            } else {
                self.note_lost(&before);
                self.lost.insert(self.offered);
            }
        }
        self.offered += 1;
    }

    /// What a connection's task does when it may send `room` messages.
    fn pump(&mut self, login: u64, mut room: usize, confirms: bool) {
        let cx = Context::from_waker(Waker::noop());
        if self.catching_up.as_ref().is_some_and(|(by, _)| *by == login) {
            let (_, mut batch) = self.catching_up.take().unwrap();
            while let Some(stored) = batch.front() {
                let number = stored.message.as_text().unwrap().parse().unwrap();
                let sent = self.state.send_stored(login, &cx, || {
                    if room == 0 {
                        return Err(TrySendError::Full(stored.message.clone()));
                    }
                    room -= 1;
                    self.sent.borrow_mut().push((login, number));
                    Ok(())
                });
                match sent {
                    Ok(()) => drop(batch.pop_front()),
                    Err(Next::WaitForRoom) => {
                        self.catching_up = Some((login, batch));
                        return;
                    }
                    Err(_) => {
                        self.catching_up = Some((login, batch));
                        return self.stop_catching_up();
                    }
                }
            }
            return self.look(login);
        }
        let left = RefCell::new(room);
        let next = self.state.advance(login, &self.rules, &cx, |message| {
            let mut left = left.borrow_mut();
            if *left == 0 {
                return Err(TrySendError::Full(message.message().clone()));
            }
            *left -= 1;
            self.sent.borrow_mut().push((login, number(message)));
            Ok(())
        });
        match next {
            Next::CatchUp => {
                self.free_the_gate();
                if self.catching_up.is_none() {
                    self.settle();
                    self.look(login);
                }
            }
            Next::Confirm(until) if confirms => self.state.confirm(login, until),
            _ => {}
        }
    }

    fn look(&mut self, login: u64) {
        if !self.state.looks(login) {
            return;
        }
        if self.store.is_empty() {
            self.state.mark_caught_up(login);
        } else {
            let batch = self.store.drain(..self.store.len().min(4)).collect();
            self.catching_up = Some((login, batch));
        }
    }

    fn end(&mut self, login: u64, how: Ending) {
        let before = self.queued();
        self.state.end(login, how, &self.rules, &mut Wakes::default());
        self.note_lost(&before);
    }

    fn leave(&mut self, login: u64) {
        if self.catching_up.as_ref().is_some_and(|(by, _)| *by == login) {
            self.stop_catching_up();
        }
        let before = self.queued();
        self.state.leave(login, &self.rules, &mut Wakes::default());
        self.note_lost(&before);
    }

    fn queued(&self) -> BTreeSet<u32> {
        let queues = self.state.sessions.iter().flat_map(|session| session.queue.iter());
        queues.map(|item| number(&item.message)).collect()
    }

    /// Without a store, and without another connection, there is nowhere to keep them.
    fn note_lost(&mut self, before: &BTreeSet<u32>) {
        if !self.rules.has_store && self.live().is_empty() {
            self.lost.extend(before - &self.queued());
            self.state.to_store.clear();
        }
    }

    fn step(&mut self, random: &mut SmallRng) {
        let all = self.all();
        let some = (!all.is_empty()).then(|| all[random.random_range(0..all.len())]);
        match (random.random_range(0..100), some) {
            (0..35, _) => self.offer(),
            (35..43, _) if self.live().len() < 3 => self.login(),
            (43..47, Some(login)) => self.end(login, close()),
            (47..49, Some(login)) => self.end(login, Ending::Finish),
            (49..56, Some(login)) => self.leave(login),
            (56.., Some(login)) => self.pump(login, random.random_range(0..5), random.random()),
            _ => {}
        }
    }

    /// A last login that reads everything.
    fn finish(&mut self) -> u64 {
        for login in self.all() {
            self.end(login, close());
        }
        for login in self.all() {
            self.leave(login);
        }
        self.login();
        for _ in 0..1000 {
            self.pump(self.logins, 100, true);
        }
        assert!(self.store.is_empty() && !self.state.is_unsettled() && self.queued().is_empty());
        self.logins
    }
}

fn play(seed: u64, rules: Rules, replaces: bool) -> World {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(rules, replaces);
    for _ in 0..300 {
        world.step(&mut random);
    }
    world.finish();
    world
}

#[test]
fn at_most_once_a_user_with_one_connection_gets_each_message_once_and_in_order() {
    for seed in 0..500 {
        for has_store in [true, false] {
            let world = play(seed, rules(has_store, Guarantee::AtMostOnce), true);
            let got: Vec<_> = world.sent.into_inner().into_iter().map(|(_, number)| number).collect();
            let expected: Vec<_> = (0..world.offered).filter(|number| !world.lost.contains(number)).collect();
            assert_eq!(got, expected, "seed {seed}, store {has_store}");
        }
    }
}

#[test]
fn at_least_once_nothing_is_lost_and_the_last_connection_gets_the_end_of_it_in_order() {
    for seed in 0..500 {
        let many = play(seed, rules(true, Guarantee::AtLeastOnce), false);
        let got: BTreeSet<_> = many.sent.into_inner().into_iter().map(|(_, number)| number).collect();
        assert_eq!(got, (0..many.offered).collect(), "seed {seed}, several connections");

        let world = play(seed, rules(true, Guarantee::AtLeastOnce), true);
        let (last, sent) = (world.logins, world.sent.into_inner());
        let got: BTreeSet<_> = sent.iter().map(|(_, number)| *number).collect();
        assert_eq!(got, (0..world.offered).collect(), "seed {seed}");
        let end: Vec<_> = sent.iter().filter(|(on, _)| *on == last).map(|(_, number)| *number).collect();
        assert!(end.is_sorted_by(|a, b| a < b), "seed {seed}: {end:?}");
    }
}

#[test]
fn of_several_connections_all_get_what_comes_and_one_what_was_left() {
    for seed in 0..500 {
        let world = play(seed, rules(true, Guarantee::AtMostOnce), false);
        let mut seen = BTreeMap::<u32, BTreeSet<u64>>::new();
        for (login, number) in world.sent.into_inner() {
            let on = seen.entry(number).or_default();
            assert!(!on.contains(&login), "seed {seed}: {number} comes twice");
            let was_there = |login: &u64| world.there[&number].contains(login);
            assert!(on.is_empty() || was_there(&login), "seed {seed}: {number} comes to another one");
            on.insert(login);
        }
        assert_eq!(seen.len(), world.offered as usize, "seed {seed}: some are lost");
    }
}

#[test]
fn connections_share_the_bytes_of_a_message() {
    let rules = rules(true, Guarantee::AtMostOnce);
    let mut states = [State::default(), State::default()];
    let message = PreparedMessage::new("x".repeat(1000));
    for state in &mut states {
        state.enter(1, &rules);
        state.offer(&message, false, &rules, &mut Wakes::default());
    }
    for state in &states {
        let queued = state.sessions[0].queue.unsent().unwrap().message.message();
        assert_eq!(queued.as_text().unwrap().as_ptr(), message.message().as_text().unwrap().as_ptr());
    }
}
