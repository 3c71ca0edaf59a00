//! Answers messages for as long as it is told to, for `scripts/check-instructions` to count the instructions.
//!
//! usage: instructions [CASE MESSAGES]
//!
//! Without arguments it names the cases.

use std::process::ExitCode;

#[cfg(benchmarking)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => cases::list(),
        [name, messages] => {
            let (Some(case), Ok(messages)) = (cases::find(name), messages.parse()) else {
                return ExitCode::from(2);
            };
            case.run(messages);
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

#[cfg(not(benchmarking))]
fn main() -> ExitCode {
    eprintln!("compiled without cfg(benchmarking): scripts/check-instructions sets it");
    ExitCode::FAILURE
}

#[cfg(benchmarking)]
mod cases {
    use std::future::Future;
    use std::hint::black_box;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use ws_bench_micro::{Kind, binary, frame, non_ascii};
    use ws_core::benchmarking::Echo;
    use ws_core::{Error, Sender, WebSocket, WebSocketLayer, testing};

    /// A kind of message, and what answers or sends it.
    pub(super) struct Case {
        name: &'static str,
        run: fn(usize),
    }

    const CASES: [Case; 8] = [
        Case { name: "protocol-binary-16", run: |messages| by_protocol(&binary_16(), messages) },
        Case { name: "protocol-binary-1024", run: |messages| by_protocol(&binary_1024(), messages) },
        Case { name: "protocol-text-1024", run: |messages| by_protocol(&text_1024(), messages) },
        Case { name: "protocol-16-fragments", run: |messages| by_protocol(&fragments(), messages) },
        Case { name: "connection-binary-16", run: |messages| by_connection(1, messages) },
        Case { name: "connection-binary-16-by-32", run: |messages| by_connection(32, messages) },
        Case { name: "sending-from-1-task", run: |messages| by_tasks(1, messages) },
        Case { name: "sending-from-1000-tasks", run: |messages| by_tasks(1000, messages) },
    ];

    pub(super) fn list() {
        for case in CASES {
            println!("{}", case.name);
        }
    }

    pub(super) fn find(name: &str) -> Option<Case> {
        CASES.into_iter().find(|case| case.name == name)
    }

    impl Case {
        pub(super) fn run(&self, messages: usize) {
            (self.run)(messages);
        }
    }

    fn binary_16() -> Vec<u8> {
        frame(Kind::Binary, &binary(16))
    }

    fn binary_1024() -> Vec<u8> {
        frame(Kind::Binary, &binary(1024))
    }

    fn text_1024() -> Vec<u8> {
        frame(Kind::Text, non_ascii(1024).as_bytes())
    }

    /// A message of 1,024 bytes in 16 frames.
    fn fragments() -> Vec<u8> {
        let mut frames: Vec<_> = binary(1024).chunks(64).map(|piece| frame(Kind::Binary, piece)).collect();
        for frame in &mut frames[..15] {
            // more follow
            frame[0] &= 0x7f;
        }
        for frame in &mut frames[1..] {
            // they continue the first one
            frame[0] &= 0x80;
        }
        frames.concat()
    }

    /// Decoder and encoder alone.
    fn by_protocol(frames: &[u8], repetitions: usize) {
        let mut echo = Echo::server();
        let mut input = frames.to_vec();
        for _ in 0..repetitions {
            // decoding unmasks in place
            input.copy_from_slice(frames);
            black_box(echo.echo(black_box(&mut input)));
        }
    }

    /// The whole connection over a pipe in memory: its task, the queues and a handler. `at_once` messages arrive at once, and
    /// the next ones are written when the last ones are answered.
    fn by_connection(at_once: usize, messages: usize) {
        let frames = binary_16().repeat(at_once);
        run(async {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            tokio::spawn(testing::accept(&WebSocketLayer::new(), server, echo));
            // an answer is not masked: it lacks the key, and nothing else
            let mut answers = vec![0; Echo::server().echo(&mut frames.clone())];
            for _ in 0..messages / at_once {
                client.write_all(&frames).await.expect("a pipe that is open");
                client.read_exact(&mut answers).await.expect("an answer to each message");
            }
        });
    }

    /// The same messages over one connection, sent by one task or by many. The client reads all the time, and slower than
    /// they send: most tasks wait for room in the outbound buffer.
    fn by_tasks(tasks: usize, messages: usize) {
        run(async {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            tokio::spawn(testing::accept(&WebSocketLayer::new(), server, async move |socket: WebSocket| {
                for _ in 0..tasks {
                    tokio::spawn(send(socket.sender(), messages / tasks));
                }
                socket.sender().closed().await;
            }));
            let mut message = vec![0; Echo::server().echo(&mut binary_1024())];
            for _ in 0..messages {
                client.read_exact(&mut message).await.expect("each message");
            }
        });
    }

    async fn send(sender: Sender, messages: usize) {
        let payload = binary(1024);
        for _ in 0..messages {
            sender.send(payload.clone()).await.expect("an open connection");
        }
    }

    /// On one thread, and with the clock paused: no timer fires, however slow an emulated processor is.
    fn run(future: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(future);
    }

    async fn echo(mut socket: WebSocket) -> Result<(), Error> {
        while let Some(message) = socket.recv().await {
            socket.send(message?).await?;
        }
        Ok(())
    }
}
