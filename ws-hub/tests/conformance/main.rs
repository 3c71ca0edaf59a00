//! What each [`Log`](ws_hub::Log) has to do, asked of those in this crate.

mod memory_log {
    use ws_hub::MemoryLog;

    ws_hub::testing::log_suite!(|| Box::new(MemoryLog::<u64>::new()));
}

mod bounded_memory_log {
    use ws_hub::MemoryLog;

    ws_hub::testing::bounded_log_suite!(|messages, bytes| {
        Box::new(MemoryLog::<u64>::new().per_user(messages, bytes))
    });
}
