//! Rooms, with and without a history.

use std::time::Duration;

use super::*;
use crate::member::Member;
use crate::position::{Position, Resumed};
use crate::room::RoomHistory;

const ROOM: &str = "room";

/// Another user.
const OTHER: u64 = 8;

/// Two nodes whose room has a history, or not.
fn nodes(has_history: bool) -> Nodes {
    let history = RoomHistory::new(64, Duration::from_secs(3600));
    Nodes::new(2, || {
        let builder = builder(Guarantee::AtMostOnce, Login::ReplaceOld);
        builder.room_history(move |_| has_history.then_some(history))
    })
}

/// Sends messages to the room from a thread.
fn say(hub: &Hub<u64>, texts: [&'static str; 2]) -> JoinHandle<()> {
    concurrently(hub, async move |hub| {
        for text in texts {
            assert!(hub.room(ROOM).send(text).await.others.is_ok());
        }
    })
}

/// What came after the message at this position, as the history has it.
fn history(nodes: &Nodes, after: Option<Position>) -> Vec<(u64, String)> {
    let read = block_on(nodes.engines[0].read_room(ROOM, after, ALL)).unwrap();
    let entries = read.entries.iter();
    entries.map(|it| (it.position.number, it.message.as_text().unwrap().to_owned())).collect()
}

/// The first message of the room, sent before all others.
fn first_position(nodes: &Nodes) -> Position {
    assert!(block_on(nodes.hubs[0].room(ROOM).send("first")).others.is_ok());
    block_on(nodes.engines[0].read_room(ROOM, None, ALL)).unwrap().top.expect("it is there")
}

/// A connection whose handler does something with its member, says that it has, and goes on.
fn member<F>(hub: &Hub<u64>, pipe: usize, work: impl FnOnce(Member<u64>) -> F + Send + 'static) -> Client
where
    F: Future<Output = Member<u64>> + Send,
{
    let hub = hub.clone();
    Client::serve(pipe, Manners::UntilLast, async move |socket, entered| {
        let handler = async move |member: Member<u64>| {
            let mut member = work(member).await;
            let _ = entered.send(());
            while let Some(Ok(_)) = member.recv().await {}
        };
        hub.attach_with(USER, socket, handler).await
    })
}

#[test]
fn what_a_room_is_said_to_have_got_comes_while_a_user_joins_leaves_and_goes() {
    in_any_order(|| {
        let nodes = Nodes::new(1, || Hub::builder().guarantee(Guarantee::AtMostOnce));
        let hub = &nodes.hubs[0];
        let client = Client::connect(hub, ROOMY, Manners::Polite);
        let moving = concurrently(hub, async |hub| {
            for _ in 0..2 {
                let has_joined = hub.join(&USER, ROOM).await.is_ok();
                // they may have gone meanwhile
                assert!(!hub.leave(&USER, ROOM) || has_joined);
            }
            let _ = hub.join(&USER, ROOM).await;
        });
        let sending = ["a", "b"].map(|text| {
            concurrently(hub, async move |hub| {
                hub.room(ROOM).send(text).await.here + hub.room(ROOM).send(text).await.here
            })
        });
        let kicking = kick(hub);
        let came = client.close().texts;
        moving.join().unwrap();
        let sent: usize = sending.into_iter().map(|sending| sending.join().unwrap()).sum();
        kicking.join().unwrap();
        assert_eq!(came.len(), sent);
        assert!(came.iter().collect::<HashSet<_>>().len() <= 2);
        nodes.assert_at_rest();
    });
}

/// Waits until a user has joined, while others of the room come and go, and sends.
fn who_has_joined_gets_it(has_history: bool) {
    in_any_order(move || {
        let nodes = nodes(has_history);
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let mut other = Client::of(OTHER, here, ROOMY, Manners::Polite);
        other.is_let_in();
        let moving = concurrently(here, async |hub| {
            for _ in 0..2 {
                assert!(hub.join(&OTHER, ROOM).await.unwrap());
                assert!(hub.leave(&OTHER, ROOM));
            }
        });
        let mut client = member(here, NARROW, async |member| {
            assert!(member.join(ROOM).await.unwrap());
            member
        });
        assert!(client.is_let_in());
        // from the other node
        let reach = block_on(there.room(ROOM).except(&OTHER).send(LAST));
        assert_eq!((reach.here, reach.others.unwrap()), (0, 1));
        let got = client.over();
        moving.join().unwrap();
        other.close();
        assert_eq!(got.texts.len(), 1);
        nodes.assert_at_rest();
    });
}

#[test]
fn who_has_joined_a_room_gets_what_is_sent_after_that_while_others_come_and_go() {
    who_has_joined_gets_it(false);
}

#[test]
fn who_has_joined_a_room_with_a_history_gets_what_is_sent_after_that_while_others_come_and_go() {
    who_has_joined_gets_it(true);
}

#[test]
fn who_joins_after_a_message_gets_all_that_follow_once_and_in_order_while_they_are_sent() {
    in_any_order(|| {
        let nodes = nodes(true);
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let first = first_position(&nodes);
        let senders = [say(here, ["a", "b"]), say(there, ["c", "d"])];
        let mut client = member(here, NARROW, async move |member| {
            let joined = member.join_after(ROOM, Some(first)).await.unwrap();
            assert!(joined.is_new && matches!(joined.resumed, Resumed::Complete { .. }));
            member
        });
        assert!(client.is_let_in());
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(block_on(there.room(ROOM).send(LAST)).others.is_ok());
        let got = client.over();
        assert_eq!(logged(&got), history(&nodes, Some(first)));
        nodes.assert_at_rest();
    });
}

#[test]
fn who_gives_up_joining_after_a_message_and_joins_once_more_misses_nothing() {
    in_any_order(|| {
        let nodes = nodes(true);
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let first = first_position(&nodes);
        let senders = [say(here, ["a", "b"]), say(there, ["c", "d"])];
        let (cut, is_cut) = Cut::new();
        let mut client = member(here, NARROW, async move |member| {
            let joined = unless_cut(is_cut, member.join_after(ROOM, Some(first))).await;
            assert!(joined.is_none_or(|joined| joined.is_ok()));
            member.join_after(ROOM, Some(first)).await.unwrap();
            member
        });
        let cutting = cut.cut();
        assert!(client.is_let_in());
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(block_on(there.room(ROOM).send(LAST)).others.is_ok());
        let mut last = first.number;
        let mut got = logged(&client.over());
        // as a client does that knows where it is
        got.retain(|&(number, _)| {
            let is_new = number > last;
            last = last.max(number);
            is_new
        });
        assert_eq!(got, history(&nodes, Some(first)));
        cutting.join().unwrap();
        nodes.assert_at_rest();
    });
}

#[test]
fn nothing_is_left_of_a_room_with_a_history_whose_members_go_while_they_join_and_messages_come() {
    in_any_order(|| {
        let nodes = nodes(true);
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let first = first_position(&nodes);
        let client = member(here, ROOMY, async move |member| {
            // they may be gone already
            let _ = member.join_after(ROOM, Some(first)).await;
            member.leave(ROOM);
            let _ = member.join(ROOM).await;
            member
        });
        let joining = concurrently(here, async |hub| {
            // they may be gone already, or not there yet
            hub.join(&USER, ROOM).await.unwrap_or_default()
        });
        let senders = [say(here, ["a", "b"]), say(there, ["c", "d"])];
        let kicking = kick(there);
        client.close();
        for sender in senders {
            sender.join().unwrap();
        }
        joining.join().unwrap();
        kicking.join().unwrap();
        nodes.assert_at_rest();
        assert_eq!(nodes.hubs[0].members(ROOM), [0; 0]);
    });
}
