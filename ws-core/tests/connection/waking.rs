//! What has a handler polled, and what does not.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::task::noop_waker;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;
use ws_core::{Sender, WebSocket, WebSocketLayer, testing};

use crate::support::{Frame, Peer, SECOND, serve, settle, wire};

/// What a handler tells of its polls.
#[derive(Default)]
struct Polls {
    count: AtomicUsize,
    /// The one it was last polled with.
    waker: Mutex<Option<Waker>>,
}

impl Polls {
    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The handler is polled.
    fn polled(&self, cx: &Context<'_>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap().clone();
        waker.expect("a handler that was polled").wake();
    }
}

/// Keeps the socket, waits, and counts its polls.
struct Counting {
    _socket: WebSocket,
    polls: Arc<Polls>,
}

impl Future for Counting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.polled(cx);
        Poll::Pending
    }
}

/// A connection whose handler counts its polls, and was polled for the first time.
async fn counting() -> (Peer, Sender, Arc<Polls>) {
    let polls = Arc::new(Polls::default());
    let (sender, sent) = tokio::sync::oneshot::channel();
    let peer = serve(&WebSocketLayer::new(), {
        let polls = Arc::clone(&polls);
        |socket: WebSocket| {
            let _ = sender.send(socket.sender());
            Counting { _socket: socket, polls }
        }
    });
    settle().await;
    assert_eq!(polls.count(), 1);
    (peer, sent.await.unwrap(), polls)
}

#[tokio::test(start_paused = true)]
async fn what_another_task_sends_does_not_poll_the_handler() {
    let (peer, sender, polls) = counting().await;
    for _ in 0..10 {
        sender.send("news").await.unwrap();
        assert_eq!(peer.next().await, Some(Frame::text("news")));
        settle().await;
    }
    assert_eq!(polls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_sends_does_not_poll_a_handler_that_does_not_receive() {
    let (peer, _sender, polls) = counting().await;
    peer.send(&Frame::text("for later"));
    peer.send(&Frame::ping(b"there?"));
    assert_eq!(peer.next().await, Some(Frame::pong(b"there?")));
    settle().await;
    assert_eq!(polls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn keepalive_does_not_poll_the_handler() {
    let (peer, _sender, polls) = counting().await;
    let mut pings = 0;
    while pings < 3 {
        pings += usize::from(peer.next().await.unwrap().is_ping());
        peer.send(&Frame::pong(b"whatever"));
    }
    settle().await;
    assert_eq!(polls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wake_polls_the_handler_once() {
    let (_peer, _sender, polls) = counting().await;
    for expected in 2..5 {
        polls.wake();
        settle().await;
        assert_eq!(polls.count(), expected);
    }
    for _ in 0..10 {
        polls.wake();
    }
    settle().await;
    assert_eq!(polls.count(), 5, "one poll for wakes that come together");
}

#[tokio::test(start_paused = true)]
async fn a_message_polls_the_handler_that_waits_for_it_once() {
    let polls = Arc::new(Polls::default());
    let peer = serve(&WebSocketLayer::new(), {
        let polls = Arc::clone(&polls);
        async move |mut socket: WebSocket| {
            loop {
                let mut receiving = pin!(socket.recv());
                let message = poll_fn(|cx| {
                    polls.polled(cx);
                    receiving.as_mut().poll(cx)
                });
                if message.await.is_none() {
                    return;
                }
            }
        }
    });
    settle().await;
    for number in 1..4 {
        assert_eq!(polls.count(), 2 * number - 1);
        peer.send(&Frame::text("for the handler"));
        settle().await;
        // with the message, and for the next one in the same turn
        assert_eq!(polls.count(), 2 * number + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_wakes_itself_lets_other_tasks_run() {
    const YIELDS: usize = 100;
    let others = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let others = Arc::clone(&others);
        poll_fn(move |cx| {
            others.fetch_add(1, Ordering::SeqCst);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
    });
    let peer = serve(&WebSocketLayer::new(), async move |_socket: WebSocket| {
        let (mut yields, mut seen) = (0, 0);
        poll_fn(|cx| {
            let now = others.load(Ordering::SeqCst);
            assert!(yields == 0 || now > seen, "the other task has not run");
            (yields, seen) = (yields + 1, now);
            if yields > YIELDS {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    });
    // 1011 if it has panicked
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
    other.abort();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_yields_goes_on_and_so_does_its_connection() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for number in 0..10_000 {
        sender.send(number).unwrap();
    }
    let peer = serve(&WebSocketLayer::new(), async move |socket: WebSocket| {
        // more than a task may take in one turn
        for _ in 0..5_000 {
            receiver.recv().await.unwrap();
        }
        yield_now().await;
        socket.sender().send("half").await.unwrap();
        for _ in 0..5_000 {
            receiver.recv().await.unwrap();
        }
    });
    peer.send(&Frame::ping(b"there?"));
    assert_eq!(peer.next().await, Some(Frame::pong(b"there?")));
    assert_eq!(peer.next().await, Some(Frame::text("half")));
    assert_eq!(peer.next().await, Some(Frame::close(1000, "")));
}

#[tokio::test(start_paused = true)]
async fn a_wake_reaches_the_task_that_the_connection_has_moved_to() {
    let polls = Arc::new(Polls::default());
    let (transport, _peer) = wire();
    let mut task = testing::accept(&WebSocketLayer::new(), transport, {
        let polls = Arc::clone(&polls);
        move |socket: WebSocket| Counting { _socket: socket, polls }
    });
    let waker = noop_waker();
    assert!(task.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    polls.wake();
    let task = tokio::spawn(task);
    settle().await;
    assert_eq!(polls.count(), 2, "the wake that came before");
    polls.wake();
    settle().await;
    assert_eq!(polls.count(), 3);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_is_kept_keeps_neither_transport_nor_handler() {
    let (peer, sender, polls) = counting().await;
    let handler = Arc::downgrade(&polls);
    let waker = polls.waker.lock().unwrap().clone().unwrap();
    drop(polls);
    peer.end();
    peer.dropped().await;
    assert!(sender.closed().now_or_never().is_some());
    assert!(handler.upgrade().is_some(), "a handler that does not return stays");
    waker.wake_by_ref();
    settle().await;

    // one whose task is gone
    let (transport, peer) = wire();
    let polls = Arc::new(Polls::default());
    let task = tokio::spawn(testing::accept(&WebSocketLayer::new(), transport, {
        let polls = Arc::clone(&polls);
        move |socket: WebSocket| Counting { _socket: socket, polls }
    }));
    settle().await;
    let waker = polls.waker.lock().unwrap().clone().unwrap();
    let handler = Arc::downgrade(&polls);
    drop(polls);
    task.abort();
    peer.dropped().await;
    settle().await;
    assert!(handler.upgrade().is_none());
    waker.wake();
}

/// A subscriber that wakes the handler for each event, as one that sends the log to a handler.
struct Follower(Arc<Polls>);

impl<S: tracing::Subscriber> Layer<S> for Follower {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if self.0.count() > 0 {
            self.0.wake();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_follow_the_log_of_its_own_connection() {
    let polls = Arc::new(Polls::default());
    let follower = tracing_subscriber::registry().with(Follower(Arc::clone(&polls)));
    let _guard = tracing::subscriber::set_default(follower);
    let peer = serve(&WebSocketLayer::new(), {
        let polls = Arc::clone(&polls);
        move |socket: WebSocket| Counting { _socket: socket, polls }
    });
    settle().await;
    let before = polls.count();
    peer.send_bytes(&Frame::text("not masked").unmasked());
    assert_eq!(peer.next().await.unwrap().close_code(), 1002);
    settle().await;
    assert!(polls.count() > before, "the failure is in the log");
}

/// On threads of their own: one wakes the handler again and again, while another one sends.
#[test]
fn a_wake_from_another_thread_is_never_lost() {
    const WAKES: usize = 2_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let polls = Arc::new(Polls::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, answered) = std::sync::mpsc::channel();
        let (give, given) = tokio::sync::oneshot::channel();
        let _peer = serve(&WebSocketLayer::new().ping_interval(None), {
            let (polls, asked) = (Arc::clone(&polls), Arc::clone(&asked));
            async move |socket: WebSocket| {
                let _ = give.send(socket.sender());
                let mut last = 0;
                poll_fn(|cx| {
                    polls.polled(cx);
                    let now = asked.load(Ordering::SeqCst);
                    if now != last {
                        last = now;
                        let _ = answer.send(now);
                    }
                    if now == WAKES { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        });
        let sender = given.await.unwrap();
        let sending = tokio::spawn(async move { while sender.send("news").await.is_ok() {} });
        let waking = std::thread::spawn(move || {
            for number in 1..=WAKES {
                asked.store(number, Ordering::SeqCst);
                polls.wake();
                let answer = answered.recv_timeout(Duration::from_secs(300));
                assert_eq!(answer, Ok(number), "the handler was not polled");
            }
        });
        tokio::task::spawn_blocking(|| waking.join().unwrap()).await.unwrap();
        tokio::time::timeout(300 * SECOND, sending).await.unwrap().unwrap();
    });
}

struct CountedWakes(AtomicUsize);

impl Wake for CountedWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_is_called_by_the_waker_of_their_last_poll() {
    let (mut server, client) = testing::pair();
    let sender = server.sender();
    let mut closed = pin!(sender.closed());
    let wakes = [(); 2].map(|()| Arc::new(CountedWakes(AtomicUsize::new(0))));
    let counts = || wakes.each_ref().map(|wakes| wakes.0.load(Ordering::SeqCst));
    let [earlier, later] = wakes.each_ref().map(|wakes| Waker::from(Arc::clone(wakes)));
    for waker in [&earlier, &earlier, &later, &later] {
        assert!(closed.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    // neither is called for what is sent
    server.send("news").await.unwrap();
    settle().await;
    assert_eq!(counts(), [0, 0]);

    drop(client);
    assert!(server.recv().await.is_none_or(|end| end.is_err()));
    settle().await;
    assert_eq!(counts(), [0, 1]);
    assert!(closed.as_mut().poll(&mut Context::from_waker(&later)).is_ready());
}
