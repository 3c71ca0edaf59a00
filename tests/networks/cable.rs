//! A cable that is pulled: nobody is told, and what is sent is lost. What each side finds out, and when.
//!
//! Times are short. How long it may take at least is exact; at most, it may take a busy machine some time more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::interval;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use ws_core::client::Backoff;
use ws_core::client::Client;
use ws_core::{CloseFrame, ConnectionId, Error, Observer, Timeout, WebSocket, WebSocketLayer};
use ws_tests::server::BoxError;
use ws_tests::{Server, Setup, until, within};

use crate::network::{Network, Served};

const INTERVAL: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_millis(500);

/// For a busy machine.
const SLACK: Duration = Duration::from_secs(3);

fn layer() -> WebSocketLayer {
    WebSocketLayer::new().ping_interval(INTERVAL).pong_timeout(DEADLINE).send_timeout(None)
}

fn client() -> Client {
    Client::new().ping_interval(INTERVAL).pong_timeout(DEADLINE).send_timeout(None)
}

/// The longest that keepalive takes: a silence, with its jitter, and the time for the answer.
fn noticed(deadline: Duration) -> Duration {
    INTERVAL * 11 / 10 + deadline
}

/// The longest that it takes while nobody reads what comes, and the kernel judges: until the next ping, and its time, and
/// as much again until that is seen.
fn noticed_by_the_kernel(deadline: Duration) -> Duration {
    deadline.max(INTERVAL * 11 / 10) + 2 * deadline
}

/// How a connection has ended.
struct End {
    at: Instant,
    error: Option<Error>,
    /// How many messages had come.
    received: usize,
}

impl End {
    /// Receives until the end.
    async fn of(socket: &mut WebSocket) -> Self {
        let mut received = 0;
        loop {
            match socket.recv().await {
                Some(Ok(_)) => received += 1,
                other => return Self { at: Instant::now(), error: other.and_then(Result::err), received },
            }
        }
    }

    /// Receives nothing until it is over.
    async fn behind_the_back_of(socket: &mut WebSocket) -> Self {
        socket.sender().closed().await;
        let at = Instant::now();
        Self { at, ..Self::of(socket).await }
    }

    /// Checks which limit of time it was; that it was kept, from `start` on; and that it did not take longer than
    /// `at_most` from when the cable was `pulled`.
    fn check(
        &self,
        side: &str,
        limit: Timeout,
        (start, at_least): (Instant, Duration),
        (pulled, at_most): (Instant, Duration),
    ) {
        let Self { at, error, .. } = self;
        println!("{side}: {error:?} after {:?}, of at most {at_most:?}", *at - pulled);
        assert!(matches!(error, Some(Error::Timeout(it)) if *it == limit), "{side}: {error:?}");
        assert!(*at - start >= at_least, "{side}: given up after {:?}", *at - start);
        assert!(*at - pulled <= at_most + SLACK, "{side}: found out after {:?}", *at - pulled);
    }
}

/// What a handler does.
#[derive(Clone, Copy)]
enum Handler {
    /// Receives.
    Listens,
    /// Receives nothing before it is over.
    Sleeps,
    /// Sends for as long as it can.
    Pushes,
}

/// How connections have ended.
struct Ends(UnboundedReceiver<End>);

impl Ends {
    async fn next(&mut self) -> End {
        within("the server's end", self.0.recv()).await.expect("the handler reports")
    }
}

fn server(handler: Handler) -> (Setup, Ends) {
    let (report, ends) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            let end = match handler {
                Handler::Listens => End::of(&mut socket).await,
                Handler::Sleeps => End::behind_the_back_of(&mut socket).await,
                Handler::Pushes => {
                    while socket.send(vec![0; 64 * 1024]).await.is_ok() {}
                    End::of(&mut socket).await
                }
            };
            report.send(end)?;
            Ok(())
        }
    });
    (setup, Ends(ends))
}

/// Counts the messages of a side.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until there are some, and for a while no more.
    async fn rest(&self) {
        let mut before = 0;
        while self.get() == 0 || self.get() != before {
            before = self.get();
            pass(INTERVAL).await;
        }
    }
}

impl Observer for Count {
    fn on_message_received(&self, _: ConnectionId, _: usize) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn on_message_sent(&self, _: ConnectionId, _: usize) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Lets time pass: what is tested is that nothing happens in it, or all of it.
async fn pass(time: Duration) {
    let start = Instant::now();
    until("time to pass", || start.elapsed() >= time).await;
}

async fn connect(client: Client, server: &Served) -> WebSocket {
    within("a connection", client.connect(server.url())).await.expect("the cable is there")
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn both_sides_of_an_idle_connection_notice_it<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (setup, mut ends) = server(Handler::Listens);
    let server = network.serve::<S>(setup.layer(layer()));
    network.client(async {
        let start = Instant::now();
        let mut socket = connect(client(), &server).await;
        // longer than a peer has that is silent
        pass(2 * noticed(DEADLINE)).await;
        let pulled = network.pull();
        let end = within("the client's end", End::of(&mut socket)).await;
        let (at_least, at_most) = (INTERVAL * 9 / 10 + DEADLINE, noticed(DEADLINE));
        end.check("client", Timeout::Keepalive, (start, at_least), (pulled, at_most));
        ends.next().await.check("server", Timeout::Keepalive, (start, at_least), (pulled, at_most));
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn a_handler_that_never_reads_is_told_behind_a_full_queue<S: Server + 'static>() {
    const QUEUE: usize = 4;
    let Some(network) = Network::lay() else { return };
    let (setup, mut ends) = server(Handler::Sleeps);
    let received = Count::default();
    let layer = layer().inbound_queue(QUEUE, usize::MAX).observer(received.clone());
    let server = network.serve::<S>(setup.layer(layer));
    network.client(async {
        let start = Instant::now();
        // its pings are not answered, as nobody reads them; those of the server are its signs of life
        let patience = 4 * DEADLINE;
        let mut socket = connect(client().pong_timeout(patience), &server).await;
        for _ in 0..10 * QUEUE {
            socket.send("nobody takes this").await.expect("the kernels have room");
        }
        until("a full queue", || received.get() == QUEUE).await;
        // a pause of our own making: several times what a peer has that is silent
        pass(4 * noticed(DEADLINE)).await;
        assert_eq!((server.connections.len(), received.get()), (1, QUEUE));
        let pulled = network.pull();
        let end = ends.next().await;
        let at_most = noticed_by_the_kernel(DEADLINE);
        end.check("server", Timeout::Keepalive, (pulled, DEADLINE), (pulled, at_most));
        assert_eq!(end.received, QUEUE, "what has come before is delivered");
        let end = within("the client's end", End::of(&mut socket)).await;
        end.check("client", Timeout::Keepalive, (start, patience), (pulled, noticed(patience)));
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn both_sides_notice_it_where_one_sends_and_the_other_never_reads<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (setup, mut ends) = server(Handler::Pushes);
    let sent = Count::default();
    // the client does not see pings behind what it does not read; its own are what tells that it is there
    let patience = 4 * DEADLINE;
    let server = network.serve::<S>(setup.layer(layer().pong_timeout(patience).observer(sent.clone())));
    network.client(async {
        let start = Instant::now();
        let mut socket = connect(client(), &server).await;
        sent.rest().await;
        pass(noticed(patience)).await;
        assert!(!socket.is_closed() && server.connections.len() == 1);
        let pulled = network.pull();
        let end = within("the client's end", End::behind_the_back_of(&mut socket)).await;
        end.check(
            "client",
            Timeout::Keepalive,
            (pulled, DEADLINE),
            (pulled, noticed_by_the_kernel(DEADLINE)),
        );
        let end = ends.next().await;
        end.check("server", Timeout::Keepalive, (start, patience), (pulled, noticed(patience)));
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn a_client_that_never_reads_notices_it_through_tls<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (setup, _ends) = server(Handler::Pushes);
    let sent = Count::default();
    let layer = layer().pong_timeout(4 * DEADLINE).observer(sent.clone());
    let (server, certificate) = network.serve_tls::<S>(setup.layer(layer));
    network.client(async {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("it is a certificate");
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let url = server.url().replacen("ws", "wss", 1);
        let connection = client().tls_config(Arc::new(tls)).connect(url).await;
        let mut socket = connection.expect("the cable is there");
        sent.rest().await;
        let pulled = network.pull();
        let end = within("the client's end", End::behind_the_back_of(&mut socket)).await;
        let at_most = noticed_by_the_kernel(DEADLINE);
        end.check("client, TLS", Timeout::Keepalive, (pulled, DEADLINE), (pulled, at_most));
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn without_keepalive_one_who_sends_notices_it_by_the_send_timeout<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (setup, mut ends) = server(Handler::Pushes);
    let layer = WebSocketLayer::new().ping_interval(None).send_timeout(2 * DEADLINE);
    let server = network.serve::<S>(setup.layer(layer));
    network.client(async {
        let start = Instant::now();
        let received = Count::default();
        let mut socket = connect(client().observer(received.clone()), &server).await;
        let reads = tokio::spawn(async move { End::of(&mut socket).await });
        until("messages", || received.get() > 10).await;
        let pulled = network.pull();
        // until then the kernel takes what it has room for, which is soon no more
        let at_most = 2 * DEADLINE;
        ends.next().await.check("server", Timeout::Send, (start, at_most), (pulled, at_most));
        let end = within("the client's end", reads).await.expect("it does not panic");
        let (at_least, at_most) = (INTERVAL * 9 / 10 + DEADLINE, noticed(DEADLINE));
        end.check("client", Timeout::Keepalive, (start, at_least), (pulled, at_most));
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn two_who_send_and_do_not_read_are_left_to_the_send_timeout<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (setup, mut ends) = server(Handler::Pushes);
    let counts = [Count::default(), Count::default()];
    let timeout = 8 * noticed(DEADLINE);
    let layer = layer().observer(counts[0].clone()).send_timeout(timeout);
    let server = network.serve::<S>(setup.layer(layer));
    network.client(async {
        let start = Instant::now();
        let mut socket = connect(client().observer(counts[1].clone()), &server).await;
        let pushed = async { while socket.send(vec![0; 64 * 1024]).await.is_ok() {} };
        let ended = async {
            let end = ends.next().await;
            end.check("server", Timeout::Send, (start, timeout), (start, 2 * timeout));
        };
        tokio::join!(pushed, ended);
    });
}

/// Sends so many numbers, one after the other, and checks those of the peer.
async fn count_together(socket: &mut WebSocket, count: u32) -> Result<(), BoxError> {
    let sender = socket.sender();
    let send = async {
        let mut ticks = interval(Duration::from_millis(5));
        for number in 0..count {
            ticks.tick().await;
            sender.send(number.to_string()).await?;
        }
        Ok::<_, BoxError>(())
    };
    let receive = async {
        for number in 0..count {
            let message = socket.recv().await.ok_or("numbers are missing")??;
            if message.as_text() != Some(&number.to_string()) {
                return Err(format!("{message:?} in place of {number}").into());
            }
        }
        Ok(())
    };
    tokio::try_join!(send, receive)?;
    Ok(())
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn put_back_in_time_it_has_cost_nothing<S: Server + 'static>() {
    const COUNT: u32 = 300;
    let Some(network) = Network::lay() else { return };
    let setup = Setup::new(|mut socket| async move {
        count_together(&mut socket, COUNT).await?;
        assert!(socket.recv().await.is_none(), "nothing comes twice");
        Ok(())
    });
    // some time more than it takes a kernel to send again
    let patience = Duration::from_secs(10);
    let server = network.serve::<S>(setup.layer(layer().pong_timeout(patience)));
    network.client(async {
        let mut socket = connect(client().pong_timeout(patience), &server).await;
        let pull_and_plug = async {
            pass(INTERVAL).await;
            network.pull();
            pass(2 * INTERVAL).await;
            network.plug();
        };
        let (counted, ()) =
            within("the numbers", async { tokio::join!(count_together(&mut socket, COUNT), pull_and_plug) })
                .await;
        counted.expect("nothing is lost");
        let answer = within("the answer", socket.close(4000, "all there")).await.expect("the server answers");
        assert_eq!(answer, Some(CloseFrame::new(4000, "all there")));
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn put_back_in_time_it_has_cost_nothing_while_nobody_reads<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (setup, _ends) = server(Handler::Pushes);
    let sent = Count::default();
    let patience = Duration::from_secs(3);
    let layer = layer().pong_timeout(3 * patience).observer(sent.clone());
    let server = network.serve::<S>(setup.layer(layer));
    network.client(async {
        let mut socket = connect(client().pong_timeout(patience), &server).await;
        sent.rest().await;
        let before = sent.get();
        // late in the time of a ping, so that its end is near
        pass(patience * 2 / 3).await;
        network.pull();
        socket.send("to nowhere").await.expect("there is room");
        // that there is no route for a while is no verdict
        pass(patience / 3).await;
        network.plug();
        pass(patience).await;
        assert!(!socket.is_closed() && server.connections.len() == 1);
        for _ in 0..2 * before {
            within("a message", socket.recv()).await.expect("there is more").expect("the connection lives");
        }
    });
}

#[expect(clippy::unused_async, reason = "it is a case like others")]
async fn a_client_that_comes_back_brings_what_was_queued_once<S: Server + 'static>() {
    let Some(network) = Network::lay() else { return };
    let (tell, mut told) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let tell = tell.clone();
        async move {
            while let Some(message) = socket.recv().await {
                tell.send(message?.as_text().ok_or("it is text")?.to_owned())?;
            }
            Ok(())
        }
    });
    let server = network.serve::<S>(setup.layer(layer()));
    network.client(async {
        let mut heard = async || within("a message", told.recv()).await.expect("the server tells");
        let backoff = Backoff::new().base(Duration::from_millis(20)).max(Duration::from_millis(100));
        let client = client().connect_timeout(DEADLINE);
        let socket = client.reconnecting(server.url()).backoff(backoff).start();
        let mut states = socket.states();
        let mut reach = async |open: bool| {
            within(if open { "a connection" } else { "its end" }, async {
                while states.changed().await.expect("it does not end").is_open() != open {}
            })
            .await;
        };
        reach(true).await;
        socket.send("before").await.expect("there is a connection");
        assert_eq!(heard().await, "before");

        let pulled = network.pull();
        reach(false).await;
        println!("the client: away {:?} after the cable was pulled", pulled.elapsed());
        for number in 0..50 {
            socket.send(number.to_string()).await.expect("there is room in the queue");
        }
        network.plug();
        reach(true).await;
        println!("the client: back {:?} after the cable was pulled", pulled.elapsed());
        for number in 0..50 {
            assert_eq!(heard().await, number.to_string());
        }
        socket.send("after").await.expect("there is a connection");
        assert_eq!(heard().await, "after", "nothing came twice");
    });
}

ws_tests::cases! {
    on ws_tests::runtime::run:
    [not http2: "the client speaks HTTP/1.1"]
    both_sides_of_an_idle_connection_notice_it,
    a_handler_that_never_reads_is_told_behind_a_full_queue,
    both_sides_notice_it_where_one_sends_and_the_other_never_reads,
    a_client_that_never_reads_notices_it_through_tls,
    without_keepalive_one_who_sends_notices_it_by_the_send_timeout,
    two_who_send_and_do_not_read_are_left_to_the_send_timeout,
    put_back_in_time_it_has_cost_nothing,
    put_back_in_time_it_has_cost_nothing_while_nobody_reads,
    a_client_that_comes_back_brings_what_was_queued_once,
}
