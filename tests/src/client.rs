//! [`Client`]: a peer that does what it is told, be it right or wrong.
//!
//! It reads with a deadline, and it tells the end of a stream from a reset: a server that closes a socket with bytes
//! unread in it makes the kernel send a reset, which can overtake the Close frame. So wherever a test reads, a reset
//! fails it; one that comes behind the end of the stream is found by [`Client::not_reset`].

use std::fmt;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use futures_util::future::join_all;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::frame::Frame;
use crate::http2;
use crate::request::{ACCEPT, Request, Response};
use crate::server::Endpoint;
use crate::wait::within;

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

/// A peer of a server under test: a TCP connection, or a stream of HTTP/2.
#[derive(Debug)]
pub struct Client {
    link: Link,
    /// Received, and not yet taken.
    received: BytesMut,
}

#[derive(Debug)]
enum Link {
    Tcp(TcpStream),
    Http2(http2::Connection, Stream),
}

/// What there is of a stream of HTTP/2.
enum Stream {
    None,
    Asked(http2::Answer),
    Open(TokioIo<Upgraded>),
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Asked(_) => "Asked",
            Self::Open(_) => "Open",
        })
    }
}

impl Stream {
    fn open(&mut self) -> &mut TokioIo<Upgraded> {
        match self {
            Self::Open(stream) => stream,
            other => panic!("the stream is no WebSocket yet: {other:?}"),
        }
    }
}

impl Client {
    /// Connects over TCP, and says nothing yet.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket knows the option");
        Self { link: Link::Tcp(stream), received: BytesMut::new() }
    }

    /// Connects in the version of HTTP that is under test, and requests nothing yet.
    pub async fn to(server: impl Into<Endpoint>) -> Self {
        let server = server.into();
        if server.http2 {
            Self::on(&http2::Connection::open(server.address).await)
        } else {
            Self::connect(server.address).await
        }
    }

    /// Takes a stream of an HTTP/2 connection, and requests nothing yet.
    #[must_use]
    pub fn on(connection: &http2::Connection) -> Self {
        Self { link: Link::Http2(connection.clone(), Stream::None), received: BytesMut::new() }
    }

    /// Opens this many WebSockets at once, each on a stream of an HTTP/2 connection.
    pub async fn open_all_on(connection: &http2::Connection, count: usize) -> Vec<Self> {
        let mut clients: Vec<_> = (0..count).map(|_| Self::on(connection)).collect();
        join_all(clients.iter_mut().map(|client| client.handshake(Request::upgrade()))).await;
        clients
    }

    /// The address of its own end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        match &self.link {
            Link::Tcp(stream) => stream.local_addr().expect("a connected socket has an address"),
            Link::Http2(connection, _) => connection.local_addr,
        }
    }

    /// Opens a WebSocket with a valid handshake.
    pub async fn open(server: impl Into<Endpoint>) -> Self {
        Self::open_with(server, Request::upgrade()).await
    }

    /// Opens a WebSocket with this handshake.
    pub async fn open_with(server: impl Into<Endpoint>, request: Request) -> Self {
        let mut client = Self::to(server).await;
        client.handshake(request).await;
        client
    }

    /// Makes this connection a WebSocket with a handshake.
    pub async fn handshake(&mut self, request: Request) {
        let response = self.answer_to(request).await;
        let (status, accept) = match self.link {
            Link::Tcp(_) => (101, Some(ACCEPT)),
            Link::Http2(..) => (200, None),
        };
        assert_eq!(response.status, status, "{response:?}");
        assert_eq!(response.header("sec-websocket-accept"), accept);
    }

    /// Sends a request on a connection of its own, and returns the response.
    pub async fn ask(server: impl Into<Endpoint>, request: Request) -> Response {
        Self::to(server).await.answer_to(request).await
    }

    /// Sends a request that is refused: checks what all refusals have in common, and that the connection ends, or the
    /// stream over HTTP/2, which has no headers for the connection.
    pub async fn refusal(server: impl Into<Endpoint>, request: Request) -> Response {
        let server = server.into();
        let mut client = Self::to(server).await;
        let response = client.answer_to(request).await;
        assert!(response.status >= 400, "{response:?}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{response:?}");
        if server.http2 {
            assert_eq!((response.header("connection"), response.header("upgrade")), (None, None));
        } else {
            let connection = response.header("connection").unwrap_or_default();
            assert!(connection.starts_with("close"), "{response:?}");
            client.end().await;
        }
        response
    }

    /// Sends a request, and does not wait for its response.
    pub async fn request(&mut self, request: Request) {
        match &mut self.link {
            Link::Tcp(_) => self.write(request).await,
            Link::Http2(connection, stream) => *stream = Stream::Asked(connection.send(request)),
        }
    }

    /// Sends a request, and returns the response.
    pub async fn answer_to(&mut self, request: Request) -> Response {
        let method = request.method_name();
        let is_upgrade = request.is_upgrade();
        self.request(request).await;
        let Link::Http2(_, stream) = &mut self.link else {
            return self.take("a response", |received| Response::take(received, method)).await;
        };
        let Stream::Asked(answer) = std::mem::replace(stream, Stream::None) else { unreachable!() };
        let mut response = within("a response", answer).await.expect("the stream is answered");
        let opens = is_upgrade && response.status() == 200;
        if opens {
            let upgraded = hyper::upgrade::on(&mut response).await.expect("the stream is a tunnel");
            *stream = Stream::Open(TokioIo::new(upgraded));
        }
        within("the body", Response::read(response, !opens)).await
    }

    /// Sends bytes, or a request, or a frame (masked).
    pub async fn write(&mut self, bytes: impl Into<Vec<u8>>) {
        self.try_write(bytes).await.expect("the server reads");
    }

    /// As [`write`](Self::write), where the server may have gone.
    ///
    /// # Errors
    ///
    /// If it has.
    pub async fn try_write(&mut self, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        let bytes = bytes.into();
        within("the server to read", async {
            match &mut self.link {
                Link::Tcp(stream) => stream.write_all(&bytes).await,
                Link::Http2(_, stream) => stream.open().write_all(&bytes).await,
            }
        })
        .await
    }

    /// The next response; one to a HEAD is not to be read with this.
    pub async fn response(&mut self) -> Response {
        self.take("a response", |received| Response::take(received, "GET")).await
    }

    /// The next frame.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no frame is lost.
    pub async fn frame(&mut self) -> Frame {
        self.take("a frame", Frame::take).await
    }

    /// The next frame that is not a ping.
    ///
    /// # Cancel safety
    ///
    /// As [`frame`](Self::frame).
    pub async fn frame_but_ping(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            if !frame.is_ping() {
                return frame;
            }
        }
    }

    /// Sends a frame, and returns the next one that comes.
    pub async fn echo(&mut self, frame: Frame) -> Frame {
        self.write(frame).await;
        self.frame().await
    }

    /// The end of the server's stream, with nothing before it; ends this side's, too, as clients do.
    pub async fn end(&mut self) {
        self.end_one_sided().await;
        // the server may have closed the socket altogether
        let _ = self.shut_down().await;
    }

    /// As [`end`](Self::end), and keeps this side's stream open.
    pub async fn end_one_sided(&mut self) {
        while self.read("the end").await {}
        self.not_reset();
        assert!(self.received.is_empty(), "more came: \"{}\"", self.received.escape_ascii());
    }

    /// The end of the server's stream, or of the connection, whatever comes before it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it can be called again.
    pub async fn until_gone(&mut self) {
        let Link::Tcp(stream) = &mut self.link else { panic!("a stream of HTTP/2 is no connection") };
        within("the end", async { while matches!(stream.read_buf(&mut self.received).await, Ok(1..)) {} })
            .await;
    }

    /// A Close frame with this code, which is not answered: this side's stream ends, then the server's.
    pub async fn closed_with(&mut self, code: u16) {
        let frame = self.frame_but_ping().await;
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        self.leave().await;
    }

    /// Ends this side's stream in place of an answer to a Close frame. Then comes the end of the server's, which otherwise
    /// waits for the answer.
    pub async fn leave(&mut self) {
        // the server may have closed the socket altogether
        let _ = self.shut_down().await;
        self.end().await;
    }

    /// Checks that the server has not reset the connection since its stream has ended, which reading does not tell.
    pub fn not_reset(&self) {
        if let Link::Tcp(stream) = &self.link {
            let error = stream.take_error().expect("a socket can be asked for its error");
            assert!(error.is_none(), "the server broke the connection: {error:?}");
        }
    }

    /// A Close frame with this code, which is answered with the same, then the end.
    pub async fn closed_with_answer(&mut self, code: u16) {
        let frame = self.frame_but_ping().await;
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        self.write(frame).await;
        self.end().await;
    }

    /// Closes in order.
    pub async fn close(mut self) {
        self.write(Frame::close(1000, "")).await;
        self.closed_with(1000).await;
    }

    /// Keeps the connection open, and nothing else: no memory of this client's is left.
    #[must_use = "the connection ends when it is dropped"]
    pub fn into_socket(self) -> std::net::TcpStream {
        let Link::Tcp(stream) = self.link else { panic!("a stream of HTTP/2 is no socket") };
        stream.into_std().expect("a socket can be taken from the runtime")
    }

    /// Ends its own half of the stream, without a Close frame.
    pub async fn finish(&mut self) {
        self.shut_down().await.expect("the connection is open");
    }

    /// Goes in the rudest way there is: resets the connection, or the stream of HTTP/2.
    pub fn reset(self) {
        match self.link {
            Link::Tcp(stream) => stream.set_zero_linger().expect("a TCP socket knows the option"),
            Link::Http2(connection, stream) => {
                drop(stream);
                connection.finish();
            }
        }
    }

    async fn shut_down(&mut self) -> io::Result<()> {
        match &mut self.link {
            Link::Tcp(stream) => stream.shutdown().await,
            Link::Http2(_, stream) => stream.open().shutdown().await,
        }
    }

    /// What `take` finds at the front of what the server sends.
    async fn take<T>(&mut self, what: &str, mut take: impl FnMut(&mut BytesMut) -> Option<T>) -> T {
        loop {
            if let Some(taken) = take(&mut self.received) {
                return taken;
            }
            assert!(self.read(what).await, "the stream ended before {what}");
        }
    }

    /// Reads more; `false` at the end.
    async fn read(&mut self, what: &str) -> bool {
        self.received.reserve(READ_SIZE);
        let read = within(what, async {
            match &mut self.link {
                Link::Tcp(stream) => stream.read_buf(&mut self.received).await,
                Link::Http2(_, stream) => stream.open().read_buf(&mut self.received).await,
            }
        });
        match read.await {
            Ok(read) => read > 0,
            Err(error) => panic!("waited for {what}, and the server broke the connection: {error}"),
        }
    }
}
