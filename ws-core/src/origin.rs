//! Stub
/// Stub
#[derive(Debug, Clone)]
pub struct OriginPolicy;
impl OriginPolicy {
    /// stub
    #[must_use]
    pub fn same_origin() -> Self {
        Self
    }
}
