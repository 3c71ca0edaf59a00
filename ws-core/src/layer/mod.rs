//! [`WebSocketLayer`]: the middleware.
//!
//! It differs from a framework's WebSocket extractor in that it is applied once, to a whole router. Then every upgrade on
//! that router is validated, checked for its origin, timed, kept alive, bounded and drainable. Requests that are no
//! upgrades pass unchanged.
//!
//! `builder` has the settings, `service` puts the layer around a service, `answer` is the way of a request to its answer.
//!
//! ```
//! use std::time::Duration;
//! use tower_layer::Layer;
//! use ws_core::{OriginPolicy, WebSocketLayer, service};
//!
//! let layer = WebSocketLayer::new()
//!     .origin(OriginPolicy::allow(["https://app.example.com"])?)
//!     .protocols(["chat.v2", "chat.v1"])
//!     .ping_interval(Duration::from_secs(30))
//!     .max_connections(10_000);
//!
//! let app = layer.layer(service(async |mut socket: ws_core::WebSocket| {
//!     socket.send("hello").await
//! }));
//! # fn is_service<S: tower_service::Service<http::Request<()>>>(_: S) {}
//! # is_service(app);
//! # Ok::<(), ws_core::InvalidOrigin>(())
//! ```

mod answer;
mod builder;
mod service;

pub use answer::ResponseFuture;
pub use builder::WebSocketLayer;
pub use service::WebSocketService;
