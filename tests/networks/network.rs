//! [`Network`]: two machines and a cable between them.
//!
//! A machine is a network namespace, and what runs on it is a thread that has moved there: its sockets are that
//! machine's. Nothing of the host's own network is touched, not even its list of interfaces.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ws_core::Connections;
use ws_tests::{Server, Setup, runtime};

/// The server's machine, in each network.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Where the system names its namespaces, and how these here begin; then comes the process.
const NAMES: &str = "/run/netns";
const PREFIX: &str = "ws-tests-";

/// The end of the cable, on each of the machines.
const CABLE: &str = "cable";

/// Two machines and a cable, which are gone when it is dropped.
pub(crate) struct Network {
    server: String,
    client: String,
}

impl Network {
    /// Lays the cable; `None` where that may not be done, which was said then.
    pub(crate) fn lay() -> Option<Self> {
        static LAID: AtomicUsize = AtomicUsize::new(0);
        static CLEARED: Once = Once::new();
        CLEARED.call_once(clear);
        let name = format!("{PREFIX}{}-{}", process::id(), LAID.fetch_add(1, Ordering::Relaxed));
        // from here on it is removed, whatever fails
        let network = Self { server: format!("{name}-server"), client: format!("{name}-client") };
        match network.build() {
            Ok(()) => Some(network),
            Err(error) => {
                let excused = env::var_os("WS_TESTS_WITHOUT_NAMESPACES").is_some();
                assert!(excused || env::var("CI").as_deref() != Ok("true"), "no namespaces: {error}");
                // past the test harness, which keeps what is printed by tests that pass
                let _ = writeln!(io::stderr(), "not run: no network namespaces here: {error}");
                None
            }
        }
    }

    fn build(&self) -> io::Result<()> {
        let Self { server, client } = self;
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", client])?;
        let ends =
            [&["link", "add", CABLE, "netns", server, "type", "veth", "peer"][..], &[CABLE, "netns", client]];
        ip(&ends.concat())?;
        for (machine, address) in [(server, SERVER), (client, CLIENT)] {
            ip(&["-n", machine, "address", "add", &format!("{address}/24"), "dev", CABLE])?;
            ip(&["-n", machine, "link", "set", CABLE, "up"])?;
            ip(&["-n", machine, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// Pulls the cable, and returns when that was begun: nobody is told, and what is sent is lost.
    pub(crate) fn pull(&self) -> Instant {
        let now = Instant::now();
        ip(&["-n", &self.client, "link", "set", CABLE, "down"]).expect("the cable is there");
        now
    }

    /// Puts it back.
    pub(crate) fn plug(&self) {
        ip(&["-n", &self.client, "link", "set", CABLE, "up"]).expect("the cable is there");
    }

    /// Makes packets no larger than this, in both directions.
    pub(crate) fn limit_packets(&self, bytes: usize) {
        for machine in [&self.server, &self.client] {
            ip(&["-n", machine, "link", "set", CABLE, "mtu", &bytes.to_string()])
                .expect("the cable is there");
        }
    }

    /// Starts a server on its machine.
    pub(crate) fn serve<S: Server + 'static>(&self, setup: Setup) -> Served {
        self.serve_with::<S>(setup, None)
    }

    /// Starts a server on its machine, behind TLS; returns its certificate, too.
    pub(crate) fn serve_tls<S: Server + 'static>(&self, setup: Setup) -> (Served, CertificateDer<'static>) {
        let made = generate_simple_self_signed([SERVER.to_string()]);
        let CertifiedKey { cert, signing_key } = made.expect("it is an address");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("it is a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key).expect("they belong together");
        let served = self.serve_with::<S>(setup, Some(TlsAcceptor::from(Arc::new(config))));
        (served, cert.der().clone())
    }

    fn serve_with<S: Server + 'static>(&self, setup: Setup, tls: Option<TlsAcceptor>) -> Served {
        let machine = self.server.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            move_to(&machine).expect("the machine is there");
            runtime::run_on_one_thread(async {
                let running = S::start(setup.at((SERVER, 0))).await;
                let address = match tls {
                    Some(tls) => terminate(tls, running.address).await,
                    None => running.address,
                };
                tell.send((address, running.connections.clone())).expect("the test waits for it");
                // an error is the end, too
                let _ = stopped.await;
            });
        });
        let (address, connections) = told.recv().expect("the server starts");
        Served { address, connections, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs the client on its machine.
    pub(crate) fn client(&self, client: impl Future<Output = ()> + Send) {
        let run = || {
            move_to(&self.client).expect("the machine is there");
            runtime::run_on_one_thread(client);
        };
        let ended = thread::scope(|scope| scope.spawn(run).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in [&self.client, &self.server] {
            if Path::new(NAMES).join(machine).exists()
                && let Err(error) = ip(&["netns", "delete", machine])
            {
                eprintln!("{machine} is still there: {error}");
            }
        }
    }
}

/// A server on its machine; it ends when it is dropped.
pub(crate) struct Served {
    address: SocketAddr,
    pub(crate) connections: Connections,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // its panic was printed
            let _ = thread.join();
        }
    }
}

/// Where TLS is spoken that ends here, in front of `server`.
async fn terminate(tls: TlsAcceptor, server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((SERVER, 0)).await.expect("there is a free port");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.expect("the listener works");
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut near = tls.accept(near).await?;
                copy_bidirectional(&mut near, &mut TcpStream::connect(server).await?).await
            });
        }
    });
    address
}

/// Removes what tests have left that were killed.
fn clear() {
    for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && let Some(process) = name.strip_prefix(PREFIX).and_then(|name| name.split('-').next())
            && !Path::new("/proc").join(process).exists()
        {
            // another run may do the same
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// Moves this thread to a machine, for good.
fn move_to(machine: &str) -> io::Result<()> {
    let namespace = File::open(Path::new(NAMES).join(machine))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}
