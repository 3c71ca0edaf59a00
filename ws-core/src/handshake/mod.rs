//! Stub
/// Stub
#[derive(Debug)]
pub struct Rejection;
