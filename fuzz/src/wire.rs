//! A connection's transport in memory that does what a script says, and the frames that went over it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The peer's end.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Mutex<State>>);

/// The driver's end.
#[derive(Debug)]
pub struct Transport(Arc<Mutex<State>>);

/// What has gone over the wire, and what may.
#[derive(Debug)]
pub struct State {
    /// All that the peer has sent.
    pub sent: Vec<u8>,
    /// How much of that the driver has read.
    pub taken: usize,
    /// All that the driver has written.
    pub written: Vec<u8>,
    /// How often the driver has asked for something.
    pub calls: usize,
    /// The most that one call reads or writes.
    pub step: usize,
    /// The driver has let go of its end.
    pub dropped: bool,
    /// How the peer's stream ends.
    end: Option<Result<(), ErrorKind>>,
    /// What a write fails with.
    broken: Option<ErrorKind>,
    /// How many bytes the peer still takes.
    room: usize,
    shut_down: bool,
    wakers: VecDeque<Waker>,
}

/// The two ends of a wire that takes everything.
#[must_use]
pub fn wire() -> (Transport, Peer) {
    let state = State {
        sent: Vec::new(),
        taken: 0,
        written: Vec::new(),
        calls: 0,
        step: usize::MAX,
        dropped: false,
        end: None,
        broken: None,
        room: usize::MAX,
        shut_down: false,
        wakers: VecDeque::new(),
    };
    let state = Arc::new(Mutex::new(state));
    (Transport(Arc::clone(&state)), Peer(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    /// What is on the wire.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Sends bytes, unless the stream has ended.
    pub fn send(&self, bytes: &[u8]) {
        self.change(|state| {
            if state.end.is_none() {
                state.sent.extend_from_slice(bytes);
            }
        });
    }

    /// Ends the stream behind what was sent, in order or with an error.
    pub fn end(&self, end: Result<(), ErrorKind>) {
        self.change(|state| state.end = state.end.or(Some(end)));
    }

    /// Takes no more than these bytes from now on.
    pub fn allow(&self, bytes: usize) {
        self.change(|state| state.room = bytes);
    }

    /// Takes nothing any more, and says so.
    pub fn break_off(&self, error: ErrorKind) {
        self.change(|state| state.broken = Some(error));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Whether the driver can write all that it has.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.room == usize::MAX && self.broken.is_none() && !self.dropped
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push_back(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        state.calls += 1;
        let count = (state.sent.len() - state.taken).min(buf.remaining()).min(state.step);
        if count > 0 {
            buf.put_slice(&state.sent[state.taken..][..count]);
            state.taken += count;
            return Poll::Ready(Ok(()));
        }
        match state.end {
            None => state.wait(cx),
            Some(end) => Poll::Ready(end.map_err(io::Error::from)),
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
        let mut state = lock(&self.0);
        state.calls += 1;
        assert!(!state.shut_down, "written behind the end");
        if let Some(error) = state.broken {
            return Poll::Ready(Err(error.into()));
        }
        if state.room == 0 {
            return state.wait(cx);
        }
        let most = state.room.min(state.step);
        let before = state.written.len();
        for slice in slices {
            let left = most - (state.written.len() - before);
            state.written.extend_from_slice(&slice[..left.min(slice.len())]);
        }
        let count = state.written.len() - before;
        if state.room != usize::MAX {
            state.room -= count;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).shut_down = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        lock(&self.0).dropped = true;
    }
}

/// A frame with this first byte, as a client sends it, with a mask of zeros, or a server.
#[must_use]
pub fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask_bit = u8::from(masked) << 7;
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..126), _) => frame.push(mask_bit + short),
        (_, Ok(middle)) => {
            frame.push(mask_bit + 126);
            frame.extend(middle.to_be_bytes());
        }
        _ => {
            frame.push(mask_bit + 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

/// The first bytes of the frames in `stream`, whole ones and the last one that is not.
#[must_use]
pub fn first_bytes(stream: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
    let mut firsts = Vec::new();
    let mut rest = stream;
    while let [first, second, behind @ ..] = rest {
        firsts.push(*first);
        let (size, length) = match second & 0x7f {
            126 => (2, behind.get(..2).map(number)),
            127 => (8, behind.get(..8).map(number)),
            short => (0, Some(usize::from(short))),
        };
        let mask = usize::from(second >> 7) * 4;
        rest = length.and_then(|length| behind.get(size + mask + length..)).unwrap_or_default();
    }
    firsts
}
