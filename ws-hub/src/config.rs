//! The settings of a hub, as its [builder](crate::HubBuilder) has put them together.

use std::sync::Arc;

use ws_core::Utf8Bytes;

use crate::backplane::Backplane;
use crate::error::Refused;
use crate::queue::Limits;
use crate::store::{Guarantee, OfflineStore};

pub(crate) struct Config<U> {
    pub(crate) login: Login,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_rooms: usize,
    pub(crate) rules: Rules,
    pub(crate) store: Option<Arc<dyn OfflineStore<U>>>,
    pub(crate) backplane: Option<Arc<dyn Backplane<U>>>,
    pub(crate) heartbeat: Option<(Utf8Bytes, Utf8Bytes)>,
}

/// How a connection's messages are kept and confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    /// Whether there is an offline store.
    pub(crate) has_store: bool,
    pub(crate) guarantee: Guarantee,
}

/// What happens when a user connects who is already connected.
///
/// ```
/// use ws_hub::{Hub, Login};
///
/// // a browser with a few tabs, and a phone
/// let hub = Hub::<u64>::builder().login(Login::AllowMany(5)).build();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Login {
    /// The new connection stays, and the old one is closed with [`close_code::REPLACED`](crate::close_code::REPLACED),
    /// which tells its client not to come back. What waits for the old one is sent on the new one. The default.
    #[default]
    ReplaceOld,
    /// The old connection stays, and the new one is closed with
    /// [`close_code::ALREADY_CONNECTED`](crate::close_code::ALREADY_CONNECTED). A client whose network has changed has to
    /// wait until keepalive finds its old connection dead.
    RejectNew,
    /// A user may have this many connections. Each message goes to all of them; stored ones go to one. One connection more
    /// is refused as with [`RejectNew`](Self::RejectNew).
    AllowMany(usize),
}

impl Login {
    /// How many connections there may be before another one, if the policy limits them.
    pub(crate) fn limit(self) -> Option<usize> {
        match self {
            Self::ReplaceOld => None,
            Self::RejectNew => Some(1),
            Self::AllowMany(limit) => Some(limit),
        }
    }

    pub(crate) fn allows_many(self) -> bool {
        matches!(self, Self::AllowMany(_))
    }

    /// Whether a user with this many connections may have another one; returns how many go for it.
    pub(crate) fn admit(self, connections: usize) -> Result<usize, Refused> {
        match self.limit() {
            None => Ok(connections),
            Some(limit) if connections < limit => Ok(0),
            Some(_) => Err(Refused::AlreadyConnected),
        }
    }
}
