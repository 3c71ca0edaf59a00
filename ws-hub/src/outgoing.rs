//! [`Outgoing`]: a message that is to be sent to users; and sending it.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::iter::repeat_with;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_core::future::BoxFuture;
use ws_core::{Message, PreparedMessage};

use crate::backplane::Sent;
use crate::calls::ask;
use crate::delivery::{Delivery, DropReason};
use crate::log::{Append, Appended, LogError};
use crate::mailbox::{Content, Mailbox};
use crate::position::{MessageId, Position};
use crate::shared::{Inner, Logged, Tally};
use crate::user::{User, open};

/// Messages that are appended in one call, for each partition.
const TOGETHER: usize = 128;

/// A message that is to be sent to users, from [`Hub::message`](crate::Hub::message).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use ws_hub::{Delivery, Hub, MessageId};
///
/// let hub = Hub::<u64>::new();
/// // of the request, so that the same request is the same message
/// let id = MessageId::new(17);
/// for _ in 0..2 {
///     let delivery = hub.message("paid").id(id).to(&7).await;
///     assert_eq!(delivery, Delivery::Stored { evicted: 0 });
/// }
/// // it is there once
/// # }
/// ```
#[must_use = "a message goes nowhere until it is sent to a user"]
pub struct Outgoing<'a, U> {
    inner: &'a Arc<Inner<U>>,
    message: Message,
    id: Option<MessageId>,
}

impl<'a, U> Outgoing<'a, U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(inner: &'a Arc<Inner<U>>, message: Message) -> Self {
        Self { inner, message, id: None }
    }

    /// Gives the message an id of the application's. If it is among the last 64 messages of the user already, it is not
    /// written again: so it can be sent again after [`Delivery::Unknown`].
    pub fn id(self, id: MessageId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Sends it to a user; as [`Hub::send`](crate::Hub::send).
    ///
    /// # Cancel safety
    ///
    /// As [`Hub::send`](crate::Hub::send).
    pub async fn to(self, user: &U) -> Delivery {
        self.inner.send(user, self.id, Content::Once(self.message)).await
    }
}

impl<U> fmt::Debug for Outgoing<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<U> Inner<U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Sends a message to a user: writes it to the log, and offers it to the connections.
    pub(crate) async fn send(&self, id: &U, message_id: Option<MessageId>, content: Content) -> Delivery {
        // what is nearly always done at once takes no room in the futures of those who send
        match self.start_sending(id, message_id, content) {
            Ok(delivery) => delivery,
            Err(rest) => rest.await,
        }
    }

    /// Sends a message to a user, as far as that takes no waiting: the error is what is left to be done.
    fn start_sending<'a>(
        &'a self,
        id: &'a U,
        message_id: Option<MessageId>,
        content: Content,
    ) -> Result<Delivery, BoxFuture<'a, Delivery>> {
        let user = self.read().get(id);
        if !self.config.rules.has_log {
            return self.send_unlogged(user, content.prepared());
        }
        let (again, message_id) = (message_id.is_some(), message_id.unwrap_or_else(MessageId::random));
        let append = Append::new(id, message_id, content.message()).again(again);
        let Some(OfferedNow { sent, here, is_crowded }) = self.send_now(user.as_deref(), &append, &content)
        else {
            let before = connections_of(user.as_deref());
            return Err(Box::pin(async move {
                let engine = &self.config.engine;
                let batch = [Append::new(id, message_id, content.message()).again(again)];
                let answer = ask(async || {
                    let mut answers = engine.append(&batch).await;
                    answers.pop().unwrap_or_else(|| Err(LogError::unknown("no answer")))
                });
                self.count_delivery(self.answered(before, user.as_deref(), answer.await))
            }));
        };
        match user {
            Some(user) if is_crowded => Err(Box::pin(async move {
                self.until_clear(&user).await;
                self.count_delivery(self.delivery(here, sent))
            })),
            _ => Ok(self.count_delivery(self.delivery(here, sent))),
        }
    }

    fn count_delivery(&self, delivery: Delivery) -> Delivery {
        match delivery {
            Delivery::Stored { evicted } => {
                self.counters.stored.add(1);
                self.counters.evicted.add(evicted);
            }
            Delivery::Sent(_) => {}
            Delivery::Unknown | Delivery::Dropped(_) => self.counters.dropped.add(1),
        }
        delivery
    }

    /// Sends a message to each of these users. If the log does not answer at once, it is asked for many of them together.
    pub(crate) async fn send_all(&self, ids: &[U], message: &PreparedMessage) -> Vec<Delivery> {
        let engine = &self.config.engine;
        let mut deliveries = Vec::with_capacity(ids.len());
        if !self.config.rules.has_log || engine.is_immediate() {
            for id in ids {
                deliveries.push(self.send(id, None, Content::Prepared(message.clone())).await);
            }
            return deliveries;
        }
        let content = message.message();
        for ids in ids.chunks(TOGETHER * engine.partitions().max(1)) {
            let users = ids.iter().map(|id| {
                let user = self.read().get(id);
                (connections_of(user.as_deref()), user)
            });
            let users: Vec<_> = users.collect();
            let appends = ids.iter().map(|id| Append::new(id, MessageId::random(), content));
            let batch: Vec<_> = appends.collect();
            let answers = match ask(async || Ok(engine.append(&batch).await)).await {
                Ok(answers) => answers.into_iter().map(Some).collect(),
                Err(error) => {
                    self.failed(&error);
                    Vec::new()
                }
            };
            let answers = answers.into_iter().chain(repeat_with(|| None));
            deliveries.extend(users.iter().zip(answers).map(|((before, user), answer)| {
                let delivery = answer.map(|answer| self.answered(*before, user.as_deref(), answer));
                self.count_delivery(delivery.unwrap_or(Delivery::Unknown))
            }));
        }
        deliveries
    }

    /// The log has answered an append, before which the user had so many connections here: they may have got the message, and
    /// be gone.
    fn answered(&self, before: usize, user: Option<&User<U>>, answer: Result<Sent, LogError>) -> Delivery {
        match answer {
            Ok(sent) => self.delivery(before.max(connections_of(user)), sent),
            Err(error) => {
                self.failed(&error);
                if error.is_unknown() { Delivery::Unknown } else { Delivery::Dropped(DropReason::Log) }
            }
        }
    }

    /// Appends and offers a message, if the log does that at once.
    fn send_now(
        &self,
        user: Option<&User<U>>,
        append: &Append<'_, U>,
        content: &Content,
    ) -> Option<OfferedNow> {
        let engine = &self.config.engine;
        let Some(user) = user else {
            let sent = engine.append_now(append)?;
            self.tell_those_who_came(append.user);
            return Some(OfferedNow { sent, here: 0, is_crowded: false });
        };
        // the next message of the user is not appended before this one is offered
        let mut is_left = false;
        let result = self.change(user, |mailboxes, wakes| {
            let handover = match &mut **mailboxes {
                // one that goes to several is acknowledged by the first that sends it
                [mailbox] => mailbox.handover(&self.config.rules),
                _ => None,
            };
            let sent = engine.append_now(&Append { handover: handover.as_ref(), ..*append })?;
            let mut is_crowded = false;
            is_left = mailboxes.is_empty();
            if let Appended::Logged { position, previous, .. } = sent.appended {
                if let ([mailbox], Some(handover)) = (&mut **mailboxes, &handover)
                    && handover.is_acknowledged.load(Ordering::Relaxed)
                {
                    mailbox.handed_over(position.number, wakes);
                }
                let content = self.content_for(mailboxes, &position, content);
                let logged = Logged { position, previous, content: &content };
                is_crowded = self.offer_logged(&user.id, mailboxes, &logged, wakes);
            }
            // those that it was offered to: when it is read, they may be gone
            Some(OfferedNow { sent, here: open(mailboxes), is_crowded })
        });
        if is_left {
            self.tell_those_who_came(append.user);
        }
        result
    }

    /// What goes to these connections for a message of the log.
    fn content_for<'a>(
        &self,
        mailboxes: &[Mailbox],
        position: &Position,
        content: &'a Content,
    ) -> Cow<'a, Content> {
        let framing = self.config.framing.as_ref();
        let framed = framing.map(|framing| Content::Once(framing(position, content.message())));
        let content = framed.map_or(Cow::Borrowed(content), Cow::Owned);
        if mailboxes.len() > 1 { Cow::Owned(Content::Prepared(content.prepared())) } else { content }
    }

    /// A message was appended for a user who had no connection here. One may have come, and read the log before.
    fn tell_those_who_came(&self, user: &U) {
        // in a statement of its own, so that the registry is not locked when the user is
        let user = self.read().get(user);
        if let Some(user) = user {
            self.change(&user, |mailboxes, wakes| mailboxes.iter_mut().for_each(|it| it.resync(wakes)));
        }
    }

    fn delivery(&self, connections: usize, sent: Sent) -> Delivery {
        let Appended::Logged { evicted, .. } = sent.appended else {
            return Delivery::Dropped(DropReason::TooLarge);
        };
        match connections + sent.elsewhere {
            0 => Delivery::Stored { evicted },
            connections => {
                self.counters.evicted.add(evicted);
                Delivery::Sent(connections)
            }
        }
    }

    /// Sends a message to a user, whose hub keeps none.
    fn send_unlogged(
        &self,
        user: Option<Arc<User<U>>>,
        message: PreparedMessage,
    ) -> Result<Delivery, BoxFuture<'_, Delivery>> {
        let Some(user) = user else {
            return Ok(self.count_delivery(Delivery::Dropped(DropReason::Offline)));
        };
        let mut tally = Tally::default();
        let waiting = self.offer(&user, &message, None, &mut tally);
        self.count_sent(&mut tally);
        if waiting.is_empty() {
            return Ok(self.count_delivery(tally.delivery()));
        }
        Err(Box::pin(async move {
            self.offer_when_clear(&user, &message, waiting, &mut tally).await;
            self.count_delivery(tally.delivery())
        }))
    }
}

/// A message that was appended and offered at once.
struct OfferedNow {
    sent: Sent,
    /// To how many connections of this hub it went.
    here: usize,
    /// Whether one of them is full whose client may read.
    is_crowded: bool,
}

/// To how many connections of a user messages go here.
fn connections_of<U>(user: Option<&User<U>>) -> usize {
    user.map_or(0, |user| open(&user.lock()))
}
