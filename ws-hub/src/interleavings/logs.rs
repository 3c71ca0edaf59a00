//! A log that takes waiting, and calls that are given up while they wait for it.

use futures_core::future::BoxFuture;
use shuttle::future::yield_now;

use super::*;
use crate::log::{Acknowledge, Append, Appended, Durability, LogError, Read};

/// A log in memory that does nothing at once: others run before each call, and after it.
struct Waits(Arc<MemoryLog<u64>>);

async fn waiting<T>(work: BoxFuture<'_, T>) -> T {
    yield_now().await;
    let result = work.await;
    yield_now().await;
    result
}

impl Log<u64> for Waits {
    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        Box::pin(waiting(self.0.append(batch)))
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        Box::pin(waiting(self.0.read(user, after, page)))
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, u64>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        Box::pin(waiting(self.0.acknowledge(batch)))
    }

    fn give_back<'a>(&'a self, user: &'a u64, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(waiting(self.0.give_back(user, number)))
    }
}

fn nodes(count: usize, guarantee: Guarantee, login: Login) -> Nodes {
    let log = Arc::new(MemoryLog::new());
    Nodes::over(count, &log, Waits(Arc::clone(&log)), || builder(guarantee, login))
}

/// Sends while one connection replaces another one.
fn each_message_is_delivered_or_waits(guarantee: Guarantee, count: usize, second: Manners) {
    in_any_order(move || {
        let nodes = nodes(count, guarantee, Login::ReplaceOld);
        let [here, there] = [&nodes.hubs[0], nodes.hubs.last().expect("there is one")];
        let first = Client::connect(here, NARROW, Manners::Polite);
        let senders = [send(here, ["a", "b"]), send(there, ["c", "d"])];
        let second = Client::connect(there, ROOMY, second);
        let first = first.close();
        let accepted = accepted(senders);
        assert_eq!(accepted.len(), 4);
        let second = second.close();
        nodes.assert_at_rest();
        let delivered = [in_order(&first), in_order(&second)].concat();
        // what is given back late has newer messages come twice, on two connections
        assert_delivered(&accepted, &delivered, &nodes.waiting(), false);
    });
}

#[test]
fn what_is_sent_over_a_log_that_waits_is_delivered_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, 1, Manners::Polite);
}

#[test]
fn what_a_client_has_not_confirmed_waits_in_a_log_that_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtLeastOnce, 1, Manners::Vanishes);
}

#[test]
fn what_is_sent_over_a_log_of_two_nodes_that_waits_is_delivered_or_waits() {
    each_message_is_delivered_or_waits(Guarantee::AtMostOnce, 2, Manners::Polite);
}

#[test]
fn an_attached_future_that_is_given_up_at_any_moment_leaves_nobody_online_and_loses_nothing() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::AtMostOnce] {
        in_any_order(move || {
            let nodes = nodes(1, guarantee, Login::RejectNew);
            let hub = &nodes.hubs[0];
            // they wait, and are acknowledged together: what is not sent of them is given back
            let waiting = accepted([send(hub, ["1", "2"]), send(hub, ["3", "4"])]);
            let sender = send(hub, ["a", "b"]);
            let (first, cut) = Client::connect_until_cut(hub, NARROW, Manners::Polite);
            let cutting = cut.cut();
            let first = first.over();
            cutting.join().unwrap();
            // nobody is locked out by what is over
            all_left(hub);
            let mut second = Client::connect(hub, ROOMY, Manners::UntilLast);
            assert!(second.is_let_in());
            let accepted = [waiting, accepted([sender])].concat();
            assert_eq!(block_on(hub.send(&USER, LAST)), Delivery::Sent(1));
            let second = second.over();
            nodes.assert_at_rest();
            let delivered = [in_order(&first), in_order(&second)].concat();
            if guarantee == Guarantee::AtLeastOnce {
                assert_delivered(&accepted, &delivered, &[], false);
            }
        });
    }
}

#[test]
fn a_send_that_is_given_up_at_any_moment_is_whole_or_not_at_all_and_holds_up_nothing() {
    in_any_order(|| {
        let nodes = nodes(2, Guarantee::AtLeastOnce, Login::ReplaceOld);
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let client = Client::connect(there, ROOMY, Manners::UntilLast);
        let (cut, is_cut) = Cut::new();
        let sending = concurrently(here, async move |hub| unless_cut(is_cut, hub.send(&USER, "a")).await);
        let cutting = cut.cut();
        let accepted = accepted([send(here, ["b", "c"])]);
        assert!(block_on(there.send(&USER, LAST)).is_accepted());
        let got = in_order(&client.over());
        cutting.join().unwrap();
        let is_accepted = sending.join().unwrap().is_some_and(Delivery::is_accepted);
        nodes.assert_at_rest();
        let waiting = nodes.waiting();
        assert_delivered(&accepted, &got, &waiting, false);
        let count = |texts: &Texts| texts.iter().filter(|text| *text == "a").count();
        let counts = (count(&got), count(&waiting));
        assert!(counts.0 <= 1 && counts.1 <= 1, "{got:?} {waiting:?}");
        assert!(counts != (0, 0) || !is_accepted, "{got:?} {waiting:?}");
    });
}

#[test]
fn a_send_that_is_given_up_when_its_message_is_written_reaches_those_who_are_there() {
    in_any_order(|| {
        let nodes = nodes(2, Guarantee::AtLeastOnce, Login::ReplaceOld);
        let [here, there] = [&nodes.hubs[0], &nodes.hubs[1]];
        let mut client = Client::connect(there, ROOMY, Manners::UntilLast);
        assert!(client.is_let_in());
        let (cut, is_cut) = Cut::new();
        let sending = concurrently(here, async move |hub| unless_cut(is_cut, hub.send(&USER, LAST)).await);
        cut.cut().join().unwrap();
        sending.join().unwrap();
        block_on(nodes.engines[0].all_written());
        let read = block_on(nodes.log.read(&USER, After::Number(0), ALL)).unwrap();
        let got = if read.entries.is_empty() { client.close() } else { client.over() };
        assert_eq!(in_order(&got).len(), read.entries.len());
        nodes.assert_at_rest();
    });
}
