//! Rooms that keep their last messages, and clients that join where they had stopped.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::sleep;
use ws_core::{Error, WebSocket, WebSocketLayer, testing};
use ws_hub::{
    Answer, Call, Hub, HubBuilder, InProcess, JoinError, Joined, Login, Member, MessageId, Position, Push,
    Resumed, RoomHistory, framing,
};

use crate::support::{
    ANNA, BOB, CARL, SECOND, Scripted, assert_silent, login, narrow, numbered, rest, scripted_with, settle,
    soon, text, texts,
};

const ROOM: &str = "chat/lobby";

fn keeping(builder: HubBuilder<u64>, messages: usize) -> Hub<u64> {
    let history = RoomHistory::new(messages, 60 * SECOND);
    builder
        .framed(framing::prefix)
        .room_history(move |room| room.starts_with("chat/").then_some(history))
        .build()
}

fn hub() -> Hub<u64> {
    keeping(Hub::builder(), 100)
}

/// Two hubs that act as one.
fn two_hubs(messages: usize) -> (InProcess<u64>, [Hub<u64>; 2]) {
    let node = InProcess::new();
    let others = [node.another(), node.another()];
    (node, others.map(|node| keeping(Hub::builder().backplane(node), messages)))
}

/// What a handler is told when it joins.
type Told = mpsc::UnboundedReceiver<Result<Joined, JoinError>>;

/// A handler that joins, tells what came of it, and drops what comes in.
fn joins(
    hub: &Hub<u64>,
    user: u64,
    after: Option<Position>,
) -> (impl FnOnce(WebSocket) -> BoxFuture<'static, Result<(), ws_hub::Error>> + Send + use<>, Told) {
    let (tell, told) = mpsc::unbounded_channel();
    let hub = hub.clone();
    let attach = move |socket: WebSocket| -> BoxFuture<'static, _> {
        let handler = async move |mut member: Member<u64>| {
            let _ = tell.send(member.join_after(ROOM, after).await);
            while let Some(message) = member.recv().await {
                message?;
            }
            Ok::<_, Error>(())
        };
        Box::pin(async move { hub.attach_with(user, socket, handler).await })
    };
    (attach, told)
}

/// A client who joins, and what it is told.
async fn join(hub: &Hub<u64>, user: u64, after: Option<Position>) -> (WebSocket, Joined) {
    let (attach, mut told) = joins(hub, user, after);
    let client = testing::connect(attach);
    let joined = told.recv().await.expect("it is told").expect("it joins");
    (client, joined)
}

/// The same, for a client that reads what it is told to read.
async fn join_slowly(hub: &Hub<u64>, user: u64, after: Position) -> (Scripted, Told) {
    let (attach, told) = joins(hub, user, Some(after));
    (scripted_with(&narrow(), attach).await, told)
}

fn parse(text: &str) -> (Position, String) {
    let (position, rest) = text.split_once('\n').expect("a message with a position");
    (position.parse().unwrap(), rest.to_owned())
}

async fn framed(client: &mut WebSocket, count: usize) -> (Vec<Position>, Vec<String>) {
    texts(client, count).await.iter().map(|text| parse(text)).unzip()
}

async fn say(hub: &Hub<u64>, range: Range<usize>) {
    for message in numbered("n", range) {
        let reach = hub.room(ROOM).send(message).await;
        assert!(reach.others.is_ok(), "{reach:?}");
    }
}

/// A room with so many messages, all of which one client has got, who is gone.
async fn spoken(hub: &Hub<u64>, count: usize) -> Vec<Position> {
    let (mut client, joined) = join(hub, ANNA, None).await;
    assert_eq!((joined.resumed, joined.position), (Resumed::Fresh, None));
    say(hub, 0..count).await;
    let (positions, got) = framed(&mut client, count).await;
    assert_eq!(got, numbered("n", 0..count));
    client.close(1000, "").await.unwrap();
    settle().await;
    positions
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_comes_first_and_then_what_comes_live() {
    let hub = hub();
    let positions = spoken(&hub, 3).await;
    say(&hub, 3..6).await;
    let (mut client, joined) = join(&hub, ANNA, Some(positions[1])).await;
    assert!(joined.is_new);
    assert_eq!(joined.resumed, Resumed::Complete { missed: 4 });
    say(&hub, 6..8).await;
    let (got, messages) = framed(&mut client, 6).await;
    assert_eq!(messages, numbered("n", 2..8));
    assert_eq!(got[0], positions[2], "positions stay");
    assert_eq!(joined.position, Some(got[3]));
    assert_silent(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_gets_what_comes_from_now_on_and_is_told_where_that_is() {
    let hub = hub();
    let positions = spoken(&hub, 3).await;
    let (mut client, joined) = join(&hub, ANNA, None).await;
    assert_eq!((joined.resumed, joined.position), (Resumed::Fresh, Some(positions[2])));
    assert_silent(&mut client).await;
    client.close(1000, "").await.unwrap();
    settle().await;
    // it had got nothing, and misses nothing
    say(&hub, 3..4).await;
    let (mut client, joined) = join(&hub, ANNA, joined.position).await;
    assert_eq!(joined.resumed, Resumed::Complete { missed: 1 });
    assert_eq!(framed(&mut client, 1).await.1, ["n 3"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_said_and_nothing_pretends_to_be_all() {
    let hub = keeping(Hub::builder(), 5);
    let positions = spoken(&hub, 8).await;
    // five are kept, and the one before them is known by its id
    for (number, expected) in [
        (7, Resumed::Complete { missed: 0 }),
        (6, Resumed::Complete { missed: 1 }),
        (2, Resumed::Complete { missed: 5 }),
        (1, Resumed::Incomplete),
        (0, Resumed::Incomplete),
    ] {
        let (mut client, joined) = join(&hub, ANNA, Some(positions[number])).await;
        assert_eq!(joined.resumed, expected, "{number}");
        assert_eq!(joined.position, Some(positions[7]));
        if let Resumed::Complete { missed } = expected {
            let missed = usize::try_from(missed).unwrap();
            assert_eq!(framed(&mut client, missed).await.1, numbered("n", 8 - missed..8));
        }
        assert_silent(&mut client).await;
        client.close(1000, "").await.unwrap();
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_none_of_the_room_is_incomplete_and_live_messages_come() {
    let hub = hub();
    let positions = spoken(&hub, 3).await;
    let id = MessageId::random();
    for (round, wrong) in [
        Position::new(2, id),
        Position::new(0, id),
        Position::new(4, positions[2].id),
        Position::new(u64::MAX, id),
        Position::new(3, positions[0].id),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut client, joined) = join(&hub, ANNA, Some(wrong)).await;
        assert_eq!(joined.resumed, Resumed::Incomplete, "{wrong}");
        say(&hub, round..round + 1).await;
        assert_eq!(framed(&mut client, 1).await.1, numbered("n", round..round + 1));
        assert_silent(&mut client).await;
        client.close(1000, "").await.unwrap();
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_goes_after_its_time_and_members_who_stay_get_what_comes_then() {
    let hub = hub();
    let positions = spoken(&hub, 3).await;
    let (mut stays, _) = join(&hub, BOB, None).await;
    sleep(61 * SECOND).await;
    let (client, joined) = join(&hub, ANNA, Some(positions[2])).await;
    assert_eq!(joined.resumed, Resumed::Incomplete);
    drop(client);
    say(&hub, 3..6).await;
    assert_eq!(framed(&mut stays, 3).await.1, numbered("n", 3..6));
    sleep(61 * SECOND).await;
    say(&hub, 6..7).await;
    assert_eq!(framed(&mut stays, 1).await.1, ["n 6"]);
    assert_silent(&mut stays).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_excepted_does_not_get_it_when_they_come_back_either() {
    let hub = hub();
    let positions = spoken(&hub, 1).await;
    hub.room(ROOM).except(&ANNA).send("of anna").await.others.unwrap();
    hub.room(ROOM).except(&BOB).send("of bob").await.others.unwrap();
    for (user, expected) in [(ANNA, ["of bob"]), (BOB, ["of anna"])] {
        let (mut client, joined) = join(&hub, user, Some(positions[0])).await;
        assert_eq!(joined.resumed, Resumed::Complete { missed: 1 });
        assert_eq!(framed(&mut client, 1).await.1, expected);
        assert_silent(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_without_a_history_are_as_they_were() {
    let hub = hub();
    let (said, mut says) = mpsc::unbounded_channel();
    let attaching = hub.clone();
    let mut client = testing::connect(async move |socket| {
        let handler = async move |mut member: Member<u64>| {
            let made_up = Position::new(1, MessageId::random());
            for after in [None, Some(made_up)] {
                said.send(member.join_after("plain", after).await.unwrap()).unwrap();
            }
            member.recv().await;
        };
        attaching.attach_with(ANNA, socket, handler).await
    });
    let joined = says.recv().await.unwrap();
    assert_eq!((joined.is_new, joined.resumed, joined.position), (true, Resumed::Fresh, None));
    let joined = says.recv().await.unwrap();
    assert_eq!((joined.is_new, joined.resumed, joined.position), (false, Resumed::Incomplete, None));
    assert_eq!(hub.room("plain").send("message").await.here, 1);
    assert_eq!(text(&mut client).await, "message", "it has no position");
}

#[tokio::test(start_paused = true)]
async fn who_joins_in_the_usual_way_gets_positions_too() {
    let hub = hub();
    let mut client = login(&hub, ANNA).await;
    assert_eq!(hub.join(&ANNA, ROOM).await, Ok(true));
    assert_eq!(hub.join(&ANNA, ROOM).await, Ok(false));
    say(&hub, 0..2).await;
    let (positions, got) = framed(&mut client, 2).await;
    assert_eq!((got, positions[1].number), (numbered("n", 0..2), 2));
    assert!(hub.leave(&ANNA, ROOM));
    say(&hub, 2..3).await;
    assert_silent(&mut client).await;
    assert_eq!((hub.rooms(), hub.join(&CARL, ROOM).await), (vec![], Err(JoinError::Offline)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_catches_up_at_its_own_pace_and_holds_up_nobody() {
    let hub = keeping(Hub::builder().queue(40, 1024 * 1024), 1_000);
    let positions = spoken(&hub, 400).await;
    let (mut reads, _) = join(&hub, BOB, None).await;
    let (mut slow, mut told) = join_slowly(&hub, ANNA, positions[0]).await;
    for round in 0..10 {
        say(&hub, 400 + 10 * round..410 + 10 * round).await;
        let expected = numbered("n", 400 + 10 * round..410 + 10 * round);
        assert_eq!(framed(&mut reads, 10).await.1, expected);
    }
    assert!(told.try_recv().is_err(), "it has not caught up");
    for expected in numbered("n", 1..500) {
        assert_eq!(parse(&slow.text().await).1, expected);
    }
    let joined = told.recv().await.unwrap().unwrap();
    assert_eq!(joined.resumed, Resumed::Complete { missed: 499 });
    say(&hub, 500..501).await;
    assert_eq!(parse(&slow.text().await).1, "n 500");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slower_than_the_history_is_closed_and_not_shown_a_gap() {
    let hub = keeping(Hub::builder(), 100);
    let positions = spoken(&hub, 100).await;
    let (slow, mut told) = join_slowly(&hub, ANNA, positions[0]).await;
    say(&hub, 100..300).await;
    let (got, close) = slow.rest().await;
    assert_eq!(close.unwrap().0, 4100);
    let got: Vec<_> = got.iter().map(|text| parse(text).1).collect();
    assert_eq!(got, numbered("n", 1..1 + got.len()));
    assert_eq!(told.recv().await.unwrap(), Err(JoinError::Offline));
}

#[tokio::test(start_paused = true)]
async fn one_connection_catches_up_while_another_of_the_user_gets_live_messages() {
    let hub = keeping(Hub::builder().login(Login::AllowMany(2)), 1_000);
    let positions = spoken(&hub, 200).await;
    let (mut live, _) = join(&hub, ANNA, None).await;
    let (mut slow, _told) = join_slowly(&hub, ANNA, positions[0]).await;
    say(&hub, 200..210).await;
    assert_eq!(framed(&mut live, 10).await.1, numbered("n", 200..210));
    for expected in numbered("n", 1..210) {
        assert_eq!(parse(&slow.text().await).1, expected);
    }
    settle().await;
    say(&hub, 210..212).await;
    for expected in numbered("n", 210..212) {
        assert_eq!(parse(&slow.text().await).1, expected);
    }
    assert_eq!(framed(&mut live, 2).await.1, numbered("n", 210..212));
    assert_silent(&mut live).await;
}

#[tokio::test(start_paused = true)]
async fn joining_that_is_given_up_holds_up_nothing() {
    let hub = keeping(Hub::builder(), 1_000);
    let positions = spoken(&hub, 300).await;
    let attaching = hub.clone();
    let mut client = scripted_with(&narrow(), async move |socket| {
        let handler = async move |mut member: Member<u64>| {
            let joining = member.join_after(ROOM, Some(positions[0]));
            assert!(tokio::time::timeout(SECOND, joining).await.is_err(), "it does not read");
            member.recv().await;
            assert_eq!(member.join(ROOM).await, Ok(false));
            member.recv().await;
        };
        attaching.attach_with(ANNA, socket, handler).await
    })
    .await;
    sleep(2 * SECOND).await;
    assert_eq!(hub.room(ROOM).send("not joined").await.here, 0);
    client.send("join").await;
    settle().await;
    assert_eq!(hub.room(ROOM).send("live").await.here, 1);
    let mut got = Vec::new();
    while got.last().is_none_or(|last| last != "live") {
        got.push(parse(&client.text().await).1);
    }
    assert!(!got.contains(&"not joined".to_owned()), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_replaces_another_gets_nothing_of_a_room_before_it_joins() {
    let hub = hub();
    let (mut old, _) = join(&hub, ANNA, None).await;
    say(&hub, 0..2).await;
    let (positions, _) = framed(&mut old, 2).await;
    let attaching = hub.clone();
    let (said, mut says) = mpsc::unbounded_channel();
    let mut new = testing::connect(async move |socket| {
        let handler = async move |mut member: Member<u64>| {
            member.recv().await;
            said.send(member.join_after(ROOM, Some(positions[0])).await.unwrap()).unwrap();
            member.recv().await;
        };
        attaching.attach_with(ANNA, socket, handler).await
    });
    settle().await;
    assert_eq!(hub.rooms_of(&ANNA), [ROOM], "they are in it still");
    assert_eq!(hub.room(ROOM).send("n 2").await.here, 0);
    assert_silent(&mut new).await;
    new.send("join").await.unwrap();
    let joined = says.recv().await.unwrap();
    assert_eq!((joined.is_new, joined.resumed), (false, Resumed::Complete { missed: 2 }));
    say(&hub, 3..4).await;
    assert_eq!(framed(&mut new, 3).await.1, numbered("n", 1..4));
}

#[tokio::test(start_paused = true)]
async fn all_nodes_see_one_order() {
    let (node, hubs) = two_hubs(1_000);
    let mut clients = Vec::new();
    for (user, hub) in [(ANNA, &hubs[0]), (BOB, &hubs[0]), (CARL, &hubs[1])] {
        clients.push(join(hub, user, None).await.0);
    }
    let pushes = AtomicUsize::new(0);
    node.faults().on_push(move |_| {
        let is_even = pushes.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if is_even { Push::Deliver } else { Push::Repeat }
    });
    let senders = hubs.iter().enumerate().flat_map(|(at, hub)| {
        (0..4).map(move |task| {
            let hub = hub.clone();
            tokio::spawn(async move {
                for number in 0..25 {
                    hub.room(ROOM).send(format!("{at} {task} {number}")).await.others.unwrap();
                }
            })
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let mut seen = Vec::new();
    for client in &mut clients {
        let (positions, got) = framed(client, 200).await;
        assert!(positions.windows(2).all(|it| it[0].number + 1 == it[1].number));
        assert_silent(client).await;
        seen.push(got);
    }
    assert!(seen[0] == seen[1] && seen[0] == seen[2]);
}

#[tokio::test(start_paused = true)]
async fn a_client_joins_on_another_node_where_it_had_stopped() {
    let (_node, [first, second]) = two_hubs(100);
    let positions = spoken(&first, 5).await;
    say(&first, 5..7).await;
    let (mut client, joined) = join(&second, ANNA, Some(positions[2])).await;
    assert_eq!(joined.resumed, Resumed::Complete { missed: 4 });
    say(&first, 7..9).await;
    assert_eq!(framed(&mut client, 6).await.1, numbered("n", 3..9));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_lost_is_found_by_the_next_one_or_by_a_gap() {
    let (node, [first, second]) = two_hubs(100);
    let (mut client, _) = join(&second, ANNA, None).await;
    say(&first, 0..1).await;
    node.faults().on_push(|_| Push::Lose);
    say(&first, 1..4).await;
    node.faults().clear();
    say(&first, 4..5).await;
    assert_eq!(framed(&mut client, 5).await.1, numbered("n", 0..5));
    node.faults().on_push(|_| Push::Lose);
    say(&first, 5..7).await;
    node.faults().clear();
    // more than a node keeps for another, so that it is told of a gap
    for _ in 0..5_000 {
        let _ = first.room("plain").send("message").await;
    }
    assert_eq!(framed(&mut client, 2).await.1, numbered("n", 5..7));
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_before_a_node_heard_of_it_closes_its_members() {
    let (node, [first, second]) = two_hubs(3);
    let (mut client, _) = join(&second, ANNA, None).await;
    say(&first, 0..1).await;
    assert_eq!(framed(&mut client, 1).await.1, ["n 0"]);
    node.faults().on_push(|_| Push::Lose);
    say(&first, 1..6).await;
    node.faults().clear();
    say(&first, 6..7).await;
    let (got, close) = rest(client).await;
    assert_eq!((got, close.unwrap().0), (vec![], 4100));
}

#[tokio::test(start_paused = true)]
async fn a_backplane_that_fails_refuses_to_send_and_to_join() {
    let node = InProcess::new();
    let hub = keeping(Hub::builder().backplane(node.another()), 100);
    let (mut member, _) = join(&hub, BOB, None).await;
    let mut client = login(&hub, ANNA).await;
    node.faults().on_call(|call| match call {
        Call::Publish | Call::Read => Answer::Refuse,
        _ => Answer::Normal,
    });
    let reach = hub.room(ROOM).send("message").await;
    assert_eq!((reach.here, reach.others.is_err()), (0, true));
    assert_silent(&mut member).await;
    assert_eq!(hub.join(&ANNA, "chat/other").await, Err(JoinError::Backplane));
    assert_eq!(hub.rooms_of(&ANNA), Vec::<String>::new());
    node.faults().clear();
    assert_eq!(hub.join(&ANNA, "chat/other").await, Ok(true));
    hub.room("chat/other").send("now").await.others.unwrap();
    assert_eq!(framed(&mut client, 1).await.1, ["now"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_if_what_it_has_missed_was_more_than_the_bytes_of_the_history() {
    let history = RoomHistory::new(1_000, 60 * SECOND).within(50);
    let hub = Hub::builder().framed(framing::prefix).room_history(move |_| Some(history)).build();
    let (mut client, _) = join(&hub, ANNA, None).await;
    // ten bytes each
    let texts = |range: Range<usize>| numbered("message", range);
    let (_stays, _) = join(&hub, BOB, None).await;
    for text in texts(10..16) {
        assert_eq!(hub.room(ROOM).send(text).await.here, 2);
    }
    let (positions, _) = framed(&mut client, 6).await;
    drop(client);
    settle().await;
    let (_, joined) = join(&hub, ANNA, Some(positions[0])).await;
    assert_eq!(joined.resumed, Resumed::Complete { missed: 5 });
    hub.room(ROOM).send("message 16").await.others.unwrap();
    let (_, joined) = join(&hub, ANNA, Some(positions[0])).await;
    assert_eq!(joined.resumed, Resumed::Incomplete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_are_cut_off_while_many_send_get_each_message_once_and_in_order() {
    const SENT: usize = 2_000;
    let hub = keeping(Hub::builder(), 10_000);
    let (_first, joined) = join(&hub, BOB, None).await;
    assert_eq!(joined.position, None);
    hub.room(ROOM).send("begin").await.others.unwrap();
    let readers = (10..14).map(|user| tokio::spawn(reader(hub.clone(), user, SENT)));
    let readers: Vec<_> = readers.collect();
    while hub.members(ROOM).len() < 5 {
        tokio::task::yield_now().await;
    }
    let senders = (0..4).map(|task| {
        let hub = hub.clone();
        tokio::spawn(async move {
            for number in 0..SENT / 4 {
                hub.room(ROOM).send(format!("{task} {number}")).await.others.unwrap();
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let mut all = Vec::new();
    for reader in readers {
        all.push(tokio::time::timeout(Duration::from_secs(300), reader).await.unwrap().unwrap());
    }
    assert!(all.iter().all(|got| *got == all[0]), "all have seen one order");
}

/// A client that leaves after some messages each time, and joins again where it had stopped, until it has got so many.
async fn reader(hub: Hub<u64>, user: u64, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    // the number of the first message is 1
    let mut last: Option<Position> = None;
    while got.len() < count {
        let (attach, mut told) = joins(&hub, user, last);
        let (server, stream) = tokio::io::duplex(256);
        let layer = WebSocketLayer::new().outbound_buffer(4);
        let task = tokio::spawn(async move { testing::accept(&layer, server, attach).await });
        let mut client = testing::client(stream);
        for _ in 0..=got.len() % 37 {
            if got.len() == count {
                break;
            }
            // one that could not keep up comes back, too
            let Some(Ok(message)) = soon(client.recv()).await else { break };
            let (position, message) = parse(message.as_text().unwrap());
            assert!(last.is_none_or(|last| position.number == last.number + 1), "{last:?} {position}");
            last = Some(position);
            got.push(message);
        }
        if let Ok(Ok(joined)) = told.try_recv() {
            assert_ne!(joined.resumed, Resumed::Incomplete);
        }
        drop(client);
        task.abort();
    }
    got
}
