//! Conversions from and to the types of `tungstenite` 0.30 (feature `tungstenite`), for code that speaks both.
//!
//! They are behind a feature because its releases are not ours: a new version there is a breaking change here.
//!
//! ```
//! use tokio_tungstenite::tungstenite;
//! use ws_core::{CloseFrame, Message};
//!
//! let theirs: tungstenite::Message = Message::from("hello").into();
//! assert_eq!(Message::try_from(theirs).unwrap(), Message::from("hello"));
//!
//! // what only the driver speaks of is no message here
//! let ping = tungstenite::Message::Ping("".into());
//! assert_eq!(Message::try_from(ping.clone()), Err(ping));
//!
//! let frame: tungstenite::protocol::CloseFrame = CloseFrame::new(4001, "bye").into();
//! assert_eq!(CloseFrame::from(frame), CloseFrame::new(4001, "bye"));
//! ```

use bytes::Bytes;
use tokio_tungstenite::tungstenite;

use crate::close::{CloseCode, CloseFrame};
use crate::message::Message;
use crate::utf8::Utf8Bytes;

impl From<Utf8Bytes> for tungstenite::Utf8Bytes {
    fn from(text: Utf8Bytes) -> Self {
        // valid on our side, so on theirs
        Self::try_from(text.into_bytes()).expect("`Utf8Bytes` holds UTF-8")
    }
}

impl From<tungstenite::Utf8Bytes> for Utf8Bytes {
    fn from(text: tungstenite::Utf8Bytes) -> Self {
        // valid on their side, so on ours
        Self::try_from(Bytes::from(text)).expect("tungstenite's `Utf8Bytes` holds UTF-8")
    }
}

impl From<Message> for tungstenite::Message {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// A ping, pong, Close or raw frame is given back.
impl TryFrom<tungstenite::Message> for Message {
    type Error = tungstenite::Message;

    fn try_from(message: tungstenite::Message) -> Result<Self, tungstenite::Message> {
        match message {
            tungstenite::Message::Text(text) => Ok(Self::Text(text.into())),
            tungstenite::Message::Binary(bytes) => Ok(Self::Binary(bytes)),
            other => Err(other),
        }
    }
}

impl From<CloseFrame> for tungstenite::protocol::CloseFrame {
    fn from(frame: CloseFrame) -> Self {
        Self { code: u16::from(frame.code).into(), reason: frame.reason.into() }
    }
}

impl From<tungstenite::protocol::CloseFrame> for CloseFrame {
    fn from(frame: tungstenite::protocol::CloseFrame) -> Self {
        Self::new(CloseCode::from(u16::from(frame.code)), frame.reason)
    }
}
