//! The least that a program on tokio can do: what is faster than this is not an echo server, or not on tokio.
//!
//! There is no HTTP library and no WebSocket library. The handshake is taken for granted, and so are the frames: nothing
//! is checked but what parsing needs. All messages that one read brings are answered by one write. A small message is
//! unmasked where it was read to, in a buffer that the connections of a thread share; a long one is read to its own
//! buffer, with room in front for the header of the answer, and sent from there.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes};
use sha1::{Digest as _, Sha1};
use slab::Slab;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};

/// A peer is pinged when it has been silent for so long, give or take a tenth, and given up when it has been for twice as
/// long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The size of the buffer that a thread reads to: a message of 16 KiB and its header.
const READ_BUFFER: usize = (16 << 10) + MAX_HEADER;

/// The most of a long message that is read at once, so that it is unmasked while it is in the processor's cache.
const CHUNK: usize = 128 << 10;

/// The longest header of a frame.
const MAX_HEADER: usize = 14;

/// Where a long message begins in its buffer: behind the header of the answer, and aligned for the kernel's copies.
const FRONT: usize = 64;

const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = listen()?;
    let hub = Arc::new(Hub::default());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, hub.clone()));
    }
}

/// Those who get a broadcast: each gets encoded frames.
#[derive(Default)]
struct Hub(Mutex<Slab<mpsc::UnboundedSender<Bytes>>>);

impl Hub {
    fn join(&self) -> (usize, mpsc::UnboundedReceiver<Bytes>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sender), receiver)
    }

    fn leave(&self, key: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn send(&self, opcode: u8, payload: &[u8]) {
        let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
        put_frame(&mut frame, opcode, payload);
        let frame = Bytes::from(frame);
        for (_, sender) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(frame.clone());
        }
    }
}

async fn serve(mut stream: TcpStream, hub: Arc<Hub>) -> io::Result<()> {
    let is_broadcast = shake_hands(&mut stream).await?;
    if !is_broadcast {
        return Connection::new(stream, None).run().await;
    }
    let (key, receiver) = hub.join();
    let result = Connection::new(stream, Some(Subscription { hub: hub.clone(), receiver })).run().await;
    hub.leave(key);
    result
}

/// Answers the request; returns whether it is for the broadcast.
async fn shake_hands(stream: &mut TcpStream) -> io::Result<bool> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() >= READ_BUFFER || stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let request = str::from_utf8(&request).map_err(|_| io::ErrorKind::InvalidData)?;
    let key = request
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .ok_or(io::ErrorKind::InvalidData)?
        .1
        .trim();

    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        BASE64_STANDARD.encode(digest)
    );
    stream.write_all(response.as_bytes()).await?;
    Ok(request.starts_with("GET /broadcast "))
}

/// The buffers that the connections of a thread share.
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { input: Vec::with_capacity(READ_BUFFER), output: Vec::with_capacity(READ_BUFFER) });
}

struct Connection {
    stream: TcpStream,
    subscription: Option<Subscription>,
    /// What was read and not parsed yet; empty between messages.
    partial: Vec<u8>,
    /// What could not be written at once.
    unsent: Bytes,
    /// The message that is too long for the thread's buffer, or has several fragments, behind [`FRONT`]; or empty.
    message: Vec<u8>,
    /// Its opcode.
    opcode: u8,
    last_heard: Instant,
    /// Differs, so that those who came together are not pinged together.
    keepalive: Duration,
}

struct Subscription {
    hub: Arc<Hub>,
    receiver: mpsc::UnboundedReceiver<Bytes>,
}

/// What is to be done when the thread's buffers are given back.
enum Next {
    /// Go on, when `unsent` is written.
    Turn,
    /// Read the rest of a payload, and send `message` if the fragment is the last.
    Payload { missing: usize, mask: [u8; 4], is_final: bool },
    /// Answer `message`, which is long.
    Message,
    /// End the connection.
    End,
}

impl Connection {
    fn new(stream: TcpStream, subscription: Option<Subscription>) -> Self {
        let port = stream.peer_addr().map_or(0, |address| address.port());
        Self {
            stream,
            subscription,
            partial: Vec::new(),
            unsent: Bytes::new(),
            message: Vec::new(),
            opcode: CONTINUATION,
            last_heard: Instant::now(),
            keepalive: KEEPALIVE.mul_f64(0.9 + 0.2 * f64::from(port % 1000) / 1000.0),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let mut silence = pin!(sleep(self.keepalive));
        loop {
            let next = std::future::poll_fn(|cx| self.poll_turn(cx, silence.as_mut())).await?;
            if !self.unsent.is_empty() {
                self.stream.write_all_buf(&mut self.unsent).await?;
                self.unsent = Bytes::new();
            }
            match next {
                Next::Turn => {}
                Next::Payload { missing, mask, is_final } => {
                    self.read_payload(missing, mask).await?;
                    if is_final {
                        self.send_message().await?;
                    }
                }
                Next::Message => self.send_message().await?,
                Next::End => return self.stream.shutdown().await,
            }
        }
    }

    /// Answers what comes until no more is there, or something has to be waited for.
    fn poll_turn(&mut self, cx: &mut Context<'_>, silence: Pin<&mut Sleep>) -> Poll<io::Result<Next>> {
        if let Some(subscription) = &mut self.subscription {
            while let Poll::Ready(Some(mut frame)) = subscription.receiver.poll_recv(cx) {
                frame.advance(send_now(&mut self.stream, cx, &frame)?);
                if !frame.is_empty() {
                    self.unsent = frame;
                    return Poll::Ready(Ok(Next::Turn));
                }
            }
        }
        if let Poll::Ready(next) = BUFFERS.with_borrow_mut(|buffers| self.poll_frames(cx, buffers))? {
            return Poll::Ready(Ok(next));
        }
        self.poll_keepalive(cx, silence)
    }

    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        Buffers { input, output }: &mut Buffers,
    ) -> Poll<io::Result<Next>> {
        input.clear();
        input.append(&mut std::mem::take(&mut self.partial));
        loop {
            output.clear();
            let (parsed, next) = self.take_frames(input, output)?;
            input.drain(..parsed);
            let sent = send_now(&mut self.stream, cx, output)?;
            self.unsent = Bytes::copy_from_slice(&output[sent..]);
            if let Some(next) = next.or((!self.unsent.is_empty()).then_some(Next::Turn)) {
                self.partial.extend_from_slice(input);
                return Poll::Ready(Ok(next));
            }

            match poll_read_buf(Pin::new(&mut self.stream), cx, input)? {
                Poll::Ready(0) => return Poll::Ready(Ok(Next::End)),
                Poll::Ready(_) => self.last_heard = Instant::now(),
                Poll::Pending => {
                    self.partial.extend_from_slice(input);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes frames from the front of `input`, and writes the answers to `output`; returns how much it has taken.
    fn take_frames(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> io::Result<(usize, Option<Next>)> {
        let mut taken = 0;
        while let Some(header) = Header::parse(&input[taken..])? {
            let end = taken + header.size + header.length;
            let missing = end.saturating_sub(input.len());
            if missing > 0 && end - taken <= READ_BUFFER {
                break;
            }
            let payload = &mut input[taken + header.size..end - missing];
            let mask = unmask(payload, header.mask);
            taken = end - missing;

            if !header.is_control() && (missing > 0 || !header.is_final || header.opcode == CONTINUATION) {
                self.begin_fragment(header)?;
                self.message.extend_from_slice(payload);
                if missing > 0 {
                    let next = Next::Payload { missing, mask, is_final: header.is_final };
                    return Ok((taken, Some(next)));
                }
                if header.is_final && self.message.len() > READ_BUFFER {
                    return Ok((taken, Some(Next::Message)));
                }
                if header.is_final {
                    self.answer(output, self.opcode, &self.message[FRONT..]);
                    self.message.clear();
                }
                continue;
            }
            match header.opcode {
                PONG => {}
                PING => put_frame(output, PONG, payload),
                CLOSE => {
                    put_frame(output, CLOSE, payload);
                    return Ok((taken, Some(Next::End)));
                }
                opcode => self.answer(output, opcode, payload),
            }
        }
        Ok((taken, None))
    }

    /// Answers a short message.
    fn answer(&self, output: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
        match &self.subscription {
            Some(subscription) => subscription.hub.send(opcode, payload),
            None => put_frame(output, opcode, payload),
        }
    }

    /// Makes room in `message`.
    fn begin_fragment(&mut self, header: Header) -> io::Result<()> {
        if header.opcode != CONTINUATION {
            self.opcode = header.opcode;
            self.message.resize(FRONT, 0);
        }
        if self.message.len() < FRONT || self.message.len() - FRONT + header.length > MAX_MESSAGE_SIZE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.message.reserve(header.length);
        Ok(())
    }

    /// Reads the rest of a payload to the end of `message`.
    async fn read_payload(&mut self, mut missing: usize, mut mask: [u8; 4]) -> io::Result<()> {
        while missing > 0 {
            let start = self.message.len();
            let read = self.stream.read_buf(&mut (&mut self.message).limit(missing.min(CHUNK))).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            mask = unmask(&mut self.message[start..], mask);
            missing -= read;
        }
        self.last_heard = Instant::now();
        Ok(())
    }

    /// Answers `message`. Its buffer is kept for the next one.
    async fn send_message(&mut self) -> io::Result<()> {
        if let Some(subscription) = &self.subscription {
            subscription.hub.send(self.opcode, &self.message[FRONT..]);
        } else {
            let mut header = Vec::with_capacity(MAX_HEADER);
            put_header(&mut header, self.opcode, self.message.len() - FRONT);
            let start = FRONT - header.len();
            self.message[start..FRONT].copy_from_slice(&header);
            self.stream.write_all(&self.message[start..]).await?;
        }
        self.message.clear();
        Ok(())
    }

    /// Looks after a silent peer. The timer is set anew only when it has run out.
    fn poll_keepalive(
        &mut self,
        cx: &mut Context<'_>,
        mut silence: Pin<&mut Sleep>,
    ) -> Poll<io::Result<Next>> {
        loop {
            ready!(silence.as_mut().poll(cx));
            let silent = self.last_heard.elapsed();
            if silent < self.keepalive {
                silence.as_mut().reset(self.last_heard + self.keepalive);
            } else if silent < 2 * self.keepalive {
                if self.message.is_empty() {
                    self.message = Vec::new();
                }
                silence.as_mut().reset(self.last_heard + 2 * self.keepalive);
                self.unsent = Bytes::from_static(&[0x80 | PING, 0]);
                return Poll::Ready(Ok(Next::Turn));
            } else {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }
}

/// Sends as much as can be sent without waiting; returns how much that is.
fn send_now(stream: &mut TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match Pin::new(&mut *stream).poll_write(cx, &bytes[sent..])? {
            Poll::Ready(written) => sent += written,
            Poll::Pending => break,
        }
    }
    Ok(sent)
}

/// The header of a frame from a client.
#[derive(Clone, Copy)]
struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Of the payload.
    length: usize,
    /// Of the header.
    size: usize,
}

impl Header {
    /// Parses the header that `bytes` begin with, if it is complete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let (length, rest) = match second & 0x7f {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (length.into(), rest),
        };
        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(length).ok().filter(|&it| it <= MAX_MESSAGE_SIZE);
        Ok(Some(Self {
            is_final: first & 0x80 != 0,
            opcode: first & 0x0f,
            mask,
            length: length.ok_or(io::ErrorKind::InvalidData)?,
            size: bytes.len() - rest.len(),
        }))
    }

    fn is_control(self) -> bool {
        self.opcode >= CLOSE
    }
}

/// Unmasks a part of a payload; returns the mask of what follows it.
fn unmask(payload: &mut [u8], mut mask: [u8; 4]) -> [u8; 4] {
    let wide = u128::from_ne_bytes([mask; 4].as_flattened().try_into().unwrap_or_default());
    let (chunks, rest) = payload.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
    mask
}

fn put_frame(output: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    put_header(output, opcode, payload.len());
    output.extend_from_slice(payload);
}

fn put_header(output: &mut Vec<u8>, opcode: u8, length: usize) {
    output.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => output.push(length),
        (_, Ok(length)) => {
            output.push(126);
            output.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            output.push(127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
