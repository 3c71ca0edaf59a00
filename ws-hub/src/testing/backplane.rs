//! The cases of [`backplane_suite`](super::backplane_suite), for users that are `u64`.
//!
//! Each panics where the backplane does something else.

#![expect(missing_docs, reason = "the names of the cases say what they check")]
#![expect(clippy::missing_panics_doc, reason = "that is what all of them are for")]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinSet;
use ws_core::{CloseFrame, Message};

use super::nodes::Policy::{Limit, NoLimit, Replace};
use super::nodes::{nodes, numbers, soon};
use crate::backplane::{Acked, Backplane, LoginError, LoginRequest, Packet, Signal, Standing, Unsent};
use crate::log::{Continuity, Page};
use crate::position::{MessageId, Position};

const ANNA: u64 = 7;
const BERT: u64 = 8;

/// Makes a test of each case for an implementation of [`Backplane`](crate::Backplane).
///
/// It takes a closure that makes so many nodes over one new, empty engine, in a `Vec`. The bounds of the log have to have room
/// for 100 messages of some bytes of one user.
#[doc(hidden)]
#[macro_export]
macro_rules! __backplane_suite {
    ($make:expr) => {
        $crate::__backplane_suite! { $make;
            nodes_have_different_names
            login_numbers_grow_on_all_nodes
            a_limit_is_exact_however_many_log_in_at_once
            a_login_that_replaces_ends_the_others_and_signals_their_nodes
            of_logins_that_replace_at_once_the_newest_stays
            a_connection_that_logs_in_twice_gets_the_same_answer
            a_message_is_signalled_to_the_nodes_of_its_user
            connections_elsewhere_are_counted
            a_login_gets_what_is_not_delivered
            a_login_beside_another_one_starts_at_the_top
            an_acknowledgement_moves_the_cursor
            an_acknowledgement_of_a_login_that_is_over_moves_nothing
            an_acknowledgement_with_another_start_moves_nothing
            an_acknowledgement_of_what_others_still_send_moves_nothing
            what_a_login_leaves_behind_another_one_sends
            what_a_login_leaves_behind_the_next_one_gets
            a_logout_of_a_login_that_was_never_answered_ends_it
            a_login_whose_future_is_dropped_can_be_logged_out
            a_logout_that_is_repeated_changes_nothing
            a_close_ends_all_logins_and_signals_the_other_nodes
            a_login_after_a_close_is_let_in
            a_login_that_is_there_is_asserted
            a_login_that_was_thought_to_be_gone_is_put_back
            a_login_that_is_put_back_does_not_pass_what_nobody_has_got
            a_login_that_was_closed_is_not_put_back
            a_login_that_was_replaced_is_not_put_back
            a_login_that_was_replaced_is_not_put_back_when_the_newer_one_is_gone
            a_login_over_the_limit_is_not_put_back
            without_a_position_what_is_not_delivered_comes
            a_client_at_the_top_has_missed_nothing
            a_client_gets_what_comes_after_its_position
            a_position_of_another_log_is_incomplete
            a_position_after_the_top_is_incomplete
            what_a_client_says_that_it_has_got_is_delivered
            pages_of_who_is_online_have_each_user_once
            what_is_published_reaches_the_other_nodes_only
            what_was_not_sent_is_given_back
            what_was_not_sent_is_given_back_to_the_login_that_is_there
            what_was_not_sent_is_given_back_after_a_close
            what_was_not_sent_is_given_back_once
        }
    };
    ($make:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let make = $make;
            $crate::testing::backplane::$case(make(3)).await;
        }
    )*};
}

#[expect(clippy::unused_async, reason = "it is called as the others")]
pub async fn nodes_have_different_names<B: Backplane<u64>>(backplanes: Vec<B>) {
    let names: BTreeSet<_> = backplanes.iter().map(|it| it.node().to_string()).collect();
    assert_eq!(names.len(), backplanes.len());
}

pub async fn login_numbers_grow_on_all_nodes<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    let mut last = 0;
    for connection in 1..=20 {
        for node in &nodes {
            let login = node.login(ANNA, connection, NoLimit).await.login;
            assert!(login > last, "{login} after {last}");
            last = login;
            if connection % 2 == 0 {
                node.logout(ANNA, connection, None).await;
            }
        }
    }
}

pub async fn a_limit_is_exact_however_many_log_in_at_once<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes: Vec<_> = nodes(backplanes).into_iter().map(|it| Arc::new(it.backplane)).collect();
    for (user, limit) in [(ANNA, 1), (BERT, 3)] {
        let mut logins = JoinSet::new();
        for connection in 1..=10 {
            for node in &nodes {
                let node = Arc::clone(node);
                logins.spawn(async move {
                    let (limit, page) = (Some(limit), Page::default());
                    let user = &user;
                    let login = LoginRequest { user, connection, limit, replace: false, after: None, page };
                    match node.login(&login).await {
                        Ok(_) => true,
                        Err(LoginError::TooMany) => false,
                        Err(other) => panic!("{other}"),
                    }
                });
            }
        }
        let let_in = soon(logins.join_all()).await.into_iter().filter(|is_in| *is_in).count();
        assert_eq!(let_in, limit);
    }
}

pub async fn a_login_that_replaces_ends_the_others_and_signals_their_nodes<B: Backplane<u64>>(
    backplanes: Vec<B>,
) {
    let mut nodes = nodes(backplanes);
    let old = nodes[0].login(ANNA, 1, Replace).await;
    let new = nodes[1].login(ANNA, 1, Replace).await;
    let replaced = nodes[0].signal(|signal| match signal {
        Signal::Replaced { user: ANNA, login } => Some(login),
        _ => None,
    });
    assert_eq!(replaced.await, new.login);
    assert_eq!(nodes[2].count(ANNA).await, 1);
    assert_eq!(nodes[0].acknowledge(ANNA, old.login, 0, 0).await, Acked::Gone(None));
    // the end of the old one is not that of the new one
    nodes[0].logout(ANNA, 1, None).await;
    assert_eq!(nodes[2].count(ANNA).await, 1);
}

pub async fn of_logins_that_replace_at_once_the_newest_stays<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    for connection in 1..=20 {
        let logins = tokio::join!(
            nodes[0].try_login(ANNA, connection, Replace, None),
            nodes[1].try_login(ANNA, connection, Replace, None),
            nodes[2].try_login(ANNA, connection, Replace, None),
        );
        // one that was replaced before it was answered may be told so
        let numbers = [logins.0, logins.1, logins.2].map(|login| login.map_or(0, |login| login.login));
        let newest = numbers.into_iter().max().unwrap_or_default();
        assert_eq!(nodes[0].count(ANNA).await, 1);
        for (node, number) in nodes.iter().zip(numbers).filter(|(_, number)| *number > 0) {
            let acked = node.acknowledge(ANNA, number, 0, 0).await;
            assert_eq!(acked == Acked::Done, number == newest, "{number} of {numbers:?}: {acked:?}");
        }
    }
}

pub async fn a_connection_that_logs_in_twice_gets_the_same_answer<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    for policy in [Replace, Limit(1), NoLimit] {
        let first = nodes[0].login(ANNA, 1, policy).await;
        assert_eq!(nodes[0].login(ANNA, 1, policy).await, first);
        assert_eq!(nodes[0].count(ANNA).await, 1);
    }
}

pub async fn a_message_is_signalled_to_the_nodes_of_its_user<B: Backplane<u64>>(backplanes: Vec<B>) {
    let mut nodes = nodes(backplanes);
    for node in &nodes[..2] {
        node.login(ANNA, 1, NoLimit).await;
    }
    nodes[2].login(BERT, 1, NoLimit).await;
    let (position, _) = nodes[2].append(ANNA, "hello").await;
    for node in &mut nodes[..2] {
        assert_eq!(node.entry(ANNA).await, position.number);
    }
    nodes[0].append(BERT, "first of what this node is told").await;
    let first = nodes[2].signal(|signal| match signal {
        Signal::Entry { user, entry } => Some((user, entry.message)),
        _ => None,
    });
    assert_eq!(first.await, (BERT, Message::text("first of what this node is told")));
}

pub async fn connections_elsewhere_are_counted<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    assert_eq!(nodes[0].append(ANNA, "to nobody").await.1, 0);
    for (node, connection) in [(0, 1), (1, 1), (1, 2)] {
        nodes[node].login(ANNA, connection, NoLimit).await;
    }
    let elsewhere = [nodes[0].append(ANNA, "a").await.1, nodes[1].append(ANNA, "b").await.1];
    assert_eq!((elsewhere, nodes[2].append(ANNA, "c").await.1), ([2, 1], 3));
    let counts = soon(nodes[2].backplane.connections(&[BERT, ANNA])).await.expect("the backplane works");
    assert_eq!(counts, [0, 3]);
}

pub async fn a_login_gets_what_is_not_delivered<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    let positions = nodes[1].append_some(ANNA, 3).await;
    let login = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!((login.read.after, numbers(&login)), (0, vec![1, 2, 3]));
    assert_eq!(login.read.top, Some(positions[2]));
}

pub async fn a_login_beside_another_one_starts_at_the_top<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    nodes[0].login(ANNA, 1, NoLimit).await;
    let login = nodes[1].login(ANNA, 1, NoLimit).await;
    assert_eq!((login.read.after, numbers(&login)), (3, vec![]));
}

pub async fn an_acknowledgement_moves_the_cursor<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let login = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, login.login, 0, 2).await, Acked::Done);
    assert_eq!(nodes[2].cursor(ANNA).await, 2);
}

pub async fn an_acknowledgement_of_a_login_that_is_over_moves_nothing<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let replaced = nodes[0].login(ANNA, 1, Replace).await;
    let left = nodes[1].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, replaced.login, 0, 3).await, Acked::Gone(None));
    nodes[1].logout(ANNA, 1, None).await;
    assert_eq!(nodes[1].acknowledge(ANNA, left.login, 0, 3).await, Acked::Gone(None));
    assert_eq!(nodes[2].cursor(ANNA).await, 0);
}

pub async fn an_acknowledgement_with_another_start_moves_nothing<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let login = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, login.login, 2, 3).await, Acked::StartsAt(0));
    assert_eq!(nodes[2].cursor(ANNA).await, 0);
}

pub async fn an_acknowledgement_of_what_others_still_send_moves_nothing<B: Backplane<u64>>(
    backplanes: Vec<B>,
) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let first = nodes[0].login(ANNA, 1, NoLimit).await;
    let second = nodes[1].login(ANNA, 1, NoLimit).await;
    nodes[2].append(ANNA, "to both").await;
    assert_eq!(nodes[1].acknowledge(ANNA, second.login, 3, 4).await, Acked::Done);
    assert_eq!(nodes[2].cursor(ANNA).await, 0);
    // now both have
    assert_eq!(nodes[0].acknowledge(ANNA, first.login, 0, 3).await, Acked::Done);
    assert_eq!(nodes[2].cursor(ANNA).await, 4);
}

pub async fn what_a_login_leaves_behind_another_one_sends<B: Backplane<u64>>(backplanes: Vec<B>) {
    let mut nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let first = nodes[0].login(ANNA, 1, NoLimit).await;
    let second = nodes[1].login(ANNA, 1, NoLimit).await;
    assert_eq!(nodes[0].acknowledge(ANNA, first.login, 0, 1).await, Acked::Done);
    nodes[0].logout(ANNA, 1, None).await;
    assert_eq!(nodes[1].restock(ANNA, second.login).await, 1);
    assert_eq!(nodes[1].acknowledge(ANNA, second.login, 3, 3).await, Acked::StartsAt(1));
    assert_eq!(nodes[1].acknowledge(ANNA, second.login, 1, 3).await, Acked::Done);
    assert_eq!(nodes[2].cursor(ANNA).await, 3);
}

pub async fn what_a_login_leaves_behind_the_next_one_gets<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let first = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, first.login, 0, 1).await, Acked::Done);
    assert_eq!(numbers(&nodes[1].login(ANNA, 1, Replace).await), [2, 3]);
    nodes[1].logout(ANNA, 1, None).await;
    assert_eq!(numbers(&nodes[2].login(ANNA, 1, Replace).await), [2, 3]);
}

pub async fn a_logout_of_a_login_that_was_never_answered_ends_it<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[0].logout(ANNA, 1, None).await;
    // its number is not known
    nodes[0].login(ANNA, 2, Limit(1)).await;
    nodes[0].logout(ANNA, 2, None).await;
    assert_eq!(nodes[1].count(ANNA).await, 0);
    nodes[1].login(ANNA, 1, Limit(1)).await;
}

pub async fn a_login_whose_future_is_dropped_can_be_logged_out<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    {
        let (user, limit, page) = (&ANNA, Some(1), Page::default());
        let login = LoginRequest { user, connection: 1, limit, replace: false, after: None, page };
        let mut login = nodes[0].backplane.login(&login);
        poll_fn(|cx| {
            let _ = login.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
    }
    nodes[0].logout(ANNA, 1, None).await;
    nodes[1].login(ANNA, 1, Limit(1)).await;
    assert_eq!(nodes[2].count(ANNA).await, 1);
}

pub async fn a_logout_that_is_repeated_changes_nothing<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[0].login(ANNA, 1, Replace).await;
    nodes[0].logout(ANNA, 1, None).await;
    nodes[0].login(ANNA, 2, Replace).await;
    nodes[0].logout(ANNA, 1, None).await;
    assert_eq!(nodes[1].count(ANNA).await, 1);
}

fn kicked() -> CloseFrame {
    CloseFrame::new(4003, "kicked")
}

pub async fn a_close_ends_all_logins_and_signals_the_other_nodes<B: Backplane<u64>>(backplanes: Vec<B>) {
    let mut nodes = nodes(backplanes);
    let mut logins = Vec::new();
    for node in &nodes {
        logins.push(node.login(ANNA, 1, NoLimit).await.login);
    }
    // those of its own node its hub closes
    assert_eq!(nodes[0].close(ANNA, &kicked()).await, 2);
    for (node, login) in nodes.iter_mut().zip(&logins).skip(1) {
        let closed = node.signal(|signal| match signal {
            Signal::Closed { user: ANNA, upto, frame } => Some((upto, frame)),
            _ => None,
        });
        let (upto, frame) = closed.await;
        assert!(upto >= *login);
        assert_eq!(frame, kicked());
    }
    for (node, login) in nodes.iter().zip(logins) {
        assert_eq!(node.acknowledge(ANNA, login, 0, 0).await, Acked::Gone(Some(kicked())));
    }
    assert_eq!(nodes[0].count(ANNA).await, 0);
}

pub async fn a_login_after_a_close_is_let_in<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    let before = nodes[1].login(ANNA, 1, Limit(1)).await;
    nodes[0].close(ANNA, &kicked()).await;
    let after = nodes[1].login(ANNA, 2, Limit(1)).await;
    assert!(after.login > before.login);
    assert_eq!(nodes[1].acknowledge(ANNA, after.login, 0, 0).await, Acked::Done);
    assert_eq!(nodes[1].acknowledge(ANNA, before.login, 0, 0).await, Acked::Gone(Some(kicked())));
}

pub async fn a_login_that_is_there_is_asserted<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    for policy in [Replace, Limit(1), NoLimit] {
        let login = nodes[0].login(ANNA, 1, policy).await;
        assert_eq!(nodes[0].reassert(ANNA, 1, login.login, 0, policy).await, Standing::StartsAt(0));
        assert_eq!(nodes[1].count(ANNA).await, 1);
    }
}

pub async fn a_login_that_was_thought_to_be_gone_is_put_back<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let login = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, login.login, 0, 2).await, Acked::Done);
    nodes[0].logout(ANNA, 1, None).await;
    assert_eq!(nodes[0].reassert(ANNA, 1, login.login, 2, Replace).await, Standing::StartsAt(2));
    assert_eq!(nodes[1].count(ANNA).await, 1);
    assert_eq!(nodes[0].acknowledge(ANNA, login.login, 2, 3).await, Acked::Done);
    assert_eq!(nodes[1].cursor(ANNA).await, 3);
}

pub async fn a_login_that_is_put_back_does_not_pass_what_nobody_has_got<B: Backplane<u64>>(
    backplanes: Vec<B>,
) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    nodes[0].login(ANNA, 1, NoLimit).await;
    // it starts at the top: the other one sends what comes before
    let second = nodes[1].login(ANNA, 1, NoLimit).await;
    nodes[0].logout(ANNA, 1, None).await;
    nodes[1].logout(ANNA, 1, None).await;
    assert_eq!(nodes[1].reassert(ANNA, 1, second.login, 3, NoLimit).await, Standing::StartsAt(0));
    assert_eq!(nodes[1].acknowledge(ANNA, second.login, 3, 3).await, Acked::StartsAt(0));
    assert_eq!(nodes[2].cursor(ANNA).await, 0);
}

pub async fn a_login_that_was_closed_is_not_put_back<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    let login = nodes[0].login(ANNA, 1, Replace).await;
    nodes[1].close(ANNA, &kicked()).await;
    assert_eq!(nodes[0].reassert(ANNA, 1, login.login, 0, Replace).await, Standing::Gone(Some(kicked())));
    assert_eq!(nodes[1].count(ANNA).await, 0);
}

pub async fn a_login_that_was_replaced_is_not_put_back<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    let old = nodes[0].login(ANNA, 1, Replace).await;
    nodes[1].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].reassert(ANNA, 1, old.login, 0, Replace).await, Standing::Gone(None));
    assert_eq!(nodes[1].count(ANNA).await, 1);
}

pub async fn a_login_that_was_replaced_is_not_put_back_when_the_newer_one_is_gone<B: Backplane<u64>>(
    backplanes: Vec<B>,
) {
    let nodes = nodes(backplanes);
    nodes[2].append_some(ANNA, 3).await;
    let old = nodes[0].login(ANNA, 1, Replace).await;
    let new = nodes[1].login(ANNA, 1, Replace).await;
    nodes[1].logout(ANNA, 1, None).await;
    // it would send once more what the newer one has sent
    assert_eq!(nodes[0].reassert(ANNA, 1, old.login, 0, Replace).await, Standing::Gone(None));
    assert_eq!(nodes[1].reassert(ANNA, 1, new.login, 0, Replace).await, Standing::StartsAt(0));
    assert_eq!(nodes[2].count(ANNA).await, 1);
}

pub async fn a_login_over_the_limit_is_not_put_back<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    let login = nodes[0].login(ANNA, 1, Limit(1)).await;
    nodes[0].logout(ANNA, 1, None).await;
    nodes[1].login(ANNA, 1, Limit(1)).await;
    assert_eq!(nodes[0].reassert(ANNA, 1, login.login, 0, Limit(1)).await, Standing::Gone(None));
    assert_eq!(nodes[1].count(ANNA).await, 1);
}

/// What a client gets that comes back with a position: how it goes on, after which number, and what.
async fn resumed<B: Backplane<u64>>(
    backplanes: Vec<B>,
    choose: impl Fn(&[Position]) -> Option<Position>,
) -> (Continuity, u64, Vec<u64>, u64) {
    let nodes = nodes(backplanes);
    let positions = nodes[1].append_some(ANNA, 5).await;
    let earlier = nodes[1].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[1].acknowledge(ANNA, earlier.login, 0, 2).await, Acked::Done);
    let login = nodes[0].try_login(ANNA, 1, Replace, choose(&positions)).await.expect("it is let in");
    (login.read.continuity, login.read.after, numbers(&login), nodes[2].cursor(ANNA).await)
}

pub async fn without_a_position_what_is_not_delivered_comes<B: Backplane<u64>>(backplanes: Vec<B>) {
    assert_eq!(resumed(backplanes, |_| None).await, (Continuity::Complete, 2, vec![3, 4, 5], 2));
}

pub async fn a_client_at_the_top_has_missed_nothing<B: Backplane<u64>>(backplanes: Vec<B>) {
    let at_the_top = resumed(backplanes, |positions| positions.last().copied());
    assert_eq!(at_the_top.await, (Continuity::Complete, 5, vec![], 5));
}

pub async fn a_client_gets_what_comes_after_its_position<B: Backplane<u64>>(backplanes: Vec<B>) {
    // before the cursor: it comes once more, because the client asks for it
    let before = resumed(backplanes, |positions| positions.first().copied());
    assert_eq!(before.await, (Continuity::Complete, 1, vec![2, 3, 4, 5], 2));
}

pub async fn a_position_of_another_log_is_incomplete<B: Backplane<u64>>(backplanes: Vec<B>) {
    let other = |positions: &[Position]| Some(Position::new(3, MessageId::new(!positions[2].id.get())));
    assert_eq!(resumed(backplanes, other).await, (Continuity::Incomplete, 2, vec![3, 4, 5], 2));
}

pub async fn a_position_after_the_top_is_incomplete<B: Backplane<u64>>(backplanes: Vec<B>) {
    let after = |positions: &[Position]| Some(Position::new(6, positions[4].id));
    assert_eq!(resumed(backplanes, after).await, (Continuity::Incomplete, 2, vec![3, 4, 5], 2));
}

pub async fn what_a_client_says_that_it_has_got_is_delivered<B: Backplane<u64>>(backplanes: Vec<B>) {
    let after = |positions: &[Position]| Some(positions[3]);
    assert_eq!(resumed(backplanes, after).await, (Continuity::Complete, 4, vec![5], 4));
}

pub async fn pages_of_who_is_online_have_each_user_once<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    for user in 0..20 {
        for node in &nodes[..2] {
            node.login(user, user + 1, NoLimit).await;
        }
    }
    nodes[0].logout(19, 20, None).await;
    nodes[1].logout(19, 20, None).await;
    let (mut users, mut after) = (Vec::new(), None);
    loop {
        let page = soon(nodes[2].backplane.online(after.as_deref(), 7)).await.expect("the backplane works");
        assert!(page.users.len() <= 7);
        users.extend(page.users);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    users.sort_unstable();
    assert_eq!(users, (0..19).collect::<Vec<_>>());
}

pub async fn what_is_published_reaches_the_other_nodes_only<B: Backplane<u64>>(backplanes: Vec<B>) {
    let mut nodes = nodes(backplanes);
    for node in &nodes {
        soon(node.backplane.watch("lobby")).await.expect("the backplane works");
    }
    let packet = |text: &str| Packet {
        room: Some("lobby".to_owned()),
        except: vec![BERT],
        message: Message::text(text),
    };
    let published = soon(nodes[0].backplane.publish(packet("by the first"))).await;
    assert!(published.expect("the backplane works") >= 2);
    for node in &mut nodes[1..] {
        let got = node.signal(|signal| match signal {
            Signal::Packet(packet) => Some(packet),
            _ => None,
        });
        assert_eq!(got.await, packet("by the first"));
    }
    soon(nodes[1].backplane.publish(packet("by the second"))).await.expect("the backplane works");
    // the first that comes to this node is not its own
    let got = nodes[0].signal(|signal| match signal {
        Signal::Packet(packet) => Some(packet),
        _ => None,
    });
    assert_eq!(got.await, packet("by the second"));
}

const UNSENT: Unsent = Unsent { after: 1, acknowledged: 3, upto: 3 };

pub async fn what_was_not_sent_is_given_back<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let login = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, login.login, 0, 3).await, Acked::Done);
    nodes[0].logout(ANNA, 1, Some(UNSENT)).await;
    assert_eq!(nodes[2].cursor(ANNA).await, 1);
    assert_eq!(numbers(&nodes[1].login(ANNA, 1, Replace).await), [2, 3]);
}

pub async fn what_was_not_sent_is_given_back_to_the_login_that_is_there<B: Backplane<u64>>(
    backplanes: Vec<B>,
) {
    let mut nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let old = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, old.login, 0, 3).await, Acked::Done);
    let new = nodes[1].login(ANNA, 1, Replace).await;
    assert_eq!(numbers(&new), Vec::<u64>::new());
    nodes[0].logout(ANNA, 1, Some(UNSENT)).await;
    assert_eq!(nodes[1].restock(ANNA, new.login).await, 1);
    assert_eq!(nodes[1].acknowledge(ANNA, new.login, 1, 3).await, Acked::Done);
    assert_eq!(nodes[2].cursor(ANNA).await, 3);
}

pub async fn what_was_not_sent_is_given_back_after_a_close<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let login = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, login.login, 0, 3).await, Acked::Done);
    nodes[1].close(ANNA, &kicked()).await;
    nodes[0].logout(ANNA, 1, Some(UNSENT)).await;
    assert_eq!(numbers(&nodes[1].login(ANNA, 1, Replace).await), [2, 3]);
}

pub async fn what_was_not_sent_is_given_back_once<B: Backplane<u64>>(backplanes: Vec<B>) {
    let nodes = nodes(backplanes);
    nodes[1].append_some(ANNA, 3).await;
    let old = nodes[0].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[0].acknowledge(ANNA, old.login, 0, 3).await, Acked::Done);
    nodes[0].logout(ANNA, 1, Some(UNSENT)).await;
    let new = nodes[1].login(ANNA, 1, Replace).await;
    assert_eq!(nodes[1].acknowledge(ANNA, new.login, 1, 3).await, Acked::Done);
    // the answer was lost
    nodes[0].logout(ANNA, 1, Some(UNSENT)).await;
    assert_eq!(nodes[2].cursor(ANNA).await, 3);
    nodes[1].logout(ANNA, 1, None).await;
    nodes[0].logout(ANNA, 1, Some(UNSENT)).await;
    assert_eq!(nodes[2].cursor(ANNA).await, 3);
}
