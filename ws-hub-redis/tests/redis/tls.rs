//! Servers over TLS.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use ws_hub::{Backplane as _, Delivery, Hub};
use ws_hub_redis::{ConnectError, RedisBackplane, RedisBackplaneBuilder};

use crate::server::{Server, free_port};
use crate::support::{ANNA, Node, login, soon, text};

/// Who signs certificates, and says so.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        // not that of the certificates: they would be taken for self-signed
        params.distinguished_name.push(DnType::CommonName, "An authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for these names, and its key.
    fn sign(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// What a client has that trusts it, and has a certificate of it or none.
    fn client(&self, has_certificate: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        if !has_certificate {
            return Arc::new(config.with_no_client_auth());
        }
        let (certificate, key) = self.sign(&[], ExtendedKeyUsagePurpose::ClientAuth);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Arc::new(config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// A server with a certificate of this authority. Returns its address, too.
fn server(authority: &Authority, settings: &[&str]) -> (Server, String) {
    let directory = Server::directory();
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = authority.sign(&["localhost"], ExtendedKeyUsagePurpose::ServerAuth);
    let (certificate, key) = (write("cert.pem", certificate.pem()), write("key.pem", key.serialize_pem()));
    let (authority, port) = (write("ca.pem", authority.0.pem()), free_port());
    let tls = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let tls = [&tls[..], &["--tls-ca-cert-file", &authority], settings].concat();
    let server = Server::start_in(Path::new(&directory), &tls);
    (server, format!("rediss://localhost:{port}"))
}

fn builder(url: &str) -> RedisBackplaneBuilder<u64> {
    RedisBackplane::builder(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_act_as_one_over_tls() {
    let authority = Authority::new();
    let (server, url) = server(&authority, &["--tls-auth-clients", "no"]);
    let mut hubs = Vec::new();
    for _ in 0..2 {
        let backplane = builder(&url).tls_config(authority.client(false)).connect().await.unwrap();
        hubs.push(Hub::builder().backplane(backplane).build());
    }
    let mut anna = login(&hubs[1], ANNA).await;
    for round in 0..5 {
        assert_eq!(hubs[0].send(&ANNA, round.to_string()).await, Delivery::Sent(1));
        assert_eq!(text(&mut anna).await, round.to_string());
        server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_certificate_to_a_server_that_wants_one() {
    let authority = Authority::new();
    let (_server, url) = server(&authority, &["--tls-auth-clients", "yes"]);
    let error = builder(&url).tls_config(authority.client(false)).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    let node = Node::new(builder(&url).tls_config(authority.client(true))).await;
    assert_eq!(node.append(ANNA, "hello").await.0.number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_is_not_trusted_is_refused() {
    let authority = Authority::new();
    let (_server, url) = server(&authority, &["--tls-auth-clients", "no"]);
    let another_name = url.replace("localhost", "127.0.0.1");
    let cases = [
        // the roots of the operating system
        builder(&url),
        builder(&url).tls_config(Authority::new().client(false)),
        builder(&another_name).tls_config(authority.client(false)),
    ];
    for builder in cases {
        let error = soon(builder.connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_no_tls_is_said() {
    let port = free_port();
    let _server = Server::start(&["--port", &port]);
    let url = format!("rediss://127.0.0.1:{port}");
    let config = Authority::new().client(false);
    let error = soon(builder(&url).tls_config(config).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn certificates_are_checked_whatever_follows_the_address() {
    let error = soon(builder("rediss://localhost:1/#insecure").connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::InvalidAddress { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_and_the_database_are_those_of_the_address() {
    let authority = Authority::new();
    let (server, url) = server(&authority, &["--tls-auth-clients", "no", "--requirepass", "secret"]);
    let config = authority.client(false);
    let error = soon(builder(&url).tls_config(Arc::clone(&config)).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    let url = url.replace("rediss://", "rediss://:secret@") + "/3";
    let node = Node::new(builder(&url).tls_config(config)).await;
    soon(node.backplane.connections(&[ANNA])).await.unwrap();
    let client = redis::Client::open(format!("{}?pass=secret&db=3", server.url())).unwrap();
    let size: usize = redis::cmd("DBSIZE").query(&mut client.get_connection().unwrap()).unwrap();
    assert!(size > 0, "nothing is kept there");
}

#[cfg(feature = "cluster")]
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_of_a_cluster_are_reached_over_tls() {
    let authority = Authority::new();
    let bus = free_port();
    let settings = ["--tls-auth-clients", "no", "--cluster-enabled", "yes", "--tls-cluster", "yes"];
    let (server, url) = server(&authority, &[&settings[..], &["--cluster-port", &bus]].concat());
    server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let works = async || format!("{:?}", server.run(&["CLUSTER", "INFO"])).contains("cluster_state:ok");
    crate::support::until("the cluster works", works).await;
    let builder = || RedisBackplane::<u64>::cluster([url.as_str()]);
    let error = soon(builder().connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    let mut hubs = Vec::new();
    for _ in 0..2 {
        let backplane = builder().tls_config(authority.client(false)).connect().await.unwrap();
        hubs.push(Hub::builder().backplane(backplane).build());
    }
    for user in 0..100 {
        let mut client = login(&hubs[1], user).await;
        assert_eq!(hubs[0].send(&user, "hello").await, Delivery::Sent(1));
        assert_eq!(text(&mut client).await, "hello");
    }
}
