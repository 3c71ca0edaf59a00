//! nginx and haproxy in front of the server, with the settings of `docs/proxies.md`, and TLS from the client to them.
//!
//! What goes through a proxy is the same for every adapter, so there is one here.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use ws_core::client::{Client, ConnectError};
use ws_core::{
    CloseFrame, Compression, Drain, Error, Message, OriginPolicy, Side, WebSocket, WebSocketLayer,
};
use ws_tests::adapters::Axum;
use ws_tests::{Running, Server as _, Setup, runtime, until, within};

const NGINX: &str = include_str!("nginx.conf");
const HAPROXY: &str = include_str!("haproxy.cfg");

/// How long the proxies of some cases let a connection be silent.
const CUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Nginx,
    /// As it is where nobody has thought of WebSockets.
    PlainNginx,
    Haproxy,
}

/// A running proxy, of a site of its own; it ends when it is dropped, and its files are removed.
struct Proxy {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Proxy {
    /// Starts a proxy in front of `server`.
    async fn start(kind: Kind, server: &Running) -> Self {
        Self::start_with(kind, server, Duration::from_secs(60)).await
    }

    /// Starts a proxy that cuts a connection after such a silence.
    async fn start_with(kind: Kind, server: &Running, silence: Duration) -> Self {
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
    async fn connect(&self, client: &Client) -> Result<WebSocket, ConnectError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("it is a certificate");
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.map_err(ConnectError::Connect)?;
        let client = client.clone().tls_config(Arc::new(tls));
        within("an answer", client.connect_over("wss://example.com/ws", stream)).await
    }

    async fn open(&self, client: &Client) -> WebSocket {
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

async fn echo(layer: WebSocketLayer) -> Running {
    Axum::start(Setup::echo().layer(layer)).await
}

async fn exchange(socket: &mut WebSocket, message: impl Into<Message>) {
    let message = message.into();
    let echo = async {
        socket.send(message.clone()).await.expect("the connection lives");
        socket.recv().await.expect("an answer").expect("the connection lives")
    };
    assert!(within("an echo", echo).await == message, "{} bytes have changed", message.len());
}

async fn messages_of_every_size_and_the_subprotocol_come_through(kind: Kind) {
    let server = echo(WebSocketLayer::new().protocols(["chat"]).compression(Compression::new())).await;
    let proxy = Proxy::start(kind, &server).await;
    let client = Client::new().protocols(["other", "chat"]);
    for client in [client.clone(), client.compression(Compression::new())] {
        let mut socket = proxy.open(&client).await;
        assert_eq!(socket.protocol(), Some("chat"));
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            exchange(&mut socket, (0..=u8::MAX).cycle().take(size).collect::<Vec<_>>()).await;
            exchange(&mut socket, "ß".repeat(size / 2)).await;
        }
        within("a pong", socket.ping()).await.expect("the connection lives");
        let answer = within("the answer", socket.close(1000, "")).await.expect("the server answers");
        assert_eq!(answer, Some(CloseFrame::new(1000, "")));
    }
}

async fn close_codes_come_through_both_ways(kind: Kind) {
    let (report, mut frames) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            let message = socket.recv().await.transpose()?;
            match message.as_ref().and_then(Message::as_text) {
                None => report.send(socket.close_frame())?,
                Some("close") => drop(socket.close(4001, "bye").await?),
                Some("fail") => return Err("as it was told".into()),
                Some(_) => {}
            }
            Ok(())
        }
    });
    let server = Axum::start(setup.layer(WebSocketLayer::new().max_message_size(1_000))).await;
    let proxy = Proxy::start(kind, &server).await;

    let mut socket = proxy.open(&Client::new()).await;
    let answer = within("the answer", socket.close(4002, "see you")).await.expect("the server answers");
    assert_eq!(answer, Some(CloseFrame::new(4002, "see you")));
    let frame = within("the handler's report", frames.recv()).await.expect("the handler reports");
    assert_eq!(frame, Some(CloseFrame::new(4002, "see you")));

    let (return_, too_big) = ("return".to_owned(), "big".repeat(1_000));
    for (said, code, reason) in [
        ("close".to_owned(), 4001, "bye"),
        ("fail".to_owned(), 1011, ""),
        (return_, 1000, ""),
        (too_big, 1009, ""),
    ] {
        let mut socket = proxy.open(&Client::new()).await;
        socket.send(said).await.expect("the connection lives");
        assert!(within("the end", socket.recv()).await.is_none());
        let closed = within("the end", socket.closed()).await;
        assert_eq!((closed.by, closed.clean, closed.code().into()), (Side::Remote, true, code));
        assert!(reason.is_empty() || closed.reason() == reason, "{closed:?}");
    }
    until("all connections to end", || server.connections.is_empty()).await;
}

async fn without_pings_the_proxy_cuts_what_is_idle_and_both_sides_see_it(kind: Kind) {
    let (report, mut errors) = unbounded_channel();
    let setup = Setup::new(move |mut socket| {
        let report = report.clone();
        async move {
            report.send(socket.recv().await.and_then(Result::err))?;
            Ok(())
        }
    });
    let server = Axum::start(setup.layer(WebSocketLayer::new().ping_interval(None))).await;
    let proxy = Proxy::start_with(kind, &server, CUT).await;
    let start = Instant::now();
    let mut socket = proxy.open(&Client::new().ping_interval(None)).await;
    let end = within("the client's end", socket.recv()).await.and_then(Result::err);
    println!("{kind:?}: the client's connection is cut after {:?}: {end:?}", start.elapsed());
    assert!(start.elapsed() >= CUT, "{:?}", start.elapsed());
    assert!(end.as_ref().is_some_and(Error::is_disconnected), "{end:?}");
    let end = within("the server's end", errors.recv()).await.expect("the handler reports");
    println!("{kind:?}: the server's: {end:?}");
    assert!(end.as_ref().is_some_and(Error::is_disconnected), "{end:?}");
    until("all connections to end", || server.connections.is_empty()).await;
}

async fn pings_of_either_side_keep_what_is_idle(kind: Kind) {
    let interval = Duration::from_millis(300);
    let (layer, client) = (WebSocketLayer::new(), Client::new());
    for (layer, client) in [
        (layer.clone().ping_interval(interval), client.clone().ping_interval(None)),
        (layer.ping_interval(None), client.ping_interval(interval)),
    ] {
        let server = echo(layer).await;
        let proxy = Proxy::start_with(kind, &server, CUT).await;
        let mut socket = proxy.open(&client).await;
        let start = Instant::now();
        until("some times the time of the cut", || start.elapsed() > 4 * CUT).await;
        exchange(&mut socket, "still here").await;
    }
}

async fn the_origin_is_judged_by_what_the_proxy_says(kind: Kind) {
    let trusting = echo(WebSocketLayer::new().origin(OriginPolicy::same_origin().trust_forwarded())).await;
    let cautious = echo(WebSocketLayer::new()).await;
    let site = "https://example.com";
    for (server, origin, header, accepted) in [
        (&trusting, site, None, true),
        (&trusting, "https://example.org", None, false),
        (&trusting, "http://example.com", None, false),
        // what a client says in these headers does not get past the proxy
        (&trusting, site, Some(("x-forwarded-host", "example.org")), true),
        (&trusting, "https://example.org", Some(("x-forwarded-host", "example.org")), false),
        (&trusting, "http://example.com", Some(("x-forwarded-proto", "http")), false),
        (&trusting, "https://example.com:8443", Some(("x-forwarded-port", "8443")), false),
        (&trusting, site, Some(("x-forwarded-port", "8443")), true),
        (&trusting, "https://example.org", Some(("forwarded", "host=example.org")), false),
        (&trusting, site, Some(("forwarded", "host=example.org")), true),
        // the proxy says https, and nobody listens
        (&cautious, site, None, true),
        (&cautious, "http://example.com", None, true),
        (&cautious, "https://example.org", Some(("x-forwarded-host", "example.org")), false),
    ] {
        let proxy = Proxy::start(kind, server).await;
        let mut client = Client::new().origin(origin);
        if let Some((name, value)) = header {
            client = client.header(name, value);
        }
        let result = proxy.connect(&client).await;
        if accepted {
            let mut socket = result.unwrap_or_else(|error| panic!("{origin}, {header:?}: {error}"));
            exchange(&mut socket, "hello").await;
        } else {
            let error = result.err().unwrap_or_else(|| panic!("{origin}, {header:?}: it was accepted"));
            let refusal = error.refusal().unwrap_or_else(|| panic!("{origin}, {header:?}: {error}"));
            assert_eq!(refusal.status(), 403);
            let body = String::from_utf8_lossy(refusal.body());
            assert!(body.contains(origin), "{body}");
        }
    }
}

async fn a_full_server_says_through_it_when_to_come_back(kind: Kind) {
    let server = echo(WebSocketLayer::new().max_connections(1)).await;
    let proxy = Proxy::start(kind, &server).await;
    let mut socket = proxy.open(&Client::new()).await;
    let error = proxy.connect(&Client::new()).await.expect_err("there is no room");
    let refusal = error.refusal().expect("the answer is the server's");
    assert_eq!(refusal.status(), 503);
    assert!(refusal.retry_after().is_some_and(|time| time > Duration::ZERO), "{refusal:?}");
    assert!(String::from_utf8_lossy(refusal.body()).contains("connections"), "{refusal:?}");
    exchange(&mut socket, "undisturbed").await;
}

async fn a_shutdown_comes_through(kind: Kind) {
    let drain = Drain::new().code(1012).reconnect_within(Duration::from_secs(30));
    let server = Axum::start(Setup::echo().drain(drain)).await;
    let proxy = Proxy::start(kind, &server).await;
    let mut socket = proxy.open(&Client::new()).await;
    exchange(&mut socket, "hello").await;
    let stopped = tokio::spawn(server.stop());
    assert!(within("the end", socket.recv()).await.is_none());
    let closed = within("the end", socket.closed()).await;
    assert_eq!((closed.by, closed.clean, closed.code().into()), (Side::Remote, true, 1012));
    assert!(closed.reason().starts_with("retry-after="), "{closed:?}");
    within("the server to end", stopped).await.expect("it does not panic");
}

/// Makes a test of each function, for each proxy.
macro_rules! for_each_proxy {
    ($($case:ident,)*) => {
        mod nginx {
            $(#[test] fn $case() { super::runtime::run(super::$case(super::Kind::Nginx)); })*
        }

        mod haproxy {
            $(#[test] fn $case() { super::runtime::run(super::$case(super::Kind::Haproxy)); })*
        }
    };
}

for_each_proxy! {
    messages_of_every_size_and_the_subprotocol_come_through,
    close_codes_come_through_both_ways,
    without_pings_the_proxy_cuts_what_is_idle_and_both_sides_see_it,
    pings_of_either_side_keep_what_is_idle,
    the_origin_is_judged_by_what_the_proxy_says,
    a_full_server_says_through_it_when_to_come_back,
    a_shutdown_comes_through,
}

#[test]
fn an_nginx_that_is_not_told_to_hands_no_upgrade_on() {
    runtime::run(async {
        let server = echo(WebSocketLayer::new()).await;
        let proxy = Proxy::start(Kind::PlainNginx, &server).await;
        let error = proxy.connect(&Client::new()).await.expect_err("the server sees a plain request");
        assert_eq!(error.status().expect("the answer is the server's"), 426);
    });
}

#[test]
fn the_settings_that_the_documentation_shows_are_these() {
    let page = include_str!("../../docs/proxies.md");
    for settings in [NGINX, HAPROXY] {
        assert!(page.contains(settings), "docs/proxies.md does not show\n{settings}");
    }
}
