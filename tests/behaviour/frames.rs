//! Frames after a valid handshake: what is answered, and what ends the connection, with which code.

use std::time::Duration;

use ws_core::WebSocketLayer;
use ws_tests::{Client, Frame, Running, Server, Setup, until};

/// Checks that each of these ends a connection with this code, whatever may follow, and that the process goes on.
async fn ends_with<S: Server>(
    layer: WebSocketLayer,
    code: u16,
    table: impl IntoIterator<Item = Vec<Vec<u8>>>,
) {
    let server = S::start(Setup::echo().layer(layer)).await;
    for parts in table {
        let mut client = Client::open(&server).await;
        for bytes in &parts {
            client.write(bytes.clone()).await;
        }
        let frame = client.frame().await;
        assert_eq!(frame.close_code(), Some(code), "{frame:?} for {}", parts.concat().escape_ascii());
        client.leave().await;
    }
    server.until_open(0).await;
}

async fn echo<S: Server>() -> (Running, Client) {
    let server = S::start(Setup::echo()).await;
    let client = Client::open(&server).await;
    (server, client)
}

async fn messages_of_all_sizes_come_back<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    for size in [0, 1, 125, 126, 127, 4_095, 4_096, 65_535, 65_536, 1024 * 1024] {
        for frame in [Frame::text("ä".repeat(size / 2)), Frame::binary(vec![0xff; size])] {
            let answer = client.echo(frame.clone()).await;
            assert!(answer == frame, "{size} bytes: {answer:?}");
        }
    }
    client.close().await;
}

async fn a_frame_may_come_byte_by_byte<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let frame = Frame::text("a".repeat(130));
    for byte in frame.masked() {
        client.write([byte]).await;
    }
    assert_eq!(client.frame().await, frame);
}

async fn many_messages_in_one_segment_come_back_in_order<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let messages: Vec<_> = (0..1_000).map(|number| Frame::text(number.to_string())).collect();
    client.write(messages.iter().flat_map(Frame::masked).collect::<Vec<_>>()).await;
    for message in messages {
        assert_eq!(client.frame().await, message);
    }
}

async fn a_ping_between_fragments_is_answered_at_once<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    client.write(Frame::text("one ").not_final()).await;
    assert_eq!(client.echo(Frame::ping("between")).await, Frame::pong("between"));
    client.write(Frame::continuation("two ").not_final()).await;
    assert_eq!(client.echo(Frame::ping("again")).await, Frame::pong("again"));
    assert_eq!(client.echo(Frame::continuation("three")).await, Frame::text("one two three"));
}

async fn fragments_are_joined_wherever_they_are_cut<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let text = "a€😀";
    for cut in 0..=text.len() {
        client.write(Frame::text(&text.as_bytes()[..cut]).not_final()).await;
        client.write(Frame::continuation("").not_final()).await;
        assert_eq!(client.echo(Frame::continuation(&text.as_bytes()[cut..])).await, Frame::text(text));
    }
}

async fn a_ping_is_answered_with_its_own_bytes<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    for length in [0, 1, 8, 124, 125] {
        let payload: Vec<u8> = (0..length).collect();
        assert_eq!(client.echo(Frame::ping(payload.clone())).await, Frame::pong(payload));
    }
}

async fn of_many_pings_the_newest_is_answered<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let pings = (0..1_000).flat_map(|number: u32| Frame::ping(number.to_be_bytes()).masked());
    client.write(pings.collect::<Vec<_>>()).await;
    let newest = Frame::pong(999_u32.to_be_bytes());
    loop {
        let frame = client.frame().await;
        assert!(frame.is_pong(), "{frame:?}");
        if frame == newest {
            break;
        }
    }
}

async fn an_unsolicited_pong_is_ignored<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    for payload in ["", "nobody asked", "8 bytes!"] {
        client.write(Frame::pong(payload)).await;
    }
    assert_eq!(client.echo(Frame::text("next")).await, Frame::text("next"));
}

async fn what_the_protocol_forbids_is_answered_with_1002<S: Server>() {
    let open = || Frame::text("open").not_final().masked();
    let one = |frame: Frame| vec![frame.masked()];
    let mut table = vec![
        vec![Frame::text("unmasked").unmasked()],
        vec![Frame::ping("unmasked").unmasked()],
        one(Frame::ping(vec![0; 126])),
        one(Frame::pong(vec![0; 126])),
        one(Frame::close(1000, vec![b'a'; 124])),
        one(Frame::ping("").not_final()),
        one(Frame::pong("").not_final()),
        one(Frame::empty_close().not_final()),
        one(Frame::continuation("without a start")),
        one(Frame::continuation("without a start").not_final()),
        vec![Frame::text("over").masked(), Frame::continuation("again").masked()],
        vec![open(), Frame::text("inside").masked()],
        vec![open(), Frame::binary("inside").masked()],
        vec![open(), Frame::text("inside").not_final().masked()],
    ];
    for bit in [0x40, 0x20, 0x10] {
        table.push(one(Frame::text("reserved bit").with_bits(bit)));
        table.push(one(Frame::ping("reserved bit").with_bits(bit)));
        table.push(vec![open(), Frame::continuation("reserved bit").with_bits(bit).masked()]);
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        table.push(one(Frame::new(0x80 | opcode, "reserved opcode")));
        table.push(vec![open(), Frame::new(0x80 | opcode, "").masked()]);
    }
    // before the answer comes what was right
    let server = S::start(Setup::echo()).await;
    for parts in table {
        let mut client = Client::open(&server).await;
        client.write(Frame::binary("before").masked()).await;
        let last = parts.concat();
        client.write(last.clone()).await;
        assert_eq!(client.frame().await, Frame::binary("before"));
        let next = client.frame().await;
        let frame = if next == Frame::text("over") { client.frame().await } else { next };
        assert_eq!(frame.close_code(), Some(1002), "{frame:?} for {}", last.escape_ascii());
        client.leave().await;
    }
    server.until_open(0).await;
}

async fn text_that_is_not_utf_8_is_answered_with_1007_at_the_first_bad_byte<S: Server>() {
    // bytes that announce more than they bring: the answer does not wait for the rest
    let unfinished = |text: &[u8]| {
        let mut bytes = Frame::text([text, &[b' '; 100]].concat()).masked();
        bytes.truncate(bytes.len() - 100);
        bytes
    };
    ends_with::<S>(
        WebSocketLayer::new(),
        1007,
        [
            vec![Frame::text(b"\xff").masked()],
            vec![Frame::text(b"caf\xe9!").masked()],
            vec![Frame::text(b"surrogate \xed\xa0\x80").masked()],
            vec![Frame::text(b"overlong \xc0\xaf").masked()],
            vec![Frame::text(b"too high \xf4\x90\x80\x80").masked()],
            // a code point that is cut off at the end of the message
            vec![Frame::text(b"euro \xe2\x82").masked()],
            vec![Frame::text(b"euro \xe2").not_final().masked(), Frame::continuation(b"\x82").masked()],
            vec![Frame::text(b"euro \xe2\x82").not_final().masked(), Frame::continuation(b"").masked()],
            // split across fragments, and the message is not over
            vec![
                Frame::text(b"\xe2\x82").not_final().masked(),
                Frame::continuation(b"a").not_final().masked(),
            ],
            vec![unfinished(b"\xff")],
            vec![unfinished(b"good until here: \xf0\x9f\x98a")],
        ],
    )
    .await;
}

async fn text_that_is_split_inside_of_a_code_point_is_judged_when_the_next_byte_comes<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let good = Frame::text("😀").masked();
    let bad = Frame::text(b"\xf0\x9f\x98a").masked();
    for bytes in [good, bad] {
        let (start, rest) = bytes.split_at(bytes.len() - 1);
        client.write(start).await;
        tokio::task::yield_now().await;
        client.write(rest).await;
        let frame = client.frame().await;
        if frame.close_code() == Some(1007) {
            return client.leave().await;
        }
        assert_eq!(frame, Frame::text("😀"));
    }
    panic!("the second text is not UTF-8");
}

async fn binary_messages_need_not_be_utf_8<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let frame = Frame::binary(b"\xff\xc0\xed\xa0\x80");
    assert_eq!(client.echo(frame.clone()).await, frame);
}

async fn what_is_larger_than_the_limit_is_answered_with_1009_from_its_header<S: Server>() {
    let layer = || WebSocketLayer::new().max_message_size(1_000).max_frame_size(600);
    let half = || Frame::binary(vec![0; 600]).not_final().masked();
    ends_with::<S>(
        layer(),
        1009,
        [
            vec![Frame::binary(vec![0; 601]).masked()],
            vec![Frame::header(0x82, 601)],
            vec![Frame::header(0x82, 70_000)],
            vec![Frame::header(0x82, u64::MAX >> 1)],
            vec![Frame::header(0x82, 1 << 63)],
            vec![Frame::header(0x82, u64::MAX)],
            vec![half(), Frame::header(0x80, 401)],
            vec![half(), Frame::header(0x00, 600)],
        ],
    )
    .await;
    let server = S::start(Setup::echo().layer(layer())).await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.echo(Frame::binary(vec![1; 600])).await, Frame::binary(vec![1; 600]));
    client.write(half()).await;
    client.write(Frame::continuation(vec![0; 400])).await;
    assert_eq!(client.frame().await, Frame::binary(vec![0; 1_000]));
}

async fn more_fragments_than_the_limit_are_answered_with_1008<S: Server>() {
    for payload in ["", "a"] {
        let mut fragments = Frame::text("").not_final().masked();
        for _ in 0..4_096 {
            fragments.extend(Frame::continuation(payload).not_final().masked());
        }
        ends_with::<S>(WebSocketLayer::new(), 1008, [vec![fragments]]).await;
    }
    let server = S::start(Setup::echo().layer(WebSocketLayer::new().max_fragments(2))).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::text("two ").not_final()).await;
    assert_eq!(client.echo(Frame::continuation("are good")).await, Frame::text("two are good"));
    client.write(Frame::text("").not_final()).await;
    client.write(Frame::continuation("").not_final()).await;
    client.write(Frame::continuation("")).await;
    client.closed_with(1008).await;
}

async fn a_close_is_answered_with_its_own_code_and_reason<S: Server>() {
    let server = S::start(Setup::echo()).await;
    for code in [1000, 1001, 1002, 1003].into_iter().chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        for reason in ["", "the reason", &"ä".repeat(61)] {
            let mut client = Client::open(&server).await;
            assert_eq!(client.echo(Frame::close(code, reason)).await, Frame::close(code, reason));
            client.end().await;
        }
    }
    let mut client = Client::open(&server).await;
    assert_eq!(client.echo(Frame::empty_close()).await, Frame::empty_close());
    client.end().await;
}

async fn a_close_that_may_not_be_sent_is_answered_with_1002<S: Server>() {
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
    let closes = codes.map(|code| vec![Frame::close(code, "").masked()]);
    let of_one_byte = vec![Frame::new(0x88, [3]).masked()];
    ends_with::<S>(WebSocketLayer::new(), 1002, closes.into_iter().chain([of_one_byte])).await;
}

async fn a_close_with_a_reason_that_is_not_utf_8_is_answered_with_1007<S: Server>() {
    let table = [&b"\xff"[..], b"cut off \xe2\x82"].map(|reason| vec![Frame::close(1000, reason).masked()]);
    ends_with::<S>(WebSocketLayer::new(), 1007, table).await;
}

async fn what_comes_behind_a_close_is_ignored<S: Server>() {
    let (_server, mut client) = echo::<S>().await;
    let behind = [Frame::text("late"), Frame::ping("late"), Frame::close(4000, "late")];
    let mut bytes = Frame::close(4001, "").masked();
    bytes.extend(behind.iter().flat_map(Frame::masked));
    bytes.extend(b"\xff\xff garbage");
    client.write(bytes).await;
    assert_eq!(client.frame().await, Frame::close(4001, ""));
    client.end().await;
}

async fn what_comes_behind_a_violation_does_not_break_its_answer<S: Server>() {
    let layer = WebSocketLayer::new().max_message_size(1_000);
    let rest = vec![0; 2 * 1024 * 1024];
    let upload = [Frame::header(0x82, rest.len() as u64), rest.clone()].concat();
    let garbage = [Frame::text("unmasked").unmasked(), rest].concat();
    ends_with::<S>(layer.clone(), 1009, [vec![upload]]).await;
    ends_with::<S>(layer, 1002, [vec![garbage]]).await;
}

async fn a_connection_that_floods_yields_to_the_others<S: Server>() {
    // one thread, so that a connection that does not yield stops all
    let layer = WebSocketLayer::new().max_fragments(usize::MAX).message_timeout(None);
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut flood = Client::open(&server).await;
    let mut other = Client::open(&server).await;
    flood.write(Frame::text("").not_final()).await;
    let fragments = Frame::continuation("").not_final().masked().repeat(10_000);
    let flooding = tokio::spawn(async move {
        while flood.try_write(fragments.clone()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    for number in 0..100 {
        let frame = Frame::text(number.to_string());
        assert_eq!(other.echo(frame.clone()).await, frame);
    }
    assert!(!flooding.is_finished());
    flooding.abort();
    until("the flood to end", || flooding.is_finished()).await;
}

async fn a_limit_of_time_is_none_for_a_peer_that_is_quiet_between_messages<S: Server>() {
    let layer = WebSocketLayer::new()
        .message_timeout(Duration::from_millis(100))
        .ping_interval(Duration::from_millis(300));
    let server = S::start(Setup::echo().layer(layer)).await;
    let mut client = Client::open(&server).await;
    client.write(Frame::text("whole")).await;
    assert_eq!(client.frame().await, Frame::text("whole"));
    // the ping comes when the message timeout is past
    let ping = client.frame().await;
    assert!(ping.is_ping(), "{ping:?}");
    client.write(Frame::pong(ping.payload())).await;
    client.close().await;
}

ws_tests::cases! {
    messages_of_all_sizes_come_back,
    a_frame_may_come_byte_by_byte,
    many_messages_in_one_segment_come_back_in_order,
    a_ping_between_fragments_is_answered_at_once,
    fragments_are_joined_wherever_they_are_cut,
    a_ping_is_answered_with_its_own_bytes,
    of_many_pings_the_newest_is_answered,
    an_unsolicited_pong_is_ignored,
    what_the_protocol_forbids_is_answered_with_1002,
    text_that_is_not_utf_8_is_answered_with_1007_at_the_first_bad_byte,
    text_that_is_split_inside_of_a_code_point_is_judged_when_the_next_byte_comes,
    binary_messages_need_not_be_utf_8,
    what_is_larger_than_the_limit_is_answered_with_1009_from_its_header,
    more_fragments_than_the_limit_are_answered_with_1008,
    a_close_is_answered_with_its_own_code_and_reason,
    a_close_that_may_not_be_sent_is_answered_with_1002,
    a_close_with_a_reason_that_is_not_utf_8_is_answered_with_1007,
    what_comes_behind_a_close_is_ignored,
    a_limit_of_time_is_none_for_a_peer_that_is_quiet_between_messages,
    what_comes_behind_a_violation_does_not_break_its_answer,
}

mod on_one_thread {
    use super::a_connection_that_floods_yields_to_the_others;

    ws_tests::cases! {
        on ws_tests::runtime::run_on_one_thread:
        a_connection_that_floods_yields_to_the_others,
    }
}
