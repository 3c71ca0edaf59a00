//! An axum router on a server in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// A server on a free port of this machine; it ends when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves `app`.
    pub(crate) fn start(app: Router) -> Self {
        Self::spawn(|listener| async move { axum::serve(listener, app).await })
    }

    /// Serves `app` with `ws_hyper::serve` behind TLS, over HTTP/2 to those who support it. Its certificate is one that
    /// nobody trusts.
    pub(crate) fn start_tls(app: Router) -> Self {
        let made = generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("it is an address");
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config =
            config.with_single_cert(vec![cert.der().clone()], key.into()).expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        Self::spawn(|listener| async move {
            ws_hyper::serve(listener, app)
                .acceptor(move |stream| {
                    let tls = tls.clone();
                    async move { tls.accept(stream).await }
                })
                .await
        })
    }

    fn spawn<F>(serve: impl FnOnce(TcpListener) -> F) -> Self
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        runtime.spawn(serve(listener));
        Self { address, runtime: Some(runtime) }
    }

    /// The address of `path` by `scheme`; with `http` and no path, the server's origin.
    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// Runs `future` on the server's threads.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().expect("it is not dropped yet").block_on(future)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.runtime.take().expect("it is dropped once").shutdown_background();
    }
}
