//! A connection of a user, frame by frame: its task and its client have a thread each.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread::{self, JoinHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::oneshot;
use ws_core::{Outcome, WebSocket, WebSocketLayer, testing};

use super::{Cut, LAST, USER, unless_cut};
use crate::hub::Hub;
use crate::member::Member;

/// Where a client writes, until it is gone.
type Writer = Mutex<Option<WriteHalf<DuplexStream>>>;

/// How a client ends its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// It reads until the server has closed.
    Polite,
    /// It is gone after its first message.
    Vanishes,
    /// It closes when it has got the last message that is sent.
    UntilLast,
}

/// What a client has got.
pub(super) struct Got {
    pub(super) texts: Vec<String>,
    /// The code with which the server has closed the connection, or answered its end.
    pub(super) code: Option<u16>,
}

pub(super) struct Client {
    writer: Arc<Writer>,
    serving: JoinHandle<()>,
    reading: JoinHandle<Got>,
    entered: oneshot::Receiver<()>,
    has_last: oneshot::Receiver<()>,
}

impl Client {
    /// One of the user's, whose pipe takes so many bytes.
    pub(super) fn connect(hub: &Hub<u64>, pipe: usize, manners: Manners) -> Self {
        Self::of(USER, hub, pipe, manners)
    }

    pub(super) fn of(user: u64, hub: &Hub<u64>, pipe: usize, manners: Manners) -> Self {
        let hub = hub.clone();
        Self::serve(pipe, manners, async move |socket, entered| {
            hub.attach_with(user, socket, async |mut member: Member<u64>| {
                let _ = entered.send(());
                while let Some(Ok(_)) = member.recv().await {}
            })
            .await
        })
    }

    /// One of the user's, whose task gives it up when it is told to.
    pub(super) fn connect_until_cut(hub: &Hub<u64>, pipe: usize, manners: Manners) -> (Self, Cut) {
        let hub = hub.clone();
        let (cut, is_cut) = Cut::new();
        let client = Self::serve(pipe, manners, async move |socket, entered| {
            let handler = async |mut member: Member<u64>| {
                let _ = entered.send(());
                while let Some(Ok(_)) = member.recv().await {}
            };
            unless_cut(is_cut, hub.attach_with(USER, socket, handler)).await.unwrap_or(Ok(()))
        });
        (client, cut)
    }

    /// One with this handler, which says when it is let in.
    pub(super) fn serve<F, Fut>(pipe: usize, manners: Manners, handler: F) -> Self
    where
        F: FnOnce(WebSocket, oneshot::Sender<()>) -> Fut + Send + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let (enter, entered) = oneshot::channel();
        let handler = async move |socket| handler(socket, enter).await;
        let (server, client) = duplex(pipe);
        let layer = WebSocketLayer::new().outbound_buffer(pipe).ping_interval(None).send_timeout(None);
        let task = testing::accept(&layer, server, handler);
        let serving = thread::spawn(move || block_on(task));
        let (reader, writer) = split(client);
        let writer = Arc::new(Mutex::new(Some(writer)));
        let (get_last, has_last) = oneshot::channel();
        let reading = {
            let writer = Arc::clone(&writer);
            thread::spawn(move || {
                let got = block_on(read(reader, &writer, manners, get_last));
                *writer.lock().unwrap() = None;
                got
            })
        };
        Self { writer, serving, reading, entered, has_last }
    }

    /// Waits until it is let in, or is not. Returns which.
    pub(super) fn is_let_in(&mut self) -> bool {
        block_on(&mut self.entered).is_ok()
    }

    /// Waits until it has got the last message that is sent.
    pub(super) fn gets_last(&mut self) {
        block_on(&mut self.has_last).expect("it comes");
    }

    /// Ends the connection, and returns what came.
    pub(super) fn close(self) -> Got {
        block_on(write(&self.writer, 0x88, &1000_u16.to_be_bytes()));
        self.over()
    }

    /// Waits for the end of the connection, and returns what came.
    pub(super) fn over(self) -> Got {
        self.serving.join().unwrap();
        self.reading.join().unwrap()
    }
}

async fn write(writer: &Writer, head: u8, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap();
    // a key of zeros leaves the payload as it is
    let frame = [&[head, 0x80 | length, 0, 0, 0, 0][..], payload].concat();
    if let Some(writer) = &mut *writer.lock().unwrap() {
        // the server may be gone
        let _ = writer.write_all(&frame).await;
    }
}

/// Reads texts, and answers pings, until the end of the stream.
async fn read(
    mut reader: ReadHalf<DuplexStream>,
    writer: &Writer,
    manners: Manners,
    get_last: oneshot::Sender<()>,
) -> Got {
    let mut got = Got { texts: Vec::new(), code: None };
    let mut get_last = Some(get_last);
    loop {
        let mut head = [0; 2];
        if reader.read_exact(&mut head).await.is_err() {
            return got;
        }
        let mut payload = vec![0; usize::from(head[1])];
        if reader.read_exact(&mut payload).await.is_err() {
            return got;
        }
        match head[0] {
            0x81 => got.texts.push(String::from_utf8(payload).unwrap()),
            0x88 => {
                got.code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                write(writer, 0x88, &payload).await;
            }
            0x89 => write(writer, 0x8a, &payload).await,
            other => panic!("a frame with the head {other:#x}"),
        }
        if head[0] != 0x81 {
            continue;
        }
        if manners == Manners::Vanishes {
            return got;
        }
        if got.texts.last().is_some_and(|text| text.ends_with(LAST)) {
            get_last.take().map(|it| it.send(()));
            if manners == Manners::UntilLast {
                write(writer, 0x88, &1000_u16.to_be_bytes()).await;
            }
        }
    }
}
