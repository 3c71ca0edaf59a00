//! [`Outcome`]: what a handler may return.

use std::error::Error as StdError;

/// What a handler may return: `()`, or a `Result<(), E>` whose error can be boxed.
///
/// `()` and `Ok` close the connection with 1000. `Err` is logged and closes it with 1011.
///
/// ```
/// use ws_core::{Outcome, WebSocket};
///
/// fn is_a_handler<F, Fut>(_: F)
/// where
///     F: FnOnce(WebSocket) -> Fut,
///     Fut: Future<Output: Outcome>,
/// {
/// }
///
/// is_a_handler(|socket| async move { drop(socket) });
/// is_a_handler(|socket| async move {
///     drop(socket);
///     Ok::<_, std::io::Error>(())
/// });
/// ```
pub trait Outcome: sealed::Sealed {
    /// The outcome as a `Result`.
    ///
    /// # Errors
    ///
    /// The error of the handler.
    fn into_result(self) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Box<dyn StdError + Send + Sync>> {
        Ok(())
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), Box<dyn StdError + Send + Sync>> {
        self.map_err(Into::into)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}
