//! Rooms, with and without histories, and who subscribes to them.

use std::time::Duration;

use ws_core::Message;
use ws_hub::{
    Backplane as _, Continuity, MessageId, Packet, Page, Position, RoomAppend, RoomHistory, RoomRead, Signal,
};

use crate::server::{Server, shared};
use crate::support::{ALL, ANNA, Node, soon, until};

async fn nodes() -> (String, [Node; 2]) {
    let prefix = Server::prefix();
    let one = async || Node::new(shared().builder().prefix(&prefix)).await;
    (format!("{prefix}:{{p0}}:"), [one().await, one().await])
}

async fn append(node: &Node, history: RoomHistory, text: &str) -> (Position, usize) {
    let message = Message::text(text);
    let append = RoomAppend::new("lobby", MessageId::random(), &[ANNA], &message, history);
    let sent = soon(node.backplane.append_to_room(&append)).await.unwrap();
    assert_eq!((&sent.entry.message, &sent.entry.except), (&message, &vec![ANNA]));
    (sent.entry.position, sent.nodes)
}

async fn read(node: &Node, after: Option<Position>, page: Page) -> RoomRead<u64> {
    soon(node.backplane.read_room("lobby", after, page)).await.unwrap()
}

fn numbers(read: &RoomRead<u64>) -> Vec<u64> {
    read.entries.iter().map(|entry| entry.position.number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_members_of_a_room_does_not_subscribe_to_it() {
    let (keys, [here, there]) = nodes().await;
    let channel = format!("{keys}r:lobby");
    let packet = || Packet { room: Some("lobby".to_owned()), except: Vec::new(), message: "hello".into() };
    let published = async || soon(here.backplane.publish(packet())).await.unwrap();
    assert_eq!(published().await, 0);
    for node in [&here, &there] {
        soon(node.backplane.watch("lobby")).await.unwrap();
        soon(node.backplane.watch("lobby")).await.unwrap();
    }
    assert_eq!(published().await, 1, "others only");
    // the last member goes, and the next one comes
    there.backplane.unwatch("lobby");
    soon(there.backplane.watch("lobby")).await.unwrap();
    assert_eq!(published().await, 1);
    there.backplane.unwatch("lobby");
    here.backplane.unwatch("lobby");
    until("nobody is subscribed", async || shared().subscribers(&channel) == 0).await;
    soon(there.backplane.watch("lobby")).await.unwrap();
    assert_eq!(published().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_has_what_it_says_and_tells_what_is_missing() {
    let (_, [here, mut there]) = nodes().await;
    soon(there.backplane.watch("lobby")).await.unwrap();
    let empty = read(&here, None, ALL).await;
    assert_eq!((empty.entries.len(), empty.top, empty.continuity), (0, None, Continuity::Complete));
    let history = RoomHistory::new(4, Duration::from_secs(300));
    let mut positions = Vec::new();
    for number in 1..=6 {
        let (position, nodes) = append(&here, history, &number.to_string()).await;
        assert_eq!((position.number, nodes), (number, 1));
        positions.push(position);
        let entry = there.signal(|signal| match signal {
            Signal::RoomEntry { room, entry } if room == "lobby" => Some(entry),
            _ => None,
        });
        let entry = entry.await;
        assert_eq!((entry.position, entry.except), (position, vec![ANNA]));
        if number <= 4 {
            let all = read(&there, None, ALL).await;
            assert_eq!((numbers(&all), all.continuity), ((1..=number).collect(), Continuity::Complete));
        }
    }
    let other = Position::new(3, MessageId::new(!positions[2].id.get()));
    let after_the_top = Position::new(7, positions[5].id);
    for (after, expected) in [
        (None, None),
        (Some(positions[0]), None),
        (Some(positions[1]), Some(vec![3, 4, 5, 6])),
        (Some(positions[3]), Some(vec![5, 6])),
        (Some(positions[5]), Some(vec![])),
        (Some(other), None),
        (Some(after_the_top), None),
    ] {
        let read = read(&there, after, ALL).await;
        let complete = (read.continuity == Continuity::Complete).then(|| numbers(&read));
        assert_eq!((complete, read.top), (expected, Some(positions[5])), "after {after:?}");
    }
    let page = read(&there, Some(positions[1]), Page { messages: 2, ..ALL }).await;
    assert_eq!(numbers(&page), [3, 4]);
    assert_eq!(page.entries[0].previous, Some(positions[1].id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_forgotten_when_its_time_is_over() {
    let (keys, [here, _]) = nodes().await;
    let (old, _) = append(&here, RoomHistory::new(4, Duration::from_millis(1)), "old").await;
    let names = [format!("{keys}r:lobby"), format!("{keys}h:lobby")];
    let left = || shared().number(&["EXISTS", &names[0], &names[1]]);
    until("nothing is left", async || left() == 0).await;
    let gone = read(&here, Some(old), ALL).await;
    assert_eq!((gone.top, gone.continuity), (None, Continuity::Incomplete));
    // one that is kept for ever
    assert_eq!(append(&here, RoomHistory::new(4, Duration::MAX), "new").await.0.number, 1);
    assert_eq!(numbers(&read(&here, None, ALL).await), [1]);
}
