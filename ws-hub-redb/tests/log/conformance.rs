//! What each [`Log`](ws_hub::Log) has to do.

mod defaults {
    use ws_hub_redb::RedbLog;

    use crate::support::Temporary;

    ws_hub::testing::log_suite!(|| Temporary::new(RedbLog::builder()));
}

mod bounds {
    use ws_hub_redb::RedbLog;

    use crate::support::Temporary;

    ws_hub::testing::bounded_log_suite!(|messages, bytes| {
        Temporary::new(RedbLog::builder().per_user(messages, bytes))
    });
}
