//! Clients that read or do not, and a log that is slow, fails and panics.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use ws_core::{Message, Outcome, WebSocket, WebSocketLayer, testing};
use ws_hub::{
    Acknowledge, After, Append, Appended, Durability, Hub, Log, LogError, Member, MemoryLog, MessageId, Page,
    Read,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const ANNA: u64 = 1;
pub(crate) const BOB: u64 = 2;
pub(crate) const CARL: u64 = 3;

/// A connection of a client that reads.
pub(crate) fn connect(hub: &Hub<u64>, user: u64) -> WebSocket {
    let hub = hub.clone();
    testing::connect(async move |socket| hub.attach(user, socket).await)
}

/// The same, when the hub knows of it.
pub(crate) async fn login(hub: &Hub<u64>, user: u64) -> WebSocket {
    let client = connect(hub, user);
    settle().await;
    assert!(hub.is_online(&user));
    client
}

/// A connection with a handler.
pub(crate) fn connect_with<F, Fut>(hub: &Hub<u64>, user: u64, handler: F) -> WebSocket
where
    F: FnOnce(Member<u64>) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    let hub = hub.clone();
    testing::connect(async move |socket| hub.attach_with(user, socket, handler).await)
}

/// A client that is told what to read. Its connection takes one message at a time into its own buffer, and the pipe
/// takes 16 bytes: what else is sent to it waits in the hub's queue.
pub(crate) async fn scripted(hub: &Hub<u64>, user: u64) -> Scripted {
    let hub = hub.clone();
    scripted_with(&narrow(), async move |socket| hub.attach(user, socket).await).await
}

/// A layer with the smallest outbound buffer, and no limit of time for those who do not read.
pub(crate) fn narrow() -> WebSocketLayer {
    WebSocketLayer::new().outbound_buffer(1).ping_interval(None).send_timeout(None)
}

pub(crate) async fn scripted_with<F, Fut>(layer: &WebSocketLayer, handler: F) -> Scripted
where
    F: FnOnce(WebSocket) -> Fut + Send + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    let (server, stream) = duplex(16);
    tokio::spawn(testing::accept(layer, server, handler));
    settle().await;
    Scripted { stream, received: Vec::new(), pongs: true }
}

/// A client, frame by frame.
pub(crate) struct Scripted {
    stream: DuplexStream,
    received: Vec<u8>,
    /// Whether it answers pings.
    pub(crate) pongs: bool,
}

/// A frame that is no ping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Close(u16, String),
}

impl Scripted {
    async fn write(&mut self, head: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        // a key of zeros leaves the payload as it is
        let frame = [&[head, 0x80 | length, 0, 0, 0, 0][..], payload].concat();
        // the server may be gone
        let _ = self.stream.write_all(&frame).await;
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.write(0x81, text.as_bytes()).await;
    }

    pub(crate) async fn close(&mut self, code: u16) {
        self.write(0x88, &code.to_be_bytes()).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        soon(async {
            loop {
                let (head, payload) = self.frame().await?;
                match head {
                    0x81 => return Some(Frame::Text(String::from_utf8(payload).unwrap())),
                    0x88 => {
                        let code = u16::from_be_bytes([payload[0], payload[1]]);
                        return Some(Frame::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap()));
                    }
                    0x89 if self.pongs => self.write(0x8a, &payload).await,
                    0x89 => {}
                    other => panic!("a frame with the head {other:#x}"),
                }
            }
        })
        .await
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((head, payload, end)) = parse(&self.received) {
                self.received.drain(..end);
                return Some((head, payload));
            }
            if self.stream.read_buf(&mut self.received).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next text.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Frame::Text(text)) => text,
            other => panic!("{other:?} in place of a text"),
        }
    }

    /// All texts up to the Close frame, which it answers, and that.
    pub(crate) async fn rest(mut self) -> (Vec<String>, Option<(u16, String)>) {
        let mut texts = Vec::new();
        loop {
            match self.next().await {
                Some(Frame::Text(text)) => texts.push(text),
                Some(Frame::Close(code, reason)) => {
                    self.write(0x88, &code.to_be_bytes()).await;
                    return (texts, Some((code, reason)));
                }
                None => return (texts, None),
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (&head, &short) = (bytes.first()?, bytes.get(1)?);
    let (length, start) = match short {
        126 => (number(bytes.get(2..4)?), 4),
        127 => (number(bytes.get(2..10)?), 10),
        short => (usize::from(short), 2),
    };
    Some((head, bytes.get(start..start + length)?.to_vec(), start + length))
}

/// A handler that does.
pub(crate) fn panics() {
    panic!("the handler panics, as it was told to");
}

/// Lets all tasks run until they wait.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// A test that hangs fails instead.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(24 * 3600), future).await.expect("nothing happens any more")
}

/// The next message of a client, a text.
pub(crate) async fn text(client: &mut WebSocket) -> String {
    match soon(client.recv()).await {
        Some(Ok(message)) => message.as_text().unwrap().to_owned(),
        other => panic!("{other:?} in place of a text: {:?}", client.close_frame()),
    }
}

pub(crate) async fn texts(client: &mut WebSocket, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(client).await);
    }
    texts
}

/// All texts up to the end of the connection, and how it was closed.
pub(crate) async fn rest(mut client: WebSocket) -> (Vec<String>, Option<(u16, String)>) {
    let mut texts = Vec::new();
    while let Some(Ok(message)) = soon(client.recv()).await {
        texts.push(message.as_text().unwrap().to_owned());
    }
    let frame = client.close_frame().map(|frame| (frame.code.into(), frame.reason.to_string()));
    (texts, frame)
}

/// Nothing comes to this client, and its connection goes on.
pub(crate) async fn assert_silent(client: &mut WebSocket) {
    let next = timeout(SECOND / 10, client.recv()).await;
    assert!(next.is_err(), "{next:?} in place of nothing");
}

/// `prefix 0`, `prefix 1`, …
pub(crate) fn numbered(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix} {number}")).collect()
}

/// What a log does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fails,
    Panics,
    /// Does what it is asked for, and never answers.
    Hangs,
    /// Lets others run, does what it is asked for, and lets others run.
    Yields,
    /// Waits this long, does what it is asked for, and waits once more.
    Slow(Duration),
    /// Reads no messages, though it says that there are some.
    Withholds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Append,
    Read,
    Acknowledge,
    GiveBack,
}

/// A log in memory that takes its time, or fails, when it is told to. It does nothing at once.
#[derive(Clone)]
pub(crate) struct TestLog(Arc<Contents>);

struct Contents {
    log: MemoryLog<u64>,
    moods: Mutex<HashMap<Call, Mood>>,
    calls: AtomicUsize,
}

impl Default for TestLog {
    fn default() -> Self {
        Self::keeping(MemoryLog::new().per_user(100_000, 64 * 1024 * 1024))
    }
}

impl TestLog {
    pub(crate) fn keeping(log: MemoryLog<u64>) -> Self {
        Self(Arc::new(Contents { log, moods: Mutex::default(), calls: AtomicUsize::new(0) }))
    }

    pub(crate) fn feels(&self, call: Call, mood: impl Into<Option<Mood>>) {
        let mut moods = self.0.moods.lock().unwrap();
        match mood.into() {
            Some(mood) => moods.insert(call, mood),
            None => moods.remove(&call),
        };
    }

    pub(crate) fn slow(time: Duration) -> Self {
        let log = Self::default();
        log.takes(time);
        log
    }

    /// Each of its calls takes twice this long.
    pub(crate) fn takes(&self, time: Duration) {
        for call in [Call::Append, Call::Read, Call::Acknowledge, Call::GiveBack] {
            self.feels(call, Mood::Slow(time));
        }
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// What is not delivered to a user.
    pub(crate) fn texts(&self, user: u64) -> Vec<String> {
        let page = Page { messages: usize::MAX, bytes: usize::MAX };
        let read = self.0.log.read(&user, After::Cursor, page).now_or_never().unwrap().unwrap();
        read.entries.iter().map(|entry| entry.message.as_text().unwrap().to_owned()).collect()
    }

    pub(crate) fn put(&self, user: u64, texts: &[String]) {
        for text in texts {
            let message = Message::text(text.as_str());
            self.0.log.append_now(&Append::new(&user, MessageId::random(), &message)).unwrap();
        }
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        work: BoxFuture<'a, T>,
        failed: impl FnOnce() -> T + Send + 'a,
    ) -> BoxFuture<'a, T> {
        Box::pin(async move {
            self.0.calls.fetch_add(1, Ordering::Relaxed);
            let mood = self.0.moods.lock().unwrap().get(&call).copied();
            match mood {
                Some(Mood::Fails) => failed(),
                Some(Mood::Panics) => panic!("the log panics, as it was told to"),
                Some(Mood::Hangs) => {
                    work.await;
                    pending().await
                }
                Some(Mood::Yields) => {
                    yield_now().await;
                    let result = work.await;
                    yield_now().await;
                    result
                }
                Some(Mood::Slow(time)) => {
                    sleep(time).await;
                    let result = work.await;
                    sleep(time).await;
                    result
                }
                Some(Mood::Withholds) | None => work.await,
            }
        })
    }
}

fn refused() -> LogError {
    LogError::refused("out of order")
}

impl Log<u64> for TestLog {
    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        let failed = || batch.iter().map(|_| Err(refused())).collect();
        self.call(Call::Append, self.0.log.append(batch), failed)
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        let withholds = self.0.moods.lock().unwrap().get(&Call::Read) == Some(&Mood::Withholds);
        let read = async move {
            let mut read = self.0.log.read(user, after, page).await?;
            read.entries.truncate(if withholds { 0 } else { usize::MAX });
            Ok(read)
        };
        self.call(Call::Read, Box::pin(read), || Err(refused()))
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, u64>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        let failed = || batch.iter().map(|_| Err(refused())).collect();
        self.call(Call::Acknowledge, self.0.log.acknowledge(batch), failed)
    }

    fn give_back<'a>(&'a self, user: &'a u64, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        self.call(Call::GiveBack, self.0.log.give_back(user, number), || Err(refused()))
    }
}
