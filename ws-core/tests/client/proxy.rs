//! Servers behind an HTTP proxy, which is scripted byte by byte.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use ws_core::client::{Client, ConnectError};
use ws_core::{WebSocketLayer, testing};

use crate::support::{SECOND, accept, echo, pipe, read_head};

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A proxy for one connection, and its address.
async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Answers one `CONNECT` with these bytes, and then is an echo server in the tunnel. Returns the heads of both requests.
fn serve(listener: TcpListener, answer: &'static str) -> JoinHandle<(String, String)> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let to_proxy = read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        let to_server = accept(&mut stream).await;
        testing::accept(&WebSocketLayer::new(), stream, echo).await;
        (to_proxy, to_server)
    })
}

/// Connects through a proxy that answers with these bytes and keeps the connection open.
async fn answered(answer: &str) -> (String, ConnectError) {
    let (listener, address) = listen().await;
    let answer = answer.to_owned();
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        // a client that has read enough does not read the rest
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let client = Client::new().proxy(format!("http://ada:secret@{address}"));
    let error = client.connect("ws://server.example/").await.unwrap_err();
    proxy.await.unwrap();
    let told = format!("{error} {error:?}");
    assert!(told.contains(&format!("http://{address}")) && !told.contains("secret"), "{told}");
    assert_eq!(error.proxy().unwrap().proxy(), format!("http://{address}"));
    (error.to_string(), error)
}

#[tokio::test]
async fn a_server_is_connected_to_through_the_tunnel_of_a_proxy() {
    let (listener, address) = listen().await;
    let asked = serve(listener, ESTABLISHED);
    let client = Client::new().proxy(format!("http://{address}")).header("authorization", "Bearer 6f1e");
    let mut socket = client.connect("ws://server.example/chat?room=1").await.unwrap();
    socket.send("hello").await.unwrap();
    assert_eq!(socket.recv().await.unwrap().unwrap().as_text(), Some("hello"));
    socket.close(1000, "").await.unwrap();
    let (to_proxy, to_server) = asked.await.unwrap();
    assert_eq!(to_proxy, "CONNECT server.example:80 HTTP/1.1\r\nHost: server.example:80\r\n\r\n");
    assert!(to_server.starts_with("GET /chat?room=1 HTTP/1.1\r\nHost: server.example\r\n"), "{to_server}");
    assert!(to_server.contains("authorization: Bearer 6f1e\r\n"), "{to_server}");
}

#[tokio::test]
async fn user_and_password_are_for_the_proxy_alone() {
    for (user, expected) in [
        ("ada:open%20sesame%40", "YWRhOm9wZW4gc2VzYW1lQA=="),
        ("ada", "YWRhOg=="),
        ("ada:a:b", "YWRhOmE6Yg=="),
        ("", ""),
    ] {
        let (listener, address) = listen().await;
        let asked = serve(listener, ESTABLISHED);
        let client = Client::new().proxy(format!("http://{user}@{address}/"));
        let mut socket = client.connect("ws://[2001:db8::1]:8080/").await.unwrap();
        socket.close(1000, "").await.unwrap();
        let (to_proxy, to_server) = asked.await.unwrap();
        let authorization = match expected {
            "" => String::new(),
            _ => format!("Proxy-Authorization: Basic {expected}\r\n"),
        };
        assert_eq!(
            to_proxy,
            format!("CONNECT [2001:db8::1]:8080 HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n{authorization}\r\n")
        );
        assert!(!to_server.to_ascii_lowercase().contains("proxy"), "{to_server}");
    }
}

#[tokio::test]
async fn a_proxy_may_answer_as_proxies_do() {
    for answer in [
        "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 \r\n\r\n",
    ] {
        let (listener, address) = listen().await;
        let asked = serve(listener, answer);
        let client = Client::new().proxy(&address);
        let mut socket = client.connect("ws://server.example/").await.expect(answer);
        socket.close(1000, "").await.unwrap();
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_with_its_status() {
    for (status, retry) in [
        ("407 Proxy Authentication Required", false),
        ("403 Forbidden", false),
        ("302 Found", false),
        ("101 Switching Protocols", false),
        ("429 Too Many Requests", true),
        ("502 Bad Gateway", true),
        ("504 Gateway Timeout", true),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nsorry");
        let (text, error) = answered(&answer).await;
        assert!(text.contains(&format!("refused to connect to the server, with {status}")), "{text}");
        assert_eq!(text.contains("user:password@host"), status.starts_with("407"), "{text}");
        let response = error.proxy().unwrap().response().unwrap();
        assert!(status.starts_with(response.status().as_str()) && response.headers().len() == 2);
        assert_eq!((error.should_retry(), error.retry_after()), (retry, Some(7 * SECOND)), "{status}");
        // it is not a response of the server
        assert!(error.status().is_none() && !error.is_refused());
    }
}

#[tokio::test]
async fn an_invalid_response_of_a_proxy_is_refused() {
    let lines = "x: y\r\n".repeat(101);
    for (answer, expected) in [
        (format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(20_000)), "16 KiB"),
        (format!("HTTP/1.1 200 OK\r\n{lines}\r\n"), "100 headers"),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), "not HTTP"),
        (format!("{ESTABLISHED}hello"), "bytes follow it"),
    ] {
        let (text, error) = answered(&answer).await;
        assert!(text.contains(expected) && !error.should_retry(), "{text}");
    }
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_given_up_in_time() {
    let (listener, address) = listen().await;
    let client = Client::new().proxy(format!("http://{address}")).connect_timeout(SECOND / 5);
    let (error, accepted) = tokio::join!(client.connect("ws://server.example/"), listener.accept());
    assert!(error.unwrap_err().is_timeout());
    drop(accepted);
}

#[tokio::test]
async fn a_proxy_that_is_gone_is_an_error_to_retry_that_names_it() {
    let (listener, address) = listen().await;
    let client = Client::new().proxy(format!("http://ada:secret@{address}"));
    let closing = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let error = client.connect("ws://server.example/").await.unwrap_err();
    closing.await.unwrap();
    assert!(error.should_retry() && error.proxy().is_some(), "{error}");
    // the port is closed now
    let error = client.connect("ws://server.example/").await.unwrap_err();
    assert!(error.should_retry(), "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).expect("its cause");
    assert_eq!(error.to_string(), format!("the proxy http://{address} cannot be connected to: {cause}"));
}

#[test]
fn the_error_of_an_invalid_proxy_does_not_show_the_password() {
    for (url, expected) in [
        ("socks5://ada:secret@proxy:1080", "`connect_over`"),
        ("ftp://ada:secret@proxy", "its scheme is not http or https"),
        ("http://ada:secret@", "no host"),
        ("", "no host"),
        ("http://ada:secret@proxy:0", "port"),
        ("http://ada:secret@proxy:x", ""),
        ("http://ada:secret@[::g]", ""),
        ("http://ada:sec ret@proxy", "percent-encoded"),
        ("http://ada:secret@home@proxy", "percent-encoded"),
        ("http://a%3Ada:secret@proxy", "colon"),
        ("http://ada:secret@pröxy", "beyond ASCII"),
        ("http://proxy\r\nx: y", ""),
    ] {
        let error = Client::new().try_proxy(url).expect_err(url);
        let told = format!("{error} {error:?}");
        assert!(told.contains(expected) && !told.contains("sec"), "{url}: {told}");
    }
    let client = Client::new().proxy("http://ada:secret@proxy");
    assert!(!format!("{client:?}").contains("secret"));
}

#[test]
#[should_panic(expected = "this is not a proxy to connect through: its scheme is not http")]
fn an_invalid_proxy_in_the_program_panics() {
    let _ = Client::new().proxy("ws://proxy");
}

#[cfg(not(feature = "rustls"))]
#[test]
fn without_tls_the_error_of_an_https_proxy_names_the_feature() {
    let error = Client::new().try_proxy("https://proxy").unwrap_err();
    assert!(error.to_string().contains("feature `rustls`"), "{error}");
}

#[tokio::test]
async fn a_zone_of_this_host_is_not_for_a_proxy() {
    let client = Client::new().proxy("http://127.0.0.1:9");
    let error = client.connect("ws://[fe80::1%25eth0]/").await.unwrap_err();
    assert!(error.to_string().contains("has a zone") && !error.should_retry(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_over_a_given_stream_uses_no_proxy() {
    let (mut server, stream) = pipe();
    let client = Client::new().proxy("http://127.0.0.1:9");
    let (socket, head) =
        tokio::join!(client.connect_over("ws://server.example/", stream), accept(&mut server));
    assert!(socket.is_ok() && head.starts_with("GET / "), "{head}");
}

#[tokio::test]
async fn a_connection_that_reconnects_goes_through_the_proxy_each_time() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = server.local_addr().unwrap();
    let (listener, address) = listen().await;
    let proxy = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(read_head(&mut stream).await);
            stream.write_all(ESTABLISHED.as_bytes()).await.unwrap();
            let mut server = TcpStream::connect(at).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut server).await;
        }
        asked
    });
    let backoff = ws_core::client::Backoff::new().max(Duration::from_millis(1));
    let client = Client::new().proxy(format!("http://{address}"));
    let mut socket = client.reconnecting("ws://server.example:9000/").backoff(backoff).start();
    for message in [&b"\x81\x01a"[..], b"\x81\x01b"] {
        let (mut stream, _) = server.accept().await.unwrap();
        accept(&mut stream).await;
        stream.write_all(message).await.unwrap();
        let expected = str::from_utf8(&message[2..]).unwrap();
        assert_eq!(socket.recv().await.unwrap().as_text(), Some(expected));
    }
    for asked in proxy.await.unwrap() {
        assert!(asked.starts_with("CONNECT server.example:9000 HTTP/1.1\r\n"), "{asked}");
    }
}
