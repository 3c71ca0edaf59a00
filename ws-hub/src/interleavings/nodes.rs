//! Two nodes: a user moves between them, and what one of them signals to the other comes when it likes.

use super::*;

/// Sends on both nodes, while connections come on either and are kicked.
fn each_message_is_delivered_or_waits(guarantee: Guarantee, second: Manners) {
    in_any_order(move || {
        let nodes = Nodes::new(2, || builder(guarantee, Login::ReplaceOld));
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let first = Client::connect(here, NARROW, Manners::Polite);
        let senders = [send(here, ["a", "b"]), send(there, ["c", "d"])];
        let second = Client::connect(there, ROOMY, second);
        let kicking = kick(here);
        let first = first.close();
        let accepted = accepted(senders);
        assert_eq!(accepted.len(), 4);
        kicking.join().unwrap();
        let second = second.close();
        nodes.assert_at_rest();
        let delivered = [in_order(&first), in_order(&second)].concat();
        assert_delivered(&accepted, &delivered, &nodes.waiting(), guarantee == Guarantee::AtMostOnce);
    });
}

#[test]
fn what_is_sent_while_a_user_moves_to_another_node_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Manners::Polite);
}

#[test]
fn what_a_client_on_another_node_that_vanishes_has_not_confirmed_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtLeastOnce, Manners::Vanishes);
}

#[test]
fn of_logins_on_two_nodes_at_once_one_stays_and_everything_comes_without_being_asked_for() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        in_any_order(move || {
            let nodes = Nodes::new(2, || builder(guarantee, Login::ReplaceOld));
            let mut at = nodes.hubs.iter();
            let mut clients = [ROOMY, NARROW]
                .map(|pipe| Client::connect(at.next().expect("two nodes"), pipe, Manners::UntilLast));
            let accepted = accepted([send(&nodes.hubs[0], ["a", "b"]), send(&nodes.hubs[1], ["c", "d"])]);
            for client in &mut clients {
                // or it was replaced before
                client.is_let_in();
            }
            assert!(block_on(nodes.hubs[0].send(&USER, LAST)).is_accepted());
            let got = clients.map(Client::over);
            nodes.assert_at_rest();
            nodes.assert_nothing_waits(guarantee);
            let is_once = guarantee == Guarantee::AtMostOnce;
            assert_delivered(&accepted, &got.each_ref().map(in_order).concat(), &[], is_once);
        });
    }
}

#[test]
fn what_is_sent_while_signals_are_lost_comes_when_the_node_is_told_so() {
    in_any_order(|| {
        let nodes = Nodes::new(2, || builder(Guarantee::AtLeastOnce, Login::ReplaceOld));
        nodes.engines[0].faults().on_push(|signal| match signal {
            Signal::Gap => Push::Deliver,
            _ => Push::Lose,
        });
        let client = Client::connect(&nodes.hubs[1], ROOMY, Manners::UntilLast);
        let accepted = accepted([send(&nodes.hubs[0], ["a", "b"]), send(&nodes.hubs[0], ["c", LAST])]);
        nodes.engines[1].renew_lease();
        let got = client.over();
        let again = Client::connect(&nodes.hubs[0], ROOMY, Manners::Polite);
        nodes.engines[1].renew_lease();
        let again = again.close();
        nodes.assert_at_rest();
        let delivered = [in_order(&got), in_order(&again)].concat();
        assert_delivered(&accepted, &delivered, &nodes.waiting(), false);
    });
}

#[test]
fn a_user_whose_node_was_thought_to_be_gone_gets_everything_where_they_are() {
    in_any_order(|| {
        let nodes = Nodes::new(2, || builder(Guarantee::AtLeastOnce, Login::ReplaceOld));
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let mut away = Client::connect(here, ROOMY, Manners::UntilLast);
        let sender = send(there, ["a", "b"]);
        away.is_let_in();
        nodes.engines[0].end_lease();
        let mut elsewhere = Client::connect(there, ROOMY, Manners::UntilLast);
        let engine = Arc::clone(&nodes.engines[0]);
        let returning = thread::spawn(move || engine.renew_lease());
        assert!(elsewhere.is_let_in());
        let mut accepted = accepted([sender]);
        returning.join().unwrap();
        assert!(block_on(there.send(&USER, LAST)).is_accepted());
        accepted.push(LAST.to_owned());
        // the older one goes: it was replaced, and is told so when its node is back
        let (away, elsewhere) = (away.over(), elsewhere.over());
        nodes.assert_at_rest();
        let delivered = [in_order(&away), in_order(&elsewhere)].concat();
        assert_delivered(&accepted, &delivered, &nodes.waiting(), false);
    });
}

#[test]
fn a_kick_on_one_node_ends_the_connection_on_the_other_and_not_one_that_comes_after_it() {
    in_any_order(|| {
        let nodes = Nodes::new(2, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let mut first = Client::connect(there, ROOMY, Manners::Polite);
        assert!(first.is_let_in());
        let sender = send(here, ["a", "b"]);
        assert_eq!(block_on(here.kick(&USER)).unwrap(), 1);
        let mut second = Client::connect(here, ROOMY, Manners::UntilLast);
        assert!(second.is_let_in());
        assert!(block_on(there.send(&USER, LAST)).is_accepted());
        let (first, second) = (first.over(), second.over());
        assert_eq!(first.code, Some(4003));
        let accepted = accepted([sender]);
        nodes.assert_at_rest();
        let delivered = [in_order(&first), in_order(&second)].concat();
        assert_delivered(&accepted, &delivered, &nodes.waiting(), true);
    });
}

#[test]
fn a_user_who_is_kicked_on_another_node_while_they_log_in_is_told_so_or_gets_what_follows() {
    in_any_order(|| {
        let nodes = Nodes::new(2, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let mut client = Client::connect(there, ROOMY, Manners::UntilLast);
        let kicking = kick(here);
        let is_let_in = client.is_let_in();
        kicking.join().unwrap();
        assert!(block_on(here.send(&USER, LAST)).is_accepted());
        // it does not go on without being known
        let got = client.over();
        assert!(is_let_in || got.code == Some(4003));
        nodes.assert_at_rest();
        let accepted = [LAST.to_owned()];
        assert_delivered(&accepted, &in_order(&got), &nodes.waiting(), true);
    });
}

#[test]
fn what_a_connection_leaves_comes_on_another_one_of_its_user_on_another_node() {
    in_any_order(|| {
        let nodes = Nodes::new(2, || builder(Guarantee::AtMostOnce, Login::AllowMany(2)));
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let leaving = Client::connect(here, NARROW, Manners::Polite);
        let mut staying = Client::connect(there, ROOMY, Manners::UntilLast);
        let senders = [send(here, ["a", "b"]), send(there, ["c", "d"])];
        assert!(staying.is_let_in());
        let left = leaving.close();
        let accepted = accepted(senders);
        assert_eq!(block_on(here.send(&USER, LAST)), Delivery::Sent(1));
        let stayed = staying.over();
        nodes.assert_at_rest();
        nodes.assert_nothing_waits(Guarantee::AtMostOnce);
        assert_delivered(&accepted, &[in_order(&left), texts(&stayed)].concat(), &[], false);
    });
}

/// Sends while a connection replaces another one, and does nothing else: few threads come to more of the orders.
fn what_is_sent_during_a_takeover_comes_once(count: usize) {
    in_any_order(move || {
        let nodes = Nodes::new(count, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let [here, there] = [&nodes.hubs[0], nodes.hubs.last().expect("there is one")];
        let mut first = Client::connect(here, ROOMY, Manners::Polite);
        assert!(first.is_let_in());
        let second = Client::connect(there, ROOMY, Manners::Polite);
        let accepted = accepted([send(here, ["a", "b"])]);
        let delivered = [in_order(&first.close()), in_order(&second.close())].concat();
        nodes.assert_at_rest();
        assert_delivered(&accepted, &delivered, &nodes.waiting(), true);
    });
}

#[test]
fn what_is_sent_during_a_takeover_on_one_node_comes_once() {
    what_is_sent_during_a_takeover_comes_once(1);
}

#[test]
fn what_is_sent_during_a_takeover_by_another_node_comes_once() {
    what_is_sent_during_a_takeover_comes_once(2);
}
