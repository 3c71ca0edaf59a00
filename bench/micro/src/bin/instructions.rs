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
    use std::hint::black_box;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use ws_bench_micro::{Kind, binary, frame, non_ascii};
    use ws_core::benchmarking::Echo;
    use ws_core::{Error, WebSocket, WebSocketLayer, testing};

    /// A kind of message, and what answers it.
    pub(super) struct Case {
        name: &'static str,
        /// How many messages arrive at once.
        at_once: usize,
        frame: fn() -> Vec<u8>,
        answer: fn(&[u8], usize),
    }

    const CASES: [Case; 5] = [
        Case { name: "protocol-binary-16", at_once: 1, frame: binary_16, answer: by_protocol },
        Case { name: "protocol-binary-1024", at_once: 1, frame: binary_1024, answer: by_protocol },
        Case { name: "protocol-text-1024", at_once: 1, frame: text_1024, answer: by_protocol },
        Case { name: "connection-binary-16", at_once: 1, frame: binary_16, answer: by_connection },
        Case { name: "connection-binary-16-by-32", at_once: 32, frame: binary_16, answer: by_connection },
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
            (self.answer)(&(self.frame)().repeat(self.at_once), messages / self.at_once);
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

    /// The whole connection over a pipe in memory: its task, the queues and a handler. The next messages are written when
    /// the last ones are answered.
    fn by_connection(frames: &[u8], repetitions: usize) {
        // with the clock paused no timer fires, however slow an emulated processor is
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            tokio::spawn(testing::accept(&WebSocketLayer::new(), server, echo));
            // an answer is not masked: it lacks the key, and nothing else
            let mut answers = vec![0; Echo::server().echo(&mut frames.to_vec())];
            for _ in 0..repetitions {
                client.write_all(frames).await.expect("a pipe that is open");
                client.read_exact(&mut answers).await.expect("an answer to each message");
            }
        });
    }

    async fn echo(mut socket: WebSocket) -> Result<(), Error> {
        while let Some(message) = socket.recv().await {
            socket.send(message?).await?;
        }
        Ok(())
    }
}
