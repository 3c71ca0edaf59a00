//! One node: what is sent to a user while connections of theirs come, go and replace one another.

use super::*;

/// Sends from two threads, while connections with a pipe of so many bytes come, replace one another, and are kicked.
fn each_message_is_delivered_or_waits(guarantee: Guarantee, login: Login, pipe: usize, second: Manners) {
    in_any_order(move || {
        let nodes = Nodes::new(1, || builder(guarantee, login));
        let hub = &nodes.hubs[0];
        let first = Client::connect(hub, pipe, Manners::Polite);
        let senders = [send(hub, ["a", "b"]), send(hub, ["c", "d"])];
        let second = Client::connect(hub, pipe, second);
        let kicking = kick(hub);
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
fn what_is_sent_while_connections_replace_one_another_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Login::ReplaceOld, ROOMY, Manners::Polite);
}

#[test]
fn what_does_not_fit_into_a_connection_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Login::ReplaceOld, NARROW, Manners::Polite);
}

#[test]
fn what_a_client_that_vanishes_has_not_confirmed_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtLeastOnce, Login::ReplaceOld, ROOMY, Manners::Vanishes);
}

#[test]
fn what_is_sent_while_a_second_connection_is_refused_is_delivered_once_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, Login::RejectNew, ROOMY, Manners::Polite);
}

#[test]
fn of_two_logins_at_once_one_stays_and_everything_comes_once_without_being_asked_for() {
    in_any_order(|| {
        let nodes = Nodes::new(1, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let hub = &nodes.hubs[0];
        let mut clients = [ROOMY, NARROW].map(|pipe| Client::connect(hub, pipe, Manners::UntilLast));
        let accepted = accepted([send(hub, ["a", "b"])]);
        let let_in = clients.iter_mut().filter_map(|client| client.is_let_in().then_some(())).count();
        assert!(let_in > 0);
        assert_eq!(block_on(hub.send(&USER, LAST)), Delivery::Sent(1));
        let got = clients.map(Client::over);
        nodes.assert_at_rest();
        nodes.assert_nothing_waits(Guarantee::AtMostOnce);
        assert_delivered(&accepted, &got.each_ref().map(in_order).concat(), &[], true);
    });
}

#[test]
fn each_of_several_connections_gets_all_that_is_sent_while_it_is_there_in_order() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        in_any_order(move || {
            let nodes = Nodes::new(1, || builder(guarantee, Login::AllowMany(2)));
            let hub = &nodes.hubs[0];
            let mut clients = [ROOMY, NARROW].map(|pipe| Client::connect(hub, pipe, Manners::Polite));
            let senders = [send(hub, ["a", "b"]), send(hub, ["c", "d"])];
            assert!(clients.iter_mut().all(Client::is_let_in));
            let accepted = accepted(senders);
            assert_eq!(accepted.len(), 4);
            assert_eq!(block_on(hub.send(&USER, LAST)), Delivery::Sent(2));
            clients.iter_mut().for_each(Client::gets_last);
            let got = clients.map(Client::close);
            nodes.assert_at_rest();
            nodes.assert_nothing_waits(guarantee);
            let got = got.map(|mut got| {
                // what the other one leaves unconfirmed comes after it
                let last =
                    got.texts.iter().position(|text| text.ends_with(LAST)).expect("it gets the last one");
                got.texts.truncate(last + 1);
                in_order(&got)
            });
            assert_delivered(&accepted, &got.concat(), &[], false);
        });
    }
}

#[test]
fn what_one_of_several_connections_leaves_comes_on_the_other_one_that_stays() {
    for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        in_any_order(move || {
            let nodes = Nodes::new(1, || builder(guarantee, Login::AllowMany(2)));
            let hub = &nodes.hubs[0];
            let leaving = Client::connect(hub, NARROW, Manners::Polite);
            let mut staying = Client::connect(hub, ROOMY, Manners::UntilLast);
            let senders = [send(hub, ["a", "b"]), send(hub, ["c", "d"])];
            assert!(staying.is_let_in());
            let left = leaving.close();
            let accepted = accepted(senders);
            assert_eq!(block_on(hub.send(&USER, LAST)), Delivery::Sent(1));
            let stayed = staying.over();
            nodes.assert_at_rest();
            nodes.assert_nothing_waits(guarantee);
            let delivered = [in_order(&left), texts(&stayed)].concat();
            assert_delivered(&accepted, &delivered, &[], false);
        });
    }
}

#[test]
fn a_kick_ends_those_who_are_there_and_nobody_who_comes_after_it() {
    in_any_order(|| {
        let nodes = Nodes::new(1, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let hub = &nodes.hubs[0];
        let mut there = Client::connect(hub, ROOMY, Manners::Polite);
        assert!(there.is_let_in());
        let sender = send(hub, ["a", "b"]);
        let meanwhile = Client::connect(hub, ROOMY, Manners::Polite);
        let closed = kick(hub).join().unwrap();
        let mut after = Client::connect(hub, ROOMY, Manners::UntilLast);
        let accepted = accepted([sender]);
        let is_let_in = after.is_let_in();
        let (there, meanwhile) = (there.over(), meanwhile.close());
        let codes = (there.code, meanwhile.code);
        // one that came meanwhile may count as newer, and be kicked all the same
        assert!(is_let_in || [Some(1000), Some(4003)].contains(&meanwhile.code), "{codes:?}");
        assert!([Some(4001), Some(4003)].contains(&codes.0), "{codes:?} {closed}");
        assert!(closed <= 1, "one replaces the other");
        let _ = block_on(hub.send(&USER, LAST));
        let after = if is_let_in { after.close() } else { after.over() };
        nodes.assert_at_rest();
        let delivered = [in_order(&there), in_order(&meanwhile), in_order(&after)].concat();
        assert_delivered(&accepted, &delivered, &nodes.waiting(), true);
    });
}

#[test]
fn a_drain_leaves_nobody_behind_however_late_they_come() {
    in_any_order(|| {
        let nodes = Nodes::new(1, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let hub = &nodes.hubs[0];
        let first = Client::connect(hub, NARROW, Manners::Polite);
        let sender = send(hub, ["a", "b"]);
        let second = Client::connect(hub, ROOMY, Manners::Polite);
        let draining = concurrently(hub, async |hub| hub.drain(Drain::new()).await);
        let got = [first.over(), second.over()];
        assert_eq!(draining.join().unwrap().remaining, 0);
        let accepted = accepted([sender]);
        for code in got.each_ref().map(|got| got.code) {
            assert!([Some(1001), Some(1013), Some(4001)].contains(&code), "{code:?}");
        }
        nodes.assert_at_rest();
        assert_delivered(&accepted, &got.each_ref().map(in_order).concat(), &nodes.waiting(), true);
    });
}

#[test]
fn a_connection_ends_when_its_member_is_dropped_elsewhere_after_what_is_queued() {
    in_any_order(|| {
        let nodes = Nodes::new(1, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let hub = &nodes.hubs[0];
        let (give, take) = oneshot::channel();
        let attaching = hub.clone();
        let client = Client::serve(NARROW, Manners::Polite, async move |socket, _| {
            let handler = async |member| assert!(give.send(member).is_ok());
            attaching.attach_with(USER, socket, handler).await
        });
        let sender = send(hub, ["a", "b"]);
        let dropping = thread::spawn(move || drop(block_on(take).expect("it is let in")));
        let got = client.over();
        dropping.join().unwrap();
        assert_eq!(got.code, Some(1000));
        let accepted = accepted([sender]);
        nodes.assert_at_rest();
        assert_delivered(&accepted, &in_order(&got), &nodes.waiting(), true);
    });
}

#[test]
fn a_message_that_is_sent_while_its_user_logs_in_comes() {
    in_any_order(|| {
        let nodes = Nodes::new(1, || builder(Guarantee::AtMostOnce, Login::ReplaceOld));
        let hub = &nodes.hubs[0];
        let client = Client::connect(hub, ROOMY, Manners::UntilLast);
        assert!(block_on(hub.send(&USER, LAST)).is_accepted());
        assert_eq!(in_order(&client.over()), [LAST]);
        nodes.assert_at_rest();
    });
}
