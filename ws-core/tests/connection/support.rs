//! The scripted peer: what it sends, what it takes, and what it has seen.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use ws_core::{Outcome, WebSocket, WebSocketLayer, testing};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The key that all clients here mask with.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame, as it is sent and as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A frame with this first byte of its header.
    pub(crate) fn new(first: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first, payload: payload.into() }
    }

    pub(crate) fn text(payload: impl Into<String>) -> Self {
        Self::new(0x81, payload.into())
    }

    pub(crate) fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0x82, payload)
    }

    pub(crate) fn ping(payload: &[u8]) -> Self {
        Self::new(0x89, payload)
    }

    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::new(0x8a, payload)
    }

    pub(crate) fn close(code: u16, reason: &str) -> Self {
        Self::new(0x88, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    pub(crate) fn empty_close() -> Self {
        Self::new(0x88, [])
    }

    pub(crate) fn is_ping(&self) -> bool {
        self.first == 0x89
    }

    pub(crate) fn is_close(&self) -> bool {
        self.first == 0x88
    }

    pub(crate) fn close_code(&self) -> u16 {
        assert!(self.is_close(), "{self:?} is no Close frame");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }

    /// As a client sends it.
    pub(crate) fn masked(&self) -> Vec<u8> {
        let mut bytes = self.header(0x80);
        bytes.extend(KEY);
        bytes.extend(self.payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// As a server sends it.
    pub(crate) fn unmasked(&self) -> Vec<u8> {
        [self.header(0), self.payload.clone()].concat()
    }

    fn header(&self, mask_bit: u8) -> Vec<u8> {
        let length = self.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => vec![self.first, mask_bit | short],
            (_, Ok(middle)) => [&[self.first, mask_bit | 0x7e][..], &middle.to_be_bytes()].concat(),
            _ => [&[self.first, mask_bit | 0x7f][..], &(length as u64).to_be_bytes()].concat(),
        }
    }

    /// The frame at the front of `bytes`, masked or not, and its length.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (length, mut start) = match second & 0x7f {
            126 => (number(bytes.get(2..4)?), 4),
            127 => (number(bytes.get(2..10)?), 10),
            short => (usize::from(short), 2),
        };
        let mut key = [0; 4];
        if second & 0x80 != 0 {
            key.copy_from_slice(bytes.get(start..start + 4)?);
            start += 4;
        }
        let payload = bytes.get(start..start + length)?;
        let payload: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        Some((Self { first, payload }, start + length))
    }
}

/// The peer's end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    wire: Arc<Wire>,
}

/// The driver's end.
pub(crate) struct Transport {
    wire: Arc<Wire>,
}

struct Wire {
    state: Mutex<State>,
    changed: Notify,
}

/// How the peer's stream ends: with an error or without.
struct End(Option<io::ErrorKind>);

/// What the two ends have sent, and what the peer does with it.
pub(crate) struct State {
    inbound: VecDeque<u8>,
    /// What the peer sends over and over, so that there is always more to read.
    flood: Vec<u8>,
    end: Option<End>,
    outbound: Vec<u8>,
    seen: usize,
    room: usize,
    /// The error of all further writes.
    broken: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    on_flush: Option<Box<dyn FnOnce() + Send>>,
    /// Bytes that the driver has read.
    pub(crate) taken: usize,
    /// Calls that read an end or an error.
    pub(crate) ends_read: usize,
    /// Calls that wrote something, and those of them with more than one slice.
    pub(crate) writes: usize,
    pub(crate) vectored_writes: usize,
    /// The most that one call reads or writes.
    pub(crate) step: usize,
    /// How many bytes had been written when the driver closed its end of the stream.
    pub(crate) shut_down_at: Option<usize>,
    pub(crate) dropped: bool,
}

/// The two ends of a wire that takes everything.
pub(crate) fn wire() -> (Transport, Peer) {
    let state = State {
        inbound: VecDeque::new(),
        flood: Vec::new(),
        end: None,
        outbound: Vec::new(),
        seen: 0,
        room: usize::MAX,
        broken: None,
        reader: None,
        writer: None,
        on_flush: None,
        taken: 0,
        ends_read: 0,
        writes: 0,
        vectored_writes: 0,
        step: usize::MAX,
        shut_down_at: None,
        dropped: false,
    };
    let wire = Arc::new(Wire { state: Mutex::new(state), changed: Notify::new() });
    (Transport { wire: Arc::clone(&wire) }, Peer { wire })
}

/// Serves a connection with `handler`.
pub(crate) fn serve<F, Fut>(layer: &WebSocketLayer, handler: F) -> Peer
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    let (transport, peer) = wire();
    tokio::spawn(testing::accept(layer, transport, handler));
    peer
}

/// As [`serve`], and also returns what `handler` returns. The connection is closed with 1000.
pub(crate) fn ask<F, Fut, T>(layer: &WebSocketLayer, handler: F) -> (Peer, Answer<T>)
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let peer = serve(layer, async move |socket| {
        let _ = answer.send(handler(socket).await);
    });
    (peer, Answer(answered))
}

/// The value that a handler will return.
pub(crate) struct Answer<T>(oneshot::Receiver<T>);

impl<T> Answer<T> {
    pub(crate) async fn get(self) -> T {
        soon(self.0).await.expect("the handler ended otherwise")
    }
}

/// A connection whose handler has given its socket to the test.
pub(crate) async fn open(layer: &WebSocketLayer) -> (WebSocket, Peer) {
    let (peer, socket) = ask(layer, |socket| async { socket });
    (socket.get().await, peer)
}

/// As [`open`], with the defaults.
pub(crate) async fn open_default() -> (WebSocket, Peer) {
    open(&WebSocketLayer::new()).await
}

/// Lets all tasks run until they wait.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// A test that hangs fails instead.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(24 * HOUR, future).await.expect("nothing happens any more")
}

/// Receives up to the first `None`. Returns the texts, and errors as `error: …`.
pub(crate) async fn received(socket: &mut WebSocket) -> Vec<String> {
    let mut received = Vec::new();
    while let Some(message) = soon(socket.recv()).await {
        received.push(match message {
            Ok(message) => message.as_text().expect("text").to_owned(),
            Err(error) => format!("error: {error}"),
        });
    }
    assert!(soon(socket.recv()).await.is_none(), "nothing comes after the end");
    received
}

/// The numbers from 0 up to `count`, as texts.
pub(crate) fn numbers(count: usize) -> Vec<Frame> {
    (0..count).map(|number| Frame::text(number.to_string())).collect()
}

/// Sends back what it receives.
pub(crate) async fn echo(mut socket: WebSocket) -> Result<(), ws_core::Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

impl Peer {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.wire.state.lock().unwrap()
    }

    pub(crate) fn send(&self, frame: &Frame) {
        self.send_bytes(&frame.masked());
    }

    pub(crate) fn send_all(&self, frames: &[Frame]) {
        self.send_bytes(&frames.iter().flat_map(Frame::masked).collect::<Vec<_>>());
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.inbound.extend(bytes);
        state.wake_reader();
    }

    /// Sends this frame over and over from now on: the driver can always read more.
    pub(crate) fn flood(&self, frame: &Frame) {
        let mut state = self.state();
        state.flood = frame.masked();
        state.wake_reader();
    }

    /// Ends the stream behind what was sent.
    pub(crate) fn end(&self) {
        self.end_with(None);
    }

    /// Ends the stream behind what was sent, with an error if there is one.
    pub(crate) fn end_with(&self, error: Option<io::ErrorKind>) {
        let mut state = self.state();
        state.end = Some(End(error));
        state.wake_reader();
    }

    /// Takes this many more bytes from now on.
    pub(crate) fn allow(&self, bytes: usize) {
        let mut state = self.state();
        state.room = bytes;
        if bytes > 0
            && let Some(waker) = state.writer.take()
        {
            waker.wake();
        }
    }

    /// Every further write fails.
    pub(crate) fn break_off(&self, error: io::ErrorKind) {
        let mut state = self.state();
        state.broken = Some(error);
        if let Some(waker) = state.writer.take() {
            waker.wake();
        }
    }

    pub(crate) fn allow_all(&self) {
        self.allow(usize::MAX);
    }

    /// Calls `hook` when the transport is next flushed.
    pub(crate) fn on_flush(&self, hook: impl FnOnce() + Send + 'static) {
        self.state().on_flush = Some(Box::new(hook));
    }

    /// The frames that have come since the last call.
    pub(crate) fn seen(&self) -> Vec<Frame> {
        let mut state = self.state();
        std::iter::from_fn(|| state.see()).collect()
    }

    /// The next frame; `None` when the driver has ended the stream.
    pub(crate) async fn next(&self) -> Option<Frame> {
        soon(async {
            loop {
                let changed = self.wire.changed.notified();
                {
                    let mut state = self.state();
                    let frame = state.see();
                    if frame.is_some() || state.shut_down_at.is_some() || state.dropped {
                        return frame;
                    }
                }
                changed.await;
            }
        })
        .await
    }

    /// The next frame that is not a ping.
    pub(crate) async fn next_but_pings(&self) -> Option<Frame> {
        loop {
            match self.next().await {
                Some(frame) if frame.is_ping() => {}
                other => return other,
            }
        }
    }

    /// All frames up to the end of the stream.
    pub(crate) async fn rest(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Waits until the driver has dropped the transport.
    pub(crate) async fn dropped(&self) {
        soon(async {
            loop {
                let changed = self.wire.changed.notified();
                if self.state().dropped {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// Makes sure that there are at least this many bytes to read, if the peer floods.
    fn refill(&mut self, bytes: usize) {
        while self.inbound.len() < bytes && !self.flood.is_empty() {
            self.inbound.extend(&self.flood);
        }
    }

    /// The next whole frame that was not seen yet.
    fn see(&mut self) -> Option<Frame> {
        let (frame, length) = Frame::parse(&self.outbound[self.seen..])?;
        self.seen += length;
        Some(frame)
    }

    /// All that the driver has written.
    #[cfg(feature = "deflate")]
    pub(crate) fn all_written(&self) -> &[u8] {
        &self.outbound
    }

    /// Bytes that the driver has written.
    pub(crate) fn written(&self) -> usize {
        self.outbound.len()
    }

    fn write(&mut self, slices: &[IoSlice<'_>], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        assert!(self.shut_down_at.is_none(), "written behind the end");
        if let Some(error) = self.broken {
            return Poll::Ready(Err(error.into()));
        }
        if self.room == 0 {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.writes += 1;
        self.vectored_writes += usize::from(slices.len() > 1);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let count = bytes.len().min(self.room).min(self.step);
        self.outbound.extend(&bytes[..count]);
        if self.room != usize::MAX {
            self.room -= count;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wire.state.lock().unwrap();
        state.refill(buf.remaining());
        let count = state.inbound.len().min(buf.remaining()).min(state.step);
        if count > 0 {
            state.inbound.read_exact(buf.initialize_unfilled_to(count))?;
            buf.advance(count);
            state.taken += count;
            self.wire.changed.notify_waiters();
            return Poll::Ready(Ok(()));
        }
        match &state.end {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            &Some(End(error)) => {
                state.ends_read += 1;
                Poll::Ready(error.map_or(Ok(()), |kind| Err(kind.into())))
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.wire.state.lock().unwrap().write(slices, cx);
        self.wire.changed.notify_waiters();
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let hook = self.wire.state.lock().unwrap().on_flush.take();
        if let Some(hook) = hook {
            hook();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.wire.state.lock().unwrap();
        let written = state.written();
        state.shut_down_at.get_or_insert(written);
        self.wire.changed.notify_waiters();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.wire.state.lock().unwrap().dropped = true;
        self.wire.changed.notify_waiters();
    }
}
