//! What the servers have in common.

use std::io::{self, Write as _};

use tokio::net::{TcpListener, TcpSocket};

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
