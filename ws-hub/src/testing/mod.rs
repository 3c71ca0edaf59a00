//! Whether an implementation of [`Log`](crate::Log) does what it has to: for the tests of those who write one.
//!
//! Two macros make a test of each case, so that the name of a test says what is wrong. [`log_suite`] asks for a log with
//! its defaults, [`bounded_log_suite`] for one with bounds. They expand to `#[tokio::test]` on several threads: the crate
//! needs tokio with the features `macros` and `rt-multi-thread`.
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
//! ```

pub mod bounded_log;
mod concurrent_log;
pub mod log;
mod support;

#[doc(inline)]
pub use crate::{__bounded_log_suite as bounded_log_suite, __log_suite as log_suite};
