//! [`Mailbox`]: what the hub keeps for one connection. It is a window on the log of its user, and a queue of messages that
//! are for those who are there.
//!
//! It does no I/O and waits for nothing. Messages are offered to it; each goes straight to the connection while nothing
//! waits before it and the connection has room. The session, which runs in the task of the connection, asks it what to do
//! next, and tells it what came of that.
//!
//! The log is written before anything is offered. So a message of the log for which there is no room is simply not kept: the
//! mailbox is then *behind*, and reads the log when it has room. The next message that it may send is always the one after
//! `last`; a number that is greater tells that it has missed something.

mod advance;
mod change;
mod offer;
mod state;

pub(crate) use offer::Content;
pub(crate) use state::{Hands, Mailbox, Next, Offered};

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::{Context, Waker};

    use super::*;
    use crate::backplane::LoggedIn;
    use crate::config::{Confirm, Guarantee, Limits, Overflow, Rules};
    use crate::log::{After, Page, Read};
    use crate::position::{MessageId, Position};

    #[tokio::test]
    async fn a_log_may_be_at_the_greatest_number() {
        let (server, _client) = ws_core::testing::pair();
        let limits = Limits { messages: 10, bytes: 1_000, overflow: Overflow::Disconnect };
        let guarantee = Guarantee::AtMostOnce;
        let rules = Rules { limits, has_log: true, guarantee, confirm: Confirm::ByPing };
        let hands = Hands {
            rules: &rules,
            is_immediate: &|| false,
            acknowledge: &|_, _, _| None,
            sent: &Cell::new(0),
        };
        let (message, mut wakes) = (Content::Once("hello".into()), Vec::new());
        let cx = Context::from_waker(Waker::noop());
        let mut mailbox = Mailbox::new(1, server.sender());
        let read = Read::nothing(After::Number(u64::MAX - 1));
        assert!(mailbox.enter(LoggedIn { login: 1, read }, Page::default(), &mut wakes));
        let last = Position::new(u64::MAX, MessageId::random());
        let offered = mailbox.offer_logged(last, None, &message, &hands, &mut wakes);
        assert_eq!(offered, Offered::Queued { dropped: 0 });
        let claim = Next::Acknowledge { start: u64::MAX - 1, upto: u64::MAX };
        assert_eq!(mailbox.next(&hands, &cx), claim);
        // there is none after it
        let first = Position::new(1, MessageId::random());
        let offered = mailbox.offer_logged(first, Some(last.id), &message, &hands, &mut wakes);
        assert_eq!(offered, Offered::Logged);
        for start in [u64::MAX, 0, u64::MAX - 1, 7] {
            mailbox.restock(1, start, &mut wakes);
            assert_eq!(mailbox.start(), start);
        }
    }
}
