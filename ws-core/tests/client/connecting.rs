//! The opening handshake, and what follows it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use ws_core::client::{self, Client, ConnectError};
use ws_core::{Closed, ConnectionId, ConnectionInfo, Message, Observer};

use crate::support::{SECOND, URL, accept, answered, connected, opening, pipe, read_head};

const OPENING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Accept: {accept}\r\n";

#[tokio::test(start_paused = true)]
async fn the_request_is_what_was_asked_for_byte_for_byte() {
    let (mut server, stream) = pipe();
    let client = Client::new().protocols(["a", "b"]).header("X-Token", "1");
    let connecting =
        tokio::spawn(async move { client.connect_over("ws://[::1]:8080/a%20b?c=d", stream).await });
    let head = accept(&mut server).await;
    let (before, key) = head.split_once("Sec-WebSocket-Key: ").unwrap();
    let (key, after) = key.split_at(24);
    assert!(
        key.ends_with("==")
            && key[..22].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
    );
    assert_eq!(
        before,
        "GET /a%20b?c=d HTTP/1.1\r\nHost: [::1]:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    );
    assert_eq!(after, "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\nx-token: 1\r\n\r\n");
    assert!(connecting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_response_of_the_server_is_readable_with_its_headers() {
    let (mut server, stream) = pipe();
    tokio::spawn(async move {
        let head = read_head(&mut server).await;
        let lines = "Set-Cookie: a=1\r\nX-Node: 7\r\nset-cookie: b=2\r\n";
        server.write_all(opening(&head, lines).as_bytes()).await.unwrap();
        sleep(SECOND).await;
    });
    let (socket, response) = Client::new().connect_over_with_response(URL, stream).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (101, http::Version::HTTP_11));
    assert_eq!(response.headers()["x-node"], "7");
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(response.headers()["upgrade"], "websocket");
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_set_twice_is_sent_once() {
    let (mut server, stream) = pipe();
    let client = Client::new().origin("https://a.example").origin("https://b.example");
    let client = client.protocols(["a"]).protocols(["b"]).header("X-Token", "1").header("x-token", "2");
    let (socket, head) = tokio::join!(client.connect_over(URL, stream), accept(&mut server));
    assert!(socket.is_ok());
    let (_, set) = head.split_once("Sec-WebSocket-Version: 13\r\n").unwrap();
    let mut lines: Vec<_> = set.trim_end().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Sec-WebSocket-Protocol: b", "origin: https://b.example", "x-token: 2"]);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_response_is_refused() {
    let without = |line: &str| OPENING.replace(line, "") + "\r\n";
    for response in [
        OPENING.replace("{accept}", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") + "\r\n",
        without("Upgrade: websocket\r\n"),
        without("Connection: Upgrade\r\n"),
        without("Sec-WebSocket-Accept: {accept}\r\n"),
        format!("{OPENING}Sec-WebSocket-Accept: {{accept}}\r\n\r\n"),
        format!("{OPENING}Sec-WebSocket-Protocol: chat\r\n\r\n"),
        format!("{OPENING}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        OPENING.replace("HTTP/1.1", "HTTP/1.0") + "\r\n",
        OPENING.replace("HTTP/1.1", "HTTP/2.0") + "\r\n",
        OPENING.replace("101", "1") + "\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "\x15\x03\x01\0\x02\x02\x46".to_owned(),
        "220 mail.example.com ESMTP\r\n".to_owned(),
    ] {
        let error = answered(&Client::new(), &response).await.expect_err(&response);
        assert!(error.is_invalid_response() && !error.should_retry(), "{response:?}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused() {
    let lines = "x: y\r\n".repeat(101);
    for response in [format!("{OPENING}x: {}", "y".repeat(20_000)), format!("{OPENING}{lines}\r\n")] {
        let error = answered(&Client::new(), &response).await.unwrap_err();
        assert!(matches!(error, ConnectError::HeadTooLarge), "{error:?}");
    }
    // also one that comes in many small answers
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n".repeat(1000);
    let error = answered(&Client::new(), &early).await.unwrap_err();
    assert!(matches!(error, ConnectError::HeadTooLarge), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_given_up_in_time() {
    let begun = Instant::now();
    let error = connected(&Client::new(), async |head, mut server: DuplexStream| {
        for byte in opening(&head, "").bytes() {
            if server.write_u8(byte).await.is_err() {
                break;
            }
            sleep(SECOND).await;
        }
    })
    .await
    .unwrap_err();
    assert!(error.is_timeout() && error.should_retry(), "{error:?}");
    assert_eq!(begun.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let client = Client::new().connect_timeout(3 * SECOND);
    let begun = Instant::now();
    let silent = |_, server: DuplexStream| async {
        sleep(3600 * SECOND).await;
        drop(server);
    };
    assert!(connected(&client, silent).await.unwrap_err().is_timeout());
    assert_eq!(begun.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_head_may_come_byte_by_byte_and_after_others() {
    let socket = connected(&Client::new(), async |head, mut server: DuplexStream| {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
        for byte in format!("{early}{}", opening(&head, "")).bytes() {
            server.write_u8(byte).await.unwrap();
        }
        sleep(SECOND).await;
    })
    .await;
    assert!(socket.is_ok(), "{socket:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_before_its_head_is_over_has_disconnected() {
    for response in ["", "HTTP/1.1 101", OPENING] {
        let error = answered(&Client::new(), response).await.unwrap_err();
        assert!(error.is_disconnected() && error.should_retry(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_in_the_segment_of_the_head_are_received() {
    let mut socket = connected(&Client::new(), async |head, mut server: DuplexStream| {
        let mut bytes = opening(&head, "").into_bytes();
        bytes.extend(b"\x81\x05hello\x82\x03");
        server.write_all(&bytes).await.unwrap();
        sleep(SECOND).await;
        server.write_all(&[1, 2, 3, 0x88, 0x02, 0x03, 0xe8]).await.unwrap();
        sleep(SECOND).await;
    })
    .await
    .unwrap();
    assert_eq!(socket.recv().await.unwrap().unwrap(), Message::from("hello"));
    assert_eq!(socket.recv().await.unwrap().unwrap(), Message::from(vec![1, 2, 3]));
    assert!(socket.recv().await.is_none());
    assert_eq!(socket.close_frame().unwrap().code, 1000.into());
}

#[tokio::test(start_paused = true)]
async fn the_subprotocol_is_the_one_that_the_server_has_chosen() {
    let client = Client::new().protocols(["a", "b"]);
    let choosing = |line: &'static str| {
        async move |head: String, mut server: DuplexStream| {
            server.write_all(opening(&head, line).as_bytes()).await.unwrap();
        }
    };
    let chosen = connected(&client, choosing("Sec-WebSocket-Protocol: b\r\n")).await.unwrap();
    assert_eq!(chosen.protocol(), Some("b"));
    assert_eq!(connected(&client, choosing("")).await.unwrap().protocol(), None);
    let error = connected(&client.require_protocol(), choosing("")).await.unwrap_err();
    assert!(error.is_invalid_response(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed_and_names_its_location() {
    let response = "HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.example/\r\nContent-Length: 0\r\n\r\n";
    let error = answered(&Client::new(), response).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().location(), Some("wss://elsewhere.example/"));
    assert!(error.to_string().contains("wss://elsewhere.example/") && !error.should_retry(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_status_headers_and_body() {
    for (response, status, body) in [
        (
            "401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 7\r\n\r\nsign inmore",
            401,
            "sign in",
        ),
        (
            "403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnot \r\n3\r\nyou\r\n0\r\n\r\n",
            403,
            "not you",
        ),
        ("404 Not Found\r\n\r\nuntil the end", 404, "until the end"),
        ("204 No Content\r\nContent-Length: 5\r\n\r\n", 204, ""),
        ("200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
    ] {
        let error = answered(&Client::new(), &format!("HTTP/1.1 {response}")).await.unwrap_err();
        let refusal = error.refusal().unwrap();
        assert_eq!((refusal.status().as_u16(), refusal.body()), (status, body.as_bytes()));
        assert!(!error.should_retry());
        assert_eq!(refusal.headers().contains_key("www-authenticate"), status == 401);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_says_when_to_come_back_is_one_to_retry() {
    let response = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let error = answered(&Client::new(), response).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(7 * SECOND));
    assert!(error.should_retry());
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_refusal_is_bounded_in_bytes_and_time() {
    let long = format!("HTTP/1.1 500 Oops\r\n\r\n{}", "x".repeat(50_000));
    let error = answered(&Client::new(), &long).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().body().len(), 4096);

    // a body that never ends
    let begun = Instant::now();
    let error = connected(&Client::new(), async |_, mut server: DuplexStream| {
        server.write_all(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad").await.unwrap();
        sleep(3600 * SECOND).await;
    })
    .await
    .unwrap_err();
    assert_eq!(error.refusal().unwrap().body(), b"bad");
    assert_eq!(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_url_is_an_error_before_anything_is_sent() {
    for url in ["http://h/", "ws://user:secret@h/", "ws://h/#x", "h"] {
        let (mut server, stream) = pipe();
        let error = Client::new().connect_over(url, stream).await.unwrap_err();
        assert!(error.is_invalid_url() && !error.to_string().contains("secret"), "{error}");
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        assert!(Client::new().connect(url).await.unwrap_err().is_invalid_url());
    }
}

#[cfg(not(feature = "rustls"))]
#[tokio::test]
async fn without_tls_the_error_of_wss_names_the_feature() {
    let (_server, stream) = pipe();
    let error = Client::new().connect_over("wss://h/", stream).await.unwrap_err();
    assert!(error.is_invalid_url() && error.to_string().contains("feature `rustls`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn each_frame_has_a_mask_of_its_own() {
    let (mut server, stream) = pipe();
    let connecting = tokio::spawn(async move { Client::new().connect_over(URL, stream).await });
    accept(&mut server).await;
    let mut socket = connecting.await.unwrap().unwrap();
    let mut masks = HashSet::new();
    for _ in 0..100 {
        socket.send("same").await.unwrap();
        let mut frame = [0; 10];
        server.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..2], [0x81, 0x84]);
        let unmasked: Vec<u8> = (0..4).map(|at| frame[6 + at] ^ frame[2 + at]).collect();
        assert_eq!(unmasked, b"same");
        masks.insert(<[u8; 4]>::try_from(&frame[2..6]).unwrap());
    }
    assert!(masks.len() > 95, "{masks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_masks_is_refused() {
    let mut socket = connected(&Client::new(), async |head, mut server: DuplexStream| {
        let mut bytes = opening(&head, "").into_bytes();
        bytes.extend([0x81, 0x80, 0, 0, 0, 0]);
        server.write_all(&bytes).await.unwrap();
        sleep(SECOND).await;
    })
    .await
    .unwrap();
    assert!(socket.recv().await.unwrap().unwrap_err().is_protocol());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_noticed() {
    let client = Client::new().ping_interval(10 * SECOND).pong_timeout(5 * SECOND);
    let begun = Instant::now();
    let mut socket = connected(&client, async |head, mut server: DuplexStream| {
        server.write_all(opening(&head, "").as_bytes()).await.unwrap();
        sleep(3600 * SECOND).await;
    })
    .await
    .unwrap();
    assert!(socket.recv().await.unwrap().unwrap_err().is_timeout());
    assert!(begun.elapsed() <= 17 * SECOND, "{:?}", begun.elapsed());
}

/// Records the calls.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }

    fn have(&self, note: &str) -> bool {
        self.0.lock().unwrap().iter().any(|noted| noted == note)
    }
}

impl Observer for Notes {
    fn on_open(&self, connection: &ConnectionInfo) {
        self.add(format!("open {:?} {:?}", connection.peer, connection.protocol));
    }

    fn on_close(&self, _: &ConnectionInfo, closed: &Closed) {
        self.add(format!("close {:?} {}", closed.by, closed.code()));
    }

    fn on_message_received(&self, _: ConnectionId, bytes: usize) {
        self.add(format!("received {bytes}"));
    }

    fn on_message_sent(&self, _: ConnectionId, bytes: usize) {
        self.add(format!("sent {bytes}"));
    }
}

#[tokio::test]
async fn over_tcp_the_observer_knows_the_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = accept(&mut stream).await;
        // a message, and the Close frame
        stream.write_all(b"\x81\x02hi\x88\x02\x03\xe8").await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        head
    });
    let notes = Notes::default();
    // a name may have several addresses: the client tries all of them
    let url = format!("ws://localhost:{}/", address.port());
    let mut socket = Client::new().observer(notes.clone()).connect(&url).await.unwrap();
    socket.send("hello").await.unwrap();
    assert_eq!(socket.recv().await.unwrap().unwrap().as_text(), Some("hi"));
    assert!(socket.recv().await.is_none());
    socket.closed().await;
    let opened = format!("open Some({address}) None");
    for note in [&*opened, "sent 5", "received 2", "close Remote 1000 normal closure"] {
        assert!(notes.have(note), "{note}: {:?}", notes.0);
    }
    drop(socket);
    let head = server.await.unwrap();
    assert!(head.contains(&format!("\r\nHost: localhost:{}\r\n", address.port())), "{head}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_zone_of_an_address_is_resolved_and_not_sent() {
    let listener = match TcpListener::bind("[::1]:0").await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("not run: this system has no IPv6 ({error})");
            return;
        }
    };
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move { accept(&mut listener.accept().await.unwrap().0).await });
    // of an address that is not link-local, the resolver takes a number only
    let url = format!("ws://[::1%251]:{port}/");
    let socket = client::connect(&url).await;
    assert!(socket.is_ok(), "{socket:?}");
    let head = server.await.unwrap();
    assert!(head.contains(&format!("\r\nHost: [::1]:{port}\r\n")), "{head}");

    let error = client::connect(format!("ws://[fe80::1%25nowhere0]:{port}/")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_is_an_error_to_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = client::connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::Connect(_)) && error.should_retry(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_while_it_connects_leaves_nothing() {
    let (mut server, stream) = pipe();
    let client = Client::new();
    let mut connecting = Box::pin(client.connect_over(URL, stream));
    tokio::select! {
        biased;
        _ = &mut connecting => panic!("nobody answers"),
        _ = read_head(&mut server) => {}
    }
    drop(connecting);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}
