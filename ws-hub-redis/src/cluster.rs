//! A cluster: several masters, each with some of the slots.

use std::time::Duration;

use tokio::time::timeout;

use crate::config::PROBE;
use crate::endpoint::{Endpoint, Options};
use crate::error::{ConnectError, Failure, FailureKind};
use crate::link::{Heard, Link, Reign, Value};
use crate::script::Call;
use crate::topology::{Asked, Master, Topology};

/// How long one server may take to say where the slots are, until the next one is asked.
const ANSWERING: Duration = Duration::from_secs(2);

pub(crate) struct Cluster {
    seeds: Vec<Endpoint>,
    options: Options,
    shown: String,
}

impl Cluster {
    /// `urls` are those of some servers.
    pub(crate) fn parse(urls: &[String], options: &Options) -> Result<Self, ConnectError> {
        let seeds: Vec<_> = urls.iter().map(|url| Endpoint::parse(url, options)).collect::<Result<_, _>>()?;
        let shown = seeds.iter().map(Endpoint::shown).collect::<Vec<_>>().join(", ");
        if let Some(seed) = seeds.iter().find(|seed| seed.database() != 0) {
            let source = "Redis Cluster has only the database 0".into();
            return Err(ConnectError::InvalidAddress { address: seed.shown().to_owned(), source });
        }
        let options = seeds.first().map_or_else(|| options.clone(), Endpoint::options);
        Ok(Self { seeds, options, shown })
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    fn endpoint(&self, host: String, port: u16) -> Result<Endpoint, ConnectError> {
        match self.seeds.first() {
            Some(seed) => seed.beside(host, port, &self.options),
            None => Err(ConnectError::unusable(&self.shown, Failure::refused("there is no server to ask"))),
        }
    }

    pub(crate) fn node(&self, master: &Master) -> Result<Node, ConnectError> {
        self.endpoint(master.host.clone(), master.port).map(Node)
    }

    /// Which master has which slots. Asked is the server at the address `better`, if that is given, then those with these
    /// connections, and then those that were named at the start, until one answers.
    pub(crate) async fn topology(
        &self,
        better: Option<&str>,
        links: Vec<(String, Link)>,
    ) -> Result<Topology, ConnectError> {
        if let Some((host, port)) = better.and_then(|it| it.rsplit_once(':'))
            && let Ok(port) = port.parse()
            && let Ok(endpoint) = self.endpoint(host.to_owned(), port)
            && let Ok(topology) = self.ask(&endpoint).await
        {
            return Ok(topology);
        }
        for (address, link) in links {
            let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
            let answer = timeout(ANSWERING, self.read(&link, host, &address)).await;
            if let Ok(Ok(topology)) = answer {
                return Ok(topology);
            }
        }
        let mut failed = None;
        for seed in &self.seeds {
            match self.ask(seed).await {
                Ok(topology) => return Ok(topology),
                // what one says that answers tells more
                Err(ConnectError::Unreachable { .. }) if failed.is_some() => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed
            .unwrap_or_else(|| ConnectError::unusable(&self.shown, Failure::refused("no server answers"))))
    }

    async fn ask(&self, server: &Endpoint) -> Result<Topology, ConnectError> {
        let asking = timeout(ANSWERING, async {
            let link = server.connect(|_, _| {}).await?;
            self.read(&link, server.host(), server.shown()).await
        });
        asking.await.unwrap_or_else(|elapsed| {
            Err(ConnectError::Unreachable { address: server.shown().to_owned(), source: elapsed.into() })
        })
    }

    async fn read(&self, link: &Link, host: &str, address: &str) -> Result<Topology, ConnectError> {
        let is_secure = self.seeds.first().is_some_and(Endpoint::is_secure);
        let asked = Asked { host, is_secure };
        let call = |what: &str| Call::plain("CLUSTER", what.as_bytes().to_vec());
        let one = async |call: Call| {
            link.call(&[call]).await.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")))
        };
        let topology = match one(call("SHARDS")).await {
            Ok(answer) => Topology::from_shards(answer, asked),
            Err(failure) if failure.to_string().contains("cluster support disabled") => {
                return Err(ConnectError::NotCluster { address: address.to_owned() });
            }
            // servers before version 7.0
            Err(_) => one(call("SLOTS")).await.and_then(|answer| Topology::from_slots(answer, asked)),
        };
        topology.map_err(|failure| ConnectError::unusable(address, failure))
    }
}

/// A server of a cluster.
pub(crate) struct Node(Endpoint);

impl Node {
    pub(crate) fn shown(&self) -> &str {
        self.0.shown()
    }

    pub(crate) async fn connect(&self, heard: impl Heard) -> Result<Link, ConnectError> {
        self.0.connect(heard).await.map(Link::sharded)
    }

    /// A connection for calls, if the server is a master.
    pub(crate) async fn reigning(&self, link: Link) -> Result<Link, ConnectError> {
        let reign = timeout(PROBE, reign(&link)).await;
        let reign = reign.unwrap_or_else(|_| Err(Failure::lost("no answer")));
        reign
            .map(|reign| link.with_reign(reign))
            .map_err(|failure| ConnectError::unusable(self.shown(), failure))
    }
}

/// What the server is known by as the master: the name of what it replicates to others, and that of what it has replicated
/// before. It is another one when a replica takes the place of its master, and the same when slots are moved.
async fn reign(link: &Link) -> Result<Reign, Failure> {
    let info = link.call(&[Call::plain("INFO", b"replication".to_vec())]).await.pop();
    let text = match info.unwrap_or_else(|| Err(Failure::unknown("no answer"))) {
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(_) => return Err(Failure::unknown("what the server says of its replication is not understood")),
        Err(failure) if failure.to_string().starts_with("NOPERM") => {
            tracing::warn!(
                error = &failure as &dyn std::error::Error,
                "Redis does not allow INFO: it is not seen when a message was lost in a failover, and its number given again"
            );
            return Ok(Reign::default());
        }
        Err(failure) => return Err(failure),
    };
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned())
    };
    if field("role").as_deref() != Some("master") {
        return Err(Failure::new(FailureKind::Demoted, "it is a replica"));
    }
    let id = |name: &str| field(name).unwrap_or_default();
    Ok(Reign { now: id("master_replid"), before: id("master_replid2") })
}
