//! What a [`RedbLog`](ws_hub_redb::RedbLog) keeps, seen from outside.

mod conformance;
mod files;
mod kills;
mod support;
