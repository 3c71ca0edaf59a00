//! What [`WebSocketUpgrade`](super::WebSocketUpgrade) and the types of the adapter crates around it have in common.

/// The methods that say what the request is, and those that set how the connection will be, with the docs of `extensions`.
///
/// The type has `fn head(&self) -> &Parts`, `fn accepted(&self) -> Option<&ws_core::WebSocketUpgrade>`, and
/// `fn map(self, impl FnOnce(ws_core::WebSocketUpgrade) -> ws_core::WebSocketUpgrade) -> Self`.
///
/// Not part of the public API: only this crate and the adapter crates use it.
#[doc(hidden)]
#[macro_export]
macro_rules! __upgrade_methods {
    ($(#[$extensions:meta])+) => {
        /// The URI of the request.
        #[must_use]
        pub fn uri(&self) -> &http::Uri {
            &self.head().uri
        }

        /// The headers of the request.
        #[must_use]
        pub fn headers(&self) -> &http::HeaderMap {
            &self.head().headers
        }

        $(#[$extensions])+
        #[must_use]
        pub fn extensions(&self) -> &http::Extensions {
            &self.head().extensions
        }

        /// The chosen subprotocol, if any.
        #[must_use]
        pub fn protocol(&self) -> Option<&str> {
            self.accepted()?.__protocol()
        }

        /// Whether the handshake timeout is over, so that no connection can open any more. Behind a layer there is no need
        /// to ask: it answers 408 by itself.
        #[must_use]
        pub fn is_late(&self) -> bool {
            self.accepted().is_some_and(|upgrade| upgrade.__is_late())
        }

        $crate::__protocols! {
            /// Chooses the subprotocol for this connection, instead of the layer's `protocols`: the first of `protocols` that
            /// the client offers, or none. `protocols` are in the order of the server's preference.
            panics "If a name is not a token: letters, digits and ``!#$%&'*+-.^_`|~`` only."
        }

        #[allow(clippy::unnecessary_wraps, reason = "a client has more to check")]
        fn set_protocols(self, known: Vec<std::sync::Arc<str>>) -> Result<Self, $crate::InvalidProtocol> {
            Ok(self.map(|upgrade| upgrade.__set_protocols(&known)))
        }

        /// Calls `callback` if the connection does not open: the peer disconnected before the response was sent, the
        /// handshake timeout is over, or the response did not reach the layer. It is not called for a handshake that is
        /// refused.
        pub fn on_failed_upgrade(self, callback: impl FnOnce($crate::Error) + Send + 'static) -> Self {
            self.map(|upgrade| upgrade.__set_on_failed(callback))
        }

        $crate::__connection_settings!();

        fn set_connection(self, set: impl FnOnce(&mut $crate::__ConnectionConfig)) -> Self {
            self.map(|upgrade| upgrade.__set_connection(set))
        }
    };
}
