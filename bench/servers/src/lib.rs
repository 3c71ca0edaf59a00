//! What the servers have in common.
