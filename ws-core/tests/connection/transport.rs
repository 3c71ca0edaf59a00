//! Transports of all kinds, and how often the driver uses them.

use std::future::{Future as _, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use ws_core::{Drain, WebSocket, WebSocketLayer, testing};

use crate::support::{Frame, HOUR, Peer, SECOND, ask, echo, numbers, open, received, serve, settle, wire};

#[tokio::test(start_paused = true)]
async fn a_transport_of_one_byte_at_a_time_changes_nothing() {
    let peer = serve(&WebSocketLayer::new(), echo);
    peer.state().step = 1;
    let mut frames = numbers(50);
    frames.push(Frame::binary(vec![7; 5_000]));
    frames.push(Frame::close(1000, "bye"));
    peer.send_all(&frames);
    assert_eq!(peer.rest().await, frames);
}

#[tokio::test(start_paused = true)]
async fn an_end_at_any_byte_is_an_error_after_the_messages_before_it() {
    let bytes: Vec<u8> = numbers(3).iter().flat_map(Frame::masked).collect();
    let length = bytes.len() / 3;
    for cut in 0..=bytes.len() {
        let (peer, texts) =
            ask(&WebSocketLayer::new(), async |mut socket: WebSocket| received(&mut socket).await);
        peer.send_bytes(&bytes[..cut]);
        peer.end_with((cut % 2 == 0).then_some(io::ErrorKind::ConnectionReset));
        let texts = texts.get().await;
        assert_eq!(texts.len(), cut / length + 1, "{cut}: {texts:?}");
        assert!(texts.last().unwrap().starts_with("error: the peer disconnected"));
        peer.dropped().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_flood_of_pings_the_newest_is_answered_and_memory_is_bounded() {
    let (socket, peer) = open(&WebSocketLayer::new().ping_interval(None).send_timeout(None)).await;
    peer.allow(0);
    socket.sender().send("blocked").await.unwrap();
    settle().await;
    for number in 0..100_000_u32 {
        peer.send(&Frame::ping(&number.to_be_bytes()));
    }
    settle().await;
    peer.allow_all();
    settle().await;
    let written = peer.state().written();
    assert!(written < 65 * 1024, "{written} bytes had been kept");
    assert_eq!(peer.seen().last(), Some(&Frame::pong(&99_999_u32.to_be_bytes())));
}

#[tokio::test(start_paused = true)]
async fn each_ping_of_one_read_is_answered() {
    let peer = serve(&WebSocketLayer::new(), echo);
    let pings: Vec<_> = (0..100).map(|number| Frame::ping(&[number])).collect();
    peer.send_all(&pings);
    settle().await;
    let answers: Vec<_> = (0..100).map(|number| Frame::pong(&[number])).collect();
    assert_eq!(peer.seen(), answers);
}

/// A connection's task that counts how often it is polled.
fn counted<F: Future<Output = ()> + Send + 'static>(task: F) -> Arc<AtomicUsize> {
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    tokio::spawn(async move {
        let mut task = pin!(task);
        std::future::poll_fn(|cx| {
            count.fetch_add(1, Ordering::Relaxed);
            task.as_mut().poll(cx)
        })
        .await;
    });
    polls
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_sleeps() {
    let (transport, peer) = wire();
    let layer = WebSocketLayer::new().ping_interval(None);
    let polls = counted(testing::accept(&layer, transport, echo));
    settle().await;
    polls.store(0, Ordering::Relaxed);
    sleep(HOUR).await;
    assert_eq!(polls.load(Ordering::Relaxed), 0);
    peer.send(&Frame::text("hello"));
    settle().await;
    assert_eq!(polls.load(Ordering::Relaxed), 1);
}

/// What the peer does at first.
type Prepare = fn(&Peer);

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_sleeps() {
    let layer = WebSocketLayer::new().send_timeout(None).close_timeout(HOUR);
    let cases: [(&str, Prepare); 5] = [
        ("at the inbound bound", |peer| peer.send_all(&numbers(100))),
        ("inside of a message", |peer| peer.send_bytes(&Frame::text("half").masked()[..7])),
        ("until messages before the Close are taken", |peer| {
            peer.send_all(&[Frame::text("unread"), Frame::close(1000, "")]);
        }),
        ("after a protocol error behind a message", |peer| {
            peer.send(&Frame::text("unread"));
            peer.send_bytes(&[0xff; 10]);
        }),
        ("with pings that cannot be answered", |peer| {
            peer.allow(0);
            peer.send_all(&vec![Frame::ping(b"?"); 100]);
        }),
    ];
    for (name, prepare) in cases {
        let (transport, peer) = wire();
        prepare(&peer);
        let polls = counted(testing::accept(&layer, transport, async |socket: WebSocket| {
            pending::<()>().await;
            drop(socket);
        }));
        sleep(10 * SECOND).await;
        let polls = polls.load(Ordering::Relaxed);
        assert!(polls <= 2, "{name}: {polls}");
    }
}

struct CountedWakes(AtomicUsize);

impl Wake for CountedWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The newest waker, and how often it has been called.
fn waker() -> (Arc<CountedWakes>, Waker) {
    let wakes = Arc::new(CountedWakes(AtomicUsize::new(0)));
    (Arc::clone(&wakes), wakes.into())
}

fn woken(wakes: &CountedWakes) -> bool {
    wakes.0.swap(0, Ordering::Relaxed) > 0
}

#[tokio::test(start_paused = true)]
async fn a_task_that_moves_is_woken_where_it_is() {
    let (transport, peer) = wire();
    let (give, given) = tokio::sync::oneshot::channel();
    let layer = WebSocketLayer::new();
    let mut task = pin!(testing::accept(&layer, transport, async |socket: WebSocket| {
        let _ = give.send(socket);
    }));
    let mut poll = |waker: &Waker| task.as_mut().poll(&mut Context::from_waker(waker)).is_pending();

    let (old, old_waker) = waker();
    assert!(poll(&old_waker));
    let socket = given.await.unwrap();
    old.0.store(0, Ordering::Relaxed);
    let (new, new_waker) = waker();
    assert!(poll(&new_waker));
    assert!(!woken(&new));

    peer.send(&Frame::text("by the transport"));
    assert!(woken(&new));
    assert!(poll(&new_waker));
    socket.sender().send("by a sender").await.unwrap();
    assert!(woken(&new));
    assert!(poll(&new_waker));
    sleep(23 * SECOND).await;
    assert!(woken(&new), "by the timer");
    assert!(poll(&new_waker));
    assert!(layer.connections().drain(Drain::new()).now_or_never().is_none());
    assert!(woken(&new), "by a drain");
    assert!(!woken(&old));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_waits_in_the_task_of_the_connection_is_woken() {
    let (transport, peer) = wire();
    let (give, given) = tokio::sync::oneshot::channel();
    let mut task = pin!(testing::accept(&WebSocketLayer::new(), transport, async |socket: WebSocket| {
        let _ = give.send(socket);
    }));
    let (counter, waker) = waker();
    let mut cx = Context::from_waker(&waker);
    assert!(task.as_mut().poll(&mut cx).is_pending());
    let mut socket = given.await.unwrap();
    let mut recv = pin!(socket.recv());
    assert!(recv.as_mut().poll(&mut cx).is_pending());

    peer.send(&Frame::text("hello"));
    woken(&counter);
    assert!(task.as_mut().poll(&mut cx).is_pending());
    assert!(woken(&counter), "the other future in the task waits as well");
    assert!(recv.poll(&mut cx).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_outlives_its_connection_keeps_nothing_of_the_task() {
    let (transport, peer) = wire();
    let (give, given) = tokio::sync::oneshot::channel();
    let mut task = testing::accept(&WebSocketLayer::new(), transport, async |socket: WebSocket| {
        let _ = give.send(socket.sender());
    });
    let (counter, waker) = waker();
    peer.end();
    while Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending() {}
    let sender = given.await.unwrap();
    drop((task, waker));
    assert_eq!(Arc::strong_count(&counter), 1);
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_moves_while_no_time_counts_is_woken_where_it_is() {
    let (transport, peer) = wire();
    let layer = WebSocketLayer::new().ping_interval(None);
    let mut task = pin!(testing::accept(&layer, transport, echo));
    let mut poll = |waker: &Waker| task.as_mut().poll(&mut Context::from_waker(waker)).is_pending();

    // a message begins and ends: the timer is set, and then not needed
    let (_, old_waker) = waker();
    peer.send_bytes(&Frame::text("a").masked()[..3]);
    assert!(poll(&old_waker));
    peer.send_bytes(&Frame::text("a").masked()[3..]);
    assert!(poll(&old_waker));

    let (new, new_waker) = waker();
    assert!(poll(&new_waker));
    peer.send_bytes(&Frame::text("b").masked()[..3]);
    assert!(woken(&new));
    assert!(poll(&new_waker));
    assert!(!woken(&new));
    sleep(61 * SECOND).await;
    assert!(woken(&new), "the message is late");
}

/// A peer that always has the same frames to send, and takes everything.
struct Flood {
    frames: Vec<u8>,
    at: usize,
    /// Bytes sent.
    sent: Arc<AtomicUsize>,
}

impl Flood {
    fn of(frame: &Frame) -> Self {
        let mut frames = frame.masked();
        if *frame == Frame::new(0x02, []) {
            // a message without end, of empty continuations
            frames.extend([Frame::new(0x00, []).masked(), Frame::new(0x80, []).masked()].concat());
        }
        Self { frames, at: 0, sent: Arc::default() }
    }
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.sent.fetch_add(buf.remaining(), Ordering::Relaxed);
        while buf.remaining() > 0 {
            let count = buf.remaining().min(self.frames.len() - self.at);
            buf.put_slice(&self.frames[self.at..self.at + count]);
            self.at = (self.at + count) % self.frames.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flood_leaves_other_tasks_their_turn() {
    let layer = WebSocketLayer::new().max_fragments(usize::MAX);
    for frame in [Frame::ping(&[7; 125]), Frame::new(0x02, []), Frame::text("hello")] {
        let flood = Flood::of(&frame);
        let task = tokio::spawn(testing::accept(&layer, flood, echo));
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        task.abort();
    }
}

#[tokio::test]
async fn a_flood_is_read_for_a_short_turn_at_a_time() {
    let layer = WebSocketLayer::new();
    let layer = layer.max_fragments(usize::MAX);
    let floods = [Frame::ping(&[7; 125]), Frame::new(0x8a, []), Frame::new(0x02, []), Frame::text("hello")];
    for frame in floods {
        let flood = Flood::of(&frame);
        let sent = Arc::clone(&flood.sent);
        let mut task = pin!(testing::accept(&layer, flood, echo));
        let (counter, waker) = waker();
        for turn in 1..50 {
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let sent = sent.load(Ordering::Relaxed);
            assert!(sent <= turn * 80 * 1024, "{sent} bytes were read in {turn} turns");
            assert!(woken(&counter), "there is more to read");
        }
        // the smallest ones are counted by their number
        let bytes = sent.load(Ordering::Relaxed);
        assert!(
            frame.masked().len() > 10 || bytes <= 50 * 16 * 1024,
            "{bytes} bytes of empty frames were read"
        );
    }
}
