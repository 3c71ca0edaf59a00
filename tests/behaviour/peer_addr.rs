//! The address of the client: what a handler and a route know of it, and what below it is set on the socket.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use ::axum::Router;
use ::axum::extract::{ConnectInfo, Request as AxumRequest};
use ::axum::middleware::map_request;
use ::axum::routing::{any, get};
use ::axum::serve::{IncomingStream, ListenerExt as _, TapIo};
use ::warp::Filter as _;
use futures_util::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::client_async;
use tower::Layer as _;
use ws_axum::{PeerAddr, WebSocketUpgrade};
use ws_core::{WebSocket, WebSocketLayer};
use ws_tests::server::listen;
use ws_tests::{Client, Endpoint, Frame, Request, Server, Setup, within};

use crate::listener::{TlsListener, set_nodelay};
use crate::tls;

fn acceptor() -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .expect("the certificate has this key");
    TlsAcceptor::from(Arc::new(config))
}

async fn tell_peer(mut socket: WebSocket) -> Result<(), ws_core::Error> {
    let peer = socket.peer_addr();
    socket.send(format!("{peer:?}")).await
}

/// Opens a WebSocket over TLS, and returns the own address and the first message.
async fn told_over_tls(address: SocketAddr) -> (SocketAddr, String) {
    let stream = within("a connection", TcpStream::connect(address)).await.expect("the server listens");
    let own = stream.local_addr().expect("a connected socket has an address");
    let stream = within("TLS", tls::connect(stream)).await;
    let (mut socket, _) = client_async("wss://localhost/ws", stream).await.expect("a handshake");
    let message = within("a message", socket.next()).await.expect("a message").expect("no error");
    (own, message.into_text().expect("a text").to_string())
}

async fn a_handler_knows_the_address_of_its_client<S: Server>() {
    let server = S::start(Setup::new(|socket| async { Ok(tell_peer(socket).await?) })).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.frame().await, Frame::text(format!("{:?}", Some(client.local_addr()))));
    client.closed_with_answer(1000).await;
}

#[tokio::test]
async fn a_handler_below_tls_knows_the_address_of_its_client_with_serve() {
    let (listener, address) = listen().await;
    let app = WebSocketLayer::new().layer(ws_hyper::service(tell_peer));
    let tls = acceptor();
    let server = ws_hyper::serve(listener, app).acceptor(move |stream: TcpStream| {
        assert!(stream.nodelay().expect("an open socket"), "a small message would wait below TLS");
        let tls = tls.clone();
        async move { tls.accept(stream).await }
    });
    tokio::spawn(server.into_future());
    let (own, told) = told_over_tls(address).await;
    assert_eq!(told, format!("{:?}", Some(own)));
}

/// What is known of a connection when it has been accepted.
#[derive(Clone)]
struct Accepted {
    peer: SocketAddr,
    nodelay: bool,
}

impl<F> ::axum::extract::connect_info::Connected<IncomingStream<'_, TapIo<TlsListener, F>>> for Accepted
where
    F: FnMut(&mut TlsStream<TcpStream>) + Send + 'static,
{
    fn connect_info(stream: IncomingStream<'_, TapIo<TlsListener, F>>) -> Self {
        let nodelay = stream.io().get_ref().0.nodelay().expect("an open socket");
        Self { peer: *stream.remote_addr(), nodelay }
    }
}

#[tokio::test]
async fn the_listener_of_the_example_axum_tls_sets_nodelay_and_tells_the_address() {
    async fn peer_addr(
        ConnectInfo(accepted): ConnectInfo<Accepted>,
        mut request: AxumRequest,
    ) -> AxumRequest {
        assert!(accepted.nodelay, "a small message would wait below TLS");
        request.extensions_mut().insert(PeerAddr(accepted.peer));
        request
    }

    let (listener, address) = listen().await;
    let app = Router::new()
        .route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(tell_peer)))
        .layer(WebSocketLayer::new())
        .layer(map_request(peer_addr));
    let listener = TlsListener::new(listener, acceptor()).tap_io(set_nodelay);
    let server = ::axum::serve(listener, app.into_make_service_with_connect_info::<Accepted>());
    tokio::spawn(server.into_future());
    let (own, told) = told_over_tls(address).await;
    assert_eq!(told, format!("{:?}", Some(own)));
}

#[tokio::test]
async fn the_extractor_connect_info_works_for_a_router_that_serve_serves() {
    let (listener, address) = listen().await;
    let router = Router::new()
        .route("/page", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(tell_peer)))
        .layer(WebSocketLayer::new());
    let server = ws_hyper::serve(listener, router).connect_info(ConnectInfo::<SocketAddr>);
    tokio::spawn(server.into_future());
    for http2 in [false, true] {
        let mut client = Client::to(Endpoint { address, http2 }).await;
        let own = client.local_addr();
        assert_eq!(client.answer_to(Request::new("GET", "/page")).await.body, own.to_string());
        let mut client = Client::open(Endpoint { address, http2 }).await;
        assert_eq!(client.frame().await, Frame::text(format!("{:?}", Some(client.local_addr()))));
        client.closed_with_answer(1000).await;
    }
}

#[tokio::test]
async fn a_handler_of_warp_knows_the_address_of_its_client_with_serve() {
    let (listener, address) = listen().await;
    let route = ws_warp::websocket(WebSocketLayer::new())
        .map(|upgrade: ws_warp::WebSocketUpgrade| upgrade.on_upgrade(tell_peer));
    tokio::spawn(ws_hyper::serve(listener, ::warp::service(route)).into_future());
    for http2 in [false, true] {
        let mut client = Client::open(Endpoint { address, http2 }).await;
        assert_eq!(client.frame().await, Frame::text(format!("{:?}", Some(client.local_addr()))));
        client.closed_with_answer(1000).await;
    }
}

/// Another handle of a socket: the options that one of them sets are those of both.
fn shared(stream: &TcpStream) -> std::net::TcpStream {
    stream.as_fd().try_clone_to_owned().expect("there are free descriptors").into()
}

/// An open WebSocket over TCP sends each small message at once, whoever accepted the socket.
#[tokio::test]
async fn a_websocket_over_tcp_has_nodelay_on_a_server_that_does_not_set_it() {
    let (report, mut sockets) = mpsc::unbounded_channel();

    let (listener, on_axum) = listen().await;
    let app = Router::new()
        .route("/ws", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(tell_peer)))
        .layer(WebSocketLayer::new());
    let reporting = report.clone();
    let listener = listener.tap_io(move |stream| drop(reporting.send(shared(stream))));
    tokio::spawn(::axum::serve(listener, app).into_future());

    let (listener, on_hyper) = listen().await;
    let app = WebSocketLayer::new().layer(ws_hyper::service(tell_peer));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the listener works");
        let _ = report.send(shared(&stream));
        let service = TowerToHyperService::new(app);
        let builder = auto::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    });

    for address in [on_axum, on_hyper] {
        let mut client = Client::connect(address).await;
        let socket = within("the server to accept", sockets.recv()).await.expect("a socket");
        assert!(!socket.nodelay().expect("an open socket"), "before the handshake");
        client.handshake(Request::upgrade()).await;
        client.frame().await;
        assert!(socket.nodelay().expect("an open socket"), "a small message would wait");
    }
}

ws_tests::cases! {
    a_handler_knows_the_address_of_its_client,
}
