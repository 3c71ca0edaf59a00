//! An axum server in this process.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// A server on a free port of this machine; it ends when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves `app`.
    pub(crate) fn start(app: Router) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        runtime.spawn(async move { axum::serve(listener, app).await });
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
