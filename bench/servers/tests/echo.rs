//! Every server answers as the load generator expects it to: a client made by hand, over plain TCP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Tests that a server of this name echoes, and that it does what else it says.
macro_rules! servers {
    ($($test:ident: $name:literal $($other:ident)*,)*) => {$(
        #[test]
        fn $test() {
            let server = Server::start(&mut Command::new(env!(concat!("CARGO_BIN_EXE_", $name))));
            echo(&server);
            $($other(&server);)*
        }
    )*};
}

servers! {
    axum: "axum" broadcast,
    axum_tuned: "axum-tuned" broadcast,
    fastwebsockets: "fastwebsockets",
    floor: "floor" broadcast,
    hyper_tungstenite: "hyper-tungstenite",
    sockudo_ws: "sockudo-ws",
    tokio_tungstenite: "tokio-tungstenite" broadcast,
    tokio_websockets: "tokio-websockets",
    warp: "warp" broadcast,
    ws_axum: "ws-axum" broadcast pairs,
    ws_hyper: "ws-hyper",
    ws_warp: "ws-warp",
    yawc: "yawc",
}

/// The servers in other languages, where `setup` has installed what they need.
#[test]
fn other_languages() {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = installed.join("node/node_modules");

    let gorilla = Command::new(installed.join("gorilla"));
    let mut node = Command::new("node");
    node.arg(scripts.join("node/server.js")).env("NODE_PATH", &modules);
    let mut python = Command::new(installed.join("venv/bin/python"));
    python.arg(scripts.join("python/server.py"));
    for (mut command, needs) in
        [(gorilla, installed.join("gorilla")), (node, modules), (python, installed.join("venv/bin/python"))]
    {
        if needs.exists() {
            let server = Server::start(&mut command);
            echo(&server);
            broadcast(&server);
        } else {
            println!("not tested: there is no {}", needs.display());
        }
    }
}

fn echo(server: &Server) {
    let mut client = server.connect("/echo");
    for (opcode, payload) in [
        (TEXT, "hello"),
        (BINARY, "hello"),
        (TEXT, "Grüße, 世界 🦀"),
        (TEXT, ""),
        (BINARY, &"0123456".repeat(1000)),
        (TEXT, &"0123456".repeat(10_000)),
        (BINARY, &"x".repeat(16 << 10)),
        (TEXT, &"0123456789abcdef".repeat(1 << 16)),
    ] {
        client.send(&frame(0x80 | opcode, payload.as_bytes()));
        client.expect(opcode, payload.as_bytes());
    }

    let pipelined = [frame(0x80 | TEXT, b"one"), frame(0x80 | BINARY, b"two"), frame(0x80 | TEXT, b"three")];
    client.send(&pipelined.concat());
    client.expect(TEXT, b"one");
    client.expect(BINARY, b"two");
    client.expect(TEXT, b"three");

    let fragments =
        [frame(TEXT, b"frag"), frame(0, b"men"), frame(0x80, b"ted"), frame(0x80 | TEXT, b"whole")];
    client.send(&fragments.concat());
    client.expect(TEXT, b"fragmented");
    client.expect(TEXT, b"whole");

    // in two halves, each of which begins and ends within a frame
    let bytes = [frame(0x80 | TEXT, b"before"), frame(0x80 | TEXT, &[b'x'; 300])].concat();
    client.send(&bytes[..20]);
    client.expect(TEXT, b"before");
    client.send(&bytes[20..]);
    client.expect(TEXT, &[b'x'; 300]);

    let longest = vec![7; 16 << 20];
    client.send_beside(frame(0x80 | BINARY, &longest));
    client.expect(BINARY, &longest);
}

fn broadcast(server: &Server) {
    let mut clients = [(); 3].map(|()| server.connect("/broadcast"));
    // a server may answer the handshake before the connection is one of those that get messages
    std::thread::sleep(Duration::from_millis(100));
    for (opcode, payload) in [(TEXT, b"to all".as_slice()), (BINARY, &[7; 10_000])] {
        for sender in 0..clients.len() {
            clients[sender].send(&frame(0x80 | opcode, payload));
            for client in &mut clients {
                client.expect(opcode, payload);
            }
        }
    }
}

fn pairs(server: &Server) {
    for path in ["/socket", "/user"] {
        let mut clients = [0, 1].map(|number| server.connect(&format!("{path}/{number}")));
        std::thread::sleep(Duration::from_millis(100));
        for round in 0..3_u8 {
            for from in [0, 1] {
                clients[from].send(&frame(0x80 | BINARY, &[round; 64]));
                clients[1 - from].expect(BINARY, &[round; 64]);
            }
        }
    }
}

/// A process, as long as it is in scope.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, address }
    }

    fn connect(&self, path: &str) -> Client {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        )
        .unwrap();

        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            response.push(byte[0]);
        }
        let response = String::from_utf8(response).unwrap();
        assert!(response.starts_with("HTTP/1.1 101"), "{response}");
        assert!(response.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{response}");
        Client(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&mut self, frames: &[u8]) {
        self.0.write_all(frames).unwrap();
    }

    /// Sends while the caller receives: neither side's socket has room for so much.
    fn send_beside(&self, frames: Vec<u8>) {
        let mut stream = self.0.try_clone().unwrap();
        std::thread::spawn(move || stream.write_all(&frames).unwrap());
    }

    /// Receives a message, perhaps in fragments.
    fn expect(&mut self, opcode: u8, expected: &[u8]) {
        let mut message = Vec::new();
        let mut first = None;
        loop {
            let [head, length] = self.read();
            let length = match length {
                126 => u16::from_be_bytes(self.read()).into(),
                127 => u64::from_be_bytes(self.read()),
                length => length.into(),
            };
            first.get_or_insert(head & 0x0f);
            (&self.0).take(length).read_to_end(&mut message).unwrap();
            if head & 0x80 != 0 {
                break;
            }
        }
        assert_eq!(first, Some(opcode));
        assert!(message == expected, "{} bytes instead of {}", message.len(), expected.len());
    }

    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            frame.push(0xfe);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
