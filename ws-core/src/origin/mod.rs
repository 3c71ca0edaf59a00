//! [`OriginPolicy`]: which web pages may open a connection (RFC 6454, RFC 6455 section 10.2).
//!
//! Patterns are parsed when the policy is built, so a mistake shows at the start of the program, not at a request.

mod error;
mod forwarded;
mod host;
mod parsed;
mod pattern;
mod policy;
mod requested;
mod site;
#[cfg(test)]
mod tests;

pub(crate) use error::Denied;
pub use error::InvalidOrigin;
pub use parsed::Origin;
pub use policy::OriginPolicy;
pub use requested::HiddenTarget;
pub(crate) use requested::Requested;
