//! A connection under load: what is to be sent on it, and what has come.

use std::{cell::RefCell, io::ErrorKind, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, ensure};
use tokio::{io::Interest, net::TcpStream};

use super::{
    frame::{Received, Receiver},
    handshake,
    traffic::Traffic,
};

thread_local! {
    /// One buffer for all connections of a thread, so that it stays in the processor's cache.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

pub(crate) struct Link {
    stream: TcpStream,
    /// What came with the response to the handshake.
    early: Vec<u8>,
    traffic: Arc<Traffic>,
    receiver: Receiver,
    /// The message whose frames are sent next.
    message: usize,
    /// How many messages are to be sent.
    queued: usize,
    /// How much of the first of them is sent.
    written: usize,
    pongs: Vec<u8>,
}

impl Link {
    pub(crate) async fn open(address: SocketAddr, path: &str, traffic: Arc<Traffic>) -> Result<Self> {
        let (stream, early) = handshake::open(address, path).await?;
        let receiver = Receiver::default();
        Ok(Self { stream, early, traffic, receiver, message: 0, queued: 0, written: 0, pongs: Vec::new() })
    }

    /// Sends `count` more messages, as far as the socket takes them now; [`ready`](Self::ready) and
    /// [`receive`](Self::receive) send the rest.
    pub(crate) fn send(&mut self, count: usize) -> Result<()> {
        self.queued += count;
        self.flush()
    }

    /// Waits until something can be received, or more can be sent.
    pub(crate) async fn ready(&self) -> Result<()> {
        if self.early.is_empty() {
            let sending = self.queued > 0 || !self.pongs.is_empty();
            let interest = if sending { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.stream.ready(interest).await?;
        }
        Ok(())
    }

    /// Takes what has come, if anything has, answers pings, and goes on with what is to be sent.
    pub(crate) fn receive(&mut self) -> Result<Received> {
        let received = if self.early.is_empty() {
            BUFFER.with_borrow_mut(|buffer| match self.stream.try_read(buffer) {
                Ok(length) => {
                    ensure!(length > 0, "the server ended the connection");
                    self.receiver.receive(&buffer[..length], &self.traffic, &mut self.pongs)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::default()),
                Err(error) => Err(error).context("reading"),
            })?
        } else {
            let early = std::mem::take(&mut self.early);
            self.receiver.receive(&early, &self.traffic, &mut self.pongs)?
        };
        self.flush()?;
        Ok(received)
    }

    fn flush(&mut self) -> Result<()> {
        // between messages
        while self.written == 0 && !self.pongs.is_empty() {
            let Some(length) = self.write(&self.pongs)? else { return Ok(()) };
            self.pongs.drain(..length);
        }
        while self.queued > 0 {
            let frames = self.traffic.frames(self.message, self.queued);
            let Some(length) = self.write(&frames[self.written..])? else { return Ok(()) };
            let written = self.written + length;
            let messages = written / self.traffic.stride();
            self.written = written % self.traffic.stride();
            self.message = self.traffic.skip(self.message, messages);
            self.queued -= messages;
        }
        Ok(())
    }

    /// How much the socket took; nothing if it takes nothing now.
    fn write(&self, bytes: &[u8]) -> Result<Option<usize>> {
        match self.stream.try_write(bytes) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("writing"),
        }
    }
}
