//! Rooms and broadcasts.

use ws_hub::{Event, Hub, JoinError, Login};

use crate::support::{ANNA, BOB, CARL, assert_silent, login, settle, text};

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

#[tokio::test(start_paused = true)]
async fn a_room_gets_what_is_sent_to_it_but_for_those_who_are_excepted() {
    let hub = Hub::new();
    let (mut anna, mut bob, mut carl) =
        (login(&hub, ANNA).await, login(&hub, BOB).await, login(&hub, CARL).await);
    assert_eq!((hub.join(&ANNA, "lobby").await, hub.join(&BOB, "lobby").await), (Ok(true), Ok(true)));
    assert_eq!(hub.join(&BOB, "lobby").await, Ok(false));
    assert_eq!(hub.room("lobby").send("to both").await.here, 2);
    assert_eq!((text(&mut anna).await, text(&mut bob).await), ("to both".into(), "to both".into()));
    assert_eq!(hub.room("lobby").except(&ANNA).except(&CARL).send("to bob").await.here, 1);
    assert_eq!(text(&mut bob).await, "to bob");
    assert_eq!(hub.everyone().except(&BOB).send("to the others").await.here, 2);
    assert_eq!(
        (text(&mut anna).await, text(&mut carl).await),
        ("to the others".into(), "to the others".into())
    );
    assert_eq!(hub.room("nowhere").send("to nobody").await.here, 0);
    for client in [&mut anna, &mut bob, &mut carl] {
        assert_silent(client).await;
    }
    assert_eq!(sorted(hub.members("lobby")), [ANNA, BOB]);
    assert!(hub.leave(&BOB, "lobby") && !hub.leave(&BOB, "lobby"));
    assert_eq!(hub.members("lobby"), [ANNA]);
    assert_eq!(
        (hub.rooms(), hub.rooms_of(&ANNA), hub.stats().rooms),
        (vec!["lobby".into()], vec!["lobby".into()], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn who_goes_offline_leaves_his_rooms_and_who_is_replaced_stays() {
    let hub = Hub::new();
    let first = login(&hub, ANNA).await;
    hub.join(&ANNA, "lobby").await.unwrap();
    let mut second = login(&hub, ANNA).await;
    drop(first);
    settle().await;
    assert_eq!(hub.room("lobby").send("still in it").await.here, 1);
    assert_eq!(text(&mut second).await, "still in it");
    drop(second);
    settle().await;
    assert_eq!((hub.members("lobby"), hub.rooms(), hub.rooms_of(&ANNA)), (vec![], vec![], vec![]));
    assert_eq!(hub.join(&ANNA, "lobby").await, Err(JoinError::Offline));
    let mut back = login(&hub, ANNA).await;
    assert_eq!(hub.room("lobby").send("not in it").await.here, 0);
    assert_silent(&mut back).await;
}

#[tokio::test(start_paused = true)]
async fn one_of_several_connections_that_goes_leaves_no_room() {
    let hub = Hub::builder().login(Login::AllowMany(2)).build();
    let (first, mut second) = (login(&hub, ANNA).await, login(&hub, ANNA).await);
    hub.join(&ANNA, "lobby").await.unwrap();
    assert_eq!(hub.room("lobby").send("both").await.here, 2);
    assert_eq!(text(&mut second).await, "both");
    drop(first);
    settle().await;
    assert_eq!(hub.room("lobby").send("one").await.here, 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_is_in_so_many_rooms_and_no_more() {
    let hub = Hub::builder().max_rooms(2).build();
    let _client = login(&hub, ANNA).await;
    assert_eq!((hub.join(&ANNA, "a").await, hub.join(&ANNA, "b").await), (Ok(true), Ok(true)));
    assert_eq!(hub.join(&ANNA, "c").await, Err(JoinError::TooManyRooms { limit: 2 }));
    assert_eq!(hub.join(&ANNA, "a").await, Ok(false));
    hub.leave(&ANNA, "a");
    assert_eq!(hub.join(&ANNA, "c").await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn the_order_between_rooms_and_users_is_that_of_the_sender() {
    let hub = Hub::new();
    let mut client = login(&hub, ANNA).await;
    hub.join(&ANNA, "lobby").await.unwrap();
    for round in 0..20 {
        assert!(hub.send(&ANNA, format!("{round} user")).await.is_accepted());
        hub.room("lobby").send(format!("{round} room")).await;
        hub.broadcast(format!("{round} all")).await;
    }
    for round in 0..20 {
        for what in ["user", "room", "all"] {
            assert_eq!(text(&mut client).await, format!("{round} {what}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_and_going_are_told_in_order() {
    let hub = Hub::new();
    let mut events = hub.events();
    let client = login(&hub, ANNA).await;
    hub.join(&ANNA, "lobby").await.unwrap();
    drop(client);
    settle().await;
    let lobby = || "lobby".to_owned();
    for expected in [
        Event::Online(ANNA),
        Event::Joined { user: ANNA, room: lobby() },
        Event::Left { user: ANNA, room: lobby() },
        Event::Offline(ANNA),
    ] {
        assert_eq!(events.recv().await, Some(expected));
    }
}
