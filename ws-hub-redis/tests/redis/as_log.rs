//! What each [`Log`](ws_hub::Log) has to do, the logs of a backplane do, too.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_core::future::BoxFuture;
use ws_hub::{
    Ack, Acknowledge, After, Append, Appended, Backplane as _, Durability, Log, LogError, LoginError,
    LoginRequest, Logout, Page, Read, Unsent,
};
use ws_hub_redis::{RedisBackplane, RedisBackplaneBuilder};

use crate::server::Server;

/// A backplane whose only node logs in to acknowledge, and logs out again.
struct AsLog {
    backplane: RedisBackplane<u64>,
    connections: AtomicU64,
}

impl AsLog {
    fn new(builder: RedisBackplaneBuilder<u64>) -> Self {
        let connecting = builder.prefix(Server::prefix()).connect();
        let connected =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(connecting));
        Self { backplane: connected.unwrap(), connections: AtomicU64::new(0) }
    }

    /// Logs in, and out with what is not sent; acknowledges in between.
    async fn visit(&self, user: &u64, upto: Option<u64>, back_to: Option<u64>) -> Result<(), LogError> {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let login =
            LoginRequest { user, connection, limit: None, replace: true, after: None, page: Page::default() };
        let logged_in = self.backplane.login(&login).await.map_err(|error| match error {
            LoginError::Failed(error) => error,
            other => LogError::refused(other),
        })?;
        let start = logged_in.read.after;
        if let Some(upto) = upto {
            let ack = Ack { user, login: logged_in.login, start, upto };
            self.backplane.acknowledge(&[ack]).await.remove(0)?;
        }
        let unsent = back_to.map(|after| Unsent { after, acknowledged: start, upto: start });
        self.backplane.logout(&[Logout { user, connection, unsent }]).await
    }
}

impl Log<u64> for AsLog {
    fn durability(&self) -> Durability {
        self.backplane.durability()
    }

    fn append<'a>(&'a self, batch: &'a [Append<'a, u64>]) -> BoxFuture<'a, Vec<Result<Appended, LogError>>> {
        Box::pin(async move {
            let sent = self.backplane.append(batch).await;
            sent.into_iter().map(|sent| sent.map(|sent| sent.appended)).collect()
        })
    }

    fn read<'a>(&'a self, user: &'a u64, after: After, page: Page) -> BoxFuture<'a, Result<Read, LogError>> {
        self.backplane.read(user, after, page)
    }

    fn acknowledge<'a>(
        &'a self,
        batch: &'a [Acknowledge<'a, u64>],
    ) -> BoxFuture<'a, Vec<Result<(), LogError>>> {
        Box::pin(async move {
            let mut results = Vec::new();
            for it in batch {
                results.push(self.visit(it.user, Some(it.upto), None).await);
            }
            results
        })
    }

    fn give_back<'a>(&'a self, user: &'a u64, number: u64) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(self.visit(user, None, Some(number)))
    }
}

/// What a log has to do, and one with bounds, over backplanes that are built so.
macro_rules! suites {
    ($builder:expr) => {
        mod defaults {
            use super::*;

            // all but `what_comes_after_a_number_is_read`: a number after the top is none of this log, since a server can lose data
            ws_hub::testing::log_suite! { || Box::new(AsLog::new($builder));
                numbers_are_without_holes_and_each_message_knows_the_one_before
                a_batch_for_several_users_is_answered_in_its_order
                an_empty_batch_has_no_answers
                users_do_not_get_the_messages_of_others
                what_is_not_delivered_is_read_after_the_cursor
                a_page_has_as_many_messages_as_were_asked_for
                a_page_has_no_more_bytes_than_were_asked_for
                the_first_message_of_a_page_may_be_larger_than_the_page
                a_message_comes_back_as_it_was
                a_large_message_comes_back_as_it_was
                a_user_without_messages_has_nothing
                a_position_of_no_log_is_incomplete
                nothing_is_missing_after_the_top
                what_comes_after_a_position_is_complete
                a_position_with_another_id_is_incomplete_and_starts_at_the_cursor
                a_position_after_the_top_is_incomplete_and_starts_at_the_cursor
                what_is_acknowledged_is_not_read_after_the_cursor
                an_acknowledgement_never_moves_the_cursor_back
                an_acknowledgement_after_the_top_counts_as_the_top
                a_batch_of_acknowledgements_moves_the_cursors_of_all
                an_acknowledgement_of_a_user_without_messages_changes_nothing
                the_last_64_acknowledged_messages_are_kept
                what_is_given_back_is_not_delivered
                what_is_given_back_never_moves_the_cursor_forward
                giving_back_for_a_user_without_messages_changes_nothing
                a_message_that_comes_again_is_found_among_the_last_64
                a_message_that_comes_again_is_found_in_its_own_batch
                a_message_that_comes_again_and_is_not_there_is_appended
                a_message_that_comes_again_is_looked_for_in_the_log_of_its_user
                an_id_that_is_not_said_to_come_again_is_appended_again
                a_forgotten_log_goes_on_from_what_is_known
                what_is_known_does_not_change_a_log_that_is_there
                what_is_appended_at_once_is_in_the_log
                appends_at_the_same_time_to_one_user_leave_no_hole
                appends_at_the_same_time_to_many_users_leave_no_hole
                a_read_during_appends_sees_no_hole
                a_call_that_is_dropped_is_done_as_a_whole_or_not
            }
        }

        mod bounds {
            use super::*;

            ws_hub::testing::bounded_log_suite!(|messages, bytes| {
                Box::new(AsLog::new($builder.per_user(messages, bytes)))
            });
        }
    };
}

mod server {
    use super::AsLog;
    use crate::server::shared;

    suites!(shared().builder());
}

#[cfg(feature = "cluster")]
mod cluster {
    use super::AsLog;
    use crate::cluster::{builder, shared_cluster};

    suites!(builder(tokio::task::block_in_place(shared_cluster)));
}
