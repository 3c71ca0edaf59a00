//! A client, frame by frame: it reads when it is told to, and answers pings when it reads them.

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use ws_hub::Position;

/// What a client has got.
pub(crate) enum Got {
    /// A message of the log, and where it is.
    Message(Position, String),
    /// A Close frame, or the end of the stream.
    Closed,
}

pub(crate) struct Client {
    pub(crate) user: u64,
    pub(crate) node: usize,
    pub(crate) task: JoinHandle<()>,
    stream: DuplexStream,
    received: Vec<u8>,
    to_send: Vec<u8>,
    /// Whether it reads all that comes.
    pub(crate) reads: bool,
    /// The numbers of the messages that it has got, in the order in which they came.
    pub(crate) numbers: Vec<u64>,
}

impl Client {
    pub(crate) fn new(user: u64, node: usize, stream: DuplexStream, task: JoinHandle<()>) -> Self {
        Self {
            user,
            node,
            task,
            stream,
            received: Vec::new(),
            to_send: Vec::new(),
            reads: true,
            numbers: Vec::new(),
        }
    }

    fn answer(&mut self, head: u8, payload: &[u8]) {
        // a key of zeros leaves the payload as it is
        self.to_send.extend([head, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0]);
        self.to_send.extend(payload);
    }

    pub(crate) fn close(&mut self) {
        self.answer(0x88, &1000_u16.to_be_bytes());
    }

    /// Writes what the stream takes.
    pub(crate) fn flush(&mut self) {
        while !self.to_send.is_empty() {
            match self.stream.write(&self.to_send).now_or_never() {
                Some(Ok(count)) if count > 0 => drop(self.to_send.drain(..count)),
                Some(_) => self.to_send.clear(),
                None => break,
            }
        }
    }

    /// The next thing that has come, if there is one.
    pub(crate) fn next(&mut self) -> Option<Got> {
        loop {
            if let Some((head, payload)) = self.frame() {
                match head {
                    0x81 => {
                        let text = String::from_utf8(payload).unwrap();
                        let (position, body) = text.split_once('\n').expect("it is framed");
                        return Some(Got::Message(position.parse().unwrap(), body.to_owned()));
                    }
                    0x88 => {
                        self.answer(0x88, payload.get(..2).unwrap_or_default());
                        self.flush();
                        return Some(Got::Closed);
                    }
                    0x89 => {
                        self.answer(0x8a, &payload);
                        self.flush();
                    }
                    other => panic!("a frame with the head {other:#x}"),
                }
                continue;
            }
            match self.stream.read_buf(&mut self.received).now_or_never()? {
                Ok(count) if count > 0 => {}
                _ => return Some(Got::Closed),
            }
        }
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&head, &length) = (self.received.first()?, self.received.get(1)?);
        assert!(length < 126, "all messages are short");
        let end = 2 + usize::from(length);
        let payload = self.received.get(2..end)?.to_vec();
        self.received.drain(..end);
        Some((head, payload))
    }
}
