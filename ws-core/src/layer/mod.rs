//! [`WebSocketLayer`]: the middleware.
//!
//! `builder` has the settings, `service` puts the layer around a service, `answer` is the way of a request to its answer,
//! `warnings` limits what the log says of refused origins.

mod answer;
mod builder;
mod service;
mod warnings;

pub use answer::ResponseFuture;
pub use builder::WebSocketLayer;
pub use service::WebSocketService;
