//! [`TlsListener`]: TLS for `axum::serve`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A listener whose clients speak TLS. Each handshake is a task of its own, so that a slow one holds up nobody.
pub(crate) struct TlsListener {
    tcp: TcpListener,
    tls: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    pub(crate) fn new(tcp: TcpListener, tls: TlsAcceptor) -> Self {
        Self { tcp, tls, handshakes: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            select! {
                (stream, peer) = Listener::accept(&mut self.tcp) => {
                    let handshake = self.tls.accept(stream);
                    self.handshakes.spawn(async move {
                        Some((timeout(HANDSHAKE_TIMEOUT, handshake).await.ok()?.ok()?, peer))
                    });
                }
                Some(handshake) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = handshake {
                        return accepted;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// Has the kernel send at once what it is given. Otherwise it waits, with a small message on its way, until the client has
/// acknowledged it, which clients do up to 40 ms later.
pub(crate) fn set_nodelay(stream: &mut TlsStream<TcpStream>) {
    // it fails only if the connection is over
    let _ = stream.get_ref().0.set_nodelay(true);
}
