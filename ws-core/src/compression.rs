//! [`Compression`]: whether messages are compressed, and how (permessage-deflate, RFC 7692).

/// How messages are compressed (permessage-deflate, RFC 7692).
///
/// A layer compresses nothing unless [`WebSocketLayer::compression`](crate::WebSocketLayer::compression) is called. Then it
/// compresses messages for every client that offers compression, as browsers do. Each message is compressed by itself.
///
/// ```
/// use ws_core::{Compression, WebSocketLayer};
///
/// let layer = WebSocketLayer::new().compression(Compression::new());
///
/// // large documents over slow networks: more processor time for fewer bytes
/// let layer = WebSocketLayer::new().compression(Compression::new().level(6).threshold(4096));
/// ```
///
/// # What must not be compressed
///
/// A secret in the same message as text that an attacker chooses. The length of the compressed message tells how similar
/// the two are. An attacker who sees that length on the network, and who can put text into the message, finds the secret
/// piece by piece, although the connection is encrypted. These attacks are known as CRIME and BREACH.
///
/// No message refers to an earlier one here, so the rule is about each single message: for example, a session token must not
/// be in the same message as a name that another user chose. If you cannot exclude that, do not compress.
///
/// # What it costs
///
/// Many servers keep a compressor and a decompressor for each connection, which take about 300 KB with zlib's defaults, so
/// that a message can refer to earlier ones (*context takeover*). Here both sides agree not to do that
/// (`server_no_context_takeover`, `client_no_context_takeover`), and compressors belong to threads, which use them for one
/// message at a time:
///
/// - An idle connection holds no memory for compression. A connection with an incomplete compressed message holds a
///   decompressor, 48 KB, until the message is complete or the `message_timeout` is over.
/// - A thread that has sent and received compressed messages keeps 450 KB.
/// - A message is compressed on the task that sends it: 1 MB of JSON takes some milliseconds.
/// - Many small, similar messages compress worse than with context takeover. If most of your messages are like that, put
///   several into one.
///
/// A message that is sent to many connections is compressed for each of them, unless it is a
/// [`PreparedMessage`](crate::PreparedMessage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "compression does nothing until a layer is told to use it"]
pub struct Compression {
    pub(crate) level: u8,
    pub(crate) threshold: usize,
}

impl Compression {
    /// Level 2, for messages of at least 1,024 bytes.
    pub const fn new() -> Self {
        // of 16 KB of JSON level 1 leaves 25 % in 28 µs, level 2 18 % in 66 µs, level 6 15 % in 156 µs
        Self { level: 2, threshold: 1024 }
    }

    /// How much processor time is spent to save bytes: from 1 (fastest) to 9 (smallest). Default 2.
    ///
    /// # Panics
    ///
    /// If it is not one of these. [`try_level`](Self::try_level) returns an error instead.
    #[track_caller]
    pub const fn level(self, level: u8) -> Self {
        match self.try_level(level) {
            Ok(compression) => compression,
            Err(InvalidLevel(_)) => panic!("the levels of compression are 1 to 9"),
        }
    }

    /// As [`level`](Self::level), for a level that comes from outside of the program.
    ///
    /// # Errors
    ///
    /// If it is not one of 1 to 9.
    pub const fn try_level(self, level: u8) -> Result<Self, InvalidLevel> {
        match level {
            1..=9 => Ok(Self { level, ..self }),
            _ => Err(InvalidLevel(level)),
        }
    }

    /// The length in bytes from which on a message is compressed. Default 1,024, because a shorter message most often fits
    /// into one packet anyway.
    ///
    /// A message that does not become shorter is sent uncompressed.
    pub const fn threshold(self, bytes: usize) -> Self {
        Self { threshold: bytes, ..self }
    }
}

/// A level that [`Compression`] does not have.
///
/// ```
/// use ws_core::Compression;
///
/// let error = Compression::new().try_level(10).unwrap_err();
/// assert_eq!(error.to_string(), "the levels of compression are 1 to 9, not 10");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the levels of compression are 1 to 9, not {0}")]
pub struct InvalidLevel(u8);

impl Default for Compression {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the levels of compression are 1 to 9")]
    fn a_level_that_is_none_is_refused_when_it_is_set() {
        let _ = Compression::new().level(10);
    }

    #[test]
    fn a_level_from_outside_that_is_none_is_an_error() {
        assert_eq!(Compression::new().try_level(0), Err(InvalidLevel(0)));
        assert_eq!(Compression::new().try_level(9), Ok(Compression::new().level(9)));
    }
}

#[cfg(all(test, feature = "testing"))]
mod connection_tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::{Error, Message, WebSocket, WebSocketLayer, testing};

    fn compressing() -> WebSocketLayer {
        WebSocketLayer::new().compression(Compression::new())
    }

    async fn echo(mut socket: WebSocket) -> Result<(), Error> {
        while let Some(message) = socket.recv().await {
            socket.send(message?).await?;
        }
        Ok(())
    }

    /// Bytes that no compression makes fewer (an LCG).
    fn noise(length: usize) -> Vec<u8> {
        let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        std::iter::successors(Some(1), next).map(|state| state.to_be_bytes()[0]).take(length).collect()
    }

    /// The first byte of the frame that a server sends `message` in, and the length of its payload.
    async fn framed(layer: &WebSocketLayer, message: impl Into<Message>) -> (u8, usize) {
        let message = message.into();
        let (server, mut client) = duplex(1 << 20);
        tokio::spawn(testing::accept(layer, server, async move |mut socket: WebSocket| {
            socket.send(message).await
        }));
        let mut header = [0; 2];
        client.read_exact(&mut header).await.unwrap();
        let length = match header[1] {
            126 => client.read_u16().await.unwrap().into(),
            length => length.into(),
        };
        (header[0], length)
    }

    #[tokio::test]
    async fn a_message_is_compressed_from_the_threshold_on() {
        let text = |length| "x".repeat(length);
        assert_eq!(framed(&compressing(), text(1023)).await, (0x81, 1023));
        let (first, length) = framed(&compressing(), text(1024)).await;
        assert!(first == 0xc1 && length < 50, "{first:x} {length}");
        let (first, length) = framed(&compressing(), text(1024).into_bytes()).await;
        assert!(first == 0xc2 && length < 50, "{first:x} {length}");

        let all = WebSocketLayer::new().compression(Compression::new().threshold(0));
        assert_eq!(framed(&all, text(100)).await.0, 0xc1);
        assert_eq!(framed(&all, "").await, (0x81, 0));
    }

    #[tokio::test]
    async fn a_message_that_does_not_become_shorter_is_sent_as_it_is() {
        assert_eq!(framed(&compressing(), noise(5000)).await, (0x82, 5000));
    }

    #[tokio::test]
    async fn nothing_is_compressed_unless_the_layer_is_told_to() {
        let text = "x".repeat(5000);
        assert_eq!(framed(&WebSocketLayer::new(), text.as_str()).await, (0x81, 5000));
        assert_eq!(framed(&compressing().compression(None), text.as_str()).await, (0x81, 5000));
    }

    #[tokio::test]
    async fn messages_of_all_sizes_come_back_as_they_were() {
        let mut client = testing::connect_with(&compressing(), echo);
        for length in [0, 1, 1000, 1024, 20_000, 300_000, 1 << 20] {
            for message in [
                Message::from("grüße ".repeat(length / 8)),
                Message::from(vec![7; length]),
                Message::from(noise(length)),
            ] {
                client.send(message.clone()).await.unwrap();
                assert!(client.recv().await.unwrap().unwrap() == message, "{length}");
            }
        }
        client.close(1000, "").await.unwrap();
    }

    #[tokio::test]
    async fn a_bomb_is_refused_with_1009() {
        let mut client = testing::connect_with(&compressing().max_message_size(100_000), echo);
        client.send(vec![0; 100_000]).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 100_000);
        client.send(vec![0; 100_001]).await.unwrap();
        assert!(client.recv().await.is_none());
        assert_eq!(client.close_frame().unwrap().code, 1009.into());
    }

    #[tokio::test]
    async fn bad_data_is_refused_with_1007() {
        let (server, mut client) = duplex(1024);
        tokio::spawn(testing::accept(&compressing(), server, echo));
        // masked with zeros: a block of a type that there is not
        client.write_all(&[0xc2, 0x81, 0, 0, 0, 0, 0x06]).await.unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!((answer[0], &answer[2..]), (0x88, &1007_u16.to_be_bytes()[..]));
    }
}
