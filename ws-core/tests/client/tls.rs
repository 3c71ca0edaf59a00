//! `wss`, with certificates that the tests make.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, IsCa, KeyPair,
    generate_simple_self_signed,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use ws_core::client::Client;
use ws_core::{WebSocketLayer, testing};

use crate::support::{accept, echo, pipe, read_head};

/// A server with a certificate for `localhost`, and a client that trusts it.
fn configs() -> (ServerConfig, ClientConfig) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key).unwrap();
    (server, ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Serves one connection over TLS.
fn serve(config: ServerConfig, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    tokio::spawn(async move {
        // a client that does not trust the server does not go on
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
        accept(&mut stream).await;
        testing::accept(&WebSocketLayer::new(), stream, echo).await;
    });
}

#[tokio::test]
async fn a_trusted_server_is_connected_to() {
    let (server, client) = configs();
    let (at_server, stream) = pipe();
    serve(server, at_server);
    let client = Client::new().tls_config(Arc::new(client));
    let mut socket = client.connect_over("wss://localhost/", stream).await.unwrap();
    let large = "x".repeat(300_000);
    for message in ["hello", large.as_str()] {
        socket.send(message).await.unwrap();
        assert_eq!(socket.recv().await.unwrap().unwrap().as_text(), Some(message));
    }
    socket.close(1000, "").await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_trusted_or_has_another_name_is_refused() {
    let (server, trusting) = configs();
    let (_, of_others) = configs();
    for (url, config) in [("wss://localhost/", of_others), ("wss://example.com/", trusting.clone())] {
        let (at_server, stream) = pipe();
        serve(server.clone(), at_server);
        let error = Client::new().tls_config(Arc::new(config)).connect_over(url, stream).await.unwrap_err();
        assert!(error.is_tls() && !error.should_retry(), "{error:?}");
    }
    // the roots of the system, if there are any
    let (at_server, stream) = pipe();
    serve(server, at_server);
    let error = Client::new().connect_over("wss://localhost/", stream).await.unwrap_err();
    assert!(error.is_tls() && !error.should_retry(), "{error:?}");
}

#[tokio::test]
async fn a_protocol_that_is_not_http_1_1_is_refused() {
    let (mut server, mut client) = configs();
    server.alpn_protocols = vec![b"h2".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (at_server, stream) = pipe();
    serve(server, at_server);
    let client = Client::new().tls_config(Arc::new(client));
    let error = client.connect_over("wss://localhost/", stream).await.unwrap_err();
    assert!(error.to_string().contains("alpn_protocols"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_an_error_of_tls() {
    let (mut at_server, stream) = pipe();
    tokio::spawn(async move {
        at_server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let (_, client) = configs();
    let client = Client::new().tls_config(Arc::new(client));
    assert!(client.connect_over("wss://localhost/", stream).await.unwrap_err().is_tls());
}

/// A certificate authority for servers and clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_to_a_server_that_asks_for_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots())).build().unwrap();
    let (chain, key) = authority.issue("localhost");
    let server = ServerConfig::builder().with_client_cert_verifier(verifier);
    let server = server.with_single_cert(chain, key).unwrap();
    let connect = async |config: ClientConfig| {
        let (at_server, stream) = pipe();
        serve(server.clone(), at_server);
        Client::new().tls_config(Arc::new(config)).connect_over("wss://localhost/", stream).await
    };
    let trusting = || ClientConfig::builder().with_root_certificates(authority.roots());

    let (chain, key) = authority.issue("ada");
    let mut socket = connect(trusting().with_client_auth_cert(chain, key).unwrap()).await.unwrap();
    socket.send("hello").await.unwrap();
    assert_eq!(socket.recv().await.unwrap().unwrap().as_text(), Some("hello"));
    socket.close(1000, "").await.unwrap();

    let (chain, key) = other.issue("ada");
    for config in [trusting().with_no_client_auth(), trusting().with_client_auth_cert(chain, key).unwrap()] {
        let error = connect(config).await.unwrap_err();
        // with TLS 1.3 the server says so after the client's handshake is over
        assert!(error.is_tls() && !error.should_retry(), "{error:?}");
    }
}

#[tokio::test]
async fn tls_goes_through_a_proxy_and_to_one() {
    let (config, client) = configs();
    for scheme in ["http", "https"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = config.clone();
        let proxy = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            if scheme == "http" {
                tunnel(server, stream).await
            } else {
                let acceptor = TlsAcceptor::from(Arc::new(server.clone()));
                tunnel(server, acceptor.accept(stream).await.unwrap()).await
            }
        });
        let client = Client::new().tls_config(Arc::new(client.clone()));
        let client = client.proxy(format!("{scheme}://localhost:{port}"));
        let mut socket = client.connect("wss://localhost/").await.unwrap();
        socket.send("hello").await.unwrap();
        assert_eq!(socket.recv().await.unwrap().unwrap().as_text(), Some("hello"));
        socket.close(1000, "").await.unwrap();
        assert_eq!(proxy.await.unwrap(), "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n");
    }
}

/// A proxy, and then the server in its tunnel. Returns the head of the request to the proxy.
async fn tunnel(
    config: ServerConfig,
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> String {
    let head = read_head(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    serve(config, stream);
    head
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_an_error_that_names_it() {
    let (server, _) = configs();
    let (_, of_others) = configs();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { serve(server, listener.accept().await.unwrap().0) });
    let client = Client::new().tls_config(Arc::new(of_others)).proxy(format!("https://localhost:{port}"));
    let error = client.connect("ws://server.example/").await.unwrap_err();
    assert!(!error.should_retry() && !error.is_tls(), "{error:?}");
    let expected = format!("the proxy https://localhost:{port} cannot be connected to by TLS: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_proxy_that_asks_for_a_certificate_is_an_error_of_tls_without_one() {
    let authority = Authority::new();
    let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots())).build().unwrap();
    let (chain, key) = authority.issue("localhost");
    let server = ServerConfig::builder().with_client_cert_verifier(verifier);
    let server = server.with_single_cert(chain, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { serve(server, listener.accept().await.unwrap().0) });
    let config = ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
    let client = Client::new().tls_config(Arc::new(config)).proxy(format!("https://localhost:{port}"));
    let error = client.connect("ws://server.example/").await.unwrap_err();
    assert!(
        !error.should_retry() && error.to_string().contains("cannot be connected to by TLS"),
        "{error:?}"
    );
}
