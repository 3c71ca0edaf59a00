//! A log in memory that answers like one elsewhere: not at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::task::yield_now;
use ws_hub::{Acknowledge, After, Append, Appended, Durability, Log, LogError, MemoryLog, Page, Read};

pub(crate) struct Elsewhere {
    pub(crate) log: Arc<MemoryLog<u64>>,
    pub(crate) given_back: GivenBack,
}

/// Numbers of messages, by user, that were acknowledged and are not any more.
pub(crate) type GivenBack = Arc<Mutex<HashSet<(u64, u64)>>>;

/// Does it, and lets others run before and after.
async fn yielding<T>(work: BoxFuture<'_, T>) -> T {
    yield_now().await;
    let result = work.await;
    yield_now().await;
    result
}

impl Log<u64> for Elsewhere {
    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        Box::pin(yielding(self.log.append(batch)))
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        Box::pin(yielding(self.log.read(user, after, page)))
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, u64>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        Box::pin(yielding(self.log.acknowledge(batch)))
    }

    fn give_back<'a>(&'a self, user: &'a u64, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(yielding(Box::pin(async move {
            let nothing = Page { messages: 0, bytes: 0 };
            let cursor = self.log.read(user, After::Cursor, nothing).await?.cursor;
            self.given_back.lock().unwrap().extend((number + 1..=cursor).map(|number| (*user, number)));
            self.log.give_back(user, number).await
        })))
    }
}
