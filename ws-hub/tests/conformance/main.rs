//! What each [`Log`](ws_hub::Log) and each [`Backplane`](ws_hub::Backplane) has to do, asked of those in this crate.

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

mod in_process {
    use ws_hub::InProcess;

    ws_hub::testing::backplane_suite!(|count| {
        let first = InProcess::<u64>::new();
        (0..count).map(|_| first.another()).collect::<Vec<_>>()
    });
}
