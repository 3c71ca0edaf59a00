//! Clients that come back and say how far they had come.

use std::ops::Range;

use tokio::sync::mpsc;
use ws_core::{Error, Message, WebSocket, WebSocketLayer, testing};
use ws_hub::{
    Confirm, Guarantee, Hub, HubBuilder, InProcess, Login, Member, MemoryLog, MessageId, Position, Resumed,
    framing,
};

use crate::support::{
    ANNA, BOB, SECOND, TestLog, assert_silent, narrow, numbered, rest, scripted_with, settle, text, texts,
};

/// Messages have positions, and the first one tells how the connection goes on.
fn told(builder: HubBuilder<u64>) -> HubBuilder<u64> {
    builder.framed(framing::prefix).greeting(|resumed| Some(Message::text(format!("{resumed:?}"))))
}

fn hub() -> Hub<u64> {
    told(Hub::builder()).build()
}

/// A connection of a client that has got everything up to `after`.
fn connect_after(hub: &Hub<u64>, user: u64, after: Option<Position>) -> WebSocket {
    let hub = hub.clone();
    testing::connect(async move |socket| hub.attach_after(user, socket, after, drops_all).await)
}

async fn drops_all(mut member: Member<u64>) -> Result<(), Error> {
    while let Some(message) = member.recv().await {
        message?;
    }
    Ok(())
}

/// The position of a message, and what it is without.
fn parse(text: &str) -> (Position, String) {
    let (position, rest) = text.split_once('\n').expect("a message with a position");
    (position.parse().unwrap(), rest.to_owned())
}

async fn framed(client: &mut WebSocket, count: usize) -> (Vec<Position>, Vec<String>) {
    texts(client, count).await.iter().map(|text| parse(text)).unzip()
}

/// A client, after its greeting.
async fn greeted(hub: &Hub<u64>, user: u64, after: Option<Position>, expected: Resumed) -> WebSocket {
    let mut client = connect_after(hub, user, after);
    assert_eq!(text(&mut client).await, format!("{expected:?}"));
    client
}

async fn say(hub: &Hub<u64>, user: u64, text: &str) {
    assert!(hub.send(&user, text).await.is_accepted());
}

async fn send_all(hub: &Hub<u64>, user: u64, numbers: Range<usize>) {
    for message in numbered("n", numbers) {
        say(hub, user, &message).await;
    }
}

/// A log of which a client has got so many messages, all that there are. It is gone now.
async fn delivered(hub: &Hub<u64>, count: usize) -> Vec<Position> {
    let mut client = greeted(hub, ANNA, None, Resumed::Fresh).await;
    settle().await;
    send_all(hub, ANNA, 0..count).await;
    let (positions, got) = framed(&mut client, count).await;
    assert_eq!(got, numbered("n", 0..count));
    client.close(1000, "").await.unwrap();
    settle().await;
    positions
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_gets_what_is_unread() {
    let hub = hub();
    delivered(&hub, 3).await;
    send_all(&hub, ANNA, 3..5).await;
    let mut client = greeted(&hub, ANNA, None, Resumed::Fresh).await;
    assert_eq!(framed(&mut client, 2).await.1, numbered("n", 3..5));
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_got_everything_misses_nothing() {
    let hub = hub();
    let positions = delivered(&hub, 3).await;
    let mut client = greeted(&hub, ANNA, Some(positions[2]), Resumed::Complete { missed: 0 }).await;
    assert_silent(&mut client).await;
    send_all(&hub, ANNA, 3..4).await;
    assert_eq!(framed(&mut client, 1).await.1, ["n 3"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_position_comes_again_even_if_it_was_delivered() {
    let hub = hub();
    let positions = delivered(&hub, 5).await;
    send_all(&hub, ANNA, 5..7).await;
    let mut client = greeted(&hub, ANNA, Some(positions[1]), Resumed::Complete { missed: 5 }).await;
    let (again, got) = framed(&mut client, 5).await;
    assert_eq!(got, numbered("n", 2..7));
    assert_eq!(again[..3], positions[2..5], "positions stay");
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn the_message_at_the_position_itself_need_not_be_in_the_log_any_more() {
    let hub = hub();
    let positions = delivered(&hub, 70).await;
    // 64 are kept
    let mut client = greeted(&hub, ANNA, Some(positions[5]), Resumed::Complete { missed: 64 }).await;
    assert_eq!(framed(&mut client, 64).await.1, numbered("n", 6..70));
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_position_before_what_is_kept_is_incomplete_and_what_is_unread_comes() {
    let hub = hub();
    let positions = delivered(&hub, 70).await;
    send_all(&hub, ANNA, 70..72).await;
    let mut client = greeted(&hub, ANNA, Some(positions[4]), Resumed::Incomplete).await;
    assert_eq!(framed(&mut client, 2).await.1, numbered("n", 70..72));
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_none_of_the_log_is_incomplete_and_what_is_unread_comes() {
    let hub = hub();
    let positions = delivered(&hub, 5).await;
    let [first, last] = [positions[0], positions[4]];
    let other_id = MessageId::random();
    for wrong in [
        Position::new(last.number, other_id),
        Position::new(3, other_id),
        Position::new(last.number + 1, last.id),
        Position::new(last.number, first.id),
        Position::new(0, first.id),
        Position::new(0, MessageId::new(0)),
        Position::new(u64::MAX, other_id),
    ] {
        let unread = format!("unread at {wrong}");
        say(&hub, ANNA, &unread).await;
        let mut client = greeted(&hub, ANNA, Some(wrong), Resumed::Incomplete).await;
        assert_eq!(framed(&mut client, 1).await.1, [unread]);
        assert_silent(&mut client).await;
        let live = format!("live at {wrong}");
        say(&hub, ANNA, &live).await;
        assert_eq!(framed(&mut client, 1).await.1, [live]);
        client.close(1000, "").await.unwrap();
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_of_another_user_is_incomplete_and_shows_nothing_of_theirs() {
    let hub = hub();
    let positions = delivered(&hub, 5).await;
    send_all(&hub, ANNA, 5..7).await;
    for before in [None, Some("for bob")] {
        if let Some(message) = before {
            say(&hub, BOB, message).await;
        }
        let mut client = greeted(&hub, BOB, Some(positions[0]), Resumed::Incomplete).await;
        if let Some(message) = before {
            assert_eq!(framed(&mut client, 1).await.1, [message]);
        }
        assert_silent(&mut client).await;
        client.close(1000, "").await.unwrap();
        settle().await;
    }
    let mut client = greeted(&hub, ANNA, Some(positions[4]), Resumed::Complete { missed: 2 }).await;
    assert_eq!(framed(&mut client, 2).await.1, numbered("n", 5..7), "hers are as they were");
}

#[tokio::test(start_paused = true)]
async fn a_position_of_a_log_that_is_gone_is_incomplete() {
    let hub = hub();
    let positions = delivered(&hub, 3).await;
    tokio::time::sleep(61 * SECOND).await;
    // something is done, so that time is looked at
    say(&hub, BOB, "message").await;
    let mut client = greeted(&hub, ANNA, Some(positions[1]), Resumed::Incomplete).await;
    send_all(&hub, ANNA, 3..4).await;
    let (new, got) = framed(&mut client, 1).await;
    assert_eq!(got, ["n 3"]);
    // the log has grown again, and has other messages at the same numbers
    send_all(&hub, ANNA, 4..8).await;
    framed(&mut client, 4).await;
    client.close(1000, "").await.unwrap();
    settle().await;
    let mut client = greeted(&hub, ANNA, Some(positions[2]), Resumed::Incomplete).await;
    client.close(1000, "").await.unwrap();
    settle().await;
    let mut client = greeted(&hub, ANNA, Some(new[0]), Resumed::Complete { missed: 4 }).await;
    assert_eq!(framed(&mut client, 4).await.1, numbered("n", 4..8));
}

#[tokio::test(start_paused = true)]
async fn unread_messages_that_the_bounds_removed_make_it_incomplete() {
    let hub = told(Hub::builder()).log(MemoryLog::new().per_user(3, 1024)).build();
    let positions = delivered(&hub, 2).await;
    send_all(&hub, ANNA, 2..6).await;
    let mut client = greeted(&hub, ANNA, Some(positions[1]), Resumed::Incomplete).await;
    assert_eq!(framed(&mut client, 3).await.1, numbered("n", 3..6), "what is left");
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_client_says_it_has_got_is_delivered() {
    let log = TestLog::default();
    let hub = told(Hub::builder()).guarantee(Guarantee::AtLeastOnce).log(log.clone()).build();
    let attaching = hub.clone();
    let connect = async move |after| {
        let hub = attaching.clone();
        let attach = async move |socket| hub.attach_after(ANNA, socket, after, drops_all).await;
        let mut client = scripted_with(&narrow(), attach).await;
        client.pongs = false;
        client
    };
    let mut client = connect(None).await;
    assert_eq!(client.text().await, "Fresh");
    send_all(&hub, ANNA, 0..5).await;
    let mut positions = Vec::new();
    for _ in 0..5 {
        positions.push(parse(&client.text().await).0);
    }
    drop(client);
    settle().await;
    assert_eq!(log.texts(ANNA), numbered("n", 0..5), "nothing is confirmed");
    let mut client = connect(Some(positions[2])).await;
    assert_eq!(client.text().await, "Complete { missed: 2 }");
    for expected in numbered("n", 3..5) {
        assert_eq!(parse(&client.text().await).1, expected);
    }
    drop(client);
    settle().await;
    assert_eq!(log.texts(ANNA), numbered("n", 3..5));
}

#[tokio::test(start_paused = true)]
async fn the_greeting_comes_before_messages_of_the_hub_and_of_the_handler() {
    for user_reads_slowly in [false, true] {
        let hub = hub();
        send_all(&hub, ANNA, 0..40).await;
        let layer = WebSocketLayer::new().outbound_buffer(if user_reads_slowly { 1 } else { 256 });
        let (server, stream) = tokio::io::duplex(if user_reads_slowly { 16 } else { 64 * 1024 });
        let attaching = hub.clone();
        tokio::spawn(async move {
            let handler = async move |socket| {
                attaching
                    .attach_with(ANNA, socket, async |member: Member<u64>| {
                        member.send("of the handler").await?;
                        member.hub().broadcast("to everyone").await;
                        drops_all(member).await
                    })
                    .await
            };
            testing::accept(&layer, server, handler).await;
        });
        let mut client = testing::client(stream);
        assert_eq!(text(&mut client).await, "Fresh");
        let mut others = texts(&mut client, 42).await;
        for other in ["of the handler", "to everyone"] {
            let at = others.iter().position(|text| text == other).unwrap();
            others.remove(at);
        }
        let got: Vec<_> = others.iter().map(|text| parse(text).1).collect();
        assert_eq!(got, numbered("n", 0..40));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_may_greet_only_those_whom_it_has_something_to_tell() {
    let hub = Hub::builder()
        .greeting(|resumed| (*resumed == Resumed::Incomplete).then(|| Message::text("load the page again")))
        .build();
    let mut client = connect_after(&hub, ANNA, None);
    assert_silent(&mut client).await;
    say(&hub, ANNA, "plain").await;
    assert_eq!(text(&mut client).await, "plain", "there are no positions unless they are asked for");
    let made_up = Position::new(1, MessageId::random());
    let mut client = connect_after(&hub, ANNA, Some(made_up));
    assert_eq!(text(&mut client).await, "load the page again");
}

#[tokio::test(start_paused = true)]
async fn a_handler_knows_how_its_connection_goes_on() {
    let hub = hub();
    let positions = delivered(&hub, 3).await;
    let made_up = Position::new(2, MessageId::random());
    for (after, expected) in [
        (None, Resumed::Fresh),
        (Some(positions[0]), Resumed::Complete { missed: 2 }),
        (Some(made_up), Resumed::Incomplete),
    ] {
        let (said, mut says) = mpsc::unbounded_channel();
        let attaching = hub.clone();
        let mut client = testing::connect(async move |socket| {
            let handler = async move |member: Member<u64>| {
                said.send(member.resumed()).unwrap();
                drops_all(member).await
            };
            attaching.attach_after(ANNA, socket, after, handler).await
        });
        assert_eq!(says.recv().await, Some(expected));
        client.close(1000, "").await.unwrap();
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_handler_acknowledges_is_delivered_and_nothing_else() {
    let log = TestLog::default();
    let hub = told(Hub::builder())
        .guarantee(Guarantee::AtLeastOnce)
        .confirm(Confirm::ByHandler)
        .log(log.clone())
        .build();
    let attaching = hub.clone();
    let connect = async move |after| {
        let hub = attaching.clone();
        testing::connect(async move |socket| {
            let handler = async |mut member: Member<u64>| {
                while let Some(message) = member.recv().await {
                    member.acknowledge(&message?.as_text().unwrap().parse().unwrap());
                }
                Ok::<_, Error>(())
            };
            hub.attach_after(ANNA, socket, after, handler).await
        })
    };
    let mut client = connect(None).await;
    assert_eq!(text(&mut client).await, "Fresh");
    settle().await;
    send_all(&hub, ANNA, 0..5).await;
    let (positions, _) = framed(&mut client, 5).await;
    // it answers pings
    assert_silent(&mut client).await;
    assert_eq!(log.texts(ANNA), numbered("n", 0..5), "pings say nothing");

    client.send(positions[1].to_string()).await.unwrap();
    settle().await;
    assert_eq!(log.texts(ANNA), numbered("n", 2..5));
    client.send(positions[0].to_string()).await.unwrap();
    settle().await;
    assert_eq!(log.texts(ANNA), numbered("n", 2..5), "it does not go back");
    client.close(1000, "").await.unwrap();
    settle().await;

    // what was not sent on the connection is not delivered, whatever the client says
    send_all(&hub, ANNA, 5..6).await;
    let mut client = connect(None).await;
    assert_eq!(text(&mut client).await, "Fresh");
    assert_eq!(framed(&mut client, 4).await.1, numbered("n", 2..6));
    client.send(Position::new(100, MessageId::random()).to_string()).await.unwrap();
    settle().await;
    assert_eq!(log.texts(ANNA), Vec::<String>::new());
    send_all(&hub, ANNA, 6..7).await;
    assert_eq!(framed(&mut client, 1).await.1, ["n 6"]);
    settle().await;
    assert_eq!(log.texts(ANNA), ["n 6"]);
}

/// A client that is cut off again and again while 400 messages are sent, and each time goes on after the last one that it has
/// got.
async fn burst(hub: Hub<u64>) {
    const MESSAGES: usize = 400;
    let layer = WebSocketLayer::new().outbound_buffer(8);
    let (mut got, mut last) = (Vec::new(), None);
    let mut sending = None;
    for round in 0_usize.. {
        let (server, stream) = tokio::io::duplex(64);
        let (attaching, layer) = (hub.clone(), layer.clone());
        let task = tokio::spawn(async move {
            let handler = async move |socket| attaching.attach_after(ANNA, socket, last, drops_all).await;
            testing::accept(&layer, server, handler).await;
        });
        let mut client = testing::client(stream);
        let greeting = text(&mut client).await;
        assert_eq!(greeting.starts_with("Complete"), last.is_some(), "{greeting}");
        let sent_by = hub.clone();
        sending
            .get_or_insert_with(|| tokio::spawn(async move { send_all(&sent_by, ANNA, 0..MESSAGES).await }));
        for _ in 0..=round % 23 {
            let (position, message) = parse(&text(&mut client).await);
            assert!(last.is_none_or(|last| position.number == last.number + 1), "{position} after {last:?}");
            last = Some(position);
            got.push(message);
            if got.len() == MESSAGES {
                assert_silent(&mut client).await;
                assert_eq!(got, numbered("n", 0..MESSAGES));
                return;
            }
        }
        match round % 3 {
            // it is cut off, and the server sees it
            0 => drop(client),
            // the server only sees the new login
            1 => {
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(client);
                });
            }
            // the server's task is dropped
            _ => task.abort(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_off_in_a_burst_gets_every_message_once_and_in_order() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        let memory = || MemoryLog::new().history(1_000, 60 * SECOND);
        burst(told(Hub::builder()).guarantee(guarantee).log(memory()).build()).await;
        burst(told(Hub::builder()).guarantee(guarantee).backplane(InProcess::over(memory())).build()).await;
        let slow = TestLog::keeping(memory());
        slow.takes(SECOND / 100);
        burst(told(Hub::builder()).guarantee(guarantee).log(slow).build()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_resumes_on_another_node() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        let node = InProcess::new();
        let other = node.another();
        let [first, second] =
            [node, other].map(|node| told(Hub::builder()).guarantee(guarantee).backplane(node).build());
        let mut client = greeted(&first, ANNA, None, Resumed::Fresh).await;
        settle().await;
        send_all(&second, ANNA, 0..10).await;
        let (positions, _) = framed(&mut client, 4).await;
        // the first node does not know yet that its connection is dead
        let mut back = greeted(&second, ANNA, Some(positions[3]), Resumed::Complete { missed: 6 }).await;
        send_all(&first, ANNA, 10..12).await;
        assert_eq!(framed(&mut back, 8).await.1, numbered("n", 4..12));
        assert_silent(&mut back).await;
        let (_, close) = rest(client).await;
        assert_eq!(close.unwrap().0, 4001);
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_several_connections_resumes_and_the_others_get_nothing_twice() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        let hub = told(Hub::builder()).guarantee(guarantee).login(Login::AllowMany(2)).build();
        let mut stays = greeted(&hub, ANNA, None, Resumed::Fresh).await;
        let mut leaves = greeted(&hub, ANNA, None, Resumed::Fresh).await;
        settle().await;
        send_all(&hub, ANNA, 0..3).await;
        let (positions, _) = framed(&mut leaves, 3).await;
        drop(leaves);
        settle().await;
        send_all(&hub, ANNA, 3..6).await;
        assert_eq!(framed(&mut stays, 6).await.1, numbered("n", 0..6));
        let mut back = greeted(&hub, ANNA, Some(positions[2]), Resumed::Complete { missed: 3 }).await;
        send_all(&hub, ANNA, 6..7).await;
        assert_eq!(framed(&mut back, 4).await.1, numbered("n", 3..7));
        assert_eq!(framed(&mut stays, 1).await.1, ["n 6"]);
        assert_silent(&mut stays).await;
        assert_silent(&mut back).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_connected_for_longer_than_messages_are_kept_loses_nothing_by_that() {
    let hub = hub();
    let mut client = greeted(&hub, ANNA, None, Resumed::Fresh).await;
    settle().await;
    send_all(&hub, ANNA, 0..2).await;
    let (positions, _) = framed(&mut client, 2).await;
    tokio::time::sleep(300 * SECOND).await;
    say(&hub, BOB, "message").await;

    // the old connection is dead, and the server does not know
    let mut back = greeted(&hub, ANNA, Some(positions[1]), Resumed::Complete { missed: 0 }).await;
    send_all(&hub, ANNA, 2..4).await;
    assert_eq!(framed(&mut back, 2).await.1, numbered("n", 2..4));

    tokio::time::sleep(300 * SECOND).await;
    say(&hub, BOB, "message").await;
    // one that says nothing
    let mut back = greeted(&hub, ANNA, None, Resumed::Fresh).await;
    send_all(&hub, ANNA, 4..6).await;
    assert_eq!(framed(&mut back, 2).await.1, numbered("n", 4..6));
    assert_silent(&mut back).await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_signals_closes_nobody_whose_messages_are_no_longer_kept() {
    let node = InProcess::new();
    let other = node.another();
    let hub = told(Hub::builder()).backplane(node).build();
    let second = told(Hub::builder()).backplane(other).build();
    let mut client = greeted(&hub, ANNA, None, Resumed::Fresh).await;
    settle().await;
    send_all(&second, ANNA, 0..2).await;
    framed(&mut client, 2).await;
    tokio::time::sleep(300 * SECOND).await;
    say(&hub, BOB, "message").await;
    // more than fit, so that some are lost
    for _ in 0..5_000 {
        second.room("nobody").send("message").await;
    }
    settle().await;
    assert_silent(&mut client).await;
    send_all(&second, ANNA, 2..4).await;
    assert_eq!(framed(&mut client, 2).await.1, numbered("n", 2..4));
}
