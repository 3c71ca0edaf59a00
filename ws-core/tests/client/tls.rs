//! `wss`, with a certificate made on the spot.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::DuplexStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use ws_core::client::Client;
use ws_core::{Error, WebSocket, WebSocketLayer, testing};

use crate::support::{accept, pipe};

/// The two sides of the trust in a certificate for `localhost`.
fn configs() -> (ServerConfig, ClientConfig) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key).unwrap();
    (server, ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await {
        socket.send(message?).await?;
    }
    Ok(())
}

/// Serves one connection over TLS.
fn serve(config: ServerConfig, stream: DuplexStream) {
    tokio::spawn(async move {
        // a client that does not trust the server does not go on
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
        accept(&mut stream).await;
        testing::accept(&WebSocketLayer::new(), stream, echo).await;
    });
}

#[tokio::test]
async fn a_server_that_is_trusted_is_spoken_with() {
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
async fn a_server_that_is_not_trusted_or_has_another_name_is_not() {
    let (server, trusting) = configs();
    let (_, of_others) = configs();
    for (url, config) in [("wss://localhost/", of_others), ("wss://example.com/", trusting.clone())] {
        let (at_server, stream) = pipe();
        serve(server.clone(), at_server);
        let error = Client::new().tls_config(Arc::new(config)).connect_over(url, stream).await.unwrap_err();
        assert!(error.is_tls() && !error.should_retry(), "{error:?}");
    }
    // the roots of the system, or their lack
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
        use tokio::io::AsyncWriteExt as _;
        at_server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let (_, client) = configs();
    let client = Client::new().tls_config(Arc::new(client));
    assert!(client.connect_over("wss://localhost/", stream).await.unwrap_err().is_tls());
}
