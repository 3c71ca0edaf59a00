//! [`Proxy`]: a proxy that runs in front of a server, with the settings of `docs/proxies.md`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use ws_core::WebSocket;
use ws_core::client::{Client, ConnectError};
use ws_tests::{Running, within};

pub(crate) const NGINX: &str = include_str!("nginx.conf");
pub(crate) const HAPROXY: &str = include_str!("haproxy.cfg");

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Nginx,
    /// As it is where nobody has thought of WebSockets.
    PlainNginx,
    Haproxy,
}

/// A running proxy, of a site of its own; it ends when it is dropped, and its files are removed.
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Proxy {
    /// Starts a proxy in front of `server`.
    pub(crate) async fn start(kind: Kind, server: &Running) -> Self {
        Self::start_with(kind, server, Duration::from_secs(60)).await
    }

    /// Starts a proxy that cuts a connection after such a silence.
    pub(crate) async fn start_with(kind: Kind, server: &Running, silence: Duration) -> Self {
        // between the choice of a port and its use by the proxy, somebody else may take it
        for _ in 0..5 {
            let mut proxy = Self::spawn(kind, server.address, silence).await;
            if within("the proxy to listen", proxy.listens()).await {
                return proxy;
            }
        }
        panic!("{kind:?} does not start");
    }

    async fn spawn(kind: Kind, server: SocketAddr, silence: Duration) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-{}-{number}", process::id()));
        fs::create_dir_all(&directory).expect("the directory is cargo's, and there");

        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["example.com".to_owned()]).expect("it is a name");
        let pem = directory.join("example.com.pem");
        fs::write(
            &pem,
            pem_of("CERTIFICATE", cert.der()) + &pem_of("PRIVATE KEY", &signing_key.serialize_der()),
        )
        .expect("the directory is new");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = free.local_addr().expect("a listener has an address");
        drop(free);

        let site = match kind {
            Kind::Nginx => replaced(NGINX, "443", &address.to_string()),
            Kind::PlainNginx => {
                let site = replaced(NGINX, "proxy_set_header Upgrade", "# proxy_set_header Upgrade");
                let site = replaced(&site, "proxy_set_header Connection", "# proxy_set_header Connection");
                replaced(&site, "443", &address.to_string())
            }
            Kind::Haproxy => replaced(HAPROXY, ":443", &address.to_string()),
        };
        let site = replaced(&site, "/etc/ssl/example.com.pem", pem.to_str().expect("a path in UTF-8"));
        let site = replaced(&site, "127.0.0.1:3000", &server.to_string());
        let site = replaced(&site, "60s", &format!("{}s", silence.as_secs()));
        let file = directory.join("site");
        fs::write(&file, site).expect("the directory is new");

        let mut command = match kind {
            Kind::Nginx | Kind::PlainNginx => {
                let main = directory.join("nginx.conf");
                fs::write(&main, around(&file)).expect("the directory is new");
                let mut command = Command::new("nginx");
                command.arg("-p").arg(&directory).arg("-e").arg("stderr").arg("-c").arg(main);
                command
            }
            Kind::Haproxy => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file);
                command
            }
        };
        let log = fs::File::create(directory.join("log")).expect("the directory is new");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, address, directory, certificate: cert.der().clone() }
    }

    /// Waits until it listens, or has ended.
    async fn listens(&mut self) -> bool {
        while TcpStream::connect(self.address).await.is_err() {
            if self.child.try_wait().expect("it is our child").is_some() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    /// Connects through it, to the site that it serves.
    pub(crate) async fn connect(&self, client: &Client) -> Result<WebSocket, ConnectError> {
        let stream = TcpStream::connect(self.address).await.map_err(ConnectError::Connect)?;
        let client = client.clone().tls_config(self.tls());
        within("an answer", client.connect_over("wss://example.com/ws", stream)).await
    }

    /// Connects to it, and says nothing yet.
    pub(crate) async fn stream(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let site = ServerName::try_from("example.com").expect("it is a name");
        let tls = TlsConnector::from(self.tls()).connect(site, stream);
        within("TLS", tls).await.expect("the certificate is the site's")
    }

    fn tls(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("it is a certificate");
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    pub(crate) async fn open(&self, client: &Client) -> WebSocket {
        self.connect(client).await.expect("the handshake comes through")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("the proxy said: {log}");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A certificate or key as both proxies read it (RFC 7468).
fn pem_of(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut pem = format!("-----BEGIN {label}-----");
    for (number, three) in der.chunks(3).enumerate() {
        if number % 16 == 0 {
            pem.push('\n');
        }
        let bits =
            (0..3).fold(0, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or_default()));
        let digits = [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 0x3f]));
        pem.extend(&digits[..=three.len()]);
        pem.extend(std::iter::repeat_n('=', 3 - three.len()));
    }
    format!("{pem}\n-----END {label}-----\n")
}

/// `text` with something else in a place that has to be there.
fn replaced(text: &str, place: &str, with: &str) -> String {
    assert!(text.contains(place), "nothing says {place}");
    text.replace(place, with)
}

/// What nginx needs around the settings of a site: one process, and all of its files in its own directory.
fn around(site: &std::path::Path) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path temporary;"));
    format!(
        "daemon off; master_process off; pid nginx.pid; events {{}}
         http {{ access_log off; {} include {}; }}",
        temporary.concat(),
        site.display(),
    )
}
