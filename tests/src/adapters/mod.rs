//! The servers that the suite runs on: one file for each adapter, and all that a framework needs is in there.

mod axum;

pub use axum::Axum;
