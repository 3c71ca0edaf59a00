//! Whether an implementation of [`Log`](crate::Log) or [`Backplane`](crate::Backplane) does what it has to: for the tests of
//! those who write one.
//!
//! Three macros make a test of each case, so that the name of a test says what is wrong. [`log_suite`] asks for a log with
//! its defaults, [`bounded_log_suite`] for one with bounds, and [`backplane_suite`] for the nodes of a backplane. They expand
//! to `#[tokio::test]` on several threads: the crate needs tokio with the features `macros` and `rt-multi-thread`.
//!
//! ```
//! mod conformance {
//!     use ws_hub::MemoryLog;
//!
//!     ws_hub::testing::log_suite!(|| Box::new(MemoryLog::<u64>::new()));
//! }
//!
//! mod conformance_of_bounds {
//!     use ws_hub::MemoryLog;
//!
//!     ws_hub::testing::bounded_log_suite!(|messages, bytes| {
//!         Box::new(MemoryLog::<u64>::new().per_user(messages, bytes))
//!     });
//! }
//!
//! mod conformance_of_a_backplane {
//!     use ws_hub::InProcess;
//!
//!     ws_hub::testing::backplane_suite!(|count| {
//!         let first = InProcess::<u64>::new();
//!         (0..count).map(|_| first.another()).collect::<Vec<_>>()
//!     });
//! }
//! ```

pub mod backplane;
pub mod bounded_log;
mod concurrent_log;
pub mod log;
mod nodes;
mod support;

#[doc(inline)]
pub use crate::{
    __backplane_suite as backplane_suite, __bounded_log_suite as bounded_log_suite, __log_suite as log_suite,
};
