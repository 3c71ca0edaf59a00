//! [`WebSocketLayer`]: the middleware.
//!
//! `builder` has the settings, `service` puts the layer around a service, `answer` is the way of a request to its answer.

mod answer;
mod builder;
mod service;

pub use answer::ResponseFuture;
pub use builder::WebSocketLayer;
pub use service::WebSocketService;
