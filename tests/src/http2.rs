//! [`Connection`]: HTTP/2 with prior knowledge, where a WebSocket is a stream (RFC 8441).
//!
//! The frames of HTTP/2 are hyper's: what goes wrong in them is not what these tests are about.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::request::Request;
use crate::wait::{until, within};

/// A connection to a server under test; the last clone that is dropped breaks it off.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: SendRequest<Full<Bytes>>,
    /// Its own end.
    pub(crate) local_addr: SocketAddr,
    tasks: Arc<Tasks>,
}

/// What drives a connection, until this is dropped.
#[derive(Debug)]
struct Tasks(Spawner);

/// hyper drives a connection in several tasks.
#[derive(Clone, Debug, Default)]
struct Spawner(Arc<Mutex<JoinSet<()>>>);

impl Spawner {
    fn with<T>(&self, f: impl FnOnce(&mut JoinSet<()>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, future: F) {
        self.with(|tasks| tasks.spawn(async { drop(future.await) }));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.with(JoinSet::abort_all);
    }
}

/// What becomes of a request.
pub(crate) type Answer = Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>> + Send>>;

impl Connection {
    /// Connects, and waits until the server offers WebSockets, as a client has to (RFC 8441 section 3).
    pub async fn open(address: SocketAddr) -> Self {
        let tasks = Spawner::default();
        let (requests, driver, local_addr) = handshake(address, tasks.clone()).await;
        until("the server to offer WebSockets over HTTP/2", || driver.is_extended_connect_protocol_enabled())
            .await;
        tasks.execute(driver);
        Self { requests, local_addr, tasks: Arc::new(Tasks(tasks)) }
    }

    /// Sends a request, and returns what becomes of it.
    pub(crate) fn send(&self, request: Request) -> Answer {
        self.send_as_it_is(request.into())
    }

    /// Sends a request that is none of [`Request`]'s.
    pub fn send_as_it_is(&self, request: http::Request<Full<Bytes>>) -> Answer {
        Box::pin(self.requests.clone().send_request(request))
    }

    /// Breaks the connection off, with all its streams.
    pub fn abort(&self) {
        self.tasks.0.with(JoinSet::abort_all);
    }

    /// Ends the connection as soon as its streams have ended, as hyper does of itself.
    pub(crate) fn finish(self) {
        if let Some(tasks) = Arc::into_inner(self.tasks) {
            tasks.0.with(JoinSet::detach_all);
        }
    }
}

/// Whether a server offers WebSockets over HTTP/2; its settings come before its first response.
pub async fn is_offered(address: SocketAddr) -> bool {
    let (mut requests, mut driver, _) = handshake(address, Spawner::default()).await;
    let response = requests.send_request(Request::new("GET", "/plain").into());
    match within("a response", select(pin!(response), &mut driver)).await {
        Either::Left((response, _)) => drop(response.expect("the server speaks HTTP/2")),
        Either::Right((end, _)) => panic!("the connection ended: {end:?}"),
    }
    driver.is_extended_connect_protocol_enabled()
}

async fn handshake(
    address: SocketAddr,
    spawner: Spawner,
) -> (SendRequest<Full<Bytes>>, http2::Connection<TokioIo<TcpStream>, Full<Bytes>, Spawner>, SocketAddr) {
    let stream = within("a connection", TcpStream::connect(address)).await.expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket knows the option");
    let local_addr = stream.local_addr().expect("a connected socket has an address");
    let handshake = http2::handshake(spawner, TokioIo::new(stream)).await;
    let (requests, driver) = handshake.expect("hyper sends its preface");
    (requests, driver, local_addr)
}
