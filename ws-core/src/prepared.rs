//! [`PreparedMessage`]: one message for many connections.
//!
//! An ordinary message is compressed by each connection that sends it. A prepared one is compressed by the first of them,
//! and all the others send the same bytes.
//!
//! ```
//! use ws_core::{PreparedMessage, Sender};
//!
//! async fn broadcast(news: &str, to: &[Sender]) {
//!     let message = PreparedMessage::new(news);
//!     for sender in to {
//!         // whoever does not read fast enough misses it, and keeps nobody waiting
//!         let _ = sender.try_send_prepared(&message);
//!     }
//! }
//! ```
//!
//! # When it is worth it
//!
//! Where messages are compressed (`WebSocketLayer::compression`, with the feature `deflate`), and go to more than one
//! connection: that is the time of the compressor saved, and its memory, for each connection but the first. Connections of
//! one layer share what was compressed unless their clients asked for windows of different sizes, which browsers do not;
//! then it is compressed once for each size. A message that was compressed for seven combinations of level and window, all
//! that one layer can come to, is compressed for others as an ordinary one is.
//!
//! Where they are not compressed it saves little: a [`Message`] shares its payload with its clones already, and
//! connections send a large payload from where it is.
//!
//! A client has to mask what it sends with a key of its own (RFC 6455 section 5.3), so it shares the compressed bytes, but
//! copies them.

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

/// How many compressed frames a message keeps: one for each window that a client can ask for, 9 to 15 bits, so that those
/// who ask for a rare one take nothing from the others.
#[cfg(feature = "deflate")]
const VARIANTS: usize = 7;

/// A message for many connections, which is compressed once for all of them; the [module](self) tells when that is worth
/// it.
///
/// It is sent with [`Sender::send_prepared`](crate::Sender::send_prepared) and
/// [`try_send_prepared`](crate::Sender::try_send_prepared), and arrives as any other message. A clone is another handle to
/// the same message.
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
    /// Filled from the front, by those who send it; `None` for what does not become shorter.
    #[cfg(feature = "deflate")]
    compressed: [OnceLock<(Setting, Option<Frame>)>; VARIANTS],
}

impl PreparedMessage {
    /// Prepares a message. That costs next to nothing: it is compressed when it is first sent, if it is.
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

    /// The frame of the message as it is.
    pub(crate) fn frame(&self) -> &Frame {
        &self.inner.frame
    }

    /// The frame of the compressed message, if that is shorter.
    #[cfg(feature = "deflate")]
    pub(crate) fn compressed(&self, setting: Setting) -> Option<Cow<'_, Frame>> {
        let compress = || compress(self.message(), setting);
        for variant in &self.inner.compressed {
            // one who comes while another compresses waits: it would take as long to do it again
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
