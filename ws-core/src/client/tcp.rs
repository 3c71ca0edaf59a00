//! TCP to a server with several addresses.
//!
//! `TcpStream::connect` waits for an address to fail before it tries the next one. An address that does not answer, as those
//! of IPv6 on some networks, would use up all of the time. Here the next address is tried 250 ms later, at the same time
//! (RFC 8305 section 5).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address is tried before the next one: the Connection Attempt Delay of the RFC.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first address of `host` that answers, in the order of the system's resolver.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    connect_any(lookup_host((host, port)).await?).await
}

async fn connect_any(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.peekable();
    let mut attempts = JoinSet::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name of the server has no address");
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let ended = if addresses.peek().is_some() {
            match timeout(HEAD_START, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            attempts.join_next().await
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(failed))) => error = failed,
            // the runtime shuts down
            Some(Err(failed)) => error = failed.into(),
            // all have failed
            None => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn addresses_are_tried_in_order_until_one_answers() {
        let (_first, first) = listening().await;
        let (_second, second) = listening().await;
        let (gone, closed) = listening().await;
        drop(gone);
        for (addresses, expected) in [
            (vec![first, second], first),
            (vec![second, closed], second),
            (vec![closed, closed, first], first),
        ] {
            let stream = connect_any(addresses.into_iter()).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), expected);
        }
        let error = connect_any([closed, closed].into_iter()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = connect_any(std::iter::empty()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_address_that_does_not_answer_does_not_hold_up_the_next() {
        // when the queue of connections that nobody accepts is full, the kernel drops further ones
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let silent = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(HEAD_START, TcpStream::connect(silent)).await {
            queued.push(stream.unwrap());
        }
        let (_answers, answering) = listening().await;
        let stream = timeout(Duration::from_secs(10), connect_any([silent, answering].into_iter())).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), answering);
    }
}
