//! [`Client`]: a peer that does what it is told, be it right or wrong.
//!
//! It reads with a deadline, and it tells the end of a stream from a reset: a server that closes a socket with bytes
//! unread in it makes the kernel send a reset, which can overtake the Close frame. So wherever a test reads, a reset
//! fails it; one that comes behind the end of the stream is found by [`Client::not_reset`].

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::frame::Frame;
use crate::request::{ACCEPT, Request, Response};
use crate::server::Running;
use crate::wait::within;

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

/// A TCP connection to a server under test.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Received, and not yet taken.
    received: BytesMut,
}

impl Client {
    /// Connects, and says nothing yet.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket knows the option");
        Self { stream, received: BytesMut::new() }
    }

    /// Opens a WebSocket with a valid handshake.
    pub async fn open(server: &Running) -> Self {
        Self::open_with(server, Request::upgrade()).await
    }

    /// Opens a WebSocket with this handshake.
    pub async fn open_with(server: &Running, request: Request) -> Self {
        let mut client = Self::connect(server.address).await;
        client.write(request).await;
        let response = client.response().await;
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        client
    }

    /// Sends a request on a connection of its own, and returns the response.
    pub async fn ask(server: &Running, request: Request) -> Response {
        Self::connect(server.address).await.answer_to(request).await
    }

    /// Sends a request that is refused: checks what all refusals have in common, and that the connection ends.
    pub async fn refusal(server: &Running, request: Request) -> Response {
        let mut client = Self::connect(server.address).await;
        let response = client.answer_to(request).await;
        assert!(response.status >= 400, "{response:?}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{response:?}");
        let connection = response.header("connection").unwrap_or_default();
        assert!(connection.starts_with("close"), "{response:?}");
        client.end().await;
        response
    }

    /// Sends a request, and returns the response.
    pub async fn answer_to(&mut self, request: Request) -> Response {
        let is_head = Vec::from(request.clone()).starts_with(b"HEAD ");
        self.write(request).await;
        self.take("a response", |received| Response::take(received, if is_head { "HEAD" } else { "GET" }))
            .await
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
        within("the server to read", self.stream.write_all(&bytes.into())).await
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
        let _ = self.stream.shutdown().await;
    }

    /// As [`end`](Self::end), and keeps this side's stream open.
    pub async fn end_one_sided(&mut self) {
        while self.read("the end").await {}
        self.not_reset();
        assert!(self.received.is_empty(), "more came: \"{}\"", self.received.escape_ascii());
    }

    /// A Close frame with this code, then the end, without an answer.
    pub async fn closed_with(&mut self, code: u16) {
        let frame = self.frame_but_ping().await;
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        self.end().await;
    }

    /// Checks that the server has not reset the connection since its stream has ended, which reading does not tell.
    pub fn not_reset(&self) {
        let error = self.stream.take_error().expect("a socket can be asked for its error");
        assert!(error.is_none(), "the server broke the connection: {error:?}");
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
        self.stream.into_std().expect("a socket can be taken from the runtime")
    }

    /// Ends its own half of the stream, without a Close frame.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("the connection is open");
    }

    /// Goes in the rudest way there is.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("a TCP socket knows the option");
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
        let read = within(what, self.stream.read_buf(&mut self.received)).await;
        match read {
            Ok(read) => read > 0,
            Err(error) => panic!("waited for {what}, and the server broke the connection: {error}"),
        }
    }
}
