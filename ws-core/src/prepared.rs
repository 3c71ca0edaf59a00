//! [`PreparedMessage`]: one message for many connections.

#[cfg(feature = "deflate")]
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
#[cfg(feature = "deflate")]
use std::sync::OnceLock;

use crate::message::Message;
use crate::protocol::Frame;
#[cfg(feature = "deflate")]
use crate::protocol::{Setting, compress};

/// How many compressed frames a message keeps: one for each window that a client can ask for, of 9 to 15 bits. So clients
/// that ask for a rare window do not take the place of the others.
#[cfg(feature = "deflate")]
const VARIANTS: usize = 7;

/// One message for many connections, compressed once for all of them.
///
/// An ordinary [`Message`] is compressed by each connection that sends it. A prepared one is compressed by the first of
/// them, and the others send the same bytes.
///
/// Send it with [`Sender::send_prepared`](crate::Sender::send_prepared) or
/// [`try_send_prepared`](crate::Sender::try_send_prepared). The peer receives an ordinary message. A clone is another handle
/// to the same message.
///
/// ```
/// use ws_core::{PreparedMessage, Sender};
///
/// async fn broadcast(news: &str, to: &[Sender]) {
///     let message = PreparedMessage::new(news);
///     for sender in to {
///         // a client that reads too slowly misses the message, and delays nobody
///         let _ = sender.try_send_prepared(&message);
///     }
/// }
/// ```
///
/// # When it is worth it
///
/// When messages are compressed (`WebSocketLayer::compression`, with the feature `deflate`) and go to more than one
/// connection. It saves the time and the memory of compression for each connection but the first. The connections of one
/// layer share the compressed bytes unless their clients ask for windows of different sizes, which browsers do not; then the
/// message is compressed once for each size. A message keeps the results for seven combinations of level and window, which
/// are all that one layer can have. For further ones it is compressed each time.
///
/// When messages are not compressed, it saves little: a [`Message`] already shares its payload with its clones, and a
/// connection does not copy a large payload.
///
/// A client masks what it sends with a key of its own (RFC 6455 section 5.3). So it shares the compressed bytes, but copies
/// them.
///
/// ```
/// use ws_core::{Error, PreparedMessage, testing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let (mut first, mut ada) = testing::pair();
/// let (mut second, mut bob) = testing::pair();
///
/// let message = PreparedMessage::new("dinner is ready");
/// first.send_prepared(&message).await?;
/// second.send_prepared(&message).await?;
///
/// assert_eq!(ada.recv().await.unwrap()?, *message.message());
/// assert_eq!(bob.recv().await.unwrap()?, *message.message());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PreparedMessage {
    inner: Arc<Inner>,
}

struct Inner {
    message: Message,
    /// Shares the message's payload.
    frame: Frame,
    /// Filled from the front by the connections that send it. The frame is `None` if it would not be shorter.
    #[cfg(feature = "deflate")]
    compressed: [OnceLock<(Setting, Option<Frame>)>; VARIANTS],
}

impl PreparedMessage {
    /// Prepares a message. This costs almost nothing: the message is compressed when it is sent for the first time.
    #[must_use]
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let frame = message.clone().into();
        Self {
            inner: Arc::new(Inner {
                message,
                frame,
                #[cfg(feature = "deflate")]
                compressed: Default::default(),
            }),
        }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.inner.message
    }

    /// The payload's length in bytes, before compression.
    #[must_use]
    pub fn len(&self) -> usize {
        self.message().len()
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.message().is_empty()
    }

    /// The frame of the uncompressed message.
    pub(crate) fn frame(&self) -> &Frame {
        &self.inner.frame
    }

    /// The frame of the compressed message, if that is shorter.
    #[cfg(feature = "deflate")]
    pub(crate) fn compressed(&self, setting: Setting) -> Option<Cow<'_, Frame>> {
        let compress = || compress(self.message(), setting);
        for variant in &self.inner.compressed {
            // waits while another thread compresses: to compress once more would take as long
            let (made_with, frame) = variant.get_or_init(|| (setting, compress()));
            if *made_with == setting {
                return frame.as_ref().map(Cow::Borrowed);
            }
        }
        compress().map(Cow::Owned)
    }
}

impl From<Message> for PreparedMessage {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

impl fmt::Debug for PreparedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PreparedMessage").field(self.message()).finish()
    }
}
