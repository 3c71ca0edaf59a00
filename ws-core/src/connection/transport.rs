//! What the bytes go over: the bare socket where it can be had, the upgraded HTTP connection where it cannot.
//!
//! hyper's `Upgraded` boxes the socket and may hold on to a read buffer, so it is taken apart when its inside is a type
//! that is known here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(feature = "rustls")]
use tokio_rustls::client::TlsStream;

/// It is no larger than a [`TcpStream`], as it is a part of the task.
pub(crate) enum Transport {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(Box<UnixStream>),
    /// TLS, an HTTP/2 stream, or whatever else a server was given.
    Upgraded(Box<TokioIo<Upgraded>>),
    /// A client's TLS.
    #[cfg(feature = "rustls")]
    Tls(Box<TlsStream<Self>>),
    /// Whatever else a client or a test was given.
    #[cfg(any(feature = "client", feature = "testing"))]
    Other(Box<dyn Stream>),
}

/// Anything bytes can go over.
#[cfg(any(feature = "client", feature = "testing"))]
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

#[cfg(any(feature = "client", feature = "testing"))]
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Transport {
    /// Takes the upgraded connection apart, and returns what was already read from it.
    pub(crate) fn from_upgraded(upgraded: Upgraded) -> (Self, Bytes) {
        let upgraded = match downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok((stream, read)) => {
                return (Self::from_tcp(stream.into_inner()), read);
            }
            Err(upgraded) => upgraded,
        };
        #[cfg(unix)]
        let upgraded = match downcast::<TokioIo<UnixStream>>(upgraded) {
            Ok((stream, read)) => return (Self::Unix(Box::new(stream.into_inner())), read),
            Err(upgraded) => upgraded,
        };
        (Self::Upgraded(Box::new(TokioIo::new(upgraded))), Bytes::new())
    }

    pub(crate) fn from_tcp(stream: TcpStream) -> Self {
        // what is sent in one turn leaves in one write: waiting for more would only delay it
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        Self::Tcp(stream)
    }

    /// Has the kernel end the connection when the peer's kernel has acknowledged none of what was sent for that long;
    /// `None` leaves it to the system, which waits for a quarter of an hour. Returns whether the kernel will.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn limit_acknowledgement(&self, time: Option<Duration>) -> bool {
        const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
        let Some(stream) = self.tcp() else { return false };
        // zero would be no limit
        let time = time.map(|time| time.clamp(Duration::from_millis(1), LONGEST));
        match socket2::SockRef::from(stream).set_tcp_user_timeout(time) {
            Ok(()) => time.is_some(),
            Err(error) => {
                tracing::debug!(%error, "TCP_USER_TIMEOUT could not be set");
                false
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[expect(clippy::unused_self, reason = "as where it can be told")]
    pub(crate) fn limit_acknowledgement(&self, _: Option<Duration>) -> bool {
        false
    }

    /// What the kernel has ended a connection with that is neither read nor written, if it has.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        let stream = self.tcp()?;
        // of one that lives, the kernel tells what may yet pass, such as that there is no route
        if stream.peer_addr().is_ok() {
            return None;
        }
        stream.take_error().ok().flatten()
    }

    /// Whether there may be something to read. If not, the task is woken when there is.
    #[inline]
    pub(crate) fn may_be_readable(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).is_ready(),
            _ => true,
        }
    }

    /// The address of the other end of the TCP connection, where it is known.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }

    /// The socket below, where it is known.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            #[cfg(feature = "rustls")]
            Self::Tls(stream) => stream.get_ref().0.tcp(),
            _ => None,
        }
    }
}

/// Calls a method of whichever stream it is.
macro_rules! on_stream {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Tcp($stream) => $call,
            #[cfg(unix)]
            Transport::Unix($stream) => $call,
            Transport::Upgraded($stream) => $call,
            #[cfg(feature = "rustls")]
            Transport::Tls($stream) => $call,
            #[cfg(any(feature = "client", feature = "testing"))]
            Transport::Other($stream) => $call,
        }
    };
}

/// The stream inside of an upgraded connection and the bytes read from it, whichever of hyper's servers it comes from.
fn downcast<T>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded>
where
    T: Read + Write + Unpin + 'static,
{
    match upgrade::downcast::<T>(upgraded) {
        Ok(parts) => Ok((parts.io, parts.read_buf)),
        Err(upgraded) => {
            let parts = upgraded.downcast::<T>()?;
            Ok((parts.io, parts.read_buf))
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(&mut *self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(&mut *self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
