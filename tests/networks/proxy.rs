//! [`Proxy`]: a proxy that runs in front of a server, with the settings of `docs/proxies.md`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
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
pub(crate) const CADDY: &str = include_str!("Caddyfile");

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Nginx,
    /// As it is where nobody has thought of WebSockets.
    PlainNginx,
    Haproxy,
    /// With HTTP/2 to the server.
    HaproxyOverHttp2,
    Caddy,
    /// With HTTP/2 to the server.
    CaddyOverHttp2,
}

impl Kind {
    /// The settings of its site, which listens there and cuts a connection after such a silence.
    fn site(self, address: SocketAddr, silence: Duration) -> String {
        let port = |settings, port| replaced(settings, port, &address.to_string());
        let cut = |settings: String| replaced(&settings, "60s", &format!("{}s", silence.as_secs()));
        match self {
            Self::Nginx => cut(port(NGINX, "443")),
            Self::PlainNginx => {
                let site = replaced(NGINX, "proxy_set_header Upgrade", "# proxy_set_header Upgrade");
                let site = replaced(&site, "proxy_set_header Connection", "# proxy_set_header Connection");
                cut(port(&site, "443"))
            }
            Self::Haproxy => cut(port(HAPROXY, ":443")),
            Self::HaproxyOverHttp2 => {
                let site =
                    replaced(HAPROXY, "server app 127.0.0.1:3000", "server app 127.0.0.1:3000 proto h2");
                cut(port(&site, ":443"))
            }
            Self::Caddy => {
                let (host, port) = (address.ip(), address.port());
                replaced(CADDY, "example.com {", &format!("example.com:{port} {{\n\tbind {host}"))
            }
            Self::CaddyOverHttp2 => {
                let transport = "{\n\t\ttransport http {\n\t\t\tversions h2c\n\t\t}\n";
                let site = Self::Caddy.site(address, silence);
                replaced(&site, "127.0.0.1:3000 {\n", &format!("127.0.0.1:3000 {transport}"))
            }
        }
    }

    /// Runs it with the settings of a site, and with all other files in a directory.
    fn command(self, directory: &Path, site: &Path, silence: Duration) -> Command {
        let main = directory.join("main");
        match self {
            Self::Nginx | Self::PlainNginx => {
                fs::write(&main, around(site)).expect("the directory is new");
                let mut command = Command::new("nginx");
                command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(main);
                command
            }
            Self::Haproxy | Self::HaproxyOverHttp2 => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(site);
                command
            }
            Self::Caddy | Self::CaddyOverHttp2 => {
                // by default it opens a port for its administration, and another one that redirects
                let options = format!(
                    "{{\n\tadmin off\n\tauto_https disable_redirects\n\tservers {{\n\t\ttimeouts {{\n\t\t\tidle {}s\n\
                     \t\t}}\n\t}}\n}}\n",
                    silence.as_secs()
                );
                fs::write(&main, format!("{options}import {}\n", path(site))).expect("the directory is new");
                let mut command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(main);
                command.env("HOME", directory).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
                command
            }
        }
    }
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

        let site = replaced(&kind.site(address, silence), "/etc/ssl/example.com.pem", &path(&pem));
        let site = replaced(&site, "127.0.0.1:3000", &server.to_string());
        let file = directory.join("site");
        fs::write(&file, site).expect("the directory is new");
        let mut command = kind.command(&directory, &file, silence);
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

fn path(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// What nginx needs around the settings of a site: one process, and all of its files in its own directory.
fn around(site: &Path) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path temporary;"));
    format!(
        "daemon off; master_process off; pid nginx.pid; events {{}}
         http {{ access_log off; {} include {}; }}",
        temporary.concat(),
        path(site),
    )
}
