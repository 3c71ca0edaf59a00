//! What the servers have in common.

pub mod axum_ws;

use std::io::{self, Write as _};

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The longest message, and frame, that the servers take: 16 MiB.
pub const MAX_MESSAGE_SIZE: usize = 16 << 20;

/// Listens on a free port of the loopback interface, and prints where.
///
/// The connections have `TCP_NODELAY`: on Linux they inherit it.
///
/// # Errors
///
/// If no port is to be had.
pub fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;

    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(listener)
}

/// Serves HTTP/1.1 with hyper, as its examples do, with upgrades.
///
/// # Errors
///
/// If connections cannot be accepted.
pub async fn serve_http1<F, Fut, B, E>(handler: F) -> io::Result<()>
where
    F: Fn(Request<Incoming>) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let listener = listen()?;
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(handler)).with_upgrades();
        tokio::spawn(async move {
            // a connection that fails concerns nobody else
            let _ = connection.await;
        });
    }
}
