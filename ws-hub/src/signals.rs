//! What other nodes signal to this one, and what is done when signals may have been missed.

use std::future::poll_fn;
use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ws_core::{CloseFrame, PreparedMessage};

use crate::backplane::{Held, Logout, Packet, Signal, Standing};
use crate::calls::{Tries, ask};
use crate::close_code;
use crate::log::LogError;
use crate::mailbox::{Content, Mailbox};
use crate::shared::{Inner, Logged};
use crate::task::spawn;
use crate::user::{User, find};

/// Logins that are asserted in one call.
const ASSERTED: usize = 256;

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Takes what other nodes signal, from now on, until the hub is dropped.
    pub(crate) fn listen(self: &Arc<Self>) {
        self.listener.get_or_init(|| {
            let (hub, mut signals) = (Arc::downgrade(self), self.config.engine.signals());
            let task = spawn(async move {
                while let Some(signal) = poll_fn(|cx| signals.as_mut().poll_next(cx)).await
                    && let Some(hub) = Weak::upgrade(&hub)
                {
                    hub.handle(signal).await;
                }
            });
            task.abort_handle()
        });
    }

    /// Does what a signal says. It waits for no I/O: a slow call would hold up all signals.
    async fn handle(self: &Arc<Self>, signal: Signal<U>) {
        match signal {
            Signal::Entry { user, entry } => {
                let Some(user) = self.read().get(&user) else { return };
                let message = self.framed(&entry.position, PreparedMessage::new(entry.message));
                let content = &Content::Prepared(message);
                let logged = Logged { position: entry.position, previous: entry.previous, content };
                self.change(&user, |mailboxes, wakes| {
                    self.offer_logged(&user.id, mailboxes, &logged, wakes);
                });
            }
            Signal::Replaced { user, login } => {
                let user = self.read().get(&user);
                if let Some(user) = user {
                    self.replace(&user, login);
                }
            }
            Signal::Closed { user, upto, frame } => match frame.check() {
                Ok(()) => {
                    self.disconnect(&user, &frame, Some(upto));
                }
                // a connection could not be closed with it
                Err(error) => self.failed(&LogError::refused(error)),
            },
            Signal::Restock { user, login, from } => {
                let user = self.read().get(&user);
                if let Some(user) = user {
                    self.change(&user, |mailboxes, wakes| {
                        for mailbox in mailboxes.iter_mut() {
                            mailbox.restock(login, from, wakes);
                        }
                    });
                }
            }
            Signal::RoomEntry { room, entry } => {
                // others may be before it
                let hub = Arc::clone(self);
                spawn(async move { hub.hear_of(&room, &entry).await });
            }
            Signal::Packet(Packet { room, except, message }) => {
                self.fan_out(room.as_deref(), &except, &PreparedMessage::new(message)).await;
            }
            Signal::Gap => self.begin_to_resync(None),
            Signal::GapIn(partitions) => self.begin_to_resync(Some(partitions)),
            Signal::Down | Signal::Up => {}
        }
    }

    fn begin_to_resync(self: &Arc<Self>, partitions: Option<Vec<usize>>) {
        let syncing = Syncing::new(Arc::clone(self));
        spawn(async move { syncing.0.resync(partitions.as_deref()).await });
    }

    /// Signals may have been missed, in these partitions or in all of them: all connections there look into the log, and all
    /// logins are asserted.
    async fn resync(&self, partitions: Option<&[usize]>) {
        let engine = &self.config.engine;
        let is_one = |partition: usize| partitions.is_none_or(|them| them.contains(&partition));
        let mut users = self.read().everyone();
        users.retain(|user| is_one(engine.partition(&user.id)));
        for user in &users {
            self.change(user, |mailboxes, wakes| mailboxes.iter_mut().for_each(|it| it.resync(wakes)));
        }
        let held = users.iter().flat_map(|user| {
            let mailboxes = user.lock();
            let open = mailboxes.iter().filter(|mailbox| mailbox.is_open());
            open.map(|mailbox| HeldHere::new(user, mailbox)).collect::<Vec<_>>()
        });
        for batch in held.collect::<Vec<_>>().chunks(ASSERTED) {
            self.reassert(batch).await;
        }
        self.resync_rooms(|room| is_one(engine.partition_of_room(room))).await;
    }

    async fn reassert(&self, batch: &[HeldHere<U>]) {
        let (limit, replace) = (self.config.login.limit(), self.config.login.replaces());
        let held = batch.iter().map(|it| Held {
            user: &it.user.id,
            connection: it.connection,
            login: it.login,
            confirmed: it.confirmed,
            limit,
            replace,
        });
        let (held, engine) = (held.collect::<Vec<_>>(), &self.config.engine);
        let mut tries = Tries::new();
        let standings = loop {
            match ask(async || engine.reassert(&held).await).await {
                Ok(standings) => break standings,
                Err(error) => self.failed(&error),
            }
            if !tries.again().await {
                return;
            }
        };
        let mut over = Vec::new();
        for (it, standing) in batch.iter().zip(standings) {
            let is_there = self.change(&it.user, |mailboxes, wakes| {
                let Some(mailbox) = find(mailboxes, it.connection) else { return false };
                match standing {
                    Standing::StartsAt(start) => mailbox.asserted(it.start, start, wakes),
                    Standing::Gone(frame) => {
                        let replaced =
                            || CloseFrame::new(close_code::REPLACED, "replaced by a newer connection");
                        mailbox.close(frame.unwrap_or_else(replaced), wakes);
                    }
                }
                true
            });
            if !is_there {
                // it ended meanwhile, perhaps before it was asserted
                over.push(Logout { user: &it.user.id, connection: it.connection, unsent: None });
            }
        }
        if !over.is_empty() {
            self.log_out(&over).await;
        }
    }

    /// Ends logins.
    pub(crate) async fn log_out(&self, batch: &[Logout<'_, U>]) {
        let (engine, mut tries) = (&self.config.engine, Tries::new());
        while let Err(error) = ask(async || engine.logout(batch).await).await {
            self.failed(&error);
            if !tries.again().await {
                return;
            }
        }
    }
}

/// It is found out what was missed, as long as this is there.
struct Syncing<U>(Arc<Inner<U>>);

impl<U> Syncing<U> {
    fn new(hub: Arc<Inner<U>>) -> Self {
        hub.syncing.fetch_add(1, Ordering::Relaxed);
        Self(hub)
    }
}

impl<U> Drop for Syncing<U> {
    fn drop(&mut self) {
        self.0.syncing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A login that this node has.
struct HeldHere<U> {
    user: Arc<User<U>>,
    connection: u64,
    login: u64,
    start: u64,
    confirmed: u64,
}

impl<U> HeldHere<U> {
    fn new(user: &Arc<User<U>>, mailbox: &Mailbox) -> Self {
        let (start, confirmed) = (mailbox.start(), mailbox.confirmed());
        let (connection, login) = (mailbox.connection, mailbox.login);
        Self { user: Arc::clone(user), connection, login, start, confirmed }
    }
}
