//! A master that Sentinels watch: they are asked for its address for each connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::endpoint::{Endpoint, Options};
use crate::error::{ConnectError, Failure, FailureKind};
use crate::link::{Heard, Link, Reign, Value};
use crate::reply::texts;
use crate::script::Call;

/// How long one of them may take to answer, until the next one is asked.
const ANSWERING: Duration = Duration::from_secs(2);

pub(crate) struct Sentinels {
    sentinels: Vec<Endpoint>,
    /// Which of them is asked first: the one that has answered last.
    first: AtomicUsize,
    /// The name of the master.
    master: String,
    options: Options,
    shown: String,
    /// The address of the last master.
    last: Mutex<String>,
}

impl Sentinels {
    pub(crate) fn parse(urls: &[String], master: &str, options: &Options) -> Result<Self, ConnectError> {
        let mut own = options.clone();
        (own.credentials, own.database) = (None, None);
        let sentinels: Vec<_> =
            urls.iter().map(|url| Endpoint::parse(url, &own)).collect::<Result<_, _>>()?;
        let addresses: Vec<_> = sentinels.iter().map(Endpoint::shown).collect();
        Ok(Self {
            shown: addresses.join(", "),
            sentinels,
            first: AtomicUsize::new(0),
            master: master.to_owned(),
            options: options.clone(),
            last: Mutex::default(),
        })
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Opens a connection to the master.
    pub(crate) async fn connect(&self, heard: impl Heard) -> Result<Link, ConnectError> {
        let (asked, master) = self.find().await?;
        let connected = async {
            let link = master.connect(heard).await?;
            let is_master = is_master(&link).await;
            is_master.map_err(|failure| ConnectError::unusable(master.shown(), failure))?;
            Ok(link.with_reign(Reign { now: master.shown().to_owned(), before: String::new() }))
        };
        let connected = connected.await;
        match &connected {
            Ok(_) => self.note(master.shown()),
            // this Sentinel may be the last one to hear of another master
            Err(_) => self.first.store((asked + 1) % self.sentinels.len(), Ordering::Relaxed),
        }
        connected
    }

    /// The address of the master, and which Sentinel has said it.
    async fn find(&self) -> Result<(usize, Endpoint), ConnectError> {
        let first = self.first.load(Ordering::Relaxed);
        let count = self.sentinels.len();
        let mut failed = None;
        for at in (first..first + count).map(|at| at % count) {
            match self.ask(&self.sentinels[at]).await {
                Ok(master) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok((at, master));
                }
                // what one says that answers tells more
                Err(ConnectError::Unreachable { .. }) if failed.is_some() => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| ConnectError::unusable(&self.shown, Failure::refused("no Sentinel"))))
    }

    async fn ask(&self, sentinel: &Endpoint) -> Result<Endpoint, ConnectError> {
        let address = || sentinel.shown().to_owned();
        let asking = timeout(ANSWERING, async {
            let link = sentinel.connect(|_, _| {}).await?;
            let call = Call::plain("SENTINEL", b"GET-MASTER-ADDR-BY-NAME".to_vec());
            let answer = link.call(&[call.bytes(self.master.as_str())]).await.pop();
            let answer = answer.unwrap_or_else(|| Err(Failure::unknown("no answer")));
            answer.map_err(|failure| ConnectError::unusable(sentinel.shown(), failure))
        });
        let answer = asking.await.unwrap_or_else(|elapsed| {
            Err(ConnectError::Unreachable { address: address(), source: elapsed.into() })
        })?;
        if answer == Value::Nil {
            return Err(ConnectError::UnknownMaster { address: address(), master: self.master.clone() });
        }
        let parts = texts(answer).map_err(|failure| ConnectError::unusable(sentinel.shown(), failure))?;
        let master = match parts.as_slice() {
            [host, port] => port.parse().ok().map(|port| (host.clone(), port)),
            _ => None,
        };
        let not_understood = || Failure::unknown("the address of the master is not understood");
        let (host, port) =
            master.ok_or_else(|| ConnectError::unusable(sentinel.shown(), not_understood()))?;
        sentinel.beside(host, port, &self.options)
    }

    fn note(&self, address: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != address {
            tracing::info!(master = self.master, address, "Sentinel has named the master");
            address.clone_into(&mut last);
        }
    }
}

/// Fails if the server is a replica: the Sentinel does not know it yet.
async fn is_master(link: &Link) -> Result<(), Failure> {
    match link.says("role").await?.as_deref() {
        Some("master") => Ok(()),
        _ => Err(Failure::new(FailureKind::Demoted, "it is a replica")),
    }
}
