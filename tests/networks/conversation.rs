//! A conversation of everything that there is, and which has to come through whole and in order.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::try_join;
use ws_core::client::Client;
use ws_core::{CloseFrame, Compression, Message, Receiver, Sender, Side, WebSocketLayer};
use ws_tests::server::BoxError;
use ws_tests::{Frame, Request, Setup, within};

/// What the server's own messages begin with; no other begins so.
const OWN: &[u8] = b"of the server's own: ";

/// Text and binary, from nothing to `largest`.
fn messages(largest: usize) -> Vec<Message> {
    let sizes = [0, 1, 125, 126, 1_000, 65_535, 65_536, 300_000].into_iter().filter(|size| *size <= largest);
    let letters = ["a", "ß", "☃", "🦀", " "];
    sizes
        .flat_map(|size| {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().map(|byte| byte ^ 0x5a).take(size).collect();
            let text: String = letters.iter().cycle().take(size / 2).copied().collect();
            [Message::from(bytes), Message::from(text)]
        })
        .collect()
}

/// A server that echoes, and has all of the messages to say itself, in between.
pub(crate) fn talker(largest: usize) -> Setup {
    let own: Arc<[Message]> = messages(largest)
        .into_iter()
        .map(|message| Message::from([OWN, message.as_bytes()].concat()))
        .collect();
    Setup::new(move |socket| {
        let own = Arc::clone(&own);
        async move {
            let (sender, mut receiver) = socket.split();
            let echo = async {
                while let Some(message) = receiver.recv().await {
                    sender.send(message?).await?;
                }
                Ok::<_, BoxError>(())
            };
            let talk = async {
                for message in own.iter() {
                    sender.send(message.clone()).await?;
                }
                Ok(())
            };
            try_join!(echo, talk)?;
            Ok(())
        }
    })
    // compressed with those who offer it
    .layer(WebSocketLayer::new().compression(Compression::new()))
}

/// Speaks with a [`talker`], in all ways.
pub(crate) async fn converse(address: SocketAddr, largest: usize) {
    let url = format!("ws://{address}/ws");
    for client in [Client::new(), Client::new().compression(Compression::new())] {
        let socket = within("a connection", client.connect(&url)).await.expect("the server is there");
        let (sender, mut receiver) = socket.split();
        let both = async { tokio::join!(say(&sender, largest), hear(&mut receiver, largest)) };
        within("the conversation", both).await;
        let answer = within("the answer to the Close", sender.close(4000, "all there")).await;
        assert_eq!(answer.expect("the server answers"), Some(CloseFrame::new(4000, "all there")));
        assert!(receiver.recv().await.is_none(), "nothing comes twice");
        let closed = within("the end", receiver.closed()).await;
        assert_eq!((closed.by, closed.clean), (Side::Local, true));
    }
    within("fragments", fragments(address)).await;
}

async fn say(sender: &Sender, largest: usize) {
    for message in messages(largest) {
        sender.send(message).await.expect("the connection lives");
    }
    sender.ping().await.expect("the ping is answered");
}

async fn hear(receiver: &mut Receiver, largest: usize) {
    let (mut echoes, mut own) = (messages(largest).into_iter(), messages(largest).into_iter());
    for _ in 0..echoes.len() + own.len() {
        let message = receiver.recv().await.expect("there is more").expect("the connection lives");
        match message.as_bytes().strip_prefix(OWN) {
            Some(payload) => assert!(own.next().is_some_and(|expected| expected.as_bytes() == payload)),
            None => assert!(echoes.next().is_some_and(|expected| expected == message)),
        }
    }
}

/// Messages in pieces, with pings between them, which our own client does not send.
async fn fragments(address: SocketAddr) {
    let mut client = ws_tests::Client::connect(address).await;
    client.handshake(Request::upgrade()).await;
    for round in 0..10 {
        client.write(Frame::text(format!("{round}: ")).not_final()).await;
        client.write(Frame::ping("between")).await;
        client.write(Frame::continuation("").not_final()).await;
        client.write(Frame::continuation("☃".as_bytes()[..1].to_vec()).not_final()).await;
        client.write(Frame::continuation("☃".as_bytes()[1..].to_vec())).await;
        assert_eq!(answer(&mut client).await, Frame::pong("between"));
        assert_eq!(answer(&mut client).await, Frame::text(format!("{round}: ☃")));
    }
    client.write(Frame::close(4000, "bye")).await;
    assert_eq!(answer(&mut client).await, Frame::close(4000, "bye"));
    client.end().await;
}

/// The next frame that is not the server's own.
async fn answer(client: &mut ws_tests::Client) -> Frame {
    loop {
        let frame = client.frame().await;
        if !frame.payload().starts_with(OWN) {
            return frame;
        }
    }
}
