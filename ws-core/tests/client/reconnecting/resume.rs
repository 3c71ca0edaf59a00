//! Going on where the last connection had stopped.

use std::sync::{Arc, Mutex};

use ws_core::WebSocketLayer;
use ws_core::client::{Client, Reconnect, ReconnectingWebSocket};

use super::{Servers, start, start_with};
use crate::support::pipe;

/// The path and the query of a request.
fn target(head: &str) -> &str {
    head.split(' ').nth(1).expect("the head of a request")
}

async fn accepted(servers: &mut Servers) -> (String, ws_core::WebSocket) {
    let (head, socket) = servers.accept_by(&WebSocketLayer::new()).await;
    (target(&head).to_owned(), socket)
}

#[tokio::test(start_paused = true)]
async fn each_attempt_tells_the_position_as_it_is_then() {
    let position = Arc::new(Mutex::new(None::<String>));
    let known = Arc::clone(&position);
    let resume = move || known.lock().unwrap().clone();
    let (_socket, mut servers) = start(|reconnect| reconnect.resume("after", resume));
    let (first, mut server) = accepted(&mut servers).await;
    assert_eq!(first, "/chat", "nothing is known yet");
    server.close(1012, "").await.unwrap();
    *position.lock().unwrap() = Some("17.9f3c5a0e2b7d4411".to_owned());
    let (second, mut server) = accepted(&mut servers).await;
    assert_eq!(second, "/chat?after=17.9f3c5a0e2b7d4411");
    server.close(1012, "").await.unwrap();
    // a failed attempt, and the next one
    *position.lock().unwrap() = Some("18.0".to_owned());
    drop(servers.next().await);
    *position.lock().unwrap() = Some("19.0".to_owned());
    let (third, mut server) = accepted(&mut servers).await;
    assert_eq!(third, "/chat?after=19.0");
    *position.lock().unwrap() = None;
    server.close(1012, "").await.unwrap();
    assert_eq!(accepted(&mut servers).await.0, "/chat");
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_tells_a_position_that_was_kept() {
    let (_socket, mut servers) = start(|reconnect| reconnect.resume("from", || Some("17".to_owned())));
    assert_eq!(accepted(&mut servers).await.0, "/chat?from=17");
}

#[tokio::test(start_paused = true)]
async fn no_value_changes_more_than_its_parameter() {
    let (sender, servers) = tokio::sync::mpsc::unbounded_channel();
    let _socket = Client::new()
        .reconnecting("ws://server.example.com/chat?room=a%20b")
        .over(move || {
            let (server, stream) = pipe();
            let _ = sender.send(server);
            async { Ok(stream) }
        })
        .resume("a&b", || Some("1 HTTP/1.1\r\nX: y&c=d#é".to_owned()))
        .start();
    let (target, _server) = accepted(&mut Servers(servers)).await;
    assert_eq!(target, "/chat?room=a%20b&a%26b=1%20HTTP%2F1.1%0D%0AX%3A%20y%26c%3Dd%23%C3%A9");
}

#[tokio::test(start_paused = true)]
async fn it_goes_with_a_hook_that_changes_the_client() {
    let (_socket, mut servers) = start_with(&Client::new(), |reconnect| {
        reconnect
            .on_attempt(async |client: Client| Ok::<_, std::io::Error>(client.header("x-token", "fresh")))
            .resume("after", || Some("17".to_owned()))
    });
    let (head, _server) = servers.accept_by(&WebSocketLayer::new()).await;
    assert_eq!(target(&head), "/chat?after=17");
    assert!(head.contains("x-token: fresh\r\n"), "{head}");
}

#[test]
#[should_panic(expected = "a parameter of a query without a name")]
fn a_parameter_without_a_name_is_refused_when_it_is_set() {
    let _ = Client::new().reconnecting("ws://server.example.com/").resume("", || None);
}

/// A client that remembers the number in front of each message, and drops what is not after it.
struct Reader {
    socket: ReconnectingWebSocket,
    last: Arc<Mutex<Option<u64>>>,
}

impl Reader {
    fn start() -> (Self, Servers) {
        let last = Arc::new(Mutex::new(None));
        let known = Arc::clone(&last);
        let resume = |reconnect: Reconnect| {
            reconnect.resume("after", move || known.lock().unwrap().map(|number: u64| number.to_string()))
        };
        let (socket, servers) = start(resume);
        (Self { socket, last }, servers)
    }

    async fn next(&mut self) -> u64 {
        loop {
            let message = self.socket.recv().await.expect("not the end");
            let number = message.as_text().unwrap().parse().unwrap();
            let mut last = self.last.lock().unwrap();
            if last.is_none_or(|last| number > last) {
                *last = Some(number);
                return number;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_in_a_burst_receives_each_message_once_and_in_order() {
    const MESSAGES: u64 = 200;
    let (mut reader, mut servers) = Reader::start();
    let serving = tokio::spawn(async move {
        // each connection carries seven more messages than the last one was known to have brought
        for connection in 0_u64.. {
            let (target, mut socket) = accepted(&mut servers).await;
            let after = target.split_once('=').map_or(0, |(_, number)| number.parse().unwrap());
            assert_eq!(target.contains("after="), connection > 0, "{target}");
            for number in after + 1..=(after + 7).min(MESSAGES) {
                socket.send(number.to_string()).await.unwrap();
            }
            if after + 7 >= MESSAGES {
                return (connection, socket);
            }
            socket.close(1012, "").await.unwrap();
        }
        unreachable!("the numbers do not end")
    });
    for expected in 1..=MESSAGES {
        assert_eq!(reader.next().await, expected);
    }
    let (connections, _socket) = serving.await.unwrap();
    assert!(connections > 20, "{connections}");
}
