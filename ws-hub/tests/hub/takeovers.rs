//! What comes twice, late or never: the limits of what is promised while connections take over from one another.

use std::collections::HashMap;

use tokio::time::sleep;
use ws_core::{WebSocket, testing};
use ws_hub::{After, Answer, Delivery, Guarantee, Hub, InProcess, Log as _, Login, Member, Page, framing};

use crate::support::{ANNA, SECOND, Scripted, TestLog, assert_silent, login, numbered, scripted, settle};

/// A connection that does not read has acknowledged messages that it has not sent, over a log that waits. It is replaced on
/// another node, and its end takes a while to get there; meanwhile the new connection is sent a newer message.
async fn a_late_end() -> ([Hub<u64>; 2], Scripted, Scripted) {
    let log = TestLog::default();
    log.put(ANNA, &numbered("n", 0..10));
    let first = InProcess::over(log);
    let nodes = [first.another(), first];
    nodes[0].faults().on_call(|call| match call {
        ws_hub::Call::Logout => Answer::Slow(SECOND),
        _ => Answer::Normal,
    });
    let hubs = nodes.map(|node| Hub::builder().guarantee(Guarantee::AtMostOnce).backplane(node).build());
    let ends = scripted(&hubs[0], ANNA).await;
    settle().await;
    let goes_on = scripted(&hubs[1], ANNA).await;
    assert_eq!(hubs[1].send(&ANNA, "n 10").await, Delivery::Sent(1));
    settle().await;
    (hubs, ends, goes_on)
}

async fn all(client: &mut WebSocket) -> Vec<String> {
    let mut texts = Vec::new();
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SECOND, client.recv()).await {
        texts.push(message.as_text().unwrap().to_owned());
    }
    texts
}

/// How often each message came.
fn counts(texts: impl IntoIterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_late_comes_after_newer_messages_which_come_twice_only_after_one_more_end() {
    for is_ended in [false, true] {
        let (hubs, ends, mut goes_on) = a_late_end().await;
        // now it is given back
        sleep(3 * SECOND).await;
        let mut came = ends.rest().await.0;
        if is_ended {
            hubs[1].kick(&ANNA).await.unwrap();
            came.extend(goes_on.rest().await.0);
            sleep(3 * SECOND).await;
            came.extend(all(&mut login(&hubs[0], ANNA).await).await);
        } else {
            for _ in came.len()..11 {
                came.push(goes_on.text().await);
            }
        }
        let counts = counts(came);
        assert_eq!(counts.len(), 11, "nothing is lost: {counts:?}");
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).map(|(text, _)| &**text).collect();
        assert!(twice.is_empty() || is_ended && twice == ["n 10"], "{twice:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_when_two_newer_logins_have_come_is_lost_and_nothing_else() {
    let (hubs, ends, goes_on) = a_late_end().await;
    let mut third = login(&hubs[0], ANNA).await;
    sleep(3 * SECOND).await;
    assert_eq!(hubs[0].send(&ANNA, "n 11").await, Delivery::Sent(1));
    let first = ends.rest().await.0;
    let lost = numbered("n", first.len()..10);
    let came = counts([first, goes_on.rest().await.0, all(&mut third).await].concat());
    assert!(came.values().all(|count| *count == 1), "{came:?}");
    for message in numbered("n", 0..12) {
        assert_eq!(came.contains_key(&message), !lost.contains(&message), "{message}: {came:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_that_it_has_got_another_connection_still_brings_and_leaves_to_nobody() {
    let log = TestLog::default();
    let hub = Hub::builder()
        .log(log.clone())
        .guarantee(Guarantee::AtLeastOnce)
        .login(Login::AllowMany(2))
        .framed(framing::prefix)
        .build();
    let mut slow = scripted(&hub, ANNA).await;
    for message in numbered("n", 0..10) {
        assert_eq!(hub.send(&ANNA, message).await, Delivery::Sent(1));
    }
    settle().await;
    let page = Page { messages: 10, bytes: usize::MAX };
    let top = log.read(&ANNA, After::Number(0), page).await.unwrap().top;
    // it has got everything, it says
    let attaching = hub.clone();
    let other = testing::connect(async move |socket: WebSocket| {
        let handler = async |mut member: Member<u64>| while let Some(Ok(_)) = member.recv().await {};
        attaching.attach_after(ANNA, socket, top, handler).await
    });
    settle().await;
    assert_eq!((hub.stats().connections, log.texts(ANNA)), (2, vec![]));
    for number in 0..5 {
        assert!(slow.text().await.ends_with(&format!("\nn {number}")));
    }
    drop((slow, other));
    sleep(SECOND).await;
    // a message has reached its user when one client has got it
    assert_silent(&mut login(&hub, ANNA).await).await;
}
