//! [`Event`]: who comes and who goes.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events that a receiver may be behind before it misses some.
pub(crate) const BACKLOG: usize = 1024;

/// Something that happened to the users of a hub. They come in the order in which it happened.
///
/// ```no_run
/// # async fn f(hub: ws_hub::Hub<String>) {
/// use ws_hub::Event;
///
/// let mut events = hub.events();
/// while let Some(event) = events.recv().await {
///     match event {
///         Event::Online(user) => println!("{user} is here"),
///         Event::Offline(user) => println!("{user} is gone"),
///         Event::Joined { user, room } => println!("{user} is in {room}"),
///         Event::Left { user, room } => println!("{user} has left {room}"),
///         Event::Missed(count) => println!("{count} events missed; now here: {:?}", hub.online()),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<U> {
    /// The user's first connection is there. A connection that replaces another is no event.
    Online(U),
    /// The user's last connection is gone.
    Offline(U),
    /// The user is in a room.
    Joined {
        /// Who.
        user: U,
        /// Where.
        room: String,
    },
    /// The user is not in a room any more: they left, or went offline.
    Left {
        /// Who.
        user: U,
        /// Where.
        room: String,
    },
    /// This receiver was too slow, and has missed this many events; [`Hub::online`](crate::Hub::online) and
    /// [`Hub::members`](crate::Hub::members) tell how it is now.
    Missed(u64),
}

/// The events of a hub, from the moment on in which [`Hub::events`](crate::Hub::events) was called.
///
/// A receiver that is more than 1,024 events behind misses the oldest, and is told how many.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use ws_hub::Hub;
///
/// let hub = Hub::<u64>::new();
/// let mut events = hub.events();
/// drop(hub);
/// assert_eq!(events.recv().await, None);
/// # }
/// ```
#[derive(Debug)]
pub struct Events<U> {
    receiver: broadcast::Receiver<Event<U>>,
}

impl<U: Clone> Events<U> {
    pub(crate) fn new(receiver: broadcast::Receiver<Event<U>>) -> Self {
        Self { receiver }
    }

    /// The next event; `None` when there is no hub any more.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no event is lost.
    pub async fn recv(&mut self) -> Option<Event<U>> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
