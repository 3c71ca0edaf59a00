//! A connection whose peer, user, clock and transport do what a script says.
//!
//! Whatever that is, there is no panic, memory is bounded, and:
//!
//! - What is received is what the peer sent, from its beginning; all of it, if the peer closed in order. After an error or
//!   the end nothing comes.
//! - What the peer sees are whole frames: what was sent, from its beginning, and a Close frame at most once, behind all
//!   that was sent and before nothing.
//! - No wake-up is lost: when everything waits, nobody waits for what is there, or for room that there is.
//! - When the script is over the connection ends. If the peer closes and reads, that is at once, and not by a timeout.

#![no_main]

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};
use ws_core::fuzzing::{Decoding, queued};
use ws_core::{
    Compression, Drain, Error, Message, PreparedMessage, Receiver, Sender, Side, WebSocket, WebSocketLayer,
    testing,
};
use ws_fuzz::wire::{Peer, first_bytes, frame, wire};

/// How much a connection may hold, and take.
struct Bounds {
    message: usize,
    inbound_messages: usize,
    inbound_bytes: usize,
    outbound: usize,
}

/// Of a server, small enough to be met.
const SERVER: Bounds = Bounds { message: 40_000, inbound_messages: 4, inbound_bytes: 1000, outbound: 2000 };
/// The defaults, which a client for tests has.
const CLIENT: Bounds =
    Bounds { message: 1 << 20, inbound_messages: 32, inbound_bytes: 64 * 1024, outbound: 64 * 1024 };
/// The longest message that the script can send.
const MAX_SENT: usize = 65_535;
/// The longest frame header, and the longest control frame.
const HEADER: usize = 14;
const CONTROL: usize = HEADER + 125;
/// The text that is answered in place of being received, and the answer. The user sends neither.
const HEARTBEAT: &str = "ab";
const ANSWER: &str = "still here";
/// How much is done in a script, pings for example.
const MAX_ACTIONS: usize = 60;

#[derive(Arbitrary, Debug)]
struct Script {
    setting: Setting,
    actions: Vec<Action>,
    peer_closes: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setting {
    /// A client's connection, without a handler.
    client: bool,
    deflate: bool,
    /// The user's code runs inside of the handler; otherwise the handler gives the socket away.
    inside: bool,
    handler_fails: bool,
    idle_timeout: bool,
    no_keepalive: bool,
    no_send_timeout: bool,
    /// A text is answered in place of being received.
    heartbeat: bool,
}

#[derive(Arbitrary, Clone, Debug)]
enum Action {
    /// Lets everything run until it waits.
    Settle,
    /// Lets time pass.
    Sleep {
        millis: u16,
    },
    Peer(PeerAction),
    First(SenderAction),
    Second(SenderAction),
    Receiver(ReceiverAction),
    Drain {
        millis: u16,
    },
}

#[derive(Arbitrary, Clone, Debug)]
enum PeerAction {
    Message {
        first: DataByte,
        length: u16,
    },
    Fragment {
        first: DataByte,
        length: u8,
    },
    Ping {
        length: u8,
    },
    /// The answer to a ping of this number.
    Pong {
        number: u8,
    },
    Close {
        code: u16,
    },
    Bytes(Vec<u8>),
    End,
    Reset,
    BreakOff,
    Allow {
        bytes: u8,
    },
    AllowAll,
    Step {
        bytes: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum DataByte {
    Continue,
    Text,
    Binary,
}

#[derive(Arbitrary, Clone, Debug)]
enum SenderAction {
    /// What it waits for is cancelled.
    Cancel,
    Send {
        text: bool,
        length: u16,
    },
    TrySend {
        length: u16,
    },
    Flush,
    Ping,
    Close {
        code: u16,
        reason: u8,
    },
    Closed,
    Drop,
}

#[derive(Arbitrary, Clone, Debug)]
enum ReceiverAction {
    Cancel,
    Receive,
    ReceiveAll,
    Closed,
    Drop,
}

/// What the user has done and seen.
#[derive(Debug, Default)]
struct Log {
    sent: Vec<Message>,
    received: Vec<Message>,
    errors: usize,
    /// `recv` has said that nothing comes any more.
    ended: bool,
    /// How many wait in `send`, in `flush` and in `recv`.
    writing: usize,
    receiving: usize,
}

/// Counts one who waits, until that is over or cancelled.
struct Waiting<'a>(&'a SharedLog, fn(&mut Log) -> &mut usize);

impl<'a> Waiting<'a> {
    fn new(log: &'a SharedLog, count: fn(&mut Log) -> &mut usize) -> Self {
        log.with(|log| *count(log) += 1);
        Self(log, count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|log| *(self.1)(log) -= 1);
    }
}

#[derive(Clone, Debug, Default)]
struct SharedLog(Arc<Mutex<Log>>);

impl SharedLog {
    fn with<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the user's code is told to do.
#[derive(Debug)]
struct Commands {
    first: UnboundedSender<SenderAction>,
    second: UnboundedSender<SenderAction>,
    receiver: UnboundedSender<ReceiverAction>,
}

fn payload(length: impl Into<usize>) -> Vec<u8> {
    b"abcdefghijklmnopqrstuvwxyz".iter().copied().cycle().take(length.into()).collect()
}

fn text(length: impl Into<usize>) -> String {
    payload(length).into_iter().map(char::from).collect()
}

/// Does what it is told; what comes next cancels what it waits for.
async fn send(sender: Sender, mut actions: UnboundedReceiver<SenderAction>, log: SharedLog) {
    let mut next = actions.recv().await;
    while let Some(action) = next.take() {
        let act = async {
            match action {
                SenderAction::Cancel => {}
                SenderAction::Send { text: is_text, length } => {
                    let message: Message = if is_text { text(length).into() } else { payload(length).into() };
                    let _waiting = Waiting::new(&log, |log| &mut log.writing);
                    if sender.send(message.clone()).await.is_ok() {
                        log.with(|log| log.sent.push(message));
                    }
                }
                SenderAction::TrySend { length } => {
                    let message = Message::from(payload(length));
                    let tried = if length % 2 == 0 {
                        sender.try_send(message.clone())
                    } else {
                        sender.try_send_prepared(&PreparedMessage::new(message.clone()))
                    };
                    match tried {
                        Ok(()) => log.with(|log| log.sent.push(message)),
                        Err(error) => assert_eq!(error.into_message(), message),
                    }
                }
                SenderAction::Flush => {
                    let _waiting = Waiting::new(&log, |log| &mut log.writing);
                    let _ = sender.flush().await;
                }
                SenderAction::Ping => drop(sender.ping().await),
                SenderAction::Close { code, reason } => drop(sender.close(code, text(reason)).await),
                SenderAction::Closed => drop(sender.closed().await),
                SenderAction::Drop => return true,
            }
            false
        };
        tokio::select! {
            biased;
            is_over = act => {
                if is_over {
                    return;
                }
                next = actions.recv().await;
            }
            action = actions.recv() => next = action,
        }
    }
}

/// As [`send`].
async fn receive(mut receiver: Receiver, mut actions: UnboundedReceiver<ReceiverAction>, log: SharedLog) {
    let mut next = actions.recv().await;
    while let Some(action) = next.take() {
        let act = async {
            match action {
                ReceiverAction::Cancel => {}
                ReceiverAction::Receive => {
                    let _waiting = Waiting::new(&log, |log| &mut log.receiving);
                    note(receiver.recv().await, &log);
                }
                ReceiverAction::ReceiveAll => {
                    let _waiting = Waiting::new(&log, |log| &mut log.receiving);
                    while !log.with(|log| log.ended) {
                        note(receiver.recv().await, &log);
                    }
                }
                ReceiverAction::Closed => drop(receiver.closed().await),
                ReceiverAction::Drop => return true,
            }
            false
        };
        tokio::select! {
            biased;
            is_over = act => {
                if is_over {
                    return;
                }
                next = actions.recv().await;
            }
            action = actions.recv() => next = action,
        }
    }
}

fn note(received: Option<Result<Message, Error>>, log: &SharedLog) {
    log.with(|log| match received {
        None => log.ended = true,
        Some(_) if log.ended => panic!("something came after the end"),
        Some(Ok(_)) if log.errors > 0 => panic!("a message came after an error"),
        Some(Ok(message)) => log.received.push(message),
        Some(Err(_)) => {
            log.errors += 1;
            assert_eq!(log.errors, 1, "more than one error came");
        }
    });
}

/// The user's code: two who send and one who receives.
async fn user(setting: Setting, socket: WebSocket, log: SharedLog, actions: Actions) {
    let (sender, receiver) = socket.split();
    if setting.heartbeat {
        sender.answer_heartbeat(HEARTBEAT, ANSWER);
    }
    tokio::join!(
        send(sender.clone(), actions.0, log.clone()),
        send(sender, actions.1, log.clone()),
        receive(receiver, actions.2, log),
    );
}

type Actions =
    (UnboundedReceiver<SenderAction>, UnboundedReceiver<SenderAction>, UnboundedReceiver<ReceiverAction>);

fn commands() -> (Commands, Actions) {
    let (first, first_actions) = unbounded_channel();
    let (second, second_actions) = unbounded_channel();
    let (receiver, receiver_actions) = unbounded_channel();
    (Commands { first, second, receiver }, (first_actions, second_actions, receiver_actions))
}

fn layer(setting: Setting) -> WebSocketLayer {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    WebSocketLayer::new()
        .compression(setting.deflate.then(|| Compression::new().threshold(100)))
        .max_message_size(SERVER.message)
        .inbound_queue(SERVER.inbound_messages, SERVER.inbound_bytes)
        .outbound_buffer(SERVER.outbound)
        .idle_timeout(seconds(30).filter(|_| setting.idle_timeout))
        .ping_interval(seconds(20).filter(|_| !setting.no_keepalive))
        .send_timeout(seconds(30).filter(|_| !setting.no_send_timeout))
}

/// Starts the connection and the user's code. Returns another sender, to look at the connection with.
async fn start(setting: Setting, layer: &WebSocketLayer, log: &SharedLog) -> (Peer, Commands, Sender) {
    let (transport, peer) = wire();
    let (commands, actions) = commands();
    let log = log.clone();
    if setting.client {
        let socket = testing::client_with(layer, transport);
        let sender = socket.sender();
        tokio::spawn(user(setting, socket, log, actions));
        return (peer, commands, sender);
    }
    let (give, given) = tokio::sync::oneshot::channel();
    tokio::spawn(testing::accept(layer, transport, async move |socket: WebSocket| {
        let _ = give.send(socket.sender());
        if setting.inside {
            user(setting, socket, log, actions).await;
        } else {
            tokio::spawn(user(setting, socket, log, actions));
        }
        if setting.handler_fails { Err("the handler fails") } else { Ok(()) }
    }));
    (peer, commands, given.await.expect("the handler is called"))
}

impl PeerAction {
    fn run(self, peer: &Peer, setting: Setting) {
        let send = |first: u8, payload: &[u8]| peer.send(&frame(first, payload, !setting.client));
        match self {
            Self::Message { first, length } => send(0x80 | first as u8, &payload(length)),
            Self::Fragment { first, length } => send(first as u8, &payload(length)),
            Self::Ping { length } => send(0x89, &payload(length % 126)),
            Self::Pong { number } => send(0x8a, &u64::from(number).to_be_bytes()),
            Self::Close { code } => send(0x88, &code.to_be_bytes()),
            Self::Bytes(bytes) => peer.send(&bytes),
            Self::End => peer.end(Ok(())),
            Self::Reset => peer.end(Err(ErrorKind::ConnectionReset)),
            Self::BreakOff => peer.break_off(ErrorKind::BrokenPipe),
            Self::Allow { bytes } => peer.allow(bytes.into()),
            Self::AllowAll => peer.allow(usize::MAX),
            Self::Step { bytes } => peer.state().step = usize::from(bytes).max(1),
        }
    }
}

impl Setting {
    fn bounds(self) -> Bounds {
        if self.client { CLIENT } else { SERVER }
    }
}

/// Memory is bounded, whatever the peer and the user do.
fn check_memory(setting: Setting, sender: &Sender) {
    let bounds = setting.bounds();
    let queued = queued(sender);
    assert!(queued.messages <= bounds.inbound_messages, "{queued:?}");
    assert!(queued.inbound < bounds.inbound_bytes + bounds.message, "{queued:?}");
    // one message or answer above the limit, a Close frame, and the pings that the user sends
    let most = bounds.outbound + HEADER + MAX_SENT + CONTROL + CONTROL * MAX_ACTIONS;
    assert!(queued.outbound <= most as u64, "{queued:?}");
}

/// Everything waits: not for what is there, and not for room that there is.
fn check_settled(peer: &Peer, log: &SharedLog, sender: &Sender) {
    let queued = queued(sender);
    let (writing, receiving) = log.with(|log| (log.writing, log.receiving));
    assert!(receiving == 0 || queued.messages == 0, "messages wait for one who waits for messages");
    if peer.state().takes_all() {
        assert_eq!(queued.outbound, 0, "bytes wait for a peer who takes them");
        assert_eq!(writing, 0, "someone waits to send to a peer who takes everything");
    }
}

/// Lets everything run until it waits.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

async fn run(Script { setting, actions, peer_closes }: Script) {
    let log = SharedLog::default();
    let layer = layer(setting);
    let (peer, commands, sender) = start(setting, &layer, &log).await;
    let steps = actions.len();
    for action in actions {
        // who was told to drop its part does not listen any more
        match action {
            Action::Settle => {
                settle().await;
                check_settled(&peer, &log, &sender);
            }
            Action::Sleep { millis } => sleep(Duration::from_millis(millis.into())).await,
            Action::Peer(action) => action.run(&peer, setting),
            Action::First(action) => drop(commands.first.send(action)),
            Action::Second(action) => drop(commands.second.send(action)),
            Action::Receiver(action) => drop(commands.receiver.send(action)),
            Action::Drain { millis } => {
                let drain = Drain::new().timeout(Duration::from_millis(millis.into()));
                let connections = layer.connections();
                tokio::spawn(async move { connections.drain(drain).await });
            }
        }
        check_memory(setting, &sender);
    }

    let before = Instant::now();
    let limit = if peer_closes {
        peer.allow(usize::MAX);
        PeerAction::Close { code: 1000 }.run(&peer, setting);
        peer.end(Ok(()));
        let _ = commands.receiver.send(ReceiverAction::ReceiveAll);
        Duration::from_secs(1)
    } else {
        // the peer has done what it will do: timeouts are what is left
        Duration::from_mins(10)
    };
    let Commands { first, second, receiver } = commands;
    drop((first, second));
    if !peer_closes {
        drop(receiver);
    }
    while !peer.state().dropped {
        assert!(before.elapsed() < limit, "the connection does not end");
        sleep(limit / 1000).await;
        check_memory(setting, &sender);
    }
    settle().await;
    check(setting, &peer, &log, &sender, steps).await;
}

/// What went over the wire, and what the user saw of it.
async fn check(setting: Setting, peer: &Peer, log: &SharedLog, sender: &Sender, steps: usize) {
    let closed = sender.closed().await;
    let state = peer.state();
    let calls = 1000 + 100 * steps + 4 * (state.sent.len() + state.written.len());
    assert!(state.calls < calls, "the driver does not sleep: {} calls", state.calls);

    let decoding = |client, message| Decoding {
        client,
        deflate: setting.deflate,
        max_message_size: message,
        max_frame_size: 1 << 20,
        max_fragments: 4096,
    };
    log.with(|log| {
        let mut all = decoding(setting.client, setting.bounds().message).messages(&state.sent);
        all.retain(|message| !setting.heartbeat || message.as_text() != Some(HEARTBEAT));
        assert!(all.starts_with(&log.received), "what was received is not what was sent");
        let by_peer = closed.by == Side::Remote && closed.clean;
        assert!(!by_peer || !log.ended || log.errors > 0 || all == log.received, "messages are lost");

        let firsts = first_bytes(&state.written);
        let close = firsts.iter().position(|&first| first == 0x88);
        assert!(close.is_none_or(|at| at + 1 == firsts.len()), "a Close frame is not the last");
        let mut seen = decoding(!setting.client, MAX_SENT).messages(&state.written);
        seen.retain(|message| !setting.heartbeat || message.as_text() != Some(ANSWER));
        assert!(log.sent.starts_with(&seen), "what the peer sees is not what was sent");
        assert!(close.is_none() || seen == log.sent, "a Close frame came before what was sent");
    });
}

fuzz_target!(|script: Script| {
    if script.actions.len() <= MAX_ACTIONS {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime of one thread").block_on(run(script));
    }
});
