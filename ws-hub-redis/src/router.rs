//! [`Router`]: the task that knows which server has which partition, and has a supervisor for each server.

use std::sync::Arc;
#[cfg(feature = "cluster")]
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::task::JoinSet;

use crate::address::Address;
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::error::ConnectError;
#[cfg(feature = "cluster")]
use crate::error::Failure;
use crate::join::join_all;
use crate::routes::Table;
use crate::shared::Shared;
use crate::site::Site;
use crate::supervisor::Supervisor;
#[cfg(feature = "cluster")]
use crate::topology::Topology;

/// How long a cluster is not asked again for its masters.
#[cfg(feature = "cluster")]
const PAUSE: Duration = Duration::from_millis(50);

/// How many partitions there are in a cluster: more than there are masters, so that each has about as many.
#[cfg(feature = "cluster")]
const PARTITIONS: u16 = 64;

/// Where the servers are.
pub(crate) enum Servers {
    One(Address),
    #[cfg(feature = "cluster")]
    Cluster(Cluster),
}

impl Servers {
    /// How many partitions there are. It never changes.
    pub(crate) fn partitions(&self) -> u16 {
        match self {
            Self::One(_) => 1,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => PARTITIONS,
        }
    }

    pub(crate) fn shown(&self) -> &str {
        match self {
            Self::One(address) => address.shown(),
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => cluster.shown(),
        }
    }
}

pub(crate) struct Router {
    shared: Arc<Shared>,
    #[cfg(feature = "cluster")]
    cluster: Option<Cluster>,
    /// All that were ever there.
    sites: Vec<Arc<Site>>,
    supervisors: JoinSet<()>,
}

impl Router {
    /// Connects to all servers.
    pub(crate) async fn start(shared: Arc<Shared>, servers: Servers) -> Result<Self, ConnectError> {
        let mut router = Self {
            shared,
            #[cfg(feature = "cluster")]
            cluster: None,
            sites: Vec::new(),
            supervisors: JoinSet::new(),
        };
        let new = match servers {
            Servers::One(address) => {
                let partitions = router.shared.partitions.all().len();
                let supervisor = router.site(address);
                let table: Table = vec![Arc::clone(&router.sites[0]); partitions].into();
                router.shared.routes.set(table);
                vec![supervisor]
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                let topology = cluster.topology(None, Vec::new()).await?;
                let new = router.apply(&cluster, &topology)?;
                router.cluster = Some(cluster);
                new
            }
        };
        let starts = new.into_iter().map(|mut supervisor| {
            let started: BoxFuture<'_, _> = Box::pin(async move {
                let started = supervisor.start().await;
                (supervisor, started)
            });
            started
        });
        for (supervisor, started) in join_all(starts.collect()).await {
            started?;
            router.supervisors.spawn(supervisor.run());
        }
        router.shared.routes.started();
        Ok(router)
    }

    /// Makes a server known.
    fn site(&mut self, address: Address) -> Supervisor {
        let (site, requests) = Site::new(address);
        self.sites.push(Arc::clone(&site));
        Supervisor::new(Arc::clone(&self.shared), site, requests)
    }

    /// Until the node leaves.
    pub(crate) async fn run(mut self) {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = self.cluster.take() {
            let mut left = self.shared.has_left.subscribe();
            tokio::select! {
                _ = left.wait_for(|has_left| *has_left) => {}
                () = self.follow(&cluster) => {}
            }
        }
        while self.supervisors.join_next().await.is_some() {}
    }
}

#[cfg(feature = "cluster")]
impl Router {
    /// Finds the masters of partitions when they are in doubt.
    async fn follow(&mut self, cluster: &Cluster) {
        loop {
            let better = self.shared.routes.doubted().await;
            let links = self.sites.iter().filter_map(|site| {
                let lines = site.lines()?;
                Some((site.address.shown().to_owned(), lines.link))
            });
            let topology = cluster.topology(better.as_deref(), links.collect()).await;
            let applied = topology.and_then(|topology| self.apply(cluster, &topology));
            match applied {
                Ok(new) => {
                    for supervisor in new {
                        self.supervisors.spawn(supervisor.run());
                    }
                    self.shared.note_health();
                }
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the cluster does not say where its masters are"
                ),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends calls where the masters are now. Returns the supervisors of those that are new.
    fn apply(&mut self, cluster: &Cluster, topology: &Topology) -> Result<Vec<Supervisor>, ConnectError> {
        let shared = Arc::clone(&self.shared);
        let before = shared.routes.table();
        let (mut table, mut new) = (Vec::new(), Vec::new());
        for partition in shared.partitions.all() {
            let Some(master) = topology.master_of(partition.slot()) else {
                // until there is one
                let before = before.get(partition.number).cloned();
                let nobody = || Failure::refused("there are slots that no master has");
                table.push(before.ok_or_else(|| ConnectError::unusable(cluster.shown(), nobody()))?);
                continue;
            };
            let node = cluster.node(master)?;
            let known = self.sites.iter().find(|site| site.address.shown() == node.shown());
            if let Some(site) = known {
                table.push(Arc::clone(site));
                continue;
            }
            new.push(self.site(Address::Node(node)));
            table.extend(self.sites.last().cloned());
        }
        if shared.routes.set(table.into()) && !before.is_empty() {
            tracing::info!(masters = ?shared.routes.sites(), "partitions have moved in the cluster");
        }
        Ok(new)
    }
}
