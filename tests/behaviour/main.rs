//! The behaviour suite: what a peer sees and what a handler sees, written once, and run on every adapter.
//!
//! A case is a function that is generic over the [`Server`](ws_tests::Server) and named for the behaviour it locks;
//! `cases!` at the end of each file makes a test of it for each adapter. A new adapter is one more line in that macro.

/// Makes a test of every case, for each adapter: `handshake::axum::name_of_the_case`.
macro_rules! cases {
    ($($case:ident,)+) => { cases!(run: $($case,)+); };
    (on one thread: $($case:ident,)+) => { cases!(run_on_one_thread: $($case,)+); };
    ($run:ident: $($case:ident,)+) => {
        mod axum {
            $(
                #[test]
                fn $case() {
                    ws_tests::runtime::$run(super::$case::<ws_tests::adapters::Axum>());
                }
            )+
        }
    };
}

mod closing;
mod frames;
mod handshake;
mod origin;
mod peers;
