//! Peers that vanish, drip, flood, or do not read: what becomes of their connections, and within what time.
//!
//! Times are short here, and checked in one direction only: that nothing happens before it may. That it happens at all
//! is what the client's deadline is for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use ws_core::{Error, Timeout, WebSocketLayer};
use ws_tests::{Client, Frame, Server, Setup, until, within};

const SHORT: Duration = Duration::from_millis(200);

/// A layer whose only limit of time is keepalive's.
fn keepalive() -> WebSocketLayer {
    WebSocketLayer::new().ping_interval(SHORT).pong_timeout(SHORT).message_timeout(None).send_timeout(None)
}

/// A layer without any limit of time.
fn patient() -> WebSocketLayer {
    keepalive().ping_interval(None)
}

/// A server whose handler sends `payload` until it cannot, and then reports how often it could, and what `recv` says.
async fn pusher<S: Server>(
    layer: WebSocketLayer,
    payload: usize,
) -> (ws_tests::Running, Arc<AtomicUsize>, mpsc::UnboundedReceiver<(Error, Option<Error>)>) {
    let sent = Arc::<AtomicUsize>::default();
    let (report, reports) = mpsc::unbounded_channel();
    let setup = Setup::new({
        let sent = Arc::clone(&sent);
        move |mut socket| {
            let (sent, report) = (Arc::clone(&sent), report.clone());
            async move {
                let error = loop {
                    match socket.send(vec![0; payload]).await {
                        Ok(()) => sent.fetch_add(1, Ordering::SeqCst),
                        Err(error) => break error,
                    };
                };
                report.send((error, socket.recv().await.and_then(Result::err)))?;
                Ok(())
            }
        }
    });
    (S::start(setup.layer(layer)).await, sent, reports)
}

async fn a_peer_that_answers_pings_stays<S: Server>() {
    for setup in [Setup::echo(), Setup::idle()] {
        let server = S::start(setup.layer(keepalive().pong_timeout(Duration::from_secs(1)))).await;
        let mut client = Client::open(&server).await;
        // for longer than one who does not
        for _ in 0..8 {
            let ping = client.frame().await;
            assert!(ping.is_ping(), "{ping:?}");
            client.write(Frame::pong(ping.payload())).await;
        }
        client.close().await;
    }
}

async fn a_peer_that_vanishes_is_noticed_whether_the_handler_reads_or_not<S: Server>() {
    for setup in [Setup::echo(), Setup::idle()] {
        let server = S::start(setup.layer(keepalive())).await;
        let start = Instant::now();
        let mut client = Client::open(&server).await;
        assert!(client.frame().await.is_ping());
        client.closed_with(1011).await;
        // the interval, less its jitter of a tenth, and the time for the answer
        assert!(start.elapsed() >= SHORT * 9 / 10 + SHORT, "{:?}", start.elapsed());
        server.until_open(0).await;
    }
}

async fn a_server_that_was_held_up_reads_before_it_judges<S: Server>() {
    let server = S::start(Setup::echo().layer(keepalive().message_timeout(SHORT))).await;
    let mut client = Client::open(&server).await;
    for _ in 0..3 {
        let ping = client.frame().await;
        assert!(ping.is_ping(), "{ping:?}");
        // the answer is there in time, while all else on this thread has to wait
        client.write(Frame::pong(ping.payload())).await;
        std::thread::sleep(2 * SHORT);
    }
    client.close().await;
}

async fn a_peer_that_vanishes_is_noticed_behind_a_full_outbound_buffer<S: Server>() {
    let (server, _, mut reports) = pusher::<S>(keepalive(), 64 * 1024).await;
    let _client = Client::open(&server).await;
    let (error, received) = within("the end", reports.recv()).await.expect("the handler reports");
    assert!(error.is_closed(), "{error}");
    assert!(matches!(received, Some(Error::Timeout(Timeout::Keepalive))), "{received:?}");
    server.until_open(0).await;
}

async fn a_peer_that_resets_is_noticed_while_the_handler_does_not_read<S: Server>() {
    let server = S::start(Setup::idle().layer(patient())).await;
    for _ in 0..10 {
        let client = Client::open(&server).await;
        server.until_open(1).await;
        client.reset();
        server.until_open(0).await;
    }
}

async fn a_peer_that_goes_is_noticed_behind_messages_that_nobody_takes<S: Server>() {
    let server = S::start(Setup::idle().layer(keepalive().inbound_queue(1, 1_000))).await;
    for go in [|client: Client| drop(client), Client::reset] {
        let mut client = Client::open(&server).await;
        client.write(Frame::binary(vec![0; 500]).masked().repeat(100)).await;
        // a ping says that the server is at rest; its next ones have nobody to go to
        assert!(client.frame().await.is_ping());
        go(client);
        server.until_open(0).await;
    }
}

async fn a_handler_that_drops_its_receiver_hears_of_the_end<S: Server>() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let setup = Setup::new(move |socket| {
        let report = report.clone();
        async move {
            let (sender, receiver) = socket.split();
            drop(receiver);
            report.send(sender.closed().await)?;
            Ok(())
        }
    });
    let server = S::start(setup.layer(patient())).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::binary(vec![0; 1_000]).masked().repeat(1_000)).await;
    assert_eq!(client.echo(Frame::ping("there?")).await, Frame::pong("there?"));
    assert_eq!(client.echo(Frame::close(4000, "bye")).await, Frame::close(4000, "bye"));
    client.end().await;
    let closed = within("the end", reports.recv()).await.expect("the handler reports");
    assert_eq!((closed.clean, closed.reason()), (true, "bye"));
}

async fn a_peer_that_closes_while_much_is_on_its_way_gets_it_all_and_then_the_answer<S: Server>() {
    let (server, sent, mut reports) =
        pusher::<S>(patient().close_timeout(Duration::from_secs(20)), 8 * 1024).await;
    let mut client = Client::open(&server).await;
    until("the buffers to fill", || sent.load(Ordering::SeqCst) > 100).await;
    client.write(Frame::close(4000, "enough")).await;
    let mut received = 0;
    let end = loop {
        let frame = client.frame().await;
        if frame.close_code().is_some() {
            break frame;
        }
        received += 1;
    };
    assert_eq!(end, Frame::close(4000, "enough"));
    client.end().await;
    let (error, after) = within("the end", reports.recv()).await.expect("the handler reports");
    assert!(error.is_closed() && after.is_none(), "{error}, {after:?}");
    assert_eq!(received, sent.load(Ordering::SeqCst));
}

async fn pings_and_a_close_are_answered_while_the_handler_does_not_read<S: Server>() {
    let server = S::start(Setup::idle().layer(patient())).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.echo(Frame::ping("there?")).await, Frame::pong("there?"));
    assert_eq!(client.echo(Frame::close(4000, "bye")).await, Frame::close(4000, "bye"));
    client.end().await;
    server.until_open(0).await;
}

async fn messages_that_nobody_takes_delay_the_answer_to_a_close_by_the_close_timeout<S: Server>() {
    let server = S::start(Setup::idle().layer(patient().close_timeout(SHORT))).await;
    let mut client = Client::open(&server).await;
    for number in 0..5 {
        client.write(Frame::text(number.to_string())).await;
    }
    let start = Instant::now();
    assert_eq!(client.echo(Frame::close(4000, "bye")).await, Frame::close(4000, "bye"));
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    client.end().await;
    server.until_open(0).await;
}

async fn a_flood_of_pings_from_one_who_does_not_read_ends_with_the_newest_answer<S: Server>() {
    let server = S::start(Setup::echo().layer(patient())).await;
    let mut client = Client::open(&server).await;
    let mut other = Client::open(&server).await;
    // more than the sockets of both sides can hold in answers
    let pings = Frame::ping([b'p'; 125]).masked().repeat(10_000);
    for _ in 0..20 {
        client.write(pings.clone()).await;
        assert_eq!(other.echo(Frame::text("as ever")).await, Frame::text("as ever"));
    }
    client.write(Frame::ping("newest")).await;
    loop {
        let frame = client.frame().await;
        assert!(frame.is_pong(), "{frame:?}");
        if frame == Frame::pong("newest") {
            break;
        }
    }
    assert_eq!(client.echo(Frame::text("and now")).await, Frame::text("and now"));
    client.close().await;
}

async fn a_flood_of_pongs_is_taken<S: Server>() {
    let server = S::start(Setup::echo().layer(patient())).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::pong([b'p'; 125]).masked().repeat(100_000)).await;
    assert_eq!(client.echo(Frame::text("and now")).await, Frame::text("and now"));
}

async fn a_message_that_drips_counts_as_life_and_ends_at_the_message_timeout<S: Server>() {
    // without the bytes, keepalive would end it first
    let timeout = Duration::from_secs(3);
    let layer = WebSocketLayer::new()
        .ping_interval(Duration::from_millis(400))
        .pong_timeout(Duration::from_millis(1_600))
        .message_timeout(timeout);
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut client = Client::open(&server).await;
    let message = Frame::text("drip".repeat(10_000)).masked();
    let mut bytes = message.iter();
    let mut drips = interval(Duration::from_millis(50));
    drips.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let end = loop {
        tokio::select! {
            frame = client.frame_but_ping() => break frame,
            _ = drips.tick() => {
                let byte = bytes.next().expect("the message is longer than the timeout");
                client.write([*byte]).await;
            }
        }
    };
    assert_eq!(end.close_code(), Some(1008), "{end:?}");
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    client.end().await;
    server.until_open(0).await;
}

async fn fragments_for_ever_end_at_the_message_timeout_even_if_pings_are_answered<S: Server>() {
    let timeout = Duration::from_secs(1);
    let layer = keepalive().pong_timeout(Duration::from_secs(10)).message_timeout(timeout);
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut client = Client::open(&server).await;
    let start = Instant::now();
    client.write(Frame::text("").not_final()).await;
    let end = loop {
        let frame = client.frame().await;
        if !frame.is_ping() {
            break frame;
        }
        client.write(Frame::pong(frame.payload())).await;
        client.write(Frame::continuation("more").not_final()).await;
    };
    assert_eq!(end.close_code(), Some(1008), "{end:?}");
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    client.end().await;
}

async fn a_slow_message_that_is_complete_in_time_is_delivered<S: Server>() {
    let layer = keepalive().pong_timeout(Duration::from_secs(10)).message_timeout(Duration::from_secs(20));
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut client = Client::open(&server).await;
    // each fragment when a ping says that time has passed
    client.write(Frame::text("slow").not_final()).await;
    for _ in 0..3 {
        assert!(client.frame().await.is_ping());
        client.write(Frame::continuation(" but").not_final()).await;
    }
    client.write(Frame::continuation(" sure")).await;
    assert_eq!(client.frame_but_ping().await, Frame::text("slow but but but sure"));
}

async fn to_a_peer_that_never_reads_send_waits_until_the_send_timeout<S: Server>() {
    let timeout = Duration::from_secs(1);
    for payload in [100, 64 * 1024] {
        let (server, sent, mut reports) = pusher::<S>(patient().send_timeout(timeout), payload).await;
        let start = Instant::now();
        let _client = Client::open(&server).await;
        let (error, received) = within("the end", reports.recv()).await.expect("the handler reports");
        assert!(error.is_closed(), "{error}");
        assert!(matches!(received, Some(Error::Timeout(Timeout::Send))), "{received:?}");
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        // what the two sockets and the outbound buffer hold, and not what the handler would have had to say
        let bytes = sent.load(Ordering::SeqCst) * payload;
        assert!(bytes < 64 << 20, "{bytes} bytes sent to one who does not read");
        server.until_open(0).await;
    }
}

async fn to_a_peer_that_reads_again_send_goes_on_and_nothing_is_lost<S: Server>() {
    const COUNT: u32 = 20_000;
    let sent = Arc::<AtomicUsize>::default();
    let setup = Setup::new({
        let sent = Arc::clone(&sent);
        move |mut socket| {
            let sent = Arc::clone(&sent);
            async move {
                for number in 0..COUNT {
                    let mut payload = vec![0; 1_000];
                    payload[..4].copy_from_slice(&number.to_be_bytes());
                    socket.send(payload).await?;
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            }
        }
    });
    let server = S::start(setup.layer(patient())).await;
    let mut client = Client::open(&server).await;
    until("the first messages", || sent.load(Ordering::SeqCst) > 0).await;
    for number in 0..COUNT {
        let frame = client.frame().await;
        assert_eq!(frame.payload()[..4], number.to_be_bytes());
    }
    client.closed_with_answer(1000).await;
}

async fn a_flood_to_a_handler_that_does_not_read_is_held_back_and_nothing_is_lost<S: Server>() {
    const COUNT: u32 = 30_000;
    let go = Arc::new(Notify::new());
    let setup = Setup::new({
        let go = Arc::clone(&go);
        move |mut socket| {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                for number in 0..COUNT {
                    let message = socket.recv().await.ok_or("messages are missing")??;
                    assert_eq!(message.as_bytes()[..4], number.to_be_bytes());
                }
                socket.close(4000, "all there").await?;
                Ok(())
            }
        }
    });
    let limit = Duration::from_millis(1_500);
    let layer = keepalive().pong_timeout(limit).message_timeout(limit);
    let server = S::start(setup.layer(layer)).await;
    let mut client = Client::open(&server).await;
    let written = Arc::<AtomicUsize>::default();
    let flood = tokio::spawn({
        let written = Arc::clone(&written);
        async move {
            for number in 0..COUNT {
                let mut payload = vec![0; 1_000];
                payload[..4].copy_from_slice(&number.to_be_bytes());
                client.write(Frame::binary(payload)).await;
                written.fetch_add(1, Ordering::SeqCst);
            }
            client
        }
    });
    // twice as long as it takes to give up a peer that is silent by itself
    let start = Instant::now();
    until("a long pause", || start.elapsed() > 2 * (SHORT + limit)).await;
    assert_eq!(server.connections.len(), 1, "the peer was declared dead");
    assert!(written.load(Ordering::SeqCst) < COUNT as usize, "the peer was not held back");
    go.notify_one();
    let mut client = flood.await.expect("the flood is taken");
    client.closed_with_answer(4000).await;
}

async fn a_peer_that_does_not_answer_our_close_is_dropped_at_the_close_timeout<S: Server>() {
    // says nothing more, or goes on as if nothing were
    for goes_on in [false, true] {
        let (report, mut reports) = mpsc::unbounded_channel();
        let setup = Setup::new(move |mut socket| {
            let report = report.clone();
            async move {
                let start = Instant::now();
                report.send((socket.close(4001, "bye").await, start.elapsed()))?;
                Ok(())
            }
        });
        let server = S::start(setup.layer(patient().close_timeout(SHORT))).await;
        let mut client = Client::open(&server).await;
        assert_eq!(client.frame().await, Frame::close(4001, "bye"));
        while goes_on && client.try_write(Frame::text("and another thing")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let (result, time) = within("the end", reports.recv()).await.expect("the handler reports");
        assert!(matches!(result, Err(Error::Timeout(Timeout::Close))), "{result:?}");
        assert!(time >= SHORT, "{time:?}");
        server.until_open(0).await;
    }
}

async fn what_was_on_its_way_when_the_server_ended_its_stream_is_read<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for last in [Frame::close(4000, ""), Frame::close(1005, "")] {
        let mut client = Client::open(&server).await;
        assert!(client.echo(last).await.close_code().is_some());
        client.end_one_sided().await;
        client.write(vec![0; 100 * 1024]).await;
        client.finish().await;
        server.until_open(0).await;
        client.not_reset();
    }
}

async fn a_peer_that_does_not_end_its_stream_after_the_closing_handshake_is_dropped<S: Server>() {
    let server = S::start(Setup::echo()).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.echo(Frame::close(4000, "")).await, Frame::close(4000, ""));
    client.end_one_sided().await;
    // what comes now is read and dropped, so that no reset overtakes what the peer has yet to read
    client.write(b"garbage").await;
    server.until_open(0).await;
}

async fn of_a_thousand_receivers_one_that_stops_reading_delays_nobody<S: Server>() {
    const RECEIVERS: usize = 1_000;
    const MESSAGES: usize = 50;
    ws_tests::runtime::allow_many_sockets();
    let (join, mut joined) = mpsc::unbounded_channel();
    let setup = Setup::new(move |socket| {
        let join = join.clone();
        async move {
            let (sender, mut receiver) = socket.split();
            join.send(sender)?;
            while receiver.recv().await.is_some() {}
            Ok(())
        }
    });
    let server = S::start(setup.layer(patient())).await;
    let lazy = Client::open(&server).await;
    let stuck = joined.recv().await.expect("the handler joins");
    // the one who does not read is behind by as much as the library lets him, all the time
    let behind = tokio::spawn({
        let stuck = stuck.clone();
        async move { while stuck.send(vec![0; 64 * 1024]).await.is_ok() {} }
    });
    let mut clients = Vec::new();
    let mut senders = Vec::new();
    for _ in 1..RECEIVERS {
        clients.push(Client::open(&server).await);
        senders.push(joined.recv().await.expect("the handler joins"));
    }
    let broadcast = tokio::spawn(async move {
        for number in 0..MESSAGES {
            for sender in &senders {
                sender.send(format!("message {number}")).await.expect("the peer reads");
            }
            // there is room or not, and nobody waits for it
            let _ = stuck.try_send(format!("message {number}"));
        }
    });
    join_all(clients.iter_mut().map(|client| async {
        for number in 0..MESSAGES {
            assert_eq!(client.frame().await, Frame::text(format!("message {number}")));
        }
    }))
    .await;
    broadcast.await.expect("all others have room");
    assert!(!behind.is_finished());
    drop(lazy);
    within("the end of the one who does not read", behind).await.expect("the sender is told");
}

ws_tests::cases! {
    a_peer_that_answers_pings_stays,
    a_peer_that_vanishes_is_noticed_whether_the_handler_reads_or_not,
    a_peer_that_vanishes_is_noticed_behind_a_full_outbound_buffer,
    a_peer_that_resets_is_noticed_while_the_handler_does_not_read,
    pings_and_a_close_are_answered_while_the_handler_does_not_read,
    messages_that_nobody_takes_delay_the_answer_to_a_close_by_the_close_timeout,
    a_flood_of_pings_from_one_who_does_not_read_ends_with_the_newest_answer,
    a_flood_of_pongs_is_taken,
    a_message_that_drips_counts_as_life_and_ends_at_the_message_timeout,
    fragments_for_ever_end_at_the_message_timeout_even_if_pings_are_answered,
    a_slow_message_that_is_complete_in_time_is_delivered,
    to_a_peer_that_never_reads_send_waits_until_the_send_timeout,
    to_a_peer_that_reads_again_send_goes_on_and_nothing_is_lost,
    a_flood_to_a_handler_that_does_not_read_is_held_back_and_nothing_is_lost,
    a_peer_that_does_not_answer_our_close_is_dropped_at_the_close_timeout,
    a_peer_that_does_not_end_its_stream_after_the_closing_handshake_is_dropped,
    of_a_thousand_receivers_one_that_stops_reading_delays_nobody,
    a_peer_that_goes_is_noticed_behind_messages_that_nobody_takes,
    a_handler_that_drops_its_receiver_hears_of_the_end,
    a_peer_that_closes_while_much_is_on_its_way_gets_it_all_and_then_the_answer,
}

mod on_one_thread {
    use super::{
        a_server_that_was_held_up_reads_before_it_judges,
        what_was_on_its_way_when_the_server_ended_its_stream_is_read,
    };

    ws_tests::cases! {
        on ws_tests::runtime::run_on_one_thread:
        [not http2: "the client's HTTP/2 has its turn on the thread that is held up"]
        a_server_that_was_held_up_reads_before_it_judges,

        [not http2: "what comes behind the end of a stream is HTTP's business there"]
        what_was_on_its_way_when_the_server_ended_its_stream_is_read,
    }
}
