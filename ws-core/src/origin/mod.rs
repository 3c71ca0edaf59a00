//! [`OriginPolicy`]: which web pages may open a connection.
//!
//! A browser lets any page open a WebSocket to any server, and sends the cookies of that server with the handshake. CORS
//! does not apply to WebSockets. The header `Origin` of the handshake says which page asks (RFC 6454, RFC 6455
//! section 10.2). If a server does not check it, every page on the web can act as the user who visits it.
//!
//! Differs from a comparison of strings in that both sides are parsed and normalised first. The case of scheme and host,
//! default ports, a trailing dot and the spelling of IPv6 addresses make no difference. What is not an origin
//! (`https://example.com@evil.com`, `https://example.com/chat`, `null`) equals no origin. Patterns are parsed when the
//! policy is built, so a mistake is an error at the start of the program.
//!
//! ```
//! use ws_core::{InvalidOrigin, Origin, OriginPolicy};
//!
//! fn policy() -> Result<OriginPolicy, InvalidOrigin> {
//!     OriginPolicy::allow(["https://example.com", "https://*.example.com"])?
//!         .require_origin() // also for programs that are no browsers
//!         .allowed_hosts(["ws.example.com"])
//! }
//!
//! assert!(policy().is_ok());
//! assert!(OriginPolicy::allow(["example.com"]).is_err()); // no scheme
//! assert_eq!("HTTPS://Example.COM.:443".parse::<Origin>()?, "https://example.com".parse()?);
//! # Ok::<(), InvalidOrigin>(())
//! ```
//!
//! An origin names a page, not a user, and a program that is no browser can send any `Origin`. Authenticate the user as
//! well.

mod error;
mod host;
mod parsed;
mod pattern;
mod policy;
#[cfg(test)]
mod tests;

pub(crate) use error::Denied;
pub use error::InvalidOrigin;
pub use parsed::Origin;
pub use policy::OriginPolicy;
