//! [`Routes`]: which server has which partition.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use ws_hub::Health;

use crate::error::{Failure, FailureKind};
use crate::site::Site;

/// The servers of all partitions, by number. There are none before the start.
pub(crate) type Table = Arc<[Arc<Site>]>;

#[derive(Default)]
pub(crate) struct Routes {
    table: watch::Sender<Table>,
    /// The table may be wrong.
    doubt: Notify,
    /// The address of a server that knows better.
    better: Mutex<Option<String>>,
    /// Whether a server was away, when it was looked last; `None` before the start.
    was_down: Mutex<Option<bool>>,
}

impl Routes {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Table> {
        self.table.subscribe()
    }

    pub(crate) fn table(&self) -> Table {
        Arc::clone(&self.table.borrow())
    }

    /// Returns whether it is another one.
    pub(crate) fn set(&self, table: Table) -> bool {
        self.table.send_if_modified(|old| {
            let is_same = old.len() == table.len() && old.iter().zip(&*table).all(|(a, b)| Arc::ptr_eq(a, b));
            if !is_same {
                *old = table;
            }
            !is_same
        })
    }

    /// Each server once.
    pub(crate) fn sites(&self) -> Vec<Arc<Site>> {
        let mut sites: Vec<Arc<Site>> = Vec::new();
        for site in &*self.table() {
            if !sites.iter().any(|it| Arc::ptr_eq(it, site)) {
                sites.push(Arc::clone(site));
            }
        }
        sites
    }

    /// Where a call of a partition goes, and whether it is asked for just this time there: that is what the last answer to it
    /// may have said.
    pub(crate) fn target(&self, partition: usize, last: Option<&Failure>) -> (Arc<Site>, bool) {
        let asked = last.filter(|last| last.kind == FailureKind::Ask).and_then(Failure::place);
        let other = asked.and_then(|place| self.sites().into_iter().find(|it| it.address.shown() == place));
        match other {
            Some(site) => (site, true),
            None => (Arc::clone(&self.table.borrow()[partition]), false),
        }
    }

    /// The table may be wrong.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Looks into why calls have failed. Returns whether another server has what was asked for.
    pub(crate) fn note<'a>(&self, failures: impl Iterator<Item = &'a Failure>) -> bool {
        let mut has_moved = false;
        for failure in failures {
            match failure.kind {
                FailureKind::Moved => {
                    has_moved = true;
                    let better = failure.place().map(str::to_owned);
                    *self.better.lock().unwrap_or_else(PoisonError::into_inner) = better;
                    self.doubt();
                }
                FailureKind::Demoted => self.doubt(),
                _ => {}
            }
        }
        has_moved
    }

    /// Waits until the table may be wrong. Returns the address of a server that knows better, if there is one.
    #[cfg(feature = "cluster")]
    pub(crate) async fn doubted(&self) -> Option<String> {
        self.doubt.notified().await;
        self.better.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// All servers are up at the start.
    pub(crate) fn started(&self) {
        *self.was_down.lock().unwrap_or_else(PoisonError::into_inner) = Some(false);
    }

    /// Whether one server is away now, and none was before, or the other way round.
    pub(crate) fn change_of_health(&self) -> Option<Health> {
        let is_down = self.sites().iter().any(|site| site.state.borrow().health == Health::Down);
        let mut was_down = self.was_down.lock().unwrap_or_else(PoisonError::into_inner);
        let before = was_down.as_mut()?;
        (std::mem::replace(before, is_down) != is_down).then_some(if is_down {
            Health::Down
        } else {
            Health::Up
        })
    }

    /// Of all servers together.
    pub(crate) fn health(&self) -> Health {
        let sites = self.sites();
        let are = |health: Health| sites.iter().filter(|site| site.state.borrow().health == health).count();
        match (are(Health::Up), are(Health::Down)) {
            (up, _) if up == sites.len() => Health::Up,
            (_, down) if down == sites.len() => Health::Down,
            _ => Health::Syncing,
        }
    }
}
